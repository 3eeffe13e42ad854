//! The one writer: takes what has arrived while the last commit was syncing, applies it, commits, answers.
//!
//! [`Writer::commit`] is plain: operations in, answers out. The thread around it ([`run`]) only gathers the batch: no timer,
//! one bound in operations and bytes. A batch that holds nothing but outcomes of attempts may linger up to ten milliseconds
//! for the next event, which saves a commit per delivery; acknowledgements never linger.
//!
//! After a crash redb walks the whole file, about a second per gigabyte, unless the last commit saved the allocator's state.
//! That takes a millisecond per gigabyte, so the thread does it in an empty commit of its own once nothing has come for a
//! moment: neither a flood nor a drip of events ever waits for it, and an idle store opens at once.
//!
//! Operations are total: what is wrong with one is its answer, and its neighbours in the batch go on. Only the storage
//! itself can fail a batch, and then nothing of it is acknowledged, and nothing will be until the store is opened again.

use std::collections::{BTreeSet, HashSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use redb::{Database, ReadableTable, StorageError, WriteTransaction};
use serde::{Deserialize, Serialize};
use tokio::sync::{OwnedSemaphorePermit, oneshot};

use crate::clock::{Clock, Stopwatch};
use crate::model::audit::Chain;
use crate::model::event::EventHead;
use crate::model::{CommandId, DeliveryKey, DestinationNo, Epoch, Event, ReplayId, Seq, Timestamp};

use super::bell::Change;
use super::catalog::Catalog;
use super::chapters::{Chapters, Known};
use super::codec;
use super::commands::RunCommand;
use super::inbox::{Inbox, Message};
use super::keyring::Keyring;
use super::op::EndCutOff;
use super::people::Strangers;
use super::record::{DueRow, Lane, StartedRow, Tally};
use super::segments::pack::Hash;
use super::segments::seal::Sealer;
use super::segments::{Places, Runs, SegmentChange, SegmentKey};
use super::standing::Standing;
use super::tables::{Records, Write};
use super::{Committed, Receipt, Shared, StoreFailed, audit, lock, tables};

/// Operations in one commit at most.
const BATCH_OPS_MAX: usize = 2048;
/// Bytes in one commit at most, as far as the operations tell.
const BATCH_BYTES_MAX: usize = 8 << 20;
/// Changes in one commit at most, unless a single operation makes more: an event may go to many destinations.
const BATCH_CHANGES_MAX: usize = 16_384;
/// How long a batch of outcomes waits for company.
const LINGER: Duration = Duration::from_millis(10);

/// Something that the writer does to the store, and what it answers.
pub trait Op: Send + 'static {
    /// What the caller learns: conditions that did not hold are values of it, too.
    type Answer: Send + 'static;

    /// About how many bytes it writes.
    fn bytes(&self) -> usize;

    /// Whether a batch of only such operations may wait a moment for others.
    fn lingers(&self) -> bool {
        false
    }

    /// Does it, within the transaction.
    fn apply(self, batch: &mut Batch<'_>) -> Result<Self::Answer, ApplyError>;
}

/// The storage failed. Fatal for the batch and for the store as it is open. A record that is damaged is no such thing: what it
/// costs is for each operation to say (the rules stand in `store/damage.rs`), and there is no way to pass it on.
#[derive(Debug, thiserror::Error)]
pub enum ApplyError {
    /// The file could not be read or written.
    #[error("{0}")]
    Storage(#[from] StorageError),
    /// A table could not be opened.
    #[error("{0}")]
    Table(#[from] redb::TableError),
}

/// An operation on its way to the writer, with its answer's way back.
pub(super) trait Job: Send {
    fn bytes(&self) -> usize;
    fn lingers(&self) -> bool;
    fn apply(&mut self, batch: &mut Batch<'_>) -> Result<(), ApplyError>;
    fn settle(self: Box<Self>, result: Result<Receipt, StoreFailed>);
}

pub(super) struct Submission<O: Op> {
    state: SubmissionState<O>,
    // None where nobody waits.
    reply: Option<oneshot::Sender<Result<Committed<O::Answer>, StoreFailed>>>,
    // Given back when the answer is out: this bounds what waits for a commit.
    _room: Option<OwnedSemaphorePermit>,
}

enum SubmissionState<O: Op> {
    Waiting(O),
    Applied(O::Answer),
    Spent,
}

impl<O: Op> Submission<O> {
    pub(super) fn new(
        op: O,
        reply: Option<oneshot::Sender<Result<Committed<O::Answer>, StoreFailed>>>,
        room: Option<OwnedSemaphorePermit>,
    ) -> Self {
        Submission { state: SubmissionState::Waiting(op), reply, _room: room }
    }
}

impl<O: Op> Job for Submission<O> {
    fn bytes(&self) -> usize {
        match &self.state {
            SubmissionState::Waiting(op) => op.bytes(),
            SubmissionState::Applied(_) | SubmissionState::Spent => 0,
        }
    }

    fn lingers(&self) -> bool {
        matches!(&self.state, SubmissionState::Waiting(op) if op.lingers())
    }

    fn apply(&mut self, batch: &mut Batch<'_>) -> Result<(), ApplyError> {
        if let SubmissionState::Waiting(op) = std::mem::replace(&mut self.state, SubmissionState::Spent) {
            self.state = SubmissionState::Applied(op.apply(batch)?);
        }
        Ok(())
    }

    fn settle(self: Box<Self>, result: Result<Receipt, StoreFailed>) {
        let Some(reply) = self.reply else { return };
        let answer = match (result, self.state) {
            (Ok(receipt), SubmissionState::Applied(answer)) => Ok(Committed { receipt, answer }),
            (Ok(_), SubmissionState::Waiting(_) | SubmissionState::Spent) => Err(StoreFailed),
            (Err(failed), _) => Err(failed),
        };
        // Nobody waits any more when the peer has gone; the change stands all the same.
        let _ = reply.send(answer);
    }
}

/// Numbers that the writer gives out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Numbers {
    pub next_seq: u64,
    pub next_destination: u32,
    pub next_subscription: u32,
    pub next_replay: u64,
    pub next_command: u64,
}

impl Default for Numbers {
    fn default() -> Self {
        Numbers { next_seq: 1, next_destination: 1, next_subscription: 1, next_replay: 1, next_command: 1 }
    }
}

/// The meta row of [`Numbers`].
pub(super) const META_NUMBERS: &str = "numbers";
/// The meta row of the audit log's [`Chain`]. The head lies apart from the records, so that one that is cut off is missed.
pub(super) const META_AUDIT: &str = "audit";
/// The meta row of [`Strangers`]; there is none before the first.
pub(super) const META_STRANGERS: &str = "strangers";
/// The meta row of the [`Epoch`].
pub(super) const META_EPOCH: &str = "epoch";

/// The state that only the writer changes.
pub(super) struct Writer {
    db: Arc<Database>,
    clock: Clock,
    epoch: Epoch,
    numbers: Numbers,
    standing: Standing,
    catalog: Arc<Catalog>,
    sealer: Sealer,
    chapters: Known,
    /// The bulk replays that have not ended.
    replays: BTreeSet<ReplayId>,
    /// The destinations that may have rows in the table of what is ordered: others cost nothing there.
    lined: HashSet<DestinationNo>,
    /// The deliveries that have a row in the started table: whoever is not among them costs nothing there.
    marked: HashSet<DeliveryKey>,
    shared: Arc<Shared>,
    commits: u64,
    /// Whether the last commit saved the allocator's state. The opening's own did not.
    rests: bool,
}

impl Writer {
    pub(super) fn new(
        db: Arc<Database>,
        clock: Clock,
        epoch: Epoch,
        numbers: Numbers,
        standing: Standing,
        sealer: Sealer,
        shared: Arc<Shared>,
    ) -> Self {
        let (catalog, replays) = (shared.catalog(), shared.replays.borrow().iter().copied().collect());
        let chapters = Known::new(lock(&shared.runs).run_events());
        Writer {
            db,
            clock,
            epoch,
            numbers,
            standing,
            catalog,
            sealer,
            chapters,
            replays,
            lined: HashSet::new(),
            marked: HashSet::new(),
            shared,
            commits: 0,
            rests: false,
        }
    }

    /// The destinations that have rows in the table of what is ordered.
    pub(super) fn set_lined(&mut self, lined: HashSet<DestinationNo>) {
        self.lined = lined;
    }

    /// Ends the attempts that the last run left under way, before anything else.
    pub(super) fn end_cut_off(&mut self, attempts: Vec<(DeliveryKey, Option<StartedRow>)>) -> Result<(), CommitError> {
        if attempts.is_empty() {
            return Ok(());
        }
        tracing::warn!(
            event = "attempts_cut_off",
            count = attempts.len(),
            "attempts were under way when the daemon ended"
        );
        self.marked = attempts.iter().map(|(key, _)| *key).collect();
        self.commit_all(&mut vec![Box::new(Submission::new(EndCutOff { attempts }, None, None))])
    }

    /// Carries out the commands that the last run accepted and did not come to, before anything else.
    pub(super) fn run_left_over(&mut self, commands: Vec<CommandId>) -> Result<(), CommitError> {
        let run = |id| Box::new(Submission::new(RunCommand { id }, None, None)) as Box<dyn Job>;
        self.commit_all(&mut commands.into_iter().map(run).collect())
    }

    /// Applies the jobs in one transaction (or several, where they change much), syncs it, publishes what changed, and answers
    /// every job.
    pub(super) fn commit(&mut self, mut jobs: Vec<Box<dyn Job>>) {
        if self.shared.has_failed() {
            jobs.into_iter().for_each(|job| job.settle(Err(StoreFailed)));
            return;
        }
        if let Err(error) = self.commit_all(&mut jobs) {
            self.shared.fail(&error);
            jobs.into_iter().for_each(|job| job.settle(Err(StoreFailed)));
        }
    }

    /// Takes the jobs out of the list as their commits are done; those of one that failed are left in it.
    fn commit_all(&mut self, jobs: &mut Vec<Box<dyn Job>>) -> Result<(), CommitError> {
        while !jobs.is_empty() {
            let watch = Stopwatch::start();
            let (applied, aftermath) = self.write(jobs)?;
            self.shared.metrics.committed(applied, watch.elapsed());
            self.commits += 1;
            let receipt = Receipt { commit: self.commits };
            self.publish(aftermath);
            jobs.drain(..applied).for_each(|job| job.settle(Ok(receipt)));
        }
        Ok(())
    }

    /// One commit; answers how many of the jobs are in it.
    fn write(&mut self, jobs: &mut [Box<dyn Job>]) -> Result<(usize, Aftermath), CommitError> {
        if self.shared.keys.is_spent() {
            return Err(CommitError::KeySpent);
        }
        let mut transaction = self.db.begin_write()?;
        // Payloads are chosen by others, so a checksum alone could be met by design.
        transaction.set_two_phase_commit(true);
        if !self.shared.keys.is_kept() {
            keep_key(&transaction, &self.shared.keys)?;
        }
        let written = {
            let mut batch = Batch::open(&transaction, self)?;
            let mut applied = 0;
            for job in jobs {
                job.apply(&mut batch)?;
                applied += 1;
                if batch.changes.len() >= BATCH_CHANGES_MAX {
                    break;
                }
            }
            (applied, batch.close()?)
        };
        transaction.commit()?;
        self.rests = false;
        self.shared.keys.set_kept();
        Ok(written)
    }

    fn publish(&mut self, aftermath: Aftermath) {
        let Aftermath { changes, fresh, erased, catalog_changed, tallies, lanes, segments, replays_changed } =
            aftermath;
        if catalog_changed {
            self.shared.publish_catalog(Arc::clone(&self.catalog));
        }
        self.shared.publish_standing(&self.standing, &tallies, &lanes);
        lock(&self.shared.runs).publish(Seq(self.numbers.next_seq), segments, self.clock.now());
        self.shared.cache_events(fresh, &erased);
        if replays_changed {
            self.shared.replays.send_replace(self.replays.iter().copied().collect());
        }
        self.shared.bell.ring(changes);
    }

    /// An empty commit that saves the allocator's state, unless that is done: the next start need not walk the file.
    pub(super) fn rest(&mut self) -> Result<(), CommitError> {
        if self.rests || self.shared.has_failed() {
            return Ok(());
        }
        let mut transaction = self.db.begin_write()?;
        transaction.set_two_phase_commit(true);
        transaction.set_quick_repair(true);
        transaction.commit()?;
        self.rests = true;
        Ok(())
    }
}

/// Writes the row of the key that seals, in the transaction of the first records that it seals.
pub(super) fn keep_key(transaction: &WriteTransaction, keys: &Keyring) -> Result<(), CommitError> {
    let (id, wrapped) = keys.row();
    transaction.open_table(tables::DATA_KEYS.table())?.insert(id, wrapped)?;
    Ok(())
}

/// A commit did not happen.
#[derive(Debug, thiserror::Error)]
pub(super) enum CommitError {
    #[error("begin a transaction: {0}")]
    Begin(#[from] redb::TransactionError),
    #[error("open a table: {0}")]
    Table(#[from] redb::TableError),
    #[error("apply an operation: {0}")]
    Apply(#[from] ApplyError),
    #[error("the data key of this start has sealed as much as it may; a new start makes a new one")]
    KeySpent,
    #[error("sync the commit: {0}")]
    Commit(#[from] redb::CommitError),
}

impl From<StorageError> for CommitError {
    fn from(error: StorageError) -> Self {
        CommitError::Apply(error.into())
    }
}

/// What a commit leaves to publish.
struct Aftermath {
    changes: Vec<Change>,
    fresh: Vec<Arc<Event>>,
    erased: Vec<Seq>,
    catalog_changed: bool,
    tallies: HashSet<DestinationNo>,
    lanes: HashSet<DestinationNo>,
    segments: Vec<SegmentChange>,
    replays_changed: bool,
}

/// An open transaction with its tables, as operations see it.
pub struct Batch<'tx> {
    pub(super) now: Timestamp,
    pub(super) epoch: Epoch,
    pub(super) numbers: Numbers,
    pub(super) events: Write<'tx, u64>,
    pub(super) due: Write<'tx, (u32, u64, u64)>,
    pub(super) attempts: Write<'tx, (u64, u32, u32)>,
    pub(super) ended: Write<'tx, (u32, u64)>,
    pub(super) cancelled: Write<'tx, (u32, u64)>,
    pub(super) failures: redb::Table<'tx, (u32, u64), ()>,
    pub(super) chapters: Chapters<'tx>,
    pub(super) segments: Write<'tx, SegmentKey>,
    pub(super) things: Write<'tx, (u8, &'static [u8])>,
    pub(super) audit: Write<'tx, u64>,
    pub(super) changes: Vec<Change>,
    pub(super) fresh: Vec<Arc<Event>>,
    pub(super) erased: Vec<Seq>,
    lanes: Write<'tx, u32>,
    tallies: Write<'tx, u32>,
    meta: Write<'tx, &'static str>,
    writer_numbers: &'tx mut Numbers,
    standing: &'tx mut Standing,
    catalog: &'tx mut Arc<Catalog>,
    catalog_changed: bool,
    tallies_changed: HashSet<DestinationNo>,
    lanes_changed: HashSet<DestinationNo>,
    runs: &'tx Mutex<Runs>,
    sealer: &'tx mut Sealer,
    segments_changed: Vec<SegmentChange>,
    transaction: &'tx WriteTransaction,
    marked: &'tx mut HashSet<DeliveryKey>,
    lined: &'tx mut HashSet<DestinationNo>,
    /// Opened when something is marked or no longer is.
    keys: &'tx Arc<Keyring>,
    started: Option<Write<'tx, (u32, u64)>>,
    /// Opened when a delivery of an ordered destination is put or taken.
    ordered: Option<redb::Table<'tx, (u32, u64, u64), ()>>,
    chain_changed: bool,
    replays: &'tx mut BTreeSet<ReplayId>,
    replays_changed: bool,
}

impl<'tx> Batch<'tx> {
    fn open(transaction: &'tx WriteTransaction, writer: &'tx mut Writer) -> Result<Self, CommitError> {
        let keys = &writer.shared.keys;
        Ok(Batch {
            keys,
            now: writer.clock.now(),
            epoch: writer.epoch,
            numbers: writer.numbers,
            events: tables::EVENTS.write(transaction, keys)?,
            due: tables::DUE.write(transaction, keys)?,
            attempts: tables::ATTEMPTS.write(transaction, keys)?,
            ended: tables::ENDED.write(transaction, keys)?,
            cancelled: tables::CANCELLED.write(transaction, keys)?,
            failures: transaction.open_table(tables::FAILURES)?,
            chapters: Chapters::open(transaction, &mut writer.chapters)?,
            segments: tables::SEGMENTS.write(transaction, keys)?,
            things: tables::THINGS.write(transaction, keys)?,
            audit: tables::AUDIT.write(transaction, keys)?,
            lanes: tables::LANES.write(transaction, keys)?,
            tallies: tables::TALLIES.write(transaction, keys)?,
            meta: tables::META.write(transaction, keys)?,
            changes: Vec::new(),
            fresh: Vec::new(),
            erased: Vec::new(),
            writer_numbers: &mut writer.numbers,
            standing: &mut writer.standing,
            catalog: &mut writer.catalog,
            catalog_changed: false,
            tallies_changed: HashSet::new(),
            lanes_changed: HashSet::new(),
            runs: &writer.shared.runs,
            sealer: &mut writer.sealer,
            segments_changed: Vec::new(),
            transaction,
            marked: &mut writer.marked,
            lined: &mut writer.lined,
            started: None,
            ordered: None,
            chain_changed: false,
            replays: &mut writer.replays,
            replays_changed: false,
        })
    }

    /// The configuration as the operations before this one left it.
    pub(super) fn catalog(&self) -> &Catalog {
        self.catalog
    }

    /// The configuration, to be changed; its rows are the operation's own business.
    pub(super) fn catalog_mut(&mut self) -> &mut Catalog {
        self.catalog_changed = true;
        Arc::make_mut(self.catalog)
    }

    pub(super) fn standing(&self) -> &Standing {
        self.standing
    }

    /// An event is new: it is counted, and found from now on.
    pub(super) fn note(&mut self, seq: Seq, head: &EventHead) {
        self.standing.events += 1;
        lock(self.runs).note(seq, head);
    }

    /// Where events with this hash of a producer's id may lie, as far as they are remembered.
    pub(super) fn places_of(&self, hash: Hash) -> Places {
        lock(self.runs).places_of(hash, Some(self.now))
    }

    /// Lets the lists go of sealed runs that end before a place, are older than a moment, and have no event left.
    pub(super) fn drop_runs(&mut self, until: Seq, before: Timestamp) -> Result<(), ApplyError> {
        let runs = lock(self.runs).sealed_until(until, before);
        for run in &runs {
            let is_dropping =
                |change: &SegmentChange| matches!(change, SegmentChange::Dropping(first) if *first == run.first());
            if self.segments_changed.iter().any(is_dropping)
                || self.events.range(run.first().0..run.end().0)?.next().is_some()
            {
                continue;
            }
            self.sealer.drop_run(&mut self.segments, run)?;
            self.segments_changed.push(SegmentChange::Dropping(run.first()));
        }
        Ok(())
    }

    /// A delivery has begun, or begins again.
    pub(super) fn begin(&mut self, seq: Seq) {
        self.standing.begin(seq);
    }

    /// A delivery has ended.
    pub(super) fn finish(&mut self, seq: Seq) {
        self.standing.finish(seq);
    }

    /// The tally of a destination, to be changed.
    pub(super) fn tally_mut(&mut self, no: DestinationNo) -> &mut Tally {
        self.tallies_changed.insert(no);
        self.standing.tallies.entry(no).or_default()
    }

    /// The lane of a destination, to be changed.
    pub(super) fn lane_mut(&mut self, no: DestinationNo) -> &mut Lane {
        self.lanes_changed.insert(no);
        self.standing.lanes.entry(no).or_default()
    }

    /// An attempt of a delivery is under way.
    pub(super) fn mark(&mut self, key: DeliveryKey, row: &StartedRow) -> Result<(), ApplyError> {
        let place = (key.destination.0, key.seq.0);
        self.started()?.put(place, row)?;
        self.marked.insert(key);
        Ok(())
    }

    /// No attempt of a delivery is under way any more.
    pub(super) fn unmark(&mut self, key: DeliveryKey) -> Result<(), ApplyError> {
        if self.marked.remove(&key) {
            self.started()?.remove((key.destination.0, key.seq.0))?;
        }
        Ok(())
    }

    fn started(&mut self) -> Result<&mut Write<'tx, (u32, u64)>, ApplyError> {
        let table = match self.started.take() {
            Some(table) => table,
            None => tables::STARTED.write(self.transaction, self.keys)?,
        };
        Ok(self.started.insert(table))
    }

    /// Gives a waiting delivery its place in order, where its destination is an ordered one.
    pub(super) fn put_in_order(&mut self, row: &DueRow) -> Result<(), ApplyError> {
        if self.catalog.destination(row.destination).is_some_and(|destination| destination.ordered) {
            self.lined.insert(row.destination);
            self.ordered()?.insert(order_of(row, row.plan.in_line), ())?;
        }
        Ok(())
    }

    /// Takes the place in order of a delivery that no longer waits, or not at that moment. A damaged row tells nothing of its
    /// place: it may have been either.
    pub(super) fn take_from_order(&mut self, row: &DueRow) -> Result<(), ApplyError> {
        if self.lined.contains(&row.destination) {
            let ordered = self.ordered()?;
            ordered.remove(order_of(row, true))?;
            ordered.remove(order_of(row, false))?;
        }
        Ok(())
    }

    fn ordered(&mut self) -> Result<&mut redb::Table<'tx, (u32, u64, u64), ()>, ApplyError> {
        let table = match self.ordered.take() {
            Some(table) => table,
            None => self.transaction.open_table(tables::ORDERED)?,
        };
        Ok(self.ordered.insert(table))
    }

    /// Tries at the door about nobody; a row that cannot be read has counted none.
    pub(super) fn strangers(&self) -> Result<Strangers, ApplyError> {
        match self.meta.get(META_STRANGERS)? {
            Some(record) => Ok(codec::decode(self.meta.place(META_STRANGERS), record.value()).unwrap_or_default()),
            None => Ok(Strangers::default()),
        }
    }

    pub(super) fn set_strangers(&mut self, strangers: &Strangers) -> Result<(), ApplyError> {
        Ok(self.meta.put(META_STRANGERS, strangers)?)
    }

    /// The audit log's chain, to be changed.
    pub(super) fn chain_mut(&mut self) -> &mut Chain {
        self.chain_changed = true;
        &mut self.standing.audit
    }

    /// What leads to records of the audit log. Whoever asks lets go of it before anybody else asks.
    pub(super) fn audit_leads(&self) -> Result<audit::Leads<'tx>, ApplyError> {
        Ok(audit::Leads::open(self.transaction)?)
    }

    /// The table of bulk replays. Whoever asks lets go of it before anybody else asks.
    pub(super) fn replay_rows(&self) -> Result<Write<'tx, u64>, ApplyError> {
        Ok(tables::REPLAYS.write(self.transaction, self.keys)?)
    }

    /// The table of requests with a key. Whoever asks lets go of it before anybody else asks.
    pub(super) fn requests(&self) -> Result<Write<'tx, &'static [u8]>, ApplyError> {
        Ok(tables::REQUESTS.write(self.transaction, self.keys)?)
    }

    /// The table of when they were begun, likewise.
    pub(super) fn request_times(&self) -> Result<Write<'tx, (u64, &'static [u8])>, ApplyError> {
        Ok(tables::REQUEST_TIMES.write(self.transaction, self.keys)?)
    }

    /// The table of commands, likewise.
    pub(super) fn commands(&self) -> Result<Write<'tx, u64>, ApplyError> {
        Ok(tables::COMMANDS.write(self.transaction, self.keys)?)
    }

    /// The bulk replays that have not ended.
    pub(super) fn replays(&self) -> &BTreeSet<ReplayId> {
        self.replays
    }

    /// The same, to be changed: whoever waits for a change hears of it after the commit.
    pub(super) fn replays_mut(&mut self) -> &mut BTreeSet<ReplayId> {
        self.replays_changed = true;
        self.replays
    }

    pub(super) fn settled(&mut self, key: DeliveryKey) {
        self.changes.push(Change::Settled(key));
    }

    /// Turns a bit of the record at a place in a table, counted round, as a disk may; answers where it lies.
    #[cfg(test)]
    pub(super) fn flip(&mut self, table: &str, place: usize, bit: usize) -> Result<Option<String>, ApplyError> {
        fn turn<K: redb::Key + 'static>(
            rows: &mut Write<'_, K>,
            place: usize,
            bit: usize,
        ) -> Result<Option<Vec<u8>>, ApplyError> {
            use redb::ReadableTableMetadata;
            let count = rows.len()? as usize;
            if count == 0 {
                return Ok(None);
            }
            let (key, mut record) = {
                let (key, record) = rows.iter()?.nth(place % count).expect("it is counted round")?;
                (K::as_bytes(&key.value()).as_ref().to_vec(), record.value().to_vec())
            };
            let bit = bit % (record.len() * 8);
            record[bit / 8] ^= 1 << (bit % 8);
            rows.insert(K::from_bytes(&key), record.as_slice())?;
            Ok(Some(key))
        }
        let key = match table {
            "events" => turn(&mut self.events, place, bit),
            "due" => turn(&mut self.due, place, bit),
            "attempts" => turn(&mut self.attempts, place, bit),
            "started" => turn(self.started()?, place, bit),
            "ended" => turn(&mut self.ended, place, bit),
            "cancelled" => turn(&mut self.cancelled, place, bit),
            "segments" => turn(&mut self.segments, place, bit),
            "things" => turn(&mut self.things, place, bit),
            "lanes" => turn(&mut self.lanes, place, bit),
            "tallies" => turn(&mut self.tallies, place, bit),
            "meta" => turn(&mut self.meta, place, bit),
            "audit" => turn(&mut self.audit, place, bit),
            "replays" => turn(&mut self.replay_rows()?, place, bit),
            "requests" => turn(&mut self.requests()?, place, bit),
            "commands" => turn(&mut self.commands()?, place, bit),
            other => panic!("no table of records is called {other}"),
        };
        Ok(key?.map(|key| tables::shown(table, &key)))
    }

    /// Writes what the operations left in memory: numbers, tallies, lanes, a slice of a run.
    fn close(mut self) -> Result<Aftermath, ApplyError> {
        let step = self.sealer.step(self.runs, &mut self.segments, (&mut self.chapters, &self.events))?;
        self.segments_changed.extend(step);
        if self.numbers != *self.writer_numbers {
            self.meta.put(META_NUMBERS, &self.numbers)?;
            *self.writer_numbers = self.numbers;
        }
        if self.chain_changed {
            self.meta.put(META_AUDIT, &self.standing.audit)?;
        }
        for no in &self.tallies_changed {
            let tally = self.standing.tally(*no);
            if tally == Tally::default() {
                self.tallies.remove(no.0)?;
                self.standing.tallies.remove(no);
            } else {
                self.tallies.put(no.0, &tally)?;
            }
        }
        for no in &self.lanes_changed {
            let lane = self.standing.lane(*no);
            if lane == Lane::default() {
                self.lanes.remove(no.0)?;
                self.standing.lanes.remove(no);
            } else {
                self.lanes.put(no.0, &lane)?;
            }
        }
        Ok(Aftermath {
            changes: self.changes,
            fresh: self.fresh,
            erased: self.erased,
            catalog_changed: self.catalog_changed,
            tallies: self.tallies_changed,
            lanes: self.lanes_changed,
            segments: self.segments_changed,
            replays_changed: self.replays_changed,
        })
    }
}

/// The place in order of a delivery: in the line by its sequence, beside it by when it is due.
fn order_of(row: &DueRow, in_line: bool) -> (u32, u64, u64) {
    // A moment of zero would lie in the line.
    let due = if in_line { 0 } else { row.due.as_millis().max(1) };
    (row.destination.0, due, row.seq.0)
}

/// The writer's thread: gathers batches until it is told to close.
pub(super) fn run(mut writer: Writer, inbox: Arc<Inbox>, rest_after: Duration) {
    let _leaving = Leaving { shared: Arc::clone(&writer.shared), inbox: Arc::clone(&inbox) };
    let mut open = true;
    while open {
        let first = if writer.rests { Some(inbox.next()) } else { inbox.next_within(rest_after) };
        let Some(first) = first else {
            if let Err(error) = writer.rest() {
                writer.shared.fail(&error);
            }
            // Done, or failed for good: nothing is left to do until something comes.
            writer.rests = true;
            continue;
        };
        let (jobs, closing) = gather(first, &inbox);
        if !jobs.is_empty() {
            writer.commit(jobs);
        }
        open = !closing;
    }
    if let Err(error) = writer.rest() {
        tracing::error!(event = "store_close_failed", %error, "the last commit failed; the next start will walk the file");
    }
}

fn gather(first: Message, inbox: &Inbox) -> (Vec<Box<dyn Job>>, bool) {
    let mut jobs = Vec::new();
    let (mut bytes, mut lingering) = (0, true);
    let watch = Stopwatch::start();
    let mut next = Some(first);
    loop {
        match next {
            Some(Message::Job(job)) => {
                bytes += job.bytes();
                lingering &= job.lingers();
                jobs.push(job);
                if jobs.len() >= BATCH_OPS_MAX || bytes >= BATCH_BYTES_MAX {
                    return (jobs, false);
                }
            }
            Some(Message::Close) => return (jobs, true),
            None => {
                let left = LINGER.saturating_sub(watch.elapsed());
                if !lingering || left.is_zero() {
                    return (jobs, false);
                }
                inbox.linger(left);
            }
        }
        next = inbox.next_now();
    }
}

/// However the thread ends: nobody waits for an answer that does not come, and if an operation panicked nothing may be
/// acknowledged any more.
struct Leaving {
    shared: Arc<Shared>,
    inbox: Arc<Inbox>,
}

impl Drop for Leaving {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.shared.fail(&"the writer panicked");
        }
        self.inbox.leave();
    }
}
