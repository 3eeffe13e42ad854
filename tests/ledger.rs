//! The ledger run: the real binary under load, killed with SIGKILL again and again, and every word it gave is held
//! against two ledgers, the producers' and the receiver's.
//!
//! Proves P1 to P5 of the promises as far as a kill can (the page cache survives it; what a power cut leaves is tested
//! on our own storage layer). The ordinary run kills 20 times, `POSTRIDER_SOAK=1` 10,000 times. The seed is printed;
//! `POSTRIDER_SEED` sets it, which repeats the choices but not the machine's timing.

mod harness;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::io::{self, BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use harness::{Admin, Home, Message, PATIENCE, Reaction, Receiver, wait_for};
use postrider::clock::Stopwatch;
use postrider::model::destination::{Preset, Scheme, Signature};
use postrider::model::{Secret, Timestamp};
use postrider::sign;
use serde_json::{Value, json};

const PRODUCERS: usize = 4;
const DESTINATIONS: [&str; 2] = ["/first", "/second"];
const SECRET: &str = "whsec_AAECAwQFBgcICQoLDA0ODxAREhMUFRYX";
/// Attempts at a time to each destination.
const IN_FLIGHT_MAX: usize = 20;
/// Outcomes may wait 10 ms for a commit; the commit that is under way may take as long again on a busy machine.
const UNCOMMITTED: Duration = Duration::from_millis(30);
/// Producers wait while more deliveries than this are not taken yet, so that the run ends soon after its last kill.
const BACKLOG_MAX: usize = 1_000;

/// What became of an event, as its producer knows it.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Fate {
    /// Sent or to be sent, not acknowledged.
    Open { sent: bool },
    /// Acknowledged under this id.
    Acknowledged(String),
    /// Sent once, not acknowledged, and never sent again.
    Abandoned,
}

/// An event in a producer's ledger.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Entry {
    producer: usize,
    n: usize,
    fate: Fate,
}

impl Entry {
    fn producer_id(&self) -> String {
        producer_id(self.producer, self.n)
    }
}

fn producer_id(producer: usize, n: usize) -> String {
    format!("p{producer}-{n}")
}

/// What the event carries. No two are the same, and nobody who reads and writes it as JSON gets the same bytes back.
fn data(producer: usize, n: usize) -> String {
    let pad = "x".repeat(n * 37 % 1_500);
    format!(
        r#"{{ "producer":{producer}, "n" : {n},"amount":5.00,"big":123456789012345678901,"text":"\u00e9 é \/","pad":"{pad}"}}"#
    )
}

fn request(entry: &Entry) -> String {
    let (id, data) = (entry.producer_id(), data(entry.producer, entry.n));
    format!(r#"{{"type":"ledger.entry","id":"{id}","data":{data}}}"#)
}

/// The counts by which the run times its kills.
#[derive(Default)]
struct Progress {
    counts: Mutex<Counts>,
    changed: Condvar,
    stopping: AtomicBool,
}

#[derive(Debug, Default, Clone, Copy)]
struct Counts {
    acknowledged: usize,
    taken: usize,
}

impl Progress {
    fn add(&self, change: impl FnOnce(&mut Counts)) {
        change(&mut self.counts.lock().unwrap());
        self.changed.notify_all();
    }

    fn counts(&self) -> Counts {
        *self.counts.lock().unwrap()
    }

    fn wait_until(&self, what: &str, home: &Home, reached: impl Fn(&Counts) -> bool) {
        let counts = self.counts();
        let waited = {
            let counts = self.counts.lock().unwrap();
            self.changed.wait_timeout_while(counts, PATIENCE, |counts| !reached(counts)).unwrap().1
        };
        if waited.timed_out() {
            let status = home.admin().call("GET", "/v1/status", None);
            let now = self.counts();
            panic!(
                "waited {} s for {what}: {counts:?}, then {now:?}; the status is {status:?}; the log ends:\n{}",
                PATIENCE.as_secs(),
                home.log_end()
            );
        }
    }
}

/// A producer: writes events in pipelined rounds, notes what was acknowledged, and goes on after each kill.
struct Producer {
    socket: PathBuf,
    progress: Arc<Progress>,
    rng: fastrand::Rng,
    no: usize,
    ledger: Vec<Entry>,
    /// Events that were there already when they were sent again for want of a reply.
    answers_lost: usize,
    faults: Vec<String>,
}

impl Producer {
    fn run(mut self) -> Self {
        while !self.is_done() {
            let Ok(stream) = UnixStream::connect(&self.socket) else {
                // Between a kill and the next start nobody listens.
                std::thread::sleep(Duration::from_millis(1));
                continue;
            };
            stream.set_read_timeout(Some(PATIENCE)).unwrap();
            let mut replies = BufReader::new(&stream).lines();
            while !self.is_done() {
                if self.round(&stream, &mut replies).is_err() {
                    self.give_some_up();
                    break;
                }
            }
        }
        self
    }

    fn is_done(&self) -> bool {
        let is_open = |entry: &Entry| matches!(entry.fate, Fate::Open { .. });
        self.progress.stopping.load(Ordering::Relaxed) && !self.ledger.iter().any(is_open)
    }

    /// Writes some events, singly and in batches, then reads their replies.
    fn round(
        &mut self,
        mut stream: &UnixStream,
        replies: &mut impl Iterator<Item = io::Result<String>>,
    ) -> io::Result<()> {
        let lines = self.lines();
        let mut text = String::new();
        for line in &lines {
            match line.as_slice() {
                [one] => text.push_str(&request(&self.ledger[*one])),
                batch => {
                    let requests: Vec<String> = batch.iter().map(|&at| request(&self.ledger[at])).collect();
                    text.push_str(&format!("[{}]", requests.join(",")));
                }
            }
            text.push('\n');
        }
        let sent_before: Vec<Vec<bool>> = lines
            .iter()
            .map(|line| line.iter().map(|&at| self.ledger[at].fate != Fate::Open { sent: false }).collect())
            .collect();
        for &at in lines.iter().flatten() {
            if let Fate::Open { sent } = &mut self.ledger[at].fate {
                *sent = true;
            }
        }
        stream.write_all(text.as_bytes())?;
        if !lines.is_empty() && self.rng.u8(..) < 16 {
            // The answers are lost without a kill too: this peer vanishes, perhaps after it has read one.
            if self.rng.bool() {
                let _ = replies.next();
            }
            return Err(io::ErrorKind::ConnectionAborted.into());
        }
        for (line, sent_before) in lines.iter().zip(sent_before) {
            let reply = replies.next().ok_or(io::ErrorKind::UnexpectedEof)??;
            let Ok(reply) = serde_json::from_str::<Value>(&reply) else {
                // A reply that was cut off by the kill is none.
                return Err(io::ErrorKind::UnexpectedEof.into());
            };
            let results = match (line.as_slice(), reply) {
                ([_], one @ Value::Object(_)) => vec![one],
                (_, Value::Array(results)) if results.len() == line.len() => results,
                (_, other) => {
                    self.faults.push(format!("a line of {} events was answered with {other}", line.len()));
                    return Err(io::ErrorKind::InvalidData.into());
                }
            };
            for ((&at, sent_before), result) in line.iter().zip(sent_before).zip(&results) {
                self.note(at, sent_before, result);
            }
        }
        Ok(())
    }

    /// The next events to send, by line: what is open first, then new ones, and now and then one that has its receipt.
    fn lines(&mut self) -> Vec<Vec<usize>> {
        let wanted = self.rng.usize(1..=48);
        let is_open = |entry: &Entry| matches!(entry.fate, Fate::Open { .. });
        let mut chosen: Vec<usize> = (0..self.ledger.len()).filter(|&at| is_open(&self.ledger[at])).collect();
        if !self.progress.stopping.load(Ordering::Relaxed) {
            if !self.ledger.is_empty() && self.rng.u8(..) < 40 {
                let at = self.rng.usize(..self.ledger.len());
                if matches!(self.ledger[at].fate, Fate::Acknowledged(_)) {
                    chosen.push(at);
                }
            }
            let waiting = |counts: &Counts| (counts.acknowledged * DESTINATIONS.len()).saturating_sub(counts.taken);
            let has_room = waiting(&self.progress.counts()) < BACKLOG_MAX;
            while has_room && chosen.len() < wanted {
                chosen.push(self.ledger.len());
                let (producer, n) = (self.no, self.ledger.len());
                self.ledger.push(Entry { producer, n, fate: Fate::Open { sent: false } });
            }
            if chosen.is_empty() {
                std::thread::sleep(Duration::from_millis(1));
            }
        }
        let mut lines = Vec::new();
        let mut rest = chosen.as_slice();
        while !rest.is_empty() {
            let length = if self.rng.bool() { 1 } else { self.rng.usize(1..=8).min(rest.len()) };
            let (line, after) = rest.split_at(length);
            lines.push(line.to_vec());
            rest = after;
        }
        lines
    }

    fn note(&mut self, at: usize, sent_before: bool, result: &Value) {
        let entry = &mut self.ledger[at];
        let name = entry.producer_id();
        let Some(id) = result["id"].as_str().filter(|_| result["ok"] == true) else {
            if result["error"]["retryable"] != true {
                self.faults.push(format!("{name} was refused: {result}"));
            }
            return;
        };
        if result["duplicate"] == true && !sent_before {
            self.faults.push(format!("{name} is said to be a duplicate, and was sent for the first time"));
        }
        match &entry.fate {
            Fate::Acknowledged(before) => {
                if before != id || result["duplicate"] != true {
                    self.faults.push(format!("{name} was {before} and is now answered with {result}"));
                }
            }
            Fate::Open { .. } | Fate::Abandoned => {
                self.answers_lost += usize::from(result["duplicate"] == true);
                entry.fate = Fate::Acknowledged(id.to_owned());
                self.progress.add(|counts| counts.acknowledged += 1);
            }
        }
    }

    /// Some of what was under way when the daemon went is never sent again: all of it or nothing of it must be there.
    fn give_some_up(&mut self) {
        for entry in &mut self.ledger {
            if entry.fate == (Fate::Open { sent: true }) && self.rng.u8(..) < 32 {
                entry.fate = Fate::Abandoned;
            }
        }
    }
}

/// The receiver's ledger.
#[derive(Default)]
struct Taken {
    /// How often each event was taken with a 200 at each path, and which event its body says it is.
    by_event: HashMap<(String, &'static str), (usize, String)>,
    /// When each request came in, since the start.
    moments: Vec<Duration>,
    faults: Vec<String>,
}

impl Taken {
    fn duplicates(&self) -> usize {
        self.by_event.values().map(|(times, _)| times - 1).sum()
    }

    /// The most requests that came in within a span.
    fn peak(&self, span: Duration) -> usize {
        let mut first = 0;
        let mut peak = 0;
        for (last, moment) in self.moments.iter().enumerate() {
            while *moment - self.moments[first] > span {
                first += 1;
            }
            peak = peak.max(last + 1 - first);
        }
        peak
    }
}

/// Takes deliveries into the ledger, and answers most of them well while it is moody and all of them when it is not.
fn receiver(taken: Arc<Mutex<Taken>>, progress: Arc<Progress>, calm: Arc<AtomicBool>, seed: u64) -> Receiver {
    let started = Stopwatch::start();
    let rng = Mutex::new(fastrand::Rng::with_seed(seed));
    let signature = Signature { scheme: Scheme::Preset(Preset::Standard), secret: Secret::new(SECRET), previous: None };
    Receiver::start(move |message| {
        let draw = if calm.load(Ordering::Relaxed) { 255 } else { rng.lock().unwrap().u8(..) };
        let reaction = match draw {
            0..10 => Reaction::Answer(500),
            10..15 => Reaction::HangUp,
            15..20 => Reaction::Reset,
            _ => Reaction::Answer(200),
        };
        let mut taken = taken.lock().unwrap();
        let moment = started.elapsed();
        taken.moments.push(moment);
        if let Some(fault) = fault_of(message, &signature) {
            taken.faults.push(fault);
        }
        let path = DESTINATIONS.iter().find(|path| **path == message.path());
        if let (Reaction::Answer(200), Some(path)) = (reaction, path) {
            let name = named_in(&message.body).unwrap_or_default();
            let entry = taken.by_event.entry((message.header("x-webhook-id").to_owned(), path)).or_insert((0, name));
            entry.0 += 1;
            if entry.0 == 1 {
                progress.add(|counts| counts.taken += 1);
            }
        }
        reaction
    })
}

/// The producer's id that a body belongs to, when it is byte for byte what that producer wrote.
fn named_in(body: &[u8]) -> Option<String> {
    let read: Value = serde_json::from_slice(body).ok()?;
    let number = |name: &str| read[name].as_u64().and_then(|number| usize::try_from(number).ok());
    let (producer, n) = (number("producer")?, number("n")?);
    (data(producer, n).as_bytes() == body).then(|| producer_id(producer, n))
}

/// What is wrong with a delivery by itself.
fn fault_of(message: &Message, signature: &Signature) -> Option<String> {
    let id = message.header("x-webhook-id");
    let headers = message
        .headers
        .iter()
        .filter_map(|(name, value)| Some((name.parse::<http::HeaderName>().ok()?, value.parse().ok()?)))
        .collect();
    let signed =
        sign::Message { id: "", timestamp: Timestamp::ZERO, nonce: "", url: "", method: "POST", body: &message.body };
    if named_in(&message.body).is_none() {
        Some(format!("{id}: the body is not what a producer wrote"))
    } else if let Err(error) = sign::verify(signature, &signed, &headers) {
        Some(format!("{id}: cannot {error}"))
    } else if message.header("webhook-id") != id || message.header("x-webhook-attempt").parse::<u32>().is_err() {
        Some(format!("{id}: the headers {:?}", message.headers))
    } else {
        None
    }
}

/// Everything there is to hold against each other.
#[derive(Clone)]
struct Books {
    /// What producers sent.
    sent: Vec<Entry>,
    /// What is stored: the producer's id, and ours.
    stored: Vec<(String, String)>,
    /// What was taken: which event at which path, and the producer's id that its body belongs to.
    taken: BTreeMap<(String, &'static str), String>,
    /// `GET /v1/status`.
    status: Value,
}

/// What the books say that must not be.
fn faults(books: &Books) -> Vec<String> {
    let mut faults = Vec::new();
    let mut ids_of: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for (name, id) in &books.stored {
        if !ids_of.entry(name).or_default().insert(id) {
            faults.push(format!("{name} is listed twice as {id}"));
        }
    }
    for entry in &books.sent {
        let name = entry.producer_id();
        let ids = ids_of.remove(name.as_str()).unwrap_or_default();
        match &entry.fate {
            Fate::Acknowledged(id) if ids.is_empty() => {
                faults.push(format!("{name} was acknowledged as {id} and is lost"))
            }
            Fate::Acknowledged(id) if !ids.contains(id.as_str()) => {
                faults.push(format!("{name} was acknowledged as {id} and is stored as {ids:?}"));
            }
            _ if ids.len() > 1 => faults.push(format!("{name} is stored more than once: {ids:?}")),
            Fate::Acknowledged(_) | Fate::Abandoned => {}
            Fate::Open { .. } => faults.push(format!("{name} was never answered")),
        }
    }
    faults.extend(ids_of.into_iter().map(|(name, ids)| format!("{name} is stored as {ids:?} and nobody sent it")));
    for (name, id) in &books.stored {
        for path in DESTINATIONS {
            match books.taken.get(&(id.clone(), path)) {
                None => faults.push(format!("{name} ({id}) never came to {path}")),
                Some(other) if other != name => faults.push(format!("{name} ({id}) came to {path} as {other:?}")),
                Some(_) => {}
            }
        }
    }
    let ids: BTreeSet<&str> = books.stored.iter().map(|(_, id)| id.as_str()).collect();
    for (id, path) in books.taken.keys().filter(|(id, _)| !ids.contains(id.as_str())) {
        faults.push(format!("{id} came to {path} and is not stored"));
    }
    let count = |name: &str| books.status[name].as_u64().unwrap_or(u64::MAX);
    let deliveries = (books.stored.len() * DESTINATIONS.len()) as u64;
    let unfinished = ["pending", "held", "failed", "cancelled"].map(count);
    if count("events") != books.stored.len() as u64
        || count("accepted") != deliveries
        || count("succeeded") != deliveries
        || unfinished != [0; 4]
    {
        faults.push(format!(
            "{} events and {deliveries} deliveries do not add up to {}",
            books.stored.len(),
            books.status
        ));
    }
    faults
}

/// P1, P2, P3, P4, P5; invariants 1, 2 and 10.
#[test]
fn nothing_acknowledged_is_lost_and_nothing_is_half_there_after_kills() {
    let soak = std::env::var("POSTRIDER_SOAK").is_ok_and(|value| value == "1");
    let (kills, stride) = if soak { (10_000, 60) } else { (20, 250) };
    let seed = match std::env::var("POSTRIDER_SEED") {
        Ok(seed) => seed.parse().expect("POSTRIDER_SEED is a number"),
        Err(_) => fastrand::u64(..),
    };
    println!("POSTRIDER_SEED={seed}");
    let mut rng = fastrand::Rng::with_seed(seed);

    let progress = Arc::new(Progress::default());
    let taken = Arc::new(Mutex::new(Taken::default()));
    let calm = Arc::new(AtomicBool::new(false));
    let receiver = receiver(Arc::clone(&taken), Arc::clone(&progress), Arc::clone(&calm), rng.u64(..));
    // The receiver's moods are no reason to leave it alone.
    let home = Home::new(&format!("[delivery]\nin_flight_max = {IN_FLIGHT_MAX}\nbreaker_failures = 1000000\n"));
    let admin = home.admin();
    let mut daemon = home.start();
    let destinations = DESTINATIONS.map(|path| create_destination(&admin, &receiver.url(path)));
    admin.must("POST", "/v1/subscriptions/ledger.%2A", Some(&json!({ "destinations": destinations })));

    let producers: Vec<_> = (0..PRODUCERS)
        .map(|no| {
            let producer = Producer {
                socket: home.ingest_socket(),
                progress: Arc::clone(&progress),
                rng: rng.fork(),
                no,
                ledger: Vec::new(),
                answers_lost: 0,
                faults: Vec::new(),
            };
            std::thread::spawn(move || producer.run())
        })
        .collect();

    progress.wait_until("a beginning without faults", &home, |counts| counts.taken >= 500);
    assert_eq!(taken.lock().unwrap().duplicates(), 0, "nothing went wrong yet, so nothing may come twice");
    for _ in 0..kills {
        // After some acknowledgements, after some deliveries, or while it is still opening the store.
        let start = progress.counts();
        let further = rng.usize(1..stride);
        match rng.u8(..5) {
            0 => {}
            1 | 2 => {
                progress.wait_until("acknowledgements", &home, |now| now.acknowledged >= start.acknowledged + further)
            }
            _ => progress.wait_until("deliveries", &home, |now| now.taken >= start.taken + further),
        }
        // Not always at the moment of a reply: somewhere in a commit, or in the opening.
        std::thread::sleep(Duration::from_micros(rng.u64(..20_000)));
        home.kill(daemon);
        daemon = home.spawn();
    }
    home.wait_until_ready(&mut daemon);
    let start = progress.counts();
    progress.wait_until("a day without kills", &home, |now| now.acknowledged >= start.acknowledged + 200);
    progress.stopping.store(true, Ordering::Relaxed);
    calm.store(true, Ordering::Relaxed);
    let (mut sent, mut found, mut answers_lost) = (Vec::new(), Vec::new(), 0);
    for producer in producers {
        let producer = producer.join().unwrap();
        sent.extend(producer.ledger);
        found.extend(producer.faults);
        answers_lost += producer.answers_lost;
    }
    let status = wait_for("the queue to drain", || {
        let status = admin.must("GET", "/v1/status", None);
        (status["pending"] == 0 && status["held"] == 0).then_some(status)
    });

    let text = |row: &Value, name: &str| row[name].as_str().unwrap_or_default().to_owned();
    let stored =
        admin.list("/v1/events", "events").iter().map(|row| (text(row, "producer_id"), text(row, "id"))).collect();
    let receipts = taken.lock().unwrap();
    let books = Books {
        sent,
        stored,
        taken: receipts.by_event.iter().map(|((id, path), (_, name))| ((id.clone(), *path), name.clone())).collect(),
        status,
    };
    found.extend(faults(&books));
    found.extend(receipts.faults.iter().cloned());
    found.extend(look_up(&admin, &books, &mut rng));
    let (duplicates, per_kill) =
        (receipts.duplicates(), DESTINATIONS.len() * IN_FLIGHT_MAX + receipts.peak(UNCOMMITTED));
    if duplicates > kills * per_kill {
        found.push(format!("{duplicates} duplicates are more than {per_kill} for each kill"));
    }
    if home.log().contains("panicked") {
        found.push("the daemon panicked".to_owned());
    }
    let stored: BTreeSet<&str> = books.stored.iter().map(|(name, _)| name.as_str()).collect();
    let abandoned: Vec<&Entry> = books.sent.iter().filter(|entry| entry.fate == Fate::Abandoned).collect();
    let half_way = abandoned.iter().filter(|entry| stored.contains(entry.producer_id().as_str())).count();
    println!(
        "{kills} kills; {} events sent, {answers_lost} found again after a lost answer, {half_way} of {} abandoned \
         ones stored; {} requests received, {duplicates} duplicates (at most {per_kill} for each kill)",
        books.sent.len(),
        abandoned.len(),
        receipts.moments.len(),
    );
    if !found.is_empty() {
        let shown: Vec<&String> = found.iter().take(20).collect();
        panic!("POSTRIDER_SEED={seed}: {} faults: {shown:#?}\nthe log ends:\n{}", found.len(), home.log_end());
    }

    assert!(
        answers_lost > 0 && duplicates > 0,
        "a run in which no answer was lost proves little: POSTRIDER_SEED={seed}"
    );

    // The control: the same books with one acknowledgement that nobody gave.
    let mut forged = books;
    let id = "evt_nobodygavethisone".to_owned();
    forged.sent.push(Entry { producer: PRODUCERS, n: 0, fate: Fate::Acknowledged(id.clone()) });
    assert_eq!(faults(&forged), [format!("p{PRODUCERS}-0 was acknowledged as {id} and is lost")]);
    assert!(daemon.stop().success());
}

/// Invariants 1 and 9: when the disk fails, producers are told so, nothing more is acknowledged, the daemon ends with a code of
/// its own, and the next start has all that was acknowledged.
#[test]
fn a_disk_that_fails_ends_the_daemon_and_what_was_acknowledged_stays() {
    let home = Home::new("");
    let mut daemon = home.spawn_on_small_disk(16 << 10);
    home.wait_until_ready(&mut daemon);
    let stream = UnixStream::connect(home.ingest_socket()).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut replies = BufReader::new(&stream).lines();
    let pad = "x".repeat(64 << 10);
    let mut acknowledged = Vec::new();
    let refused = loop {
        let n = acknowledged.len();
        assert!(n < 1000, "64 MB went into a file of 16");
        let line = format!("{{\"type\":\"a\",\"id\":\"p0-{n}\",\"data\":\"{pad}\"}}\n");
        (&stream).write_all(line.as_bytes()).unwrap();
        let reply: Value = serde_json::from_str(&replies.next().unwrap().unwrap()).unwrap();
        match reply["id"].as_str() {
            Some(id) if reply["error"].is_null() => acknowledged.push(id.to_owned()),
            _ => break reply,
        }
    };
    assert_eq!((&refused["error"]["code"], &refused["error"]["retryable"]), (&json!("store_failed"), &json!(true)));
    assert_eq!(daemon.ended().code(), Some(74), "{}", home.log_end());
    assert!(home.log().contains("store_failed"), "{}", home.log_end());
    assert!(acknowledged.len() > 10);

    let daemon = home.start();
    for id in &acknowledged {
        assert_eq!(home.admin().must("GET", &format!("/v1/events/{id}"), None)["id"], json!(id));
    }
    assert_eq!(home.admin().must("GET", "/v1/status", None)["events"], json!(acknowledged.len()));
    assert!(daemon.stop().success());
}

fn create_destination(admin: &Admin, url: &str) -> String {
    let answer = admin.must(
        "POST",
        "/v1/destinations/webhook",
        Some(&json!({
            "name": "ledger",
            "http_endpoint_url": url,
            "confirmed": true,
            "retry": { "delays": ["1s"], "attempts_max": 100 },
            "signature": { "preset": "standard", "secret": SECRET },
        })),
    );
    answer["id"].as_str().expect("a created destination has an id").to_owned()
}

/// Asks for some events by their producers' ids, and for their deliveries: the other ways to the same rows.
fn look_up(admin: &Admin, books: &Books, rng: &mut fastrand::Rng) -> Vec<String> {
    let mut faults = Vec::new();
    let ids: BTreeMap<&str, &str> = books.stored.iter().map(|(name, id)| (name.as_str(), id.as_str())).collect();
    for entry in &books.sent {
        if entry.fate != Fate::Abandoned && rng.usize(..books.sent.len()) >= 200 {
            continue;
        }
        let name = entry.producer_id();
        let found = admin.must("GET", &format!("/v1/events?producer_id={name}"), None);
        let found: Vec<&str> =
            found["events"].as_array().into_iter().flatten().filter_map(|row| row["id"].as_str()).collect();
        if found.as_slice() != ids.get(name.as_str()).copied().as_slice() {
            faults.push(format!("{name} is looked up as {found:?} and listed as {:?}", ids.get(name.as_str())));
        }
        let Some(id) = found.first() else { continue };
        let deliveries = admin.must("GET", &format!("/v1/events/{id}/deliveries"), None);
        let states: Vec<&str> =
            deliveries["deliveries"].as_array().into_iter().flatten().filter_map(|row| row["state"].as_str()).collect();
        if states != ["succeeded"; DESTINATIONS.len()] {
            faults.push(format!("{name} ({id}) has the deliveries {deliveries}"));
        }
    }
    faults
}

/// The checker is worth as much as what it finds.
#[test]
fn the_checker_finds_what_is_planted() {
    let entry = |n: usize, fate: Fate| Entry { producer: 0, n, fate };
    let id = |n: usize| format!("evt_{n}");
    let taken = [0, 2].into_iter().flat_map(|n| DESTINATIONS.map(|path| ((id(n), path), producer_id(0, n)))).collect();
    let good = Books {
        sent: vec![entry(0, Fate::Acknowledged(id(0))), entry(1, Fate::Abandoned), entry(2, Fate::Abandoned)],
        stored: vec![(producer_id(0, 0), id(0)), (producer_id(0, 2), id(2))],
        taken,
        status: json!({"events": 2, "accepted": 4, "succeeded": 4, "pending": 0, "held": 0, "failed": 0, "cancelled": 0}),
    };
    assert_eq!(faults(&good), [""; 0]);
    type Plant = fn(&mut Books);
    let planted: [(&str, Plant); 9] = [
        ("is lost", |books| books.sent[1].fate = Fate::Acknowledged("evt_1".to_owned())),
        ("is stored as", |books| books.sent[0].fate = Fate::Acknowledged("evt_9".to_owned())),
        ("more than once", |books| books.stored.push((producer_id(0, 2), "evt_9".to_owned()))),
        ("listed twice", |books| books.stored.push(books.stored[0].clone())),
        ("nobody sent it", |books| books.stored.push((producer_id(7, 7), "evt_7".to_owned()))),
        ("never answered", |books| books.sent[1].fate = Fate::Open { sent: true }),
        ("never came to /second", |books| drop(books.taken.remove(&("evt_2".to_owned(), "/second")))),
        ("is not stored", |books| drop(books.taken.insert(("evt_5".to_owned(), "/first"), producer_id(0, 5)))),
        ("do not add up", |books| books.status["cancelled"] = json!(1)),
    ];
    for (words, plant) in planted {
        let mut books = good.clone();
        plant(&mut books);
        assert!(faults(&books).iter().any(|fault| fault.contains(words)), "{words}: {:?}", faults(&books));
    }
    let half = Taken { moments: [0, 1, 2, 50, 51].map(Duration::from_millis).to_vec(), ..Taken::default() };
    assert_eq!(half.peak(Duration::from_millis(10)), 3);
    assert_eq!(named_in(data(3, 5).as_bytes()), Some("p3-5".to_owned()));
    assert_eq!(named_in(data(3, 5).replace("5.00", "5.0").as_bytes()), None);
}
