//! A proxy that leads every name to one address: how clients that can't be told where the service is are brought to
//! ours.

use std::collections::BTreeSet;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

/// An HTTP proxy on a loopback port that knows `CONNECT` only, and connects to its one address whatever it is asked for.
/// It ends with its handle.
#[derive(Debug)]
pub struct ConnectProxy {
    address: SocketAddr,
    asked_for: Arc<Mutex<BTreeSet<String>>>,
    serving: JoinHandle<()>,
}

impl ConnectProxy {
    /// Starts it.
    ///
    /// # Errors
    /// When there is no free port.
    pub async fn start(target: SocketAddr) -> io::Result<Self> {
        let listener = TcpListener::bind((std::net::Ipv4Addr::LOCALHOST, 0)).await?;
        let address = listener.local_addr()?;
        let asked_for = Arc::new(Mutex::new(BTreeSet::new()));
        let asked = Arc::clone(&asked_for);
        let serving = tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                // Who comes badly, or goes away, has only itself to blame.
                tokio::spawn(tunnel(client, target, Arc::clone(&asked)));
            }
        });
        Ok(Self { address, asked_for, serving })
    }

    /// `http://127.0.0.1:PORT`, as `HTTPS_PROXY` takes it.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// The hosts that were asked for, with their ports.
    pub fn asked_for(&self) -> BTreeSet<String> {
        self.asked_for.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Drop for ConnectProxy {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

async fn tunnel(client: TcpStream, target: SocketAddr, asked_for: Arc<Mutex<BTreeSet<String>>>) -> io::Result<()> {
    let mut client = BufReader::new(client);
    let mut host = None;
    loop {
        let mut line = String::new();
        if client.read_line(&mut line).await? == 0 {
            return Ok(());
        }
        if let Some(request) = line.strip_prefix("CONNECT ") {
            host = request.split(' ').next().map(str::to_owned);
        }
        if line.trim_end().is_empty() {
            break;
        }
    }
    let Some(host) = host else {
        return client.write_all(b"HTTP/1.1 405 Method Not Allowed\r\ncontent-length: 0\r\n\r\n").await;
    };
    asked_for.lock().unwrap_or_else(PoisonError::into_inner).insert(host);
    let mut server = TcpStream::connect(target).await?;
    // Else each small write waits for the other side's delayed acknowledgement, and what is measured is that.
    server.set_nodelay(true)?;
    client.get_ref().set_nodelay(true)?;
    client.write_all(b"HTTP/1.1 200 Connection established\r\n\r\n").await?;
    copy_bidirectional(&mut client, &mut server).await.map(drop)
}
