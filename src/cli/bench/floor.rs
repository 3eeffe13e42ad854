//! The floor: the same deliveries without a daemon. A plain HTTP client signs each body and posts it to the same receiver
//! over as many connections, with no store, no schedule and no guard between. What the daemon does can be measured against
//! this in the same minute, on a machine of any speed.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http::{Request, header};
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http1::SendRequest;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::process::cpu_of_thread;
use super::sink::Round;
use super::{payload, producer};
use crate::clock::Clock;
use crate::model::destination::Signature;
use crate::sign::{self, Message};

/// What is posted.
pub(super) struct Floor {
    pub(super) receiver: SocketAddr,
    pub(super) signature: Signature,
    pub(super) round: Arc<Round>,
    pub(super) payload_bytes: usize,
    pub(super) connections: usize,
    pub(super) deliveries: u64,
    /// After that no further delivery begins.
    pub(super) time_max: Duration,
    /// Deliveries a second; as fast as replies come without it.
    pub(super) rate: Option<u32>,
}

/// What came of it.
pub(super) struct Posted {
    pub(super) deliveries: u64,
    /// From the first request to the last reply, of connections that stood before.
    pub(super) took: Duration,
    /// The client's own processor time meanwhile.
    pub(super) cpu: Duration,
    /// When each was to be sent, in nanoseconds since the round began; at a fixed rate only.
    pub(super) due: Vec<u64>,
}

type Sender = SendRequest<Full<Bytes>>;

impl Floor {
    /// Posts everything, on the thread that calls.
    pub(super) fn run(self) -> io::Result<Posted> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(async {
            let floor = Arc::new(self);
            let mut senders = Vec::new();
            for _ in 0..floor.connections.max(1) {
                senders.push(floor.connect().await?);
            }
            let (before, began) = (cpu_of_thread()?, Instant::now());
            let (deliveries, due) = match floor.rate {
                None => (floor.closed_loop(senders).await?, Vec::new()),
                Some(rate) => {
                    let due = floor.open_loop(senders, rate).await?;
                    (due.len() as u64, due)
                }
            };
            Ok(Posted { deliveries, took: began.elapsed(), cpu: cpu_of_thread()?.saturating_sub(before), due })
        })
    }

    async fn connect(&self) -> io::Result<Sender> {
        let stream = TcpStream::connect(self.receiver).await?;
        stream.set_nodelay(true)?;
        let (sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(io::Error::other)?;
        tokio::spawn(connection);
        Ok(sender)
    }

    async fn closed_loop(self: &Arc<Self>, senders: Vec<Sender>) -> io::Result<u64> {
        let next = Arc::new(AtomicU64::new(0));
        let began = Instant::now();
        let mut posting = JoinSet::new();
        for mut sender in senders {
            let (floor, next) = (Arc::clone(self), Arc::clone(&next));
            posting.spawn(async move {
                let mut done = 0;
                while began.elapsed() < floor.time_max {
                    let delivery = next.fetch_add(1, Ordering::Relaxed);
                    if delivery >= floor.deliveries {
                        break;
                    }
                    let request = floor.request(delivery)?;
                    post(&mut sender, request).await?;
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

    async fn open_loop(self: &Arc<Self>, mut idle: Vec<Sender>, rate: u32) -> io::Result<Vec<u64>> {
        let (back, mut returned) = mpsc::unbounded_channel();
        let mut due = Vec::new();
        let mut posting = JoinSet::new();
        let mut ticks = producer::ticks(rate);
        for delivery in 0..self.deliveries {
            due.push(self.round.nanos_at(ticks.tick().await));
            while let Ok(sender) = returned.try_recv() {
                idle.push(sender);
            }
            let mut sender = match idle.pop() {
                Some(sender) => sender,
                None => self.connect().await?,
            };
            let (floor, back) = (Arc::clone(self), back.clone());
            posting.spawn(async move {
                let request = floor.request(delivery)?;
                post(&mut sender, request).await?;
                // Nobody takes it back after the last delivery.
                let _ = back.send(sender);
                Ok::<(), io::Error>(())
            });
        }
        while let Some(done) = posting.join_next().await {
            done.map_err(io::Error::other)??;
        }
        Ok(due)
    }

    /// A delivery as the daemon would send it.
    fn request(&self, delivery: u64) -> io::Result<Request<Full<Bytes>>> {
        let now = Clock::system().now();
        let id = format!("evt_{delivery:026}");
        let mut body = Vec::with_capacity(self.payload_bytes);
        payload::write(&mut body, self.round.number(), delivery, self.payload_bytes);
        let url = format!("http://{}/0", self.receiver);
        let message = Message { id: &id, timestamp: now, nonce: "floor", url: &url, method: "POST", body: &body };
        let signatures =
            sign::headers(std::slice::from_ref(&self.signature), &message, now).map_err(io::Error::other)?;
        let mut request = Request::post("/0")
            .header(header::HOST, self.receiver.to_string())
            .header(header::USER_AGENT, concat!("Postrider/", env!("CARGO_PKG_VERSION")))
            .header(header::CONTENT_TYPE, "application/json")
            .header("x-webhook-event", "bench.floor")
            .header("x-webhook-id", &id)
            .header("x-webhook-delivery", format!("dlv_{delivery:034}"))
            .header("x-webhook-attempt", "1")
            .header("x-webhook-timestamp", now.as_secs().to_string());
        for (name, value) in signatures {
            request = request.header(name, value);
        }
        request.body(Full::new(Bytes::from(body))).map_err(io::Error::other)
    }
}

async fn post(sender: &mut Sender, request: Request<Full<Bytes>>) -> io::Result<()> {
    sender.ready().await.map_err(io::Error::other)?;
    let response = sender.send_request(request).await.map_err(io::Error::other)?;
    let status = response.status();
    response.into_body().collect().await.map_err(io::Error::other)?;
    if status.is_success() { Ok(()) } else { Err(io::Error::other(format!("the receiver answered {status}"))) }
}
