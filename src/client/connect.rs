//! Connections: TCP to a vetted address, TLS over it where the URL asks for it.
//!
//! Owns the order in which addresses are tried and how the time for it is shared out. Only a [`Vetted`] is dialled, and
//! the peer's address is compared with it once more after the connection stands.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use rustls::ClientConfig;
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::{Instant, timeout};
use tokio_rustls::TlsConnector;

use super::guard::{TargetUrl, Vetted};
use super::stream::{Meter, Socket, Stream};
use super::{Failure, Progress, Settings, tls};
use crate::model::Reason;

/// A name may have any number of addresses; more than these are not tried within one attempt.
const ADDRESSES_MAX: usize = 8;

/// Connects to the first address that answers, and speaks TLS when there is a configuration for it.
pub(super) async fn connect(
    target: &TargetUrl,
    vetted: &[Vetted],
    tls: Option<Arc<ClientConfig>>,
    settings: &Settings,
    progress: &mut Progress,
) -> Result<Stream, Failure> {
    let started = Instant::now();
    let dialled = dial(vetted, settings, progress).await;
    progress.exchange.phases.connect = Some(started.elapsed());
    let socket = Socket::new(dialled?, Meter::for_handshake());
    let Some(config) = tls else { return Ok(Stream::plain(socket)) };

    let name = tls::server_name(target)?;
    let started = Instant::now();
    let shaken = timeout(settings.tls_timeout, TlsConnector::from(config).connect(name, socket)).await;
    progress.exchange.phases.tls = Some(started.elapsed());
    match shaken {
        Ok(Ok(stream)) => Ok(Stream::tls(stream)),
        Ok(Err(error)) => Err(tls::failure(&error)),
        Err(_) => {
            let message = format!("agree on TLS: not done within {:?}", settings.tls_timeout);
            Err(Failure::new(Reason::TimeoutTls, message))
        }
    }
}

async fn dial(vetted: &[Vetted], settings: &Settings, progress: &mut Progress) -> Result<TcpStream, Failure> {
    let deadline = Instant::now() + settings.connect_timeout;
    let addresses: Vec<SocketAddr> = vetted
        .iter()
        .map(|vetted| vetted.address())
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
                Ok(peer) if peer == address => {
                    // Small requests must not wait for the acknowledgement of the bytes before them.
                    let _ = stream.set_nodelay(true);
                    return Ok(stream);
                }
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
