//! The tables of the one file. Keys are numbers in time order; values are the records of [`super::codec`].

use std::borrow::Borrow;
use std::marker::PhantomData;
use std::ops::{Deref, DerefMut};
use std::sync::Arc;

use redb::{
    Key, ReadOnlyTable, ReadTransaction, ReadableTable, StorageError, Table, TableDefinition, TableError, Value,
    WriteTransaction,
};
use serde::Serialize;

use super::codec::{self, Place};
use super::keyring::Keyring;
use super::op::kind;
use super::segments::SegmentKey;
use crate::model::id::hex;

/// `name -> record`: the store's own facts (epoch, next numbers).
pub const META: Definition<&'static str> = Definition::new("meta");
/// `seq -> event`.
pub const EVENTS: Definition<u64> = Definition::new("events");
/// `(destination, due in ms, seq) -> what is due`. A lane is a key range of it: its head is one seek.
pub const DUE: Definition<(u32, u64, u64)> = Definition::new("due");
/// `(seq, destination, attempt no) -> attempt`, or the plan of one that a resend ordered.
pub const ATTEMPTS: Definition<(u64, u32, u32)> = Definition::new("attempts");
/// `(destination, seq) -> an attempt that was under way`, for attempts that take their time. Few: a table of its own lets a start
/// find what a crash cut off without a walk over all attempts.
pub const STARTED: Definition<(u32, u64)> = Definition::new("started");
/// `(destination, seq) -> how a delivery was given up`. What is neither here nor cancelled nor due has succeeded.
pub const ENDED: Definition<(u32, u64)> = Definition::new("ended");
/// `(destination, seq) -> how a delivery was cancelled`. Apart from those that were given up: each of the two may be rare among the
/// others, and is listed alone.
pub const CANCELLED: Definition<(u32, u64)> = Definition::new("cancelled");
/// `(destination, seq)` of each delivery that has a failed attempt or was given up, whatever became of it: what the history's
/// filter on failures walks. There is nothing in a row but its key.
pub const FAILURES: TableDefinition<(u32, u64), ()> = TableDefinition::new(FAILURES_NAME);
/// Its name.
pub const FAILURES_NAME: &str = "failures";
/// `(destination, 0, seq)` of each delivery in an ordered destination's line, and `(destination, due in ms, seq)` of each that waits
/// beside it: so the next of either is one seek. There is nothing in a row but its key, and none for other destinations, but
/// for what still waits of one that was ordered once.
pub const ORDERED: TableDefinition<(u32, u64, u64), ()> = TableDefinition::new(ORDERED_NAME);
/// Its name.
pub const ORDERED_NAME: &str = "ordered";
/// `(destination, seq)` of each delivery that begins a chapter; see [`super::chapters`]. There is nothing in a row but its key.
pub const CHAPTERS: TableDefinition<(u32, u64), ()> = TableDefinition::new(CHAPTERS_NAME);
/// Its name.
pub const CHAPTERS_NAME: &str = "chapters";
/// `(fact, destination, first seq of a chapter)`: what is true of a delivery of that chapter at least. Likewise.
pub const FACTS: TableDefinition<(u16, u32, u64), ()> = TableDefinition::new(FACTS_NAME);
/// Its name.
pub const FACTS_NAME: &str = "facts";
/// `(kind, key, first seq of a run) -> packed list`; see [`super::segments`].
pub const SEGMENTS: Definition<(u8, &'static [u8], u64)> = Definition::new("segments");
/// `(kind, key) -> record`: tenants, destinations, subscriptions, keys, people. Few, and all in memory too.
pub const THINGS: Definition<(u8, &'static [u8])> = Definition::new("things");
/// `destination -> lane`: paused by an operator, held, gone or shut by the engine.
pub const LANES: Definition<u32> = Definition::new("lanes");
/// `destination -> how many deliveries are in which state`.
pub const TALLIES: Definition<u32> = Definition::new("tallies");
/// `number -> bulk replay`, with how far it has come.
pub const REPLAYS: Definition<u64> = Definition::new("replays");
/// `number -> command of a dialect`; see [`super::commands`].
pub const COMMANDS: Definition<u64> = Definition::new("commands");
/// `hash of who asked what with which key -> request`; see [`super::requests`].
pub const REQUESTS: Definition<&'static [u8]> = Definition::new("requests");
/// `(begun in ms, the same hash)`, for what has aged.
pub const REQUEST_TIMES: Definition<(u64, &'static [u8])> = Definition::new("request_times");
/// `number -> record of the audit log`.
pub const AUDIT: Definition<u64> = Definition::new("audit");
/// `(hash of what a record of the audit log can be found by, the record's number)`. There is nothing in a row but its key.
pub const AUDIT_TERMS: TableDefinition<(u64, u64), ()> = TableDefinition::new(AUDIT_TERMS_NAME);
/// Its name.
pub const AUDIT_TERMS_NAME: &str = "audit_terms";
/// `(level, block) -> when the oldest and the newest record of so many neighbours were written`, in ms; see [`super::audit`].
pub const AUDIT_TIMES: TableDefinition<(u8, u64), (u64, u64)> = TableDefinition::new(AUDIT_TIMES_NAME);
/// Its name.
pub const AUDIT_TIMES_NAME: &str = "audit_times";
/// `number -> wrapped data key`; see [`super::keyring`]. Its rows are sealed with the master key.
pub const DATA_KEYS: Definition<u32> = Definition::new("data_keys");

/// All tables.
pub const NAMES: [&str; 23] = [
    META.name,
    DATA_KEYS.name,
    THINGS.name,
    EVENTS.name,
    DUE.name,
    ATTEMPTS.name,
    STARTED.name,
    ENDED.name,
    CANCELLED.name,
    FAILURES_NAME,
    ORDERED_NAME,
    CHAPTERS_NAME,
    FACTS_NAME,
    TALLIES.name,
    LANES.name,
    SEGMENTS.name,
    REPLAYS.name,
    COMMANDS.name,
    REQUESTS.name,
    REQUEST_TIMES.name,
    AUDIT.name,
    AUDIT_TERMS_NAME,
    AUDIT_TIMES_NAME,
];

/// A key of a table in words, from its bytes. It holds nothing of what the record holds.
pub fn shown(table: &str, key: &[u8]) -> String {
    match table {
        "meta" => <&str>::from_bytes(key).to_owned(),
        "things" => shown_thing(<(u8, &[u8])>::from_bytes(key)),
        "due" | "ordered" => shown_place(<(u32, u64, u64)>::from_bytes(key)),
        "attempts" => {
            let (seq, no, number) = <(u64, u32, u32)>::from_bytes(key);
            format!("{seq}/{no}/{number}")
        }
        "started" | "ended" | "cancelled" | "failures" | "chapters" => {
            let (no, seq) = <(u32, u64)>::from_bytes(key);
            format!("{no}/{seq}")
        }
        "audit_terms" => {
            let (hash, number) = <(u64, u64)>::from_bytes(key);
            format!("{hash:016x}/{number}")
        }
        "audit_times" => {
            let (level, block) = <(u8, u64)>::from_bytes(key);
            format!("{level}/{block}")
        }
        "facts" => {
            let (fact, no, start) = <(u16, u32, u64)>::from_bytes(key);
            format!("{fact}/{no}/{start}")
        }
        "segments" => {
            let (kind, key, first) = <SegmentKey>::from_bytes(key);
            format!("{}/{}/{first}", kind.escape_ascii(), hex(key))
        }
        "request_times" => {
            let (at, hash) = <(u64, &[u8])>::from_bytes(key);
            format!("{at}/{}", hex(hash))
        }
        "tallies" | "lanes" | "data_keys" => u32::from_bytes(key).to_string(),
        "events" | "replays" | "commands" | "audit" => u64::from_bytes(key).to_string(),
        _ => hex(key),
    }
}

/// The numbers that keys begin with, in ascending order, found by one seek each: `first_from` answers the first at or after one.
/// At most so many.
pub fn leading<E>(limit: usize, mut first_from: impl FnMut(u32) -> Result<Option<u32>, E>) -> Result<Vec<u32>, E> {
    let (mut found, mut from) = (Vec::new(), Some(0));
    while found.len() < limit
        && let Some(least) = from
        && let Some(number) = first_from(least)?
    {
        found.push(number);
        from = number.checked_add(1);
    }
    Ok(found)
}

/// A place in a lane or in its order in words.
pub fn shown_place((no, at, seq): (u32, u64, u64)) -> String {
    format!("{no}/{at}/{seq}")
}

fn shown_thing((kind, key): (u8, &[u8])) -> String {
    let name = match kind {
        kind::TENANT => "tenant",
        kind::DESTINATION => "destination",
        kind::TOMBSTONE => "deleted destination",
        kind::FORMER_TENANT => "deleted tenant",
        kind::SERIAL => "last registration of tenant",
        kind::SUBSCRIPTION => "subscription",
        kind::KEY => "key",
        kind::SIGNING_KEY => "signing key",
        kind::EVENT_TYPE => "event type",
        kind::USER => "user",
        _ => "unknown",
    };
    let number = <[u8; 4]>::try_from(key).map(u32::from_be_bytes);
    match (kind, number) {
        (kind::DESTINATION | kind::TOMBSTONE | kind::SUBSCRIPTION, Ok(number)) => format!("{name} {number}"),
        _ => format!("{name} {}", String::from_utf8_lossy(key).escape_default()),
    }
}

/// A table of records, with what opens and seals them.
pub struct Rows<K: Key + 'static, T> {
    table: T,
    keys: Arc<Keyring>,
    name: &'static str,
    of: PhantomData<fn() -> K>,
}

/// A table that is read.
pub type Read<K> = Rows<K, ReadOnlyTable<K, &'static [u8]>>;
/// A table that is written.
pub type Write<'tx, K> = Rows<K, Table<'tx, K, &'static [u8]>>;

/// A table's name and the type of its keys.
pub struct Definition<K: Key + 'static> {
    /// Its name.
    pub name: &'static str,
    of: PhantomData<fn() -> K>,
}

impl<K: Key + 'static> Definition<K> {
    const fn new(name: &'static str) -> Self {
        Definition { name, of: PhantomData }
    }

    /// As redb wants it.
    pub fn table(&self) -> TableDefinition<'static, K, &'static [u8]> {
        TableDefinition::new(self.name)
    }

    /// Opens the table to read it.
    pub fn read(&self, transaction: &ReadTransaction, keys: &Arc<Keyring>) -> Result<Read<K>, TableError> {
        let table = transaction.open_table(self.table())?;
        Ok(Rows { table, keys: Arc::clone(keys), name: self.name, of: PhantomData })
    }

    /// Opens the table to change it, or makes it.
    pub fn write<'tx>(
        &self,
        transaction: &'tx WriteTransaction,
        keys: &Arc<Keyring>,
    ) -> Result<Write<'tx, K>, TableError> {
        let table = transaction.open_table(self.table())?;
        Ok(Rows { table, keys: Arc::clone(keys), name: self.name, of: PhantomData })
    }
}

impl<K: Key + 'static, T> Deref for Rows<K, T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.table
    }
}

impl<K: Key + 'static, T> DerefMut for Rows<K, T> {
    fn deref_mut(&mut self) -> &mut T {
        &mut self.table
    }
}

/// A table of records, in a write or a read transaction.
pub trait Records<K: Key + 'static>: Deref<Target: ReadableTable<K, &'static [u8]>> {
    /// Where the record of a key lies, and what seals it there.
    fn place<'k>(&self, key: impl Borrow<K::SelfType<'k>>) -> Place;
}

impl<K: Key + 'static, T: ReadableTable<K, &'static [u8]>> Records<K> for Rows<K, T> {
    fn place<'k>(&self, key: impl Borrow<K::SelfType<'k>>) -> Place {
        Place::new(
            &self.keys,
            self.name,
            K::as_bytes(key.borrow()).as_ref(),
            [THINGS.name, REQUESTS.name, COMMANDS.name].contains(&self.name),
        )
    }
}

impl<K: Key + 'static> Write<'_, K> {
    /// Puts the record of a value at a key.
    pub fn put<'k>(&mut self, key: impl Borrow<K::SelfType<'k>>, value: &impl Serialize) -> Result<(), StorageError> {
        self.put_with(key, |place| codec::encode(place, value)).map(drop)
    }

    /// Puts a record at a key, made for its place; answers its bytes.
    pub fn put_with<'k>(
        &mut self,
        key: impl Borrow<K::SelfType<'k>>,
        encode: impl FnOnce(Place) -> Vec<u8>,
    ) -> Result<usize, StorageError> {
        let record = encode(self.place(key.borrow()));
        self.table.insert(key, record.as_slice())?;
        Ok(record.len())
    }
}
