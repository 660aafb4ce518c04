//! A network between a client and a server that are on one machine.

use std::io;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until};

/// Returns a port whose connections lead to the server at `port`. All that is sent arrives later by `delay`, either way.
pub async fn network_to(port: u16, delay: Duration) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let near = listener.local_addr().expect("an address").port();
    tokio::spawn(async move {
        while let Ok((client, _)) = listener.accept().await {
            let Ok(server) = TcpStream::connect(("127.0.0.1", port)).await else { return };
            // Otherwise the system holds back small messages, and adds a delay of its own.
            let _ = (client.set_nodelay(true), server.set_nodelay(true));
            let ((from_client, to_client), (from_server, to_server)) =
                (client.into_split(), server.into_split());
            tokio::spawn(carry(from_client, to_server, delay));
            tokio::spawn(carry(from_server, to_client, delay));
        }
    });
    near
}

/// Any number of messages are on their way at once: a network is slow, and not narrow.
async fn carry(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, delay: Duration) {
    let (depart, mut on_the_way) = mpsc::unbounded_channel();
    let depart = async move {
        loop {
            let mut message = vec![0; 1 << 16];
            match from.read(&mut message).await {
                Ok(length) if length > 0 => message.truncate(length),
                _ => return,
            }
            let _ = depart.send((Instant::now() + delay, message));
        }
    };
    let arrive = async move {
        while let Some((at, message)) = on_the_way.recv().await {
            sleep_until(at).await;
            to.write_all(&message).await?;
        }
        io::Result::Ok(())
    };
    let _ = tokio::join!(depart, arrive);
}
