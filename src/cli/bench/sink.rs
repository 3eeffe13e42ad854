//! The receiver: takes deliveries as fast as it can, notes when each came and whether it was the right one, answers 200.
//!
//! It lives on a thread of its own. A [`Round`] is one measurement: every event of it has a number that travels in the
//! body, so that each delivery is counted once, repeats and strays are told apart, and nothing needs to be looked up.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::thread::JoinHandle;
use std::time::Duration;

use bytes::Bytes;
use http::uri::Scheme;
use http::{Request, Response, header};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use nix::sys::socket::{Backlog, listen};
use tokio::sync::Notify;
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_rustls::TlsAcceptor;
use tokio_util::either::Either;
use tokio_util::sync::CancellationToken;

use super::certificate::Certificate;
use super::payload;
use crate::cli::signature::Proof;
use crate::model::Timestamp;
use crate::sign::Message;

/// One delivery in so many has its signature verified.
const VERIFIED_ONE_IN: u64 = 100;
/// A round that receives nothing for so long has lost what is missing.
const PATIENCE: Duration = Duration::from_secs(15);

/// One measurement, as the receiver sees it.
pub(super) struct Round {
    number: u16,
    fanout: usize,
    groups: u64,
    proofs: Arc<Vec<Proof>>,
    began: Instant,
    /// Of each event, which of its deliveries have come.
    came: Vec<AtomicU64>,
    /// Of each event, when its first delivery came, in nanoseconds since the beginning.
    first: Vec<AtomicU64>,
    received: AtomicU64,
    wanted: AtomicU64,
    earliest: AtomicU64,
    last: AtomicU64,
    complete: Notify,
    repeats: AtomicU64,
    strays: AtomicU64,
    verified: AtomicU64,
    unverified: AtomicU64,
}

/// What came of a round.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Tally {
    pub(super) received: u64,
    pub(super) lost: u64,
    pub(super) repeats: u64,
    /// At the wrong destination, of another round, or not of ours at all.
    pub(super) strays: u64,
    pub(super) verified: u64,
    pub(super) unverified: u64,
    /// From the beginning to the last receipt.
    pub(super) took: Duration,
}

impl Round {
    /// A round of at most `events` events, each for `fanout` destinations; event `n` is for group `n % groups`.
    pub(super) fn new(number: u16, events: u64, fanout: usize, groups: u64, proofs: Arc<Vec<Proof>>) -> Arc<Round> {
        let zeros = || (0..events).map(|_| AtomicU64::new(0)).collect();
        Arc::new(Round {
            number,
            fanout,
            groups,
            proofs,
            began: Instant::now(),
            came: zeros(),
            first: zeros(),
            received: AtomicU64::new(0),
            wanted: AtomicU64::new(u64::MAX),
            earliest: AtomicU64::new(u64::MAX),
            last: AtomicU64::new(0),
            complete: Notify::new(),
            repeats: AtomicU64::new(0),
            strays: AtomicU64::new(0),
            verified: AtomicU64::new(0),
            unverified: AtomicU64::new(0),
        })
    }

    pub(super) fn number(&self) -> u16 {
        self.number
    }

    /// A moment, in nanoseconds since the beginning.
    pub(super) fn nanos_at(&self, moment: Instant) -> u64 {
        u64::try_from(moment.duration_since(self.began).as_nanos()).unwrap_or(u64::MAX)
    }

    /// When an event's first delivery came; `None` when it did not.
    pub(super) fn first_receipt(&self, event: u64) -> Option<u64> {
        let at = self.first.get(usize::try_from(event).ok()?)?.load(Ordering::Relaxed);
        (at != 0).then_some(at)
    }

    /// When the very first delivery came; `None` when none has come yet.
    pub(super) fn earliest(&self) -> Option<u64> {
        let at = self.earliest.load(Ordering::SeqCst);
        (at != u64::MAX).then_some(at)
    }

    /// Waits until all deliveries of the first `events` events have come, or nothing comes any more.
    pub(super) async fn finish(&self, events: u64) -> Tally {
        let wanted = events * self.fanout as u64;
        // Told before it is looked at, while the receiver counts before it looks: one of the two sees the other.
        self.wanted.store(wanted, Ordering::SeqCst);
        let mut before = self.received.load(Ordering::SeqCst);
        while before < wanted {
            let heard = tokio::time::timeout(PATIENCE, self.complete.notified()).await;
            let received = self.received.load(Ordering::SeqCst);
            if heard.is_err() && received == before {
                break;
            }
            before = received;
        }
        let received = self.received.load(Ordering::SeqCst);
        Tally {
            received,
            lost: wanted.saturating_sub(received),
            repeats: self.repeats.load(Ordering::Relaxed),
            strays: self.strays.load(Ordering::Relaxed),
            verified: self.verified.load(Ordering::Relaxed),
            unverified: self.unverified.load(Ordering::Relaxed),
            took: Duration::from_nanos(self.last.load(Ordering::SeqCst)),
        }
    }

    fn take(&self, scheme: &Scheme, request: &http::request::Parts, body: &[u8]) {
        let nanos = self.nanos_at(Instant::now()).max(1);
        let place = request.uri.path().rsplit('/').next().and_then(|place| place.parse::<u64>().ok());
        let event = payload::read(body).filter(|(round, _)| *round == self.number).map(|(_, event)| event);
        let known = event.and_then(|event| Some((event, self.came.get(usize::try_from(event).ok()?)?)));
        let (Some(place), Some((event, came))) = (place, known) else {
            self.strays.fetch_add(1, Ordering::Relaxed);
            return;
        };
        let fanout = self.fanout as u64;
        if place / fanout != event % self.groups {
            self.strays.fetch_add(1, Ordering::Relaxed);
            return;
        }
        let bit = 1 << (place % fanout);
        let before = came.fetch_or(bit, Ordering::Relaxed);
        if before & bit != 0 {
            self.repeats.fetch_add(1, Ordering::Relaxed);
            return;
        }
        if before == 0
            && let Some(first) = self.first.get(event as usize)
        {
            first.store(nanos, Ordering::Relaxed);
        }
        if event.is_multiple_of(VERIFIED_ONE_IN) {
            self.verify(place, scheme, request, body);
        }
        self.earliest.fetch_min(nanos, Ordering::SeqCst);
        self.last.fetch_max(nanos, Ordering::SeqCst);
        let received = self.received.fetch_add(1, Ordering::SeqCst) + 1;
        if received >= self.wanted.load(Ordering::SeqCst) {
            self.complete.notify_one();
        }
    }

    fn verify(&self, place: u64, scheme: &Scheme, request: &http::request::Parts, body: &[u8]) {
        let host = request.headers.get(header::HOST).and_then(|host| host.to_str().ok()).unwrap_or_default();
        let url = format!("{scheme}://{host}{}", request.uri.path());
        let message =
            Message { id: "", timestamp: Timestamp::ZERO, nonce: "", url: &url, method: request.method.as_str(), body };
        let proof = usize::try_from(place).ok().and_then(|place| self.proofs.get(place));
        let right = proof.is_some_and(|proof| proof.verify(&message, &request.headers).is_ok());
        if right { &self.verified } else { &self.unverified }.fetch_add(1, Ordering::Relaxed);
    }
}

/// What the receiver's thread shares with its owner.
struct Shared {
    // Held for a copy or a change of the pointer.
    round: RwLock<Arc<Round>>,
    open: AtomicU64,
    peak: AtomicU64,
    scheme: Scheme,
    tls: Option<TlsAcceptor>,
}

/// The receiver, on its thread until this is dropped.
pub(super) struct Sink {
    address: SocketAddr,
    shared: Arc<Shared>,
    stop: CancellationToken,
    thread: Option<JoinHandle<()>>,
}

impl Sink {
    /// Listens on a free port of the loopback address; with a certificate it speaks TLS.
    pub(super) fn start(certificate: Option<&Certificate>) -> io::Result<Sink> {
        let listener = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        // The standard library lets 128 connections wait. What finds no place is dialled again by the kernel a second later, and
        // that second would be the receiver's, not the daemon's.
        listen(&listener, Backlog::MAXCONN)?;
        listener.set_nonblocking(true)?;
        let address = listener.local_addr()?;
        let shared = Arc::new(Shared {
            round: RwLock::new(Round::new(0, 0, 1, 1, Arc::default())),
            open: AtomicU64::new(0),
            peak: AtomicU64::new(0),
            scheme: if certificate.is_some() { Scheme::HTTPS } else { Scheme::HTTP },
            tls: certificate.map(|certificate| TlsAcceptor::from(Arc::clone(&certificate.server))),
        });
        let stop = CancellationToken::new();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let thread = {
            let (shared, stop) = (Arc::clone(&shared), stop.clone());
            std::thread::Builder::new().name("receiver".into()).spawn(move || {
                runtime.block_on(async {
                    let Ok(listener) = tokio::net::TcpListener::from_std(listener) else { return };
                    tokio::select! {
                        () = stop.cancelled() => {}
                        () = serve(listener, shared) => {}
                    }
                });
            })?
        };
        Ok(Sink { address, shared, stop, thread: Some(thread) })
    }

    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }

    /// The URL of a place in it.
    pub(super) fn url(&self, place: impl std::fmt::Display) -> String {
        format!("{}://{}/{place}", self.shared.scheme, self.address)
    }

    /// From now on deliveries are of this round.
    pub(super) fn begin(&self, round: &Arc<Round>) {
        *self.shared.round.write().unwrap_or_else(PoisonError::into_inner) = Arc::clone(round);
        self.shared.peak.store(self.shared.open.load(Ordering::Relaxed), Ordering::Relaxed);
    }

    /// The most connections that were open at a time since the round began.
    pub(super) fn connections_peak(&self) -> usize {
        usize::try_from(self.shared.peak.load(Ordering::Relaxed)).unwrap_or(usize::MAX)
    }
}

impl Drop for Sink {
    fn drop(&mut self) {
        self.stop.cancel();
        if let Some(thread) = self.thread.take() {
            // A receiver that panicked has been seen by its round: what it should have received is missing.
            let _ = thread.join();
        }
    }
}

async fn serve(listener: tokio::net::TcpListener, shared: Arc<Shared>) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => {
                let Ok((stream, _)) = accepted else { continue };
                // Only a delay; the figures would show it.
                let _ = stream.set_nodelay(true);
                let shared = Arc::clone(&shared);
                connections.spawn(async move {
                    let open = shared.open.fetch_add(1, Ordering::Relaxed) + 1;
                    shared.peak.fetch_max(open, Ordering::Relaxed);
                    let service = service_fn(|request| answer(&shared, request));
                    let stream = match &shared.tls {
                        None => Ok(Either::Left(stream)),
                        Some(tls) => tls.accept(stream).await.map(Either::Right),
                    };
                    // However it ends: what came in has been counted.
                    if let Ok(stream) = stream {
                        let _ = hyper::server::conn::http1::Builder::new()
                            .serve_connection(TokioIo::new(stream), service)
                            .await;
                    }
                    shared.open.fetch_sub(1, Ordering::Relaxed);
                });
            }
            Some(_) = connections.join_next() => {}
        }
    }
}

async fn answer(shared: &Shared, request: Request<Incoming>) -> Result<Response<Full<Bytes>>, hyper::Error> {
    let (head, body) = request.into_parts();
    let body = body.collect().await?.to_bytes();
    let round = Arc::clone(&shared.round.read().unwrap_or_else(PoisonError::into_inner));
    round.take(&shared.scheme, &head, &body);
    Ok(Response::new(Full::default()))
}
