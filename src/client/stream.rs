//! The bytes of a connection, counted and bounded beneath the HTTP parser.
//!
//! Owns the byte budgets: the parser itself would swallow interim replies for ever and read a body as fast as it comes.
//! A read beyond the budget is an error, so the parser gives up. Failed writes are not errors here: a receiver may reply
//! and reset before it has read the request, and then the reply, which is still readable, counts.

use std::io;
use std::os::fd::{AsRawFd, RawFd};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;

/// What TLS may add to the plain bytes of an exchange: records, tickets, alerts, and the handshake itself.
const TLS_BYTES_MAX: u64 = 128 << 10;

/// The budgets and counts of one connection. One task at a time touches it; the atomics are for the compiler.
#[derive(Debug, Default)]
pub(super) struct Meter {
    plain_read: AtomicU64,
    plain_left: AtomicU64,
    wire_left: AtomicU64,
    exhausted: AtomicBool,
    write_failed: AtomicBool,
}

impl Meter {
    pub(super) fn for_handshake() -> Arc<Self> {
        Arc::new(Meter { wire_left: TLS_BYTES_MAX.into(), ..Meter::default() })
    }

    /// A reply's head is awaited.
    pub(super) fn begin(&self, head_bytes_max: usize, body_bytes_max: usize) {
        self.plain_read.store(0, Relaxed);
        self.plain_left.store(head_bytes_max as u64, Relaxed);
        self.wire_left.store(head_bytes_max as u64 + body_bytes_max as u64 + TLS_BYTES_MAX, Relaxed);
    }

    /// The head is there: what may still be read is the body.
    pub(super) fn head_is_in(&self, body_bytes_max: usize) {
        self.plain_left.store(body_bytes_max as u64, Relaxed);
    }

    /// Bytes read since [`Meter::begin`], TLS taken off.
    pub(super) fn plain_read(&self) -> u64 {
        self.plain_read.load(Relaxed)
    }

    /// Whether more came than may be read.
    pub(super) fn is_exhausted(&self) -> bool {
        self.exhausted.load(Relaxed)
    }

    /// Whether the other side no longer takes what we write.
    pub(super) fn has_write_failed(&self) -> bool {
        self.write_failed.load(Relaxed)
    }

    fn exhaust(&self) -> io::Error {
        self.exhausted.store(true, Relaxed);
        io::Error::other("the reply is over its byte budget")
    }
}

/// A TCP connection: counts what it reads, forgives failed writes.
pub(super) struct Socket {
    tcp: TcpStream,
    meter: Arc<Meter>,
}

impl Socket {
    pub(super) fn new(tcp: TcpStream, meter: Arc<Meter>) -> Self {
        Socket { tcp, meter }
    }

    fn forgive<T>(&self, result: io::Result<T>, instead: T) -> io::Result<T> {
        Ok(result.unwrap_or_else(|_| {
            self.meter.write_failed.store(true, Relaxed);
            instead
        }))
    }
}

impl AsyncRead for Socket {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let left = self.meter.wire_left.load(Relaxed);
        if left == 0 {
            return Poll::Ready(Err(self.meter.exhaust()));
        }
        let before = buf.filled().len();
        ready!(Pin::new(&mut self.tcp).poll_read(cx, buf))?;
        let read = (buf.filled().len() - before) as u64;
        self.meter.wire_left.store(left.saturating_sub(read), Relaxed);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Socket {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let written = ready!(Pin::new(&mut self.tcp).poll_write(cx, buf));
        Poll::Ready(self.forgive(written, buf.len()))
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = ready!(Pin::new(&mut self.tcp).poll_write_vectored(cx, bufs));
        Poll::Ready(self.forgive(written, bufs.iter().map(|buf| buf.len()).sum()))
    }

    fn is_write_vectored(&self) -> bool {
        self.tcp.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = ready!(Pin::new(&mut self.tcp).poll_flush(cx));
        Poll::Ready(self.forgive(flushed, ()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let shut = ready!(Pin::new(&mut self.tcp).poll_shutdown(cx));
        Poll::Ready(self.forgive(shut, ()))
    }
}

/// A connection as HTTP sees it, plain or TLS, under the plain budget.
pub(super) struct Stream {
    layer: Layer,
    meter: Arc<Meter>,
}

enum Layer {
    Plain(Socket),
    Tls(Box<TlsStream<Socket>>),
}

impl Stream {
    pub(super) fn plain(socket: Socket) -> Self {
        Stream { meter: Arc::clone(&socket.meter), layer: Layer::Plain(socket) }
    }

    pub(super) fn tls(stream: TlsStream<Socket>) -> Self {
        Stream { meter: Arc::clone(&stream.get_ref().0.meter), layer: Layer::Tls(Box::new(stream)) }
    }

    pub(super) fn meter(&self) -> Arc<Meter> {
        Arc::clone(&self.meter)
    }

    /// For a look at what waits unread; valid as long as the stream lives.
    pub(super) fn descriptor(&self) -> RawFd {
        self.tcp().as_raw_fd()
    }

    fn tcp(&self) -> &TcpStream {
        match &self.layer {
            Layer::Plain(socket) => &socket.tcp,
            Layer::Tls(stream) => &stream.get_ref().0.tcp,
        }
    }
}

impl AsyncRead for Stream {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let left = self.meter.plain_left.load(Relaxed);
        if left == 0 {
            return Poll::Ready(Err(self.meter.exhaust()));
        }
        // Straight into the parser's buffer, which nobody has to wipe for that.
        let before = buf.filled().len();
        ready!(match &mut self.layer {
            Layer::Plain(socket) => Pin::new(socket).poll_read(cx, buf),
            Layer::Tls(stream) => Pin::new(stream).poll_read(cx, buf),
        })?;
        let came = buf.filled().len() - before;
        let read = came.min(usize::try_from(left).unwrap_or(usize::MAX));
        if read < came {
            // What goes beyond the budget is lost, so whatever comes after it must not be read as a reply.
            let _ = self.meter.exhaust();
            buf.set_filled(before + read);
        }
        self.meter.plain_left.store(left - read as u64, Relaxed);
        self.meter.plain_read.fetch_add(read as u64, Relaxed);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Stream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        match &mut self.layer {
            Layer::Plain(socket) => Pin::new(socket).poll_write(cx, buf),
            Layer::Tls(stream) => Pin::new(stream).poll_write(cx, buf),
        }
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match &mut self.layer {
            Layer::Plain(socket) => Pin::new(socket).poll_write_vectored(cx, bufs),
            Layer::Tls(stream) => Pin::new(stream).poll_write_vectored(cx, bufs),
        }
    }

    fn is_write_vectored(&self) -> bool {
        match &self.layer {
            Layer::Plain(socket) => socket.is_write_vectored(),
            Layer::Tls(stream) => stream.is_write_vectored(),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.layer {
            Layer::Plain(socket) => Pin::new(socket).poll_flush(cx),
            Layer::Tls(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.layer {
            Layer::Plain(socket) => Pin::new(socket).poll_shutdown(cx),
            Layer::Tls(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}
