//! The client against servers that mean harm, or are only unlike what one hopes for.

#![expect(clippy::unwrap_used, reason = "what fails here fails the test")]

mod peer;

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use actlog_core::{Secret, SecretReference, Size, Span};
use actlog_http::client::{Client, ClientConfig, ClientError, Method, Request, StatusCode};
use hyper_util::rt::{TokioExecutor, TokioIo};
use peer::{Answer, Authority, DEADLINE, Peer, http, local_client, server_config};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;

fn ok() -> Answer {
    http("200 OK", "", "hello")
}

/// A client that trusts the authority.
fn trusting(authority: &Authority, adjust: impl FnOnce(&Path, &mut ClientConfig)) -> Client {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("ca.pem"), authority.pem()).unwrap();
    let mut config = ClientConfig { ca: Some("ca.pem".into()), allow_private: true, ..ClientConfig::default() };
    adjust(folder.path(), &mut config);
    Client::new(&config, folder.path()).unwrap()
}

#[tokio::test]
async fn a_request_arrives_as_it_was_made_and_so_does_its_answer() {
    let peer = Peer::start(None, |_| http("418 I'm a teapot", "retry-after: 7\r\nx-more: a\r\n", "{\"n\":5}")).await;
    let request = Request::new(Method::POST, peer.url("http", "/path?a=b%20c"))
        .header("X-Own", "value")
        .bearer(&Secret::new("token"))
        .form(&[("grant", "a+b &=%"), ("empty", "")]);
    let client = local_client();
    let answer = client.send(request).await.unwrap();
    assert_eq!(answer.status, StatusCode::IM_A_TEAPOT);
    assert_eq!(answer.headers["x-more"], "a");
    assert_eq!(answer.retry_after(), Some(Duration::from_secs(7)));
    assert_eq!(answer.json::<serde_json::Value>().unwrap(), serde_json::json!({ "n": 5 }));
    let [seen] = &peer.requests()[..] else { panic!("not one request") };
    assert!(seen.head.starts_with("POST /path?a=b%20c HTTP/1.1\r\n"), "{}", seen.head);
    for header in ["x-own: value", "authorization: Bearer token", "content-type: application/x-www-form-urlencoded"] {
        assert!(seen.head.contains(&format!("{header}\r\n")), "{header} is not in {}", seen.head);
    }
    assert!(seen.head.contains("user-agent: actlog/"), "{}", seen.head);
    assert_eq!(seen.body, "grant=a%2Bb+%26%3D%25&empty=");
    // A second one takes the same connection.
    client.send(Request::get(peer.url("http", "/")).json(&[1, 2])).await.unwrap();
    assert_eq!(peer.requests()[1].body, "[1,2]");
    assert_eq!(peer.connections(), 1);
}

#[tokio::test]
async fn only_certificates_that_prove_the_name_now_are_trusted() {
    let (ours, foreign) = (Authority::new(), Authority::new());
    let client = trusting(&ours, |_, _| {});
    let year = |year| rcgen::date_time_ymd(year, 1, 1);
    let self_signed = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
    let cases = [
        ("good", ours.issue("localhost", |_| {})),
        ("expired", ours.issue("localhost", |params| (params.not_before, params.not_after) = (year(2001), year(2002)))),
        ("not yet valid", ours.issue("localhost", |params| params.not_before = year(3000))),
        ("another name", ours.issue("other.example", |_| {})),
        ("an unknown authority", foreign.issue("localhost", |_| {})),
        ("self-signed", (self_signed.cert.pem(), self_signed.signing_key.serialize_pem())),
    ];
    for (what, (certificate, key)) in cases {
        let peer = Peer::start(Some(server_config(&certificate, &key, None)), |_| ok()).await;
        let answer = client.send(Request::get(peer.url("https", "/?canary"))).await;
        match answer {
            Ok(answer) if what == "good" => assert_eq!(&answer.body[..], b"hello"),
            Err(ClientError::Tls { .. }) if what != "good" => assert!(peer.requests().is_empty(), "{what}"),
            other => panic!("{what}: {other:?}"),
        }
    }
}

#[tokio::test]
async fn addresses_inside_are_refused_in_every_spelling() {
    let peer = Peer::start(None, |_| ok()).await;
    let port = peer.address.port();
    let client = Client::new(&ClientConfig::default(), Path::new(".")).unwrap();
    for host in [
        "127.0.0.1",
        "127.1",
        "127.0.1",
        "2130706433",
        "0x7f000001",
        "0x7f.1",
        "0177.0.0.1",
        "017700000001",
        "0",
        "0.0.0.0",
        "127.0.0.1.",
        "%31%32%37.0.0.1",
        "①②⑦.0.0.1",
        "[::1]",
        "[::]",
        "[0:0:0:0:0:0:0:1]",
        "[::ffff:127.0.0.1]",
        "[::ffff:7f00:1]",
        "[0:0:0:0:0:ffff:127.0.0.1]",
        "[::127.0.0.1]",
        "[64:ff9b::7f00:1]",
        "[2002:7f00:1::]",
        "[fd00::1]",
        "[fe80::1]",
        "10.0.0.1",
        "172.20.0.1",
        "192.168.1.1",
        "100.100.100.100",
        "169.254.169.254",
        "[fd00:ec2::254]",
        "168.63.129.16",
        "224.0.0.1",
        "255.255.255.255",
        "localhost",
        "LOCALHOST",
    ] {
        let answer = client.send(Request::get(format!("https://{host}:{port}/"))).await;
        assert!(matches!(answer, Err(ClientError::Forbidden { .. })), "{host}: {answer:?}");
    }
    assert_eq!(peer.connections(), 0);
    // The same client goes out by name: this one does not exist, and is looked for all the same.
    let answer = client.send(Request::get("https://name.invalid/")).await;
    assert!(matches!(answer, Err(ClientError::Connect { .. })), "{answer:?}");
}

#[tokio::test]
async fn without_tls_nothing_leaves_this_machine() {
    let closed = Client::new(&ClientConfig::default(), Path::new(".")).unwrap();
    for (client, url) in [
        (&closed, "http://example.com/"),
        (&local_client(), "http://example.com/"),
        (&local_client(), "http://192.168.1.1/"),
        (&local_client(), "http://localhost.example.com/"),
        (&local_client(), "ftp://localhost/"),
    ] {
        let answer = client.send(Request::get(url)).await;
        assert!(matches!(answer, Err(ClientError::Insecure { .. })), "{url}: {answer:?}");
    }
    for url in ["", "localhost", "https://", "https://user@localhost/", "https://user:canary@localhost/", "data:,x"] {
        let error = local_client().send(Request::get(url)).await.unwrap_err();
        assert!(matches!(error, ClientError::Url { .. }), "{url}: {error:?}");
        assert!(!format!("{error} {error:?}").contains("canary"), "{error:?}");
    }
}

#[tokio::test]
async fn redirects_are_handed_back_and_not_followed() {
    let target = Peer::start(None, |_| ok()).await;
    let location = format!("location: {}\r\n", target.url("http", "/"));
    let peer = Peer::start(None, move |_| http("307 Temporary Redirect", &location, "")).await;
    let answer = local_client().send(Request::get(peer.url("http", "/"))).await.unwrap();
    assert_eq!(answer.status, StatusCode::TEMPORARY_REDIRECT);
    assert_eq!((peer.requests().len(), target.connections()), (1, 0));
}

#[tokio::test]
async fn answers_are_cut_where_they_grow_beyond_the_limit() {
    let limit = 64 << 10;
    let config = ClientConfig { allow_private: true, max_response: Size(limit as u64), ..ClientConfig::default() };
    let client = Client::new(&config, Path::new(".")).unwrap();
    let gzip = |size: usize| {
        use std::io::Write;
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
        encoder.write_all(&vec![b'0'; size]).unwrap();
        http("200 OK", "content-encoding: gzip\r\n", encoder.finish().unwrap())
    };
    let peer = Peer::start(None, move |seen| {
        let chunked = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n".to_vec();
        match seen.head.split(' ').nth(1).unwrap() {
            "/full" => http("200 OK", "", vec![b'x'; limit]),
            "/full-gzip" => gzip(limit),
            "/announced" => Answer::Stalled(format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n", limit + 1).into()),
            "/endless-chunks" => Answer::Endless(chunked, b"4\r\nabcd\r\n".repeat(1000)),
            "/endless-bytes" => Answer::Endless(b"HTTP/1.1 200 OK\r\n\r\n".to_vec(), vec![b'x'; 8000]),
            "/bomb" => gzip(64 << 20),
            "/endless-headers" => Answer::Endless(b"HTTP/1.1 200 OK\r\n".to_vec(), b"a: b\r\n".repeat(1000)),
            "/endless-chunk-extension" => Answer::Endless([&chunked[..], b"4;"].concat(), vec![b'x'; 8000]),
            other => panic!("{other}"),
        }
    })
    .await;
    for path in ["/full", "/full-gzip"] {
        let answer = client.send(Request::get(peer.url("http", path))).await.unwrap();
        assert_eq!(answer.body.len(), limit, "{path}");
    }
    for path in ["/announced", "/endless-chunks", "/endless-bytes", "/bomb"] {
        let answer = client.send(Request::get(peer.url("http", path))).await;
        assert!(matches!(answer, Err(ClientError::TooLarge { .. })), "{path}: {answer:?}");
    }
    for path in ["/endless-headers", "/endless-chunk-extension"] {
        let answer = client.send(Request::get(peer.url("http", path))).await;
        assert!(matches!(answer, Err(ClientError::Protocol { .. })), "{path}: {answer:?}");
    }
}

#[tokio::test]
async fn what_does_not_come_whole_in_time_is_given_up() {
    let config = ClientConfig { allow_private: true, timeout: Span(Duration::from_secs(1)), ..ClientConfig::default() };
    let client = Client::new(&config, Path::new(".")).unwrap();
    let peer = Peer::start(None, |seen| {
        let text = match seen.head.split(' ').nth(1).unwrap() {
            "/nothing" => "",
            "/half-a-head" => "HTTP/1.1 200 OK\r\nx-",
            "/no-body" => "HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\n",
            "/half-a-body" => "HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhel",
            "/half-a-chunk" => "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhel",
            "/interim" => "HTTP/1.1 103 Early Hints\r\n\r\n",
            other => panic!("{other}"),
        };
        Answer::Stalled(text.into())
    })
    .await;
    let paths = ["/nothing", "/half-a-head", "/no-body", "/half-a-body", "/half-a-chunk", "/interim"];
    let answers: Vec<_> = paths
        .map(|path| {
            tokio::spawn({
                let (client, url) = (client.clone(), peer.url("http", path));
                async move { client.send(Request::get(url)).await }
            })
        })
        .into();
    for (path, answer) in paths.iter().zip(answers) {
        let answer = tokio::time::timeout(DEADLINE, answer).await.unwrap().unwrap();
        assert!(matches!(answer, Err(ClientError::Timeout { .. })), "{path}: {answer:?}");
    }
}

#[tokio::test]
async fn what_is_no_answer_is_an_error_that_repeats_nothing_of_either_side() {
    let texts: [&[u8]; 7] = [
        b"canary\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ncanary\x00\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-length: canary\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\ncanary\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-encoding: gzip\r\ncontent-length: 6\r\n\r\ncanary",
        b"HTTP/2.0 200 canary\r\n\r\n",
    ];
    let client = local_client();
    for text in texts {
        let peer = Peer::start(None, move |_| Answer::Whole(text.to_vec())).await;
        let url = peer.url("http", "/canary?code=canary#canary");
        let request = Request::new(Method::POST, url).bearer(&Secret::new("canary")).body("canary");
        let error = client.send(request).await.unwrap_err();
        assert!(matches!(error, ClientError::Protocol { .. }), "{}: {error:?}", String::from_utf8_lossy(text));
        assert!(error.to_string().starts_with("localhost:"), "{error}");
        assert!(!format!("{error} {error:?}").contains("canary"), "{error:?}");
    }
    // Nobody there.
    let free = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap().port();
    let error = client.send(Request::get(format!("http://localhost:{free}/canary?canary"))).await.unwrap_err();
    assert!(matches!(error, ClientError::Connect { .. }), "{error:?}");
    assert!(!format!("{error} {error:?}").contains("canary"), "{error:?}");
}

#[tokio::test]
async fn a_server_that_asks_for_a_certificate_is_shown_the_configured_one() {
    let (servers, clients) = (Authority::new(), Authority::new());
    let peer = Peer::start(Some(servers.server("localhost", Some(&clients))), |_| ok()).await;
    let without = trusting(&servers, |_, _| {});
    let error = without.send(Request::get(peer.url("https", "/"))).await.unwrap_err();
    assert!(peer.requests().is_empty(), "{error}");
    let with = trusting(&servers, |folder, config| {
        let (certificate, key) = clients.issue("actlog", |_| {});
        fs::write(folder.join("client.pem"), certificate).unwrap();
        fs::write(folder.join("client.key"), key).unwrap();
        config.certificate = Some("client.pem".into());
        config.key = Some(SecretReference::File("client.key".into()));
    });
    assert_eq!(with.send(Request::get(peer.url("https", "/"))).await.unwrap().status, StatusCode::OK);
}

#[test]
fn certificates_and_keys_that_cannot_be_used_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let authority = Authority::new();
    let ((certificate, _), (_, other_key)) = (authority.issue("a", |_| {}), authority.issue("b", |_| {}));
    for (name, text) in [("client.pem", certificate.as_str()), ("other.key", &other_key), ("empty.pem", "none\n")] {
        fs::write(folder.path().join(name), text).unwrap();
    }
    let error = |config: ClientConfig| Client::new(&config, folder.path()).unwrap_err();
    let missing = error(ClientConfig { ca: Some("missing.pem".into()), ..ClientConfig::default() });
    assert!(missing.path == "ca" && missing.message.contains("missing.pem"), "{missing}");
    let empty = error(ClientConfig { ca: Some("empty.pem".into()), ..ClientConfig::default() });
    assert!(empty.path == "ca" && empty.message.contains("no certificate"), "{empty}");
    let client = |key: &str| ClientConfig {
        certificate: Some("client.pem".into()),
        key: Some(SecretReference::File(key.into())),
        ..ClientConfig::default()
    };
    assert_eq!(error(client("other.key")).path, "certificate");
    assert_eq!(error(client("empty.pem")).path, "key");
    assert_eq!(error(client("missing.key")).path, "key.file");
}

/// A proxy that knows one name: whoever asks for `service.invalid` is brought to the peer. Gives its address and what
/// it was asked.
async fn proxy(to: std::net::SocketAddr) -> (u16, tokio::sync::mpsc::UnboundedReceiver<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let (asked, questions) = tokio::sync::mpsc::unbounded_channel();
    tokio::spawn(async move {
        while let Ok((mut client, _)) = listener.accept().await {
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") {
                head.push(client.read_u8().await.unwrap());
            }
            let head = String::from_utf8(head).unwrap();
            let known = head.starts_with("CONNECT service.invalid:443 HTTP/1.1\r\n");
            asked.send(head).unwrap();
            if !known {
                client.write_all(b"HTTP/1.1 403 Forbidden\r\ncontent-length: 0\r\n\r\n").await.unwrap();
                continue;
            }
            let mut server = TcpStream::connect(to).await.unwrap();
            client.write_all(b"HTTP/1.1 200 Connected\r\n\r\n").await.unwrap();
            tokio::spawn(async move { tokio::io::copy_bidirectional(&mut client, &mut server).await });
        }
    });
    (port, questions)
}

#[tokio::test]
async fn through_a_proxy_the_proxy_finds_the_host_and_sees_nothing_of_the_request() {
    let authority = Authority::new();
    let peer = Peer::start(Some(authority.server("service.invalid", None)), |_| ok()).await;
    let (port, mut questions) = proxy(peer.address).await;
    // The proxy itself may be inside, whatever requests may do.
    let client = trusting(&authority, |_, config| {
        config.allow_private = false;
        config.proxy = Some(format!("http://localhost:{port}"));
    });
    let request = Request::get("https://service.invalid/?canary").bearer(&Secret::new("canary"));
    assert_eq!(client.send(request).await.unwrap().status, StatusCode::OK);
    let question = questions.recv().await.unwrap();
    assert!(question.starts_with("CONNECT service.invalid:443") && !question.contains("canary"), "{question}");
    let refused = client.send(Request::get("https://other.invalid/")).await;
    assert!(matches!(refused, Err(ClientError::Connect { .. })), "{refused:?}");
    assert!(questions.recv().await.unwrap().starts_with("CONNECT other.invalid:443"));
    let forbidden = client.send(Request::get("https://169.254.169.254/")).await;
    assert!(matches!(forbidden, Err(ClientError::Forbidden { .. })), "{forbidden:?}");
    assert!(questions.try_recv().is_err());
}

#[tokio::test]
async fn http_2_is_spoken_with_servers_that_offer_it() {
    let authority = Authority::new();
    let mut tls = authority.server("localhost", None);
    tls.alpn_protocols = vec![b"h2".to_vec()];
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("https://localhost:{}/", listener.local_addr().unwrap().port());
    tokio::spawn(async move {
        let (stream, _) = listener.accept().await.unwrap();
        let stream = TlsAcceptor::from(Arc::new(tls)).accept(stream).await.unwrap();
        let service = hyper::service::service_fn(|request: hyper::Request<hyper::body::Incoming>| async move {
            Ok::<_, std::convert::Infallible>(hyper::Response::new(format!("{:?}", request.version())))
        });
        let protocol = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
        protocol.serve_connection(TokioIo::new(stream), service).await.unwrap();
    });
    let answer = trusting(&authority, |_, _| {}).send(Request::get(url)).await.unwrap();
    assert_eq!(&answer.body[..], b"HTTP/2.0");
}
