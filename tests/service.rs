//! The daemon as a service: what it tells its supervisor, how it stops, what it does when it cannot start, and what dead
//! receivers cost the others.

mod harness;

use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::{UnixDatagram, UnixStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex};

use harness::{Admin, Daemon, Home, PATIENCE, Reaction, Receiver, wait_for};
use nix::sys::signal::Signal;
use serde_json::{Value, json};

/// Hands events in over one connection, pipelined, and checks that each is accepted.
fn emit(home: &Home, events: impl IntoIterator<Item = Value>) {
    let stream = UnixStream::connect(home.ingest_socket()).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut writer = stream.try_clone().unwrap();
    let reading = std::thread::spawn(move || {
        BufReader::new(stream)
            .lines()
            .map(|line| line.unwrap())
            .inspect(|line| assert!(line.contains("\"ok\":true"), "{line}"))
            .count()
    });
    let mut sent = 0;
    for event in events {
        writer.write_all(format!("{event}\n").as_bytes()).unwrap();
        sent += 1;
    }
    writer.shutdown(std::net::Shutdown::Write).unwrap();
    assert_eq!(reading.join().unwrap(), sent);
}

fn destination(admin: &Admin, url: String, kind: &str, further: Value) -> String {
    let retry = json!({ "delays": ["10m"] });
    let mut wanted = json!({ "name": "d", "http_endpoint_url": url, "confirmed": true, "retry": retry });
    wanted.as_object_mut().unwrap().extend(further.as_object().unwrap().clone());
    let id = admin.must("POST", "/v1/destinations/webhook", Some(&wanted))["id"].as_str().unwrap().to_owned();
    admin.must("POST", &format!("/v1/subscriptions/{kind}"), Some(&json!({ "destinations": [id] })));
    id
}

fn status(admin: &Admin, count: &str) -> u64 {
    admin.must("GET", "/v1/status", None)[count].as_u64().unwrap()
}

/// A gate that requests wait at.
#[derive(Default)]
struct Gate(Mutex<bool>, Condvar);

impl Gate {
    fn open(&self) {
        *self.0.lock().unwrap() = true;
        self.1.notify_all();
    }

    fn pass(&self) {
        let guard = self.0.lock().unwrap();
        drop(self.1.wait_timeout_while(guard, PATIENCE, |open| !*open).unwrap());
    }
}

/// A daemon in the middle of an attempt, whose receiver waits at a gate.
struct Stuck {
    gate: Arc<Gate>,
    arrived: Arc<AtomicUsize>,
    daemon: Daemon,
    admin: Admin,
    receiver: Receiver,
}

impl Stuck {
    fn in_its_attempt(home: &Home) -> Self {
        let (gate, arrived) = (Arc::new(Gate::default()), Arc::new(AtomicUsize::new(0)));
        let receiver = {
            let (gate, arrived) = (Arc::clone(&gate), Arc::clone(&arrived));
            Receiver::start(move |_| {
                arrived.fetch_add(1, Ordering::SeqCst);
                gate.pass();
                Reaction::Answer(200)
            })
        };
        let (daemon, admin) = (home.start(), home.admin());
        destination(&admin, receiver.url("/in"), "*", json!({}));
        emit(home, [json!({ "type": "a", "data": 1 })]);
        wait_for("the request to arrive", || (arrived.load(Ordering::SeqCst) == 1).then_some(()));
        Stuck { gate, arrived, daemon, admin, receiver }
    }
}

#[test]
fn the_supervisor_hears_ready_when_the_sockets_answer_and_stopping_at_the_end() {
    let home = Home::new("");
    let path = home.folder().join("notify.sock");
    let supervisor = UnixDatagram::bind(&path).unwrap();
    supervisor.set_read_timeout(Some(PATIENCE)).unwrap();
    let daemon = home.spawn_in(&[("NOTIFY_SOCKET", path.to_str().unwrap())]);
    let hear = || {
        let mut text = [0; 256];
        let length = supervisor.recv(&mut text).unwrap();
        String::from_utf8_lossy(&text[..length]).into_owned()
    };
    assert!(hear().contains("READY=1"));
    assert_eq!(home.admin().call("GET", "/readyz", None).unwrap().0, 200, "ready means now, not soon");
    UnixStream::connect(home.ingest_socket()).unwrap();
    daemon.signal(Signal::SIGTERM);
    assert!(hear().contains("STOPPING=1"));
    assert_eq!(daemon.ended().code(), Some(0));
    assert!(!home.ingest_socket().exists(), "the sockets go with the daemon");
}

/// Invariant 3: an attempt that is under way when the daemon is told to stop ends once, and its end is on disk.
#[test]
fn a_drain_lets_what_is_under_way_end_and_takes_nothing_new() {
    let home = Home::new("");
    let Stuck { gate, arrived, daemon, admin, receiver: _receiver } = Stuck::in_its_attempt(&home);
    let mut early = UnixStream::connect(home.ingest_socket()).unwrap();
    early.write_all(b" ").unwrap();
    daemon.signal(Signal::SIGTERM);
    wait_for("the ingest socket to close", || UnixStream::connect(home.ingest_socket()).is_err().then_some(()));
    gate.open();
    assert_eq!(daemon.ended().code(), Some(0));

    let daemon = home.start();
    assert_eq!(status(&admin, "succeeded"), 1, "the end of the attempt was written");
    let deliveries = admin.list("/v1/deliveries", "deliveries");
    assert_eq!(deliveries[0]["attempts"].as_array().unwrap().len(), 1);
    assert_eq!(arrived.load(Ordering::SeqCst), 1, "and it is not repeated");
    assert_eq!(daemon.stop().code(), Some(0));
}

#[test]
fn a_second_signal_ends_the_daemon_at_once_and_the_delivery_is_repeated() {
    let home = Home::new("");
    let Stuck { gate, arrived, daemon, admin, receiver: _receiver } = Stuck::in_its_attempt(&home);
    daemon.signal(Signal::SIGTERM);
    wait_for("the drain to begin", || {
        home.log()
            .contains("\"stopping\"")
            .then_some(())
            .or_else(|| UnixStream::connect(home.ingest_socket()).is_err().then_some(()))
    });
    daemon.signal(Signal::SIGTERM);
    assert_eq!(daemon.ended().code(), Some(1));
    gate.open();
    let daemon = home.start();
    wait_for("the delivery to be repeated", || (status(&admin, "succeeded") == 1).then_some(()));
    assert_eq!(arrived.load(Ordering::SeqCst), 2);
    assert_eq!(daemon.stop().code(), Some(0));
}

#[test]
fn a_store_that_another_daemon_holds_ends_the_start_with_78() {
    let home = Home::new("");
    let daemon = home.start();
    let second = home.spawn();
    assert_eq!(second.ended().code(), Some(78));
    let log = home.log();
    for part in ["postrider.redb", "another process holds its lock", "store.path"] {
        assert!(log.contains(part), "{part}: {log}");
    }
    assert_eq!(home.admin().call("GET", "/readyz", None).unwrap().0, 200, "the first one goes on");
    assert_eq!(daemon.stop().code(), Some(0));
}

/// Invariant 4, P8 in small: receivers that accept and never answer take their share of the slots, and no more.
#[test]
fn dead_receivers_slow_only_themselves() {
    let home = Home::new("[delivery]\nin_flight_total = 16\n");
    let gate = Arc::new(Gate::default());
    let hung = {
        let gate = Arc::clone(&gate);
        Receiver::start(move |_| {
            gate.pass();
            Reaction::HangUp
        })
    };
    let healthy = Receiver::start(|_| Reaction::Answer(200));
    let daemon = home.start();
    let admin = home.admin();
    destination(&admin, healthy.url("/in"), "*", json!({}));
    let events = |count| (0..count).map(|_| json!({ "type": "a", "data": "x" }));
    emit(&home, events(5));
    wait_for("the healthy one's first deliveries", || (status(&admin, "succeeded") == 5).then_some(()));
    for place in 0..20 {
        destination(&admin, hung.url(&format!("/{place}")), "*", json!({}));
    }
    emit(&home, events(50));
    wait_for("its deliveries beside the dead ones", || (status(&admin, "succeeded") == 55).then_some(()));
    home.kill(daemon);
    let daemon = home.start();
    emit(&home, events(50));
    wait_for("its deliveries after a restart", || (status(&admin, "succeeded") == 105).then_some(()));
    gate.open();
    home.kill(daemon);
}

/// Invariant 8: a pause, a resume and a resend reach the engine through the store alone.
#[test]
fn what_an_operator_says_reaches_the_engine_and_survives_a_kill() {
    let home = Home::new("");
    let well = Arc::new(AtomicBool::new(false));
    let receiver = {
        let well = Arc::clone(&well);
        Receiver::start(move |_| Reaction::Answer(if well.load(Ordering::SeqCst) { 200 } else { 400 }))
    };
    let daemon = home.start();
    let admin = home.admin();
    let id = destination(&admin, receiver.url("/in"), "*", json!({ "retry": { "attempts_max": 1, "delays": [] } }));
    emit(&home, [json!({ "type": "a", "data": 1 })]);
    wait_for("the delivery to fail", || (status(&admin, "failed") == 1).then_some(()));
    admin.must("POST", &format!("/v1/destinations/webhook/{id}/pause"), None);
    let delivery = admin.list("/v1/deliveries", "deliveries")[0]["id"].as_str().unwrap().to_owned();
    admin.must("POST", &format!("/v1/deliveries/{delivery}/resend"), None);
    home.kill(daemon);

    let daemon = home.start();
    let seen = admin.must("GET", &format!("/v1/deliveries/{delivery}"), None);
    assert_eq!((&seen["state"], &seen["waiting_reason"]), (&json!("held"), &json!("paused")));
    well.store(true, Ordering::SeqCst);
    admin.must("POST", &format!("/v1/destinations/webhook/{id}/resume"), None);
    wait_for("the resent delivery", || (status(&admin, "succeeded") == 1).then_some(()));
    let seen = admin.must("GET", &format!("/v1/deliveries/{delivery}"), None);
    let attempts = seen["attempts"].as_array().unwrap();
    assert_eq!(attempts.len(), 2);
    assert_eq!((&attempts[1]["number"], &attempts[1]["trigger"]), (&json!(2), &json!("manual")));
    assert_eq!(daemon.stop().code(), Some(0));
}
