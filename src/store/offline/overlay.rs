//! A file that is read, and written to in memory only.

use std::collections::BTreeMap;
use std::io;
use std::ops::Bound;
use std::sync::Mutex;

use redb::backends::FileBackend;
use redb::{BackendError, StorageBackend};

use crate::store::lock;

const BLOCK: u64 = 4096;

/// The file below, under its own lock, and what was written over it.
#[derive(Debug)]
pub(super) struct Overlay {
    file: FileBackend,
    // Held for one read or write.
    written: Mutex<Option<Written>>,
}

struct Written {
    length: u64,
    /// What lies beyond this in the file below was cut off.
    below: u64,
    blocks: BTreeMap<u64, Box<[u8]>>,
}

// Pages of a store are nothing to print.
impl std::fmt::Debug for Written {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Written").field("length", &self.length).field("blocks", &self.blocks.len()).finish()
    }
}

impl Overlay {
    pub(super) fn over(file: FileBackend) -> Self {
        Overlay { file, written: Mutex::new(None) }
    }

    /// Does something with what was written; the file's length is asked for when redb holds the lock.
    fn with<T>(&self, act: impl FnOnce(&mut Written) -> io::Result<T>) -> io::Result<T> {
        let mut written = lock(&self.written);
        let written = match &mut *written {
            Some(written) => written,
            none => {
                let length = self.file.len()?;
                none.insert(Written { length, below: length, blocks: BTreeMap::new() })
            }
        };
        act(written)
    }

    /// A block as it is now.
    fn block(&self, written: &Written, number: u64) -> io::Result<Box<[u8]>> {
        if let Some(block) = written.blocks.get(&number) {
            return Ok(block.clone());
        }
        let mut block = vec![0; BLOCK as usize].into_boxed_slice();
        let start = number * BLOCK;
        let there = written.below.saturating_sub(start).min(BLOCK) as usize;
        self.file.read(start, &mut block[..there])?;
        Ok(block)
    }
}

impl StorageBackend for Overlay {
    fn len(&self) -> io::Result<u64> {
        self.with(|written| Ok(written.length))
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.with(|written| {
            let end = offset + out.len() as u64;
            if end > written.length {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            if end <= written.below && written.blocks.range(offset / BLOCK..end.div_ceil(BLOCK)).next().is_none() {
                return self.file.read(offset, out);
            }
            let mut at = offset;
            while at < end {
                let block = self.block(written, at / BLOCK)?;
                let from = (at % BLOCK) as usize;
                let bytes = (block.len() - from).min((end - at) as usize);
                out[(at - offset) as usize..][..bytes].copy_from_slice(&block[from..from + bytes]);
                at += bytes as u64;
            }
            Ok(())
        })
    }

    fn set_len(&self, length: u64) -> io::Result<()> {
        self.with(|written| {
            if length < written.length {
                written.below = written.below.min(length);
                written.blocks.split_off(&length.div_ceil(BLOCK));
                if let Some(last) = written.blocks.get_mut(&(length / BLOCK)) {
                    last[(length % BLOCK) as usize..].fill(0);
                }
            }
            written.length = length;
            Ok(())
        })
    }

    fn sync_data(&self) -> io::Result<()> {
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.with(|written| {
            let mut at = offset;
            let end = offset + data.len() as u64;
            while at < end {
                let mut block = self.block(written, at / BLOCK)?;
                let from = (at % BLOCK) as usize;
                let bytes = (block.len() - from).min((end - at) as usize);
                block[from..from + bytes].copy_from_slice(&data[(at - offset) as usize..][..bytes]);
                written.blocks.insert(at / BLOCK, block);
                at += bytes as u64;
            }
            written.length = written.length.max(end);
            Ok(())
        })
    }

    fn close(&self) -> io::Result<()> {
        self.file.close()
    }

    fn try_lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<bool, BackendError> {
        self.file.try_lock_range(start, end)
    }

    fn try_lock_shared_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<bool, BackendError> {
        self.file.try_lock_shared_range(start, end)
    }

    fn lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<(), BackendError> {
        self.file.lock_range(start, end)
    }

    fn lock_shared_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<(), BackendError> {
        self.file.lock_shared_range(start, end)
    }

    fn unlock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<(), BackendError> {
        self.file.unlock_range(start, end)
    }

    fn query_lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<bool, BackendError> {
        self.file.query_lock_range(start, end)
    }
}
