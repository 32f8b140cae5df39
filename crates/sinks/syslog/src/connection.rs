//! One connection to the receiver, from connecting to its confirmation.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use actlog_core::{ConfigError, Span};
use rustls_pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use crate::config::{Confirm, SyslogConfig, Transport};

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
trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}
impl<S: AsyncRead + AsyncWrite + Unpin + Send> Stream for S {}

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
            let shut = self.stream.shutdown().await;
            shut.map_err(|error| ConnectionError::Broken { address: Arc::clone(&address), error })?;
            match self.confirm {
                Confirm::Close => self.end().await,
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
                Err(error) => return Err(ConnectionError::Broken { address: Arc::clone(&self.address), error }),
            }
        }
    }
}
