//! The ingest socket from outside: what producers write, what they are told, and when.
//!
//! Each test has a socket, a service and a store of its own, in this process. The store's disk is memory that can be made to
//! hold its syncs back, or to fail.

use std::fmt;
use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use postrider::clock::Clock;
use postrider::ingest::{Ingest, Rule, Settings, Who};
use postrider::model::*;
use postrider::service::{self, Service, Sight};
use postrider::store::op::{CreateDestination, CreateSubscription, CreateTenant};
use postrider::store::{self, InMemoryBackend, StorageBackend, Store, WriterRuns};
use serde_json::Value;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

const LINE_MAX: usize = 4096;
/// Longer than anything here takes: a test that waits for it has failed.
const PATIENCE: Duration = Duration::from_secs(60);

/// A disk whose syncs can be held back, and that can be broken.
#[derive(Clone, Default)]
struct Disk(Arc<(Mutex<Gate>, Condvar)>);

#[derive(Default)]
struct Gate {
    shut: bool,
    /// Syncs that are let through although it is shut.
    passes: usize,
    /// Syncs that stand before it.
    waiting: usize,
    broken: bool,
}

impl Disk {
    fn change<T>(&self, change: impl FnOnce(&mut Gate) -> T) -> T {
        let result = change(&mut self.0.0.lock().unwrap());
        self.0.1.notify_all();
        result
    }

    fn shut(&self) {
        self.change(|gate| gate.shut = true);
    }

    fn open(&self) {
        self.change(|gate| gate.shut = false);
    }

    fn break_down(&self) {
        self.change(|gate| gate.broken = true);
    }

    /// Lets one sync through.
    fn pass(&self) {
        self.change(|gate| gate.passes += 1);
    }

    fn sync(&self) {
        let (gate, changed) = &*self.0;
        let mut gate = gate.lock().unwrap();
        gate.waiting += 1;
        changed.notify_all();
        gate = changed.wait_while(gate, |gate| gate.shut && gate.passes == 0).unwrap();
        gate.waiting -= 1;
        gate.passes = gate.passes.saturating_sub(1);
    }

    /// Waits until a sync stands before the gate.
    async fn held_back(&self) {
        let disk = self.clone();
        let wait = move || {
            let (gate, changed) = &*disk.0;
            drop(changed.wait_while(gate.lock().unwrap(), |gate| gate.waiting == 0 || gate.passes > 0).unwrap());
        };
        tokio::task::spawn_blocking(wait).await.unwrap();
    }
}

struct Backend {
    inner: InMemoryBackend,
    disk: Disk,
}

impl fmt::Debug for Backend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Backend")
    }
}

impl StorageBackend for Backend {
    fn len(&self) -> io::Result<u64> {
        self.inner.len()
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.inner.read(offset, out)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.inner.set_len(len)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.disk.sync();
        if self.disk.change(|gate| gate.broken) {
            return Err(io::Error::other("the disk is broken"));
        }
        self.inner.sync_data()
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.inner.write(offset, data)
    }
}

/// A socket with everything behind it.
struct House {
    folder: tempfile::TempDir,
    disk: Disk,
    store: Store,
    service: Service,
    stop: CancellationToken,
    serving: JoinHandle<()>,
}

impl House {
    async fn new() -> Self {
        Self::with(Settings { line_max: LINE_MAX, ..Settings::default() }, 1_000_000).await
    }

    async fn with(settings: Settings, pending_max: u64) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let disk = Disk::default();
        let backend = Backend { inner: InMemoryBackend::new(), disk: disk.clone() };
        let clock = Clock::system();
        let keys = store::Keys::new(store::MasterKey::new([7; store::KEY_BYTES]), [9; store::Keys::CHANCE_BYTES]);
        let at = store::Settings { cache_bytes: 1 << 20, ..store::Settings::at("memory", keys) };
        let store = Store::open_on(backend, &at, clock, 7, WriterRuns::InThread).unwrap();
        furnish(&store).await;
        let policy = Arc::new(|_: &Destination| Ok(()));
        let chance = Arc::new(|bytes: &mut [u8]| bytes.fill(7));
        let of = service::Settings {
            pending_max,
            schedules: Default::default(),
            schedule: String::new(),
            confirmation: Default::default(),
            mask: postrider::model::mask::PayloadMask::default(),
            proof_lasts: postrider::model::user::PROOF_LASTS,
            policy,
            chance,
        };
        let service = Service::new(of, store.clone(), clock);
        let listener = UnixListener::bind(folder.path().join("ingest.sock")).unwrap();
        let stop = CancellationToken::new();
        let ingest = Ingest::new(settings, service.clone());
        let serving = tokio::spawn(ingest.run(listener, stop.clone(), PATIENCE));
        House { folder, disk, store, service, stop, serving }
    }

    fn path(&self) -> PathBuf {
        self.folder.path().join("ingest.sock")
    }

    async fn connect(&self) -> Producer {
        Producer(BufReader::new(UnixStream::connect(self.path()).await.unwrap()))
    }

    /// Writes everything, half-closes, and reads everything.
    async fn talk(&self, written: impl AsRef<[u8]>) -> String {
        let (mut reader, mut writer) = UnixStream::connect(self.path()).await.unwrap().into_split();
        let write = async {
            // A daemon that refuses early may close before everything is written.
            let _ = writer.write_all(written.as_ref()).await;
            let _ = writer.shutdown().await;
        };
        let mut reply = Vec::new();
        let read = async {
            let _ = reader.read_to_end(&mut reply).await;
        };
        tokio::time::timeout(PATIENCE, async { tokio::join!(write, read) }).await.expect("a reply to everything");
        String::from_utf8(reply).unwrap()
    }

    /// The replies to lines.
    async fn replies(&self, written: impl AsRef<[u8]>) -> Vec<Value> {
        let text = self.talk(written).await;
        text.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|_| panic!("{line}"))).collect()
    }

    async fn body_of(&self, id: &Value) -> Vec<u8> {
        let id: EventId = id.as_str().unwrap().parse().unwrap();
        self.service.event(&Sight::All, id).await.unwrap().body.bytes().unwrap().to_vec()
    }

    fn events(&self) -> u64 {
        self.store.standing(|standing| standing.events)
    }
}

/// A tenant beside the default one, and a destination for everything.
async fn furnish(store: &Store) {
    let created = Timestamp::ZERO;
    let tenant = Tenant { id: "other".parse().unwrap(), name: "Other".into(), parent: None, created, audit_from: 0 };
    store.steer(&Actor::SYSTEM, CreateTenant { tenant }).await.unwrap().answer.unwrap();
    let (id, url) = (DestinationId(uuid::Uuid::from_u128(1)), "https://hooks.example.com/in");
    let destination = Destination::new(DestinationNo(0), id, TenantId::default_tenant(), "d", url, created);
    let no = store.steer(&Actor::SYSTEM, CreateDestination { destination }).await.unwrap().answer.unwrap().no;
    let subscription = Subscription {
        no: SubscriptionNo(0),
        id: SubscriptionId(uuid::Uuid::from_u128(2)),
        tenant: TenantId::default_tenant(),
        pattern: "*".parse().unwrap(),
        name: None,
        roll_up: false,
        filter: None,
        destinations: vec![no],
        registered: None,
        created,
    };
    store.steer(&Actor::SYSTEM, CreateSubscription { subscription }).await.unwrap().answer.unwrap();
}

/// One connection that stays open.
struct Producer(BufReader<UnixStream>);

impl Producer {
    async fn write(&mut self, text: impl AsRef<[u8]>) {
        self.0.get_mut().write_all(text.as_ref()).await.unwrap();
    }

    async fn reply(&mut self) -> Value {
        let mut line = String::new();
        tokio::time::timeout(PATIENCE, self.0.read_line(&mut line)).await.expect("a reply in time").unwrap();
        serde_json::from_str(&line).unwrap_or_else(|_| panic!("{line:?}"))
    }

    async fn ping(&mut self) {
        self.write("{\"op\":\"ping\"}\n").await;
        assert_eq!(self.reply().await["ok"], true);
    }

    /// Whether nothing has come yet, once the daemon has had its turn.
    async fn is_silent(&mut self, other: &mut Producer) -> bool {
        for _ in 0..3 {
            other.ping().await;
        }
        let mut byte = [0];
        self.0.buffer().is_empty()
            && matches!(self.0.get_mut().try_read(&mut byte), Err(error) if error.kind() == io::ErrorKind::WouldBlock)
    }

    async fn is_closed(&mut self) -> bool {
        let mut rest = Vec::new();
        let read = tokio::time::timeout(PATIENCE, self.0.read_to_end(&mut rest)).await.expect("an end in time");
        read.is_err() || rest.is_empty()
    }
}

const EVENT: &str = r#"{"type":"a.b","data":{"n":1}}"#;

/// SX.1: one event, a batch, a ping and a CloudEvent are each one line, and get one line.
#[tokio::test]
async fn each_kind_of_request_gets_its_reply() {
    let house = House::new().await;
    let cloud = r#"{"specversion":"1.0","id":"c-1","source":"/till","type":"c.e","data":{"x":1}}"#;
    let batch = r#"[{"type":"a","data":1,"id":"1"},{"type":"a","data":1,"id":"1"},{"type":"a"},{"type":"a","data":2}]"#;
    let lines = format!("{EVENT}\n{batch}\n{{\"op\":\"ping\"}}\n{cloud}\n{cloud}\n");
    let replies = house.replies(lines).await;
    assert_eq!(replies.len(), 5);
    assert_eq!(
        (&replies[0]["ok"], &replies[0]["duplicate"], &replies[0]["deliveries"]),
        (&true.into(), &false.into(), &1.into())
    );
    assert!(replies[0]["id"].as_str().unwrap().starts_with("evt_"));
    let results = replies[1].as_array().unwrap();
    assert_eq!(results.len(), 4, "a result for each, in order");
    assert_eq!((&results[1]["id"], &results[1]["duplicate"]), (&results[0]["id"], &true.into()));
    assert_eq!(results[2]["error"]["code"], "bad_field");
    assert_eq!(results[3]["ok"], true);
    assert_eq!(replies[2], serde_json::json!({"ok": true}));
    assert_eq!((&replies[3]["duplicate"], &replies[4]["duplicate"]), (&false.into(), &true.into()));
    assert_eq!(house.body_of(&replies[3]["id"]).await, br#"{"x":1}"#);
    assert_eq!(house.events(), 4);
}

#[tokio::test]
async fn white_space_between_requests_is_skipped_and_the_last_line_needs_no_end() {
    let house = House::new().await;
    let replies = house.replies(format!(" \r\n\t\n\n  {EVENT}  \r\n\r\n\n{EVENT}\n   \n{EVENT}")).await;
    assert_eq!(replies.len(), 3);
    assert!(replies.iter().all(|reply| reply["ok"] == true), "{replies:?}");
    assert_eq!(house.replies(" \n \n").await.len(), 0);
    assert_eq!(house.replies("").await.len(), 0);
}

/// Pipelining: replies come in the order of the lines, whatever commits they shared.
#[tokio::test]
async fn five_thousand_pipelined_lines_are_answered_in_order() {
    let house = House::new().await;
    let lines: String = (0..5000)
        .map(|n| match n % 50 {
            0 => "{\"op\":\"ping\"}\n".to_owned(),
            1 => "nonsense\n".to_owned(),
            _ => format!("{{\"type\":\"t\",\"data\":{{\"n\":{n}}}}}\n"),
        })
        .collect();
    let replies = house.replies(lines).await;
    assert_eq!(replies.len(), 5000);
    let mut last = None;
    for (n, reply) in replies.iter().enumerate() {
        match n % 50 {
            0 => assert_eq!(*reply, serde_json::json!({"ok": true})),
            1 => assert_eq!(reply["error"]["code"], "bad_json"),
            _ => {
                let id: EventId = reply["id"].as_str().unwrap().parse().unwrap();
                assert!(last < Some(id.seq()), "line {n}: {reply}");
                last = Some(id.seq());
                if n % 97 == 0 {
                    assert_eq!(house.body_of(&reply["id"]).await, format!("{{\"n\":{n}}}").as_bytes());
                }
            }
        }
    }
    assert_eq!(house.events(), 4800);
}

/// Invariant 1: nothing is acknowledged before its commit has been synced; neither on a line nor over HTTP.
#[tokio::test]
async fn no_reply_comes_before_its_commit_is_synced() {
    let house = House::new().await;
    let mut other = house.connect().await;
    let (mut line, mut http) = (house.connect().await, house.connect().await);
    house.disk.shut();
    line.write(format!("{EVENT}\n")).await;
    http.write(post(EVENT)).await;
    house.disk.held_back().await;
    assert!(line.is_silent(&mut other).await && http.is_silent(&mut other).await);
    house.disk.open();
    assert_eq!(line.reply().await["ok"], true);
    let mut head = String::new();
    http.0.read_line(&mut head).await.unwrap();
    assert_eq!(head, "HTTP/1.1 202 Accepted\r\n");
}

/// A reply that was ready waited for the commit of the next line, and under a steady stream for many commits more.
#[tokio::test]
async fn a_reply_that_is_ready_does_not_wait_for_the_next_commit() {
    let house = House::new().await;
    let (mut producer, mut other) = (house.connect().await, house.connect().await);
    house.disk.shut();
    producer.write(format!("{EVENT}\n")).await;
    house.disk.held_back().await;
    producer.write(format!("{EVENT}\n")).await;
    // Sync by sync: the first reply has to come while the second commit is still held back.
    for _ in 0..50 {
        if house.events() == 1 {
            break;
        }
        house.disk.pass();
        house.disk.held_back().await;
        other.ping().await;
    }
    assert_eq!(house.events(), 1, "one commit is through");
    assert_eq!(producer.reply().await["ok"], true);
    assert_eq!(house.events(), 1, "and the other is not");
    house.disk.open();
    assert_eq!(producer.reply().await["ok"], true);
}

#[tokio::test]
async fn a_half_close_flushes_every_reply() {
    let house = House::new().await;
    house.disk.shut();
    let house = Arc::new(house);
    let talking = tokio::spawn({
        let house = Arc::clone(&house);
        async move { house.replies(format!("{EVENT}\n").repeat(100) + EVENT).await }
    });
    house.disk.held_back().await;
    house.disk.open();
    let replies = talking.await.unwrap();
    assert_eq!(replies.len(), 101);
    assert!(replies.iter().all(|reply| reply["ok"] == true));
}

/// The closed list of errors, each as a reply on a connection that goes on.
#[tokio::test]
async fn what_is_wrong_with_a_line_is_one_reply_and_the_connection_goes_on() {
    let house = House::new().await;
    let long = format!(r#"{{"type":"a","data":"{}"}}"#, "x".repeat(LINE_MAX));
    let table: &[(&[u8], &str)] = &[
        (b"nonsense", "bad_json"),
        (b"{\"type\":\"a\",\"data\":}", "bad_json"),
        (b"{\"type\":\"a\",\"data\":1", "bad_json"),
        (b"{\"type\":\"a\",\"data\":1}{\"type\":\"a\",\"data\":1}", "bad_json"),
        (b"{\"type\":\"a\",\"data\":\"\xff\xfe\"}", "bad_json"),
        (b"{\"type\":\"a\",\"data\":\"\0\"}", "bad_json"),
        (b"\0\0\0", "bad_json"),
        (b"\"text\"", "bad_json"),
        (b"17", "bad_json"),
        (b"{\"type\":\"a\",\"type\":\"a\",\"data\":1}", "bad_json"),
        (b"[1, {\"type\":\"a\",\"data\":1}", "bad_json"),
        (b"{\"type\":\"a\",\"data\":1,\"dta\":1}", "unknown_field"),
        (b"{\"type\":\"a b\",\"data\":1}", "bad_field"),
        (b"{\"type\":\"a\"}", "bad_field"),
        (b"{\"data\":1}", "bad_field"),
        (b"{}", "bad_field"),
        (b"[]", "bad_field"),
        (b"{\"op\":\"stop\"}", "bad_field"),
        (b"{\"type\":\"a\",\"data\":1,\"time\":\"yesterday\"}", "bad_field"),
        (b"{\"type\":\"a\",\"data_base64\":\"%\"}", "bad_field"),
        (long.as_bytes(), "too_large"),
        (b"{\"type\":\"a\",\"data\":1,\"tenant\":\"nobody\"}", "unknown_tenant"),
        (b"{\"type\":\"a\",\"data\":1,\"id\":\"taken\"}", "id_conflict"),
        (b"{\"type\":\"a\",\"data\":1,\"expires_at\":\"2001-01-01T00:00:00Z\"}", "expired"),
    ];
    assert_eq!(house.replies(r#"{"type":"a","data":0,"id":"taken"}"#).await[0]["ok"], true);
    let mut lines = Vec::new();
    for (line, _) in table {
        lines.extend_from_slice(line);
        lines.extend_from_slice(format!("\n{EVENT}\n").as_bytes());
    }
    // The first byte decides which protocol is spoken, so the first line is a good one.
    let replies = house.replies([EVENT.as_bytes(), b"\n", &lines].concat()).await;
    assert_eq!(replies.len(), 1 + 2 * table.len());
    for ((line, code), pair) in table.iter().zip(replies[1..].chunks(2)) {
        let shown = String::from_utf8_lossy(&line[..line.len().min(80)]);
        assert_eq!(pair[0]["ok"], false, "{shown}");
        assert_eq!(pair[0]["error"]["code"], *code, "{shown}");
        assert_eq!(pair[0]["error"]["retryable"], false, "{shown}");
        assert!(!pair[0]["error"]["message"].as_str().unwrap().is_empty());
        assert_eq!(pair[1]["ok"], true, "after {shown}");
    }
}

#[tokio::test]
async fn a_batch_over_its_count_is_too_large() {
    let house = House::with(Settings::default(), 1_000_000).await;
    let batch = format!("[{}]\n{EVENT}\n", vec![EVENT; 1001].join(","));
    let replies = house.replies(batch).await;
    assert_eq!((&replies[0]["error"]["code"], &replies[1]["ok"]), (&"too_large".into(), &true.into()));
    assert_eq!(house.events(), 1);
}

#[tokio::test]
async fn what_may_pass_later_is_retryable() {
    async fn code_of(house: &House) -> String {
        let [line] = &house.replies(format!("{EVENT}\n")).await[..] else { panic!("one reply") };
        assert_eq!((&line["ok"], &line["error"]["retryable"]), (&false.into(), &true.into()));
        let http = house.talk(post(EVENT)).await;
        assert!(http.starts_with("HTTP/1.1 503 "), "{http}");
        assert_eq!(json(&http)["code"], line["error"]["code"]);
        line["error"]["code"].as_str().unwrap().to_owned()
    }
    let full = House::with(Settings::default(), 0).await;
    assert_eq!(code_of(&full).await, "queue_full");
    let house = House::new().await;
    house.service.note_disk_low(true);
    assert_eq!(code_of(&house).await, "disk_low");
    house.service.note_disk_low(false);
    assert_eq!(house.replies(EVENT).await[0]["ok"], true);
    house.service.drain();
    assert_eq!(code_of(&house).await, "draining");
}

/// Invariant 9: after a failed write nothing is acknowledged, not even what a later sync would have saved.
#[tokio::test]
async fn after_a_failed_sync_nothing_is_acknowledged() {
    let house = House::new().await;
    let mut producer = house.connect().await;
    producer.write(format!("{EVENT}\n")).await;
    assert_eq!(producer.reply().await["ok"], true);
    house.disk.break_down();
    for _ in 0..3 {
        producer.write(format!("{EVENT}\n[{EVENT},{{}}]\n")).await;
        let (one, batch) = (producer.reply().await, producer.reply().await);
        assert_eq!((&one["error"]["code"], &one["error"]["retryable"]), (&"store_failed".into(), &true.into()));
        assert_eq!(batch[0]["error"]["code"], "store_failed");
        assert_eq!(batch[1]["error"]["code"], "bad_field", "what was wrong by itself stays wrong");
        house.disk.change(|gate| gate.broken = false);
    }
}

#[tokio::test]
async fn a_producer_emits_for_the_tenants_of_its_rules_only() {
    let (uid, gid) = (nix::unistd::getuid().as_raw(), nix::unistd::getgid().as_raw());
    let tenant = |id: &str| -> TenantId { id.parse().unwrap() };
    let for_other = r#"{"type":"a","data":1,"tenant":"other"}"#;
    let table = [
        (Who::Uid(uid), vec![tenant("other")], [false, true]),
        (Who::Gid(gid), vec![tenant("default")], [true, false]),
        (Who::Uid(uid), vec![], [true, true]),
        (Who::Uid(uid ^ 1), vec![], [false, false]),
    ];
    for (who, tenants, may) in table {
        let allow = vec![Rule { who, tenants }];
        let house = House::with(Settings { allow: allow.clone(), ..Settings::default() }, 1000).await;
        let replies = house.replies(format!("{EVENT}\n{for_other}\n[{EVENT},{for_other}]")).await;
        let results = [&replies[0], &replies[1], &replies[2][0], &replies[2][1]];
        for (reply, may) in results.into_iter().zip(may.into_iter().cycle()) {
            assert_eq!(reply["ok"], may, "{allow:?}: {reply}");
            if !may {
                assert_eq!(
                    (&reply["error"]["code"], &reply["error"]["retryable"]),
                    (&"not_allowed".into(), &false.into())
                );
            }
        }
        for (event, may) in [EVENT, for_other].into_iter().zip(may) {
            let status = if may { "HTTP/1.1 202 " } else { "HTTP/1.1 403 " };
            let reply = house.talk(post(event)).await;
            assert!(reply.starts_with(status), "{allow:?}: {reply}");
        }
    }
}

/// SX.1, invariant 10: bodies are bytes. What was written is what is stored, by every way in.
#[tokio::test]
async fn the_bytes_that_were_written_are_the_bytes_that_are_stored() {
    let house = House::new().await;
    let all_bytes: Vec<u8> = (0..=255).collect();
    let base64 = base64::Engine::encode(&base64::engine::general_purpose::STANDARD, &all_bytes);
    let texts = [
        "{ \"b\" : 1.0, \"a\":[1e2,\t-0.0, 100000000000000000000000001], \"a\":null }",
        r#""\u00e4\/\ud83d\ude00""#,
        "\"\u{e4}\u{1f600}\"",
        "null",
        "0",
        "[ ]",
    ];
    for text in texts {
        let line = format!(r#"{{"type":"a","data": {text} }}"#);
        let batch = house.replies(format!("{line}\n[ {line} ,{line}]")).await;
        let http = json(&house.talk(post(&line)).await);
        for id in [&batch[0]["id"], &batch[1][0]["id"], &batch[1][1]["id"], &http["id"]] {
            assert_eq!(house.body_of(id).await, text.as_bytes(), "{text}");
        }
    }
    let line = format!(r#"{{"type":"a","data_base64":"{base64}","content_type":"application/x-till"}}"#);
    let reply = house.replies(&line).await;
    assert_eq!(house.body_of(&reply[0]["id"]).await, all_bytes);
}

#[tokio::test]
async fn a_peer_that_vanishes_takes_nothing_along() {
    let house = House::new().await;
    let mut other = house.connect().await;
    for partial in [r#"{"type":"a","da"#, r#"[{"type":"a","data":1},{"type"#, "POST /v1/events HTTP/1.1\r\nco"] {
        let mut producer = house.connect().await;
        producer.write(partial).await;
        drop(producer);
        other.ping().await;
    }
    assert_eq!(house.events(), 0, "half a batch is none of it");
    // Gone between a line and its reply: what was committed stands.
    house.disk.shut();
    let mut producer = house.connect().await;
    producer.write(format!("{}\n", r#"{"type":"a","data":1,"id":"once"}"#)).await;
    house.disk.held_back().await;
    drop(producer);
    house.disk.open();
    let again = house.replies(r#"{"type":"a","data":1,"id":"once"}"#).await;
    assert_eq!(again[0]["duplicate"], true);
    assert_eq!(house.events(), 1);
}

/// Writes a line again and again and reads no reply, until no more is taken: that is before `bytes_max`. Others are served
/// meanwhile, and once the peer reads it gets every reply.
async fn flood_without_reading(line: &str, bytes_max: usize, is_right: impl Fn(&str) -> bool) {
    let house = House::new().await;
    let mut flood = UnixStream::connect(house.path()).await.unwrap();
    let lines = line.repeat(if line.len() < 1000 { 1000 } else { 100 });
    let mut taken = 0;
    // A write that waits this long waits for us.
    while let Ok(written) = tokio::time::timeout(Duration::from_secs(1), flood.write(lines.as_bytes())).await {
        taken += written.unwrap();
        assert!(taken < bytes_max, "{taken} bytes were taken from a peer that reads nothing");
    }
    let mut other = house.connect().await;
    other.write(format!("{EVENT}\n")).await;
    assert_eq!(other.reply().await["ok"], true);
    let mut flood = BufReader::new(flood);
    flood.get_mut().shutdown().await.unwrap();
    let (mut replies, mut reply) = (0, String::new());
    while tokio::time::timeout(PATIENCE, flood.read_line(&mut reply)).await.unwrap().unwrap() > 0 {
        assert!(is_right(&reply), "{reply}");
        replies += 1;
        reply.clear();
    }
    // The last line may have been cut by the last write.
    assert!(replies >= taken / line.len(), "{replies} replies");
}

/// Memory is bounded: a peer that takes no replies is not read any further, and nobody else notices.
#[tokio::test]
async fn a_peer_that_never_reads_is_no_longer_read() {
    let is_ok = |reply: &str| reply.starts_with("{\"ok\":true");
    flood_without_reading("{\"op\":\"ping\"}\n", 8 << 20, is_ok).await;
    flood_without_reading(&format!("{EVENT}\n"), 8 << 20, is_ok).await;
}

/// A line of two kilobytes may ask for a thousand results: what is outstanding was counted in lines, and two megabytes of such
/// lines held 183 MB for a peer that read none of its replies.
#[tokio::test]
async fn refusals_that_nobody_reads_are_bounded_in_results() {
    flood_without_reading(&format!("[0{}]\n", ",0".repeat(999)), 1 << 20, |reply| reply.contains("bad_json")).await;
}

#[tokio::test]
async fn two_hundred_connections_are_served_at_once() {
    let house = House::new().await;
    let mut producers = Vec::new();
    for _ in 0..200 {
        producers.push(house.connect().await);
    }
    for _ in 0..3 {
        for producer in &mut producers {
            producer.write(format!("{EVENT}\n")).await;
        }
        for producer in &mut producers {
            assert_eq!(producer.reply().await["ok"], true);
        }
    }
    assert_eq!(house.events(), 600);
}

#[tokio::test]
async fn a_connection_over_the_cap_waits_until_one_ends() {
    let house = House::with(Settings { connections_max: 2, ..Settings::default() }, 1000).await;
    let (mut first, mut second) = (house.connect().await, house.connect().await);
    first.ping().await;
    second.ping().await;
    let mut third = house.connect().await;
    third.write("{\"op\":\"ping\"}\n").await;
    assert!(third.is_silent(&mut second).await);
    drop(first);
    assert_eq!(third.reply().await["ok"], true);
}

fn post(body: &str) -> String {
    format!("POST /v1/events HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: {}\r\n\r\n{body}", body.len())
}

/// The same with one more header.
fn with(body: &str, header: &str) -> String {
    post(body).replace("host: x\r\n", &format!("host: x\r\n{header}\r\n"))
}

fn json(reply: &str) -> Value {
    let (_, body) = reply.split_once("\r\n\r\n").unwrap_or_else(|| panic!("{reply}"));
    serde_json::from_str(body).unwrap_or_else(|_| panic!("{reply}"))
}

/// The same socket speaks HTTP/1.1: 202, a duplicate 200, and problems as problem+json. What it takes is what the admin API takes:
/// a body that says to be something else than JSON, or to be packed, was read as JSON here and refused there.
#[tokio::test]
async fn http_on_the_same_socket() {
    let house = House::new().await;
    let named = r#"{"type":"a","data":1,"id":"n"}"#;
    let long = format!(r#"{{"type":"a","data":"{}"}}"#, "x".repeat(LINE_MAX));
    let table = [
        (post(EVENT), 202, None),
        (post(named), 202, None),
        (post(named), 200, None),
        (post(&format!("[{EVENT},{EVENT}]")), 202, None),
        (post("{\"op\":\"ping\"}"), 200, None),
        (post("nonsense"), 400, Some("bad_json")),
        (post(r#"{"type":"a","data":1,"x":1}"#), 400, Some("unknown_field")),
        (post(r#"{"type":"a"}"#), 400, Some("bad_field")),
        (post(r#"{"type":"a","data":1,"tenant":"nobody"}"#), 400, Some("unknown_tenant")),
        (post(r#"{"type":"a","data":2,"id":"n"}"#), 409, Some("id_conflict")),
        (post(&long), 413, None),
        (with(EVENT, "content-type: application/x-www-form-urlencoded"), 202, None),
        (with(EVENT, "content-type: text/xml"), 415, Some("unsupported_media_type")),
        (with(EVENT, "content-encoding: gzip"), 415, Some("unsupported_media_type")),
        (post(EVENT).replace("/v1/events", "/v1/status"), 404, Some("not_found")),
        (post(EVENT).replace("/v1/events", "/"), 404, Some("not_found")),
        (post(EVENT).replace("POST", "GET"), 405, None),
        (post(EVENT).replace("POST", "DELETE"), 405, None),
    ];
    for (request, status, code) in table {
        let reply = house.talk(&request).await;
        let shown = &request[..request.len().min(200)];
        assert!(reply.starts_with(&format!("HTTP/1.1 {status} ")), "{shown}\n{reply}");
        let is_problem = reply.to_lowercase().contains("content-type: application/problem+json");
        assert_eq!(is_problem, status >= 400, "{reply}");
        if let Some(code) = code {
            assert_eq!(json(&reply)["code"], code);
        }
        if status == 405 {
            assert!(reply.to_lowercase().contains("allow: post"), "{reply}");
        }
    }
    let batch = json(&house.talk(post(&format!("[{EVENT},{{}}]"))).await);
    assert_eq!((&batch[0]["ok"], &batch[1]["error"]["code"]), (&true.into(), &"bad_field".into()));
}

#[tokio::test]
async fn an_http_connection_is_kept_and_waits_for_100_continue_are_answered() {
    let house = House::new().await;
    let mut producer = house.connect().await;
    for _ in 0..3 {
        let head = format!(
            "POST /v1/events HTTP/1.1\r\nhost: x\r\nexpect: 100-continue\r\ncontent-length: {}\r\n\r\n",
            EVENT.len()
        );
        producer.write(head).await;
        let mut line = String::new();
        producer.0.read_line(&mut line).await.unwrap();
        assert_eq!(line, "HTTP/1.1 100 Continue\r\n");
        producer.0.read_line(&mut line).await.unwrap();
        producer.write(EVENT).await;
        let (mut head, mut length) = (String::new(), 0);
        while !head.ends_with("\r\n\r\n") {
            let start = head.len();
            producer.0.read_line(&mut head).await.unwrap();
            if let Some(value) = head[start..].to_lowercase().strip_prefix("content-length:") {
                length = value.trim().parse().unwrap();
            }
        }
        assert!(head.starts_with("HTTP/1.1 202 "), "{head}");
        let mut body = vec![0; length];
        producer.0.read_exact(&mut body).await.unwrap();
    }
    assert_eq!(house.events(), 3);
}

#[tokio::test]
async fn requests_may_come_one_byte_at_a_time() {
    let house = House::new().await;
    for request in [format!("\n {EVENT}\n"), format!("\r\n{}", post(EVENT))] {
        let mut producer = house.connect().await;
        let mut other = house.connect().await;
        for (place, byte) in request.bytes().enumerate() {
            producer.write([byte]).await;
            if place % 16 == 0 {
                other.ping().await;
            }
        }
        let mut reply = String::new();
        producer.0.read_line(&mut reply).await.unwrap();
        assert!(reply.starts_with("HTTP/1.1 202") || reply.starts_with("{\"ok\":true"), "{reply}");
    }
    assert_eq!(house.events(), 2);
}

#[tokio::test]
async fn garbage_ends_its_own_connection_only() {
    let house = House::new().await;
    let mut other = house.connect().await;
    other.ping().await;
    let tls = b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03".repeat(20);
    for garbage in [&tls[..], &[0xff; 100], &[0; 100], b"hello\r\n\r\n", b"}{\n", b"\"x\"\n", b"GET\r\n\r\n"] {
        let reply = house.talk(garbage).await;
        assert!(reply.is_empty() || reply.starts_with("HTTP/1.1 400 "), "{garbage:?}: {reply}");
    }
    other.ping().await;
}

/// When the daemon stops, what has been read is answered after its commit; then the connection ends.
#[tokio::test]
async fn a_stop_answers_what_was_read_and_then_ends() {
    let house = House::new().await;
    let (mut line, mut idle, mut fresh) = (house.connect().await, house.connect().await, house.connect().await);
    idle.ping().await;
    house.disk.shut();
    line.write(format!("{EVENT}\n{EVENT}\n")).await;
    house.disk.held_back().await;
    idle.ping().await;
    house.stop.cancel();
    assert!(idle.is_closed().await && fresh.is_closed().await);
    house.disk.open();
    assert_eq!(line.reply().await["ok"], true);
    assert_eq!(line.reply().await["ok"], true);
    assert!(line.is_closed().await);
    tokio::time::timeout(PATIENCE, house.serving).await.unwrap().unwrap();
    assert!(UnixStream::connect(house.folder.path().join("ingest.sock")).await.is_err(), "nobody listens any more");
}

/// P12: a line without an end does not grow the daemon. Measured in a process of its own, for the neighbours' sake.
#[test]
fn a_hundred_megabytes_without_a_newline_do_not_grow_memory() {
    let exe = std::env::current_exe().unwrap();
    let alone = ["--exact", "measured_alone", "--ignored", "--nocapture"];
    let output = std::process::Command::new(exe).args(alone).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && text.contains("1 passed"), "{text}{}", String::from_utf8_lossy(&output.stderr));
}

#[tokio::test]
#[ignore = "is run by the test above"]
async fn measured_alone() {
    fn resident_kib() -> u64 {
        let status = std::fs::read_to_string("/proc/self/status").unwrap();
        let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
        line.split_whitespace().nth(1).unwrap().parse().unwrap()
    }
    let house = House::with(Settings::default(), 1000).await;
    let mut producer = house.connect().await;
    producer.ping().await;
    let block = vec![b'x'; 1 << 20];
    producer.write("{\"type\":\"a\",\"data\":\"").await;
    producer.write(&block).await;
    let before = resident_kib();
    for _ in 0..100 {
        producer.write(&block).await;
    }
    let grown = resident_kib().saturating_sub(before);
    assert!(grown < 16 << 10, "grown by {grown} KiB");
    producer.write(format!("\"}}\n{EVENT}\n")).await;
    assert_eq!(producer.reply().await["error"]["code"], "too_large", "one reply for all of it");
    assert_eq!(producer.reply().await["ok"], true);
}
