//! Receivers that take everything: what they cost is not measured, and they answer as the real ones do.

use std::convert::Infallible;
use std::net::SocketAddr;

use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper::header::{CONTENT_TYPE, HeaderValue};
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use tokio::io::AsyncReadExt;
use tokio::net::TcpListener;
use tokio::runtime::Runtime;

/// An HTTP and a syslog receiver on a thread of their own.
pub(crate) struct Receivers {
    /// Where HTTP is spoken.
    pub(crate) http: SocketAddr,
    /// Where syslog is spoken, over TCP.
    pub(crate) syslog: SocketAddr,
    /// They end with it.
    _runtime: Runtime,
}

impl Receivers {
    pub(crate) fn start() -> Result<Self, String> {
        let text = |error: std::io::Error| error.to_string();
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
        let runtime = runtime.map_err(text)?;
        let listen = || runtime.block_on(TcpListener::bind("127.0.0.1:0")).map_err(text);
        let (http, syslog) = (listen()?, listen()?);
        let addresses = (http.local_addr().map_err(text)?, syslog.local_addr().map_err(text)?);
        runtime.spawn(serve_http(http));
        runtime.spawn(serve_syslog(syslog));
        Ok(Self { http: addresses.0, syslog: addresses.1, _runtime: runtime })
    }
}

async fn serve_http(listener: TcpListener) {
    while let Ok((stream, _)) = listener.accept().await {
        let connection = hyper::server::conn::http1::Builder::new();
        // A sender that goes away is no matter here.
        tokio::spawn(async move { connection.serve_connection(TokioIo::new(stream), service_fn(answer)).await });
    }
}

async fn answer(request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
    let path = request.uri().path().to_owned();
    let mut lines = 0;
    let mut body = request.into_body();
    while let Some(Ok(frame)) = body.frame().await {
        if let (true, Some(data)) = (path.ends_with("_bulk"), frame.data_ref()) {
            lines += data.iter().filter(|byte| **byte == b'\n').count();
        }
    }
    let text = if path.ends_with("_bulk") {
        // An action and a document are a line each.
        let items = vec![r#"{"create":{"status":201}}"#; lines / 2].join(",");
        format!(r#"{{"took":1,"errors":false,"items":[{items}]}}"#)
    } else if path.starts_with("/services/collector") {
        r#"{"text":"Success","code":0}"#.to_owned()
    } else {
        "{}".to_owned()
    };
    let mut response = Response::new(Full::new(Bytes::from(text)));
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    Ok(response)
}

/// Reads each connection to its end, and closes it then.
async fn serve_syslog(listener: TcpListener) {
    while let Ok((mut stream, _)) = listener.accept().await {
        tokio::spawn(async move {
            let mut buffer = vec![0; 1 << 20];
            while stream.read(&mut buffer).await.is_ok_and(|read| read > 0) {}
        });
    }
}
