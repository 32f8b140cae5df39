//! What the server answers to single requests, over real sockets.

#![allow(clippy::unwrap_used, reason = "what fails here fails the test")]

mod common;

use std::sync::atomic::Ordering;

use actlog_core::Size;
use common::{assert_status, gzip, post, read_answer, read_to_end, start, within, write};
use tokio::io::AsyncWriteExt;

#[tokio::test]
async fn an_authenticated_request_reaches_the_handler_with_its_body() {
    let server = start(|_| {}).await;
    let answer = server.exchange(&post("/?code=secret", "", b"12345")).await;
    assert_status(&answer, 200);
    assert!(answer.ends_with("\r\n\r\n127.0.0.1 5"), "{answer}");
    server.metric("actlog_http_responses_total{status=\"200\"} 1").await;
    server.metric("actlog_http_received_bytes_total 5").await;
    server.metric("actlog_http_connections 0").await;
}

#[tokio::test]
async fn nothing_reaches_the_handler_without_the_key() {
    let server = start(|_| {}).await;
    for path in ["/", "/?code=", "/?code=guess", "/?code=secrets"] {
        let answer = server.exchange(&post(path, "", b"12345")).await;
        assert_status(&answer, 401);
        assert!(answer.contains("\"code\":\"unauthorized\"") && !answer.contains("guess"), "{answer}");
    }
    assert_eq!(server.handler.handled.load(Ordering::SeqCst), 0);
}

#[tokio::test]
async fn a_body_that_is_announced_too_large_is_refused_before_it_is_sent() {
    let server = start(|_| {}).await;
    let mut stream = server.connect().await;
    write(&mut stream, b"POST /?code=secret HTTP/1.1\r\nhost: t\r\ncontent-length: 314572800\r\n\r\n").await;
    assert_status(&read_to_end(&mut stream).await, 413);
    assert_eq!(server.handler.handled.load(Ordering::SeqCst), 0);
}

#[tokio::test]
async fn a_client_that_sends_300_mb_unasked_still_gets_to_see_the_413() {
    let server = start(|_| {}).await;
    for head in ["content-length: 314572800\r\n", "transfer-encoding: chunked\r\n"] {
        let mut stream = server.connect().await;
        write(&mut stream, format!("POST /?code=secret HTTP/1.1\r\nhost: t\r\n{head}\r\n").as_bytes()).await;
        let (mut reading, mut writing) = stream.split();
        let chunk = [b"100000\r\n".as_slice(), &vec![b'x'; 1 << 20], b"\r\n"].concat();
        let sending = async {
            for _ in 0..300 {
                if writing.write_all(&chunk).await.is_err() {
                    break;
                }
            }
            let _ = writing.shutdown().await;
        };
        let (answer, ()) = tokio::join!(read_to_end(&mut reading), sending);
        assert_status(&answer, 413);
        assert_eq!(server.budget.available_permits(), 64 << 20, "nothing of it is held");
    }
}

#[tokio::test]
async fn a_chunked_body_is_taken_up_to_the_limit() {
    let server = start(|config| config.limits.max_body = Size(200_000)).await;
    let chunked = |length: usize| {
        let head = "POST /?code=secret HTTP/1.1\r\nhost: t\r\nconnection: close\r\ntransfer-encoding: chunked\r\n\r\n";
        let chunk = [format!("{:x}\r\n", length / 4).as_bytes(), &vec![b'x'; length / 4], b"\r\n"].concat();
        [head.as_bytes(), &chunk.repeat(4), b"0\r\ntrailer: x\r\n\r\n"].concat()
    };
    let answer = server.exchange(&chunked(200_000)).await;
    assert!(answer.ends_with("127.0.0.1 200000"), "{answer}");
    assert_status(&server.exchange(&chunked(200_004)).await, 413);
}

#[tokio::test]
async fn compressed_bodies_arrive_decompressed() {
    let server = start(|_| {}).await;
    let text = vec![b'x'; 100_000];
    for (coding, body) in [
        ("gzip", gzip(&text)),
        ("X-GZip", gzip(&text)),
        ("zstd", zstd::encode_all(&text[..], 3).unwrap()),
        ("identity", text.clone()),
    ] {
        let answer = server.exchange(&post("/?code=secret", &format!("content-encoding: {coding}\r\n"), &body)).await;
        assert!(answer.ends_with("127.0.0.1 100000"), "{coding}: {answer}");
    }
    for coding in ["br", "gzip, gzip", "gzip\r\ncontent-encoding: gzip"] {
        let answer = server.exchange(&post("/?code=secret", &format!("content-encoding: {coding}\r\n"), &text)).await;
        assert_status(&answer, 415);
        assert!(answer.contains("accept-encoding: gzip, zstd"), "{answer}");
    }
    let answer = server.exchange(&post("/?code=secret", "content-encoding: gzip\r\n", b"no gzip")).await;
    assert_status(&answer, 400);
}

#[tokio::test]
async fn a_bomb_is_answered_with_413_and_leaves_nothing_behind() {
    let server = start(|_| {}).await;
    let zeros = vec![0; 200 << 20];
    for (coding, bomb) in [("gzip", gzip(&zeros)), ("zstd", zstd::encode_all(&zeros[..], 3).unwrap())] {
        let answer = server.exchange(&post("/?code=secret", &format!("content-encoding: {coding}\r\n"), &bomb)).await;
        assert_status(&answer, 413);
        assert!(answer.contains("decompressed"), "{answer}");
        assert_eq!(server.budget.available_permits(), 64 << 20);
    }
    assert_eq!(server.handler.handled.load(Ordering::SeqCst), 0);
}

#[tokio::test]
async fn an_exhausted_budget_is_answered_with_503_and_retry_after() {
    let server = start(|_| {}).await;
    let taken = server.budget.clone().try_acquire_many_owned((64 << 20) - 100).unwrap();
    let answer = server.exchange(&post("/?code=secret", "", &[b'x'; 101])).await;
    assert_status(&answer, 503);
    assert!(answer.contains("retry-after: 5\r\n"), "{answer}");
    assert_status(&server.exchange(&post("/?code=secret", "", &[b'x'; 100])).await, 200);
    drop(taken);
    assert_status(&server.exchange(&post("/?code=secret", "", &vec![b'x'; 1 << 20])).await, 200);
    assert_eq!(server.budget.available_permits(), 64 << 20);
}

#[tokio::test]
async fn continue_is_said_only_to_who_may_send() {
    let server = start(|_| {}).await;
    let head = |code| {
        format!(
            "POST /?code={code} HTTP/1.1\r\nhost: t\r\nconnection: close\r\nexpect: 100-continue\r\ncontent-length: 3\r\n\r\n"
        )
    };
    let mut stream = server.connect().await;
    write(&mut stream, head("secret").as_bytes()).await;
    assert_status(&read_answer(&mut stream).await, 100);
    write(&mut stream, b"abc").await;
    assert_status(&read_to_end(&mut stream).await, 200);
    let mut stream = server.connect().await;
    write(&mut stream, head("wrong").as_bytes()).await;
    assert_status(&read_to_end(&mut stream).await, 401);
}

#[tokio::test]
async fn one_connection_takes_many_requests_also_pipelined() {
    let server = start(|_| {}).await;
    let mut stream = server.connect().await;
    let request = b"POST /?code=secret HTTP/1.1\r\nhost: t\r\ncontent-length: 2\r\n\r\nab";
    for _ in 0..3 {
        write(&mut stream, request).await;
        assert_status(&read_answer(&mut stream).await, 200);
    }
    write(&mut stream, &request.repeat(100)).await;
    for _ in 0..100 {
        assert!(read_answer(&mut stream).await.ends_with("127.0.0.1 2"));
    }
    server.metric("actlog_http_responses_total{status=\"200\"} 103").await;
    server.metric("actlog_http_connections 1").await;
}

#[tokio::test]
async fn what_is_no_http_is_refused_and_harms_nobody() {
    let server = start(|_| {}).await;
    let many: String = (0..200).map(|number| format!("x-{number}: y\r\n")).collect();
    let malformed: Vec<(Vec<u8>, &[u16])> = vec![
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03 TLS to a plain port\r\n\r\n".to_vec(), &[400]),
        (b"GET / HTTP/9.9\r\n\r\n".to_vec(), &[400, 505]),
        (b"POST / HTTP/1.1\r\nhost: t\r\ncontent-length: -1\r\n\r\n".to_vec(), &[400]),
        (b"POST / HTTP/1.1\r\nhost: t\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\nab".to_vec(), &[400]),
        (b"POST / HTTP/1.1\r\nhost: t\r\ntransfer-encoding: rot13\r\n\r\n".to_vec(), &[400]),
        (b"POST / HTTP/1.1\r\nbad header\x00: t\r\n\r\n".to_vec(), &[400]),
        (format!("GET / HTTP/1.1\r\nhost: t\r\n{many}\r\n").into_bytes(), &[431]),
        (format!("GET / HTTP/1.1\r\nhost: t\r\nx: {}\r\n\r\n", "y".repeat(40 << 10)).into_bytes(), &[431]),
        (format!("GET /{} HTTP/1.1\r\nhost: t\r\n\r\n", "y".repeat(70 << 10)).into_bytes(), &[414, 431]),
        (b"POST /?code=secret HTTP/1.1\r\nhost: t\r\ntransfer-encoding: chunked\r\n\r\nnothex\r\n".to_vec(), &[400]),
    ];
    for (request, expected) in malformed {
        let answer = server.exchange(&request).await;
        let status: u16 = answer.split(' ').nth(1).unwrap_or("0").parse().unwrap();
        assert!(expected.contains(&status), "{expected:?} expected, got {answer:?}");
    }
    assert_eq!(server.handler.handled.load(Ordering::SeqCst), 0);
    assert_status(&server.exchange(&post("/?code=secret", "", b"")).await, 200);
}

#[tokio::test]
async fn a_panic_in_the_handler_costs_one_connection() {
    let server = start(|_| {}).await;
    assert_eq!(server.exchange(&post("/panic?code=secret", "", b"")).await, "");
    assert_status(&server.exchange(&post("/?code=secret", "", b"")).await, 200);
    server.metric("actlog_http_connections 0").await;
}

#[tokio::test]
async fn the_address_behind_a_trusted_proxy_is_the_one_that_counts() {
    let server = start(|config| {
        config.trusted_proxies = vec!["127.0.0.1/32".parse().unwrap()];
        config.allow_from = vec!["198.51.100.0/24".parse().unwrap()];
    })
    .await;
    for (forwarded, status) in [
        ("198.51.100.7", 200),
        ("203.0.113.1, 198.51.100.7", 200),
        // The client can claim what it likes; what the proxy saw stands to the right.
        ("198.51.100.7, 203.0.113.1", 403),
        ("unknown", 403),
        ("127.0.0.1", 403),
    ] {
        let answer = server.exchange(&post("/?code=secret", &format!("x-forwarded-for: {forwarded}\r\n"), b"")).await;
        assert_status(&answer, status);
        assert!(status != 200 || answer.ends_with("198.51.100.7 0"), "{answer}");
    }
    assert_status(&server.exchange(&post("/?code=secret", "", b"")).await, 403);
}

#[tokio::test]
async fn addresses_that_are_not_allowed_are_refused_before_anything_is_read() {
    let server = start(|config| config.allow_from = vec!["198.51.100.0/24".parse().unwrap()]).await;
    let mut stream = server.connect().await;
    let answer = read_to_end(&mut stream).await;
    assert_status(&answer, 403);
    assert_body_has_its_announced_length(&answer);
    server.metric("actlog_http_refused_total{reason=\"address\"} 1").await;
}

#[tokio::test]
async fn when_every_connection_is_being_served_the_next_is_told_so() {
    let server = start(|config| config.limits.max_connections = 1).await;
    let mut busy = server.connect().await;
    write(&mut busy, &post("/wait?code=secret", "", b"")).await;
    within("the handler", server.handler.waiting.notified()).await;
    let answer = server.exchange(&post("/?code=secret", "", b"")).await;
    assert_status(&answer, 503);
    assert!(answer.contains("retry-after: 5\r\n"), "{answer}");
    assert_body_has_its_announced_length(&answer);
    server.handler.released.notify_one();
    assert_status(&read_to_end(&mut busy).await, 200);
}

#[track_caller]
fn assert_body_has_its_announced_length(answer: &str) {
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    assert!(head.contains(&format!("content-length: {}", body.len())), "{} bytes: {answer}", body.len());
    serde_json::from_str::<serde_json::Value>(body).unwrap();
}
