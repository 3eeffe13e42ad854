//! Heads that nobody could read, answered in words like everything else.
//!
//! hyper answers a head that is not HTTP/1.1, or is too large, by itself: with a status, nothing beside it, and no hook. So
//! what it writes is looked at on its way out. Every answer of this program's own carries headers that such an answer
//! lacks, so that neither can be taken for the other. It is the last one of its connection in any case.
//!
//! When the client does not read, an answer before it may still wait in hyper's buffer, and the two are written as one: it
//! goes out as it is then, without a body.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes};
use http::header::{CONNECTION, CONTENT_LENGTH, DATE};
use http::{HeaderName, Method, StatusCode};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::response::{Body, Response};

/// A connection on which the parser's own answers get the body of the answer that `tell` makes for their status.
pub(super) struct InWords<S, T> {
    inner: S,
    tell: T,
    /// What goes out in the place of the parser's answer.
    instead: Bytes,
}

impl<S: AsyncWrite + Unpin, T: Fn(StatusCode) -> Option<(Response, String)> + Unpin> InWords<S, T> {
    pub(super) fn new(inner: S, tell: T) -> Self {
        InWords { inner, tell, instead: Bytes::new() }
    }

    /// Whether these bytes are the parser's answer, in whose place another one goes out from now on.
    fn takes(&mut self, bytes: &[u8]) -> bool {
        let Some(bare) = Bare::read(bytes) else { return false };
        let Some((answer, id)) = (self.tell)(bare.status) else { return false };
        self.instead = bare.with(answer, &id);
        true
    }

    fn poll_instead(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.instead.has_remaining() {
            let written = ready!(Pin::new(&mut self.inner).poll_write(context, &self.instead))?;
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.instead.advance(written);
        }
        Poll::Ready(Ok(()))
    }
}

/// An answer that the parser wrote.
struct Bare<'a> {
    status: StatusCode,
    /// Its status line.
    line: &'a str,
    /// Its date, when it has one.
    date: Option<&'a str>,
}

impl<'a> Bare<'a> {
    /// The parser's answer, if these bytes are one, whole and nothing else.
    fn read(bytes: &'a [u8]) -> Option<Self> {
        if !bytes.starts_with(b"HTTP/1.") || !bytes.ends_with(b"\r\n\r\n") {
            return None;
        }
        let mut lines = std::str::from_utf8(bytes).ok()?.strip_suffix("\r\n\r\n")?.split("\r\n");
        let line = lines.next()?;
        let status = StatusCode::from_bytes(line.split(' ').nth(1)?.as_bytes()).ok()?;
        let mut bare = Bare { status, line, date: None };
        let mut is_closed = false;
        for header in lines {
            let (name, value) = header.split_once(": ")?;
            match HeaderName::from_bytes(name.as_bytes()).ok()? {
                CONNECTION => is_closed = value == "close",
                CONTENT_LENGTH if value == "0" => {}
                DATE => bare.date = Some(value),
                _ => return None,
            }
        }
        (is_closed && status.is_client_error()).then_some(bare)
    }

    /// The same answer with this one's headers and body.
    fn with(&self, answer: Response, id: &str) -> Bytes {
        let body = match answer.body() {
            Body::Whole(body) => body.clone(),
            Body::Stream(_) => Bytes::new(),
        };
        let (head, _) = answer.into_hyper(&Method::GET, id, None).into_parts();
        let mut text = format!("{}\r\nconnection: close\r\n", self.line).into_bytes();
        for (name, value) in &head.headers {
            text.extend_from_slice(name.as_str().as_bytes());
            text.extend_from_slice(b": ");
            text.extend_from_slice(value.as_bytes());
            text.extend_from_slice(b"\r\n");
        }
        if let Some(date) = self.date {
            text.extend_from_slice(format!("date: {date}\r\n").as_bytes());
        }
        text.extend_from_slice(b"\r\n");
        text.extend_from_slice(&body);
        Bytes::from(text)
    }
}

impl<S: AsyncRead + Unpin, T: Unpin> AsyncRead for InWords<S, T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_read(context, buffer)
    }
}

impl<S: AsyncWrite + Unpin, T: Fn(StatusCode) -> Option<(Response, String)> + Unpin> AsyncWrite for InWords<S, T> {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        ready!(self.poll_instead(context))?;
        match self.takes(bytes) {
            // What stands in its place goes out with the flush that follows.
            true => Poll::Ready(Ok(bytes.len())),
            false => Pin::new(&mut self.inner).poll_write(context, bytes),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_instead(context))?;
        Pin::new(&mut self.inner).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_instead(context))?;
        Pin::new(&mut self.inner).poll_shutdown(context)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        ready!(self.poll_instead(context))?;
        match slices {
            [one] if self.takes(one) => Poll::Ready(Ok(one.len())),
            _ => Pin::new(&mut self.inner).poll_write_vectored(context, slices),
        }
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }
}

#[cfg(test)]
mod tests {
    use super::super::problem::{Problem, ProblemCode};
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    const BARE: &str = "HTTP/1.1 400 Bad Request\r\nconnection: close\r\ncontent-length: 0\r\ndate: today\r\n\r\n";

    fn tell(status: StatusCode) -> Option<(Response, String)> {
        let problem = Problem::new(ProblemCode::BadRequest, "told");
        (status == problem.code().status()).then(|| (problem.into_response("req_1"), "req_1".to_owned()))
    }

    /// What arrives of these writes at the other end of a pipe that takes this many bytes at a time.
    async fn arrived(room: usize, writes: &[&str]) -> String {
        let (mut near, far) = tokio::io::duplex(room);
        let mut io = InWords::new(far, tell);
        let write = async {
            for bytes in writes {
                io.write_all(bytes.as_bytes()).await.unwrap();
            }
            io.shutdown().await.unwrap();
        };
        let mut text = String::new();
        let (_, read) = tokio::join!(write, near.read_to_string(&mut text));
        read.unwrap();
        text
    }

    #[tokio::test]
    async fn a_bare_answer_gets_its_words_however_little_is_taken_at_a_time() {
        for room in [1, 7, 4096] {
            let text = arrived(room, &["HTTP/1.1 200 OK\r\n\r\nbefore", BARE]).await;
            let (before, after) = text.split_once("before").unwrap();
            assert_eq!(before, "HTTP/1.1 200 OK\r\n\r\n");
            let (head, body) = after.split_once("\r\n\r\n").unwrap();
            assert!(head.starts_with("HTTP/1.1 400 Bad Request\r\nconnection: close\r\n"), "{head}");
            for header in ["content-type: application/problem+json", "x-request-id: req_1", "date: today"] {
                assert!(head.lines().any(|line| line == header), "{header}: {head}");
            }
            assert!(head.contains(&format!("content-length: {}\r\n", body.len())), "{head}");
            assert!(body.contains(r#""code":"bad_request""#) && body.contains(r#""request_id":"req_1""#), "{body}");
        }
    }

    #[tokio::test]
    async fn everything_else_goes_out_as_it_is() {
        let others = [
            BARE.replace("400 Bad Request", "200 OK"),
            BARE.replace("400 Bad Request", "414 URI Too Long"),
            BARE.replace("content-length: 0", "content-length: 1"),
            BARE.replace("connection: close\r\n", ""),
            BARE.replace("date: today", "x-request-id: req_2"),
            format!("{BARE}more"),
            format!("before{BARE}"),
            "HTTP/1.1 ".to_owned(),
            String::new(),
        ];
        for other in others {
            assert_eq!(arrived(4096, &[&other]).await, other);
        }
    }
}
