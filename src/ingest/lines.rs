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
use tokio_util::codec::{Decoder, LinesCodec, LinesCodecError};
use tokio_util::sync::CancellationToken;

use crate::mouth::{Line, Parsed};
use crate::service::submission::{self, Submission};
use crate::service::{Code, HandedIn, Rejection};

use super::{OUTSTANDING_MAX, Producer, SHORT_LINE, Shared, default_tenant};

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
    let mut codec = LinesCodec::new_with_max_length(shared.line_max);
    let mut buffer = BytesMut::with_capacity(SHORT_LINE);
    buffer.extend_from_slice(&[first]);
    let mut at_end = false;
    loop {
        loop {
            let line = if at_end { codec.decode_eof(&mut buffer) } else { codec.decode(&mut buffer) };
            let reply = match line {
                Ok(None) => break,
                Ok(Some(line)) if line.bytes().all(|byte| byte.is_ascii_whitespace()) => continue,
                Ok(Some(line)) => take(shared, producer, &results, long_line.is_some(), line.as_bytes()).await?,
                Err(error) => {
                    let rejection = match error {
                        LinesCodecError::MaxLineLengthExceeded => {
                            let over = format!("the line is over {} bytes (ingest.line_max)", shared.line_max);
                            Rejection::new(Code::TooLarge, format!("{over}; the rest of it is skipped"))
                        }
                        // The codec reads from memory: what fails in it is the text.
                        LinesCodecError::Io(_) => {
                            Rejection::new(Code::BadJson, "the line is not UTF-8, as JSON must be")
                        }
                    };
                    let share = share(&results, 1, long_line.is_some()).await?;
                    Outstanding { reply: Reply::Refused(rejection), _results: share }
                }
            };
            if replies.send(reply).is_err() {
                return Ok(());
            }
            // The next line's time begins now: what we made it wait for is not its fault.
            if let Some(line) = &mut long_line {
                line.ends_before = Instant::now() + LONG_LINE_TIME;
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
            let room = tokio::select! {
                biased;
                () = stop.cancelled() => return Ok(()),
                () = replies.closed() => return Ok(()),
                room = shared.long_lines.room() => room,
            };
            long_line = Some(LongLine { ends_before: Instant::now() + LONG_LINE_TIME, _room: room });
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

/// How long a line longer than [`SHORT_LINE`] may take to end, and how long a peer that holds its room may take no replies.
const LONG_LINE_TIME: Duration = Duration::from_secs(60);

/// A line that is longer than [`SHORT_LINE`] and has not ended: its room among all such lines.
struct LongLine {
    ends_before: Instant,
    _room: OwnedSemaphorePermit,
}

/// A share of what may be outstanding. A peer that holds a long line's room has to take replies in time.
async fn share(results: &Arc<Semaphore>, count: usize, holds_room: bool) -> io::Result<OwnedSemaphorePermit> {
    let count = u32::try_from(count.clamp(1, OUTSTANDING_MAX)).expect("the bound is far below");
    let share = Arc::clone(results).acquire_many_owned(count);
    let share = if holds_room {
        let late = |_| io::Error::new(io::ErrorKind::TimedOut, "the peer takes no replies");
        tokio::time::timeout(LONG_LINE_TIME, share).await.map_err(late)?
    } else {
        share.await
    };
    Ok(share.expect("nobody closes the semaphore"))
}

/// Hands a line's events in, as soon as there is room.
async fn take(
    shared: &Shared,
    producer: &Producer,
    results: &Arc<Semaphore>,
    holds_room: bool,
    line: &[u8],
) -> io::Result<Outstanding> {
    let outstanding = |reply, share| Outstanding { reply, _results: share };
    let submission = match submission::parse(line, &default_tenant()) {
        Ok(submission) => submission,
        Err(rejection) => return Ok(outstanding(Reply::Refused(rejection), share(results, 1, holds_room).await?)),
    };
    let peer = Some(producer.peer);
    let count = match &submission {
        Submission::Ping | Submission::One(_) => 1,
        Submission::Batch(events) => events.len(),
    };
    let share = share(results, count, holds_room).await?;
    let reply = match submission {
        Submission::Ping => Reply::Pong,
        Submission::One(event) => {
            Reply::One(shared.service.hand_in(vec![allowed(&producer.allowed, event)], peer).await)
        }
        Submission::Batch(events) => {
            let events = events.into_iter().map(|event| allowed(&producer.allowed, event)).collect();
            Reply::Batch(shared.service.hand_in(events, peer).await)
        }
    };
    Ok(outstanding(reply, share))
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
