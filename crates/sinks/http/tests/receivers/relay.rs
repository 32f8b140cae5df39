//! Stands between the sink and a receiver, and breaks connections as networks do.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use tokio::io::{AsyncReadExt, AsyncWriteExt, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::crypto::ring;

/// What the relay does to connections that come from now on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    /// Hands everything on.
    Whole,
    /// Closes them at once.
    Closes,
    /// Hands the request on and closes before the answer: the receiver has it, and the sink can't know.
    LosesAnswers,
    /// Closes for writing in the middle of the answer's head.
    CutsAnswers,
}

pub(crate) struct Relay {
    pub(crate) address: SocketAddr,
    mode: Arc<Mutex<Mode>>,
    _accepting: JoinSet<()>,
}

impl Relay {
    pub(crate) async fn start(to: SocketAddr, mode: Mode) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let mode = Arc::new(Mutex::new(mode));
        let (current, mut accepting) = (Arc::clone(&mode), JoinSet::new());
        accepting.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((inside, _)) = listener.accept().await {
                let mode = *current.lock().unwrap();
                connections.spawn(relay(inside, to, mode));
            }
        });
        Self { address, mode, _accepting: accepting }
    }

    pub(crate) fn set(&self, mode: Mode) {
        *self.mode.lock().unwrap() = mode;
    }
}

async fn relay(mut inside: TcpStream, to: SocketAddr, mode: Mode) {
    if mode == Mode::Closes {
        return;
    }
    let Ok(mut outside) = TcpStream::connect(to).await else { return };
    if mode == Mode::Whole {
        let _ = copy_bidirectional(&mut inside, &mut outside).await;
        return;
    }
    let ((mut requests, mut answers_in), (mut answers, mut requests_out)) = (inside.split(), outside.split());
    let forward = tokio::io::copy(&mut requests, &mut requests_out);
    let answer = async {
        let mut head = [0; 17];
        if answers.read_exact(&mut head).await.is_ok() && mode == Mode::CutsAnswers {
            let _ = answers_in.write_all(&head).await;
            let _ = answers_in.shutdown().await;
        }
    };
    tokio::select! {
        _ = forward => {}
        () = answer => {}
    }
}

/// Speaks TLS with this certificate and key, in PEM, and hands on to the receiver what is inside.
pub(crate) async fn tls_front(to: SocketAddr, certificate: &str, key: &str) -> (SocketAddr, JoinSet<()>) {
    let chain = CertificateDer::pem_slice_iter(certificate.as_bytes()).map(Result::unwrap).collect();
    let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap();
    let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .unwrap();
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let mut accepting = JoinSet::new();
    accepting.spawn(async move {
        let mut connections = JoinSet::new();
        while let Ok((stream, _)) = listener.accept().await {
            let acceptor = acceptor.clone();
            connections.spawn(async move {
                let Ok(mut inside) = acceptor.accept(stream).await else { return };
                let Ok(mut outside) = TcpStream::connect(to).await else { return };
                let _ = copy_bidirectional(&mut inside, &mut outside).await;
            });
        }
    });
    (address, accepting)
}
