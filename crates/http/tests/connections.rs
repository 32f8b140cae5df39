//! Slow, idle and many clients; TLS; shutting down.

#![expect(clippy::unwrap_used, reason = "what fails here fails the test")]

mod common;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use actlog_core::Span;
use actlog_http::TlsConfig;
use common::{assert_status, post, read_answer, read_to_end, start, start_in, within, write};
use tokio::net::TcpStream;
use tokio_rustls::rustls::pki_types::ServerName;
use tokio_rustls::rustls::{ClientConfig, RootCertStore, version};
use tokio_rustls::{TlsConnector, client::TlsStream, rustls};

fn short(milliseconds: u64) -> Span {
    Span(Duration::from_millis(milliseconds))
}

#[tokio::test]
async fn a_client_that_drips_its_head_is_closed() {
    let server = start(|config| config.limits.header_timeout = short(200)).await;
    // One that says nothing at all, one that stops midway, and one that stops midway in its second request.
    let mut silent = server.connect().await;
    let mut dripping = server.connect().await;
    write(&mut dripping, b"POST /?code=secret HTTP/1.1\r\nho").await;
    let mut second = server.connect().await;
    write(&mut second, b"GET /?code=secret HTTP/1.1\r\nhost: t\r\n\r\n").await;
    assert_status(&read_answer(&mut second).await, 200);
    write(&mut second, b"GET / HT").await;
    for stream in [&mut silent, &mut dripping, &mut second] {
        assert_eq!(read_to_end(stream).await, "");
    }
    server.metric("actlog_http_refused_total{reason=\"timeout\"} 3").await;
}

#[tokio::test]
async fn a_client_that_drips_its_body_is_answered_with_408() {
    let server = start(|config| config.limits.body_timeout = short(200)).await;
    let mut stream = server.connect().await;
    write(&mut stream, b"POST /?code=secret HTTP/1.1\r\nhost: t\r\ncontent-length: 10\r\n\r\nabc").await;
    assert_status(&read_to_end(&mut stream).await, 408);
}

#[tokio::test]
async fn an_idle_connection_is_kept_for_its_time_and_no_longer() {
    let server = start(|config| {
        config.limits.header_timeout = short(100);
        config.limits.idle_timeout = short(3000);
    })
    .await;
    let mut stream = server.connect().await;
    let request = b"GET /?code=secret HTTP/1.1\r\nhost: t\r\n\r\n";
    write(&mut stream, request).await;
    assert_status(&read_answer(&mut stream).await, 200);
    // Much longer than a head may take, and well within what a connection may idle.
    tokio::time::sleep(Duration::from_millis(400)).await;
    write(&mut stream, request).await;
    assert_status(&read_answer(&mut stream).await, 200);
    assert_eq!(read_to_end(&mut stream).await, "");
    server.metric("actlog_http_refused_total{reason=\"timeout\"} 1").await;
}

#[tokio::test]
async fn idle_connections_beyond_the_limit_do_not_keep_others_out() {
    let server = start(|config| config.limits.max_connections = 100).await;
    let mut idle = Vec::new();
    let request = post("/?code=secret", "", b"12345");
    for _ in 0..300 {
        idle.push(server.connect().await);
    }
    // Those beyond the limit were refused, or took the place of one that had waited; in the end a request gets through.
    let answered = async {
        while !server.exchange(&request).await.starts_with("HTTP/1.1 200 ") {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    within("a request beside idle connections", answered).await;
    server.metric("actlog_http_responses_total{status=\"200\"} 1").await;
}

#[tokio::test]
async fn shutdown_lets_requests_end_and_closes_what_idles() {
    let server = start(|_| {}).await;
    let mut idle = server.connect().await;
    write(&mut idle, b"GET /?code=secret HTTP/1.1\r\nhost: t\r\n\r\n").await;
    assert_status(&read_answer(&mut idle).await, 200);
    let mut busy = server.connect().await;
    write(&mut busy, b"GET /wait?code=secret HTTP/1.1\r\nhost: t\r\n\r\n").await;
    within("the handler", server.handler.waiting.notified()).await;

    server.shutdown.cancel();
    assert_eq!(read_to_end(&mut idle).await, "");
    let refused = async { while TcpStream::connect(server.address).await.is_ok() {} };
    within("the listener to be closed", refused).await;
    server.handler.released.notify_one();
    let answer = read_to_end(&mut busy).await;
    assert_status(&answer, 200);
    assert!(answer.contains("connection: close"), "{answer}");
    within("the server", server.served).await.unwrap();
}

#[tokio::test]
async fn shutdown_does_not_wait_beyond_its_grace() {
    let server = start(|_| {}).await;
    let mut busy = server.connect().await;
    write(&mut busy, b"GET /wait?code=secret HTTP/1.1\r\nhost: t\r\n\r\n").await;
    within("the handler", server.handler.waiting.notified()).await;
    server.shutdown.cancel();
    within("the server", server.served).await.unwrap();
    assert_eq!(read_to_end(&mut busy).await, "");
}

/// Writes a fresh certificate for `localhost` and gives the roots that trust it.
fn issue(folder: &Path) -> RootCertStore {
    let issued = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    std::fs::write(folder.join("server.key"), issued.signing_key.serialize_pem()).unwrap();
    std::fs::write(folder.join("server.pem"), issued.cert.pem()).unwrap();
    let mut roots = RootCertStore::empty();
    roots.add(issued.cert.der().clone()).unwrap();
    roots
}

async fn tls(
    address: std::net::SocketAddr,
    roots: RootCertStore,
    versions: &[&'static rustls::SupportedProtocolVersion],
) -> std::io::Result<TlsStream<TcpStream>> {
    let config = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_protocol_versions(versions)
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let stream = TcpStream::connect(address).await?;
    let name = ServerName::try_from("localhost").unwrap();
    within("handshake", TlsConnector::from(Arc::new(config)).connect(name, stream)).await
}

#[tokio::test]
async fn tls_is_served_and_a_renewed_certificate_is_taken_up() {
    let folder = tempfile::tempdir().unwrap();
    let roots = issue(folder.path());
    let server = start_in(folder.path(), |config| {
        config.tls = Some(TlsConfig { certificate: "server.pem".into(), key: "server.key".into() });
    })
    .await;
    for version in [&version::TLS12, &version::TLS13] {
        let mut stream = tls(server.address, roots.clone(), &[version]).await.unwrap();
        write(&mut stream, &post("/?code=secret", "", b"12345")).await;
        assert!(read_to_end(&mut stream).await.ends_with("127.0.0.1 5"));
    }
    // A renewal that is half done: certificate and key don't fit, so the one before stays.
    let key = std::fs::read(folder.path().join("server.key")).unwrap();
    let renewed = issue(folder.path());
    let renewed_key = std::fs::read(folder.path().join("server.key")).unwrap();
    std::fs::write(folder.path().join("server.key"), key).unwrap();
    tokio::time::sleep(Duration::from_millis(2100)).await;
    tls(server.address, roots, &[&version::TLS13]).await.unwrap();

    std::fs::write(folder.path().join("server.key"), renewed_key).unwrap();
    let taken_up = async {
        while tls(server.address, renewed.clone(), &[&version::TLS13]).await.is_err() {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    within("the renewed certificate", taken_up).await;
}

#[tokio::test]
async fn a_client_that_does_not_speak_tls_is_closed_and_one_that_says_nothing_too() {
    let folder = tempfile::tempdir().unwrap();
    let roots = issue(folder.path());
    let server = start_in(folder.path(), |config| {
        config.tls = Some(TlsConfig { certificate: "server.pem".into(), key: "server.key".into() });
        config.limits.header_timeout = short(300);
    })
    .await;
    let mut silent = server.connect().await;
    let answer = server.exchange(&post("/?code=secret", "", b"")).await;
    assert!(!answer.contains("HTTP"), "{answer}");
    assert_eq!(read_to_end(&mut silent).await, "");
    server.metric("actlog_http_refused_total{reason=\"handshake\"} 2").await;
    tls(server.address, roots, &[&version::TLS13]).await.unwrap();
}

#[tokio::test]
async fn a_certificate_that_cannot_be_used_keeps_the_server_from_starting() {
    let folder = tempfile::tempdir().unwrap();
    issue(folder.path());
    let bind = async |certificate: &str, key: &str| {
        let mut config = actlog_http::ServerConfig::new("127.0.0.1:0".parse().unwrap());
        config.tls = Some(TlsConfig { certificate: certificate.into(), key: key.into() });
        let budget = Arc::new(tokio::sync::Semaphore::new(1));
        actlog_http::Server::bind(&config, folder.path(), budget).await.map(drop).unwrap_err().to_string()
    };
    assert!(bind("absent.pem", "server.key").await.starts_with("tls.certificate: "));
    assert!(bind("server.key", "server.key").await.contains("holds no certificate"));
    assert!(bind("server.pem", "server.pem").await.starts_with("tls.key: "));
    std::fs::copy(folder.path().join("server.key"), folder.path().join("other.key")).unwrap();
    issue(folder.path());
    assert!(bind("server.pem", "other.key").await.starts_with("tls.key: "));
}
