//! The tables of the one file. Keys are numbers in time order; values are the records of [`super::codec`].

use redb::TableDefinition;

/// `name -> record`: the store's own facts (epoch, next numbers).
pub const META: TableDefinition<&str, &[u8]> = TableDefinition::new("meta");
/// `seq -> event`.
pub const EVENTS: TableDefinition<u64, &[u8]> = TableDefinition::new("events");
/// `(destination, due in ms, seq) -> what is due`. A lane is a key range of it: its head is one seek.
pub const DUE: TableDefinition<(u32, u64, u64), &[u8]> = TableDefinition::new("due");
/// `(seq, destination, attempt no) -> attempt`, or the plan of one that a resend ordered.
pub const ATTEMPTS: TableDefinition<(u64, u32, u32), &[u8]> = TableDefinition::new("attempts");
/// `(destination, seq) -> an attempt that was under way`, for attempts that take their time. Few: a table of its own lets a start
/// find what a crash cut off without a walk over all attempts.
pub const STARTED: TableDefinition<(u32, u64), &[u8]> = TableDefinition::new("started");
/// `(destination, seq) -> how a delivery ended without success`. What is neither here nor due has succeeded.
pub const ENDED: TableDefinition<(u32, u64), &[u8]> = TableDefinition::new("ended");
/// `(kind, key, first seq of a run) -> packed list`; see [`super::segments`].
pub const SEGMENTS: TableDefinition<(u8, &[u8], u64), &[u8]> = TableDefinition::new("segments");
/// `(kind, key) -> record`: tenants, destinations, subscriptions, keys. Few, and all in memory too.
pub const THINGS: TableDefinition<(u8, &[u8]), &[u8]> = TableDefinition::new("things");
/// `destination -> lane`: paused by an operator, held, gone or shut by the engine.
pub const LANES: TableDefinition<u32, &[u8]> = TableDefinition::new("lanes");
/// `destination -> how many deliveries are in which state`.
pub const TALLIES: TableDefinition<u32, &[u8]> = TableDefinition::new("tallies");
/// `number -> record of the audit log`.
pub const AUDIT: TableDefinition<u64, &[u8]> = TableDefinition::new("audit");
