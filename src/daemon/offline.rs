//! The store of a stopped daemon, as its configuration names it: path and master key are found as [`super::Daemon::start`] finds
//! them, and nothing is made.

use std::path::PathBuf;

use crate::clock::Clock;
use crate::config;
use crate::store::{Keys, OpenError, Settings, is_there, offline};

use super::master_key::{self, MasterKeyError};
use super::{StartError, drawn};

pub use offline::{Checked, Compacted, FileSize, Finding, Stat};

/// Why the store of a stopped daemon cannot be looked at. Nothing has been changed.
#[derive(Debug, thiserror::Error)]
pub enum OfflineError {
    /// Another process has it open: the daemon runs.
    #[error("another process holds the store {path}")]
    Held {
        /// The file.
        path: PathBuf,
    },
    /// There is no store.
    #[error("there is no store {path}")]
    NoStore {
        /// The file.
        path: PathBuf,
    },
    /// The file is damaged.
    #[error("{why}")]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        why: String,
    },
    /// It does not open, for a reason for which the daemon would not start either.
    #[error(transparent)]
    Start(#[from] StartError),
}

/// Checks the whole store; tells each thing that is wrong.
pub fn check(store: &config::Store, tell: &mut dyn FnMut(Finding)) -> Result<Checked, OfflineError> {
    offline::check(&settings(store)?, Clock::system().now(), tell).map_err(|error| failed(store, error))
}

/// Counts what the store holds and takes.
pub fn stat(store: &config::Store) -> Result<Stat, OfflineError> {
    offline::stat(&settings(store)?).map_err(|error| failed(store, error))
}

/// Makes the file as small as it can be.
pub fn compact(store: &config::Store) -> Result<Compacted, OfflineError> {
    offline::compact(&settings(store)?, Clock::system().now()).map_err(|error| failed(store, error))
}

fn settings(store: &config::Store) -> Result<Settings, OfflineError> {
    if !is_there(&store.path).map_err(StartError::from)? {
        return Err(OfflineError::NoStore { path: store.path.clone() });
    }
    let master_key = master_key::read(store).map_err(StartError::from)?;
    let cache_bytes = usize::try_from(store.cache.bytes()).unwrap_or(usize::MAX);
    Ok(Settings { cache_bytes, ..Settings::at(&store.path, Keys::new(master_key, drawn()?)) })
}

fn failed(store: &config::Store, error: OpenError) -> OfflineError {
    match error {
        OpenError::Locked { path } => OfflineError::Held { path },
        OpenError::Damaged { path, why } => OfflineError::Damaged { path, why },
        OpenError::WrongKey { path } => OfflineError::Start(match master_key::place(store) {
            Ok(key) => MasterKeyError::Wrong { key, store: path }.into(),
            Err(error) => error.into(),
        }),
        other => OfflineError::Start(other.into()),
    }
}
