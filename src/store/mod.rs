//! The store: one redb file, one writer, short readers. The only room that names redb and bincode.
//!
//! A change is an [`Op`] that is handed to the writer; its answer comes with a [`Receipt`], which only a synced commit makes:
//! whoever holds one may acknowledge. After each commit the store rings a [`Bell`] for the engine. What is configured
//! ([`Catalog`]) and how things stand ([`Standing`]) are published in memory; everything else is read from the file.
//!
//! After a failed write nothing is acknowledged any more: the store says so ([`Store::failure`]) and the daemon starts anew.

pub mod audit;
mod bell;
mod cache;
mod catalog;
mod chapters;
mod codec;
pub mod commands;
mod damage;
mod dedup;
mod history;
mod inbox;
mod keyring;
mod metrics;
pub mod offline;
pub mod op;
pub mod people;
mod reader;
mod record;
pub mod registrations;
pub mod replays;
pub mod requests;
mod segments;
mod standing;
mod tables;
mod writer;

use std::collections::{HashMap, HashSet};
use std::fs::{File, OpenOptions, TryLockError};
use std::io::ErrorKind;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, RwLock};
use std::thread::JoinHandle;
use std::time::Duration;

use redb::{Builder, Database, DatabaseError, ReadTransaction, ReadableDatabase, ReadableTable};
use serde::de::DeserializeOwned;
use tokio::sync::{Semaphore, oneshot, watch};

use crate::clock::Clock;
use crate::model::audit::Chain;
use crate::model::{
    Actor, ApiKey, CommandId, DeliveryKey, Destination, DestinationNo, Epoch, Event, EventTypes, KnownType, NumberSet,
    ReplayId, Seq, SigningKey, Subscription, Tenant, TenantId, Timestamp, User,
};

pub use audit::{Audited, Effect, Steer};
pub use bell::{Bell, Change, Heard};
pub use catalog::{Catalog, Routed};
pub use keyring::{KEY_BYTES, Keys, MasterKey};
pub use metrics::Metrics;
pub use reader::{Aged, Ahead, DeliveriesWanted, Delivery, EventsWanted, Page, Place, ReadError, Snapshot, Window};
pub use record::{DueRow, EndedRow, Lane, LaneHealth, Plan, Tally, Tombstone};
pub use redb::StorageBackend;
pub use redb::backends::{FileBackend, InMemoryBackend};
pub use standing::Standing;
pub use writer::{ApplyError, Batch, Op};

use cache::EventCache;
use inbox::{Inbox, Message};
use keyring::Keyring;
use record::StartedRow;
use segments::Runs;
use segments::seal::{LoadedRuns, Sealer};
use tables::Records;
use writer::{CommitError, Job, META_AUDIT, META_EPOCH, META_NUMBERS, Numbers, Submission, Writer};

/// How the store is opened.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The file.
    pub path: PathBuf,
    /// What opens its records.
    pub keys: Keys,
    /// Bytes of redb's page cache.
    pub cache_bytes: usize,
    /// Bytes of operations that may wait for a commit; whoever has more waits at the door.
    pub queue_bytes_max: usize,
    /// Bytes of fresh events that are kept in memory for their first attempt.
    pub event_cache_bytes_max: usize,
    /// Events whose lists are written together, up to 65,536; may differ from one start to the next.
    pub run_events: usize,
    /// The event types that are built in or configured, and whether others are taken.
    pub event_types: Arc<EventTypes>,
    /// How long nothing must have come before the writer makes the next opening fast; see the writer's own words.
    pub rest_after: Duration,
}

impl Settings {
    /// The defaults, for a file.
    pub fn at(path: impl Into<PathBuf>, keys: Keys) -> Self {
        Settings {
            path: path.into(),
            keys,
            cache_bytes: 16 << 20,
            queue_bytes_max: 32 << 20,
            event_cache_bytes_max: 8 << 20,
            run_events: segments::RUN_EVENTS_MAX,
            event_types: Arc::default(),
            rest_after: Duration::from_secs(1),
        }
    }
}

/// Why a store could not be opened. Nothing has been changed.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Another process has it open.
    #[error("open {path}: another process holds its lock")]
    Locked {
        /// The file.
        path: PathBuf,
    },
    /// The folder or the file cannot be made, read or written.
    #[error("open {path}: {source}")]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The path is a symbolic link to nothing: a disk that is not mounted, most likely.
    #[error("open {path}: it is a symbolic link to {target}, which is not there")]
    Dangling {
        /// The link.
        path: PathBuf,
        /// What it names.
        target: PathBuf,
    },
    /// The master key is another store's.
    #[error("open {path}: the master key does not open the store's data keys; nothing was changed")]
    WrongKey {
        /// The file.
        path: PathBuf,
    },
    /// It is no store, or a damaged one.
    #[error("open {path}: {why}")]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        why: String,
    },
}

/// The store has failed: nothing was acknowledged, and nothing will be until it is opened again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the store has failed; nothing is acknowledged until the daemon has started anew")]
pub struct StoreFailed;

/// Proof that a change is on disk. Only a synced commit makes one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Receipt {
    commit: u64,
}

impl Receipt {
    /// For tests of what asks for one.
    #[cfg(test)]
    pub(crate) fn of_nothing() -> Self {
        Receipt { commit: 0 }
    }

    /// Which commit of this run made it, from 1.
    pub fn commit(&self) -> u64 {
        self.commit
    }
}

/// An operation's answer, and the proof that what it did is on disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub struct Committed<T> {
    /// The proof.
    pub receipt: Receipt,
    /// The answer.
    pub answer: T,
}

/// An operation that is on its way: resolves after its commit.
#[must_use]
pub struct Ticket<T>(oneshot::Receiver<Result<Committed<T>, StoreFailed>>);

impl<T> Ticket<T> {
    /// Waits for the commit.
    pub async fn committed(self) -> Result<Committed<T>, StoreFailed> {
        // A writer that is gone without an answer has failed.
        self.0.await.unwrap_or(Err(StoreFailed))
    }
}

/// What the writer publishes and everybody else reads.
struct Shared {
    keys: Arc<Keyring>,
    // Each held for a clone or a small copy, never across an await.
    catalog: RwLock<Arc<Catalog>>,
    standing: Mutex<Standing>,
    runs: Mutex<Runs>,
    events: Mutex<EventCache>,
    under_way: Mutex<NumberSet<DeliveryKey>>,
    /// The bulk replays that have not ended.
    replays: watch::Sender<Arc<[ReplayId]>>,
    bell: Bell,
    failure: watch::Sender<Option<String>>,
    metrics: Metrics,
}

impl Shared {
    fn catalog(&self) -> Arc<Catalog> {
        Arc::clone(&self.catalog.read().unwrap_or_else(|poisoned| poisoned.into_inner()))
    }

    fn publish_catalog(&self, catalog: Arc<Catalog>) {
        *self.catalog.write().unwrap_or_else(|poisoned| poisoned.into_inner()) = catalog;
    }

    fn publish_standing(&self, now: &Standing, tallies: &HashSet<DestinationNo>, lanes: &HashSet<DestinationNo>) {
        let mut standing = lock(&self.standing);
        standing.follow(now, tallies, lanes);
    }

    fn cache_events(&self, fresh: Vec<Arc<Event>>, erased: &[Seq]) {
        if fresh.is_empty() && erased.is_empty() {
            return;
        }
        let mut events = lock(&self.events);
        fresh.into_iter().for_each(|event| events.put(event));
        erased.iter().for_each(|seq| events.remove(*seq));
    }

    fn has_failed(&self) -> bool {
        self.failure.borrow().is_some()
    }

    fn fail(&self, why: &dyn std::fmt::Display) {
        tracing::error!(event = "store_failed", error = %why, "the store has failed; nothing more is acknowledged");
        self.failure.send_replace(Some(why.to_string()));
    }
}

#[cfg(test)]
mod looks;
#[cfg(test)]
mod speed;
#[cfg(test)]
pub(crate) mod tests;

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}

/// Where the writer runs.
enum Door {
    /// In its own thread.
    Thread { inbox: Arc<Inbox>, thread: Mutex<Option<JoinHandle<()>>> },
    /// In the caller: a simulation's paused clock must not run ahead while a plain thread works.
    Inline(Box<Mutex<Writer>>),
}

/// Where a new store's writer runs; see [`Store::open_on`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WriterRuns {
    /// In its own thread, with group commits.
    InThread,
    /// In whoever submits, one commit an operation.
    Inline,
}

struct Inner {
    db: Arc<Database>,
    shared: Arc<Shared>,
    door: Door,
    room: Arc<Semaphore>,
    room_units: u32,
    readers: Readers,
}

/// Who may read at once. The engine has turns of its own: whoever lists much delays no delivery.
struct Readers {
    engine: Arc<Semaphore>,
    others: Arc<Semaphore>,
}

impl Drop for Inner {
    fn drop(&mut self) {
        if let Door::Thread { inbox, .. } = &self.door {
            // Nobody can hand anything in any more; a writer that is gone knows already.
            let _ = inbox.send(Message::Close);
        }
    }
}

impl Inner {
    fn snapshot(&self) -> Result<Snapshot, ReadError> {
        // First what is in memory: whatever has been sealed by then is in the transaction's rows.
        let runs = lock(&self.shared.runs).clone();
        Snapshot::open(&self.db, &self.shared.keys, runs)
    }
}

/// A handle on the open store. Clones share it.
#[derive(Clone)]
pub struct Store(Arc<Inner>);

/// Bytes per unit of the room before the writer.
const ROOM_UNIT: usize = 1024;
/// Threads that may read at once, for the engine and for everybody else.
const READERS_MAX: usize = 2;

impl Store {
    /// Opens the file, or makes it. `epoch` is a random number for a new store.
    pub fn open(settings: &Settings, clock: Clock, epoch: u32) -> Result<Self, OpenError> {
        let path = &settings.path;
        let folder = match path.parent() {
            Some(folder) if !folder.as_os_str().is_empty() => folder,
            Some(_) | None => Path::new("."),
        };
        let io = |path: &Path| {
            let path = path.to_owned();
            move |source| OpenError::Io { path, source }
        };
        std::fs::create_dir_all(folder).map_err(io(folder))?;
        let open = |at: &Path| {
            let mut options = OpenOptions::new();
            options.read(true).write(true).create(true).truncate(false).mode(0o600).open(at).map_err(io(at))
        };
        let make = |file: File| {
            let backend = FileBackend::new(file).map_err(|error| open_error(path, error))?;
            let db = builder(settings).create_with_backend(backend);
            let db = db.map_err(|error| open_error(path, error))?;
            let keys = unlock(&db, settings)?;
            found(&db, &keys, clock, epoch).map_err(|error| error.at(path))?;
            Ok((db, keys))
        };
        let draft = draft_of(path);
        let (db, keys) = if is_there(path)? {
            make(open(path)?)?
        } else {
            // redb cannot open a file whose making a power cut has stopped. So it gets its name when a store is in it.
            let file = open(&draft)?;
            match file.try_lock() {
                Ok(()) => {}
                Err(TryLockError::WouldBlock) => return Err(OpenError::Locked { path: path.clone() }),
                Err(TryLockError::Error(source)) => return Err(OpenError::Io { path: draft, source }),
            }
            if is_there(path)? {
                // Somebody else has made the store since we looked; nobody makes one while we hold the draft.
                std::fs::remove_file(&draft).map_err(io(&draft))?;
                make(open(path)?)?
            } else {
                file.set_len(0).map_err(io(&draft))?;
                let made = make(file)?;
                std::fs::rename(&draft, path).map_err(io(path))?;
                made
            }
        };
        // redb syncs the file, not the folder's entry for it; and a start before this one may not have come so far.
        File::open(folder).and_then(|folder| folder.sync_all()).map_err(io(folder))?;
        Self::start(db, keys, settings, clock, WriterRuns::InThread)
    }

    /// Opens a store on any backend: a disk that forgets, fails or records, for tests.
    pub fn open_on(
        backend: impl StorageBackend,
        settings: &Settings,
        clock: Clock,
        epoch: u32,
        runs: WriterRuns,
    ) -> Result<Self, OpenError> {
        let db = builder(settings).create_with_backend(backend).map_err(|error| open_error(&settings.path, error))?;
        let keys = unlock(&db, settings)?;
        found(&db, &keys, clock, epoch).map_err(|error| error.at(&settings.path))?;
        Self::start(db, keys, settings, clock, runs)
    }

    fn start(
        db: Database,
        keys: Arc<Keyring>,
        settings: &Settings,
        clock: Clock,
        writer_runs: WriterRuns,
    ) -> Result<Self, OpenError> {
        let loaded = load(&db, &keys, settings, clock.now()).map_err(|error| error.at(&settings.path))?;
        let Loaded { epoch, numbers, catalog, standing, runs, sealer, lined, cut_off, replays, commands } = loaded;
        let db = Arc::new(db);
        let shared = Arc::new(Shared {
            metrics: Metrics::new(keys.damage().records().clone()),
            keys,
            catalog: RwLock::new(Arc::new(catalog)),
            standing: Mutex::new(standing.clone()),
            runs: Mutex::new(runs),
            events: Mutex::new(EventCache::new(settings.event_cache_bytes_max)),
            under_way: Mutex::default(),
            replays: watch::Sender::new(replays),
            bell: Bell::default(),
            failure: watch::Sender::new(None),
        });
        let mut writer = Writer::new(Arc::clone(&db), clock, epoch, numbers, standing, sealer, Arc::clone(&shared));
        writer.set_lined(lined);
        let caught_up = writer.end_cut_off(cut_off).and_then(|()| writer.run_left_over(commands));
        caught_up.map_err(|error| LoadError::from(error).at(&settings.path))?;
        let door = match writer_runs {
            WriterRuns::Inline => Door::Inline(Box::new(Mutex::new(writer))),
            WriterRuns::InThread => {
                let inbox = Arc::new(Inbox::default());
                let (messages, rest_after) = (Arc::clone(&inbox), settings.rest_after);
                let thread = std::thread::Builder::new()
                    .name("store-writer".into())
                    .spawn(move || writer::run(writer, messages, rest_after))
                    .map_err(|source| OpenError::Io { path: settings.path.clone(), source })?;
                Door::Thread { inbox, thread: Mutex::new(Some(thread)) }
            }
        };
        let room_units = u32::try_from(settings.queue_bytes_max / ROOM_UNIT).unwrap_or(u32::MAX).max(1);
        let room = Arc::new(Semaphore::new(room_units as usize));
        let turns = || Arc::new(Semaphore::new(READERS_MAX));
        let readers = Readers { engine: turns(), others: turns() };
        Ok(Store(Arc::new(Inner { db, shared, door, room, room_units, readers })))
    }

    /// Hands an operation to the writer, as soon as there is room; its ticket resolves after the commit.
    ///
    /// Waiting for room is the back-pressure: whoever reads from a socket stops reading meanwhile.
    pub async fn enqueue<O: Op>(&self, op: O) -> Result<Ticket<O::Answer>, StoreFailed> {
        let units = u32::try_from(op.bytes() / ROOM_UNIT).unwrap_or(u32::MAX).saturating_add(1).min(self.0.room_units);
        let room = Arc::clone(&self.0.room).acquire_many_owned(units).await.map_err(|_| StoreFailed)?;
        let (reply, answer) = oneshot::channel();
        self.hand_in(Submission::new(op, Some(reply), Some(room)))?;
        Ok(Ticket(answer))
    }

    fn hand_in<O: Op>(&self, submission: Submission<O>) -> Result<(), StoreFailed> {
        if self.0.shared.has_failed() {
            return Err(StoreFailed);
        }
        let job: Box<dyn Job> = Box::new(submission);
        match &self.0.door {
            Door::Thread { inbox, .. } => inbox.send(Message::Job(job)).map_err(|_| StoreFailed),
            Door::Inline(writer) => {
                lock(writer).commit(vec![job]);
                Ok(())
            }
        }
    }

    /// Hands an operation to the writer and waits for its commit.
    pub async fn submit<O: Op>(&self, op: O) -> Result<Committed<O::Answer>, StoreFailed> {
        self.enqueue(op).await?.committed().await
    }

    /// Does on somebody's behalf what the audit log must tell of, and waits for its commit; the record is in the same one.
    pub async fn steer<S: Steer>(&self, actor: &Actor, op: S) -> Result<Committed<S::Answer>, StoreFailed> {
        self.submit(Audited { actor: actor.clone(), op }).await
    }

    /// Hands an operation to the writer without waiting for room or for its answer: the caller bounds how many are under
    /// way, and hears of the commit by the bell.
    pub fn record<O: Op<Answer = ()>>(&self, op: O) -> Result<(), StoreFailed> {
        self.hand_in(Submission::new(op, None, None))
    }

    /// Notes that an attempt of a delivery is under way, or no longer: for whoever asks why it waits.
    pub fn note_attempt(&self, key: DeliveryKey, under_way: bool) {
        let mut under_way_now = lock(&self.0.shared.under_way);
        if under_way {
            under_way_now.insert(key)
        } else {
            under_way_now.remove(&key)
        };
    }

    /// Whether an attempt of a delivery is under way.
    pub fn is_under_way(&self, key: DeliveryKey) -> bool {
        lock(&self.0.shared.under_way).contains(&key)
    }

    /// How many attempts to a destination are under way.
    pub fn under_way_of(&self, no: DestinationNo) -> usize {
        lock(&self.0.shared.under_way).iter().filter(|key| key.destination == no).count()
    }

    /// Reads, on a thread where waiting for the disk delays nobody else.
    pub async fn read<T: Send + 'static>(
        &self,
        look: impl FnOnce(&Snapshot) -> Result<T, ReadError> + Send + 'static,
    ) -> Result<T, ReadError> {
        self.read_in_turn(&self.0.readers.others, look).await
    }

    /// Reads for the engine, whose turns nobody else takes.
    pub async fn read_for_engine<T: Send + 'static>(
        &self,
        look: impl FnOnce(&Snapshot) -> Result<T, ReadError> + Send + 'static,
    ) -> Result<T, ReadError> {
        self.read_in_turn(&self.0.readers.engine, look).await
    }

    async fn read_in_turn<T: Send + 'static>(
        &self,
        turns: &Arc<Semaphore>,
        look: impl FnOnce(&Snapshot) -> Result<T, ReadError> + Send + 'static,
    ) -> Result<T, ReadError> {
        if let Door::Inline(_) = self.0.door {
            return look(&self.0.snapshot()?);
        }
        let turn = Arc::clone(turns).acquire_owned().await.map_err(|_| ReadError::Stopped)?;
        let inner = Arc::clone(&self.0);
        let reading = tokio::task::spawn_blocking(move || {
            // A read goes on when nobody waits for it any more, and so does its turn.
            let _turn = turn;
            look(&inner.snapshot()?)
        });
        reading.await.map_err(|_| ReadError::Stopped)?
    }

    /// An event: from memory while it is fresh, else from the file.
    pub async fn event(&self, seq: Seq) -> Result<Option<Arc<Event>>, ReadError> {
        if let Some(event) = lock(&self.0.shared.events).find(seq) {
            return Ok(Some(event));
        }
        self.read_for_engine(move |snapshot| Ok(snapshot.event(seq)?.map(Arc::new))).await
    }

    /// What is configured at this moment.
    pub fn catalog(&self) -> Arc<Catalog> {
        self.0.shared.catalog()
    }

    /// How things stand, seen through a closure that must be short.
    pub fn standing<T>(&self, look: impl FnOnce(&Standing) -> T) -> T {
        look(&lock(&self.0.shared.standing))
    }

    /// The bulk replays that have not ended; tells when there are others.
    pub fn replays_running(&self) -> watch::Receiver<Arc<[ReplayId]>> {
        self.0.shared.replays.subscribe()
    }

    /// The bell that rings after commits. It has one listener: the engine.
    pub fn bell(&self) -> &Bell {
        &self.0.shared.bell
    }

    /// Resolves when the store has failed, with the reason.
    pub async fn failure(&self) -> String {
        let mut failure = self.0.shared.failure.subscribe();
        match failure.wait_for(Option::is_some).await {
            Ok(why) => why.clone().unwrap_or_default(),
            Err(_) => "the store is gone".to_owned(),
        }
    }

    /// What it counts.
    pub fn metrics(&self) -> &Metrics {
        &self.0.shared.metrics
    }

    /// How many damaged records have been met since the start.
    pub fn damaged_records(&self) -> u64 {
        self.0.shared.keys.damage().records().get()
    }

    /// Whether the store has failed.
    pub fn has_failed(&self) -> bool {
        self.0.shared.has_failed()
    }

    /// Commits what has been handed in, writes the last commit and stops the writer. What is handed in later fails.
    pub async fn close(&self) {
        match &self.0.door {
            Door::Inline(writer) => {
                if let Err(error) = lock(writer).rest() {
                    self.0.shared.fail(&error);
                }
            }
            Door::Thread { inbox, thread } => {
                let Some(thread) = lock(thread).take() else { return };
                // When the writer is gone already there is nothing left to close.
                let _ = inbox.send(Message::Close);
                let _ = tokio::task::spawn_blocking(move || thread.join()).await;
            }
        }
    }
}

/// Whether there is a file for a store. What cannot be seen may be one, and is not taken for nothing: a new store would take its
/// name.
pub fn is_there(path: &Path) -> Result<bool, OpenError> {
    let failed = |source| OpenError::Io { path: path.to_owned(), source };
    match std::fs::metadata(path) {
        Ok(_) => Ok(true),
        Err(error) if error.kind() == ErrorKind::NotFound => match std::fs::read_link(path) {
            Ok(target) => Err(OpenError::Dangling { path: path.to_owned(), target }),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(false),
            Err(error) => Err(failed(error)),
        },
        Err(error) => Err(failed(error)),
    }
}

fn builder(settings: &Settings) -> Builder {
    let mut builder = Builder::new();
    builder.set_cache_size(settings.cache_bytes);
    let path = settings.path.clone();
    let is_told = std::cell::Cell::new(false);
    builder.set_repair_callback(move |_| {
        if !is_told.replace(true) {
            let path = path.display();
            tracing::warn!(event = "store_walk", %path, "the daemon ended in the middle of its work; the file is walked, about a second per GB");
        }
    });
    builder
}

/// Where a store is made before it gets its name.
fn draft_of(path: &Path) -> PathBuf {
    let mut draft = path.as_os_str().to_owned();
    draft.push(".new");
    draft.into()
}

fn open_error(path: &Path, error: DatabaseError) -> OpenError {
    match error {
        DatabaseError::DatabaseAlreadyOpen => OpenError::Locked { path: path.to_owned() },
        other => LoadError::from(other).at(path),
    }
}

/// Why a store's file could not be used.
#[derive(Debug, thiserror::Error)]
enum LoadError {
    /// The system could not read or write. That may pass, and says nothing of what the file holds.
    #[error("{0}")]
    System(std::io::Error),
    /// What was read is no store, or a damaged one.
    #[error("{0}")]
    Damaged(String),
}

impl LoadError {
    /// As an opening says it.
    fn at(self, path: &Path) -> OpenError {
        let path = path.to_owned();
        match self {
            LoadError::System(source) => OpenError::Io { path, source },
            LoadError::Damaged(why) => OpenError::Damaged { path, why },
        }
    }
}

impl From<redb::Error> for LoadError {
    fn from(error: redb::Error) -> Self {
        match error {
            // The system read it well; what it read is no store, or ends too early for one.
            redb::Error::Io(source) if matches!(source.kind(), ErrorKind::InvalidData | ErrorKind::UnexpectedEof) => {
                LoadError::Damaged(source.to_string())
            }
            redb::Error::Io(source) => LoadError::System(source),
            // The system failed where redb could not tell of it, and redb has done nothing since.
            redb::Error::PreviousIo => LoadError::System(std::io::Error::other(error.to_string())),
            other => LoadError::Damaged(other.to_string()),
        }
    }
}

macro_rules! as_load_error {
    ($($error:ty),*) => { $(impl From<$error> for LoadError {
        fn from(error: $error) -> Self {
            redb::Error::from(error).into()
        }
    })* };
}

as_load_error!(
    DatabaseError,
    redb::StorageError,
    redb::TableError,
    redb::TransactionError,
    redb::CommitError,
    redb::CompactionError
);

impl From<ApplyError> for LoadError {
    fn from(error: ApplyError) -> Self {
        match error {
            ApplyError::Storage(error) => error.into(),
            ApplyError::Table(error) => error.into(),
        }
    }
}

impl From<CommitError> for LoadError {
    fn from(error: CommitError) -> Self {
        match error {
            CommitError::Begin(error) => error.into(),
            CommitError::Table(error) => error.into(),
            CommitError::Apply(error) => error.into(),
            CommitError::Commit(error) => error.into(),
            CommitError::KeySpent => LoadError::Damaged(error.to_string()),
        }
    }
}

impl From<codec::DecodeError> for LoadError {
    fn from(error: codec::DecodeError) -> Self {
        LoadError::Damaged(error.to_string())
    }
}

/// Reads the store's data keys, before anything is changed.
fn unlock(db: &Database, settings: &Settings) -> Result<Arc<Keyring>, OpenError> {
    let rows = data_keys(db).map_err(|error| error.at(&settings.path))?;
    let keyring = Keyring::open(&settings.keys, rows.into_iter());
    keyring.map(Arc::new).map_err(|_| OpenError::WrongKey { path: settings.path.clone() })
}

fn data_keys(db: &Database) -> Result<Vec<(u32, Vec<u8>)>, LoadError> {
    let transaction = db.begin_read()?;
    let table = match transaction.open_table(tables::DATA_KEYS.table()) {
        Ok(table) => table,
        // A new file.
        Err(redb::TableError::TableDoesNotExist(_)) => return Ok(Vec::new()),
        Err(error) => return Err(error.into()),
    };
    let mut rows = Vec::new();
    for entry in table.iter()? {
        let (id, wrapped) = entry?;
        rows.push((id.value(), wrapped.value().to_vec()));
    }
    Ok(rows)
}

/// Makes the tables and the first rows, where they are not there yet.
fn found(db: &Database, keys: &Arc<Keyring>, clock: Clock, epoch: u32) -> Result<(), LoadError> {
    let mut transaction = db.begin_write()?;
    transaction.set_two_phase_commit(true);
    let is_new;
    {
        let mut meta = tables::META.write(&transaction, keys)?;
        transaction.open_table(tables::DATA_KEYS.table())?;
        transaction.open_table(tables::EVENTS.table())?;
        transaction.open_table(tables::DUE.table())?;
        transaction.open_table(tables::ATTEMPTS.table())?;
        transaction.open_table(tables::STARTED.table())?;
        transaction.open_table(tables::ENDED.table())?;
        transaction.open_table(tables::CANCELLED.table())?;
        transaction.open_table(tables::FAILURES)?;
        transaction.open_table(tables::ORDERED)?;
        transaction.open_table(tables::CHAPTERS)?;
        transaction.open_table(tables::FACTS)?;
        transaction.open_table(tables::SEGMENTS.table())?;
        transaction.open_table(tables::LANES.table())?;
        transaction.open_table(tables::TALLIES.table())?;
        transaction.open_table(tables::AUDIT.table())?;
        transaction.open_table(tables::AUDIT_TERMS)?;
        transaction.open_table(tables::AUDIT_TIMES)?;
        transaction.open_table(tables::REPLAYS.table())?;
        transaction.open_table(tables::COMMANDS.table())?;
        transaction.open_table(tables::REQUESTS.table())?;
        transaction.open_table(tables::REQUEST_TIMES.table())?;
        let mut things = tables::THINGS.write(&transaction, keys)?;
        is_new = meta.get(META_EPOCH)?.is_none();
        if is_new {
            writer::keep_key(&transaction, keys)?;
            meta.put(META_EPOCH, &Epoch(epoch))?;
            meta.put(META_NUMBERS, &Numbers::default())?;
            meta.put(META_AUDIT, &Chain::default())?;
            let id = TenantId::default_tenant();
            let created = clock.now();
            let tenant = Tenant { id: id.clone(), name: "Default".into(), parent: None, created, audit_from: 0 };
            things.put((op::kind::TENANT, id.as_str().as_bytes()), &tenant)?;
        }
    }
    transaction.commit()?;
    if is_new {
        keys.set_kept();
    }
    Ok(())
}

struct Loaded {
    epoch: Epoch,
    numbers: Numbers,
    catalog: Catalog,
    standing: Standing,
    runs: Runs,
    sealer: Sealer,
    /// The destinations whose waiting deliveries have places in order.
    lined: HashSet<DestinationNo>,
    /// The attempts that were under way when the store was used last.
    cut_off: Vec<(DeliveryKey, Option<StartedRow>)>,
    /// The bulk replays that have not ended.
    replays: Arc<[ReplayId]>,
    /// The commands that have not been carried out.
    commands: Vec<CommandId>,
}

fn load(db: &Database, keys: &Arc<Keyring>, settings: &Settings, now: Timestamp) -> Result<Loaded, LoadError> {
    let transaction = db.begin_read()?;
    let meta = tables::META.read(&transaction, keys)?;
    let fact = |name: &str| meta.get(name)?.ok_or_else(|| LoadError::Damaged(format!("the store has no {name} row")));
    let epoch: Epoch = needed(&meta, META_EPOCH, fact(META_EPOCH)?.value())?;
    let numbers: Numbers = needed(&meta, META_NUMBERS, fact(META_NUMBERS)?.value())?;
    let chain: Chain = needed(&meta, META_AUDIT, fact(META_AUDIT)?.value())?;
    if let Some(cut) = audit::cut_at(&tables::AUDIT.read(&transaction, keys)?, chain)? {
        // The log goes on from the head that was written: whatever is missing before it stays missing, and is found.
        tracing::error!(event = "audit_cut", last = cut, head = %chain.head, "the audit log does not end at its head");
    }

    let mut catalog = Catalog::default();
    catalog.set_event_types(Arc::clone(&settings.event_types));
    let things = tables::THINGS.read(&transaction, keys)?;
    for entry in things.iter()? {
        let (key, record) = entry?;
        let (key, record) = (key.value(), record.value());
        match key.0 {
            op::kind::TENANT => catalog.put_tenant(needed::<_, Tenant>(&things, key, record)?),
            op::kind::DESTINATION => {
                catalog.put_destination(needed::<_, Destination>(&things, key, record)?);
            }
            op::kind::TOMBSTONE => catalog.bury(needed::<_, Tombstone>(&things, key, record)?),
            op::kind::SUBSCRIPTION => {
                catalog.put_subscription(needed::<_, Subscription>(&things, key, record)?);
            }
            // Looked at when somebody asks for the id.
            op::kind::FORMER_TENANT | op::kind::SERIAL => {}
            op::kind::EVENT_TYPE => {
                // The row stays: the type is back when the configuration no longer says otherwise.
                if let Err(taken) = catalog.put_event_type(needed::<_, KnownType>(&things, key, record)?) {
                    tracing::warn!(event = "event_type_hidden", why = %taken, "an event type of the API is left out");
                }
            }
            op::kind::KEY => catalog.put_key(needed::<_, ApiKey>(&things, key, record)?),
            op::kind::SIGNING_KEY => drop(catalog.put_signing_key(needed::<_, SigningKey>(&things, key, record)?)),
            op::kind::USER => drop(catalog.put_user(needed::<_, User>(&things, key, record)?)),
            other => return Err(LoadError::Damaged(format!("the store holds a thing of the unknown kind {other}"))),
        }
    }

    let mut standing = Standing::new(numbers.next_seq - 1, chain);
    let tallies = tables::TALLIES.read(&transaction, keys)?;
    let mut uncounted = HashSet::new();
    for entry in tallies.iter()? {
        let (no, record) = entry?;
        match codec::decode(tallies.place(no.value()), record.value()) {
            Ok(tally) => drop(standing.tallies.insert(DestinationNo(no.value()), tally)),
            Err(_) => drop(uncounted.insert(no.value())),
        }
    }
    let lanes = tables::LANES.read(&transaction, keys)?;
    for entry in lanes.iter()? {
        let (no, record) = entry?;
        let lane = codec::decode(lanes.place(no.value()), record.value()).unwrap_or_else(|_| {
            let no = no.value();
            tracing::error!(
                event = "lane_damaged",
                destination = no,
                "the destination is paused, for it may have been; resume it"
            );
            // What it said of deliveries that are still to be put in order is lost, too.
            Lane { paused: true, ordering: Some((Timestamp::ZERO, Seq(0))), ..Lane::default() }
        });
        standing.lanes.insert(DestinationNo(no.value()), lane);
    }
    let mut waiting = HashMap::<u32, u64>::new();
    for entry in transaction.open_table(tables::DUE.table())?.iter()? {
        let (key, _) = entry?;
        let (destination, _, seq) = key.value();
        *waiting.entry(destination).or_default() += 1;
        standing.begin(Seq(seq));
    }
    count_anew(&transaction, keys, &uncounted, &waiting, &mut standing)?;
    for (no, rows) in waiting_per_destination(&standing, waiting) {
        // The rows are the truth. This cannot happen while each operation changes both in one transaction.
        let tally = standing.tallies.entry(no).or_default();
        tracing::error!(event = "tally_mismatch", destination = no.0, rows, tally = tally.waiting(), "tally set right");
        tally.accepted = rows + tally.succeeded + tally.failed + tally.cancelled;
    }
    let lined = op::lined(&transaction.open_table(tables::ORDERED)?)?;
    let mut cut_off = Vec::new();
    let started = tables::STARTED.read(&transaction, keys)?;
    for entry in started.iter()? {
        let (key, record) = entry?;
        let (destination, seq) = key.value();
        let delivery = DeliveryKey { destination: DestinationNo(destination), seq: Seq(seq) };
        cut_off.push((delivery, codec::decode(started.place(key.value()), record.value()).ok()));
    }
    let (runs, sealer) = load_runs(db, keys, settings.run_events, Seq(numbers.next_seq), now)?;
    let replays = replays::running(&tables::REPLAYS.read(&transaction, keys)?)?.into();
    let commands = commands::left_over(&tables::COMMANDS.read(&transaction, keys)?)?;
    Ok(Loaded { epoch, numbers, catalog, standing, runs, sealer, lined, cut_off, replays, commands })
}

/// The runs of events, mended where that is needed.
fn load_runs(
    db: &Database,
    keys: &Arc<Keyring>,
    run_events: usize,
    end: Seq,
    now: Timestamp,
) -> Result<(Runs, Sealer), LoadError> {
    let mut is_mended = false;
    loop {
        let broken = match segments::seal::load(&db.begin_read()?, keys, run_events, end, now)? {
            LoadedRuns::Whole(whole) => return Ok(*whole),
            LoadedRuns::Broken(_) if is_mended => {
                return Err(LoadError::Damaged("lists that were just written are damaged".into()));
            }
            LoadedRuns::Broken(broken) => broken,
        };
        is_mended = true;
        let mut transaction = db.begin_write()?;
        transaction.set_two_phase_commit(true);
        if !keys.is_kept() {
            writer::keep_key(&transaction, keys)?;
        }
        segments::seal::mend(&transaction, keys, &broken)?;
        transaction.commit()?;
        keys.set_kept();
    }
}

/// A record that nobody can guess or make anew: without it there is no start.
fn needed<'k, K: redb::Key + 'static, T: DeserializeOwned>(
    rows: &tables::Read<K>,
    key: K::SelfType<'k>,
    record: &[u8],
) -> Result<T, LoadError> {
    let place = rows.place(&key);
    let (table, shown) = place.named();
    codec::decode(place, record).map_err(|error| {
        LoadError::Damaged(format!(
            "{shown} in the table {table} is damaged, and nothing is delivered without it: {error}; \
             see what else is with `postrider db check`, and put back the last copy of the store"
        ))
    })
}

/// Counts the deliveries of destinations whose tallies are damaged, as far as they are still there: what retention has removed
/// is not counted any more. Walks over all events.
fn count_anew(
    transaction: &ReadTransaction,
    keys: &Arc<Keyring>,
    uncounted: &HashSet<u32>,
    waiting: &HashMap<u32, u64>,
    standing: &mut Standing,
) -> Result<(), LoadError> {
    if uncounted.is_empty() {
        return Ok(());
    }
    let mut made = HashMap::<u32, u64>::new();
    let events = tables::EVENTS.read(transaction, keys)?;
    for entry in events.iter()? {
        let (seq, record) = entry?;
        let Ok(head) = codec::decode_event_head(events.place(seq.value()), record.value()) else { continue };
        for target in head.targets.iter().filter(|target| uncounted.contains(&target.destination.0)) {
            *made.entry(target.destination.0).or_default() += 1;
        }
    }
    let ended = tables::ENDED.read(transaction, keys)?;
    let cancelled = tables::CANCELLED.read(transaction, keys)?;
    for no in uncounted {
        let all = (*no, 0)..=(*no, u64::MAX);
        let (failed, cancelled) = (ended.range(all.clone())?.count() as u64, cancelled.range(all)?.count() as u64);
        let mut tally = Tally { failed, cancelled, ..Tally::default() };
        let waiting = waiting.get(no).copied().unwrap_or_default();
        let others = waiting + tally.failed + tally.cancelled;
        tally.succeeded = made.get(no).copied().unwrap_or_default().saturating_sub(others);
        tally.accepted = others + tally.succeeded;
        tracing::error!(
            event = "tally_counted",
            destination = no,
            accepted = tally.accepted,
            "deliveries are counted anew"
        );
        standing.tallies.insert(DestinationNo(*no), tally);
    }
    Ok(())
}

/// The destinations whose tally disagrees with their due rows, and how many rows they have.
fn waiting_per_destination(standing: &Standing, mut rows: HashMap<u32, u64>) -> Vec<(DestinationNo, u64)> {
    for no in standing.tallies.keys() {
        rows.entry(no.0).or_default();
    }
    let counted = rows.into_iter().map(|(no, rows)| (DestinationNo(no), rows));
    counted.filter(|(no, rows)| standing.tally(*no).waiting() != *rows).collect()
}
