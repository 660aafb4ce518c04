//! The reasons for which a console cannot be served.

use std::error::Error;
use std::fmt;
use std::io;
use std::net::SocketAddr;

/// A console cannot be served.
#[derive(Debug)]
#[non_exhaustive]
pub enum ConsoleError {
    /// Other machines could reach this address, and [`Console::anyone`](crate::Console::anyone) does not permit that.
    NotLoopback(SocketAddr),
    /// The address cannot be listened on: another program does ([`AddrInUse`](io::ErrorKind::AddrInUse)), or there is no such
    /// address.
    Listen(io::Error),
    /// The system has no thread for it, or what a thread needs to wait for clients.
    Start(io::Error),
}

impl fmt::Display for ConsoleError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotLoopback(address) => {
                write!(f, "other machines could reach it: {address} is no address of loopback")
            }
            Self::Listen(_) => f.write_str("the console cannot listen on its address"),
            Self::Start(_) => f.write_str("the console's thread cannot be started"),
        }
    }
}

impl Error for ConsoleError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::NotLoopback(_) => None,
            Self::Listen(error) | Self::Start(error) => Some(error),
        }
    }
}
