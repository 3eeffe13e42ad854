//! The ingest socket: local programs hand events in, and are told when they are on disk.
//!
//! One stream socket, two protocols, told apart by the first byte that is not white space: `{` or `[` is newline-delimited
//! JSON, anything else HTTP/1.1. Replies to lines come in order, one line each, after the commit has been synced.
//!
//! Everything is bounded: connections, a line, replies outstanding on one connection, bytes that wait for a commit. At that
//! last bound the daemon stops reading, and the kernel's buffer pushes back on the producer.

mod allow;
mod http;
mod lines;

use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::AsyncReadExt;
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::http::serve::Server;
use crate::model::TenantId;
use crate::model::event::Peer;
use crate::service::Service;

pub use allow::{Allowed, Rule, Who};

use allow::Rules;

/// How events are taken.
#[derive(Debug, Clone)]
pub struct Settings {
    /// A line's bytes at most, its newline not counted; also of a body over HTTP.
    pub line_max: usize,
    /// Connections at once; further ones wait in the kernel's backlog.
    pub connections_max: usize,
    /// Who may emit for which tenants; empty: whoever may open the socket, for all.
    pub allow: Vec<Rule>,
    /// Bounds of the HTTP side.
    pub http: crate::http::serve::Settings,
}

impl Default for Settings {
    fn default() -> Self {
        let http = crate::http::serve::Settings::default();
        Settings { line_max: 1 << 20, connections_max: 1024, allow: Vec::new(), http }
    }
}

/// Results that one connection may have outstanding: a producer that pipelines and does not read is not read any further.
const OUTSTANDING_MAX: usize = 4096;
/// Bytes that long requests which have not ended may hold over all connections, unless a single one may be longer.
const LONG_LINES_BYTES_MAX: usize = 64 << 20;
/// Bytes per unit of that bound.
const LONG_LINE_UNIT: usize = 1024;
/// Bytes that every connection may hold of a request that has not ended.
const SHORT_LINE: usize = 8 << 10;

/// Room for requests longer than [`SHORT_LINE`] that have not ended, over all connections.
#[derive(Clone)]
struct LongLines {
    room: Arc<Semaphore>,
    units: u32,
}

impl LongLines {
    fn new(line_max: usize) -> Self {
        let units = u32::try_from(line_max / LONG_LINE_UNIT + 1).unwrap_or(u32::MAX);
        let room = (LONG_LINES_BYTES_MAX / LONG_LINE_UNIT).max(units as usize);
        LongLines { room: Arc::new(Semaphore::new(room)), units }
    }

    /// Waits for room for one request of any length that is allowed.
    async fn room(&self) -> OwnedSemaphorePermit {
        let room = Arc::clone(&self.room).acquire_many_owned(self.units).await;
        room.expect("nobody closes the semaphore, and it has room for one of any length")
    }
}
/// How long a listener rests after an accept that failed.
const ACCEPT_REST: Duration = Duration::from_millis(100);

/// The socket's server.
pub struct Ingest {
    settings: Settings,
    service: Service,
}

/// What every connection shares.
struct Shared {
    line_max: usize,
    rules: Arc<Rules>,
    long_lines: LongLines,
    service: Service,
    server: Server,
}

/// One producer's connection, after its greeting.
struct Producer {
    peer: Peer,
    allowed: Allowed,
}

impl Ingest {
    /// The server over a service.
    pub fn new(settings: Settings, service: Service) -> Self {
        Ingest { settings, service }
    }

    /// Serves until `stop`: then nothing more is accepted or read, what has been read is answered, and after `drain_max` the
    /// rest is cut.
    pub async fn run(self, listener: UnixListener, stop: CancellationToken, drain_max: Duration) {
        let Settings { line_max, connections_max, allow, http } = self.settings;
        let rules = Arc::new(Rules::new(allow));
        let long_lines = LongLines::new(line_max);
        let handler = http::handler(self.service.clone(), Arc::clone(&rules), line_max, long_lines.clone());
        let server = Server::new(http, handler);
        let shared = Arc::new(Shared { line_max, rules, long_lines, service: self.service, server });
        let slots = Arc::new(Semaphore::new(connections_max.max(1)));
        let mut connections = JoinSet::new();
        loop {
            let next = async {
                let slot = Arc::clone(&slots).acquire_owned().await.expect("nobody closes the semaphore");
                (slot, listener.accept().await)
            };
            tokio::select! {
                biased;
                () = stop.cancelled() => break,
                Some(ended) = connections.join_next(), if !connections.is_empty() => report(ended),
                (slot, accepted) = next => match accepted {
                    Ok((stream, _)) => {
                        let (shared, stop) = (Arc::clone(&shared), stop.clone());
                        connections.spawn(async move {
                            serve(&shared, stream, stop).await;
                            drop(slot);
                        });
                    }
                    Err(cause) => {
                        tracing::warn!(event = "accept_failed", %cause, "accept on the ingest socket");
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
        if tokio::time::timeout(drain_max, all_ended).await.is_err() {
            tracing::warn!(event = "producers_cut", count = connections.len(), "producers did not take their replies");
            connections.shutdown().await;
        }
    }
}

fn report(ended: Result<(), tokio::task::JoinError>) {
    if let Err(error) = ended
        && error.is_panic()
    {
        tracing::error!(event = "connection_panicked", %error, "a connection on the ingest socket panicked");
    }
}

async fn serve(shared: &Shared, stream: UnixStream, stop: CancellationToken) {
    if let Err(cause) = greet(shared, stream, stop).await {
        // Producers that vanish take nothing with them: what was committed stands.
        tracing::debug!(event = "connection_failed", %cause, "a connection on the ingest socket ended early");
    }
}

/// Reads up to the first byte that counts, and lets it decide which protocol is spoken.
async fn greet(shared: &Shared, mut stream: UnixStream, stop: CancellationToken) -> io::Result<()> {
    let credentials = stream.peer_cred()?;
    let peer = Peer { uid: credentials.uid(), gid: credentials.gid(), pid: credentials.pid() };
    let first = loop {
        let mut byte = [0];
        let read = tokio::select! {
            biased;
            () = stop.cancelled() => return Ok(()),
            read = stream.read(&mut byte) => read?,
        };
        match (read, byte[0]) {
            (0, _) => return Ok(()),
            (_, b' ' | b'\t' | b'\r' | b'\n') => {}
            (_, first) => break first,
        }
    };
    match first {
        b'{' | b'[' => {
            let producer = Producer { peer, allowed: shared.rules.allow(peer).await };
            lines::serve(shared, producer, first, stream, stop).await
        }
        _ => {
            let (reader, writer) = stream.into_split();
            let io = tokio::io::join(std::io::Cursor::new([first]).chain(reader), writer);
            shared.server.serve_connection(io, crate::http::request::Peer::Unix(peer), stop).await;
            Ok(())
        }
    }
}

/// The tenant of events that name none.
fn default_tenant() -> TenantId {
    TenantId::default_tenant()
}
