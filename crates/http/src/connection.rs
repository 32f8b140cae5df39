//! What a connection is doing, since when, and when that has lasted too long.

use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::Notify;
use tokio::time::{Instant, Sleep, sleep};

/// How long a connection must have waited for its client before it is closed in favour of another.
const EVICT_AFTER: Duration = Duration::from_secs(1);

/// How long the rest of a refused body is read and thrown away, so that the client gets to see the answer. Closing at
/// once would reset the connection, and clients that are still sending would lose the answer.
const LINGER: Duration = Duration::from_secs(2);

/// What a connection waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    /// The client, to begin a request.
    Idle = 0,
    /// The client, to finish the TLS handshake or the head of a request.
    Head = 1,
    /// Us, or the body, whose time is limited elsewhere.
    Busy = 2,
}

/// What the server wants of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Order {
    /// Nothing new.
    Serve,
    /// Answer what has begun, then close.
    Finish,
    /// Make room for another.
    Close,
}

/// One connection, as the rest of the server sees it.
#[derive(Debug)]
pub(crate) struct Activity {
    epoch: Instant,
    /// Milliseconds since `epoch`, shifted left by two, and the [`Phase`]: one word, so that both change together.
    since_and_phase: AtomicU64,
    order: Mutex<Order>,
    changed: Notify,
    /// A request was answered before its body was read.
    unread: AtomicBool,
}

/// How long phases may last.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Patience {
    pub(crate) head: Duration,
    pub(crate) idle: Duration,
}

impl Activity {
    pub(crate) fn new(epoch: Instant) -> Self {
        let this = Self {
            epoch,
            since_and_phase: AtomicU64::new(0),
            order: Mutex::new(Order::Serve),
            changed: Notify::new(),
            unread: AtomicBool::new(false),
        };
        this.enter(Phase::Head);
        this
    }

    /// A phase begins now.
    pub(crate) fn enter(&self, phase: Phase) {
        // Milliseconds of many thousand years fit into 62 bits.
        let since = u64::try_from(self.epoch.elapsed().as_millis()).unwrap_or(u64::MAX >> 2);
        self.since_and_phase.store(since << 2 | phase as u64, Ordering::Relaxed);
    }

    fn phase(&self) -> (Phase, Instant) {
        let word = self.since_and_phase.load(Ordering::Relaxed);
        let phase = match word & 3 {
            0 => Phase::Idle,
            1 => Phase::Head,
            _ => Phase::Busy,
        };
        (phase, self.epoch + Duration::from_millis(word >> 2))
    }

    /// When the client has had its time; none while it isn't the client that is waited for.
    pub(crate) fn deadline(&self, patience: Patience) -> Option<Instant> {
        match self.phase() {
            (Phase::Idle, since) => Some(since + patience.idle),
            (Phase::Head, since) => Some(since + patience.head),
            (Phase::Busy, _) => None,
        }
    }

    pub(crate) fn leave_body_unread(&self) {
        self.unread.store(true, Ordering::Relaxed);
    }

    fn set_order(&self, order: Order) {
        *self.order.lock().unwrap_or_else(PoisonError::into_inner) = order;
        self.changed.notify_one();
    }

    /// Waits until the server wants something else.
    pub(crate) async fn next_order(&self) -> Order {
        self.changed.notified().await;
        *self.order.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// All open connections.
#[derive(Debug, Default)]
pub(crate) struct Connections {
    open: Mutex<Vec<Arc<Activity>>>,
}

impl Connections {
    /// Adds a connection if there are fewer than `most`, or if one that waits for its client can be closed instead.
    pub(crate) fn admit(&self, activity: &Arc<Activity>, most: usize) -> Admission {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let admission = match open.len() < most {
            true => Admission::Free,
            false if evict(&mut open) => Admission::InsteadOfAnother,
            false => return Admission::Full,
        };
        open.push(Arc::clone(activity));
        admission
    }

    /// Closes the connection that has waited longest for its client; false when none has waited long enough.
    pub(crate) fn evict(&self) -> bool {
        evict(&mut self.open.lock().unwrap_or_else(PoisonError::into_inner))
    }

    pub(crate) fn remove(&self, activity: &Arc<Activity>) {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(position) = open.iter().position(|other| Arc::ptr_eq(other, activity)) {
            open.swap_remove(position);
        }
    }

    /// Tells all connections to end once they have answered what has begun.
    pub(crate) fn finish(&self) {
        for activity in self.open.lock().unwrap_or_else(PoisonError::into_inner).iter() {
            activity.set_order(Order::Finish);
        }
    }
}

fn evict(open: &mut Vec<Arc<Activity>>) -> bool {
    let waiting = open.iter().enumerate().filter_map(|(position, activity)| match activity.phase() {
        (Phase::Busy, _) => None,
        (Phase::Idle | Phase::Head, since) => Some((since, position)),
    });
    match waiting.min() {
        Some((since, position)) if since.elapsed() >= EVICT_AFTER => {
            open.swap_remove(position).set_order(Order::Close);
            true
        }
        _ => false,
    }
}

/// Whether there is room for a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Admission {
    /// There is.
    Free,
    /// There is, now that another one is closed.
    InsteadOfAnother,
    /// All others are being served.
    Full,
}

/// A stream that notes when a request begins, and that lingers where a body was left unread.
#[derive(Debug)]
pub(crate) struct Watched<S> {
    stream: S,
    activity: Arc<Activity>,
    lingering: Option<Pin<Box<Sleep>>>,
}

impl<S> Watched<S> {
    pub(crate) fn new(stream: S, activity: Arc<Activity>) -> Self {
        Self { stream, activity, lingering: None }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Watched<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        ready!(Pin::new(&mut self.stream).poll_read(cx, buffer))?;
        if buffer.filled().len() > before && self.activity.phase().0 == Phase::Idle {
            self.activity.enter(Phase::Head);
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Watched<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        pieces: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, pieces)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.lingering.is_none() {
            ready!(Pin::new(&mut self.stream).poll_shutdown(cx))?;
            if !self.activity.unread.load(Ordering::Relaxed) {
                return Poll::Ready(Ok(()));
            }
            // From here on the client isn't waited for any longer than this.
            self.activity.enter(Phase::Busy);
            self.lingering = Some(Box::pin(sleep(LINGER)));
        }
        let this = &mut *self;
        let mut discarded = [0; 16 << 10];
        loop {
            let is_over = this.lingering.as_mut().is_none_or(|end| end.as_mut().poll(cx).is_ready());
            let mut buffer = ReadBuf::new(&mut discarded);
            // Errors end it as well: there is nobody left to read the answer.
            match Pin::new(&mut this.stream).poll_read(cx, &mut buffer) {
                Poll::Ready(Ok(())) if !buffer.filled().is_empty() && !is_over => {}
                Poll::Pending if !is_over => return Poll::Pending,
                _ => return Poll::Ready(Ok(())),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn when_all_places_are_taken_the_one_that_waits_longest_goes() {
        let connections = Connections::default();
        let epoch = Instant::now();
        let open = || Arc::new(Activity::new(epoch));
        let (busy, idle, idler, fresh) = (open(), open(), open(), open());
        for activity in [&busy, &idle, &idler] {
            assert_eq!(connections.admit(activity, 3), Admission::Free);
        }
        busy.enter(Phase::Busy);
        tokio::time::advance(Duration::from_millis(500)).await;
        idle.enter(Phase::Idle);
        assert_eq!(connections.admit(&fresh, 3), Admission::Full, "nobody has waited for long enough");
        tokio::time::advance(Duration::from_millis(600)).await;
        assert_eq!(connections.admit(&fresh, 3), Admission::InsteadOfAnother);
        assert_eq!(idler.next_order().await, Order::Close);
        let left = || connections.open.lock().unwrap().len();
        assert_eq!(left(), 3);
        connections.remove(&idler);
        assert_eq!(left(), 3, "it had left already");
        connections.remove(&fresh);
        assert_eq!(left(), 2);
    }
}
