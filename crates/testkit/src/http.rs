//! A small HTTP/1.1 client for tests: whole requests, and raw bytes for what no proper client would send.

use std::io;
use std::net::SocketAddr;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// Answers that tests look at are far smaller than this.
const MAXIMUM_ANSWER: usize = 256 << 20;

/// An answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Response {
    /// The status, such as 200.
    pub status: u16,
    /// The headers as they came; names in lower case.
    pub headers: Vec<(String, String)>,
    /// The body, without the framing of chunks.
    pub body: Vec<u8>,
}

impl Response {
    /// The first header of that name, given in lower case.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(present, _)| present == name).map(|(_, value)| value.as_str())
    }

    /// The body as text, with what is not UTF-8 replaced.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

/// A connection, which is kept for as many requests as the server allows.
#[derive(Debug)]
pub struct Connection {
    stream: TcpStream,
    address: SocketAddr,
    /// Bytes that were read and not used yet.
    ahead: Vec<u8>,
}

impl Connection {
    /// Connects.
    ///
    /// # Errors
    /// As the operating system gives them.
    pub async fn open(address: SocketAddr) -> io::Result<Self> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        Ok(Self { stream, address, ahead: Vec::new() })
    }

    /// Sends bytes as they are.
    ///
    /// # Errors
    /// As the operating system gives them.
    pub async fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.write_all(bytes).await
    }

    /// Sends a request and reads the answer. `Host` is added, and `Content-Length` where there is a body.
    ///
    /// # Errors
    /// As the operating system gives them; `InvalidData` for an answer that is no HTTP.
    pub async fn request(
        &mut self,
        method: &str,
        target: &str,
        headers: &[(&str, &str)],
        body: &[u8],
    ) -> io::Result<Response> {
        let mut request = self.head(method, target, headers);
        if !body.is_empty() || method != "GET" {
            request.extend_from_slice(format!("Content-Length: {}\r\n", body.len()).as_bytes());
        }
        request.extend_from_slice(b"\r\n");
        request.extend_from_slice(body);
        self.send(&request).await?;
        self.response().await
    }

    /// Sends a request whose body goes in chunks, and reads the answer.
    ///
    /// # Errors
    /// As [`Connection::request`].
    pub async fn request_in_chunks(
        &mut self,
        method: &str,
        target: &str,
        headers: &[(&str, &str)],
        chunks: &[&[u8]],
    ) -> io::Result<Response> {
        let mut request = self.head(method, target, headers);
        request.extend_from_slice(b"Transfer-Encoding: chunked\r\n\r\n");
        // An empty chunk would end the body.
        for chunk in chunks.iter().filter(|chunk| !chunk.is_empty()) {
            request.extend_from_slice(format!("{:x}\r\n", chunk.len()).as_bytes());
            request.extend_from_slice(chunk);
            request.extend_from_slice(b"\r\n");
        }
        request.extend_from_slice(b"0\r\n\r\n");
        self.send(&request).await?;
        self.response().await
    }

    fn head(&self, method: &str, target: &str, headers: &[(&str, &str)]) -> Vec<u8> {
        let mut head = format!("{method} {target} HTTP/1.1\r\nHost: {}\r\n", self.address);
        for (name, value) in headers {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        head.into_bytes()
    }

    /// Reads an answer; interim ones (100 to 199) are passed over.
    ///
    /// # Errors
    /// As [`Connection::request`]; `UnexpectedEof` when the server closes before the answer is complete.
    pub async fn response(&mut self) -> io::Result<Response> {
        loop {
            let mut response = self.response_head().await?;
            if (100..200).contains(&response.status) {
                continue;
            }
            let length = response.header("content-length").map(str::parse::<usize>).transpose();
            response.body = if response.header("transfer-encoding").is_some_and(|value| value.ends_with("chunked")) {
                self.chunks().await?
            } else if matches!(response.status, 204 | 304) {
                Vec::new()
            } else {
                match length.map_err(|_| invalid("Content-Length is no number"))? {
                    Some(length) => self.exactly(length).await?,
                    None => self.until_closed().await?,
                }
            };
            return Ok(response);
        }
    }

    async fn response_head(&mut self) -> io::Result<Response> {
        let line = self.line().await?;
        let status = line
            .strip_prefix("HTTP/1.")
            .and_then(|rest| rest.split(' ').nth(1)?.parse().ok())
            .ok_or_else(|| invalid(&format!("{line:?} is no status line")))?;
        let mut headers = Vec::new();
        loop {
            let line = self.line().await?;
            if line.is_empty() {
                return Ok(Response { status, headers, body: Vec::new() });
            }
            let (name, value) = line.split_once(':').ok_or_else(|| invalid(&format!("{line:?} is no header")))?;
            headers.push((name.to_ascii_lowercase(), value.trim().to_owned()));
        }
    }

    async fn chunks(&mut self) -> io::Result<Vec<u8>> {
        let mut body = Vec::new();
        loop {
            let line = self.line().await?;
            let size = line.split(';').next().unwrap_or_default().trim();
            let size = usize::from_str_radix(size, 16).map_err(|_| invalid(&format!("{line:?} is no chunk size")))?;
            if size == 0 {
                while !self.line().await?.is_empty() {}
                return Ok(body);
            }
            body.extend_from_slice(&self.exactly(size).await?);
            if body.len() > MAXIMUM_ANSWER {
                return Err(invalid("the answer is too large"));
            }
            self.line().await?;
        }
    }

    /// A line without its end.
    async fn line(&mut self) -> io::Result<String> {
        loop {
            if let Some(end) = self.ahead.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = self.ahead.drain(..=end).collect();
                return Ok(String::from_utf8_lossy(&line).trim_end().to_owned());
            }
            if self.ahead.len() > 64 * 1024 {
                return Err(invalid("a line of the answer is too long"));
            }
            if self.read().await? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
    }

    async fn exactly(&mut self, length: usize) -> io::Result<Vec<u8>> {
        if length > MAXIMUM_ANSWER {
            return Err(invalid("the answer is too large"));
        }
        while self.ahead.len() < length {
            if self.read().await? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
        Ok(self.ahead.drain(..length).collect())
    }

    async fn until_closed(&mut self) -> io::Result<Vec<u8>> {
        while self.read().await? > 0 {
            if self.ahead.len() > MAXIMUM_ANSWER {
                return Err(invalid("the answer is too large"));
            }
        }
        Ok(std::mem::take(&mut self.ahead))
    }

    async fn read(&mut self) -> io::Result<usize> {
        self.stream.read_buf(&mut self.ahead).await
    }
}

fn invalid(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

/// `GET` on a connection of its own.
///
/// # Errors
/// As [`Connection::request`].
pub async fn get(address: SocketAddr, target: &str) -> io::Result<Response> {
    Connection::open(address).await?.request("GET", target, &[("Connection", "close")], b"").await
}

/// `POST` of JSON on a connection of its own.
///
/// # Errors
/// As [`Connection::request`].
pub async fn post(address: SocketAddr, target: &str, body: &[u8]) -> io::Result<Response> {
    let headers = [("Content-Type", "application/json"), ("Connection", "close")];
    Connection::open(address).await?.request("POST", target, &headers, body).await
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::net::TcpListener;

    /// Answers each connection's bytes, once something has come, with what is given.
    async fn answers(with: &'static str) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let mut request = [0; 4096];
                let _ = stream.read(&mut request).await;
                let _ = stream.write_all(with.as_bytes()).await;
            }
        });
        address
    }

    #[tokio::test]
    async fn all_framings_of_a_body_are_read() {
        for answer in [
            "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nX-A: b\r\n\r\nhello",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nx-a: b\r\n\r\n2;x=y\r\nhe\r\n3\r\nllo\r\n0\r\n\r\n",
            "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nX-a:b\r\n\r\nhello",
        ] {
            let response = post(answers(answer).await, "/", b"{}").await.unwrap();
            assert_eq!((response.status, response.text().as_str()), (200, "hello"), "{answer}");
            assert_eq!(response.header("x-a"), Some("b"));
        }
    }

    #[tokio::test]
    async fn an_answer_that_is_cut_off_is_an_error() {
        let cut = answers("HTTP/1.1 200 OK\r\nContent-Length: 50\r\n\r\nhello").await;
        assert_eq!(get(cut, "/").await.unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
        let nonsense = answers("hello\r\n\r\n").await;
        assert_eq!(get(nonsense, "/").await.unwrap_err().kind(), io::ErrorKind::InvalidData);
    }
}
