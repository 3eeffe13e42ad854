//! One request and its reply on one connection.
//!
//! Owns what is sent beyond the caller's headers, and what a reply must be: a head within its budget, a final status of
//! HTTP/1.1. The connection is driven by the exchange itself, in the same future: nothing runs when nobody asks, and
//! dropping the future closes it.

use std::error::Error as _;
use std::io;
use std::net::SocketAddr;
use std::os::fd::RawFd;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::{Response, Uri, Version};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::client::conn::http1::{self, Connection, SendRequest};
use hyper_util::rt::TokioIo;
use nix::errno::Errno;
use nix::sys::socket::{MsgFlags, recv};
use tokio::time::{Instant, timeout};

use super::stream::{Meter, Stream};
use super::targets::Target;
use super::{Failure, Progress, Request, Settings, tls};
use crate::model::destination::Method;
use crate::model::{Headers, Reason};

/// The least buffer that the parser works with.
const PARSER_BYTES_MIN: usize = 8 << 10;
const HEADERS_MAX: usize = 128;

/// Whether a connection may carry another exchange.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reuse {
    Keep,
    Close,
}

/// A connection that speaks HTTP/1.1.
pub(super) struct Link {
    sender: SendRequest<Full<Bytes>>,
    driver: Box<Connection<TokioIo<Stream>, Full<Bytes>>>,
    /// Whether the driver has come to its end, so that it must not be polled again.
    ended: bool,
    meter: Arc<Meter>,
    address: SocketAddr,
    descriptor: RawFd,
}

impl Link {
    pub(super) async fn new(stream: Stream, address: SocketAddr, head_bytes_max: usize) -> Result<Self, Failure> {
        let (meter, descriptor) = (stream.meter(), stream.descriptor());
        let (sender, driver) = http1::Builder::new()
            .max_headers(HEADERS_MAX)
            .max_buf_size(head_bytes_max.max(PARSER_BYTES_MIN))
            .handshake(TokioIo::new(stream))
            .await
            .map_err(|error| Failure::new(Reason::Reset, format!("begin to speak HTTP: {error}")))?;
        Ok(Link { sender, driver: Box::new(driver), ended: false, meter, address, descriptor })
    }

    /// The vetted address that it leads to.
    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }

    /// How many bytes the exchange under way, or the last one, has brought.
    pub(super) fn reply_bytes(&self) -> u64 {
        self.meter.plain_read()
    }

    /// Whether an idle connection is still open with nothing waiting on it. The kernel is asked itself: the runtime may
    /// not have noticed yet.
    pub(super) fn is_quiet(&self) -> bool {
        let peeked = recv(self.descriptor, &mut [0; 1], MsgFlags::MSG_PEEK | MsgFlags::MSG_DONTWAIT);
        !self.ended && self.sender.is_ready() && peeked == Err(Errno::EAGAIN)
    }

    /// Sends the request and reads the reply. Once there is a status the answer is `Ok`, whatever becomes of the body.
    pub(super) async fn exchange(
        &mut self,
        request: http::Request<Full<Bytes>>,
        head_timeout: Duration,
        settings: &Settings,
        progress: &mut Progress,
    ) -> Result<Reuse, Failure> {
        self.meter.begin(settings.head_bytes_max, settings.body_bytes_max);
        progress.meter = Some(Arc::clone(&self.meter));
        let started = Instant::now();
        let replied = self.reply(request, head_timeout).await;
        progress.exchange.phases.head = Some(started.elapsed());
        let response = replied?;
        self.meter.head_is_in(settings.body_bytes_max);

        let status = response.status().as_u16();
        if !(200..=599).contains(&status) {
            let message = format!("read the reply: the status {status} ends no exchange");
            return Err(Failure::new(Reason::ProtocolError, message));
        }
        let headers = response.headers();
        // Two lengths that may disagree: whatever follows could be the sender's or an attacker's.
        let ambiguous = headers.contains_key(header::TRANSFER_ENCODING) && headers.contains_key(header::CONTENT_LENGTH);
        let modern = response.version() == Version::HTTP_11;
        progress.exchange.status = Some(status);
        let bytes = headers.iter().map(|(name, value)| name.as_str().len() + value.len() + 3).sum();
        let mut seen = Headers::with_capacity(bytes);
        for (name, value) in headers {
            seen.push(name.as_str(), String::from_utf8_lossy(value.as_bytes()));
        }
        progress.exchange.headers = seen;

        let started = Instant::now();
        self.read_body(response.into_body(), settings.body_bytes_max, started, progress).await;
        let whole = progress.exchange.body_complete;
        self.settle().await;
        let fit = whole
            && modern
            && !ambiguous
            && !self.ended
            && self.sender.is_ready()
            && !self.meter.has_write_failed()
            && !self.meter.is_exhausted();
        Ok(if fit { Reuse::Keep } else { Reuse::Close })
    }

    async fn reply(
        &mut self,
        request: http::Request<Full<Bytes>>,
        head_timeout: Duration,
    ) -> Result<Response<Incoming>, Failure> {
        let response = self.sender.send_request(request);
        let meter = Arc::clone(&self.meter);
        let mut response = pin!(self.alongside(response));
        let response = match timeout(head_timeout, response.as_mut()).await {
            Ok(response) => response,
            // Something has come: from here on only the attempt's own deadline counts.
            Err(_) if meter.plain_read() > 0 => response.await,
            Err(_) => {
                let message = format!("wait for the reply: not a byte within {head_timeout:?}");
                return Err(Failure::new(Reason::TimeoutHead, message));
            }
        };
        response.map_err(|error| explain(&error, &meter))
    }

    /// Reads into `progress` as it comes, so that a deadline cuts off only what has not come.
    async fn read_body(&mut self, mut body: Incoming, bytes_max: usize, started: Instant, progress: &mut Progress) {
        loop {
            let frame = self.alongside(body.frame()).await;
            progress.exchange.phases.body = Some(started.elapsed());
            match frame {
                None => {
                    progress.exchange.body_complete = true;
                    return;
                }
                Some(Err(_)) => return,
                Some(Ok(frame)) => {
                    let Ok(data) = frame.into_data() else { continue };
                    // Copied out: the chunk may be a small part of a large buffer of the parser's.
                    let room = bytes_max - progress.body.len();
                    progress.body.extend_from_slice(&data[..data.len().min(room)]);
                    if data.len() > room {
                        return;
                    }
                }
            }
        }
    }

    /// Lets the connection notice that the exchange is over, and what came after it.
    async fn settle(&mut self) {
        self.alongside(std::future::ready(())).await;
    }

    /// Drives the connection until `work` is done.
    async fn alongside<T>(&mut self, work: impl Future<Output = T>) -> T {
        let mut work = pin!(work);
        std::future::poll_fn(|cx| {
            if !self.ended && Pin::new(self.driver.as_mut()).poll(cx).is_ready() {
                self.ended = true;
            }
            match work.as_mut().poll(cx) {
                Poll::Ready(done) => Poll::Ready(done),
                Poll::Pending => Poll::Pending,
            }
        })
        .await
    }
}

fn explain(error: &hyper::Error, meter: &Meter) -> Failure {
    let failed = |reason, words: &str| Failure::new(reason, format!("read the reply: {words}"));
    let mut cause = error.source();
    let mut io_error = None;
    while let Some(source) = cause {
        io_error = io_error.or_else(|| source.downcast_ref::<io::Error>());
        cause = source.source();
    }
    if meter.is_exhausted() || error.is_parse_too_large() {
        failed(Reason::HeadTooLarge, "its head, interim replies included, is over its limit")
    } else if error.is_parse() || error.is_parse_status() {
        failed(Reason::ProtocolError, &format!("not HTTP/1.1: {error}"))
    } else if let Some(io_error) = io_error {
        if io_error.get_ref().is_some_and(|inner| inner.is::<rustls::Error>()) {
            return tls::failure(io_error);
        }
        failed(Reason::Reset, &format!("the connection ended before it: {io_error}"))
    } else {
        failed(Reason::Reset, "the connection ended before it")
    }
}

/// The request as it goes out: the caller's headers, and those that are ours alone.
pub(super) fn http_request(target: &Target, request: &Request) -> http::Request<Full<Bytes>> {
    const OURS: [HeaderName; 9] = [
        header::HOST,
        header::CONTENT_LENGTH,
        header::TRANSFER_ENCODING,
        header::CONNECTION,
        header::ACCEPT_ENCODING,
        header::TE,
        header::TRAILER,
        header::UPGRADE,
        header::EXPECT,
    ];
    let mut headers = HeaderMap::with_capacity(request.headers.len() + 3);
    for (name, value) in &request.headers {
        if !OURS.contains(name) {
            headers.append(name, value.clone());
        }
    }
    headers.insert(header::HOST, target.host.clone());
    headers.insert(header::ACCEPT_ENCODING, HeaderValue::from_static("identity"));
    headers.insert(header::CONTENT_LENGTH, HeaderValue::from(request.body.len()));
    let mut message = http::Request::new(Full::new(request.body.clone()));
    *message.method_mut() = match request.method {
        Method::Post => http::Method::POST,
        Method::Put => http::Method::PUT,
    };
    *message.uri_mut() = Uri::from(target.url.path_and_query().clone());
    *message.headers_mut() = headers;
    message
}
