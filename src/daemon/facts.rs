//! What the dashboard is told of the installation itself.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::client::Client;
use crate::config::{Entry, Origin};
use crate::model::Timestamp;
use crate::service::Service;
use crate::ui::facts::{Facts, Look, Setting};

/// What does not change while the daemon runs, and whom to ask for the rest.
pub(super) struct House {
    pub(super) service: Service,
    pub(super) client: Client,
    pub(super) store: PathBuf,
    pub(super) disk_reserve: u64,
    pub(super) certificate_expires: Option<i64>,
    pub(super) entries: Vec<Entry>,
}

/// What is in the store's file, and left on its disk, in bytes.
type Measured = (Option<u64>, Option<u64>, Option<u64>);

impl House {
    /// The way to look at it.
    pub(super) fn look(self) -> Arc<Look> {
        let started = self.service.now();
        let configuration: Arc<Vec<Setting>> = Arc::new(self.entries.iter().map(setting).collect());
        let house = Arc::new(self);
        Arc::new(move || {
            let (house, configuration) = (Arc::clone(&house), Arc::clone(&configuration));
            Box::pin(async move {
                let path = house.store.clone();
                // A disk in trouble may not answer at once.
                let measured = tokio::task::spawn_blocking(move || measure(&path)).await;
                let (store_bytes, store_disk_bytes, disk_free) = measured.unwrap_or_default();
                let catalog = house.service.catalog();
                let receivers = house.client.certificate_expires(|lane| catalog.destination(lane).is_some());
                Facts {
                    version: env!("CARGO_PKG_VERSION"),
                    started,
                    store: house.store.display().to_string(),
                    store_bytes,
                    store_disk_bytes,
                    disk_free,
                    disk_reserve: house.disk_reserve,
                    certificate_expires: house.certificate_expires.and_then(moment),
                    receivers_expire: receivers.and_then(moment),
                    configuration,
                }
            })
        })
    }
}

fn measure(path: &Path) -> Measured {
    let file = std::fs::metadata(path).ok();
    let disk = nix::sys::statvfs::statvfs(path).ok();
    let free = disk.map(|disk| disk.blocks_available().saturating_mul(disk.fragment_size()));
    (file.as_ref().map(std::fs::Metadata::len), file.map(|file| file.blocks() * 512), free)
}

fn moment(seconds: i64) -> Option<Timestamp> {
    u64::try_from(seconds).ok().map(|seconds| Timestamp::from_millis(seconds.saturating_mul(1000)))
}

fn setting(entry: &Entry) -> Setting {
    Setting {
        heading: entry.heading.clone(),
        key: entry.key.clone(),
        value: entry.value.clone(),
        origin: entry.origin.to_string(),
        is_default: entry.origin == Origin::Default,
    }
}
