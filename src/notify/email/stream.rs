//! The connection to a mail server: every wait on it ends at one deadline, and what is read is bounded.
//!
//! The library that builds the mails has a connection, too; but that waits anew for each byte, reads a line of any
//! length, and keeps what a man in the middle sent behind the answer to `STARTTLS`.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, StreamOwned};

use crate::clock::Deadline;

/// A connection on which every read and every write ends at the deadline.
pub(super) struct Timed {
    tcp: TcpStream,
    deadline: Deadline,
}

impl Timed {
    fn left(&self) -> io::Result<Option<Duration>> {
        self.deadline.left().map(Some).ok_or_else(|| ErrorKind::TimedOut.into())
    }
}

/// What a system calls a timeout of a socket differs.
fn timed(error: io::Error) -> io::Error {
    if error.kind() == ErrorKind::WouldBlock { ErrorKind::TimedOut.into() } else { error }
}

impl Read for Timed {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.tcp.set_read_timeout(self.left()?)?;
        self.tcp.read(buffer).map_err(timed)
    }
}

impl Write for Timed {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.tcp.set_write_timeout(self.left()?)?;
        self.tcp.write(bytes).map_err(timed)
    }
    fn flush(&mut self) -> io::Result<()> {
        self.tcp.flush()
    }
}

/// With TLS or still without.
pub(super) enum Stream {
    Plain(Timed),
    Tls(Box<StreamOwned<ClientConnection, Timed>>),
}

impl Stream {
    /// Connects to the first address of a server that answers, within `to_connect`; all that follows ends at `deadline`.
    ///
    /// Looking the name up takes as long as the system allows.
    pub(super) fn connect(
        host: &str,
        port: u16,
        to_connect: Duration,
        deadline: Deadline,
    ) -> io::Result<Self> {
        let to_connect = deadline.or_after(to_connect);
        let mut last = io::Error::from(ErrorKind::AddrNotAvailable);
        for address in (host, port).to_socket_addrs()? {
            let left = to_connect.left().ok_or(ErrorKind::TimedOut)?;
            match TcpStream::connect_timeout(&address, left) {
                Ok(tcp) => {
                    tcp.set_nodelay(true)?;
                    return Ok(Self::Plain(Timed { tcp, deadline }));
                }
                Err(error) => last = error,
            }
        }
        Err(last)
    }

    /// The same connection, encrypted, with a server that has shown to be the one of this name.
    pub(super) fn encrypted(self, host: &str, tls: &Arc<ClientConfig>) -> io::Result<Self> {
        let Self::Plain(mut timed) = self else { return Ok(self) };
        let name = ServerName::try_from(host.to_owned()).map_err(|_| ErrorKind::InvalidInput)?;
        let mut connection = ClientConnection::new(Arc::clone(tls), name).map_err(io::Error::other)?;
        connection.complete_io(&mut timed)?;
        Ok(Self::Tls(Box::new(StreamOwned::new(connection, timed))))
    }

    pub(super) fn is_encrypted(&self) -> bool {
        matches!(self, Self::Tls(_))
    }
}

impl Read for Stream {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Plain(stream) => stream.read(buffer),
            Self::Tls(stream) => stream.read(buffer),
        }
    }
}

impl Write for Stream {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Plain(stream) => stream.write(bytes),
            Self::Tls(stream) => stream.write(bytes),
        }
    }
    fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::Plain(stream) => stream.flush(),
            Self::Tls(stream) => stream.flush(),
        }
    }
}
