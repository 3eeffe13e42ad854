//! The client: the only place that dials.
//!
//! Owns the way of one request: guard, resolver, connection, TLS, exchange, and the few connections that are kept for the
//! next one. Promises that a receiver cannot hurt us: one deadline stands around everything, a byte budget lies under the
//! HTTP parser, nothing is decompressed, followed or buffered beyond its cap, and whatever comes back, hostile or broken,
//! becomes an [`Exchange`] and never a panic. A status that has arrived counts; the body after it is best effort.
//!
//! It judges nothing: whether a reply is a success, when to try again, what to store is for the engine, which speaks to
//! this room only through [`Wire`]. No task outlives its exchange except one that closes idle connections and ends with
//! the last of them; dropping the future of an exchange closes its connection.
//!
//! There is no way to skip certificate checks, and no proxy is read from the environment.

pub mod guard;
pub mod resolve;

mod connect;
mod exchange;
mod expiry;
mod pool;
mod proxy;
mod stream;
mod targets;
mod tls;

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderName, HeaderValue};
use tokio::time::{Instant, timeout, timeout_at};

use crate::model::delivery::Phases;
use crate::model::destination::{Method, TlsOptions};
use crate::model::{DestinationNo, Headers, Reason, TenantId};

use exchange::{Link, Reuse};
use expiry::Expiries;
use guard::{Guard, GuardError, Host, Scheme, Scope};
use pool::Pool;
use resolve::{Resolve, System};
use stream::Meter;
use targets::{Target, Targets};
use tls::Configs;

pub use proxy::{Proxy, ProxyError};
pub use tls::{TlsOptionsError, check_tls};

/// How the client behaves; the same for all destinations.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// The longest wait for a TCP connection, over all addresses of a name together.
    pub connect_timeout: Duration,
    /// The longest wait for a TLS session.
    pub tls_timeout: Duration,
    /// The longest wait for the first byte of a reply.
    pub head_timeout: Duration,
    /// The most bytes of a reply's head, every 1xx before it included.
    pub head_bytes_max: usize,
    /// The most bytes that are read of a reply's body.
    pub body_bytes_max: usize,
    /// How long an idle connection is kept for the next request.
    pub keep_alive: Duration,
    /// How many idle connections are kept over all destinations. With fewer than attempts may be under way, destinations that
    /// take turns would be dialled anew for each delivery.
    pub idle_total_max: usize,
    /// The longest wait for a name look-up.
    pub dns_timeout: Duration,
    /// How many name look-ups run at once.
    pub dns_threads: usize,
    /// The local address to connect from; the system's choice when absent.
    pub source_address: Option<IpAddr>,
    /// The HTTP proxy that everything goes through; none when absent. The environment is never read.
    pub proxy: Option<Proxy>,
    /// A PEM file of authorities that are trusted besides the system's.
    pub ca: Option<PathBuf>,
    /// Where deliveries may go.
    pub guard: guard::Settings,
}

impl Default for Settings {
    /// The product's promises.
    fn default() -> Self {
        Settings {
            connect_timeout: Duration::from_secs(5),
            tls_timeout: Duration::from_secs(5),
            head_timeout: Duration::from_secs(15),
            head_bytes_max: 32 << 10,
            body_bytes_max: 64 << 10,
            keep_alive: Duration::from_secs(4),
            idle_total_max: 1024,
            dns_timeout: Duration::from_secs(5),
            dns_threads: 8,
            source_address: None,
            proxy: None,
            ca: None,
            guard: guard::Settings::default(),
        }
    }
}

/// Why the settings make no client. Nothing was dialled.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The address guard's settings do not serve.
    #[error(transparent)]
    Guard(#[from] GuardError),
    /// The file of authorities cannot be read, or holds none.
    #[error("read the authorities in {}: {why}", path.display())]
    Authorities {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        why: String,
    },
    /// A thread for name look-ups did not start.
    #[error("start a thread for name look-ups")]
    Thread(#[source] std::io::Error),
}

/// What carries requests: the client, or an in-memory network in a simulation.
pub trait Wire: Send + Sync + 'static {
    /// Sends one request and reports all that was seen. Ends within the request's timeout, whatever the other side does.
    fn send(&self, request: Request) -> impl Future<Output = Exchange> + Send;

    /// A lane's destination has been changed or deleted: what is kept for it, keys and connections, is let go of. A wire that
    /// keeps nothing has nothing to do.
    fn forget(&self, _lane: DestinationNo) {}

    /// Any destination may have been changed or deleted.
    fn forget_all(&self) {}
}

/// One request, ready to go. Host, Content-Length and Accept-Encoding are the client's to add.
#[derive(Clone)]
pub struct Request {
    /// Whose lane it belongs to; kept connections are not shared between lanes.
    pub lane: DestinationNo,
    /// On whose behalf addresses are vetted.
    pub tenant: TenantId,
    /// The destination's URL.
    pub url: Arc<str>,
    /// POST or PUT.
    pub method: Method,
    /// All other headers, in order.
    pub headers: Vec<(HeaderName, HeaderValue)>,
    /// The body.
    pub body: Bytes,
    /// The deadline over everything.
    pub timeout: Duration,
    /// How long its first byte may take, where that differs from [`Settings::head_timeout`].
    pub head_timeout: Option<Duration>,
    /// TLS beyond the system's roots.
    pub tls: Arc<TlsOptions>,
    /// Whether private addresses are open to this destination.
    pub allow_private: bool,
    /// The lane's cap; no more idle connections are kept for it.
    pub in_flight_max: u32,
}

impl Request {
    fn scope(&self) -> Scope<'_> {
        Scope { tenant: &self.tenant, allow_private: self.allow_private }
    }
}

impl fmt::Debug for Request {
    /// Neither headers nor body nor the URL's query: they may hold secrets.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Request")
            .field("lane", &self.lane)
            .field("tenant", &self.tenant)
            .field("method", &self.method)
            .field("body_bytes", &self.body.len())
            .field("timeout", &self.timeout)
            .finish_non_exhaustive()
    }
}

/// All that was seen of one request and its reply.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Exchange {
    /// The reply's status, 200 to 599. When it is there, it counts, whatever became of the body.
    pub status: Option<u16>,
    /// The reply's headers, names in lower case, bytes that are no UTF-8 replaced.
    pub headers: Headers,
    /// The first part of the reply's body, as it came: never decompressed.
    pub body: Bytes,
    /// Whether that is all of the body.
    pub body_complete: bool,
    /// Why there is no status.
    pub failure: Option<Failure>,
    /// The address that was dialled last, or asked of the proxy.
    pub address: Option<SocketAddr>,
    /// Where the time went.
    pub phases: Phases,
    /// Whether a kept connection turned out to be closed and a fresh one was dialled.
    pub reconnected: bool,
    /// How many bytes of the reply were read, its head included, TLS taken off.
    pub bytes_read: u64,
}

impl Exchange {
    /// An exchange that came to nothing.
    pub fn failed(reason: Reason, message: impl Into<String>) -> Self {
        Exchange { failure: Some(Failure::new(reason, message)), ..Exchange::default() }
    }

    /// An exchange with a status and a whole body.
    pub fn replied(status: u16, body: impl Into<Bytes>) -> Self {
        Exchange { status: Some(status), body: body.into(), body_complete: true, ..Exchange::default() }
    }
}

/// Why no usable reply came.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// From the closed list. [`Reason::Reset`] means that the request may have been taken.
    pub reason: Reason,
    /// In words, for people.
    pub message: String,
}

impl Failure {
    pub(crate) fn new(reason: Reason, message: impl Into<String>) -> Self {
        Failure { reason, message: message.into() }
    }
}

/// Carries requests over the network. Cheap to clone; all clones share one pool, one resolver, one guard.
#[derive(Clone)]
pub struct Client(Arc<Inner>);

struct Inner {
    settings: Settings,
    guard: Guard,
    resolver: Arc<dyn Resolve>,
    configs: Configs,
    targets: Targets,
    pool: Arc<Pool>,
    expiries: Expiries,
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client").field("settings", &self.0.settings).finish_non_exhaustive()
    }
}

impl Client {
    /// A client that asks the system's resolver. Loads the system's authorities and starts the look-up threads.
    ///
    /// # Errors
    ///
    /// When the guard's settings do not serve, the file of authorities cannot be read, or a thread does not start.
    pub fn new(settings: Settings) -> Result<Self, ClientError> {
        let resolver = System::start(settings.dns_threads).map_err(ClientError::Thread)?;
        Self::with_resolver(settings, Arc::new(resolver))
    }

    /// A client that asks `resolver`.
    ///
    /// # Errors
    ///
    /// As [`Client::new`], but for threads.
    pub fn with_resolver(settings: Settings, resolver: Arc<dyn Resolve>) -> Result<Self, ClientError> {
        let guard = Guard::new(settings.guard.clone())?;
        let configs = Configs::new(settings.ca.as_deref())?;
        let pool = Pool::new(settings.keep_alive, settings.idle_total_max);
        let targets = Targets::default();
        Ok(Client(Arc::new(Inner { settings, guard, resolver, configs, targets, pool, expiries: Expiries::default() })))
    }

    /// The rules that destinations are held to when they are saved.
    pub fn guard(&self) -> &Guard {
        &self.0.guard
    }

    /// How many idle connections are kept at this moment.
    pub fn idle_connections(&self) -> usize {
        self.0.pool.len()
    }

    /// When the first of the certificates expires that receivers have shown since the start, in Unix seconds: the last one of
    /// each lane that `is_there`. `None` while there was none.
    pub fn certificate_expires(&self, is_there: impl Fn(DestinationNo) -> bool) -> Option<i64> {
        self.0.expiries.soonest(is_there)
    }
}

impl Wire for Client {
    async fn send(&self, request: Request) -> Exchange {
        let now = Instant::now();
        // A year stands for "for ever": some Durations do not fit onto an Instant.
        let deadline = now.checked_add(request.timeout).unwrap_or(now + Duration::from_secs(365 * 24 * 3600));
        let mut progress = Progress::default();
        let ended = timeout_at(deadline, self.0.attempt(&request, &mut progress)).await;
        let failure = match ended {
            Ok(Ok(())) => None,
            Ok(Err(failure)) => Some(failure),
            Err(_) => {
                let message = format!("wait for the reply: the attempt's limit of {:?} passed", request.timeout);
                Some(Failure::new(Reason::TimeoutTotal, message))
            }
        };
        let Progress { mut exchange, body, meter, certificate_expires: _ } = progress;
        exchange.bytes_read = meter.map_or(0, |meter| meter.plain_read());
        exchange.body = body.into();
        exchange.failure = if exchange.status.is_some() { None } else { failure };
        exchange
    }

    fn forget(&self, lane: DestinationNo) {
        self.0.targets.forget(lane);
        self.0.pool.forget(lane);
    }

    fn forget_all(&self) {
        self.0.targets.forget_all();
        self.0.pool.forget_all();
    }
}

/// What has been seen so far; it outlives a deadline that cuts the rest off.
#[derive(Default)]
struct Progress {
    exchange: Exchange,
    body: Vec<u8>,
    meter: Option<Arc<Meter>>,
    /// When the certificate expires that the receiver has shown on a fresh connection.
    certificate_expires: Option<i64>,
}

impl Inner {
    async fn attempt(&self, request: &Request, progress: &mut Progress) -> Result<(), Failure> {
        let scope = request.scope();
        let head_timeout = self.head_timeout(request);
        let target = match self.targets.find(request) {
            Some(target) => target,
            None => self.target(request, scope)?,
        };

        // The kept connection's address is vetted anew: what is open may differ from when it was dialled.
        let still_open = |address: SocketAddr| self.guard.vet(&target.url, &[address.ip()], scope).is_ok();
        if let Some(mut link) = self.pool.take(request.lane, &target, still_open) {
            progress.exchange.address = Some(link.address());
            match link.exchange(exchange::http_request(&target, request), head_timeout, &self.settings, progress).await
            {
                Ok(reuse) => {
                    self.keep(target, link, reuse, request);
                    return Ok(());
                }
                // The receiver had let go of it before this request arrived.
                Err(failure) if failure.reason == Reason::Reset && link.reply_bytes() == 0 => {
                    progress.exchange.reconnected = true;
                }
                Err(failure) => return Err(failure),
            }
        }

        // Seldom taken and large: on its own, so that what is made for every request is small.
        let (link, reuse) = Box::pin(self.over_a_fresh_connection(request, &target, progress)).await?;
        self.keep(target, link, reuse, request);
        Ok(())
    }

    async fn over_a_fresh_connection(
        &self,
        request: &Request,
        target: &Target,
        progress: &mut Progress,
    ) -> Result<(Link, Reuse), Failure> {
        let scope = request.scope();
        let addresses = self.addresses(target.url.host(), progress).await?;
        let vetted = self.guard.vet(&target.url, &addresses, scope).map_err(blocked)?;
        let proxy = match &self.settings.proxy {
            None => None,
            Some(proxy) => {
                let addresses = self.addresses(proxy.host(), progress).await?;
                Some((proxy, addresses.into_iter().map(|address| SocketAddr::new(address, proxy.port())).collect()))
            }
        };
        let tls = target.tls.as_ref().map(|(_, config)| Arc::clone(config));
        let (stream, address) = connect::connect(&target.url, &vetted, proxy, tls, &self.settings, progress).await?;
        if let Some(expires) = progress.certificate_expires {
            self.expiries.note(request.lane, expires);
        }
        let mut link = Link::new(stream, address, self.settings.head_bytes_max).await?;
        let message = exchange::http_request(target, request);
        let reuse = link.exchange(message, self.head_timeout(request), &self.settings, progress).await?;
        Ok((link, reuse))
    }

    fn head_timeout(&self, request: &Request) -> Duration {
        request.head_timeout.unwrap_or(self.settings.head_timeout)
    }

    /// A target that is new to its lane. Before any look-up: a name that is closed is not even asked for.
    fn target(&self, request: &Request, scope: Scope<'_>) -> Result<Arc<Target>, Failure> {
        let url = self.guard.admit(&request.url, scope).map_err(blocked)?;
        let tls = match url.scheme() {
            Scheme::Http => None,
            Scheme::Https => Some(
                self.configs
                    .of(&request.tls)
                    .map_err(|error| Failure::new(Reason::TlsHandshake, format!("prepare TLS: {error}")))?,
            ),
        };
        let target = Arc::new(Target::new(request, url, tls));
        self.targets.put(request.lane, &target);
        Ok(target)
    }

    fn keep(&self, target: Arc<Target>, link: Link, reuse: Reuse, request: &Request) {
        match reuse {
            Reuse::Keep => self.pool.put(request.lane, target, link, request.in_flight_max),
            Reuse::Close => drop(link),
        }
    }

    async fn addresses(&self, host: &Host, progress: &mut Progress) -> Result<Vec<IpAddr>, Failure> {
        let name = match host {
            Host::Address(address) => return Ok(vec![*address]),
            Host::Name(name) => name,
        };
        let started = Instant::now();
        let answer = timeout(self.settings.dns_timeout, self.resolver.resolve(name)).await;
        let earlier = progress.exchange.phases.dns.unwrap_or_default();
        progress.exchange.phases.dns = Some(earlier + started.elapsed());
        let failed = |why: String| Failure::new(Reason::Dns, format!("resolve {name}: {why}"));
        match answer {
            Err(_) => Err(failed(format!("no answer within {:?}", self.settings.dns_timeout))),
            Ok(Err(error)) => Err(failed(error.to_string())),
            Ok(Ok(addresses)) if addresses.is_empty() => Err(failed("the name has no address".to_owned())),
            Ok(Ok(addresses)) => Ok(addresses),
        }
    }
}

fn blocked(refused: guard::Refused) -> Failure {
    Failure::new(Reason::BlockedDestination, refused.message)
}
