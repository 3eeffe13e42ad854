//! The producer: hands events in over an ingest socket, in a closed loop or at a fixed rate; and the floor of that, a
//! socket that acknowledges whatever it reads.
//!
//! In the closed loop each connection keeps so many events unacknowledged, and an acknowledgement lets the next one go. At
//! a fixed rate the moments are decided beforehand: a daemon that is slow for a while finds the events waiting, they are
//! not emitted later for its sake.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use bytes::{Buf, BytesMut};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{UnixListener, UnixStream};
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior, interval_at};
use tokio_util::sync::CancellationToken;

use super::payload;
use super::sink::Round;

/// Bytes that are read at once.
const READ_BYTES: usize = 64 << 10;

/// What is emitted.
pub(super) struct Load {
    pub(super) socket: PathBuf,
    /// The types of events: event `n` has the one at `n` modulo their number.
    pub(super) kinds: Vec<String>,
    pub(super) round: u16,
    pub(super) payload_bytes: usize,
    /// Events at most.
    pub(super) events: u64,
    /// After that no further event begins.
    pub(super) time_max: Duration,
}

impl Load {
    fn put_line(&self, text: &mut Vec<u8>, event: u64) {
        let kind = &self.kinds[(event % self.kinds.len() as u64) as usize];
        let id = format!("b-{}-{event}", self.round);
        text.extend_from_slice(b"{\"type\":\"");
        text.extend_from_slice(kind.as_bytes());
        text.extend_from_slice(b"\",\"id\":\"");
        text.extend_from_slice(id.as_bytes());
        text.extend_from_slice(b"\",\"data\":");
        payload::write(text, self.round, event, self.payload_bytes);
        text.extend_from_slice(b"}\n");
    }

    /// Emits as fast as acknowledgements come. How many were acknowledged, and how long the last one took from the start.
    pub(super) async fn closed_loop(self, connections: usize, in_flight: usize) -> io::Result<(u64, Duration)> {
        let load = Arc::new(self);
        let next = Arc::new(AtomicU64::new(0));
        let mut streams = Vec::new();
        for _ in 0..connections {
            streams.push(UnixStream::connect(&load.socket).await?);
        }
        let began = Instant::now();
        let mut pumps = JoinSet::new();
        for stream in streams {
            pumps.spawn(pump(Arc::clone(&load), Arc::clone(&next), stream, in_flight, began));
        }
        let mut acknowledged = 0;
        while let Some(pumped) = pumps.join_next().await {
            acknowledged += pumped.map_err(io::Error::other)??;
        }
        Ok((acknowledged, began.elapsed()))
    }

    /// Emits `rate` events a second.
    pub(super) async fn open_loop(self, rate: u32, round: &Round) -> io::Result<Paced> {
        let (mut reader, mut writer) = UnixStream::connect(&self.socket).await?.into_split();
        let emit = async {
            let mut ticks = ticks(rate);
            let (mut text, mut due) = (Vec::new(), Vec::new());
            for event in 0..self.events {
                due.push(round.nanos_at(ticks.tick().await));
                text.clear();
                self.put_line(&mut text, event);
                writer.write_all(&text).await?;
            }
            Ok::<_, io::Error>(due)
        };
        let hear = async {
            let mut acknowledged = Vec::new();
            let mut replies = BytesMut::with_capacity(READ_BYTES);
            while (acknowledged.len() as u64) < self.events {
                let count = heard(&mut reader, &mut replies).await?;
                let now = round.nanos_at(Instant::now());
                acknowledged.extend(std::iter::repeat_n(now, count));
            }
            Ok::<_, io::Error>(acknowledged)
        };
        let (due, acknowledged) = tokio::join!(emit, hear);
        Ok(Paced { due: due?, acknowledged: acknowledged? })
    }
}

/// Moments of each event of an open loop, in nanoseconds since its round began.
pub(super) struct Paced {
    /// When it was to be emitted.
    pub(super) due: Vec<u64>,
    /// When its acknowledgement had been read.
    pub(super) acknowledged: Vec<u64>,
}

/// The fixed moments of an open loop. What is missed is caught up at once.
pub(super) fn ticks(rate: u32) -> tokio::time::Interval {
    let period = Duration::from_secs(1) / rate;
    let mut ticks = interval_at(Instant::now() + period, period);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Burst);
    ticks
}

async fn pump(
    load: Arc<Load>,
    next: Arc<AtomicU64>,
    stream: UnixStream,
    in_flight: usize,
    began: Instant,
) -> io::Result<u64> {
    let (mut reader, mut writer) = stream.into_split();
    let mut replies = BytesMut::with_capacity(READ_BYTES);
    let mut text = Vec::new();
    let (mut outstanding, mut acknowledged) = (0, 0);
    let mut more = true;
    loop {
        text.clear();
        while more && outstanding < in_flight {
            more = began.elapsed() < load.time_max
                && match next.fetch_add(1, Ordering::Relaxed) {
                    event if event < load.events => {
                        load.put_line(&mut text, event);
                        outstanding += 1;
                        true
                    }
                    _ => false,
                };
        }
        if outstanding == 0 {
            return Ok(acknowledged);
        }
        writer.write_all(&text).await?;
        let count = heard(&mut reader, &mut replies).await?;
        outstanding -= count;
        acknowledged += count as u64;
    }
}

/// Reads once; how many acknowledgements that completed. Anything else is an error.
async fn heard(reader: &mut (impl AsyncReadExt + Unpin), replies: &mut BytesMut) -> io::Result<usize> {
    if reader.read_buf(replies).await? == 0 {
        return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the daemon closed the connection"));
    }
    let mut count = 0;
    while let Some(end) = replies.iter().position(|byte| *byte == b'\n') {
        let line = &replies[..end];
        if !line.starts_with(b"{\"ok\":true,") || line.windows(16).any(|part| part == b"\"duplicate\":true") {
            return Err(io::Error::other(format!("an event was not taken: {}", String::from_utf8_lossy(line))));
        }
        replies.advance(end + 1);
        count += 1;
    }
    Ok(count)
}

/// What every line is answered with by the floor: as long as the daemon's own answer.
const BARE_REPLY: &[u8] =
    b"{\"ok\":true,\"id\":\"evt_00000000000000000000000000\",\"duplicate\":false,\"deliveries\":1}\n";

/// A socket that acknowledges every line at once and keeps nothing, on a thread of its own until this is dropped.
pub(super) struct BareSocket {
    stop: CancellationToken,
    thread: Option<JoinHandle<()>>,
}

impl BareSocket {
    pub(super) fn start(path: &Path) -> io::Result<BareSocket> {
        let listener = std::os::unix::net::UnixListener::bind(path)?;
        listener.set_nonblocking(true)?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let stop = CancellationToken::new();
        let thread = {
            let stop = stop.clone();
            std::thread::Builder::new().name("bare-socket".into()).spawn(move || {
                runtime.block_on(async {
                    let Ok(listener) = UnixListener::from_std(listener) else { return };
                    tokio::select! {
                        () = stop.cancelled() => {}
                        () = acknowledge(listener) => {}
                    }
                });
            })?
        };
        Ok(BareSocket { stop, thread: Some(thread) })
    }
}

impl Drop for BareSocket {
    fn drop(&mut self) {
        self.stop.cancel();
        if let Some(thread) = self.thread.take() {
            // If it panicked, the producer has seen its connections close.
            let _ = thread.join();
        }
    }
}

async fn acknowledge(listener: UnixListener) {
    let mut connections = JoinSet::new();
    while let Ok((mut stream, _)) = listener.accept().await {
        connections.spawn(async move {
            let (mut read, mut replies) = (BytesMut::with_capacity(READ_BYTES), Vec::new());
            while let Ok(1..) = stream.read_buf(&mut read).await {
                let lines = read.iter().filter(|byte| **byte == b'\n').count();
                read.clear();
                replies.clear();
                (0..lines).for_each(|_| replies.extend_from_slice(BARE_REPLY));
                if stream.write_all(&replies).await.is_err() {
                    return;
                }
            }
        });
    }
}
