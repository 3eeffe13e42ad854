//! Looks at every record of every table: whether it opens at its place and is what its table holds, and whether records agree
//! with each other. Where a record is damaged, what depends on it is not reported a second time.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use redb::{Database, Key, ReadTransaction, ReadableTable, ReadableTableMetadata, TableDefinition};
use serde::de::DeserializeOwned;

use crate::model::audit::{Chain, Kept, Record, Walk};
use crate::model::event::EventHead;
use crate::model::replay::Replay;
use crate::model::{
    ApiKey, DeliveryKey, DeliveryState, Destination, DestinationNo, Epoch, Event, KnownType, Outcome, Seq, SigningKey,
    SigningKeyKind, Subscription, Tenant, TenantId, Timestamp, User,
};
use crate::store::catalog::Catalog;
use crate::store::chapters::{self, Fact};
use crate::store::codec::{DecodeError, Place};
use crate::store::commands::CommandRow;
use crate::store::keyring::Keyring;
use crate::store::people::Strangers;
use crate::store::reader::Snapshot;
use crate::store::record::{AttemptRow, EndedRow, FormerTenant, Lane, Plan, StartedRow, Tally, Tombstone};
use crate::store::requests::RequestRow;
use crate::store::segments::seal::LoadedRuns;
use crate::store::segments::{self, RUN_EVENTS_MAX};
use crate::store::tables::{self, Definition, Read, Records};
use crate::store::writer::{META_AUDIT, META_EPOCH, META_NUMBERS, META_STRANGERS, Numbers};
use crate::store::{audit, codec, op};

use super::Finding;

/// A look at one state of the store.
pub(super) struct Inspection<'a> {
    transaction: &'a ReadTransaction,
    keys: &'a Arc<Keyring>,
    tell: &'a mut dyn FnMut(Finding),
    records: u64,
    findings: u64,
    named: BTreeSet<u32>,
}

/// What came of it.
pub(super) struct Inspected {
    pub(super) records: u64,
    pub(super) findings: u64,
    /// The data keys that records name.
    pub(super) named: BTreeSet<u32>,
}

/// What records say that others are held against.
#[derive(Default)]
struct Said {
    numbers: Option<Numbers>,
    chain: Option<Chain>,
    catalog: Catalog,
    former: BTreeMap<String, FormerTenant>,
    waiting: HashMap<u32, u64>,
    /// Failed and cancelled.
    ended: HashMap<u32, (u64, u64)>,
    tallies: HashMap<u32, Tally>,
}

const CONTRADICTION: &str = "the table cannot be read on: its pages contradict each other";

const NOBODYS: &str = "its destination is not there";

/// What is wrong with a record.
type Wrong = String;

/// In words that hold nothing of the record.
fn wrong(error: &DecodeError) -> Wrong {
    match error {
        DecodeError::Envelope(_) | DecodeError::Key(_) | DecodeError::Broken => error.to_string(),
        DecodeError::Damaged(_) => "record is shorter than it must be, or holds what none of its kind does".into(),
    }
}

fn decoded<T: DeserializeOwned>(place: Place, record: &[u8]) -> Result<T, Wrong> {
    codec::decode(place, record).map_err(|error| wrong(&error))
}

/// The event that was looked at last: rows of one event lie side by side.
struct Events {
    rows: Option<Read<u64>>,
    last: Option<(Seq, Found)>,
}

#[derive(Clone)]
enum Found {
    Head(Arc<EventHead>),
    Missing,
    /// It has been reported where it lies.
    Damaged,
}

impl Events {
    fn head(&mut self, seq: Seq) -> Found {
        if let Some((last, found)) = &self.last
            && *last == seq
        {
            return found.clone();
        }
        let found = match self.rows.as_ref().map(|rows| (rows, rows.get(seq.0))) {
            Some((_, Ok(None))) => Found::Missing,
            Some((rows, Ok(Some(record)))) => match codec::decode_event_head(rows.place(seq.0), record.value()) {
                Ok(head) => Found::Head(Arc::new(head)),
                Err(_) => Found::Damaged,
            },
            Some((_, Err(_))) | None => Found::Damaged,
        };
        self.last = Some((seq, found.clone()));
        found
    }

    /// A row of a delivery needs the event, and the destination among its targets.
    fn must_target(&mut self, destination: u32, seq: u64) -> Result<(), Wrong> {
        match self.head(Seq(seq)) {
            Found::Damaged => Ok(()),
            Found::Missing => Err("its event is not there".into()),
            Found::Head(head) if head.targets.iter().any(|target| target.destination.0 == destination) => Ok(()),
            Found::Head(_) => Err("its event does not go to this destination".into()),
        }
    }
}

impl<'a> Inspection<'a> {
    pub(super) fn of(
        transaction: &'a ReadTransaction,
        keys: &'a Arc<Keyring>,
        tell: &'a mut dyn FnMut(Finding),
    ) -> Self {
        Inspection { transaction, keys, tell, records: 0, findings: 0, named: BTreeSet::new() }
    }

    /// Looks at everything. The lists of runs are compared with the events where all of them can be read.
    pub(super) fn inspect(mut self, whole: Option<(&Database, Timestamp)>) -> Inspected {
        let mut said = Said::default();
        self.data_keys();
        self.meta(&mut said);
        self.things(&mut said);
        self.events(&said);
        self.deliveries(&mut said);
        self.tallies(&mut said);
        self.segments();
        self.work();
        self.audit(&said);
        self.strangers();
        if let (Some((db, now)), 0, Some(numbers)) = (whole, self.findings, said.numbers) {
            self.runs(db, Seq(numbers.next_seq), now);
        }
        Inspected { records: self.records, findings: self.findings, named: self.named }
    }

    fn tell(&mut self, table: &'static str, key: String, reason: impl Into<String>) {
        self.findings += 1;
        (self.tell)(Finding { table, key, reason: reason.into() });
    }

    /// Shows each record of a table to `look`, and tells what it finds wrong.
    fn walk<K: Key + 'static>(
        &mut self,
        definition: &Definition<K>,
        mut look: impl FnMut(K::SelfType<'_>, Place, &[u8]) -> Result<(), Wrong>,
    ) {
        let name = definition.name;
        // A page that is damaged may end redb in a panic.
        let walked = catch_unwind(AssertUnwindSafe(|| -> Result<(), String> {
            let failed = |error: &dyn std::fmt::Display| format!("the table cannot be read on: {error}");
            let rows = definition.read(self.transaction, self.keys).map_err(|error| failed(&error))?;
            let count = rows.len().map_err(|error| failed(&error))?;
            let mut seen = 0;
            for entry in rows.iter().map_err(|error| failed(&error))? {
                let (key, record) = entry.map_err(|error| failed(&error))?;
                let record = record.value();
                seen += 1;
                if seen > count {
                    break;
                }
                self.records += 1;
                if name != tables::DATA_KEYS.name
                    && let Ok(id) = codec::data_key_of(record)
                {
                    self.named.insert(id);
                }
                if let Err(reason) = look(key.value(), rows.place(key.value()), record) {
                    self.tell(name, tables::shown(name, K::as_bytes(&key.value()).as_ref()), reason);
                }
            }
            if seen == count {
                return Ok(());
            }
            Err(format!("the table says it has {count} records, and has others"))
        }));
        match walked {
            Ok(Ok(())) => {}
            Ok(Err(reason)) => self.tell(name, String::new(), reason),
            Err(_) => self.tell(name, String::new(), CONTRADICTION),
        }
    }

    fn data_keys(&mut self) {
        let keys = Arc::clone(self.keys);
        self.walk(&tables::DATA_KEYS, |id: u32, _, _| {
            if keys.opens(id) { Ok(()) } else { Err("the master key does not open it: it is damaged".into()) }
        });
    }

    fn meta(&mut self, said: &mut Said) {
        let mut seen = BTreeSet::new();
        self.walk(&tables::META, |name: &str, place, record| {
            seen.insert(name.to_owned());
            match name {
                META_EPOCH => drop(decoded::<Epoch>(place, record)?),
                META_NUMBERS => said.numbers = Some(decoded(place, record)?),
                META_AUDIT => said.chain = Some(decoded(place, record)?),
                META_STRANGERS => drop(decoded::<Strangers>(place, record)?),
                _ => return Err("no record of this name is known".into()),
            }
            Ok(())
        });
        for name in [META_EPOCH, META_NUMBERS, META_AUDIT] {
            if !seen.contains(name) {
                self.tell(tables::META.name, name.to_owned(), "the record is missing");
            }
        }
    }

    fn things(&mut self, said: &mut Said) {
        let before = self.findings;
        let Said { catalog, former, .. } = said;
        self.walk(&tables::THINGS, |(kind, key): (u8, &[u8]), place, record| {
            match kind {
                op::kind::TENANT => catalog.put_tenant(decoded::<Tenant>(place, record)?),
                op::kind::DESTINATION => drop(catalog.put_destination(decoded::<Destination>(place, record)?)),
                op::kind::TOMBSTONE => catalog.bury(decoded::<Tombstone>(place, record)?),
                op::kind::SUBSCRIPTION => drop(catalog.put_subscription(decoded::<Subscription>(place, record)?)),
                op::kind::KEY => catalog.put_key(decoded::<ApiKey>(place, record)?),
                op::kind::EVENT_TYPE => {
                    // One that the present configuration leaves no room for is whole all the same.
                    let _ = catalog.put_event_type(decoded::<KnownType>(place, record)?);
                }
                op::kind::SERIAL => drop(decoded::<u32>(place, record)?),
                op::kind::SIGNING_KEY => drop(catalog.put_signing_key(decoded::<SigningKey>(place, record)?)),
                op::kind::USER => drop(catalog.put_user(decoded::<User>(place, record)?)),
                op::kind::FORMER_TENANT => {
                    former.insert(String::from_utf8_lossy(key).into_owned(), decoded(place, record)?);
                }
                _ => return Err("no thing of this kind is known".into()),
            }
            Ok(())
        });
        // What others name may be among the damaged.
        if self.findings == before {
            let unknown = missing_in(&said.catalog);
            unknown.into_iter().for_each(|(key, reason)| self.tell(tables::THINGS.name, key, reason));
        }
    }

    fn events(&mut self, said: &Said) {
        let Said { numbers, catalog, former, .. } = said;
        let is_whole = self.findings == 0;
        self.walk(&tables::EVENTS, |seq: u64, place, record| {
            let decoded = codec::decode_event(place, Seq(seq), record);
            let Event { head, .. } = decoded.map_err(|error| wrong(&error))?;
            if numbers.is_some_and(|numbers| seq >= numbers.next_seq) {
                return Err("its place has not been given out".into());
            }
            let tenant_is_former = |tenant: &TenantId| former.get(tenant.as_str()).is_some_and(|it| seq < it.until.0);
            if is_whole && catalog.tenant(&head.tenant).is_none() && !tenant_is_former(&head.tenant) {
                return Err("its tenant is not there".into());
            }
            let unknown = head.targets.iter().any(|target| catalog.owner(target.destination).is_none());
            if is_whole && unknown { Err("it goes to a destination that is not there".into()) } else { Ok(()) }
        });
    }

    fn event_rows(&self) -> Events {
        Events { rows: tables::EVENTS.read(self.transaction, self.keys).ok(), last: None }
    }

    /// What is due, what was attempted, what is under way, what has ended.
    fn deliveries(&mut self, said: &mut Said) {
        self.ordered(&said.catalog);
        let Said { numbers, catalog, waiting, ended, .. } = said;
        let is_whole = self.findings == 0;
        let is_owned = |no: u32| !is_whole || catalog.owner(DestinationNo(no)).is_some();
        let mut events = self.event_rows();
        let attempts = tables::ATTEMPTS.read(self.transaction, self.keys).ok();
        let due = tables::DUE.read(self.transaction, self.keys).ok();
        self.walk(&tables::DUE, |(no, at, seq): (u32, u64, u64), place, record| {
            *waiting.entry(no).or_default() += 1;
            decoded::<Plan>(place, record)?;
            events.must_target(no, seq)?;
            let (Some(rows), Some(attempts), Some(due)) = (&events.rows, &attempts, &due) else { return Ok(()) };
            let key = DeliveryKey { destination: DestinationNo(no), seq: Seq(seq) };
            // What cannot be read is reported where it lies.
            let Ok(found) = op::find_waiting(rows, attempts, due, key) else { return Ok(()) };
            if found.is_some_and(|row| row.due.as_millis() == at) {
                Ok(())
            } else {
                Err("it is not the row that its event or its last attempt leads to".into())
            }
        });
        let mut events = self.event_rows();
        self.walk_keys((tables::FAILURES_NAME, tables::FAILURES), |(no, seq): (u32, u64)| events.must_target(no, seq));
        let next = numbers.map_or(u64::MAX, |numbers| numbers.next_seq);
        self.walk_keys((tables::CHAPTERS_NAME, tables::CHAPTERS), |(no, seq): (u32, u64)| {
            match (seq < next, is_owned(no)) {
                (true, true) => Ok(()),
                (true, false) => Err(NOBODYS.into()),
                (false, _) => Err("its place has not been given out".into()),
            }
        });
        let starts = self.transaction.open_table(tables::CHAPTERS).ok();
        self.walk_keys((tables::FACTS_NAME, tables::FACTS), |(_, no, start): (u16, u32, u64)| {
            let begins = |rows: &redb::ReadOnlyTable<(u32, u64), ()>| !matches!(rows.get((no, start)), Ok(None));
            let is_chapter = start == 0 || starts.as_ref().is_none_or(begins);
            match (is_chapter, is_owned(no)) {
                (true, true) => Ok(()),
                (true, false) => Err(NOBODYS.into()),
                (false, _) => Err("no chapter begins there".into()),
            }
        });
        let mut events = self.event_rows();
        let failures = self.transaction.open_table(tables::FAILURES).ok();
        let facts = self.transaction.open_table(tables::FACTS).ok();
        self.walk(&tables::ATTEMPTS, |(seq, no, number): (u64, u32, u32), place, record| {
            let row = decoded::<AttemptRow>(place, record)?;
            events.must_target(no, seq)?;
            let AttemptRow::Done(attempt) = row else { return Ok(()) };
            let is_listed = || failures.as_ref().is_none_or(|rows| !matches!(rows.get((no, seq)), Ok(None)));
            // What cannot be read is reported where it lies.
            let start = starts.as_ref().and_then(|rows| chapters::places_of(rows, DestinationNo(no), seq).ok());
            let says = |fact: Fact| match (&facts, &start) {
                (Some(rows), Some(places)) => !matches!(rows.get((fact.number(), no, places.start)), Ok(None)),
                (_, _) => true,
            };
            let has_status = |status| says(Fact::ended_with(status)) || says(Fact::went_on_after(status));
            if attempt.number != number {
                Err("it bears another number".into())
            } else if attempt.outcome != Outcome::Succeeded && !is_listed() {
                Err("it failed, and is not among the failures".into())
            } else if attempt.outcome == Outcome::Succeeded && !says(Fact::SUCCEEDED) {
                Err("it succeeded, and its chapter does not say so".into())
            } else if !attempt.status.is_none_or(has_status) {
                Err("its chapter does not know its status".into())
            } else {
                Ok(())
            }
        });
        let mut events = self.event_rows();
        self.walk(&tables::STARTED, |(no, seq): (u32, u64), place, record| {
            decoded::<StartedRow>(place, record)?;
            events.must_target(no, seq)
        });
        let mut events = self.event_rows();
        self.walk(&tables::ENDED, |(no, seq): (u32, u64), place, record| {
            ended.entry(no).or_default().0 += 1;
            let is_failure = decoded::<EndedRow>(place, record)?.ending.state() == DeliveryState::Failed;
            events.must_target(no, seq)?;
            // What cannot be read is reported where it lies.
            let is_listed = failures.as_ref().is_none_or(|rows| !matches!(rows.get((no, seq)), Ok(None)));
            match (is_failure, is_listed) {
                (true, true) => Ok(()),
                (true, false) => Err("it was given up, and is not among the failures".into()),
                (false, _) => Err("it lies among the failed, and was cancelled".into()),
            }
        });
        let mut events = self.event_rows();
        let failed = tables::ENDED.read(self.transaction, self.keys).ok();
        self.walk(&tables::CANCELLED, |(no, seq): (u32, u64), place, record| {
            ended.entry(no).or_default().1 += 1;
            let was_cancelled = decoded::<EndedRow>(place, record)?.ending.state() == DeliveryState::Cancelled;
            events.must_target(no, seq)?;
            let has_failed = failed.as_ref().is_some_and(|rows| matches!(rows.get((no, seq)), Ok(Some(_))));
            match (was_cancelled, has_failed) {
                (true, false) => Ok(()),
                (true, true) => Err("it lies among the failed as well".into()),
                (false, _) => Err("it lies among the cancelled, and has failed".into()),
            }
        });
    }

    /// What is ordered, in both directions: each place is that of a delivery that waits, and each that waits for an ordered
    /// destination has its place.
    fn ordered(&mut self, catalog: &Catalog) {
        let mut events = self.event_rows();
        let mut places = BTreeMap::new();
        self.walk_keys((tables::ORDERED_NAME, tables::ORDERED), |(no, place, seq): (u32, u64, u64)| {
            let other = places.insert((no, seq), place);
            events.must_target(no, seq)?;
            if other.is_none() { Ok(()) } else { Err("the delivery has another place as well".into()) }
        });
        let is_ordered =
            |no: u32| catalog.destination(DestinationNo(no)).is_some_and(|destination| destination.ordered);
        let mut nos: BTreeSet<_> = catalog.destinations().map(|it| it.no.0).filter(|no| is_ordered(*no)).collect();
        nos.extend(places.keys().map(|(no, _)| *no));
        let walked = catch_unwind(AssertUnwindSafe(|| -> Result<(), String> {
            let failed = |error: &dyn std::fmt::Display| format!("the table cannot be read on: {error}");
            let due = tables::DUE.read(self.transaction, self.keys).map_err(|error| failed(&error))?;
            let lanes = tables::LANES.read(self.transaction, self.keys).map_err(|error| failed(&error))?;
            let is_whole = |no: u32| match lanes.get(no) {
                Ok(None) => true,
                Ok(Some(record)) => {
                    decoded::<Lane>(lanes.place(no), record.value()).is_ok_and(|lane| lane.ordering.is_none())
                }
                Err(_) => false,
            };
            for no in nos {
                let mut waiting = BTreeMap::new();
                for entry in due.range((no, 0, 0)..=(no, u64::MAX, u64::MAX)).map_err(|error| failed(&error))? {
                    let (_, at, seq) = entry.map_err(|error| failed(&error))?.0.value();
                    waiting.insert(seq, at);
                }
                let own = places.range((no, 0)..=(no, u64::MAX));
                for ((_, seq), place) in own.filter(|((_, seq), _)| !waiting.contains_key(seq)) {
                    let key = tables::shown_place((no, *place, *seq));
                    self.tell(tables::ORDERED_NAME, key, "no such delivery waits");
                }
                if is_ordered(no) && is_whole(no) {
                    for (seq, at) in waiting.into_iter().filter(|(seq, _)| !places.contains_key(&(no, *seq))) {
                        let key = tables::shown_place((no, at, seq));
                        self.tell(tables::DUE.name, key, "its destination is ordered, and it has no place");
                    }
                }
            }
            Ok(())
        }));
        match walked {
            Ok(Ok(())) => {}
            Ok(Err(reason)) => self.tell(tables::ORDERED_NAME, String::new(), reason),
            Err(_) => self.tell(tables::ORDERED_NAME, String::new(), CONTRADICTION),
        }
    }

    /// Rows without a record: there is nothing to open.
    fn walk_keys<K: Key + 'static, V: redb::Value + 'static>(
        &mut self,
        (name, definition): (&'static str, TableDefinition<'static, K, V>),
        mut look: impl FnMut(K::SelfType<'_>) -> Result<(), Wrong>,
    ) {
        let walked = catch_unwind(AssertUnwindSafe(|| -> Result<(), String> {
            let failed = |error: &dyn std::fmt::Display| format!("the table cannot be read on: {error}");
            let rows = self.transaction.open_table(definition).map_err(|error| failed(&error))?;
            let count = rows.len().map_err(|error| failed(&error))?;
            let mut seen = 0;
            for entry in rows.iter().map_err(|error| failed(&error))? {
                let (key, _) = entry.map_err(|error| failed(&error))?;
                seen += 1;
                if seen > count {
                    break;
                }
                self.records += 1;
                if let Err(reason) = look(key.value()) {
                    self.tell(name, tables::shown(name, K::as_bytes(&key.value()).as_ref()), reason);
                }
            }
            if seen == count {
                return Ok(());
            }
            Err(format!("the table says it has {count} rows, and has others"))
        }));
        match walked {
            Ok(Ok(())) => {}
            Ok(Err(reason)) => self.tell(name, String::new(), reason),
            Err(_) => self.tell(name, String::new(), CONTRADICTION),
        }
    }

    fn tallies(&mut self, said: &mut Said) {
        let before = self.findings;
        let Said { catalog, waiting, ended, tallies, .. } = said;
        self.walk(&tables::TALLIES, |no: u32, place, record| {
            let tally: Tally = decoded(place, record)?;
            let rows = waiting.get(&no).copied().unwrap_or_default();
            let (failed, cancelled) = ended.get(&no).copied().unwrap_or_default();
            let fits = tally.succeeded + tally.failed + tally.cancelled <= tally.accepted;
            // Which of the two an end was may be unknown to a tally that was counted anew; how many there were is not.
            let agrees = fits && tally.waiting() == rows && tally.failed + tally.cancelled >= failed + cancelled;
            tallies.insert(no, tally);
            if agrees { Ok(()) } else { Err(format!("{} wait by the tally, and {rows} rows are due", tally.waiting())) }
        });
        if self.findings == before {
            let untold = said.waiting.keys().filter(|no| !said.tallies.contains_key(no)).copied().collect::<Vec<_>>();
            for no in untold {
                self.tell(tables::TALLIES.name, no.to_string(), "rows are due, and there is no tally of them");
            }
        }
        let is_whole = self.findings == 0;
        self.walk(&tables::LANES, |no: u32, place, record| {
            decoded::<Lane>(place, record)?;
            let known = !is_whole || catalog.owner(DestinationNo(no)).is_some();
            if known { Ok(()) } else { Err(NOBODYS.into()) }
        });
    }

    fn segments(&mut self) {
        self.walk(&tables::SEGMENTS, |(kind, _, _): (u8, &[u8], u64), place, record| {
            segments::check_row(kind, place, record).map_err(|error| wrong(&error))
        });
    }

    /// Bulk replays, commands, and the requests that came with a key.
    fn work(&mut self) {
        self.walk(&tables::COMMANDS, |number: u64, place, record| {
            let row: CommandRow = decoded(place, record)?;
            if row.command.id.number() == number { Ok(()) } else { Err("it bears another number".into()) }
        });
        self.walk(&tables::REPLAYS, |_: u64, place, record| decoded::<Replay>(place, record).map(drop));
        let mut begun = BTreeSet::new();
        self.walk(&tables::REQUEST_TIMES, |(at, hash): (u64, &[u8]), place, record| {
            begun.insert((at, hash.to_vec()));
            decoded::<()>(place, record)
        });
        self.walk(&tables::REQUESTS, |hash: &[u8], place, record| {
            let row: RequestRow = decoded(place, record)?;
            if begun.contains(&(row.begun.as_millis(), hash.to_vec())) {
                Ok(())
            } else {
                Err("it is not among those that age".into())
            }
        });
    }

    /// Tables that this version does not know: what they hold cannot be told.
    fn strangers(&mut self) {
        let Ok(known) = self.transaction.list_tables() else { return };
        let names: Vec<_> = known.map(|table| redb::TableHandle::name(&table).to_owned()).collect();
        for name in names.into_iter().filter(|name| !tables::NAMES.contains(&name.as_str())) {
            self.tell("file", String::new(), format!("the table {name} is not one that this version knows"));
        }
    }

    fn audit(&mut self, said: &Said) {
        let before = self.findings;
        let mut unled = Vec::new();
        let terms = self.transaction.open_table(tables::AUDIT_TERMS).ok();
        let times = self.transaction.open_table(tables::AUDIT_TIMES).ok();
        self.walk(&tables::AUDIT, |number: u64, place, record| {
            let kept: Kept = decoded(place, record)?;
            // What cannot be read is reported where it lies.
            let is_led_to = |read: &Record| match (&terms, &times) {
                (Some(terms), Some(times)) => audit::leads_to(terms, times, read).unwrap_or(true),
                (_, _) => true,
            };
            match Record::of(&kept.text) {
                Ok(read) if read.number == number => {
                    unled.extend((!is_led_to(&read)).then_some(number));
                    Ok(())
                }
                Ok(_) => Err("it bears another number".into()),
                Err(_) => Err("it opens, and is no record of the audit log".into()),
            }
        });
        if let Some(chain) = said.chain.filter(|_| self.findings == before) {
            self.chain(chain);
        }
        for number in unled {
            self.tell(tables::AUDIT.name, number.to_string(), "what it says, or its time, does not lead to it");
        }
        let records = tables::AUDIT.read(self.transaction, self.keys).ok();
        self.walk_keys((tables::AUDIT_TERMS_NAME, tables::AUDIT_TERMS), |(_, number): (u64, u64)| {
            let is_there = records.as_ref().is_none_or(|rows| !matches!(rows.get(number), Ok(None)));
            if is_there { Ok(()) } else { Err("the record that it leads to is not there".into()) }
        });
        self.walk_keys((tables::AUDIT_TIMES_NAME, tables::AUDIT_TIMES), |_: (u8, u64)| Ok(()));
    }

    fn chain(&mut self, chain: Chain) {
        let Ok(rows) = tables::AUDIT.read(self.transaction, self.keys) else { return };
        let follow = || -> Result<(), (u64, String)> {
            let unread = |error: redb::StorageError| (0, error.to_string());
            let mut walk = Walk::from(chain.head);
            for entry in rows.iter().map_err(unread)?.rev() {
                let (number, record) = entry.map_err(unread)?;
                let kept: Kept =
                    decoded(rows.place(number.value()), record.value()).map_err(|why| (number.value(), why))?;
                walk.follow(&kept).map_err(|broken| (broken.number, broken.why))?;
            }
            walk.end(chain.anchor).map_err(|broken| (broken.number, broken.why))
        };
        if let Err((number, why)) = follow() {
            self.tell(tables::AUDIT.name, number.to_string(), format!("the chain is broken: {why}"));
        }
    }

    /// Whether the lists of each run name its events.
    fn runs(&mut self, db: &Database, end: Seq, now: Timestamp) {
        let loaded = segments::seal::load(self.transaction, self.keys, RUN_EVENTS_MAX, end, now);
        let checked = match loaded {
            Ok(LoadedRuns::Whole(whole)) => {
                let checked = Snapshot::open(db, self.keys, whole.0).and_then(|it| it.check_runs());
                checked.map_err(|error| error.to_string())
            }
            // Each damaged row has been reported: this is one that is not there.
            Ok(LoadedRuns::Broken(_)) => Err("a run does not have all rows that it names".to_owned()),
            Err(error) => Err(error.to_string()),
        };
        if let Err(reason) = checked {
            self.tell(tables::SEGMENTS.name, String::new(), reason);
        }
    }
}

/// What things name that is not there, and what is there twice.
fn missing_in(catalog: &Catalog) -> Vec<(String, String)> {
    let mut missing = Vec::new();
    let has = |tenant: &TenantId| catalog.tenant(tenant).is_some();
    for tenant in catalog.tenants() {
        if tenant.parent.as_ref().is_some_and(|parent| !has(parent)) {
            missing.push((format!("tenant {}", tenant.id), "its parent is not there".to_owned()));
        }
    }
    for destination in catalog.destinations().filter(|it| !has(&it.tenant)) {
        missing.push((format!("destination {}", destination.no.0), "its tenant is not there".to_owned()));
    }
    for destination in catalog.destinations() {
        if let Err(key) = catalog.signatures_of(destination) {
            let reason = format!("it signs with {key}, which is not there or not its tenant's");
            missing.push((format!("destination {}", destination.no.0), reason));
        }
    }
    let mut own = BTreeSet::new();
    for key in catalog.signing_keys() {
        let name = || format!("signing key {}", key.id);
        if !has(&key.tenant) {
            missing.push((name(), "its tenant is not there".to_owned()));
        }
        if key.kind == SigningKeyKind::Signature && !own.insert(&key.tenant) {
            missing.push((name(), "its tenant has another signature key".to_owned()));
        }
    }
    for subscription in catalog.subscriptions() {
        let key = || format!("subscription {}", subscription.no.0);
        if !has(&subscription.tenant) {
            missing.push((key(), "its tenant is not there".to_owned()));
        }
        if subscription.destinations.iter().any(|no| catalog.destination(*no).is_none()) {
            missing.push((key(), "it names a destination that is not there".to_owned()));
        }
    }
    for key in catalog.keys().filter(|key| key.tenant.as_ref().is_some_and(|tenant| !has(tenant))) {
        missing.push((format!("key {}", key.id), "its tenant is not there".to_owned()));
    }
    for user in catalog.users().filter(|user| user.tenant.as_ref().is_some_and(|tenant| !has(tenant))) {
        missing.push((format!("user {}", user.id), "its tenant is not there".to_owned()));
    }
    missing
}
