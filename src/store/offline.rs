//! The store of a stopped daemon: checked, counted, made smaller. Each opens the file under its lock, so that no daemon can run
//! meanwhile.
//!
//! [`check`] and [`stat`] change nothing: what redb would write (it notes that the file is open, and after a crash it saves what
//! its walk has found) stays in memory. [`compact`] is the only one that writes.

mod inspect;
mod overlay;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::fs::OpenOptions;
use std::os::unix::fs::MetadataExt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::Arc;

use redb::backends::FileBackend;
use redb::{Builder, Database, ReadableDatabase, ReadableTableMetadata};

use crate::model::Timestamp;

use super::keyring::Keyring;
use super::tables::Records;
use super::writer::{META_EPOCH, META_NUMBERS, Numbers};
use super::{LoadError, OpenError, Settings, codec, open_error, tables, unlock};

use inspect::Inspection;
use overlay::Overlay;

/// One thing that is wrong: where, and why. Never what a record holds.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Finding {
    /// The table; `file` for the file as a whole.
    pub table: &'static str,
    /// The record's key in it; empty for the table as a whole.
    pub key: String,
    /// What is wrong.
    pub reason: String,
}

/// What a check has looked at.
#[derive(Debug, Clone, PartialEq, Eq, Default, serde::Serialize)]
pub struct Checked {
    /// Records that were looked at, over all tables.
    pub records: u64,
    /// How much was wrong.
    pub findings: u64,
}

/// What a store holds and takes.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Stat {
    /// Each table.
    pub tables: Vec<TableStat>,
    /// The file.
    pub file: FileSize,
    /// Data keys: one for each start that has written something.
    pub data_keys: u64,
    /// What the ids of events have in common.
    pub epoch: u32,
    /// The place of the next event.
    pub next_seq: u64,
}

/// What a table holds and takes.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct TableStat {
    /// Its name.
    pub table: &'static str,
    /// Records.
    pub rows: u64,
    /// Bytes of its keys and records.
    pub bytes: u64,
    /// Bytes of the pages that hold them, with what is free in these.
    pub page_bytes: u64,
}

/// What the file takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
pub struct FileSize {
    /// Its length in bytes. Parts of it may never have been written.
    pub length: u64,
    /// Bytes on the disk.
    pub on_disk: u64,
}

/// What compacting has done.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Compacted {
    /// The file before.
    pub before: FileSize,
    /// The file after.
    pub after: FileSize,
    /// Data keys that were dropped because no record names them.
    pub data_keys_dropped: u64,
    /// Damaged records. While there are any, all data keys stay.
    pub findings: u64,
}

/// Checks the whole store, and tells each thing that is wrong: the file's own structure and checksums, every record of every
/// table, and what records say of each other. Errors are what keeps it from looking: a lock, a wrong key.
pub fn check(settings: &Settings, now: Timestamp, tell: &mut dyn FnMut(Finding)) -> Result<Checked, OpenError> {
    let mut findings = 0;
    let mut told = |finding| {
        findings += 1;
        tell(finding);
    };
    // Where pages are damaged redb may end in a panic; closing the file may do so too.
    let looked = catch_unwind(AssertUnwindSafe(|| look(settings, now, &mut told)));
    let records = match looked {
        Ok(records) => records?,
        Err(_) => {
            told(of_file("file", "its pages contradict each other".to_owned()));
            0
        }
    };
    Ok(Checked { records, findings })
}

fn of_file(table: &'static str, reason: String) -> Finding {
    Finding { table, key: String::new(), reason }
}

/// Answers how many records were looked at.
fn look(settings: &Settings, now: Timestamp, tell: &mut dyn FnMut(Finding)) -> Result<u64, OpenError> {
    let path = &settings.path;
    let open = |integrity: bool| {
        let mut builder = Builder::new();
        builder.set_cache_size(settings.cache_bytes).set_check_integrity_on_open(integrity);
        match builder.create_with_backend(Overlay::over(backend_of(path)?)) {
            Ok(db) => Ok(Ok(db)),
            Err(error) => match open_error(path, error) {
                OpenError::Damaged { why, .. } => Ok(Err(why)),
                other => Err(other),
            },
        }
    };
    let (db, is_whole) = match open(true)? {
        Ok(db) => (db, true),
        Err(why) => {
            tell(of_file("file", format!("it is not as it was written: {why}")));
            // Which records it is may still be found out.
            match open(false)? {
                Ok(db) => (db, false),
                Err(_) => return Ok(0),
            }
        }
    };
    let keys = match unlock(&db, settings) {
        Ok(keys) => keys,
        Err(error @ OpenError::WrongKey { .. }) if is_whole => return Err(error),
        Err(_) => {
            let reason = "none of them can be read and opened with the master key";
            tell(of_file(tables::DATA_KEYS.name, reason.to_owned()));
            return Ok(0);
        }
    };
    let transaction = match db.begin_read() {
        Ok(transaction) => transaction,
        Err(error) => {
            tell(of_file("file", error.to_string()));
            return Ok(0);
        }
    };
    Ok(Inspection::of(&transaction, &keys, tell).inspect(is_whole.then_some((&db, now))).records)
}

/// Counts what the store holds and takes.
pub fn stat(settings: &Settings) -> Result<Stat, OpenError> {
    let path = &settings.path;
    let file_size = size(path)?;
    let backend = Overlay::over(backend_of(path)?);
    let mut builder = Builder::new();
    let db = builder.set_cache_size(settings.cache_bytes).create_with_backend(backend);
    let db = db.map_err(|error| open_error(path, error))?;
    let keys = unlock(&db, settings)?;
    count(&db, &keys, file_size).map_err(|error| error.at(path))
}

fn count(db: &Database, keys: &Arc<Keyring>, file: FileSize) -> Result<Stat, LoadError> {
    let transaction = db.begin_read()?;
    let mut counted = Vec::new();
    for name in tables::NAMES {
        let handle = transaction.list_tables()?.find(|handle| redb::TableHandle::name(handle) == name);
        let handle = handle.ok_or_else(|| LoadError::Damaged(format!("the store has no table {name}")))?;
        let table = transaction.open_untyped_table(handle)?;
        let stats = table.stats()?;
        let bytes = stats.stored_bytes();
        let page_bytes = bytes + stats.metadata_bytes() + stats.fragmented_bytes();
        counted.push(TableStat { table: name, rows: table.len()?, bytes, page_bytes });
    }
    let meta = tables::META.read(&transaction, keys)?;
    let fact = |name: &str| {
        redb::ReadableTable::get(&*meta, name)?
            .ok_or_else(|| LoadError::Damaged(format!("the store has no {name} row")))
    };
    let epoch: crate::model::Epoch = codec::decode(meta.place(META_EPOCH), fact(META_EPOCH)?.value())?;
    let numbers: Numbers = codec::decode(meta.place(META_NUMBERS), fact(META_NUMBERS)?.value())?;
    let data_keys = counted.iter().find(|table| table.table == tables::DATA_KEYS.name).map_or(0, |table| table.rows);
    Ok(Stat { tables: counted, file, data_keys, epoch: epoch.0, next_seq: numbers.next_seq })
}

/// Makes the file as small as it can be, and drops the data keys that no record names. A file whose checksums do not agree with
/// what it holds is left alone.
pub fn compact(settings: &Settings, now: Timestamp) -> Result<Compacted, OpenError> {
    let path = &settings.path;
    let before = size(path)?;
    let backend = backend_of(path)?;
    let mut builder = Builder::new();
    builder.set_cache_size(settings.cache_bytes).set_check_integrity_on_open(true);
    let mut db = builder.create_with_backend(backend).map_err(|error| open_error(path, error))?;
    let keys = unlock(&db, settings)?;
    let (dropped, findings) = drop_keys(&db, &keys, now).map_err(|error| error.at(path))?;
    db.compact().map_err(|error| LoadError::from(error).at(path))?;
    db.close().map_err(|error| open_error(path, error))?;
    Ok(Compacted { before, after: size(path)?, data_keys_dropped: dropped, findings })
}

/// Drops the data keys that no record names. Only where every record opens: a damaged one may name its key wrongly, and somebody
/// may yet mend it.
fn drop_keys(db: &Database, keys: &Arc<Keyring>, now: Timestamp) -> Result<(u64, u64), LoadError> {
    let inspected = {
        let transaction = db.begin_read()?;
        Inspection::of(&transaction, keys, &mut |_| {}).inspect(Some((db, now)))
    };
    if inspected.findings > 0 {
        return Ok((0, inspected.findings));
    }
    let mut transaction = db.begin_write()?;
    transaction.set_two_phase_commit(true);
    let dropped = drop_unnamed(&transaction, &inspected.named)?;
    transaction.commit()?;
    Ok((dropped, 0))
}

fn drop_unnamed(transaction: &redb::WriteTransaction, named: &BTreeSet<u32>) -> Result<u64, LoadError> {
    let mut table = transaction.open_table(tables::DATA_KEYS.table())?;
    let before = table.len()?;
    table.retain(|id, _| named.contains(&id))?;
    Ok(before - table.len()?)
}

/// The file, which must be there.
fn backend_of(path: &Path) -> Result<FileBackend, OpenError> {
    let file = OpenOptions::new().read(true).write(true).open(path);
    let file = file.map_err(|source| OpenError::Io { path: path.to_owned(), source })?;
    FileBackend::new(file).map_err(|error| open_error(path, error))
}

fn size(path: &Path) -> Result<FileSize, OpenError> {
    let metadata = std::fs::metadata(path).map_err(|source| OpenError::Io { path: path.to_owned(), source })?;
    // The unit of st_blocks is 512 bytes, whatever the file system's own.
    Ok(FileSize { length: metadata.len(), on_disk: metadata.blocks() * 512 })
}
