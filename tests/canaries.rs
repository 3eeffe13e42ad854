//! Secrets are write-only (invariant 11, P16): each secret that there is gets a value that occurs nowhere else; then everything is
//! read that can be read, and none of them may be found. The receivers echo whatever they are sent, as careless ones do.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use postrider::clock::Stopwatch;
use serde_json::{Value, json};

const PATIENCE: Duration = Duration::from_secs(60);
/// A test number of a card network: its check digit is right.
const PAN: &str = "4000056655665556";
const PAN_GROUPED: &str = "4000 0566 5566 5556";
const PAYLOAD: &str = "canary-payload-7Q";

/// The daemon, in a folder of its own.
struct Daemon {
    folder: tempfile::TempDir,
    child: Child,
}

impl Drop for Daemon {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Daemon {
    fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name).display().to_string();
        let config = format!(
            "[store]\npath = {:?}\n[ingest]\nsocket = {:?}\n[admin]\nsocket = {:?}\nlisten = \"\"\n[egress]\nallow_loopback = true\n\
             allow_http = true\n[limits]\ndisk_reserve = \"1MiB\"\n[log]\nformat = \"json\"\nlevel = \"trace\"\n",
            at("store.redb"),
            at("ingest.sock"),
            at("admin.sock"),
        );
        std::fs::write(folder.path().join("config.toml"), config).unwrap();
        let log = File::create(folder.path().join("log")).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_postrider"));
        command.args(["serve", "--config"]).arg(folder.path().join("config.toml"));
        command.env_clear().stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        let child = command.spawn().unwrap();
        let mut daemon = Daemon { folder, child };
        let asked = Stopwatch::start();
        while UnixStream::connect(daemon.path("admin.sock")).is_err() {
            assert_eq!(daemon.child.try_wait().unwrap(), None, "the daemon ended: {}", daemon.log());
            assert!(asked.elapsed() < PATIENCE, "{}", daemon.log());
            std::thread::yield_now();
        }
        daemon
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.path("log")).unwrap()
    }

    /// One request on the admin socket, as the operator or with a key: the whole reply.
    fn ask(&self, method: &str, path: &str, key: Option<&str>, body: &str) -> Reply {
        let mut stream = UnixStream::connect(self.path("admin.sock")).unwrap();
        let key = key.map(|key| format!("authorization: Bearer {key}\r\n")).unwrap_or_default();
        let length = body.len();
        write!(
            stream,
            "{method} {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n{key}content-length: {length}\r\n\r\n{body}"
        )
        .unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).unwrap();
        Reply(text)
    }

    fn create(&self, path: &str, body: &Value) -> Value {
        let reply = self.ask("POST", path, None, &body.to_string());
        assert!(reply.0.starts_with("HTTP/1.1 201 "), "{}", reply.0);
        reply.body()
    }

    /// Ends in order, so that the log is whole.
    fn stop(&mut self) {
        Command::new("kill").arg("-TERM").arg(self.child.id().to_string()).status().unwrap();
        assert!(self.child.wait().unwrap().success(), "{}", self.log());
    }
}

struct Reply(String);

impl Reply {
    fn body(&self) -> Value {
        let (_, body) = self.0.split_once("\r\n\r\n").unwrap_or_else(|| panic!("{}", self.0));
        serde_json::from_str(body).unwrap_or_else(|_| panic!("{}", self.0))
    }
}

/// A receiver that answers with everything that it was sent: as headers, as text, as JSON, and percent-encoded. What it got as
/// bodies is told apart from that.
fn receiver() -> (std::net::SocketAddr, mpsc::Receiver<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let (got, bodies) = mpsc::channel();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let got = got.clone();
            std::thread::spawn(move || echo(stream.unwrap(), &got));
        }
    });
    (address, bodies)
}

/// Answers one request; a peer that ends early ends it.
fn echo(mut stream: TcpStream, got: &mpsc::Sender<String>) -> Option<()> {
    let mut reader = BufReader::new(stream.try_clone().ok()?);
    let (mut head, mut length) = (Vec::new(), 0);
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).ok()?;
        let line = line.trim_end().to_owned();
        if line.is_empty() {
            break;
        }
        if let Some((name, value)) = line.split_once(": ") {
            if name.eq_ignore_ascii_case("content-length") {
                length = value.parse().ok()?;
            }
            head.push((name.to_owned(), value.to_owned()));
        } else {
            head.push((String::new(), line));
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    got.send(String::from_utf8_lossy(&body).into_owned()).ok()?;
    let echoed: String = head.iter().map(|(name, value)| format!("{name}: {value}\n")).collect();
    let values: Vec<&str> = head.iter().map(|(_, value)| value.as_str()).collect();
    let escaped = Value::from(values.clone()).to_string();
    let slashed = escaped.replace('/', "\\/");
    let percent: String = values
        .iter()
        .map(|value| percent_encoding::utf8_percent_encode(value, percent_encoding::NON_ALPHANUMERIC).to_string() + "&")
        .collect();
    let text = format!("{}\n{PAN}\n{PAN_GROUPED}\n{echoed}{escaped}{slashed}{percent}", String::from_utf8_lossy(&body));
    let headers: String = head
        .iter()
        .filter(|(name, _)| !name.is_empty())
        .map(|(name, value)| format!("x-echo-{name}: {value}\r\n"))
        .collect();
    let path = head.first()?.1.split(' ').nth(1)?.to_owned();
    let status = match path.as_str() {
        "/fail" => "500 No",
        "/elsewhere" => "302 Found",
        _ => "200 OK",
    };
    let location = format!("location: /next?card={PAN}&all={}\r\n", values.last()?);
    write!(
        stream,
        "HTTP/1.1 {status}\r\nconnection: close\r\n{location}{headers}content-length: {}\r\n\r\n{text}",
        text.len()
    )
    .ok()
}

/// Every secret by its name, and the destinations that hold them.
fn plant(daemon: &Daemon, receiver: std::net::SocketAddr) -> (BTreeMap<&'static str, String>, Vec<String>) {
    let mut canaries = BTreeMap::new();
    let mut plant = |name: &'static str, value: &str| {
        canaries.insert(name, value.to_owned());
        value.to_owned()
    };
    let own = rcgen::generate_simple_self_signed(vec!["canary.example".into()]).unwrap();
    let client_key = own.signing_key.serialize_pem();
    plant("client key", client_key.lines().nth(1).unwrap());
    let basic =
        json!({"type": "basic", "username": "till", "password": plant("basic password", "canary/pass\"word 1+")});
    plant(
        "basic credentials",
        &base64::Engine::encode(&base64::engine::general_purpose::STANDARD, "till:canary/pass\"word 1+"),
    );
    let shared = json!({"type": "shared_secret", "secret": plant("shared secret", "canary/shared=2")});
    let bearer = json!({"type": "bearer", "token": plant("bearer token", "canary.bearer~3")});
    let text = json!({"preset": "x-signature", "secret": plant("text signature secret", "canary-signing-4")});
    let standard = json!({"preset": "standard"});
    let key = daemon.create("/v1/signing-keys", &json!({"kind": "signature"}));
    plant("signature key", key["secret"].as_str().unwrap());
    let at_key = format!("/v1/signing-keys/{}", key["id"].as_str().unwrap());
    let rotated = daemon.ask("POST", &format!("{at_key}/rotate"), None, "{}").body();
    plant("rotated signature key", rotated["secret"].as_str().unwrap());
    let revealed = daemon.ask("POST", &format!("{at_key}/reveal"), None, "").body();
    assert_eq!(revealed["secret"], rotated["secret"]);
    let given = plant("source key", "canary-source-6");
    let source = json!({"kind": "source", "name": "till", "secret": given});
    let source = daemon.create("/v1/signing-keys", &source)["id"].clone();
    let by_keys = json!([{"preset": "x-signature", "key": source}, {"preset": "standard", "key": "signature"}]);
    let header = plant("header value", "canary header/5");
    let mut ids = Vec::new();
    let table = [
        ("/take", basic, text),
        ("/fail", shared, by_keys),
        ("/elsewhere", bearer, standard.clone()),
        ("/take", json!({"type": "none"}), standard),
    ];
    for (place, (path, auth, signature)) in table.into_iter().enumerate() {
        let mut body = json!({
            "name": format!("d{place}"),
            "http_endpoint_url": format!("http://{receiver}{path}"),
            "confirmed": true,
            "headers": {"X-Own": header},
            "auth": auth,
            "signature": signature,
            "retry": {"delays": ["1s"], "attempts_max": 1},
        });
        if place == 3 {
            body["tls"] = json!({"client_cert": own.cert.pem(), "client_key": client_key});
        }
        let made = daemon.create("/v1/destinations/webhook", &body);
        // A generated secret is shown once, here.
        if let Some(fresh) = made["signature"]["secret"].as_str().or(made["signature"][0]["secret"].as_str()) {
            canaries.insert(["fresh 0", "fresh 1", "fresh 2", "fresh 3"][place], fresh.to_owned());
        }
        ids.push(made["id"].as_str().unwrap().to_owned());
    }
    assert!(canaries.len() >= 10 + 2, "generated secrets are shown at their creation: {:?}", canaries.keys());
    (canaries, ids)
}

/// Everything that a role may read.
fn read_everything(daemon: &Daemon, key: Option<&str>, ids: &[(&str, Vec<String>)]) -> String {
    let mut paths: Vec<String> = [
        "/v1/destinations",
        "/v1/destinations/webhook?limit=100",
        "/v1/subscriptions",
        "/v1/subscriptions/*?limit=100",
        "/v1/events?limit=100",
        "/v1/deliveries?limit=100",
        "/v1/deliveries?state=failed",
        "/v1/tenants",
        "/v1/tenants/default",
        "/v1/keys",
        "/v1/signing-keys",
        "/v1/audit?limit=1000",
        "/v1/status",
        "/metrics",
        "/healthz",
        "/readyz",
        "/nothing",
    ]
    .map(str::to_owned)
    .into();
    for (pattern, ids) in ids {
        paths.extend(ids.iter().map(|id| pattern.replace("{id}", id)));
    }
    paths.iter().map(|path| daemon.ask("GET", path, key, "").0 + "\n").collect()
}

fn list(daemon: &Daemon, path: &str, plural: &str) -> Vec<Value> {
    daemon.ask("GET", path, None, "").body()[plural].as_array().unwrap().clone()
}

fn ids(of: &[Value]) -> Vec<String> {
    of.iter().map(|one| one["id"].as_str().unwrap().to_owned()).collect()
}

/// Invariant 11, P16 in short: no view and no line of the log shows a secret, whatever the receivers say; card numbers are
/// masked in what receivers said; and payloads are shown to those who may see them only.
#[test]
fn no_secret_is_found_in_anything_that_can_be_read() {
    let (receiver, bodies) = receiver();
    let mut daemon = Daemon::start();
    let (mut canaries, destinations) = plant(&daemon, receiver);
    let subscription = daemon.create("/v1/subscriptions/*", &json!({"destinations": destinations}));
    let mut keys = BTreeMap::new();
    for role in ["read", "operate", "admin", "ingest"] {
        let made = daemon.create("/v1/keys", &json!({"role": role, "tenant": null, "name": role}));
        keys.insert(role, made["secret"].as_str().unwrap().to_owned());
    }
    canaries.insert("read key", keys["read"].clone());
    canaries.insert("operate key", keys["operate"].clone());
    canaries.insert("admin key", keys["admin"].clone());
    canaries.insert("ingest key", keys["ingest"].clone());

    let event = json!({"type": "card.charged", "data": {"pan": PAN, "note": PAYLOAD}}).to_string();
    let mut socket = UnixStream::connect(daemon.path("ingest.sock")).unwrap();
    // Also what is refused is not repeated to the log.
    write!(
        socket,
        "{event}\n{{\"type\":\"a\",\"data\":\"{PAN} {PAYLOAD}\n{{\"type\":\"a\",\"{PAYLOAD}\":\"{PAN}\"}}\n"
    )
    .unwrap();
    let mut lines = BufReader::new(socket).lines();
    assert!(lines.next().unwrap().unwrap().contains("\"ok\":true"));
    lines.take(2).for_each(|line| assert!(line.unwrap().contains("\"ok\":false")));
    assert!(daemon.ask("POST", "/v1/events", Some(&keys["ingest"]), &event).0.starts_with("HTTP/1.1 202 "));
    assert!(daemon.ask("GET", "/v1/status", Some("prk_wrong-canary"), "").0.starts_with("HTTP/1.1 401 "));
    let wrong = json!({"name": "d", "http_endpoint_url": "http://127.0.0.1:1/", "auth": {"type": "bearer", "token": "canary-refused\n"}});
    let refused = daemon.ask("POST", "/v1/destinations/webhook", None, &wrong.to_string());
    assert!(refused.0.starts_with("HTTP/1.1 400 ") && !refused.0.contains("canary-refused"), "{}", refused.0);
    canaries.insert("refused token", "canary-refused".to_owned());

    let asked = Stopwatch::start();
    let deliveries = loop {
        let deliveries = list(&daemon, "/v1/deliveries?limit=100", "deliveries");
        if deliveries.len() == 8 && deliveries.iter().all(|delivery| delivery["state"] != "pending") {
            break deliveries;
        }
        assert!(asked.elapsed() < PATIENCE, "{deliveries:#?}\n{}", daemon.log());
    };
    let state = |state: &str| deliveries.iter().filter(|delivery| delivery["state"] == state).count();
    assert_eq!((state("succeeded"), state("failed")), (4, 4), "{deliveries:#?}");

    let things = [
        ("/v1/destinations/webhook/{id}", destinations),
        ("/v1/subscriptions/*/{id}", vec![subscription["id"].as_str().unwrap().to_owned()]),
        ("/v1/subscriptions/*/{id}/destinations", vec![subscription["id"].as_str().unwrap().to_owned()]),
        ("/v1/events/{id}", ids(&list(&daemon, "/v1/events", "events"))),
        ("/v1/events/{id}/deliveries", ids(&list(&daemon, "/v1/events", "events"))),
        ("/v1/deliveries/{id}", ids(&deliveries)),
        ("/v1/signing-keys/{id}", ids(&list(&daemon, "/v1/signing-keys", "signing_keys"))),
        ("/v1/keys/{id}", ids(&list(&daemon, "/v1/keys", "keys"))),
    ];
    let mut seen = BTreeMap::new();
    for role in ["read", "operate", "admin"] {
        seen.insert(role, read_everything(&daemon, Some(&keys[role]), &things));
    }
    seen.insert("operator", read_everything(&daemon, None, &things));
    daemon.stop();
    seen.insert("log", daemon.log());

    // The control: what was read holds what the receivers said, so a secret among it would have been found.
    for (who, text) in &seen {
        assert_eq!(text.contains("x-echo-user-agent"), *who != "log", "{who}");
    }
    assert!(seen["log"].contains("attempt_failed"), "{}", seen["log"]);
    for (who, text) in &seen {
        for (name, canary) in &canaries {
            let json = Value::from(canary.as_str()).to_string();
            let forms = [canary.clone(), json[1..json.len() - 1].to_owned(), canary.replace('/', "\\/")];
            for form in forms {
                if let Some(place) = text.find(&form) {
                    panic!("{who} shows the {name}: …{}…", around(text, place));
                }
            }
        }
    }
    // A payload is for `operate` and above, in its event. A card number is masked for everybody, in payloads and in what a
    // receiver echoed; the receivers got it as the producer wrote it.
    let masked = "\"pan\":\"************5556\"";
    for who in ["operate", "admin", "operator"] {
        assert!(seen[who].contains(masked) && seen[who].contains(PAYLOAD), "{who} sees the payload, masked");
    }
    assert!(!seen["read"].contains(masked) && !seen["log"].contains(PAYLOAD));
    for (who, text) in &seen {
        for pan in [PAN, PAN_GROUPED] {
            if let Some(place) = text.find(pan) {
                panic!("{who} shows the card number: …{}…", around(text, place));
            }
        }
    }
    for delivery in &deliveries {
        let text = delivery.to_string();
        assert!(text.contains("************5556") && !text.contains(PAN) && !text.contains(PAN_GROUPED), "{text}");
    }
    let bodies: Vec<String> = bodies.try_iter().collect();
    assert!(bodies.len() >= 8 && bodies.iter().all(|body| body.contains(PAN)), "{bodies:?}");
    // On the disk all of it is sealed: the store shows neither a secret, nor a payload, nor what a receiver said.
    let file = std::fs::read(daemon.path("store.redb")).unwrap();
    let planted = canaries.iter().map(|(name, canary)| (*name, canary.as_str()));
    let said =
        [("payload", PAYLOAD), ("card number", PAN), ("card number", PAN_GROUPED), ("reply", "x-echo-user-agent")];
    for (name, canary) in planted.chain(said) {
        assert!(!holds(&file, canary.as_bytes()), "the store's file shows the {name}");
    }
    // The control: names of tables are not sealed. And the key that opens it all is in its own file only.
    assert!(holds(&file, b"data_keys"));
    let key = std::fs::read_to_string(daemon.path("store.redb.key")).unwrap();
    let raw: Vec<u8> = (0..64).step_by(2).map(|at| u8::from_str_radix(&key[at..at + 2], 16).unwrap()).collect();
    assert!(!holds(&file, key.trim().as_bytes()) && !holds(&file, &raw), "the store's file holds its master key");
    assert!(seen.values().all(|text| !text.contains(key.trim())), "the master key is shown");
}

fn holds(file: &[u8], part: &[u8]) -> bool {
    file.windows(part.len()).any(|bytes| bytes == part)
}

fn around(text: &str, place: usize) -> String {
    let start = text[..place].char_indices().rev().nth(80).map_or(0, |(place, _)| place);
    text[start..].chars().take(200).collect()
}
