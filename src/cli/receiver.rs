//! A small HTTP receiver for people: it takes deliveries, answers as it is told, and tells of each.
//!
//! `listen` prints with it, `demo` delivers to it. What to answer is for the caller's [`Behaviour`] to decide, and so is
//! whether to believe a signature. A delivery is told before its answer leaves, so that nobody sees an effect of an
//! answer whose delivery has not been told yet; a slow teller slows the answers, never the memory.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Method, Request, Response, StatusCode, header};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use tokio::net::TcpListener;
use tokio::sync::mpsc;

use super::signature::{NotVerified, Proof};
use crate::clock::Clock;
use crate::model::Timestamp;
use crate::sign::Message;

/// Longer bodies are answered with 413; the daemon's own limit for an event is far below.
const BODY_BYTES_MAX: usize = 64 << 20;
/// Deliveries that were taken and are not yet told; beyond it answers wait.
const TOLD_QUEUE: usize = 64;
/// How long an open connection may take to end after the last delivery.
const GOODBYE: Duration = Duration::from_secs(2);

/// One request that came in whole.
#[derive(Debug)]
pub(super) struct Delivery {
    /// Its number at this receiver, from 1.
    pub(super) number: u64,
    pub(super) received: Timestamp,
    pub(super) method: Method,
    /// Path and query.
    pub(super) path: String,
    pub(super) headers: HeaderMap,
    pub(super) body: Bytes,
}

impl Delivery {
    /// Whether its signatures are right. `url` is what the sender calls this receiver; without it, what the request says.
    pub(super) fn verify(&self, proof: &Proof, url: Option<&str>) -> Result<(), NotVerified> {
        let host = self.headers.get(header::HOST).and_then(|host| host.to_str().ok()).unwrap_or_default();
        let asked = format!("http://{host}{}", self.path);
        let message = Message {
            id: "",
            timestamp: Timestamp::ZERO,
            nonce: "",
            url: url.unwrap_or(&asked),
            method: self.method.as_str(),
            body: &self.body,
        };
        proof.verify(&message, &self.headers)
    }
}

/// What a delivery is answered with.
#[derive(Debug, Clone)]
pub(super) struct Answer {
    pub(super) status: StatusCode,
    pub(super) body: Bytes,
    /// What came of looking at its signatures; `None` when nobody looked.
    pub(super) signature: Option<Result<(), NotVerified>>,
}

/// Decides the answer to a delivery. `None` when none is wanted any more: it is answered with 503 and not told.
pub(super) type Behaviour = Arc<dyn Fn(&Delivery) -> Option<Answer> + Send + Sync>;

/// A bound receiver.
#[derive(Debug)]
pub(super) struct Receiver {
    listener: TcpListener,
    address: SocketAddr,
}

impl Receiver {
    /// Listens on this address; port 0 takes a free one. Connections wait until it runs.
    pub(super) async fn bind(address: SocketAddr) -> io::Result<Receiver> {
        let listener = TcpListener::bind(address).await?;
        let address = listener.local_addr()?;
        Ok(Receiver { listener, address })
    }

    /// Where it listens.
    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Takes deliveries, and tells of each in the order of their arrival, until `stop` is done (`None`) or the teller
    /// breaks off (`Some`). Answers that are on their way are finished.
    pub(super) async fn run<T>(
        self,
        behaviour: Behaviour,
        mut on_delivery: impl FnMut(&Delivery, &Answer) -> ControlFlow<T>,
        stop: impl Future<Output = ()>,
    ) -> Option<T> {
        let seen = Arc::new(AtomicU64::new(0));
        let (sender, mut told) = mpsc::channel(TOLD_QUEUE);
        let connections = GracefulShutdown::new();
        let mut stop = std::pin::pin!(stop);
        let ended = loop {
            tokio::select! {
                () = &mut stop => break None,
                accepted = self.listener.accept() => {
                    // A connection that is gone before it was accepted is none of ours.
                    let Ok((stream, _)) = accepted else { continue };
                    let (behaviour, sender, seen) = (behaviour.clone(), sender.clone(), seen.clone());
                    let service = service_fn(move |request| {
                        answer(behaviour.clone(), sender.clone(), seen.clone(), request)
                    });
                    let connection = hyper::server::conn::http1::Builder::new()
                        .timer(TokioTimer::new())
                        .serve_connection(TokioIo::new(stream), service);
                    tokio::spawn(connections.watch(connection));
                }
                next = told.recv() => {
                    let (delivery, answer) = next.expect("this function holds a sender");
                    if let ControlFlow::Break(why) = on_delivery(&delivery, &answer) {
                        break Some(why);
                    }
                }
            }
        };
        // Whoever waits for a place in the queue must not wait for ever.
        drop(told);
        // The last answer is still on its way.
        let _ = tokio::time::timeout(GOODBYE, connections.shutdown()).await;
        ended
    }
}

async fn answer(
    behaviour: Behaviour,
    teller: mpsc::Sender<(Delivery, Answer)>,
    seen: Arc<AtomicU64>,
    request: Request<Incoming>,
) -> Result<Response<Full<Bytes>>, Infallible> {
    let received = Clock::system().now();
    let reply = |status: StatusCode, body: Bytes| {
        let mut response = Response::new(Full::new(body));
        *response.status_mut() = status;
        Ok(response)
    };
    let (head, body) = request.into_parts();
    let Ok(body) = Limited::new(body, BODY_BYTES_MAX).collect().await else {
        return reply(StatusCode::PAYLOAD_TOO_LARGE, Bytes::new());
    };
    let delivery = Delivery {
        number: seen.fetch_add(1, Ordering::Relaxed) + 1,
        received,
        method: head.method,
        path: head.uri.path_and_query().map_or_else(|| "/".to_owned(), ToString::to_string),
        headers: head.headers,
        body: body.to_bytes(),
    };
    let Some(answer) = behaviour(&delivery) else {
        return reply(StatusCode::SERVICE_UNAVAILABLE, Bytes::new());
    };
    let Answer { status, body, .. } = answer.clone();
    // Nobody listens any more only when the receiver is ending.
    let _ = teller.send((delivery, answer)).await;
    reply(status, body)
}
