//! Stands between a client and the server, and cuts connections where an answer to a COMMIT is on its way.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// What becomes of a COMMIT.
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
    /// The client's connection is cut at once; the COMMIT reaches the server later.
    Late,
    /// No COMMIT, but the next bytes of a client: its connection was forgotten while it was idle.
    Idle,
}

/// The plan for the COMMITs to come; after them each passes.
pub(crate) type Cuts = Arc<Mutex<VecDeque<Cut>>>;

pub(crate) fn plan(cuts: impl IntoIterator<Item = Cut>) -> Cuts {
    Arc::new(Mutex::new(cuts.into_iter().collect()))
}

/// Starts a proxy to the server, and returns its port.
pub(crate) async fn start(server: u16, cuts: &Cuts) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let port = listener.local_addr().expect("an address").port();
    let cuts = Arc::clone(cuts);
    tokio::spawn(async move {
        while let Ok((client, _)) = listener.accept().await {
            let cuts = Arc::clone(&cuts);
            tokio::spawn(async move {
                if let Ok(server) = TcpStream::connect(("127.0.0.1", server)).await {
                    let _ = pass(client, server, &cuts).await;
                }
            });
        }
    });
    port
}

/// Passes bytes in both directions until an end closes or a cut is due.
async fn pass(mut client: TcpStream, mut server: TcpStream, cuts: &Cuts) -> std::io::Result<()> {
    let (mut asked, mut answered) = (vec![0; 1 << 16], vec![0; 1 << 16]);
    loop {
        tokio::select! {
            read = client.read(&mut asked) => {
                let bytes = &asked[..read?];
                // A message of its own, in a packet of its own: the client waits for the answer to the one before.
                let is_commit = bytes.windows(7).any(|word| word == b"COMMIT\0");
                let cut = next(cuts, is_commit);
                match cut {
                    Cut::Pass if bytes.is_empty() => return Ok(()),
                    Cut::Pass => server.write_all(bytes).await?,
                    Cut::Before | Cut::Idle => return Ok(()),
                    Cut::With => return server.write_all(bytes).await,
                    Cut::Answer => {
                        server.write_all(bytes).await?;
                        return server.read(&mut answered).await.map(drop);
                    }
                    Cut::Late => {
                        drop(client);
                        tokio::time::sleep(Duration::from_millis(300)).await;
                        server.write_all(bytes).await?;
                        return server.read(&mut answered).await.map(drop);
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

fn next(cuts: &Cuts, is_commit: bool) -> Cut {
    let mut cuts = cuts.lock().unwrap();
    let is_due = is_commit || cuts.front() == Some(&Cut::Idle);
    if is_due { cuts.pop_front().unwrap_or(Cut::Pass) } else { Cut::Pass }
}
