//! A small HTTP/1.1 server on the loopback interface: what the stand-ins of other systems are built on.
//!
//! It hands whole requests to a function and sends what that answers. Real sockets, real HTTP; no TLS.

use std::convert::Infallible;
use std::future::Future;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use http_body_util::{BodyExt, Full, Limited};
pub use hyper::body::Bytes;
use hyper::body::Incoming;
use hyper::service::service_fn;
pub use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;
use tokio::task::JoinSet;

/// Requests of tests are far smaller than this; larger ones get 413.
const MAXIMUM_BODY: usize = 64 << 20;

/// A server that runs until it is dropped; its open connections end with it.
#[derive(Debug)]
pub struct Server {
    address: SocketAddr,
    // Aborts the task when dropped.
    _accepting: JoinSet<()>,
}

impl Server {
    /// Listens on a free port and answers every request with what `answer` makes of it.
    ///
    /// # Panics
    /// When the operating system gives no port.
    pub async fn start<F, A>(answer: F) -> Self
    where
        F: Fn(Request<Bytes>) -> A + Send + Sync + 'static,
        A: Future<Output = Response<Bytes>> + Send + 'static,
    {
        Self::start_at((Ipv4Addr::LOCALHOST, 0).into(), answer).await
    }

    /// The same at an address of the caller's choice, such as that of a server that is to come back.
    ///
    /// # Panics
    /// When nothing can listen there.
    pub async fn start_at<F, A>(address: SocketAddr, answer: F) -> Self
    where
        F: Fn(Request<Bytes>) -> A + Send + Sync + 'static,
        A: Future<Output = Response<Bytes>> + Send + 'static,
    {
        let listener =
            TcpListener::bind(address).await.unwrap_or_else(|error| panic!("{address} can't be listened on: {error}"));
        let address = listener.local_addr().unwrap_or_else(|error| panic!("a listener without an address: {error}"));
        let mut accepting = JoinSet::new();
        accepting.spawn(accept(listener, Arc::new(answer)));
        Self { address, _accepting: accepting }
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The same as a URL, without a slash at its end: `http://127.0.0.1:40123`.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }
}

async fn accept<F, A>(listener: TcpListener, answer: Arc<F>)
where
    F: Fn(Request<Bytes>) -> A + Send + Sync + 'static,
    A: Future<Output = Response<Bytes>> + Send + 'static,
{
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => {
                // What the operating system refuses now it may grant to the next.
                let Ok((stream, _)) = accepted else { continue };
                let answer = Arc::clone(&answer);
                connections.spawn(async move {
                    let service = service_fn(move |request| respond(Arc::clone(&answer), request));
                    // A client that goes away is no error of the server.
                    let _ = hyper::server::conn::http1::Builder::new()
                        .serve_connection(TokioIo::new(stream), service)
                        .await;
                });
            }
            Some(_) = connections.join_next() => {}
        }
    }
}

async fn respond<F, A>(answer: Arc<F>, request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible>
where
    F: Fn(Request<Bytes>) -> A,
    A: Future<Output = Response<Bytes>>,
{
    let (head, body) = request.into_parts();
    let response = match Limited::new(body, MAXIMUM_BODY).collect().await {
        Ok(body) => answer(Request::from_parts(head, body.to_bytes())).await,
        Err(_) => empty(StatusCode::PAYLOAD_TOO_LARGE),
    };
    Ok(response.map(Full::new))
}

/// An answer without a body.
pub fn empty(status: StatusCode) -> Response<Bytes> {
    let mut response = Response::new(Bytes::new());
    *response.status_mut() = status;
    response
}

/// An answer of JSON.
pub fn json(status: StatusCode, value: &serde_json::Value) -> Response<Bytes> {
    let mut response = Response::new(Bytes::from(value.to_string()));
    *response.status_mut() = status;
    let content_type = hyper::header::HeaderValue::from_static("application/json; charset=utf-8");
    response.headers_mut().insert(hyper::header::CONTENT_TYPE, content_type);
    response
}

/// The parameters of a query string or of a form, decoded: `+` and `%20` are spaces. What is no valid escape stays as
/// it is.
pub fn parameters(text: &str) -> Vec<(String, String)> {
    let pairs = text.split('&').filter(|pair| !pair.is_empty());
    pairs
        .map(|pair| pair.split_once('=').unwrap_or((pair, "")))
        .map(|(k, v)| (decode(k, true), decode(v, true)))
        .collect()
}

/// Decodes the `%` escapes of a path or a parameter; `plus_is_space` in the latter.
pub fn decode(text: &str, plus_is_space: bool) -> String {
    let bytes = text.as_bytes();
    let mut decoded = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while let Some(&byte) = bytes.get(at) {
        let escape = (byte == b'%').then(|| text.get(at + 1..at + 3)).flatten();
        match escape.and_then(|digits| u8::from_str_radix(digits, 16).ok()) {
            Some(escaped) => {
                decoded.push(escaped);
                at += 3;
            }
            None => {
                decoded.push(if plus_is_space && byte == b'+' { b' ' } else { byte });
                at += 1;
            }
        }
    }
    String::from_utf8_lossy(&decoded).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http;

    #[tokio::test]
    async fn whole_requests_are_answered_until_the_server_is_dropped() {
        let server = Server::start(async |request: Request<Bytes>| {
            json(StatusCode::OK, &serde_json::json!([request.uri().path(), request.body().len()]))
        })
        .await;
        let address = server.address();
        assert_eq!(http::post(address, "/a", b"hello").await.unwrap().text(), "[\"/a\",5]");
        drop(server);
        crate::process::wait_until("nobody listens", async || http::get(address, "/").await.is_err()).await;
    }

    #[test]
    fn parameters_are_decoded() {
        let expected = [("a b", "c&d+é"), ("x", ""), ("%zz", "%4")].map(|(k, v)| (k.to_owned(), v.to_owned()));
        assert_eq!(parameters("a+b=c%26d%2B%C3%A9&&x&%zz=%4"), expected);
    }
}
