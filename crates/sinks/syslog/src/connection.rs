//! One connection to the receiver, from connecting to its confirmation.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use actlog_core::{ConfigError, Span};
use futures_util::FutureExt;
use rustls_pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::config::{Confirm, SyslogConfig, Transport};

/// Between two looks at a connection whose ends have crossed on the way, which happens rarely.
const LOOK_AGAIN: Duration = Duration::from_millis(2);

/// Why a connection did not do what it was for. Everything that went over it counts as not delivered.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ConnectionError {
    #[error("{address}: can't be connected to: {error}")]
    Connect { address: Arc<str>, error: io::Error },
    #[error("{address}: TLS: {error}")]
    Tls { address: Arc<str>, error: io::Error },
    #[error("{address}: the connection broke: {error}")]
    Broken { address: Arc<str>, error: io::Error },
    #[error("{address}: the receiver closed the connection early")]
    ClosedEarly { address: Arc<str> },
    #[error("{address}: the receiver did not {step} within {after}")]
    Timeout { address: Arc<str>, step: &'static str, after: Span },
}

/// What connections are made with.
pub(crate) struct Connector {
    address: Arc<str>,
    tls: Option<(TlsConnector, ServerName<'static>)>,
    timeout: Duration,
    confirm: Confirm,
}

impl std::fmt::Debug for Connector {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Connector").field("address", &self.address).finish_non_exhaustive()
    }
}

impl Connector {
    /// Reads the certificates; relative paths are seen from `folder`.
    pub(crate) fn new(config: &SyslogConfig, folder: &Path) -> Result<Self, ConfigError> {
        let tls = match config.transport {
            Transport::Tcp => None,
            Transport::Tls => {
                let host = config.host().unwrap_or_default();
                let name = config.tls.server_name.as_deref().unwrap_or(host).to_owned();
                let name =
                    ServerName::try_from(name).map_err(|error| ConfigError::new("address", error.to_string()))?;
                let tls = actlog_http::client::tls_config(&config.client()?, folder);
                Some((TlsConnector::from(Arc::new(tls.map_err(|error| error.within("tls"))?)), name))
            }
        };
        let address = Arc::from(config.address.as_str());
        Ok(Self { address, tls, timeout: config.timeout.0, confirm: config.confirm })
    }

    /// Connects. With TLS the receiver has shown its certificate then; whether it likes ours is seen later.
    pub(crate) async fn connect(&self) -> Result<Connection, ConnectionError> {
        let stream = within(self.timeout, &self.address, "take the connection", self.open()).await?;
        Ok(Connection { stream, address: Arc::clone(&self.address), timeout: self.timeout, confirm: self.confirm })
    }

    async fn open(&self) -> Result<Box<dyn Stream>, ConnectionError> {
        let address = || Arc::clone(&self.address);
        let connected = TcpStream::connect(&*self.address).await;
        let stream = connected.map_err(|error| ConnectionError::Connect { address: address(), error })?;
        let Some((tls, name)) = &self.tls else { return Ok(Box::new(stream)) };
        let secured = tls.connect(name.clone(), stream).await;
        Ok(Box::new(secured.map_err(|error| ConnectionError::Tls { address: address(), error })?))
    }
}

/// Does a step within the time that the receiver has for it.
async fn within<T>(
    limit: Duration,
    address: &Arc<str>,
    step: &'static str,
    work: impl Future<Output = Result<T, ConnectionError>>,
) -> Result<T, ConnectionError> {
    let late = || ConnectionError::Timeout { address: Arc::clone(address), step, after: Span(limit) };
    timeout(limit, work).await.map_err(|_| late())?
}

/// TCP, or TLS over it.
trait Stream: AsyncRead + AsyncWrite + Unpin + Send + Sync {
    fn tcp(&self) -> &TcpStream;
}

impl Stream for TcpStream {
    fn tcp(&self) -> &TcpStream {
        self
    }
}

impl Stream for TlsStream<TcpStream> {
    fn tcp(&self) -> &TcpStream {
        self.get_ref().0
    }
}

/// An open connection.
pub(crate) struct Connection {
    stream: Box<dyn Stream>,
    address: Arc<str>,
    timeout: Duration,
    confirm: Confirm,
}

impl Connection {
    /// Sends bytes. That this returns says nothing about what the receiver has.
    pub(crate) async fn send(&mut self, bytes: &[u8]) -> Result<(), ConnectionError> {
        let (address, limit) = (Arc::clone(&self.address), self.timeout);
        let send = async {
            let sent = async {
                self.stream.write_all(bytes).await?;
                self.stream.flush().await
            };
            sent.await.map_err(|error| ConnectionError::Broken { address: Arc::clone(&address), error })
        };
        within(limit, &address, "take in what was sent", send).await
    }

    /// Waits until the receiver closes the connection although it was not asked to, for as long as that takes. It may be
    /// dropped at any time.
    pub(crate) async fn closed_early(&mut self) -> ConnectionError {
        match self.end().await {
            Ok(()) => ConnectionError::ClosedEarly { address: Arc::clone(&self.address) },
            Err(error) => error,
        }
    }

    /// Says that nothing more comes, and waits until the receiver closes the connection in its turn: a receiver does so
    /// when it has read everything. One that breaks down leaves the connection unclosed or resets it.
    pub(crate) async fn confirm(mut self) -> Result<(), ConnectionError> {
        let (address, limit) = (Arc::clone(&self.address), self.timeout);
        let confirm = async {
            // An end that comes before ours says nothing about what was sent last.
            if let Some(error) = self.closed_early().now_or_never() {
                return Err(error);
            }
            self.stream.shutdown().await.map_err(|error| self.broken(error))?;
            match self.confirm {
                Confirm::Close => {
                    self.end().await?;
                    self.settled().await
                }
                Confirm::None => Ok(()),
            }
        };
        let step = "close the connection (where it never does, set confirm = \"none\")";
        within(limit, &address, step, confirm).await
    }

    /// Reads to the end. Receivers have nothing to say; what one says all the same is left unheard.
    async fn end(&mut self) -> Result<(), ConnectionError> {
        let mut unheard = [0; 512];
        loop {
            match self.stream.read(&mut unheard).await {
                Ok(0) => return Ok(()),
                Ok(_) => {}
                // The end of a TLS connection without TLS's own farewell, which rsyslog leaves out.
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(()),
                Err(error) => return Err(self.broken(error)),
            }
        }
    }

    /// After both ends: waits until the receiver's operating system has taken in all that was sent, or has refused it,
    /// because the receiver had closed before that came. Until then the two ends may have crossed on the way. The socket
    /// has a peer for as long as that is open.
    async fn settled(&self) -> Result<(), ConnectionError> {
        let tcp = self.stream.tcp();
        while tcp.peer_addr().is_ok() {
            sleep(LOOK_AGAIN).await;
        }
        match tcp.take_error() {
            Ok(None) => Ok(()),
            Ok(Some(error)) | Err(error) => Err(self.broken(error)),
        }
    }

    fn broken(&self, error: io::Error) -> ConnectionError {
        ConnectionError::Broken { address: Arc::clone(&self.address), error }
    }
}

#[cfg(test)]
mod tests {
    use tokio::net::{TcpListener, TcpSocket};

    use super::*;

    /// The two ends of a connection over the loopback interface. The receiver's takes in little.
    async fn connected() -> (Connection, TcpStream) {
        let socket = TcpSocket::new_v4().unwrap();
        socket.set_recv_buffer_size(4096).unwrap();
        socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let listener: TcpListener = socket.listen(1).unwrap();
        let address = Arc::from(listener.local_addr().unwrap().to_string());
        let timeout = Duration::from_secs(20);
        let connector = Connector { address, tls: None, timeout, confirm: Confirm::Close };
        let (connection, accepted) = tokio::join!(connector.connect(), listener.accept());
        (connection.unwrap(), accepted.unwrap().0)
    }

    #[tokio::test]
    async fn an_end_that_came_before_ours_confirms_nothing() {
        let (connection, mut receiver) = connected().await;
        receiver.shutdown().await.unwrap();
        connection.stream.tcp().readable().await.unwrap();
        let error = connection.confirm().await.unwrap_err();
        assert!(matches!(error, ConnectionError::ClosedEarly { .. }), "{error}");
    }

    #[tokio::test]
    async fn an_end_that_crossed_what_was_sent_confirms_nothing() {
        let (mut connection, mut receiver) = connected().await;
        receiver.shutdown().await.unwrap();
        connection.stream.tcp().readable().await.unwrap();
        // More than the receiver's buffer holds, and no more than ours.
        while connection.stream.tcp().try_write(&[b'x'; 4096]).is_ok() {}
        connection.stream.shutdown().await.unwrap();
        connection.end().await.unwrap();
        let (settled, ()) = tokio::join!(connection.settled(), async { drop(receiver) });
        let error = settled.unwrap_err();
        assert!(matches!(error, ConnectionError::Broken { .. }), "{error}");
    }

    #[tokio::test]
    async fn an_end_in_answer_to_ours_confirms() {
        let (connection, mut receiver) = connected().await;
        let read = async {
            while receiver.read(&mut [0; 64]).await.unwrap() > 0 {}
            drop(receiver);
        };
        let (confirmed, ()) = tokio::join!(connection.confirm(), read);
        confirmed.unwrap();
    }
}
