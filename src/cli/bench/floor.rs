//! The floor: the same deliveries without a daemon around them. The daemon's own client (guard, kept connections, deadlines,
//! byte budgets) posts bodies that are signed as the daemon signs them to the same receiver, with as many in flight and over
//! as many destinations; without a store, a schedule and a record of each attempt. What those cost can be measured against
//! this in the same minute, on a machine of any speed.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http::header::{self, HeaderName, HeaderValue};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::process::cpu_of_thread;
use super::sink::Round;
use super::{payload, producer};
use crate::client::{self, Client, Request, Wire, guard};
use crate::clock::Clock;
use crate::model::destination::SignedWith;
use crate::model::{DeliveryId, Destination, Epoch, EventId, Seq};
use crate::sign::{self, Message};

/// As the daemon's default.
const TIMEOUT: Duration = Duration::from_secs(30);

/// What is posted.
#[derive(Clone)]
pub(super) struct Post {
    /// Delivery `n` goes to destination `n` modulo their number.
    pub(super) destinations: Arc<Vec<Destination>>,
    pub(super) round: Arc<Round>,
    pub(super) payload_bytes: usize,
    /// Deliveries at once.
    pub(super) in_flight: usize,
    pub(super) deliveries: u64,
    /// After that no further delivery begins.
    pub(super) time_max: Duration,
}

/// What came of it.
pub(super) struct Posted {
    /// All of them, also those that opened the connections.
    pub(super) deliveries: u64,
    /// Those that the time and the processor time stand for.
    pub(super) measured: u64,
    pub(super) took: Duration,
    /// The client's own processor time meanwhile.
    pub(super) cpu: Duration,
    /// When each was to be sent, in nanoseconds since the round began; at a fixed rate only.
    pub(super) due: Vec<u64>,
}

/// Posts with the daemon's client, on the thread that calls; as fast as replies come, or so many a second. `ca` is an
/// authority to trust besides the system's.
pub(super) fn run(post: Post, ca: Option<PathBuf>, rate: Option<u32>) -> io::Result<Posted> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        // The daemon under measurement is configured like this, too.
        let guard = guard::Settings { allow_loopback: true, allow_http: true, ..guard::Settings::default() };
        let client = Client::new(client::Settings { ca, guard, ..client::Settings::default() });
        let floor = Arc::new(Floor { client: client.map_err(io::Error::other)?, post });
        // The daemon's connections stand when it is measured: so do these.
        let opening = if rate.is_some() { 0 } else { (floor.post.in_flight as u64).min(floor.post.deliveries / 2) };
        let opened = floor.closed_loop(opening as usize, 0, opening).await?;
        let (before, began) = (cpu_of_thread()?, Instant::now());
        let (measured, due) = match rate {
            None => (floor.closed_loop(floor.post.in_flight, opening, floor.post.deliveries).await?, Vec::new()),
            Some(rate) => {
                let due = floor.open_loop(rate).await?;
                (due.len() as u64, due)
            }
        };
        let (took, cpu) = (began.elapsed(), cpu_of_thread()?.saturating_sub(before));
        Ok(Posted { deliveries: opened + measured, measured, took, cpu, due })
    })
}

struct Floor {
    client: Client,
    post: Post,
}

impl Floor {
    async fn closed_loop(self: &Arc<Self>, workers: usize, first: u64, end: u64) -> io::Result<u64> {
        let next = Arc::new(AtomicU64::new(first));
        let began = Instant::now();
        let mut posting = JoinSet::new();
        for _ in 0..workers {
            let (floor, next) = (Arc::clone(self), Arc::clone(&next));
            posting.spawn(async move {
                let mut done = 0;
                while began.elapsed() < floor.post.time_max {
                    let delivery = next.fetch_add(1, Ordering::Relaxed);
                    if delivery >= end {
                        break;
                    }
                    floor.deliver(delivery).await?;
                    done += 1;
                }
                Ok::<u64, io::Error>(done)
            });
        }
        let mut deliveries = 0;
        while let Some(done) = posting.join_next().await {
            deliveries += done.map_err(io::Error::other)??;
        }
        Ok(deliveries)
    }

    async fn open_loop(self: &Arc<Self>, rate: u32) -> io::Result<Vec<u64>> {
        let mut due = Vec::new();
        let mut posting = JoinSet::new();
        // As the daemon: what finds no slot waits for one, and does not dial.
        let slots = Arc::new(Semaphore::new(self.post.in_flight.max(1)));
        let mut ticks = producer::ticks(rate);
        for delivery in 0..self.post.deliveries {
            due.push(self.post.round.nanos_at(ticks.tick().await));
            let (floor, slots) = (Arc::clone(self), Arc::clone(&slots));
            posting.spawn(async move {
                let _slot = slots.acquire().await.map_err(io::Error::other)?;
                floor.deliver(delivery).await
            });
        }
        while let Some(done) = posting.join_next().await {
            done.map_err(io::Error::other)??;
        }
        Ok(due)
    }

    async fn deliver(&self, delivery: u64) -> io::Result<()> {
        let (destination, headers, body) = self.post.render(delivery)?;
        let request = Request {
            lane: destination.no,
            tenant: destination.tenant.clone(),
            url: destination.url.as_str().into(),
            method: destination.method,
            headers,
            body,
            timeout: TIMEOUT,
            head_timeout: None,
            tls: Arc::new(destination.tls.clone()),
            allow_private: destination.allow_private,
            in_flight_max: u32::try_from(self.post.in_flight).unwrap_or(u32::MAX),
        };
        let exchange = self.client.send(request).await;
        match (exchange.status, exchange.failure) {
            (Some(200..=299), _) => Ok(()),
            (Some(status), _) => Err(io::Error::other(format!("the receiver answered {status}"))),
            (None, failure) => Err(io::Error::other(failure.map(|failure| failure.message).unwrap_or_default())),
        }
    }
}

/// Headers, in order.
type Lines = Vec<(HeaderName, HeaderValue)>;

impl Post {
    /// A delivery as the daemon would send it: where, its headers with its signatures, its body.
    pub(super) fn render(&self, delivery: u64) -> io::Result<(&Destination, Lines, Bytes)> {
        let destination = &self.destinations[(delivery % self.destinations.len() as u64) as usize];
        let now = Clock::system().now();
        let event = EventId::new(Epoch(1), Seq(delivery + 1));
        let id = event.to_string();
        let delivery_id = DeliveryId { event, destination: destination.no }.to_string();
        let mut body = Vec::with_capacity(self.payload_bytes);
        payload::write(&mut body, self.round.number(), delivery, self.payload_bytes);
        let mut headers = Vec::with_capacity(16);
        for (name, value) in [
            (header::USER_AGENT, concat!("Postrider/", env!("CARGO_PKG_VERSION"))),
            (header::CONTENT_TYPE, "application/json"),
            (HeaderName::from_static("x-webhook-event"), "bench.floor"),
            (HeaderName::from_static("x-webhook-id"), &id),
            (HeaderName::from_static("x-webhook-delivery"), &delivery_id),
            (HeaderName::from_static("x-webhook-attempt"), "1"),
            (HeaderName::from_static("x-webhook-timestamp"), &now.as_secs().to_string()),
        ] {
            headers.push((name, HeaderValue::from_str(value).map_err(io::Error::other)?));
        }
        let (url, method) = (&destination.url, destination.method.as_str());
        let message = Message { id: &id, timestamp: now, nonce: "floor", url, method, body: &body };
        let own: Vec<_> = destination.signatures.iter().filter_map(SignedWith::own).cloned().collect();
        let signatures = sign::headers(&own, &message, now).map_err(io::Error::other)?;
        headers.extend(signatures);
        Ok((destination, headers, Bytes::from(body)))
    }
}
