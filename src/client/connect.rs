//! Connections: TCP to a vetted address, TLS over it where the URL asks for it.
//!
//! Owns the order in which addresses are tried and how the time for it is shared out. Only what is [`Vetted`] is dialled,
//! or reached through the operator's proxy, and the peer's address is compared once more when the connection stands.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use rustls::ClientConfig;
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::{Instant, timeout};
use tokio_rustls::TlsConnector;

use super::guard::{TargetUrl, Vetted};
use super::proxy::Proxy;
use super::stream::{Meter, Socket, Stream};
use super::{Failure, Progress, Settings, expiry, tls};
use crate::model::Reason;

/// A name may have any number of addresses; more than these are not tried within one attempt.
const ADDRESSES_MAX: usize = 8;

/// Connects to the first address that answers, and speaks TLS when there is a configuration for it. With a proxy, its
/// own addresses come along, and the connection is a tunnel. Tells which vetted address it leads to.
pub(super) async fn connect(
    target: &TargetUrl,
    vetted: &[Vetted],
    proxy: Option<(&Proxy, Vec<SocketAddr>)>,
    tls: Option<Arc<ClientConfig>>,
    settings: &Settings,
    progress: &mut Progress,
) -> Result<(Stream, SocketAddr), Failure> {
    let started = Instant::now();
    let vetted: Vec<SocketAddr> = vetted.iter().map(|vetted| vetted.address()).collect();
    let reached = match &proxy {
        None => dial(&vetted, settings, settings.connect_timeout, progress).await,
        Some((proxy, addresses)) => tunnel(&vetted, proxy, addresses, settings, progress).await,
    };
    progress.exchange.phases.connect = Some(started.elapsed());
    let (tcp, address) = reached?;
    // Small requests must not wait for the acknowledgement of the bytes before them.
    let _ = tcp.set_nodelay(true);
    let socket = Socket::new(tcp, Meter::for_handshake());
    let Some(config) = tls else { return Ok((Stream::plain(socket), address)) };

    let name = tls::server_name(target)?;
    let started = Instant::now();
    let shaken = timeout(settings.tls_timeout, TlsConnector::from(config).connect(name, socket)).await;
    progress.exchange.phases.tls = Some(started.elapsed());
    match shaken {
        Ok(Ok(stream)) => {
            let shown = stream.get_ref().1.peer_certificates().and_then(|chain| chain.first());
            progress.certificate_expires = shown.and_then(expiry::of);
            Ok((Stream::tls(stream), address))
        }
        Ok(Err(error)) => Err(tls::failure(&error)),
        Err(_) => {
            let message = format!("agree on TLS: not done within {:?}", settings.tls_timeout);
            Err(Failure::new(Reason::TimeoutTls, message))
        }
    }
}

/// Reaches the first of `vetted` that the proxy makes a tunnel to.
async fn tunnel(
    vetted: &[SocketAddr],
    proxy: &Proxy,
    addresses: &[SocketAddr],
    settings: &Settings,
    progress: &mut Progress,
) -> Result<(TcpStream, SocketAddr), Failure> {
    let deadline = Instant::now() + settings.connect_timeout;
    let left = || deadline.saturating_duration_since(Instant::now());
    let mut last = Failure::new(Reason::Refused, "connect: no address to make a tunnel to");
    for &address in vetted.iter().take(ADDRESSES_MAX) {
        let (mut stream, _) = dial(addresses, settings, left(), progress).await?;
        progress.exchange.address = Some(address);
        last = match timeout(left(), proxy.tunnel(&mut stream, address)).await {
            Ok(Ok(())) => return Ok((stream, address)),
            Ok(Err(failure)) => failure,
            Err(_) => {
                let message =
                    format!("cannot reach {address} through {proxy}: no tunnel within {:?}", settings.connect_timeout);
                return Err(Failure::new(Reason::TimeoutConnect, message));
            }
        };
    }
    Err(last)
}

async fn dial(
    addresses: &[SocketAddr],
    settings: &Settings,
    limit: Duration,
    progress: &mut Progress,
) -> Result<(TcpStream, SocketAddr), Failure> {
    let deadline = Instant::now() + limit;
    let addresses: Vec<SocketAddr> = addresses
        .iter()
        .copied()
        .filter(|address| settings.source_address.is_none_or(|source| source.is_ipv4() == address.is_ipv4()))
        .take(ADDRESSES_MAX)
        .collect();
    let mut last = Failure::new(Reason::Refused, "connect: no address of the source address's family");
    for (tried, &address) in addresses.iter().enumerate() {
        progress.exchange.address = Some(address);
        // An address that never answers must leave time for the next.
        let left = deadline.saturating_duration_since(Instant::now());
        let share = left / (addresses.len() - tried) as u32;
        last = match timeout(share, dial_one(address, settings.source_address)).await {
            Ok(Ok(stream)) => match stream.peer_addr() {
                Ok(peer) if peer == address => return Ok((stream, address)),
                Ok(peer) => {
                    Failure::new(Reason::BlockedDestination, format!("connect to {address}: {peer} answered instead"))
                }
                Err(error) => refusal(address, &error),
            },
            Ok(Err(error)) => refusal(address, &error),
            Err(_) => Failure::new(Reason::TimeoutConnect, format!("connect to {address}: no answer within {share:?}")),
        };
    }
    Err(last)
}

async fn dial_one(address: SocketAddr, source: Option<IpAddr>) -> io::Result<TcpStream> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
    if let Some(source) = source {
        socket.bind(SocketAddr::new(source, 0))?;
    }
    socket.connect(address).await
}

fn refusal(address: SocketAddr, error: &io::Error) -> Failure {
    let reason = if error.kind() == io::ErrorKind::TimedOut { Reason::TimeoutConnect } else { Reason::Refused };
    Failure::new(reason, format!("connect to {address}: {error}"))
}
