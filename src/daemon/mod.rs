//! The daemon: wires the parts together, runs them, and stops them in order. It alone knows everybody, and it alone seeds
//! chance.
//!
//! Start: store, sockets, client, engine, mouths; what cannot be had is an error before anything runs. Stop: no new events, no
//! new requests; attempts under way end; outcomes are committed; the store is closed. A store that has failed stops the daemon
//! after a second in which producers are told so.

mod disk;
mod facts;
mod log;
pub mod master_key;
mod metrics;
pub mod offline;
mod settings;
mod socket;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::sync::broadcast;
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;

use crate::api::Api;
use crate::client::guard::{GuardError, Scope};
use crate::client::{self, Client, ClientError, ProxyError, check_tls};
use crate::clock::Clock;
use crate::config::{Config, Loaded};
use crate::engine::{self, Engine};
use crate::http::request::Request;
use crate::http::serve::{Answer, Handler, Listener, Server};
use crate::http::tls::TlsError;
use crate::ingest::Ingest;
use crate::model::{Destination, Ended};
use crate::service::{self, Service};
use crate::store::{Keys, OpenError, Store};
use crate::ui::{Desk, Ui};
use crate::{api, http, ingest, ui};

pub use log::start as start_log;
pub use master_key::MasterKeyError;
use settings::StoreSettings;

/// Whether there is a store; what a start would find, so that whoever only looks says the same.
pub use crate::store::is_there as is_store_there;
pub use settings::Settings;
pub use socket::BindError;

/// How long producers are told that the store has failed before the daemon ends.
const FAILED_FOR: Duration = Duration::from_secs(1);
/// How long producers and clients may take their last replies.
const REPLIES_MAX: Duration = Duration::from_secs(5);

/// Why the daemon did not start. Nothing runs.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The store could not be opened.
    #[error(transparent)]
    Store(#[from] OpenError),
    /// There is no master key, or it is another store's.
    #[error(transparent)]
    MasterKey(#[from] MasterKeyError),
    /// A Unix socket could not be bound.
    #[error(transparent)]
    Socket(#[from] BindError),
    /// The admin listener's address could not be bound.
    #[error("listen on {address}: {cause}")]
    Listen {
        /// The address, as configured.
        address: SocketAddr,
        /// What the system said.
        cause: std::io::Error,
    },
    /// The admin listener's certificate or key cannot be used.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// The rules of `[egress]` make no guard, or further roots cannot be read.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// The address of the egress proxy makes no sense.
    #[error("read delivery.proxy: {0}")]
    Proxy(ProxyError),
    /// A group of the configuration does not exist.
    #[error("look up the group {name}: {why}")]
    Group {
        /// As configured.
        name: String,
        /// What is wrong with it.
        why: String,
    },
    /// The system gives no chance.
    #[error("draw random bytes from the system: {0}")]
    Chance(getrandom::Error),
}

impl From<GuardError> for StartError {
    fn from(error: GuardError) -> Self {
        StartError::Client(error.into())
    }
}

/// How a daemon ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Stopped {
    /// It was told to: everything that was begun is on disk.
    Drained,
    /// The store failed, for this reason.
    StoreFailed(String),
}

/// A daemon that runs.
pub struct Daemon {
    service: Service,
    store: Store,
    watchers: broadcast::WeakSender<Arc<Ended>>,
    admin_address: Option<SocketAddr>,
    sockets: [PathBuf; 2],
    stop_mouths: CancellationToken,
    stop_engine: CancellationToken,
    mouths: JoinSet<()>,
    engine: JoinSet<()>,
}

impl Daemon {
    /// Starts everything. It is ready when this returns.
    pub async fn start(loaded: &Loaded) -> Result<Self, StartError> {
        let config = &loaded.config;
        let clock = Clock::system();
        let Settings { store, client, engine, service, ingest, api, ui, http, disk_reserve } = Settings::of(config)?;
        let store = open_store(store, clock).await?;
        match Self::start_on(
            &store,
            loaded,
            Parts { client, engine, service, ingest, api, ui, http, disk_reserve },
            clock,
        )
        .await
        {
            Ok(daemon) => Ok(daemon),
            Err(error) => {
                store.close().await;
                Err(error)
            }
        }
    }

    async fn start_on(store: &Store, loaded: &Loaded, parts: Parts, clock: Clock) -> Result<Self, StartError> {
        let config = &loaded.config;
        let Parts { mut client, engine, service, ingest, api, ui, http, disk_reserve } = parts;
        let producers = settings::group(config.ingest.socket_group.as_ref())?;
        let ingest_listener = socket::bind(&config.ingest.socket, 0o660, producers)?;
        // Whoever may open the admin socket is the operator, so it is for the daemon's own user only.
        let admin_listener = socket::bind(&config.admin.socket, 0o600, None)?;
        let tcp = match config.admin.listen {
            Some(address) => Some(listen(address, config).await?),
            None => None,
        };
        let admin_address = tcp.as_ref().map(|(address, _)| *address);
        client.guard.own.extend(admin_address);
        let client = Client::new(client)?;
        let service = Service::new(
            service::Settings {
                pending_max: service.pending_max,
                schedules: service.schedules,
                schedule: service.schedule,
                confirmation: service.confirmation,
                mask: service.mask,
                proof_lasts: service.proof_lasts,
                policy: Arc::new(policy(client.clone())),
                chance: Arc::new(chance),
            },
            store.clone(),
            clock,
        );
        note_chain(&service, "the audit log at the start");
        let engine = Engine::new(engine, store.clone(), client.clone(), clock, fastrand::Rng::with_seed(seed()?));
        let watchers = engine.watchers();
        let certificate_expires = config.admin.tls.as_ref().map(|files| http::tls::expires(&files.cert)).transpose()?;
        let facts = facts::House {
            service: service.clone(),
            client: client.clone(),
            store: config.store.path.clone(),
            disk_reserve,
            certificate_expires,
            entries: loaded.entries.clone(),
        };
        let metrics = metrics::Metrics::new(
            service.clone(),
            store,
            engine.metrics(),
            config.store.path.clone(),
            certificate_expires,
            client,
        );
        let metrics = Arc::new(metrics);
        let scrape = move |exposition| {
            let metrics = Arc::clone(&metrics);
            Box::pin(async move { metrics.text(exposition).await }) as Pin<Box<dyn Future<Output = String> + Send>>
        };

        let (stop_mouths, stop_engine) = (CancellationToken::new(), CancellationToken::new());
        let mut running = JoinSet::new();
        running.spawn(follow(service.clone(), watchers.clone()));
        running.spawn(engine.run(stop_engine.clone()));
        let mut mouths = JoinSet::new();
        let (metrics, tail) = (api::metrics::Metrics::new(Arc::new(scrape)), api::tail::Tail::new(watchers.clone()));
        let api = Api::new(service.clone(), api, metrics, tail);
        let ui = Ui::new(service.clone(), ui, desk(api.clone()), facts.look());
        let handler = front(api.handler(), ui.handler());
        let server = || Server::new(http.clone(), handler.clone());
        let (admin, stop) = (server(), stop_mouths.clone());
        mouths.spawn(async move { admin.run(Listener::Unix(admin_listener), stop).await });
        if let Some((_, listener)) = tcp {
            let (admin, stop) = (server(), stop_mouths.clone());
            mouths.spawn(async move { admin.run(listener, stop).await });
        }
        let ingest = Ingest::new(ingest, service.clone());
        let stop = stop_mouths.clone();
        mouths.spawn(async move { ingest.run(ingest_listener, stop, REPLIES_MAX).await });
        let folder = config.store.path.parent().unwrap_or(Path::new(".")).to_owned();
        let (look, intake) = (move || disk::Left::at(&folder), service.clone());
        let note_low = move |low| intake.note_disk_low(low);
        mouths.spawn(disk::watch(look, disk_reserve, note_low, stop_mouths.clone()));
        Ok(Daemon {
            service,
            store: store.clone(),
            watchers,
            admin_address,
            sockets: [config.ingest.socket.clone(), config.admin.socket.clone()],
            stop_mouths,
            stop_engine,
            mouths,
            engine: running,
        })
    }

    /// The verbs, for whoever runs the daemon in its own process.
    pub fn service(&self) -> &Service {
        &self.service
    }

    /// The TCP address of the admin API, with the port that was given.
    pub fn admin_address(&self) -> Option<SocketAddr> {
        self.admin_address
    }

    /// Watches attempts as they end; `None` when the engine has ended.
    pub fn watch(&self) -> Option<broadcast::Receiver<Arc<Ended>>> {
        Some(self.watchers.upgrade()?.subscribe())
    }

    /// Runs until `stop` is cancelled or the store fails, then stops everything in order.
    pub async fn run_until(mut self, stop: CancellationToken) -> Stopped {
        let failed = tokio::select! {
            () = stop.cancelled() => None,
            why = self.store.failure() => {
                tokio::time::sleep(FAILED_FOR).await;
                Some(why)
            }
        };
        self.service.drain();
        // The mouths end first: what has been read is answered, which takes a commit.
        self.stop_mouths.cancel();
        self.stop_engine.cancel();
        join(&mut self.mouths).await;
        join(&mut self.engine).await;
        note_chain(&self.service, "the audit log at the end");
        self.store.close().await;
        for path in &self.sockets {
            // Gone already, or somebody else's by now: nothing depends on it.
            let _ = std::fs::remove_file(path);
        }
        match failed {
            Some(why) => Stopped::StoreFailed(why),
            None if self.store.has_failed() => Stopped::StoreFailed(self.store.failure().await),
            None => Stopped::Drained,
        }
    }
}

/// Writes into the daemon's own log where the audit log begins and ends: a log that is kept elsewhere is what a chain that
/// was cut off, or written anew, is held against (`postrider audit verify --expect`).
fn note_chain(service: &Service, when: &str) {
    let service::Chain { anchor, head } = service.chain();
    tracing::info!(event = "audit_head", %head, %anchor, "{when}");
}

/// What [`Daemon::start_on`] builds from.
struct Parts {
    client: client::Settings,
    engine: engine::Settings,
    service: settings::ServiceSettings,
    ingest: ingest::Settings,
    api: api::Settings,
    ui: ui::Settings,
    http: http::serve::Settings,
    disk_reserve: u64,
}

/// Tells the service what attempts came to, until no more are made. What ended while it lagged behind is not counted.
fn follow(service: Service, watchers: broadcast::WeakSender<Arc<Ended>>) -> impl Future<Output = ()> + Send {
    // Before the first attempt can be made.
    let watching = watchers.upgrade().map(|watchers| watchers.subscribe());
    async move {
        let Some(mut watching) = watching else { return };
        loop {
            match watching.recv().await {
                Ok(ended) => service.pulse().note(&ended),
                Err(broadcast::error::RecvError::Lagged(_)) => {}
                Err(broadcast::error::RecvError::Closed) => return,
            }
        }
    }
}

/// The dashboard's way to the API.
fn desk(api: Api) -> Arc<Desk> {
    Arc::new(move |request, caller| Box::pin(api.clone().answer_for(request, caller)) as Answer)
}

/// The API and the dashboard behind one door, told apart by the path.
fn front(api: impl Handler + Clone, ui: impl Handler + Clone) -> impl Handler + Clone {
    let (api, ui): (Arc<dyn Handler>, Arc<dyn Handler>) = (Arc::new(api), Arc::new(ui));
    move |request: Request| match Ui::owns(request.path()) {
        true => ui.answer(request),
        false => api.answer(request),
    }
}

async fn join(tasks: &mut JoinSet<()>) {
    while let Some(ended) = tasks.join_next().await {
        if let Err(error) = ended {
            tracing::error!(event = "part_failed", %error, "a part of the daemon ended early");
        }
    }
}

/// Opens the store on a thread of its own: after a crash under load the opening walks the file.
async fn open_store(settings: StoreSettings, clock: Clock) -> Result<Store, StartError> {
    let epoch = u32::from_be_bytes(drawn()?);
    let path = settings.config.path.clone();
    let chance = drawn()?;
    let opening = tokio::task::spawn_blocking(move || {
        let keys = Keys::new(master_key::read_or_make(&settings.config)?, chance);
        Store::open(&settings.with(keys), clock, epoch).map_err(|error| match error {
            OpenError::WrongKey { path: store } => match master_key::place(&settings.config) {
                Ok(key) => MasterKeyError::Wrong { key, store }.into(),
                Err(error) => error.into(),
            },
            other => StartError::Store(other),
        })
    });
    let stopped = |error: tokio::task::JoinError| OpenError::Damaged { path, why: error.to_string() };
    opening.await.map_err(stopped)?
}

async fn listen(address: SocketAddr, config: &Config) -> Result<(SocketAddr, Listener), StartError> {
    let failed = |cause| StartError::Listen { address, cause };
    let acceptor: Option<TlsAcceptor> = match &config.admin.tls {
        Some(files) => Some(http::tls::acceptor(&files.cert, &files.key)?),
        None => None,
    };
    let listener = TcpListener::bind(address).await.map_err(failed)?;
    let bound = listener.local_addr().map_err(failed)?;
    let listener = match acceptor {
        Some(acceptor) => Listener::Tls(listener, acceptor),
        None => Listener::Tcp(listener),
    };
    Ok((bound, listener))
}

/// What the client says of a destination before it is saved.
fn policy(client: Client) -> impl Fn(&Destination) -> Result<(), service::Error> + Send + Sync {
    move |destination| {
        let scope = Scope { tenant: &destination.tenant, allow_private: destination.allow_private };
        let invalid = |pointer, detail| Err(service::Error::Invalid { pointer, detail });
        if let Err(refused) = client.guard().admit(&destination.url, scope) {
            return invalid("/http_endpoint_url", refused.message);
        }
        match check_tls(&destination.tls) {
            Ok(()) => Ok(()),
            Err(error) => invalid("/tls", error.to_string()),
        }
    }
}

fn drawn<const N: usize>() -> Result<[u8; N], StartError> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).map_err(StartError::Chance)?;
    Ok(bytes)
}

fn seed() -> Result<u64, StartError> {
    drawn().map(u64::from_be_bytes)
}

/// Chance for ids and secrets. The system gave some at the start; if it stops giving, nothing can be made safely.
fn chance(bytes: &mut [u8]) {
    getrandom::fill(bytes).expect("the system gives random bytes, as it did at the start");
}
