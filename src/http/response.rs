//! Answers: a status, a few headers, and a body that is known in full or is made piece by piece.
//!
//! Every answer carries `X-Content-Type-Options: nosniff`, `Cache-Control: no-store` (unless the handler said otherwise) and
//! `X-Request-Id`. One with a whole body carries `Content-Length` (204 aside, which has no body); a [`Stream`] has none, for
//! its end is not known.

use std::convert::Infallible;
use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};

use bytes::Bytes;
use http::header::{CACHE_CONTROL, CONTENT_LENGTH, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};
use http::{Method, StatusCode};
use http_body_util::{Either, Full};
use hyper::body::Frame;
use serde::Serialize;
use tokio::sync::{OwnedSemaphorePermit, mpsc};
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};

const X_CONTENT_TYPE_OPTIONS: HeaderName = HeaderName::from_static("x-content-type-options");
const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// An answer to one request.
#[derive(Debug)]
pub struct Response {
    status: StatusCode,
    headers: HeaderMap,
    body: Body,
}

/// What an answer says.
#[derive(Debug)]
pub enum Body {
    /// All of it.
    Whole(Bytes),
    /// Piece by piece, for as long as the client listens.
    Stream(Stream),
}

/// A body that is made while it is read.
///
/// No task of its own stands behind it: it is made on the connection's, a piece at a time, and only as fast as the client
/// takes it. So a client that does not read costs the few pieces that are under way, and one that has closed the connection
/// costs nothing.
pub struct Stream {
    /// `None` when there will be no more pieces than `pieces` holds.
    making: Option<Pin<Box<dyn Future<Output = ()> + Send>>>,
    pieces: mpsc::Receiver<Bytes>,
}

/// Where a stream's pieces are handed in.
#[derive(Debug)]
pub struct Pieces(mpsc::Sender<Bytes>);

impl Pieces {
    /// Hands in the next piece, once the one before it has been taken.
    pub async fn send(&mut self, piece: Bytes) {
        // Nobody can have left: whoever reads the pieces is who runs this.
        let _ = self.0.send(piece).await;
    }
}

impl Stream {
    fn new<F: Future<Output = ()> + Send + 'static>(make: impl FnOnce(Pieces) -> F) -> Self {
        let (sender, pieces) = mpsc::channel(1);
        Stream { making: Some(Box::pin(make(Pieces(sender)))), pieces }
    }

    /// The next piece, for callers without a connection; `None` at the end.
    pub async fn next(&mut self) -> Option<Bytes> {
        std::future::poll_fn(|context| self.poll_next(context)).await
    }

    fn poll_next(&mut self, context: &mut Context<'_>) -> Poll<Option<Bytes>> {
        if let Poll::Ready(Some(piece)) = self.pieces.poll_recv(context) {
            return Poll::Ready(Some(piece));
        }
        if let Some(making) = &mut self.making
            && making.as_mut().poll(context).is_ready()
        {
            self.making = None;
        }
        // What has just been made; the end once nobody is left who could make more.
        self.pieces.poll_recv(context)
    }
}

impl fmt::Debug for Stream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Stream").finish_non_exhaustive()
    }
}

/// What a stream holds on to while it runs.
pub(super) struct Running {
    /// Its place among the streams that run at once.
    pub(super) place: OwnedSemaphorePermit,
    /// Its connection's mark, by which the server knows that what is being answered has no end of its own.
    pub(super) mark: StreamMark,
    /// Ends it.
    pub(super) shutdown: CancellationToken,
}

/// Whether a stream runs on a connection; copies stand for the same connection.
#[derive(Debug, Clone, Default)]
pub(super) struct StreamMark(Arc<AtomicBool>);

impl StreamMark {
    pub(super) fn is_set(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }

    fn set(&self, runs: bool) {
        self.0.store(runs, Ordering::Relaxed);
    }
}

/// A stream as hyper reads it.
pub(super) struct StreamBody {
    stream: Stream,
    mark: StreamMark,
    shutdown: Pin<Box<WaitForCancellationFutureOwned>>,
    _place: OwnedSemaphorePermit,
}

impl StreamBody {
    fn new(stream: Stream, running: Running) -> Self {
        let Running { place, mark, shutdown } = running;
        mark.set(true);
        StreamBody { stream, mark, shutdown: Box::pin(shutdown.cancelled_owned()), _place: place }
    }
}

impl Drop for StreamBody {
    fn drop(&mut self) {
        self.mark.set(false);
    }
}

impl hyper::body::Body for StreamBody {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        // It has no end of its own that a shutdown could wait for.
        if self.shutdown.as_mut().poll(context).is_ready() {
            return Poll::Ready(None);
        }
        self.stream.poll_next(context).map(|piece| piece.map(|piece| Ok(Frame::data(piece))))
    }
}

/// A body in the form that hyper writes.
pub(super) type Written = Either<Full<Bytes>, StreamBody>;

impl Response {
    /// An answer without a body.
    pub fn empty(status: StatusCode) -> Self {
        Response { status, headers: HeaderMap::new(), body: Body::Whole(Bytes::new()) }
    }

    /// `view` as JSON.
    ///
    /// # Panics
    ///
    /// When `view` cannot be written as JSON: views are made of texts, numbers, lists and maps with text keys, and those always can.
    pub fn json<T: Serialize>(status: StatusCode, view: &T) -> Self {
        let body = serde_json::to_vec(view).expect("views are plain data with text keys");
        Response::bytes(status, "application/json", Bytes::from(body))
    }

    /// These bytes, of this content type.
    pub fn bytes(status: StatusCode, content_type: &'static str, body: Bytes) -> Self {
        Response::of(status, content_type, Body::Whole(body))
    }

    /// A 200 whose body is what `make` hands in, until it ends, the client leaves, or the server stops.
    ///
    /// The server lets so many run at once and answers a 503 beyond that. While the client takes nothing, `make` is not run.
    /// It should hand in something every few seconds: a client that vanished without a word is found out by writing to it. One that
    /// closes the connection, or its sending half, ends the body at once.
    pub fn stream<F>(content_type: &'static str, make: impl FnOnce(Pieces) -> F) -> Self
    where
        F: Future<Output = ()> + Send + 'static,
    {
        Response::of(StatusCode::OK, content_type, Body::Stream(Stream::new(make)))
    }

    /// The same; a stream ends before the first piece for which `goes_on` says no.
    #[must_use]
    pub fn while_it(self, goes_on: impl Fn() -> bool + Send + 'static) -> Self {
        let body = match self.body {
            Body::Whole(whole) => Body::Whole(whole),
            Body::Stream(mut stream) => Body::Stream(Stream::new(|mut pieces| async move {
                while let Some(piece) = stream.next().await {
                    if !goes_on() {
                        return;
                    }
                    pieces.send(piece).await;
                }
            })),
        };
        Response { body, ..self }
    }

    fn of(status: StatusCode, content_type: &'static str, body: Body) -> Self {
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
        Response { status, headers, body }
    }

    /// An answer of these parts.
    pub fn of_parts(status: StatusCode, headers: HeaderMap, body: Bytes) -> Self {
        Response { status, headers, body: Body::Whole(body) }
    }

    /// The same with this header set.
    #[must_use]
    pub fn with_header(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.headers.insert(name, value);
        self
    }

    /// Its status.
    pub fn status(&self) -> StatusCode {
        self.status
    }

    /// A header of it, if it was set.
    pub fn header(&self, name: &HeaderName) -> Option<&HeaderValue> {
        self.headers.get(name)
    }

    /// Its body.
    pub fn body(&self) -> &Body {
        &self.body
    }

    /// Its body, for callers without a connection.
    pub fn into_body(self) -> Body {
        self.body
    }

    /// Whether its body is made while it is read.
    pub(super) fn is_stream(&self) -> bool {
        matches!(self.body, Body::Stream(_))
    }

    /// The answer in the form that hyper writes, to a request of this method and id. A HEAD gets the head only, and so does
    /// a stream that may not run.
    pub(super) fn into_hyper(
        self,
        method: &Method,
        request_id: &str,
        running: Option<Running>,
    ) -> http::Response<Written> {
        let Response { status, mut headers, body } = self;
        headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
        headers.entry(CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
        if let Ok(request_id) = HeaderValue::from_str(request_id) {
            headers.insert(X_REQUEST_ID, request_id);
        }
        let is_head = method == Method::HEAD;
        let body = match body {
            Body::Whole(body) => {
                // The length of a 304 would be that of what it stands for.
                if status != StatusCode::NO_CONTENT && status != StatusCode::NOT_MODIFIED {
                    headers.insert(CONTENT_LENGTH, HeaderValue::from(body.len()));
                }
                Either::Left(Full::new(if is_head { Bytes::new() } else { body }))
            }
            Body::Stream(stream) => match running {
                Some(running) if !is_head => Either::Right(StreamBody::new(stream, running)),
                Some(_) | None => Either::Left(Full::default()),
            },
        };
        let mut response = http::Response::new(body);
        *response.status_mut() = status;
        *response.headers_mut() = headers;
        response
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_answer_carries_its_length_and_the_security_headers() {
        let answer =
            Response::json(StatusCode::OK, &serde_json::json!({"a": 1})).into_hyper(&Method::GET, "req_1", None);
        let header = |name: &str| answer.headers().get(name).unwrap().to_str().unwrap();
        assert_eq!(header("content-length"), "7");
        assert_eq!(header("content-type"), "application/json");
        assert_eq!(header("x-content-type-options"), "nosniff");
        assert_eq!(header("cache-control"), "no-store");
        assert_eq!(header("x-request-id"), "req_1");
    }

    #[test]
    fn a_204_has_no_length() {
        let answer = Response::empty(StatusCode::NO_CONTENT).into_hyper(&Method::DELETE, "req_1", None);
        assert!(!answer.headers().contains_key("content-length"));
    }
}
