//! Newline-delimited JSON: a line in, a line out, in order, pipelined.
//!
//! The reader hands each line's events to the service and goes on reading; the writer waits for one commit after the other
//! and sends the replies as they become ready. The channel between them is the bound on what is outstanding.

use std::future::poll_fn;
use std::io;
use std::pin::pin;
use std::task::Poll;

use bytes::BytesMut;
use serde::Serialize;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::mpsc;
use tokio_util::codec::{AnyDelimiterCodec, AnyDelimiterCodecError, Decoder};
use tokio_util::sync::CancellationToken;

use crate::mouth::{Line, Parsed};
use crate::service::submission::{self, Submission};
use crate::service::{Code, HandedIn, Rejection};

use super::{OUTSTANDING_MAX, Producer, Shared, default_tenant};

/// A reply that is being made.
enum Reply {
    Pong,
    One(HandedIn),
    Batch(HandedIn),
    Refused(Rejection),
}

pub(super) async fn serve(
    shared: &Shared,
    producer: Producer,
    first: u8,
    stream: UnixStream,
    stop: CancellationToken,
) -> io::Result<()> {
    let (reader, writer) = stream.into_split();
    let (replies, outstanding) = mpsc::channel(OUTSTANDING_MAX);
    let reading = read(shared, &producer, first, reader, replies, stop);
    let writing = write(writer, outstanding);
    // The reader ends at the half-close; the writer ends after it, with the last reply. A peer that takes no replies ends both.
    let (read, written) = tokio::join!(reading, writing);
    read.and(written)
}

async fn read(
    shared: &Shared,
    producer: &Producer,
    first: u8,
    mut reader: OwnedReadHalf,
    replies: mpsc::Sender<Reply>,
    stop: CancellationToken,
) -> io::Result<()> {
    let mut codec = AnyDelimiterCodec::new_with_max_length(b"\n".to_vec(), Vec::new(), shared.line_max);
    let mut buffer = BytesMut::with_capacity(8 << 10);
    buffer.extend_from_slice(&[first]);
    let mut at_end = false;
    loop {
        loop {
            let line = if at_end { codec.decode_eof(&mut buffer) } else { codec.decode(&mut buffer) };
            let reply = match line {
                Ok(None) => break,
                Ok(Some(line)) if line.iter().all(u8::is_ascii_whitespace) => continue,
                Ok(Some(line)) => take(shared, producer, &line).await,
                Err(AnyDelimiterCodecError::MaxChunkLengthExceeded) => {
                    let message = format!(
                        "the line is over {} bytes (ingest.line_max); the rest of it is skipped",
                        shared.line_max
                    );
                    Reply::Refused(Rejection::new(Code::TooLarge, message))
                }
                Err(AnyDelimiterCodecError::Io(error)) => return Err(error),
            };
            if replies.send(reply).await.is_err() {
                return Ok(());
            }
        }
        if at_end {
            return Ok(());
        }
        let read = tokio::select! {
            biased;
            () = stop.cancelled() => return Ok(()),
            // The peer takes no replies any more: what it still writes would be accepted without its knowing.
            () = replies.closed() => return Ok(()),
            read = reader.read_buf(&mut buffer) => read?,
        };
        at_end = read == 0;
    }
}

/// Hands a line's events in, as soon as there is room.
async fn take(shared: &Shared, producer: &Producer, line: &[u8]) -> Reply {
    let submission = match submission::parse(line, &default_tenant()) {
        Ok(submission) => submission,
        Err(rejection) => return Reply::Refused(rejection),
    };
    let peer = Some(producer.peer);
    match submission {
        Submission::Ping => Reply::Pong,
        Submission::One(event) => {
            Reply::One(shared.service.hand_in(vec![allowed(&producer.allowed, event)], peer).await)
        }
        Submission::Batch(events) => {
            let events = events.into_iter().map(|event| allowed(&producer.allowed, event)).collect();
            Reply::Batch(shared.service.hand_in(events, peer).await)
        }
    }
}

/// An event whose tenant the producer may emit for.
pub(super) fn allowed(allowed: &super::Allowed, event: Parsed) -> Parsed {
    let event = event?;
    if allowed.takes(&event.tenant) {
        Ok(event)
    } else {
        let message = format!("this user may not emit for tenant {} ([[ingest.allow]])", event.tenant);
        Err(Rejection::new(Code::NotAllowed, message))
    }
}

async fn write(mut writer: OwnedWriteHalf, mut outstanding: mpsc::Receiver<Reply>) -> io::Result<()> {
    let mut text = Vec::with_capacity(4 << 10);
    while let Some(reply) = outstanding.recv().await {
        let mut line = pin!(line_of(reply));
        // What is ready goes along with the rest; what is not does not hold up the rest.
        let ready = poll_fn(|context| match line.as_mut().poll(context) {
            Poll::Ready(line) => Poll::Ready(Some(line)),
            Poll::Pending => Poll::Ready(None),
        });
        match ready.await {
            Some(line) => text.extend(line),
            None => {
                flush(&mut writer, &mut text).await?;
                text.extend(line.await);
            }
        }
        if outstanding.is_empty() || text.len() >= FLUSH_AT {
            flush(&mut writer, &mut text).await?;
        }
    }
    flush(&mut writer, &mut text).await?;
    writer.shutdown().await
}

/// Bytes of replies that are gathered before they are written.
const FLUSH_AT: usize = 16 << 10;

async fn flush(writer: &mut OwnedWriteHalf, text: &mut Vec<u8>) -> io::Result<()> {
    writer.write_all(text).await?;
    text.clear();
    Ok(())
}

async fn line_of(reply: Reply) -> Vec<u8> {
    match reply {
        Reply::Pong => line(&Line::PONG),
        Reply::Refused(rejection) => line(&Line::refused(&rejection)),
        Reply::One(handed_in) => line(&Line::of(&handed_in.result().await)),
        Reply::Batch(handed_in) => {
            let results = handed_in.results().await;
            line(&results.iter().map(Line::of).collect::<Vec<_>>())
        }
    }
}

fn line(reply: &impl Serialize) -> Vec<u8> {
    let mut text = serde_json::to_vec(reply).expect("a reply is plain data");
    text.push(b'\n');
    text
}
