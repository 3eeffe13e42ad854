//! A store with something in each table: whatever is done to a record is found, and told with its place.

use std::path::Path;
use std::time::Duration;

use redb::{Durability, ReadableTable, TableHandle};

use crate::clock::Clock;
use crate::model::audit::Action;
use crate::model::delivery::Ending;
use crate::model::destination::{Preset, Scheme, SignedWith};
use crate::model::event::NewEvent;
use crate::model::key::Role;
use crate::model::{
    Actor, ApiKey, Destination, DestinationNo, EventTypes, KnownType, Outcome, Secret, Seq, SigningKey, SigningKeyId,
    SigningKeyKind, Tenant, TenantId, Timestamp, event_type,
};
use crate::store::op::*;
use crate::store::tables::Write;
use crate::store::tests::{attempt, event, keys, with_destinations};
use crate::store::{DueRow, EndedRow, Plan, Store, Tally};

use super::*;

const START: Timestamp = Timestamp::from_millis(1_700_000_000_000);

/// Tables of what is under way, empty here.
const WORK: [&str; 4] = ["replays", "commands", "requests", "request_times"];

fn settings(folder: &Path) -> Settings {
    Settings { cache_bytes: 1 << 20, run_events: 8, ..Settings::at(folder.join("s.redb"), keys()) }
}

fn open(settings: &Settings) -> Store {
    Store::open(settings, Clock::of_runtime(START), 7).unwrap()
}

async fn accept(store: &Store, places: std::ops::Range<usize>) {
    for place in places {
        let mut event = event("order.paid", Some(&format!("T{place}")), &"a payload ".repeat(20));
        event.key = Some("k".parse().unwrap());
        let accepted = store.submit(Accept { events: vec![event], waiting_max: 1_000 }).await.unwrap().answer;
        assert!(accepted[0].is_ok(), "{accepted:?}");
    }
}

async fn first(store: &Store, no: DestinationNo) -> DueRow {
    store.read(move |snapshot| snapshot.lane(no, (Timestamp::ZERO, Seq(0)), 1)).await.unwrap()[0]
}

async fn finish(store: &Store, no: DestinationNo, outcome: Outcome, next: Next) {
    let row = first(store, no).await;
    let at = match next {
        Next::Retry(at) | Next::Again(at) => Some(at),
        Next::Succeeded | Next::GivenUp(_) => None,
    };
    let done = Finish { row, attempt: attempt(row, outcome, at), next, health: None };
    let _ = store.submit(done).await.unwrap();
}

fn signing_key(place: u8) -> SigningKey {
    SigningKey {
        id: SigningKeyId::from_chance([place; 6]),
        tenant: TenantId::default_tenant(),
        kind: SigningKeyKind::Signature,
        name: "own".into(),
        secret: Secret::new("text"),
        previous: None,
        created: START,
    }
}

/// A store that has seen everything, and two starts: closed, with a record at least in each table.
async fn lived_in(settings: &Settings) {
    let store = open(settings);
    let nos = with_destinations(&store, 3).await;
    accept(&store, 0..20).await;
    finish(&store, nos[0], Outcome::Succeeded, Next::Succeeded).await;
    finish(&store, nos[0], Outcome::Failed, Next::Retry(START.after(Duration::from_secs(60)))).await;
    finish(&store, nos[1], Outcome::Failed, Next::GivenUp(Ending::Exhausted)).await;
    store.close().await;
    drop(store);
    let store = open(settings);
    let tenant =
        |id: &str| Tenant { id: id.parse().unwrap(), name: id.into(), parent: None, created: START, audit_from: 0 };
    for id in ["m1", "m2"] {
        store.steer(&Actor::SYSTEM, CreateTenant { tenant: tenant(id) }).await.unwrap().answer.unwrap();
    }
    let id = "m2".parse().unwrap();
    store.steer(&Actor::SYSTEM, DeleteTenant { id }).await.unwrap().answer.unwrap();
    let key = ApiKey::generate([5; 38], "k".into(), Role::Admin, None, START).0;
    store.steer(&Actor::SYSTEM, PutKey { key, must_exist: false }).await.unwrap().answer.unwrap();
    let key = store.steer(&Actor::SYSTEM, CreateSigningKey { key: signing_key(1) }).await.unwrap().answer.unwrap();
    let before = std::sync::Arc::clone(store.catalog().destination(nos[1]).unwrap());
    let by_key = SignedWith::Key { scheme: Scheme::Preset(Preset::XSignature), key: key.id };
    let after = Destination { signatures: vec![by_key], ordered: true, ..Destination::clone(&before) };
    let change = UpdateDestination { before, after, action: Action::DestinationUpdate };
    store.steer(&Actor::SYSTEM, change).await.unwrap().answer.unwrap();
    store.steer(&Actor::SYSTEM, DeleteDestination { no: nos[2] }).await.unwrap().answer.unwrap();
    let key = first(&store, nos[2]).await.key();
    assert_eq!(store.steer(&Actor::SYSTEM, Cancel { key }).await.unwrap().answer, Steered::Done);
    assert!(store.steer(&Actor::SYSTEM, SetPaused { no: nos[1], paused: true }).await.unwrap().answer);
    accept(&store, 20..25).await;
    let attempts = vec![Started { row: first(&store, nos[0]).await, at: START, ran: Duration::from_millis(120) }];
    let _ = store.submit(Start { attempts }).await.unwrap();
    store.close().await;
}

fn found_in(settings: &Settings) -> Vec<Finding> {
    let mut found = Vec::new();
    let checked = check(settings, START, &mut |finding| found.push(finding)).unwrap();
    assert_eq!(checked.findings, found.len() as u64);
    found
}

/// A store that is as it should be passes; looking at it changes not a byte of it, and no daemon runs meanwhile.
#[tokio::test]
async fn a_whole_store_passes_and_a_look_changes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let settings = settings(folder.path());
    lived_in(&settings).await;
    let bytes = std::fs::read(&settings.path).unwrap();
    let mut found = Vec::new();
    let checked = check(&settings, START, &mut |finding| found.push(finding)).unwrap();
    let stat = stat(&settings).unwrap();
    assert!(bytes == std::fs::read(&settings.path).unwrap(), "the file is what it was");
    assert_eq!(found, []);
    assert_eq!(checked.records, stat.tables.iter().map(|table| table.rows).sum::<u64>());
    assert_eq!((stat.epoch, stat.next_seq, stat.data_keys), (7, 26, 2));
    assert_eq!(stat.file.length, bytes.len() as u64);
    for table in stat.tables.iter().filter(|table| !WORK.contains(&table.table)) {
        assert!(table.rows > 0 && table.bytes > 0 && table.page_bytes >= table.bytes, "{table:?}");
    }

    let store = open(&settings);
    assert!(matches!(check(&settings, START, &mut |_| {}), Err(OpenError::Locked { .. })));
    assert!(matches!(super::stat(&settings), Err(OpenError::Locked { .. })));
    assert!(matches!(compact(&settings, START), Err(OpenError::Locked { .. })));
    store.close().await;
}

/// An added event type is whole, also where the present configuration leaves no room for its name.
#[tokio::test]
async fn an_added_event_type_passes() {
    let folder = tempfile::tempdir().unwrap();
    let settings = settings(folder.path());
    let store = open(&settings);
    let known = |origin| KnownType::new("order.refunded".parse().unwrap(), origin);
    let known_here = known(event_type::Origin::Added { created: START });
    store.steer(&Actor::SYSTEM, CreateEventType { known: known_here }).await.unwrap().answer.unwrap();
    store.close().await;
    drop(store);
    let mut types = EventTypes::default();
    types.put(known(event_type::Origin::Configured)).unwrap();
    for settings in [Settings { event_types: Arc::new(types), ..settings.clone() }, settings] {
        assert_eq!(found_in(&settings), []);
    }
}

/// The rows of a table as bytes; with them each can be put back.
struct Bits<'a> {
    db: &'a Database,
    rng: fastrand::Rng,
    flipped: usize,
}

impl Bits<'_> {
    /// Flips bits of each record of a table, one at a time, and asks what is found.
    fn flip<K: redb::Key + 'static>(&mut self, definition: &tables::Definition<K>) {
        let count = self.change::<K, _>(definition, |rows| rows.len().unwrap());
        assert!(count > 0, "{} has a record", definition.name);
        for place in 0..count as usize {
            let bytes = self
                .change::<K, _>(definition, |rows| rows.iter().unwrap().nth(place).unwrap().unwrap().1.value().len());
            for bit in [0, bytes * 8 - 1, self.rng.usize(..bytes * 8)] {
                let turn = |rows: &mut redb::Table<'_, K, &'static [u8]>| {
                    let (key, mut record) = {
                        let (key, record) = rows.iter().unwrap().nth(place).unwrap().unwrap();
                        (K::as_bytes(&key.value()).as_ref().to_vec(), record.value().to_vec())
                    };
                    record[bit / 8] ^= 1 << (bit % 8);
                    rows.insert(K::from_bytes(&key), record.as_slice()).unwrap();
                };
                self.change(definition, turn);
                let mut found = Vec::new();
                let transaction = self.db.begin_read().unwrap();
                // As a start does: what it has opened before is not remembered.
                let keys = unlock(self.db, &Settings::at("", keys())).unwrap();
                let inspected = Inspection::of(&transaction, &keys, &mut |it| found.push(it)).inspect(None);
                drop(transaction);
                let first = found.iter().find(|finding| finding.table == definition.name && !finding.key.is_empty());
                assert!(first.is_some(), "bit {bit} of record {place} of {}: {found:?}", definition.name);
                assert_eq!(inspected.findings, found.len() as u64);
                self.change(definition, turn);
                self.flipped += 1;
            }
        }
    }

    fn change<K: redb::Key + 'static, T>(
        &self,
        definition: &tables::Definition<K>,
        change: impl FnOnce(&mut redb::Table<'_, K, &'static [u8]>) -> T,
    ) -> T {
        let mut transaction = self.db.begin_write().unwrap();
        transaction.set_durability(Durability::None).unwrap();
        let changed = change(&mut transaction.open_table(definition.table()).unwrap());
        transaction.commit().unwrap();
        changed
    }
}

/// Whichever bit of a record flips, in any table, the record is named, even where the page's own checksum was made to fit.
#[tokio::test]
async fn a_flipped_bit_in_any_record_is_found_at_its_place() {
    let folder = tempfile::tempdir().unwrap();
    let settings = settings(folder.path());
    lived_in(&settings).await;
    let db = Database::open(&settings.path).unwrap();
    let keys = unlock(&db, &settings).unwrap();
    let mut bits = Bits { db: &db, rng: fastrand::Rng::with_seed(1), flipped: 0 };
    bits.flip(&tables::META);
    bits.flip(&tables::DATA_KEYS);
    bits.flip(&tables::THINGS);
    bits.flip(&tables::EVENTS);
    bits.flip(&tables::DUE);
    bits.flip(&tables::ATTEMPTS);
    bits.flip(&tables::STARTED);
    bits.flip(&tables::ENDED);
    bits.flip(&tables::CANCELLED);
    bits.flip(&tables::TALLIES);
    bits.flip(&tables::LANES);
    bits.flip(&tables::SEGMENTS);
    bits.flip(&tables::AUDIT);
    assert!(bits.flipped > 300, "{}", bits.flipped);
    let transaction = db.begin_read().unwrap();
    assert_eq!(Inspection::of(&transaction, &keys, &mut |it| panic!("{it:?}")).inspect(None).findings, 0);
    let known: Vec<String> = transaction.list_tables().unwrap().map(|table| table.name().to_owned()).collect();
    assert!(known.iter().all(|name| tables::NAMES.contains(&name.as_str())), "each table is looked at: {known:?}");
}

/// The same on the disk of a stopped daemon, where nobody made a checksum fit: the file is wrong, and the record is named.
#[tokio::test]
async fn a_flipped_bit_on_the_disk_is_found() {
    let folder = tempfile::tempdir().unwrap();
    let settings = settings(folder.path());
    lived_in(&settings).await;
    let whole = std::fs::read(&settings.path).unwrap();
    let mut records = Vec::new();
    {
        let db = Database::open(&settings.path).unwrap();
        let transaction = db.begin_read().unwrap();
        macro_rules! collect {
            ($($table:ident),*) => { $(
                for row in transaction.open_table(tables::$table.table()).unwrap().iter().unwrap() {
                    records.push((tables::$table.name, row.unwrap().1.value().to_vec()));
                }
            )* };
        }
        collect!(
            META, DATA_KEYS, THINGS, EVENTS, DUE, ATTEMPTS, STARTED, ENDED, CANCELLED, TALLIES, LANES, SEGMENTS, AUDIT
        );
    }
    let mut rng = fastrand::Rng::with_seed(2);
    // Rows of nothing but a key have no record.
    let has_none = [
        tables::FAILURES_NAME,
        tables::ORDERED_NAME,
        tables::CHAPTERS_NAME,
        tables::FACTS_NAME,
        tables::AUDIT_TERMS_NAME,
        tables::AUDIT_TIMES_NAME,
    ];
    let is_record = |table: &&str| !has_none.contains(table) && !WORK.contains(table);
    for table in tables::NAMES.into_iter().filter(is_record) {
        let of_table: Vec<_> = records.iter().filter(|(name, _)| *name == table).collect();
        for (_, record) in [of_table[0], of_table[rng.usize(..of_table.len())]] {
            let (mut damaged, bit) = (whole.clone(), rng.usize(..record.len() * 8));
            let in_file = whole.windows(record.len()).enumerate().filter(|(_, bytes)| bytes == record);
            let places: Vec<_> = in_file.map(|(place, _)| place).collect();
            assert!(!places.is_empty(), "the record lies in the file in one piece");
            // Pages that are free may hold an older copy.
            places.iter().for_each(|place| damaged[place + bit / 8] ^= 1 << (bit % 8));
            std::fs::write(&settings.path, &damaged).unwrap();
            let found = found_in(&settings);
            assert_eq!(found[0].table, "file", "{found:?}");
            assert!(
                found.iter().any(|finding| finding.table == table && !finding.key.is_empty()),
                "{table}: {found:?}"
            );
            assert!(damaged == std::fs::read(&settings.path).unwrap(), "a damaged file stays as it is");
            assert!(matches!(compact(&settings, START), Err(OpenError::Damaged { .. })));
        }
    }
    // Whatever else is damaged ends in findings too, never in a panic.
    for _ in 0..40 {
        let mut damaged = whole.clone();
        for _ in 0..rng.usize(1..50) {
            let at = rng.usize(..damaged.len());
            damaged[at] ^= rng.u8(1..);
        }
        std::fs::write(&settings.path, &damaged).unwrap();
        let _ = check(&settings, START, &mut |_| {});
    }
}

/// What records say of each other is held against each other, also where each opens.
#[tokio::test]
async fn records_that_contradict_each_other_are_found() {
    let folder = tempfile::tempdir().unwrap();
    let settings = settings(folder.path());
    lived_in(&settings).await;
    let whole = std::fs::read(&settings.path).unwrap();
    type Damage = fn(&redb::WriteTransaction, &Arc<Keyring>);
    fn write<'tx, K: redb::Key>(
        definition: &tables::Definition<K>,
        transaction: &'tx redb::WriteTransaction,
        keys: &Arc<Keyring>,
    ) -> Write<'tx, K> {
        definition.write(transaction, keys).unwrap()
    }
    let damages: [(&str, &str, &str, Damage); 24] = [
        ("failures", "attempts", "not among the failures", |tx, _| {
            tx.open_table(tables::FAILURES).unwrap().retain(|_, ()| false).unwrap()
        }),
        ("no place in order", "due", "it has no place", |tx, _| {
            tx.open_table(tables::ORDERED).unwrap().pop_first().unwrap().unwrap();
        }),
        ("a place too many", "ordered", "no such delivery waits", |tx, _| {
            tx.open_table(tables::ORDERED).unwrap().insert((2, 0, 1), ()).unwrap();
        }),
        ("two places", "ordered", "has another place", |tx, _| {
            let mut ordered = tx.open_table(tables::ORDERED).unwrap();
            let (no, _, seq) = ordered.first().unwrap().unwrap().0.value();
            ordered.insert((no, 5, seq), ()).unwrap();
        }),
        ("a place of a deleted destination's", "ordered", "no such delivery waits", |tx, _| {
            tx.open_table(tables::ORDERED).unwrap().insert((3, 0, 1), ()).unwrap();
        }),
        ("failures of what was given up", "ended", "not among the failures", |tx, _| {
            tx.open_table(tables::FAILURES).unwrap().retain(|(no, _), ()| no != 2).unwrap()
        }),
        ("what leads to a record", "audit", "does not lead to it", |tx, _| {
            tx.open_table(tables::AUDIT_TERMS).unwrap().pop_last().unwrap();
        }),
        ("when records were written", "audit", "does not lead to it", |tx, _| {
            tx.open_table(tables::AUDIT_TIMES).unwrap().insert((0, 0), (0, 1)).unwrap();
        }),
        ("what came of a chapter", "attempts", "its chapter does not say so", |tx, _| {
            tx.open_table(tables::FACTS).unwrap().retain(|(fact, _, _), ()| fact != 0).unwrap()
        }),
        ("a chapter", "facts", "no chapter begins there", |tx, _| {
            tx.open_table(tables::FACTS).unwrap().insert((200, 1, 3), ()).unwrap();
        }),
        ("a chapter of nobody", "chapters", "its destination is not there", |tx, _| {
            tx.open_table(tables::CHAPTERS).unwrap().insert((9, 2), ()).unwrap();
        }),
        ("a fact of nobody", "facts", "its destination is not there", |tx, _| {
            tx.open_table(tables::FACTS).unwrap().insert((200, 9, 0), ()).unwrap();
        }),
        ("an end", "cancelled", "among the cancelled, and has failed", |tx, keys| {
            let row = EndedRow { ending: Ending::Exhausted, at: START };
            write(&tables::CANCELLED, tx, keys).put((2, 2), &row).unwrap();
        }),
        ("events", "due", "its event is not there", |tx, keys| {
            drop(write(&tables::EVENTS, tx, keys).remove(24).unwrap())
        }),
        ("attempts", "due", "it is not the row", |tx, keys| {
            drop(write(&tables::ATTEMPTS, tx, keys).remove((2, 1, 1)).unwrap())
        }),
        ("a due row", "tallies", "wait by the tally", |tx, keys| {
            let mut due = write(&tables::DUE, tx, keys);
            let key = due.first().unwrap().unwrap().0.value();
            due.remove(key).unwrap();
        }),
        ("a due row too many", "due", "does not go to this destination", |tx, keys| {
            write(&tables::DUE, tx, keys).put((9, 5, 3), &Plan::FIRST).unwrap();
        }),
        ("a tally", "tallies", "wait by the tally", |tx, keys| {
            write(&tables::TALLIES, tx, keys).put(1, &Tally { accepted: 4, ..Tally::default() }).unwrap();
        }),
        ("no tally", "tallies", "there is no tally", |tx, keys| {
            drop(write(&tables::TALLIES, tx, keys).remove(1).unwrap());
        }),
        ("a destination", "things", "a destination that is not there", |tx, keys| {
            let key = 1_u32.to_be_bytes();
            write(&tables::THINGS, tx, keys).remove((kind::DESTINATION, key.as_slice())).unwrap();
        }),
        ("a signing key", "things", "it signs with sgk_", |tx, keys| {
            let key = signing_key(1).id.to_string();
            write(&tables::THINGS, tx, keys).remove((kind::SIGNING_KEY, key.as_bytes())).unwrap();
        }),
        ("one signature key too many", "things", "has another signature key", |tx, keys| {
            let key = signing_key(2);
            write(&tables::THINGS, tx, keys).put((kind::SIGNING_KEY, key.id.to_string().as_bytes()), &key).unwrap();
        }),
        ("a record of the audit log", "audit", "the chain is broken", |tx, keys| {
            drop(write(&tables::AUDIT, tx, keys).remove(2).unwrap());
        }),
        ("the number of the next event", "meta", "is missing", |tx, keys| {
            drop(write(&tables::META, tx, keys).remove(META_NUMBERS).unwrap());
        }),
    ];
    for (what, table, reason, damage) in damages {
        std::fs::write(&settings.path, &whole).unwrap();
        {
            let db = Database::open(&settings.path).unwrap();
            let keys = unlock(&db, &settings).unwrap();
            let transaction = db.begin_write().unwrap();
            crate::store::writer::keep_key(&transaction, &keys).unwrap();
            damage(&transaction, &keys);
            transaction.commit().unwrap();
        }
        let found = found_in(&settings);
        let is_told = |finding: &Finding| finding.table == table && finding.reason.contains(reason);
        assert!(found.iter().any(is_told), "{what}: {found:?}");
        assert!(found.iter().all(|finding| finding.table != "file"), "{what}: {found:?}");
    }
    // A table of a later version, whose records may name any data key: that is told, so that no key is dropped.
    std::fs::write(&settings.path, &whole).unwrap();
    {
        let db = Database::open(&settings.path).unwrap();
        let transaction = db.begin_write().unwrap();
        transaction.open_table(redb::TableDefinition::<u64, &[u8]>::new("later")).unwrap().insert(1, &b""[..]).unwrap();
        transaction.commit().unwrap();
    }
    let found = found_in(&settings);
    assert!(found.len() == 1 && found[0].reason.contains("the table later"), "{found:?}");
    assert_eq!(compact(&settings, START).unwrap().findings, 1);
    // And lists that miss an event.
    std::fs::write(&settings.path, &whole).unwrap();
    {
        let db = Database::open(&settings.path).unwrap();
        let transaction = db.begin_write().unwrap();
        let mut segments = transaction.open_table(tables::SEGMENTS.table()).unwrap();
        segments.retain_in((b'd', [].as_slice(), 0)..(b'e', [].as_slice(), 0), |_, _| false).unwrap();
        drop(segments);
        transaction.commit().unwrap();
    }
    let found = found_in(&settings);
    assert!(found[0].table == "segments" && found[0].reason.contains("the list of its destination"), "{found:?}");
}

/// What retention has freed goes back to the disk; the store is the same otherwise, and keys that sealed nothing that is left
/// are dropped, but not while a record is damaged.
#[tokio::test]
async fn compacting_shrinks_the_file_and_drops_idle_data_keys() {
    let folder = tempfile::tempdir().unwrap();
    let settings = settings(folder.path());
    lived_in(&settings).await;
    let store = open(&settings);
    // Nobody subscribes for this tenant.
    let bulk = |_| NewEvent { tenant: "m1".parse().unwrap(), ..event("bulk", None, &"x".repeat(4000)) };
    let _ = store.submit(Accept { events: (0..1000).map(bulk).collect(), waiting_max: 1_000 }).await.unwrap();
    let later = START.after(Duration::from_secs(1));
    let ages = Ages { payloads_before: later, attempts_before: later, events_before: later, now: later };
    let swept = store.submit(Sweep { from: Seq(0), limit: 5_000, ages }).await.unwrap().answer;
    assert!(swept.touched >= 1000, "{swept:?}");
    store.close().await;
    drop(store);
    {
        // A start whose records have all gone.
        let db = Database::open(&settings.path).unwrap();
        let transaction = db.begin_write().unwrap();
        crate::store::writer::keep_key(&transaction, &unlock(&db, &settings).unwrap()).unwrap();
        transaction.commit().unwrap();
    }
    let damaged = std::fs::read(&settings.path).unwrap();
    let before = stat(&settings).unwrap();
    assert_eq!(before.data_keys, 4);
    let compacted = compact(&settings, START).unwrap();
    assert!(compacted.after.length < compacted.before.length / 2, "{compacted:?}");
    assert_eq!((compacted.data_keys_dropped, compacted.findings), (1, 0));
    assert_eq!(found_in(&settings), []);
    let after = stat(&settings).unwrap();
    assert_eq!((after.data_keys, after.next_seq), (3, before.next_seq));
    let rows = |stat: &Stat| stat.tables.iter().map(|table| table.rows).sum::<u64>();
    assert_eq!(rows(&after) + 1, rows(&before));
    let again = compact(&settings, START).unwrap();
    assert_eq!((again.data_keys_dropped, again.after.length), (0, compacted.after.length));
    let store = open(&settings);
    store.read(|snapshot| snapshot.conservation()).await.unwrap();
    store.close().await;
    drop(store);

    std::fs::write(&settings.path, damaged).unwrap();
    {
        let db = Database::open(&settings.path).unwrap();
        let transaction = db.begin_write().unwrap();
        transaction.open_table(tables::LANES.table()).unwrap().insert(2, &b"damaged"[..]).unwrap();
        transaction.commit().unwrap();
    }
    let compacted = compact(&settings, START).unwrap();
    assert!(compacted.after.length < compacted.before.length / 2, "{compacted:?}");
    assert_eq!((compacted.data_keys_dropped, compacted.findings), (0, 1));
}
