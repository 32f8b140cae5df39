//! A webhook of a client: an HTTPS server that answers as a test wants it.

#![allow(clippy::unwrap_used, reason = "what fails here fails the test")]

use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, oneshot};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::crypto::ring;

/// Longer than any test takes; one that has not ended by then has failed.
pub(crate) const PATIENCE: Duration = Duration::from_secs(180);

/// A request as it came.
#[derive(Clone, Debug)]
pub(crate) struct Seen {
    pub(crate) head: String,
    pub(crate) body: Value,
}

impl Seen {
    /// A header's value; names are in small letters.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
    }

    /// Ids of the contents that a notification tells of; none where it is a validation.
    pub(crate) fn contents(&self) -> Vec<String> {
        let entries = self.body.as_array().into_iter().flatten();
        entries.map(|entry| entry["contentId"].as_str().unwrap().to_owned()).collect()
    }
}

/// How it answers.
#[derive(Clone, Debug)]
pub(crate) enum Answer {
    Status(u16),
    /// With a redirect to that address.
    Redirect(String),
    /// Not at all; the connection stays open.
    Nothing,
    /// So many bytes at once, again and again, for ever.
    Endless(usize),
}

/// An authority that the service is told to trust.
pub(crate) struct Authority(CertifiedIssuer<'static, KeyPair>);

impl Authority {
    pub(crate) fn new() -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        Self(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap())
    }

    pub(crate) fn pem(&self) -> String {
        self.0.pem()
    }

    /// Certificate and key for the name, in PEM.
    pub(crate) fn issue(&self, name: &str, adjust: impl FnOnce(&mut CertificateParams)) -> (String, String) {
        let mut params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        adjust(&mut params);
        let key = KeyPair::generate().unwrap();
        (params.signed_by(&key, &self.0).unwrap().pem(), key.serialize_pem())
    }
}

/// A running webhook.
pub(crate) struct Receiver {
    address: SocketAddr,
    connections: Arc<AtomicUsize>,
    answer: Arc<Mutex<Answer>>,
    requests: mpsc::UnboundedReceiver<Seen>,
    /// Resolves when the test has taken too long, on the machine's clock: tests may have stopped tokio's.
    too_late: oneshot::Receiver<()>,
}

impl Receiver {
    /// For `localhost`, with a certificate of the authority.
    pub(crate) async fn start(authority: &Authority) -> Self {
        let (certificate, key) = authority.issue("localhost", |_| {});
        Self::with_certificate(&certificate, &key).await
    }

    pub(crate) async fn with_certificate(certificate: &str, key: &str) -> Self {
        let chain = CertificateDer::pem_slice_iter(certificate.as_bytes()).map(Result::unwrap).collect();
        let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap();
        let tls = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(chain, key)
            .unwrap();
        let (acceptor, listener) = (TlsAcceptor::from(Arc::new(tls)), TcpListener::bind("127.0.0.1:0").await.unwrap());
        let address = listener.local_addr().unwrap();
        let (sender, requests) = mpsc::unbounded_channel();
        let (connections, answer) = (Arc::<AtomicUsize>::default(), Arc::new(Mutex::new(Answer::Status(200))));
        tokio::spawn({
            let (connections, answer) = (Arc::clone(&connections), Arc::clone(&answer));
            async move {
                while let Ok((stream, _)) = listener.accept().await {
                    connections.fetch_add(1, Ordering::SeqCst);
                    tokio::spawn(converse(acceptor.clone(), stream, Arc::clone(&answer), sender.clone()));
                }
            }
        });
        let (timer, too_late) = oneshot::channel();
        std::thread::spawn(move || {
            std::thread::sleep(PATIENCE);
            drop(timer);
        });
        Self { address, connections, answer, requests, too_late }
    }

    pub(crate) fn url(&self) -> String {
        format!("https://localhost:{}/hook?code=canary", self.address.port())
    }

    pub(crate) fn port(&self) -> u16 {
        self.address.port()
    }

    pub(crate) fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }

    pub(crate) fn answer_with(&self, answer: Answer) {
        *self.answer.lock().unwrap() = answer;
    }

    /// The next request.
    pub(crate) async fn next(&mut self) -> Seen {
        tokio::select! {
            seen = self.requests.recv() => seen.unwrap(),
            _ = &mut self.too_late => panic!("waited in vain for a request"),
        }
    }

    /// What has come and was not looked at.
    pub(crate) fn rest(&mut self) -> Vec<Seen> {
        std::iter::from_fn(|| self.requests.try_recv().ok()).collect()
    }
}

async fn converse(
    acceptor: TlsAcceptor,
    stream: TcpStream,
    answer: Arc<Mutex<Answer>>,
    requests: mpsc::UnboundedSender<Seen>,
) -> Option<()> {
    let mut stream = acceptor.accept(stream).await.ok()?;
    loop {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(stream.read_u8().await.ok()?);
        }
        let head = String::from_utf8(head).unwrap();
        let mut seen = Seen { head, body: Value::Null };
        let mut body = vec![0; seen.header("content-length").map_or(0, |length| length.parse().unwrap())];
        stream.read_exact(&mut body).await.ok()?;
        seen.body = serde_json::from_slice(&body).unwrap();
        let answer = answer.lock().unwrap().clone();
        let _ = requests.send(seen);
        match answer {
            Answer::Status(status) => {
                let text = format!("HTTP/1.1 {status} Status\r\ncontent-length: 2\r\n\r\nok");
                stream.write_all(text.as_bytes()).await.ok()?;
                continue;
            }
            Answer::Redirect(to) => {
                let text = format!("HTTP/1.1 307 Redirect\r\nlocation: {to}\r\ncontent-length: 0\r\n\r\n");
                stream.write_all(text.as_bytes()).await.ok()?;
                continue;
            }
            Answer::Nothing => {}
            Answer::Endless(size) => {
                stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 1000000000\r\n\r\n").await.ok()?;
                loop {
                    stream.write_all(&vec![b'x'; size]).await.ok()?;
                    stream.flush().await.ok()?;
                    // Byte by byte is slow; much at once is as fast as it goes.
                    if size == 1 {
                        tokio::time::sleep(Duration::from_millis(50)).await;
                    }
                }
            }
        }
        // Until the client goes away.
        let _ = stream.read_u8().await;
        return None;
    }
}
