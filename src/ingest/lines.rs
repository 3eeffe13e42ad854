//! Newline-delimited JSON: a line in, a line out, in order, pipelined.
//!
//! The reader hands each line's events to the service and goes on reading; the writer waits for one commit after the other
//! and sends the replies as they become ready. What is outstanding is bounded in results, so that a peer that does not read its
//! replies is not read any further; long lines that have not ended share one bound over all connections, and have to end in time.

use std::future::poll_fn;
use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use bytes::BytesMut;
use serde::Serialize;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::time::Instant;
use tokio_util::codec::{AnyDelimiterCodec, AnyDelimiterCodecError, Decoder};
use tokio_util::sync::CancellationToken;

use crate::mouth::{Line, Parsed};
use crate::service::submission::{self, Submission};
use crate::service::{Code, HandedIn, Rejection};

use super::{LONG_LINE_UNIT, OUTSTANDING_MAX, Producer, Shared, default_tenant};

/// A reply that is being made, and its share of what may be outstanding.
struct Outstanding {
    reply: Reply,
    _results: OwnedSemaphorePermit,
}

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
    let (replies, outstanding) = mpsc::unbounded_channel();
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
    replies: mpsc::UnboundedSender<Outstanding>,
    stop: CancellationToken,
) -> io::Result<()> {
    // Every reply takes its share before it goes into the channel: this is the channel's bound.
    let results = Arc::new(Semaphore::new(OUTSTANDING_MAX));
    let mut long_line: Option<LongLine> = None;
    let mut codec = AnyDelimiterCodec::new_with_max_length(b"\n".to_vec(), Vec::new(), shared.line_max);
    let mut buffer = BytesMut::with_capacity(SHORT_LINE);
    buffer.extend_from_slice(&[first]);
    let mut at_end = false;
    loop {
        loop {
            let line = if at_end { codec.decode_eof(&mut buffer) } else { codec.decode(&mut buffer) };
            let reply = match line {
                Ok(None) => break,
                Ok(Some(line)) if line.iter().all(u8::is_ascii_whitespace) => continue,
                Ok(Some(line)) => take(shared, producer, &results, &line).await,
                Err(AnyDelimiterCodecError::MaxChunkLengthExceeded) => {
                    let message = format!(
                        "the line is over {} bytes (ingest.line_max); the rest of it is skipped",
                        shared.line_max
                    );
                    refused(&results, Rejection::new(Code::TooLarge, message)).await
                }
                Err(AnyDelimiterCodecError::Io(error)) => return Err(error),
            };
            if replies.send(reply).is_err() {
                return Ok(());
            }
        }
        if at_end {
            return Ok(());
        }
        if buffer.len() < SHORT_LINE {
            if long_line.take().is_some() {
                // The long line's memory goes with its share.
                buffer = BytesMut::from(&buffer[..]);
            }
        } else if long_line.is_none() {
            long_line = Some(LongLine::begin(shared).await);
        }
        let too_long = async {
            match &long_line {
                Some(line) => tokio::time::sleep_until(line.ends_before).await,
                None => std::future::pending().await,
            }
        };
        let read = tokio::select! {
            biased;
            () = stop.cancelled() => return Ok(()),
            // The peer takes no replies any more: what it still writes would be accepted without its knowing.
            () = replies.closed() => return Ok(()),
            () = too_long => return Err(io::Error::new(io::ErrorKind::TimedOut, "a long line did not end in time")),
            read = reader.read_buf(&mut buffer) => read?,
        };
        at_end = read == 0;
    }
}

/// Bytes that every connection may hold of a line that has not ended.
const SHORT_LINE: usize = 8 << 10;
/// How long a longer line may take to end.
const LONG_LINE_TIME: Duration = Duration::from_secs(60);

/// A line that is longer than [`SHORT_LINE`] and has not ended: its share of the bytes that all such lines may hold.
struct LongLine {
    ends_before: Instant,
    _room: OwnedSemaphorePermit,
}

impl LongLine {
    /// Waits for room. Nothing is read meanwhile.
    async fn begin(shared: &Shared) -> Self {
        let units = u32::try_from(shared.line_max / LONG_LINE_UNIT + 1).unwrap_or(u32::MAX);
        let room = Arc::clone(&shared.long_lines).acquire_many_owned(units).await;
        let room = room.expect("nobody closes the semaphore, and it has room for a line of any length that is allowed");
        LongLine { ends_before: Instant::now() + LONG_LINE_TIME, _room: room }
    }
}

async fn share(results: &Arc<Semaphore>, count: usize) -> OwnedSemaphorePermit {
    let count = u32::try_from(count.clamp(1, OUTSTANDING_MAX)).expect("the bound is far below");
    Arc::clone(results).acquire_many_owned(count).await.expect("nobody closes the semaphore")
}

async fn refused(results: &Arc<Semaphore>, rejection: Rejection) -> Outstanding {
    Outstanding { reply: Reply::Refused(rejection), _results: share(results, 1).await }
}

/// Hands a line's events in, as soon as there is room.
async fn take(shared: &Shared, producer: &Producer, results: &Arc<Semaphore>, line: &[u8]) -> Outstanding {
    let submission = match submission::parse(line, &default_tenant()) {
        Ok(submission) => submission,
        Err(rejection) => return refused(results, rejection).await,
    };
    let peer = Some(producer.peer);
    match submission {
        Submission::Ping => Outstanding { reply: Reply::Pong, _results: share(results, 1).await },
        Submission::One(event) => {
            let share = share(results, 1).await;
            let handed_in = shared.service.hand_in(vec![allowed(&producer.allowed, event)], peer).await;
            Outstanding { reply: Reply::One(handed_in), _results: share }
        }
        Submission::Batch(events) => {
            let share = share(results, events.len()).await;
            let events = events.into_iter().map(|event| allowed(&producer.allowed, event)).collect();
            let handed_in = shared.service.hand_in(events, peer).await;
            Outstanding { reply: Reply::Batch(handed_in), _results: share }
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

async fn write(mut writer: OwnedWriteHalf, mut outstanding: mpsc::UnboundedReceiver<Outstanding>) -> io::Result<()> {
    let mut text = Vec::with_capacity(4 << 10);
    // The share goes back when the reply has been written or gathered.
    while let Some(Outstanding { reply, _results }) = outstanding.recv().await {
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
