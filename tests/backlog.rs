//! What many waiting deliveries cost the real binary: its memory does not grow with them, it is ready again over them, and
//! they go out when their time comes.
//!
//! Memory is what the process has taken for itself (`RssAnon`), not the pages of its file that the system keeps at hand.
//! Five times as many may not cost more, and with `POSTRIDER_SOAK=1` a million deliveries that wait, for one lane or
//! spread over a thousand, must fit into what is promised. A run tells its figures with `--nocapture`.

mod harness;

use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use harness::{Admin, Daemon, Home, PATIENCE, Reaction, Receiver, wait_for};
use postrider::clock::Stopwatch;
use serde_json::json;

/// Bytes of an event's data.
const DATA_BYTES: usize = 1024;
/// Events that are handed in together.
const BATCH: usize = 200;
/// What memory may grow by while the second part comes in, for other reasons than that it waits: the index of the newest
/// events, which is written to disk once in 65,536, what stands in the queue at that moment, and what the allocator keeps. On a
/// busy machine the first part has been seen at 25 to 35 MiB, the second at 34 to 37.
const FILLED_GROWTH_MAX: u64 = 12 << 20;
/// What it may grow by from one start to the next. Ids alone of all that waits would be more.
const RESTARTED_GROWTH_MAX: u64 = 4 << 20;
/// The most memory with a million waiting, with everything else as the product ships it.
const MILLION_MAX: u64 = 128_000_000;

/// How many wait at first, and then.
fn sizes() -> [usize; 2] {
    if is_soak() { [250_000, 1_000_000] } else { [20_000, 100_000] }
}

fn is_soak() -> bool {
    std::env::var_os("POSTRIDER_SOAK").is_some()
}

/// Why the deliveries wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Wait {
    /// An operator has paused their destination.
    Paused,
    /// Their receivers are down, and their lanes shut.
    Shut,
}

/// Hands events in, the `n`th for lane `n` modulo their number, and checks that each is accepted.
fn emit(home: &Home, lanes: usize, events: std::ops::Range<usize>) {
    let stream = UnixStream::connect(home.ingest_socket()).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut writer = stream.try_clone().unwrap();
    let reading = std::thread::spawn(move || {
        let taken = |line: String| line.matches("\"ok\":true,").count();
        BufReader::new(stream).lines().map(|line| taken(line.unwrap())).sum::<usize>()
    });
    let data = "x".repeat(DATA_BYTES);
    let count = events.len();
    for first in events.clone().step_by(BATCH) {
        let batch = first..(first + BATCH).min(events.end);
        let event = |n: usize| format!("{{\"type\":\"lane.{}\",\"id\":\"{n}\",\"data\":\"{data}\"}}", n % lanes);
        let batch: Vec<String> = batch.map(event).collect();
        writer.write_all(format!("[{}]\n", batch.join(",")).as_bytes()).unwrap();
    }
    writer.shutdown(std::net::Shutdown::Write).unwrap();
    assert_eq!(reading.join().unwrap(), count, "each is accepted");
}

/// What the daemon has taken for itself, in bytes.
fn memory(daemon: &Daemon) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", daemon.id())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:")).unwrap();
    line.trim().strip_suffix(" kB").unwrap().parse::<u64>().unwrap() * 1024
}

/// Starts a daemon. Where less than a million waits, its page cache is small, so that it is full at the first measurement.
fn start(home: &Home) -> Daemon {
    let small = [("POSTRIDER__STORE__CACHE", "1MiB")];
    let mut daemon = home.spawn_in(if is_soak() { &[] } else { &small });
    home.wait_until_ready(&mut daemon);
    daemon
}

/// A house with deliveries that wait.
struct House {
    home: Home,
    admin: Admin,
    wait: Wait,
    lanes: Vec<String>,
    waiting: usize,
    /// Whether the receiver answers.
    is_up: Arc<AtomicBool>,
    taken: Arc<AtomicUsize>,
    refused: Arc<AtomicUsize>,
    _receiver: Receiver,
}

impl House {
    fn new(wait: Wait, lanes: usize) -> (House, Daemon) {
        // One failure shuts a lane, and it is not tried again while a test may run.
        let home = Home::new("[delivery]\nbreaker_failures = 1\nbreaker_delay = \"1h\"\n");
        let is_up = Arc::new(AtomicBool::new(false));
        let (taken, refused) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let receiver = {
            let (is_up, taken, refused) = (Arc::clone(&is_up), Arc::clone(&taken), Arc::clone(&refused));
            Receiver::start(move |_| {
                if is_up.load(Ordering::SeqCst) {
                    taken.fetch_add(1, Ordering::SeqCst);
                    Reaction::Answer(200)
                } else {
                    refused.fetch_add(1, Ordering::SeqCst);
                    Reaction::Reset
                }
            })
        };
        let daemon = start(&home);
        let admin = home.admin();
        let lane = |n: usize| {
            let retry = json!({ "delays": ["10h"] });
            let url = receiver.url(&format!("/{n}"));
            let wanted =
                json!({ "name": format!("lane-{n}"), "http_endpoint_url": url, "confirmed": true, "retry": retry });
            let made = admin.must("POST", "/v1/destinations/webhook", Some(&wanted));
            let id = made["id"].as_str().unwrap().to_owned();
            if wait == Wait::Paused {
                admin.must("POST", &format!("/v1/destinations/webhook/{id}/pause"), None);
            }
            let linked = json!({ "destinations": [id] });
            admin.must("POST", &format!("/v1/subscriptions/lane.{n}"), Some(&linked));
            id
        };
        let lanes: Vec<String> = (0..lanes).map(lane).collect();
        let mut house = House { home, admin, wait, lanes, waiting: 0, is_up, taken, refused, _receiver: receiver };
        if wait == Wait::Shut {
            house.emit(house.lanes.len());
            let refused = Arc::clone(&house.refused);
            wait_for("each lane's first refusal", || {
                (refused.load(Ordering::SeqCst) >= house.lanes.len()).then_some(())
            });
        }
        (house, daemon)
    }

    fn emit(&mut self, count: usize) {
        emit(&self.home, self.lanes.len(), self.waiting..self.waiting + count);
        self.waiting += count;
    }

    /// All of them wait, and nothing has been delivered.
    fn assert_waiting(&self) {
        let status = self.admin.must("GET", "/v1/status", None);
        let (pending, held) = match self.wait {
            Wait::Paused => (0, self.waiting),
            Wait::Shut => (self.waiting, 0),
        };
        let expected = json!({ "pending": pending, "held": held, "succeeded": 0, "failed": 0 });
        for (count, expected) in expected.as_object().unwrap() {
            assert_eq!(&status[count], expected, "{count}: {status}");
        }
        assert_eq!(self.taken.load(Ordering::SeqCst), 0);
    }

    fn restart(&self, daemon: Daemon) -> (Daemon, Duration) {
        assert_eq!(daemon.stop().code(), Some(0));
        let watch = Stopwatch::start();
        let daemon = start(&self.home);
        (daemon, watch.elapsed())
    }

    fn say(&self, lane: &str, verb: &str) {
        self.admin.must("POST", &format!("/v1/destinations/webhook/{lane}/{verb}"), None);
    }

    /// Opens each lane to a receiver that is down, so that it has read from the disk what it keeps at hand, and is shut after
    /// the first attempt.
    fn open_all_in_vain(&self) {
        let before = self.refused.load(Ordering::SeqCst);
        self.lanes.iter().for_each(|lane| self.say(lane, "resume"));
        wait_for("an attempt of each lane", || {
            (self.refused.load(Ordering::SeqCst) >= before + self.lanes.len()).then_some(())
        });
        if self.wait == Wait::Paused {
            self.lanes.iter().for_each(|lane| self.say(lane, "pause"));
        }
    }

    /// Opens one lane to a receiver that is up again. How long its first delivery takes.
    fn open_one(&self) -> Duration {
        self.is_up.store(true, Ordering::SeqCst);
        let watch = Stopwatch::start();
        self.say(&self.lanes[0], "resume");
        wait_for("the first delivery", || (self.taken.load(Ordering::SeqCst) > 0).then_some(()));
        watch.elapsed()
    }
}

/// Fills a store in two steps, starts the daemon anew over each, and compares.
fn assert_flat(wait: Wait, lanes: usize) {
    let (mut house, mut daemon) = House::new(wait, lanes);
    let empty = memory(&daemon);
    let (mut filled, mut restarted, mut ready_in) = ([0; 2], [0; 2], [Duration::ZERO; 2]);
    for (step, size) in sizes().into_iter().enumerate() {
        house.emit(size - house.waiting);
        house.assert_waiting();
        filled[step] = memory(&daemon);
        (daemon, ready_in[step]) = house.restart(daemon);
        house.assert_waiting();
        house.open_all_in_vain();
        restarted[step] = memory(&daemon);
    }
    let opened_in = house.open_one();
    wait_for("a few hundred more", || (house.taken.load(Ordering::SeqCst) >= 300).then_some(()));
    let running = memory(&daemon);
    println!(
        "{wait:?} over {lanes} lanes, {:?} waiting: memory {} KiB empty, {:?} filled, {:?} restarted, {} running; ready in \
         {ready_in:?}, first delivery in {opened_in:?}",
        sizes(),
        empty >> 10,
        filled.map(|bytes| bytes >> 10),
        restarted.map(|bytes| bytes >> 10),
        running >> 10,
    );
    // What lies on disk shows that there was something to keep out of memory.
    let on_disk = std::fs::metadata(house.home.folder().join("postrider.redb")).unwrap().len();
    assert!(on_disk > (house.waiting * DATA_BYTES) as u64, "{on_disk} bytes for {}", house.waiting);
    let growth = |sizes: [u64; 2]| sizes[1].saturating_sub(sizes[0]);
    if is_soak() {
        let most = [filled[1], restarted[1], running].into_iter().max().unwrap();
        assert!(most < MILLION_MAX, "{most} bytes of memory with {} waiting", house.waiting);
    } else {
        assert!(growth(filled) < FILLED_GROWTH_MAX, "memory grew from {} to {} bytes", filled[0], filled[1]);
        let [few, many] = restarted;
        assert!(growth(restarted) < RESTARTED_GROWTH_MAX, "memory after a start grew from {few} to {many} bytes");
    }
    house.home.kill(daemon);
}

/// Invariant 5, P12: what waits for a paused destination lies on disk.
#[test]
fn memory_does_not_grow_with_what_waits_for_a_paused_destination() {
    assert_flat(Wait::Paused, 1);
}

/// Invariant 5, P12: what waits for a receiver that is down lies on disk, but for a window of ids.
#[test]
fn memory_does_not_grow_with_what_waits_for_a_receiver_that_is_down() {
    assert_flat(Wait::Shut, 1);
}

/// Invariant 5, P12: the same when it is spread over many lanes, each with its window.
#[test]
fn memory_does_not_grow_with_what_waits_in_many_lanes() {
    assert_flat(Wait::Shut, if is_soak() { 1000 } else { 100 });
}
