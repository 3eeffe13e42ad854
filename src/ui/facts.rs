//! What only the daemon knows of itself, for those who run it.

use std::pin::Pin;
use std::sync::Arc;

use crate::model::Timestamp;

/// How the installation stands at one moment.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Facts {
    /// Which version runs.
    pub version: &'static str,
    /// When it started.
    pub started: Timestamp,
    /// The store's file.
    pub store: String,
    /// Its length in bytes.
    pub store_bytes: Option<u64>,
    /// The bytes that it takes on the disk.
    pub store_disk_bytes: Option<u64>,
    /// What is left on that disk.
    pub disk_free: Option<u64>,
    /// Below it no events are taken.
    pub disk_reserve: u64,
    /// When the own certificate expires, if there is one.
    pub certificate_expires: Option<Timestamp>,
    /// When the first of the certificates expires that receivers have shown since the start.
    pub receivers_expire: Option<Timestamp>,
    /// Every value of the configuration that holds, in order.
    pub configuration: Arc<Vec<Setting>>,
}

/// A value of the configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Setting {
    /// The heading it stands under.
    pub heading: String,
    /// Its name.
    pub key: String,
    /// It, as the file would say it; secrets are masked.
    pub value: String,
    /// Where it comes from.
    pub origin: String,
    /// Whether nobody set it.
    pub is_default: bool,
}

/// Looks at the installation.
pub type Look = dyn Fn() -> Pin<Box<dyn Future<Output = Facts> + Send>> + Send + Sync;
