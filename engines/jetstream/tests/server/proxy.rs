//! Stands between a client and the server, and cuts connections where a commit or its answer is on its way.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;

/// What becomes of a commit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Cut {
    /// It and its answer pass.
    Pass,
    /// It does not reach the server.
    Before,
    /// It reaches the server, and the connection is cut at once.
    With,
    /// The server has answered, and the answer does not reach the client.
    Answer,
    /// The client's connection is cut at once; the commit reaches the server a little later.
    Late,
    /// As `Late`, when the test says so.
    Held,
}

/// The plan for the commits to come; after them each passes.
pub(crate) struct Plan {
    cuts: Mutex<VecDeque<Cut>>,
    /// The time that the way to the server takes.
    delay: Duration,
    /// Lets a commit go that is held.
    pub(crate) release: Notify,
    /// That commit has reached the server, which has answered.
    pub(crate) answered: Notify,
}

impl Plan {
    pub(crate) fn new(cuts: impl IntoIterator<Item = Cut>) -> Arc<Self> {
        Arc::new(Self::of(cuts, Duration::ZERO))
    }

    /// Everything passes, and takes so long.
    pub(crate) fn slow(delay: Duration) -> Arc<Self> {
        Arc::new(Self::of([], delay))
    }

    fn of(cuts: impl IntoIterator<Item = Cut>, delay: Duration) -> Self {
        let cuts = Mutex::new(cuts.into_iter().collect());
        Self { cuts, delay, release: Notify::new(), answered: Notify::new() }
    }

    /// Whether all cuts were made.
    pub(crate) fn is_done(&self) -> bool {
        self.cuts.lock().unwrap().is_empty()
    }

    fn next(&self, is_commit: bool) -> Cut {
        if !is_commit {
            return Cut::Pass;
        }
        self.cuts.lock().unwrap().pop_front().unwrap_or(Cut::Pass)
    }
}

/// Starts a proxy to the server, and returns its port.
pub(crate) async fn start(server: u16, plan: &Arc<Plan>) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let port = listener.local_addr().expect("an address").port();
    let plan = Arc::clone(plan);
    tokio::spawn(async move {
        while let Ok((client, _)) = listener.accept().await {
            let plan = Arc::clone(&plan);
            tokio::spawn(async move {
                if let Ok(server) = TcpStream::connect(("127.0.0.1", server)).await {
                    let _ = pass(client, server, &plan).await;
                }
            });
        }
    });
    port
}

/// Passes bytes in both directions until an end closes or a cut is due.
async fn pass(mut client: TcpStream, mut server: TcpStream, plan: &Plan) -> std::io::Result<()> {
    let (mut asked, mut answered) = (vec![0; 1 << 16], vec![0; 1 << 16]);
    loop {
        tokio::select! {
            read = client.read(&mut asked) => {
                let bytes = &asked[..read?];
                if !plan.delay.is_zero() {
                    tokio::time::sleep(plan.delay).await;
                }
                // In the last message of a batch, which is small here and is not torn.
                let is_commit = bytes.windows(18).any(|word| word == b"Nats-Batch-Commit:");
                match plan.next(is_commit) {
                    Cut::Pass if bytes.is_empty() => return Ok(()),
                    Cut::Pass => server.write_all(bytes).await?,
                    Cut::Before => return Ok(()),
                    Cut::With => return server.write_all(bytes).await,
                    Cut::Answer => {
                        server.write_all(bytes).await?;
                        return server.read(&mut answered).await.map(drop);
                    }
                    Cut::Late => {
                        drop(client);
                        tokio::time::sleep(Duration::from_millis(100)).await;
                        server.write_all(bytes).await?;
                        return server.read(&mut answered).await.map(drop);
                    }
                    Cut::Held => {
                        drop(client);
                        plan.release.notified().await;
                        server.write_all(bytes).await?;
                        let answer = server.read(&mut answered).await?;
                        assert!(answer > 0, "the server does not answer");
                        plan.answered.notify_one();
                        return Ok(());
                    }
                }
            }
            read = server.read(&mut answered) => match read? {
                0 => return Ok(()),
                read => client.write_all(&answered[..read]).await?,
            },
        }
    }
}
