//! The bare client: the floor's deliveries with nothing but an HTTP library. It signs each body and posts it over
//! connections that stand, with no guard, no deadline and no bound. Between it and the floor lies what it costs that a
//! receiver cannot hurt the daemon.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use http::{Request, Uri, header};
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http1::SendRequest;
use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_rustls::TlsConnector;
use tokio_util::either::Either;

use super::floor::{Post, Posted};
use super::process::cpu_of_thread;

type Sender = SendRequest<Full<Bytes>>;

/// Posts everything as fast as replies come, on the thread that calls.
pub(super) fn run(post: Post, receiver: SocketAddr, tls: Option<Arc<ClientConfig>>) -> io::Result<Posted> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let mut senders = Vec::new();
        for _ in 0..post.in_flight.max(1) {
            senders.push(connect(receiver, tls.clone()).await?);
        }
        let (post, next) = (Arc::new(post), Arc::new(AtomicU64::new(0)));
        let (before, began) = (cpu_of_thread()?, Instant::now());
        let mut posting = JoinSet::new();
        for mut sender in senders {
            let (post, next) = (Arc::clone(&post), Arc::clone(&next));
            posting.spawn(async move {
                let mut done = 0;
                while began.elapsed() < post.time_max {
                    let delivery = next.fetch_add(1, Ordering::Relaxed);
                    if delivery >= post.deliveries {
                        break;
                    }
                    deliver(&post, &mut sender, receiver, delivery).await?;
                    done += 1;
                }
                Ok::<u64, io::Error>(done)
            });
        }
        let mut deliveries = 0;
        while let Some(done) = posting.join_next().await {
            deliveries += done.map_err(io::Error::other)??;
        }
        let (took, cpu) = (began.elapsed(), cpu_of_thread()?.saturating_sub(before));
        Ok(Posted { deliveries, measured: deliveries, took, cpu, due: Vec::new() })
    })
}

async fn connect(receiver: SocketAddr, tls: Option<Arc<ClientConfig>>) -> io::Result<Sender> {
    let stream = TcpStream::connect(receiver).await?;
    stream.set_nodelay(true)?;
    let stream = match tls {
        None => Either::Left(stream),
        Some(tls) => {
            let name = ServerName::IpAddress(receiver.ip().into());
            Either::Right(TlsConnector::from(tls).connect(name, stream).await?)
        }
    };
    let (sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(io::Error::other)?;
    tokio::spawn(connection);
    Ok(sender)
}

async fn deliver(post: &Post, sender: &mut Sender, receiver: SocketAddr, delivery: u64) -> io::Result<()> {
    let (destination, headers, body) = post.render(delivery)?;
    let url: Uri = destination.url.parse().map_err(io::Error::other)?;
    let mut request = Request::post(url.path()).header(header::HOST, receiver.to_string());
    if let Some(own) = request.headers_mut() {
        own.extend(headers);
    }
    let request = request.body(Full::new(body)).map_err(io::Error::other)?;
    sender.ready().await.map_err(io::Error::other)?;
    let response = sender.send_request(request).await.map_err(io::Error::other)?;
    let status = response.status();
    response.into_body().collect().await.map_err(io::Error::other)?;
    if status.is_success() { Ok(()) } else { Err(io::Error::other(format!("the receiver answered {status}"))) }
}
