//! Servers on loopback that the client is tried against: they write what a test wants, byte by byte.

#![allow(dead_code, reason = "each test file uses a part of it")]
#![allow(unreachable_pub, reason = "public to the test files")]
#![expect(clippy::unwrap_used, reason = "what fails here fails the test")]

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use actlog_http::client::{Client, ClientConfig};
use rcgen::{CertificateParams, CertifiedIssuer, Issuer, KeyPair};
use rustls_pki_types::PrivateKeyDer;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::server::WebPkiClientVerifier;
use tokio_rustls::rustls::{RootCertStore, ServerConfig};

/// Longer than anything here takes; a test that waits this long has failed.
pub const DEADLINE: Duration = Duration::from_secs(30);

/// A request as it came.
#[derive(Clone, Debug)]
pub struct Seen {
    pub head: String,
    pub body: String,
}

/// What is written back.
pub enum Answer {
    /// The bytes; the connection stays open for the next request.
    Whole(Vec<u8>),
    /// The bytes, and then nothing, for ever.
    Stalled(Vec<u8>),
    /// The first bytes, and then the second, again and again.
    Endless(Vec<u8>, Vec<u8>),
}

/// A server, and what it has seen.
pub struct Peer {
    pub address: SocketAddr,
    connections: Arc<Mutex<usize>>,
    requests: Arc<Mutex<Vec<Seen>>>,
}

impl Peer {
    pub async fn start(tls: Option<ServerConfig>, answer: impl Fn(&Seen) -> Answer + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (connections, requests) = (Arc::<Mutex<usize>>::default(), Arc::<Mutex<Vec<Seen>>>::default());
        let acceptor = tls.map(|tls| TlsAcceptor::from(Arc::new(tls)));
        let answer = Arc::new(answer);
        tokio::spawn({
            let (connections, requests) = (Arc::clone(&connections), Arc::clone(&requests));
            async move {
                while let Ok((stream, _)) = listener.accept().await {
                    *connections.lock().unwrap() += 1;
                    let (acceptor, answer, requests) = (acceptor.clone(), Arc::clone(&answer), Arc::clone(&requests));
                    tokio::spawn(async move {
                        match acceptor {
                            None => converse(stream, &*answer, &requests).await,
                            Some(acceptor) => {
                                if let Ok(stream) = acceptor.accept(stream).await {
                                    converse(stream, &*answer, &requests).await;
                                }
                            }
                        }
                    });
                }
            }
        });
        Self { address, connections, requests }
    }

    pub fn url(&self, scheme: &str, path: &str) -> String {
        format!("{scheme}://localhost:{}{path}", self.address.port())
    }

    pub fn connections(&self) -> usize {
        *self.connections.lock().unwrap()
    }

    pub fn requests(&self) -> Vec<Seen> {
        self.requests.lock().unwrap().clone()
    }
}

async fn converse(
    mut stream: impl AsyncRead + AsyncWrite + Unpin,
    answer: &(impl Fn(&Seen) -> Answer + ?Sized),
    requests: &Mutex<Vec<Seen>>,
) {
    while let Some(seen) = read_request(&mut stream).await {
        let answer = answer(&seen);
        requests.lock().unwrap().push(seen);
        let (bytes, rest) = match answer {
            Answer::Whole(bytes) => (bytes, None),
            Answer::Stalled(bytes) => (bytes, Some(Vec::new())),
            Answer::Endless(bytes, again) => (bytes, Some(again)),
        };
        let mut written = stream.write_all(&bytes).await.and(stream.flush().await);
        while let Some(again) = &rest
            && written.is_ok()
        {
            if again.is_empty() {
                // Until the client goes away.
                let _ = stream.read_u8().await;
                return;
            }
            written = stream.write_all(again).await;
        }
    }
}

async fn read_request(stream: &mut (impl AsyncRead + Unpin)) -> Option<Seen> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.ok()?);
    }
    let head = String::from_utf8(head).unwrap();
    let length = head.lines().find_map(|line| line.to_lowercase().strip_prefix("content-length: ")?.parse().ok());
    let mut body = vec![0; length.unwrap_or(0)];
    stream.read_exact(&mut body).await.ok()?;
    Some(Seen { head, body: String::from_utf8(body).unwrap() })
}

/// An answer of HTTP/1.1.
pub fn http(status: &str, headers: &str, body: impl AsRef<[u8]>) -> Answer {
    let body = body.as_ref();
    let head = format!("HTTP/1.1 {status}\r\n{headers}content-length: {}\r\n\r\n", body.len());
    Answer::Whole([head.as_bytes(), body].concat())
}

/// A client that may talk to this machine.
pub fn local_client() -> Client {
    let config = ClientConfig { allow_private: true, proxy: None, ..ClientConfig::default() };
    Client::new(&config, std::path::Path::new(".")).unwrap()
}

/// A certificate authority of a test's own.
pub struct Authority(CertifiedIssuer<'static, KeyPair>);

impl Authority {
    pub fn new() -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        Self(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap())
    }

    pub fn pem(&self) -> String {
        self.0.pem()
    }

    /// A certificate for the name and its key, in PEM.
    pub fn issue(&self, name: &str, adjust: impl FnOnce(&mut CertificateParams)) -> (String, String) {
        let mut params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        adjust(&mut params);
        let key = KeyPair::generate().unwrap();
        let issuer: &Issuer<'_, KeyPair> = &self.0;
        (params.signed_by(&key, issuer).unwrap().pem(), key.serialize_pem())
    }

    /// TLS for a server with a certificate of this authority; clients need one of `clients`, if any.
    pub fn server(&self, name: &str, clients: Option<&Authority>) -> ServerConfig {
        let (certificate, key) = self.issue(name, |_| {});
        server_config(&certificate, &key, clients)
    }
}

pub fn server_config(certificate: &str, key: &str, clients: Option<&Authority>) -> ServerConfig {
    use rustls_pki_types::CertificateDer;
    use rustls_pki_types::pem::PemObject;
    let chain = CertificateDer::pem_slice_iter(certificate.as_bytes()).map(Result::unwrap).collect();
    let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap();
    let provider = Arc::new(ring::default_provider());
    let builder =
        ServerConfig::builder_with_provider(Arc::clone(&provider)).with_safe_default_protocol_versions().unwrap();
    let builder = match clients {
        None => builder.with_no_client_auth(),
        Some(authority) => {
            let mut roots = RootCertStore::empty();
            roots.add(authority.0.der().clone()).unwrap();
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider).build().unwrap();
            builder.with_client_cert_verifier(verifier)
        }
    };
    builder.with_single_cert(chain, key).unwrap()
}
