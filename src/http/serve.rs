//! Serving: connections from a listener, requests from a connection, each within its bounds.
//!
//! A [`Server`] is settings and a [`Handler`]. It serves whole listeners ([`Server::run`]) and single connections that
//! somebody else accepted ([`Server::serve_connection`], for the ingest socket, which looks at the first byte before it
//! decides what the connection speaks).
//!
//! Bounds, and what happens at each:
//!
//! | bound | at the bound |
//! | --- | --- |
//! | [`Settings::connections_max`] | no further one is accepted until one ends; the kernel's backlog keeps them waiting |
//! | [`Settings::head_bytes_max`], [`Settings::headers_max`] | 431, connection closed |
//! | [`Settings::timeout_head`] | the connection is closed without a word, idle or not |
//! | [`Settings::timeout_body`] | 408 |
//! | a handler's body limit | 413 |
//! | [`Settings::timeout_write`] | the connection is closed |
//! | [`Settings::streams_max`] | 503 for the next one |
//! | [`Settings::timeout_handshake`] | the connection is closed |
//! | [`Settings::drain`] | what still runs after a shutdown began is cut |
//!
//! A shutdown ends streams at once: they have no end of their own. They are bounded by [`Settings::timeout_write`] as all
//! answers are; in memory by being made only as fast as they are taken (see [`super::response::Stream`]).
//!
//! A listener has a server of its own, so that a flood on one does not lock out the other. A head that is not HTTP at all, and
//! one without exactly one Host (RFC 9112, 3.2), is a 400. A handler that panics is answered for with a 500; neither the
//! connection nor the daemon goes down with it.

use std::any::Any;
use std::convert::Infallible;
use std::future::{Future, poll_fn};
use std::io;
use std::net::SocketAddr;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use http::header::{EXPECT, HOST};
use http::{Method, StatusCode, Version};
use http_body_util::BodyExt;
use hyper::body::{Body as _, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::{Instant, Sleep, timeout};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tracing::{debug, error, warn};

use super::problem::{Problem, ProblemCode};
use super::request::{BodySlot, Peer, Request, Unread};
use super::response::{Response, Running, StreamMark, Written};
use super::unread::InWords;
use crate::model::event;

/// The bounds of a server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// Connections at once per [`Server::run`]'s server; default 256.
    pub connections_max: usize,
    /// Answers without an end that are given at once, of those connections; default 32. A connection gives one at a time.
    pub streams_max: usize,
    /// A request's head in bytes, request line included; default 32 KiB, at least 8 KiB.
    pub head_bytes_max: usize,
    /// Headers in a request; default 100.
    pub headers_max: usize,
    /// From the start of the connection, or from the end of the last answer, until a whole head is there: also how long
    /// an idle connection is kept. Default 60 s.
    pub timeout_head: Duration,
    /// From the end of the head until the whole body is there; default 30 s.
    pub timeout_body: Duration,
    /// How long a client may take not a single byte of an answer; default 30 s.
    pub timeout_write: Duration,
    /// A TLS handshake; default 10 s.
    pub timeout_handshake: Duration,
    /// How long running requests may go on after a shutdown began; default 10 s.
    pub drain: Duration,
    /// What stands in each request's id before its number: chosen at random at start, so that ids of two runs differ.
    pub request_id_prefix: String,
}

impl Default for Settings {
    fn default() -> Self {
        Settings {
            connections_max: 256,
            streams_max: 32,
            head_bytes_max: HEAD_BYTES_DEFAULT,
            headers_max: 100,
            timeout_head: Duration::from_secs(60),
            timeout_body: Duration::from_secs(30),
            timeout_write: Duration::from_secs(30),
            timeout_handshake: Duration::from_secs(10),
            drain: Duration::from_secs(10),
            request_id_prefix: "0".to_owned(),
        }
    }
}

const HEAD_BYTES_DEFAULT: usize = 32 * 1024;
/// The parser's own lower bound.
const HEAD_BYTES_MIN: usize = 8 * 1024;
/// How much of a body that nobody wanted is read away, so that the client gets to read the answer.
const DISCARD_BYTES_MAX: u64 = 4 * 1024 * 1024;
/// How long that may take.
const DISCARD_TIMEOUT: Duration = Duration::from_secs(2);
/// How long a client may take to see that its stream has ended with the server; nothing but the end of it is left to write.
const STREAM_END_TIMEOUT: Duration = Duration::from_secs(1);
/// How long a listener rests after an accept that failed (no descriptors left, most likely).
const ACCEPT_REST: Duration = Duration::from_millis(100);

/// An answer in the making.
pub type Answer = Pin<Box<dyn Future<Output = Result<Response, Problem>> + Send>>;

/// What answers requests.
pub trait Handler: Send + Sync + 'static {
    /// The answer to this request, or the problem with it.
    fn answer(&self, request: Request) -> Answer;
}

impl<F, Fut> Handler for F
where
    F: Fn(Request) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Result<Response, Problem>> + Send + 'static,
{
    fn answer(&self, request: Request) -> Answer {
        Box::pin(self(request))
    }
}

/// Where connections come from.
pub enum Listener {
    /// A Unix socket.
    Unix(UnixListener),
    /// Plain TCP.
    Tcp(TcpListener),
    /// TCP with TLS; see [`super::tls::acceptor`].
    Tls(TcpListener, TlsAcceptor),
}

enum Accepted {
    Unix(UnixStream),
    Tcp(TcpStream, SocketAddr),
    Tls(TcpStream, SocketAddr, TlsAcceptor),
}

impl Listener {
    async fn accept(&self) -> io::Result<Accepted> {
        match self {
            Listener::Unix(listener) => listener.accept().await.map(|(stream, _)| Accepted::Unix(stream)),
            Listener::Tcp(listener) => listener.accept().await.map(|(stream, from)| Accepted::Tcp(stream, from)),
            Listener::Tls(listener, acceptor) => {
                listener.accept().await.map(|(stream, from)| Accepted::Tls(stream, from, acceptor.clone()))
            }
        }
    }
}

/// Who the kernel says is at the other end of a Unix stream.
pub fn unix_peer(stream: &UnixStream) -> io::Result<Peer> {
    let credentials = stream.peer_cred()?;
    Ok(Peer::Unix(event::Peer { uid: credentials.uid(), gid: credentials.gid(), pid: credentials.pid() }))
}

/// A server: bounds, and what answers. Clones share both, the count of connections and the numbering of requests.
#[derive(Clone)]
pub struct Server(Arc<Inner>);

struct Inner {
    settings: Settings,
    handler: Box<dyn Handler>,
    slots: Arc<Semaphore>,
    streams: Arc<Semaphore>,
    requests: AtomicU64,
}

impl Server {
    /// A server with these bounds that answers with this handler.
    pub fn new(settings: Settings, handler: impl Handler) -> Self {
        let slots = Arc::new(Semaphore::new(settings.connections_max.clamp(1, Semaphore::MAX_PERMITS)));
        let streams = Arc::new(Semaphore::new(settings.streams_max.min(Semaphore::MAX_PERMITS)));
        Server(Arc::new(Inner { settings, handler: Box::new(handler), slots, streams, requests: AtomicU64::new(1) }))
    }

    /// Serves what comes to `listener` until `shutdown`, then closes it and lets running requests end, for
    /// [`Settings::drain`] at most. Returns when the last connection has ended.
    pub async fn run(&self, listener: Listener, shutdown: CancellationToken) {
        let mut connections = JoinSet::new();
        loop {
            let next = async {
                let slot = self.0.slots.clone().acquire_owned().await.expect("nobody closes the semaphore");
                (slot, listener.accept().await)
            };
            tokio::select! {
                biased;
                () = shutdown.cancelled() => break,
                Some(ended) = connections.join_next(), if !connections.is_empty() => report(ended),
                (slot, accepted) = next => match accepted {
                    Ok(accepted) => {
                        let (server, shutdown) = (self.clone(), shutdown.clone());
                        connections.spawn(async move {
                            server.serve_accepted(accepted, shutdown).await;
                            drop(slot);
                        });
                    }
                    Err(cause) => {
                        warn!(event = "accept_failed", %cause);
                        tokio::time::sleep(ACCEPT_REST).await;
                    }
                },
            }
        }
        drop(listener);
        let all_ended = async {
            while let Some(ended) = connections.join_next().await {
                report(ended);
            }
        };
        if timeout(self.0.settings.drain, all_ended).await.is_err() {
            warn!(event = "connections_cut", count = connections.len());
            connections.shutdown().await;
        }
    }

    async fn serve_accepted(&self, accepted: Accepted, shutdown: CancellationToken) {
        match accepted {
            Accepted::Unix(stream) => match unix_peer(&stream) {
                Ok(peer) => self.serve_connection(stream, peer, shutdown).await,
                Err(cause) => debug!(event = "connection_failed", %cause),
            },
            Accepted::Tcp(stream, from) => {
                // Answers are small and written whole: waiting for more only delays them. A socket that refuses is served all the same.
                let _ = stream.set_nodelay(true);
                self.serve_connection(stream, Peer::Tcp(from), shutdown).await;
            }
            Accepted::Tls(stream, from, acceptor) => {
                let _ = stream.set_nodelay(true);
                match timeout(self.0.settings.timeout_handshake, acceptor.accept(stream)).await {
                    Ok(Ok(stream)) => self.serve_connection(stream, Peer::Tcp(from), shutdown).await,
                    Ok(Err(cause)) => debug!(event = "handshake_failed", %from, %cause),
                    Err(_) => debug!(event = "handshake_timed_out", %from),
                }
            }
        }
    }

    /// Serves one connection to its end; after `shutdown` the running request is answered and no further one is read.
    ///
    /// It does not count against [`Settings::connections_max`], and nobody cuts it after [`Settings::drain`]: whoever accepted it bounds that.
    /// A client that closes its sending half still gets its answers, but for those without an end: whoever has left can be told
    /// from whoever only asks no more by nothing else, and would keep its place among the streams.
    pub async fn serve_connection<S>(&self, io: S, peer: Peer, shutdown: CancellationToken)
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let settings = &self.0.settings;
        let head_bytes_max = settings.head_bytes_max.max(HEAD_BYTES_MIN);
        let mut builder = http1::Builder::new();
        builder
            .timer(TokioTimer::new())
            .header_read_timeout(settings.timeout_head)
            .max_headers(settings.headers_max)
            .max_header_size(head_bytes_max)
            .max_buf_size(head_bytes_max)
            .half_close(true);
        let mark = StreamMark::default();
        let service = service_fn(|request| self.answer(request, peer, &mark, &shutdown));
        let io = Impatient::new(Attentive::new(io, mark.clone()), settings.timeout_write);
        let io = InWords::new(io, |status| self.unread(status));
        let io = TokioIo::new(io);
        let mut connection = pin!(builder.serve_connection(io, service));
        let served = tokio::select! {
            biased;
            // First, so that a stream is seen to run before it learns of its end.
            () = shutdown.cancelled() => {
                connection.as_mut().graceful_shutdown();
                match mark.is_set() {
                    false => connection.await,
                    true => timeout(STREAM_END_TIMEOUT, connection).await.unwrap_or(Ok(())),
                }
            }
            served = connection.as_mut() => served,
        };
        if let Err(cause) = served {
            // Clients that vanish, stall or speak another protocol: theirs to know, ours to survive.
            debug!(event = "connection_failed", %cause);
        }
    }

    fn next_id(&self) -> String {
        let number = self.0.requests.fetch_add(1, Ordering::Relaxed);
        format!("req_{}_{number}", self.0.settings.request_id_prefix)
    }

    /// The answer to a head that could not be read, in the place of the parser's own with this status.
    fn unread(&self, status: StatusCode) -> Option<(Response, String)> {
        let settings = &self.0.settings;
        let problem = match status {
            StatusCode::BAD_REQUEST => {
                let detail = "the request line or a header is not HTTP/1.1; does the client speak TLS here?";
                Problem::new(ProblemCode::BadRequest, detail)
            }
            StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE => {
                let (bytes, headers) = (settings.head_bytes_max.max(HEAD_BYTES_MIN), settings.headers_max);
                let detail =
                    format!("the path, the query and the headers have {bytes} bytes and {headers} headers at most");
                Problem::new(ProblemCode::HeadTooLarge, detail)
            }
            _ => return None,
        };
        let id = self.next_id();
        debug!(event = "head_refused", request_id = id, status = status.as_u16());
        Some((problem.into_response(&id), id))
    }

    async fn answer(
        &self,
        request: http::Request<Incoming>,
        peer: Peer,
        mark: &StreamMark,
        shutdown: &CancellationToken,
    ) -> Result<http::Response<Written>, Infallible> {
        let inner = &self.0;
        let id = self.next_id();
        let (head, incoming) = request.into_parts();
        let (method, path) = (head.method.clone(), head.uri.path().to_owned());
        let expects = head.headers.contains_key(EXPECT);
        let is_hosted = head.version != Version::HTTP_11 || head.headers.get_all(HOST).iter().count() == 1;
        let body = BodySlot::new(incoming);
        let started = Instant::now();
        let deadline = started + inner.settings.timeout_body;
        let request = Request::from_wire(head, body.clone(), deadline, peer, id.clone());
        let answer = match is_hosted {
            false => Ok(Err(Problem::new(ProblemCode::BadRequest, "an HTTP/1.1 request has one Host header"))),
            true => caught(|| inner.handler.answer(request)).await,
        };
        let answer = match answer {
            Ok(answer) => answer,
            Err(_) => {
                // The panic's own text went to stderr through the hook; here it is tied to its request.
                error!(event = "handler_panicked", request_id = id, %method, path);
                Err(Problem::new(ProblemCode::Internal, "the request met a fault in this program; its log says more"))
            }
        };
        if let Some(unread) = body.take() {
            discard(unread, expects).await;
        }
        let mut running = None;
        let answer = answer.and_then(|response| {
            if response.is_stream() && method != Method::HEAD {
                let place = Arc::clone(&inner.streams).try_acquire_owned().map_err(|_| too_many(&inner.settings))?;
                running = Some(Running { place, mark: mark.clone(), shutdown: shutdown.clone() });
            }
            Ok(response)
        });
        let (response, code) = match answer {
            Ok(response) => (response, None),
            Err(problem) => {
                let code = problem.code();
                (problem.into_response(&id), Some(code.as_str()))
            }
        };
        let status = response.status().as_u16();
        debug!(event = "answered", request_id = id, %method, path, status, code, elapsed = ?started.elapsed());
        Ok(response.into_hyper(&method, &id, running))
    }
}

fn too_many(settings: &Settings) -> Problem {
    let detail = format!("{} streams are open here, which is as many as may be; close one", settings.streams_max);
    Problem::new(ProblemCode::TooManyStreams, detail)
}

fn report(ended: Result<(), tokio::task::JoinError>) {
    if let Err(cause) = ended
        && cause.is_panic()
    {
        error!(event = "connection_panicked", %cause);
    }
}

/// Reads away what a handler left of a body, within bounds: a connection that is closed with bytes unread is reset, and
/// the client may never see why it was refused. A client that waits for `100 Continue` has sent nothing yet and need not.
async fn discard(unread: Unread, expects: bool) {
    let Unread { mut incoming, begun } = unread;
    if incoming.is_end_stream() || (expects && !begun) || incoming.size_hint().lower() > DISCARD_BYTES_MAX {
        return;
    }
    let read_away = async {
        let mut left = DISCARD_BYTES_MAX;
        while let Some(Ok(frame)) = incoming.frame().await {
            let length = frame.data_ref().map_or(0, |data| data.len() as u64);
            match left.checked_sub(length) {
                Some(rest) => left = rest,
                None => break,
            }
        }
    };
    // Whether it came to its end decides only whether the connection can be kept, and hyper sees that by itself.
    let _ = timeout(DISCARD_TIMEOUT, read_away).await;
}

/// Runs what `make` makes, and turns a panic in either into an error.
///
/// Nothing that the panicking future held is looked at again: it is dropped here, and what it shares with others is
/// guarded by its own locks.
async fn caught(make: impl FnOnce() -> Answer) -> Result<Result<Response, Problem>, Box<dyn Any + Send>> {
    let mut answer = catch_unwind(AssertUnwindSafe(make))?;
    poll_fn(|context| match catch_unwind(AssertUnwindSafe(|| answer.as_mut().poll(context))) {
        Ok(Poll::Ready(answer)) => Poll::Ready(Ok(answer)),
        Ok(Poll::Pending) => Poll::Pending,
        Err(panic) => Poll::Ready(Err(panic)),
    })
    .await
}

/// A stream that gives up writing when its peer takes nothing for a while.
///
/// hyper has deadlines for what it reads, none for what it writes: without this a client that never reads its answer
/// would hold a connection for good.
struct Impatient<S> {
    inner: S,
    patience: Duration,
    /// Runs while a write waits for the peer.
    stalled: Option<Pin<Box<Sleep>>>,
}

impl<S> Impatient<S> {
    fn new(inner: S, patience: Duration) -> Self {
        Impatient { inner, patience, stalled: None }
    }

    /// What a write came to, or the end of patience.
    fn weigh<T>(&mut self, written: Poll<io::Result<T>>, context: &mut Context<'_>) -> Poll<io::Result<T>> {
        if written.is_ready() {
            self.stalled = None;
            return written;
        }
        let patience = self.patience;
        let stalled = self.stalled.get_or_insert_with(|| Box::pin(tokio::time::sleep(patience)));
        ready!(stalled.as_mut().poll(context));
        Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, "the peer takes nothing")))
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Impatient<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_read(context, buffer)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Impatient<S> {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.inner).poll_write(context, bytes);
        self.weigh(written, context)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = Pin::new(&mut self.inner).poll_flush(context);
        self.weigh(flushed, context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let shut = Pin::new(&mut self.inner).poll_shutdown(context);
        self.weigh(shut, context)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.inner).poll_write_vectored(context, slices);
        self.weigh(written, context)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }
}

/// A stream that looks for its peer's end while an answer without an end is given.
///
/// hyper does not read then, since it lets clients close their sending half, and who has gone would be found out by the second
/// write after that. What is read on this occasion is the first byte of the next request, after which there is nothing to look for.
struct Attentive<S> {
    inner: S,
    mark: StreamMark,
    ahead: Option<u8>,
}

impl<S: AsyncRead + Unpin> Attentive<S> {
    fn new(inner: S, mark: StreamMark) -> Self {
        Attentive { inner, mark, ahead: None }
    }

    /// An error when the peer has gone; wakes the task of this context when it goes.
    fn look(&mut self, context: &mut Context<'_>) -> io::Result<()> {
        if self.ahead.is_some() || !self.mark.is_set() {
            return Ok(());
        }
        let mut byte = [0];
        let mut buffer = ReadBuf::new(&mut byte);
        match Pin::new(&mut self.inner).poll_read(context, &mut buffer) {
            Poll::Pending => Ok(()),
            Poll::Ready(Ok(())) => {
                self.ahead = buffer.filled().first().copied();
                let gone = || io::Error::new(io::ErrorKind::ConnectionAborted, "the peer has left its stream");
                self.ahead.map(drop).ok_or_else(gone)
            }
            Poll::Ready(Err(error)) => Err(error),
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Attentive<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.ahead.filter(|_| buffer.remaining() > 0) {
            Some(byte) => {
                self.ahead = None;
                buffer.put_slice(&[byte]);
                Poll::Ready(Ok(()))
            }
            None => Pin::new(&mut self.inner).poll_read(context, buffer),
        }
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Attentive<S> {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write(context, bytes)
    }

    /// hyper flushes whenever its task has been woken.
    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.look(context)?;
        Pin::new(&mut self.inner).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(context)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write_vectored(context, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }
}

#[cfg(test)]
mod tests {
    use super::super::response::Pieces;
    use super::*;
    use bytes::Bytes;
    use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};

    const LIMIT: usize = 100;

    /// Echoes bodies of POST /echo; GET answers "hello"; /panic panics; /late panics at its second poll.
    async fn answer(mut request: Request) -> Result<Response, Problem> {
        match (request.method().clone(), request.path()) {
            (Method::POST, "/echo") => {
                let body = request.body(LIMIT).await?;
                Ok(Response::bytes(StatusCode::OK, "text/plain", body))
            }
            (Method::POST, "/unread") => Err(Problem::new(ProblemCode::Unauthorized, "no key")),
            (Method::GET | Method::HEAD, "/") => {
                Ok(Response::bytes(StatusCode::OK, "text/plain", Bytes::from_static(b"hello")))
            }
            (_, "/large") => Ok(Response::bytes(StatusCode::OK, "text/plain", Bytes::from(vec![b'x'; 1 << 20]))),
            (_, "/panic") => panic!("on purpose"),
            (_, "/late") => {
                tokio::task::yield_now().await;
                panic!("on purpose, later")
            }
            _ => Err(Problem::new(ProblemCode::NotFound, "no such path")),
        }
    }

    fn server(settings: Settings) -> Server {
        Server::new(settings, answer)
    }

    fn peer() -> Peer {
        Peer::Tcp(([127, 0, 0, 1], 9).into())
    }

    /// A connection to a server with these settings, and the task that serves it.
    fn connect(settings: Settings) -> (DuplexStream, tokio::task::JoinHandle<()>, CancellationToken) {
        let (near, far) = tokio::io::duplex(64 * 1024);
        let shutdown = CancellationToken::new();
        let token = shutdown.clone();
        let task = tokio::spawn(async move { server(settings).serve_connection(far, peer(), token).await });
        (near, task, shutdown)
    }

    /// Everything that comes back for `sent`, after which the sending half is closed.
    async fn talk(settings: Settings, sent: &[u8]) -> String {
        let (mut near, task, _) = connect(settings);
        // A server that closes early breaks the pipe: what it said before is what counts.
        let _ = near.write_all(sent).await;
        let _ = near.shutdown().await;
        let mut reply = Vec::new();
        let _ = near.read_to_end(&mut reply).await;
        task.await.unwrap();
        String::from_utf8(reply).unwrap()
    }

    fn status(reply: &str) -> &str {
        reply.split(' ').nth(1).unwrap_or_default()
    }

    fn body(reply: &str) -> serde_json::Value {
        serde_json::from_str(reply.split_once("\r\n\r\n").unwrap().1).unwrap()
    }

    #[tokio::test]
    async fn requests_get_answers_with_ids_that_count_up() {
        let reply = talk(
            Settings { request_id_prefix: "abc".into(), ..Settings::default() },
            b"GET / HTTP/1.1\r\nhost: x\r\n\r\nGET /nothing HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n",
        )
        .await;
        assert_eq!(status(&reply), "200");
        assert!(reply.contains("x-request-id: req_abc_1\r\n"), "{reply}");
        let second = &reply[reply.rfind("HTTP/1.1").unwrap()..];
        assert_eq!(status(second), "404");
        assert_eq!(body(second)["request_id"], "req_abc_2");
        assert_eq!(body(second)["code"], "not_found");
    }

    #[tokio::test]
    async fn pipelined_requests_are_answered_in_order() {
        let mut sent = Vec::new();
        for n in 0..20 {
            let text = format!("n{n:02}");
            sent.extend(format!("POST /echo HTTP/1.1\r\nhost: x\r\ncontent-length: 3\r\n\r\n{text}").bytes());
        }
        let reply = talk(Settings::default(), &sent).await;
        let bodies: Vec<_> = reply.split("\r\n\r\n").skip(1).map(|rest| &rest[..3]).collect();
        assert_eq!(bodies, (0..20).map(|n| format!("n{n:02}")).collect::<Vec<_>>());
    }

    #[tokio::test]
    async fn a_head_is_answered_like_a_get_without_its_body() {
        let reply = talk(Settings::default(), b"HEAD / HTTP/1.1\r\nhost: x\r\n\r\n").await;
        assert_eq!(status(&reply), "200");
        assert!(reply.contains("content-length: 5\r\n"), "{reply}");
        assert!(reply.ends_with("\r\n\r\n"), "{reply}");
    }

    #[tokio::test]
    async fn a_panicking_handler_is_a_500_and_the_connection_goes_on() {
        let reply = talk(
            Settings::default(),
            b"GET /panic HTTP/1.1\r\nhost: x\r\n\r\nGET /late HTTP/1.1\r\nhost: x\r\n\r\nGET / HTTP/1.1\r\nhost: x\r\n\r\n",
        )
        .await;
        let statuses: Vec<_> = reply.match_indices("HTTP/1.1 ").map(|(at, _)| &reply[at + 9..at + 12]).collect();
        assert_eq!(statuses, ["500", "500", "200"]);
        assert!(reply.contains("\"code\":\"internal\"") && !reply.contains("on purpose"), "{reply}");
    }

    #[tokio::test]
    async fn a_body_over_its_limit_is_a_413_and_the_rest_is_read_away() {
        let big = "x".repeat(LIMIT + 1);
        let announced = format!("POST /echo HTTP/1.1\r\nhost: x\r\ncontent-length: {}\r\n\r\n{big}", big.len());
        let chunked = format!(
            "POST /echo HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n{:x}\r\n{big}\r\n0\r\n\r\n",
            big.len()
        );
        for first in [announced, chunked] {
            let reply = talk(Settings::default(), format!("{first}GET / HTTP/1.1\r\nhost: x\r\n\r\n").as_bytes()).await;
            assert_eq!(status(&reply), "413", "{reply}");
            assert!(reply.contains("\"code\":\"too_large\""), "{reply}");
            assert!(reply.ends_with("hello"), "the connection goes on: {reply}");
        }
    }

    #[tokio::test]
    async fn a_body_that_the_handler_left_is_read_away() {
        let body = "x".repeat(300 * 1024);
        let sent = format!(
            "POST /unread HTTP/1.1\r\nhost: x\r\ncontent-length: {}\r\n\r\n{body}GET / HTTP/1.1\r\nhost: x\r\n\r\n",
            body.len()
        );
        let reply = talk(Settings::default(), sent.as_bytes()).await;
        assert_eq!(status(&reply), "401");
        assert!(reply.contains("www-authenticate: Bearer"), "{reply}");
        assert!(reply.ends_with("hello"), "{reply}");
    }

    #[tokio::test]
    async fn a_client_that_waits_for_100_continue_is_refused_without_it() {
        let head = b"POST /echo HTTP/1.1\r\nhost: x\r\nexpect: 100-continue\r\ncontent-length: 101\r\n\r\n";
        let (mut near, task, _) = connect(Settings::default());
        near.write_all(head).await.unwrap();
        let mut reply = String::new();
        near.read_to_string(&mut reply).await.unwrap();
        assert_eq!(status(&reply), "413");
        task.await.unwrap();
    }

    #[tokio::test]
    async fn an_oversized_head_is_a_431() {
        let long = format!("GET / HTTP/1.1\r\nhost: x\r\nx-long: {}\r\n\r\n", "x".repeat(HEAD_BYTES_DEFAULT));
        let many = format!("GET / HTTP/1.1\r\nhost: x\r\n{}\r\n", "a: b\r\n".repeat(100));
        let path = format!("GET /{} HTTP/1.1\r\nhost: x\r\n\r\n", "x".repeat(HEAD_BYTES_DEFAULT));
        for head in [long, many, path] {
            let reply = talk(Settings::default(), head.as_bytes()).await;
            assert_eq!(status(&reply), "431");
            let problem = body(&reply);
            assert_eq!(problem["code"], "head_too_large");
            assert!(problem["detail"].as_str().unwrap().contains("32768 bytes and 100 headers"), "{problem}");
        }
    }

    #[tokio::test]
    async fn a_head_that_nobody_can_read_is_told_so_after_the_answers_before_it() {
        let settings = Settings { request_id_prefix: "abc".into(), ..Settings::default() };
        let reply = talk(settings, b"GET / HTTP/1.1\r\nhost: x\r\n\r\nhello\r\n\r\n").await;
        let (first, second) = reply.split_once("hello").unwrap();
        assert!(status(first) == "200" && first.contains("x-request-id: req_abc_1\r\n"), "{first}");
        assert!(status(second) == "400" && second.contains("x-request-id: req_abc_2\r\n"), "{second}");
        assert!(second.contains("content-type: application/problem+json\r\n"), "{second}");
        assert_eq!((&body(second)["code"], &body(second)["request_id"]), (&"bad_request".into(), &"req_abc_2".into()));
    }

    /// RFC 9112, 3.2: a request of HTTP/1.1 has one Host; one of HTTP/1.0 need not have any.
    #[tokio::test]
    async fn a_request_has_one_host() {
        for (head, expected) in [
            ("GET / HTTP/1.1\r\n\r\n", "400"),
            ("GET / HTTP/1.1\r\nhost: x\r\nhost: x\r\n\r\n", "400"),
            ("GET / HTTP/1.1\r\nhost:\r\n\r\n", "200"),
            ("GET / HTTP/1.0\r\n\r\n", "200"),
        ] {
            let reply = talk(Settings::default(), head.as_bytes()).await;
            assert_eq!(status(&reply), expected, "{head}: {reply}");
            assert!(expected == "200" || body(&reply)["code"] == "bad_request", "{reply}");
        }
    }

    #[tokio::test]
    async fn what_is_not_http_is_a_400() {
        for sent in
            ["hello\r\n\r\n", "GET / HTTP/1.1\r\nhost : x\r\n\r\n", "GET / HTTP/1.1\r\ncontent-length: x\r\n\r\n"]
        {
            assert_eq!(status(&talk(Settings::default(), sent.as_bytes()).await), "400", "{sent}");
        }
    }

    #[tokio::test]
    async fn a_malformed_chunk_is_a_400() {
        let sent = b"POST /echo HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\nzz\r\nabc\r\n";
        let reply = talk(Settings::default(), sent).await;
        assert_eq!(status(&reply), "400");
        assert_eq!(body(&reply)["code"], "bad_body");
    }

    #[tokio::test(start_paused = true)]
    async fn a_slow_head_and_an_idle_connection_are_closed_at_the_limit() {
        for sent in [&b""[..], b"GET / HT", b"GET / HTTP/1.1\r\nhost: x\r\n\r\n"] {
            let (mut near, task, _) = connect(Settings::default());
            let started = Instant::now();
            near.write_all(sent).await.unwrap();
            let mut reply = String::new();
            near.read_to_string(&mut reply).await.unwrap();
            task.await.unwrap();
            assert_eq!(started.elapsed().as_secs(), Settings::default().timeout_head.as_secs());
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_slow_body_is_a_408_at_the_limit() {
        let (mut near, _task, _) = connect(Settings::default());
        let started = Instant::now();
        near.write_all(b"POST /echo HTTP/1.1\r\nhost: x\r\ncontent-length: 3\r\n\r\nab").await.unwrap();
        let mut reply = vec![0; 12];
        near.read_exact(&mut reply).await.unwrap();
        assert_eq!(reply, b"HTTP/1.1 408");
        assert_eq!(started.elapsed().as_secs(), Settings::default().timeout_body.as_secs());
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_never_reads_is_cut() {
        let (mut near, task, _) = connect(Settings::default());
        let started = Instant::now();
        near.write_all(b"GET /large HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
        task.await.unwrap();
        assert_eq!(started.elapsed().as_secs(), Settings::default().timeout_write.as_secs());
    }

    #[tokio::test]
    async fn a_listener_serves_and_drains() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let shutdown = CancellationToken::new();
        let token = shutdown.clone();
        let task = tokio::spawn(async move { server(Settings::default()).run(Listener::Tcp(listener), token).await });
        let mut idle = TcpStream::connect(address).await.unwrap();
        idle.write_all(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
        let mut head = [0; 12];
        idle.read_exact(&mut head).await.unwrap();
        assert_eq!(&head, b"HTTP/1.1 200");
        let mut busy = TcpStream::connect(address).await.unwrap();
        busy.write_all(b"POST /echo HTTP/1.1\r\nhost: x\r\nexpect: 100-continue\r\ncontent-length: 3\r\n\r\n")
            .await
            .unwrap();
        let mut go_on = [0; 25];
        busy.read_exact(&mut go_on).await.unwrap();
        assert_eq!(&go_on, b"HTTP/1.1 100 Continue\r\n\r\n");
        shutdown.cancel();
        let mut rest = Vec::new();
        idle.read_to_end(&mut rest).await.unwrap();
        busy.write_all(b"end").await.unwrap();
        let mut reply = String::new();
        busy.read_to_string(&mut reply).await.unwrap();
        assert!(status(&reply) == "200" && reply.ends_with("end"), "a running request is answered: {reply}");
        task.await.unwrap();
        assert!(TcpStream::connect(address).await.is_err(), "the listener is closed");
    }

    #[tokio::test]
    async fn at_the_cap_a_connection_waits_for_its_turn() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("s");
        let listener = UnixListener::bind(&path).unwrap();
        let shutdown = CancellationToken::new();
        let token = shutdown.clone();
        let settings = Settings { connections_max: 1, ..Settings::default() };
        let task = tokio::spawn(async move { server(settings).run(Listener::Unix(listener), token).await });
        let mut first = UnixStream::connect(&path).await.unwrap();
        first.write_all(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
        let mut head = [0; 12];
        first.read_exact(&mut head).await.unwrap();
        let mut second = UnixStream::connect(&path).await.unwrap();
        second.write_all(b"GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").await.unwrap();
        let mut byte = [0];
        for _ in 0..100 {
            tokio::task::yield_now().await;
            assert_eq!(second.try_read(&mut byte).unwrap_err().kind(), io::ErrorKind::WouldBlock);
        }
        drop(first);
        let mut reply = String::new();
        second.read_to_string(&mut reply).await.unwrap();
        assert_eq!(status(&reply), "200");
        shutdown.cancel();
        task.await.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn what_does_not_end_by_itself_is_cut_after_the_drain() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("s");
        let listener = UnixListener::bind(&path).unwrap();
        let shutdown = CancellationToken::new();
        let token = shutdown.clone();
        let stuck = Arc::new(tokio::sync::Notify::new());
        let reached = stuck.clone();
        let handler = move |_: Request| {
            stuck.notify_one();
            std::future::pending()
        };
        let task = tokio::spawn(async move {
            Server::new(Settings::default(), handler).run(Listener::Unix(listener), token).await
        });
        let mut client = UnixStream::connect(&path).await.unwrap();
        client.write_all(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
        reached.notified().await;
        let started = Instant::now();
        shutdown.cancel();
        task.await.unwrap();
        assert_eq!(started.elapsed().as_secs(), Settings::default().drain.as_secs());
    }

    /// GET /two is a stream of two pieces; /one says one thing and goes on in silence; /flood never ends, and counts its pieces.
    fn streaming(settings: Settings) -> (Server, Arc<AtomicU64>) {
        let made = Arc::new(AtomicU64::new(0));
        let count = Arc::clone(&made);
        let handler = move |request: Request| {
            let count = Arc::clone(&count);
            let path = request.path().to_owned();
            async move {
                match path.as_str() {
                    "/two" => Ok(Response::stream("text/plain", async |mut pieces: Pieces| {
                        pieces.send(Bytes::from_static(b"one")).await;
                        tokio::task::yield_now().await;
                        pieces.send(Bytes::from_static(b"two")).await;
                    })),
                    "/one" => Ok(Response::stream("text/plain", async |mut pieces: Pieces| {
                        pieces.send(Bytes::from_static(b"one")).await;
                        std::future::pending().await
                    })),
                    "/pause" => Ok(Response::stream("text/plain", async |mut pieces: Pieces| {
                        pieces.send(Bytes::from_static(b"one")).await;
                        tokio::time::sleep(Duration::from_secs(1)).await;
                        pieces.send(Bytes::from_static(b"two")).await;
                    })),
                    "/flood" => Ok(Response::stream("text/plain", async move |mut pieces: Pieces| {
                        loop {
                            count.fetch_add(1, Ordering::Relaxed);
                            pieces.send(Bytes::from_static(&[b'x'; FLOOD_PIECE])).await;
                        }
                    })),
                    _ => answer(request).await,
                }
            }
        };
        (Server::new(settings, handler), made)
    }

    const FLOOD_PIECE: usize = 4096;

    /// A connection to this server, and the task that serves it.
    fn connect_to(server: &Server, shutdown: &CancellationToken) -> (DuplexStream, tokio::task::JoinHandle<()>) {
        let (near, far) = tokio::io::duplex(64 * 1024);
        let (server, token) = (server.clone(), shutdown.clone());
        let task = tokio::spawn(async move { server.serve_connection(far, peer(), token).await });
        (near, task)
    }

    /// What comes until `end` has come.
    async fn read_until(near: &mut DuplexStream, end: &str) -> String {
        let mut text = Vec::new();
        while !text.ends_with(end.as_bytes()) {
            text.push(near.read_u8().await.unwrap());
        }
        String::from_utf8(text).unwrap()
    }

    #[tokio::test]
    async fn a_stream_comes_in_pieces_and_the_connection_goes_on() {
        let (server, _) = streaming(Settings::default());
        let (mut near, task) = connect_to(&server, &CancellationToken::new());
        near.write_all(b"GET /two HTTP/1.1\r\nhost: x\r\n\r\nGET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
            .await
            .unwrap();
        let mut reply = String::new();
        near.read_to_string(&mut reply).await.unwrap();
        task.await.unwrap();
        let (first, second) = reply.split_once("0\r\n\r\n").unwrap();
        assert!(first.contains("transfer-encoding: chunked\r\n") && !first.contains("content-length"), "{first}");
        assert!(first.contains("cache-control: no-store\r\n"), "{first}");
        assert!(first.ends_with("\r\n\r\n3\r\none\r\n3\r\ntwo\r\n"), "{first}");
        assert!(status(second) == "200" && second.ends_with("hello"), "{second}");
    }

    #[tokio::test]
    async fn an_http_1_0_client_gets_a_stream_until_the_connection_closes() {
        let (server, _) = streaming(Settings::default());
        let (mut near, task) = connect_to(&server, &CancellationToken::new());
        near.write_all(b"GET /two HTTP/1.0\r\n\r\n").await.unwrap();
        let mut reply = String::new();
        near.read_to_string(&mut reply).await.unwrap();
        task.await.unwrap();
        assert!(reply.ends_with("\r\n\r\nonetwo") && !reply.contains("chunked"), "{reply}");
    }

    #[tokio::test]
    async fn a_head_of_a_stream_is_its_head_and_takes_no_place() {
        let (server, made) = streaming(Settings { streams_max: 0, ..Settings::default() });
        let (mut near, task) = connect_to(&server, &CancellationToken::new());
        let head = b"HEAD /flood HTTP/1.1\r\nhost: x\r\n\r\n";
        let get = b"GET /flood HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n";
        near.write_all(&[&head[..], get].concat()).await.unwrap();
        let mut reply = String::new();
        near.read_to_string(&mut reply).await.unwrap();
        task.await.unwrap();
        let (first, second) = reply.split_once("\r\n\r\n").unwrap();
        assert!(status(first) == "200" && !first.contains("content-length"), "{first}");
        assert_eq!((status(second), body(second)["code"].as_str()), ("503", Some("too_many_streams")));
        assert!(second.contains("retry-after: "), "{second}");
        assert_eq!(made.load(Ordering::Relaxed), 0);
    }

    #[tokio::test]
    async fn a_streams_place_is_free_again_when_it_has_ended() {
        let (server, _) = streaming(Settings { streams_max: 1, ..Settings::default() });
        let shutdown = CancellationToken::new();
        let (mut first, holding) = connect_to(&server, &shutdown);
        first.write_all(b"GET /flood HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
        read_until(&mut first, "\r\n\r\n").await;
        let (mut second, _going_on) = connect_to(&server, &shutdown);
        second.write_all(b"GET /two HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
        assert_eq!(status(&read_until(&mut second, "}").await), "503");
        drop(first);
        holding.await.unwrap();
        second.write_all(b"GET /two HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
        assert_eq!(status(&read_until(&mut second, "0\r\n\r\n").await), "200");
    }

    /// A stream that nobody writes to keeps no place for a client that has closed it: eight reloads of a page locked its reader out
    /// for half a minute. On TCP the first write after the end of the peer succeeds.
    #[tokio::test]
    async fn a_stream_that_its_client_has_closed_ends_at_once() {
        let (server, _) = streaming(Settings { streams_max: 1, ..Settings::default() });
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        for _ in 0..9 {
            let mut near = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
            let (far, _) = listener.accept().await.unwrap();
            let served = server.serve_connection(far, peer(), CancellationToken::new());
            let client = async move {
                near.write_all(b"GET /one HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
                let mut head = [0; 12];
                near.read_exact(&mut head).await.unwrap();
                assert_eq!(&head, b"HTTP/1.1 200");
            };
            let both = timeout(Duration::from_secs(60), async { tokio::join!(served, client) });
            both.await.expect("nothing is written to it, and it ends all the same");
        }
    }

    /// Also when only its sending half is closed; what has been asked for by then is answered.
    #[tokio::test(start_paused = true)]
    async fn a_stream_ends_with_its_clients_sending_half_and_loses_no_byte_of_the_next_request() {
        let (server, _) = streaming(Settings::default());
        let (mut near, task) = connect_to(&server, &CancellationToken::new());
        near.write_all(b"GET /pause HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
        read_until(&mut near, "one\r\n").await;
        near.write_all(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
        assert_eq!(read_until(&mut near, "0\r\n\r\n").await, "3\r\ntwo\r\n0\r\n\r\n");
        assert_eq!(status(&read_until(&mut near, "hello").await), "200");
        near.write_all(b"GET /one HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
        read_until(&mut near, "one\r\n").await;
        near.shutdown().await.unwrap();
        timeout(Duration::from_millis(1), task).await.expect("it ends at once").unwrap();
    }

    /// The client's buffer and ours are full, and nothing more is made; then its patience is over.
    #[tokio::test(start_paused = true)]
    async fn a_stream_that_nobody_reads_is_not_made_and_then_cut() {
        let (server, made) = streaming(Settings::default());
        let (mut near, task) = connect_to(&server, &CancellationToken::new());
        let started = Instant::now();
        near.write_all(b"GET /flood HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
        task.await.unwrap();
        assert_eq!(started.elapsed().as_secs(), Settings::default().timeout_write.as_secs());
        let room = 64 * 1024 + 2 * HEAD_BYTES_DEFAULT;
        assert!(made.load(Ordering::Relaxed) <= (room / FLOOD_PIECE) as u64, "{made:?}");
    }

    /// Whoever reads sees the end at once; whoever does not is cut soon, long before other answers would be.
    #[tokio::test(start_paused = true)]
    async fn a_shutdown_ends_streams() {
        let (server, _) = streaming(Settings::default());
        let shutdown = CancellationToken::new();
        let (mut reading, read) = connect_to(&server, &shutdown);
        let (mut stuck, held) = connect_to(&server, &shutdown);
        reading.write_all(b"GET /one HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
        stuck.write_all(b"GET /flood HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
        read_until(&mut reading, "one\r\n").await;
        read_until(&mut stuck, "\r\n\r\n").await;
        let started = Instant::now();
        shutdown.cancel();
        let mut rest = String::new();
        reading.read_to_string(&mut rest).await.unwrap();
        read.await.unwrap();
        assert_eq!((rest.as_str(), started.elapsed()), ("0\r\n\r\n", Duration::ZERO));
        held.await.unwrap();
        assert_eq!(started.elapsed().as_secs(), STREAM_END_TIMEOUT.as_secs());
    }

    #[tokio::test]
    async fn tls_is_served_and_a_plain_client_harms_nobody() {
        let dir = tempfile::tempdir().unwrap();
        let own = rcgen::generate_simple_self_signed(vec!["localhost".into()]).unwrap();
        let (cert, key) = (dir.path().join("cert.pem"), dir.path().join("key.pem"));
        std::fs::write(&cert, own.cert.pem()).unwrap();
        std::fs::write(&key, own.signing_key.serialize_pem()).unwrap();
        let acceptor = super::super::tls::acceptor(&cert, &key).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let shutdown = CancellationToken::new();
        let token = shutdown.clone();
        let task =
            tokio::spawn(
                async move { server(Settings::default()).run(Listener::Tls(listener, acceptor), token).await },
            );

        let mut plain = TcpStream::connect(address).await.unwrap();
        plain.write_all(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
        let mut noise = Vec::new();
        let _ = plain.read_to_end(&mut noise).await;
        assert!(!noise.starts_with(b"HTTP/"));

        let mut roots = rustls::RootCertStore::empty();
        roots.add(own.cert.der().clone()).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        let connector = tokio_rustls::TlsConnector::from(Arc::new(config));
        let stream = TcpStream::connect(address).await.unwrap();
        let mut stream = connector.connect("localhost".try_into().unwrap(), stream).await.unwrap();
        stream.write_all(b"GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").await.unwrap();
        let mut reply = String::new();
        stream.read_to_string(&mut reply).await.unwrap();
        assert!(reply.starts_with("HTTP/1.1 200") && reply.ends_with("hello"), "{reply}");
        shutdown.cancel();
        task.await.unwrap();
    }
}
