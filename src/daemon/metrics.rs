//! What `/metrics` tells: what each part counts, and how things stand at the moment of the question.

use std::fmt::Write as _;
use std::path::PathBuf;
use std::sync::atomic::Ordering;
use std::time::Duration;

use prometheus_client::encoding::{EncodeLabelSet, text};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::Registry;
use tokio::sync::Mutex;
use tokio::time::Instant;

use crate::api::metrics::Exposition;
use crate::client::Client;
use crate::service::{LaneState, Service, Sight};
use crate::store::Store;

/// How things stand is looked up at most this often: whoever asks needs no key, and some looks take their time.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// When the last look was. Whoever comes while one is taken waits for it, and shares it.
#[derive(Debug, Default)]
struct Looks(Mutex<Option<Instant>>);

impl Looks {
    async fn share(&self, look: impl Future<Output = ()>) {
        let mut last = self.0.lock().await;
        if last.is_none_or(|last| last.elapsed() >= LOOK_EVERY) {
            look.await;
            *last = Some(Instant::now());
        }
    }
}

/// Every metric's name begins with it.
const PREFIX: &str = "postrider";

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct StateLabels {
    state: &'static str,
}

/// The registry, and what is looked up when it is asked for.
pub(super) struct Metrics {
    service: Service,
    file: PathBuf,
    registry: Registry,
    events: Counter,
    deliveries: Family<StateLabels, Gauge>,
    oldest: Gauge,
    lanes: Family<StateLabels, Gauge>,
    file_bytes: Gauge,
    disk_bytes: Gauge,
    disk_free: Gauge,
    refuses: Gauge,
    client: Client,
    receivers_expire: Family<Vec<(String, String)>, Gauge>,
    looks: Looks,
}

impl Metrics {
    /// The metrics of these parts. `certificate_expires` is when the admin listener's certificate does, in Unix seconds.
    pub(super) fn new(
        service: Service,
        store: &Store,
        engine: &crate::engine::Metrics,
        file: PathBuf,
        certificate_expires: Option<i64>,
        client: Client,
    ) -> Self {
        let mut registry = Registry::with_prefix(PREFIX);
        service.metrics().register(&mut registry);
        store.metrics().register(&mut registry);
        engine.register(&mut registry);
        let build = Info::new([("version", env!("CARGO_PKG_VERSION"))]);
        registry.register("build", "The running program", build);
        let events = Counter::default();
        registry.register("events", "Events accepted since the store was made", events.clone());
        let deliveries = Family::default();
        let help = "Deliveries by state; ended ones since the store was made";
        registry.register("deliveries", help, deliveries.clone());
        let lanes = Family::default();
        registry.register("lanes", "Lanes (one for each destination) by state", lanes.clone());
        let gauge = |registry: &mut Registry, name: &str, help: &str| {
            let gauge = Gauge::default();
            registry.register(name, help, gauge.clone());
            gauge
        };
        let oldest = "Age of the oldest event with an unfinished delivery; 0 when there is none";
        let oldest = gauge(&mut registry, "oldest_undelivered_seconds", oldest);
        let file_bytes = gauge(&mut registry, "store_file_bytes", "Length of the store's file");
        let disk_bytes = gauge(&mut registry, "store_disk_bytes", "Bytes that the store's file takes on the disk");
        let disk_free = gauge(&mut registry, "disk_free_bytes", "Free space on the store's disk");
        let refuses = "1 while events are refused: the store has failed, the disk is low, or the daemon is stopping";
        let refuses = gauge(&mut registry, "refusing_events", refuses);
        if let Some(expires) = certificate_expires {
            let help = "When the admin listener's certificate expires, in Unix seconds";
            gauge(&mut registry, "certificate_expiry_timestamp_seconds", help).set(expires);
        }
        let receivers_expire = Family::default();
        let help =
            "When the first of the certificates expires that receivers have shown since the start, in Unix seconds";
        registry.register("receiver_certificate_expiry_timestamp_seconds", help, receivers_expire.clone());
        Metrics {
            service,
            client,
            receivers_expire,
            file,
            registry,
            events,
            deliveries,
            oldest,
            lanes,
            file_bytes,
            disk_bytes,
            disk_free,
            refuses,
            looks: Looks::default(),
        }
    }

    /// How things stand now. What cannot be looked up keeps its last value.
    async fn look(&self) {
        let state = |state| self.deliveries.get_or_create_owned(&StateLabels { state });
        match self.service.status(&Sight::All).await {
            Ok(status) => {
                self.events.inner().store(status.events.unwrap_or_default(), Ordering::Relaxed);
                state("pending").set(status.pending as i64);
                state("held").set(status.held as i64);
                state("succeeded").set(status.succeeded as i64);
                state("failed").set(status.failed as i64);
                state("cancelled").set(status.cancelled as i64);
                self.oldest.set(status.oldest_pending_seconds.unwrap_or_default() as i64);
            }
            Err(error) => tracing::warn!(event = "metrics_incomplete", %error, "count deliveries"),
        }
        let lanes = self.service.lanes_by_state();
        for state in LaneState::ALL {
            let count = lanes.get(&state).copied().unwrap_or_default();
            self.lanes.get_or_create_owned(&StateLabels { state: state.as_str() }).set(count as i64);
        }
        let catalog = self.service.catalog();
        match self.client.certificate_expires(|lane| catalog.destination(lane).is_some()) {
            Some(expires) => {
                self.receivers_expire.get_or_create_owned(&Vec::new()).set(expires);
            }
            // No certificate is not one that has expired long ago.
            None => self.receivers_expire.clear(),
        }
        self.refuses.set(i64::from(self.service.refuses_events().is_some()));
        self.look_at_disk().await;
    }

    async fn look_at_disk(&self) {
        let file = self.file.clone();
        // A disk in trouble may not answer at once.
        let looked = tokio::task::spawn_blocking(move || {
            use std::os::unix::fs::MetadataExt;
            let found = std::fs::metadata(&file)?;
            let disk = nix::sys::statvfs::statvfs(&file)?;
            let free = disk.blocks_available().saturating_mul(disk.fragment_size());
            std::io::Result::Ok((found.len(), found.blocks() * 512, free))
        });
        match looked.await {
            Ok(Ok((length, taken, free))) => {
                self.file_bytes.set(length as i64);
                self.disk_bytes.set(taken as i64);
                self.disk_free.set(free as i64);
            }
            Ok(Err(error)) => tracing::warn!(event = "metrics_incomplete", %error, "look at the store's file"),
            Err(error) => tracing::warn!(event = "metrics_incomplete", %error, "look at the store's file"),
        }
    }

    /// Everything, as text.
    pub(super) async fn text(&self, exposition: Exposition) -> String {
        self.looks.share(self.look()).await;
        let mut written = String::new();
        text::encode(&mut written, &self.registry).expect("a String takes every write");
        match exposition {
            Exposition::OpenMetrics => written,
            Exposition::Prometheus => plain(&written),
        }
    }
}

/// OpenMetrics text in Prometheus' older form: a counter's family carries the name of its samples, and there is no end mark.
fn plain(text: &str) -> String {
    let counters: Vec<_> = text
        .lines()
        .filter_map(|line| line.strip_prefix("# TYPE ")?.split_once(' '))
        .filter_map(|(name, kind)| match kind {
            "counter" => Some((name, "_total", "counter")),
            "info" => Some((name, "_info", "gauge")),
            _ => None,
        })
        .collect();
    let mut plain = String::with_capacity(text.len());
    for line in text.lines().filter(|line| *line != "# EOF" && !line.starts_with("# UNIT ")) {
        let renamed = line.strip_prefix("# ").and_then(|comment| {
            let mut words = comment.splitn(3, ' ');
            let (what, name, rest) = (words.next()?, words.next()?, words.next()?);
            let (_, ending, kind) = counters.iter().find(|(family, ..)| *family == name)?;
            let rest = if what == "TYPE" { kind } else { rest };
            Some(format!("# {what} {name}{ending} {rest}"))
        });
        let _ = writeln!(plain, "{}", renamed.as_deref().unwrap_or(line));
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whoever asks again and again makes one look a second.
    #[tokio::test(start_paused = true)]
    async fn a_young_look_is_shared() {
        let (looks, taken) = (Looks::default(), std::cell::Cell::new(0));
        let look = async || {
            tokio::time::sleep(Duration::from_millis(100)).await;
            taken.set(taken.get() + 1);
        };
        tokio::join!(looks.share(look()), looks.share(look()));
        tokio::time::advance(LOOK_EVERY - Duration::from_millis(1)).await;
        looks.share(look()).await;
        assert_eq!(taken.get(), 1);
        tokio::time::advance(Duration::from_millis(1)).await;
        looks.share(look()).await;
        assert_eq!(taken.get(), 2);
    }

    #[test]
    fn the_older_form_names_counters_as_their_samples() {
        let mut registry = Registry::with_prefix(PREFIX);
        let counter: Counter = Counter::default();
        counter.inc();
        registry.register("events", "Events", counter);
        registry.register("build", "The program", Info::new([("version", "1")]));
        let gauge: Gauge = Gauge::default();
        registry.register("lanes", "Lanes", gauge);
        let mut written = String::new();
        text::encode(&mut written, &registry).unwrap();
        let expected = "# HELP postrider_events_total Events.\n# TYPE postrider_events_total counter\n\
                        postrider_events_total 1\n\
                        # HELP postrider_build_info The program.\n# TYPE postrider_build_info gauge\n\
                        postrider_build_info{version=\"1\"} 1\n\
                        # HELP postrider_lanes Lanes.\n# TYPE postrider_lanes gauge\npostrider_lanes 0\n";
        assert_eq!(plain(&written), expected);
        assert!(written.ends_with("# EOF\n"));
    }
}
