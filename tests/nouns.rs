//! The nouns of the command line over a real daemon: what a person sees, what a script reads, and what is asked first.
//!
//! A transcript shows each command, what it says on standard error (behind `|`), and its exit code when that is not 0.
//! What differs between runs is replaced by its kind. After a wanted change, look at the difference and run the tests with
//! `INSTA_UPDATE=always`.

mod harness;

use std::fmt::Write as _;
use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::process::Stdio;
use std::thread::JoinHandle;

use assert_cmd::Command;
use assert_cmd::assert::Assert;
use assert_cmd::cargo::cargo_bin_cmd;
use harness::{Daemon, Home, Message, Reaction, Receiver, wait_for};
use serde_json::{Value, json};

/// A daemon, and the command line as its operator types it.
struct Desk {
    home: Home,
    daemon: Daemon,
    transcript: String,
}

impl Desk {
    fn new() -> Desk {
        let home = Home::new("[confirmation]\nmode = \"off\"\n");
        let daemon = home.start();
        Desk { home, daemon, transcript: String::new() }
    }

    /// One command, with nobody at a terminal.
    fn run(&self, arguments: &[&str]) -> Assert {
        self.run_with(arguments, "")
    }

    fn run_with(&self, arguments: &[&str], input: &str) -> Assert {
        let mut command = postrider(self.home.folder());
        command.env("POSTRIDER__ADMIN__SOCKET", self.home.folder().join("admin.sock"));
        command.env("POSTRIDER__INGEST__SOCKET", self.home.ingest_socket());
        command.args(arguments).write_stdin(input).assert()
    }

    /// One command that is written into the transcript; its standard output as it came.
    fn show(&mut self, arguments: &[&str]) -> String {
        let assert = self.run(arguments);
        let output = assert.get_output();
        let [out, err] = [&output.stdout, &output.stderr].map(|bytes| String::from_utf8(bytes.clone()).unwrap());
        let folder = self.home.folder().display().to_string();
        let mut text = format!("$ postrider {}\n{out}", arguments.join(" "));
        err.lines().for_each(|line| writeln!(text, "{}", format!("| {line}").trim_end()).unwrap());
        if output.status.code() != Some(0) {
            writeln!(text, "=> {}", output.status.code().unwrap()).unwrap();
        }
        for line in text.replace(&folder, "FOLDER").lines() {
            writeln!(self.transcript, "{}", without_chance(line)).unwrap();
        }
        self.transcript.push('\n');
        out
    }

    /// The answer of a command with `--json`.
    fn json(&self, arguments: &[&str]) -> Value {
        let assert = self.run(&[arguments, &["--json"]].concat()).code(0);
        serde_json::from_slice(&assert.get_output().stdout).unwrap()
    }

    /// A destination at `url`, paused when `paused` says so, with a subscription to everything; its id.
    fn destination(&self, url: &str, more: &[&str]) -> String {
        let create = ["destination", "create", "--name", "books", "--endpoint", url];
        let id = self.json(&[&create, more].concat())["id"].as_str().unwrap().to_owned();
        self.json(&["subscription", "create", "*", "--destination", &id]);
        id
    }

    /// The deliveries that `filter` finds.
    fn deliveries(&self, filter: &[&str]) -> Vec<Value> {
        let list = self.json(&[&["delivery", "list"], filter].concat());
        list["deliveries"].as_array().unwrap().clone()
    }
}

fn postrider(folder: &Path) -> Command {
    let mut command = cargo_bin_cmd!("postrider");
    command.env_clear().env("STATE_DIRECTORY", folder).env("RUNTIME_DIRECTORY", folder);
    command.env("CONFIGURATION_DIRECTORY", folder).current_dir(folder).timeout(harness::PATIENCE);
    command
}

/// A line with the kinds of what is drawn or measured in the place of the values, and columns two spaces apart.
fn without_chance(line: &str) -> String {
    let indent = line.len() - line.trim_start().len();
    let mut words: Vec<String> = Vec::new();
    for word in line.split(' ') {
        match (word, words.last_mut()) {
            // Of several spaces between words one stays as an empty word, the rest only told how wide a column was.
            ("", Some(last)) if last.is_empty() => {}
            ("ms" | "ms:", Some(number)) => {
                *number = "N".to_owned();
                words.push(word.to_owned());
            }
            // Base64 has slashes of its own.
            _ if word.starts_with("whsec_") => words.push("SECRET".to_owned()),
            _ => words.push(word.split_inclusive(['/', '(', ')', ',', '"']).map(kind_of).collect()),
        }
    }
    if line.starts_with("peer.") {
        words.pop();
        words.push("N".to_owned());
    }
    let text = words.join(" ");
    format!("{}{}", &line[..indent], text.trim())
}

/// A part of a word as it is, or the kind of thing that it names.
fn kind_of(part: &str) -> String {
    let core = part.trim_end_matches(['/', '(', ')', ',', '"', ':', ';']);
    let kind = if core.len() == 36 && core.matches('-').count() == 4 {
        "UUID"
    } else if core.starts_with("prk_") {
        "SECRET"
    } else if core.starts_with("evt_") {
        "EVENT"
    } else if core.starts_with("dlv_") {
        "DELIVERY"
    } else if core.len() == 24 && core.starts_with("20") && core.ends_with('Z') {
        "TIME"
    } else if core.starts_with("127.0.0.1:") {
        "ADDRESS"
    } else {
        return part.to_owned();
    };
    part.replace(core, kind)
}

/// An admin socket that answers one request, and tells its first line and its body.
fn answering(folder: &Path, body: &'static str) -> JoinHandle<(String, Value)> {
    let path = folder.join("admin.sock");
    // That of the call before is in the way.
    let _ = std::fs::remove_file(&path);
    let listener = UnixListener::bind(&path).unwrap();
    std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let message = Message::read(&mut BufReader::new(stream.try_clone().unwrap())).unwrap().unwrap();
        let length = body.len();
        write!(stream, "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n\r\n{body}")
            .unwrap();
        (message.start.clone(), serde_json::from_slice(&message.body).unwrap_or(Value::Null))
    })
}

/// What a command asks for, and what it makes of this answer.
fn asked(folder: &Path, arguments: &[&str], answer: &'static str) -> (String, Value, String) {
    let daemon = answering(folder, answer);
    let assert = postrider(folder).args(arguments).assert().code(0);
    let (start, body) = daemon.join().unwrap();
    let output = assert.get_output();
    let said = [&output.stdout, &output.stderr].map(|bytes| String::from_utf8(bytes.clone()).unwrap());
    (start.trim_end_matches(" HTTP/1.1").to_owned(), body, said.concat())
}

const UUID: &str = "9603F4B2-1874-42FE-A2BC-F7B45C45A9D6";

/// Every noun, with its verbs.
const NOUNS: [(&str, &[&str]); 10] = [
    (
        "destination",
        &["list", "show", "create", "update", "delete", "pause", "resume", "rotate-secret", "stats", "test", "confirm"],
    ),
    ("subscription", &["list", "show", "create", "update", "delete", "link", "unlink", "test"]),
    ("event-type", &["list", "show", "create", "update", "delete"]),
    ("event", &["list", "show", "deliveries", "history", "erase-payload"]),
    ("delivery", &["list", "show", "resend", "cancel"]),
    ("replay", &["create", "list", "show", "cancel"]),
    ("tenant", &["list", "show", "create", "update", "delete"]),
    ("key", &["list", "show", "create", "update", "delete"]),
    ("signing-key", &["list", "show", "create", "update", "rotate", "reveal", "delete"]),
    ("user", &["list", "show", "add", "update", "delete", "unlock", "reset-totp", "set-password"]),
];

/// What every verb's help repeats of its noun's.
const COMMON: &str = "Which daemon:";

#[test]
fn helps_name_every_option_and_an_example() {
    let folder = tempfile::tempdir().unwrap();
    let help = |arguments: &[&str]| {
        let assert = postrider(folder.path()).args(arguments).arg("--help").assert().code(0).stderr("");
        String::from_utf8(assert.get_output().stdout.clone()).unwrap()
    };
    let mut all = String::new();
    for (noun, verbs) in NOUNS {
        let text = help(&[noun]);
        writeln!(all, "$ postrider {noun} --help\n{text}").unwrap();
        for verb in verbs {
            assert!(text.contains(&format!("\n  {verb} ")), "{noun} {verb}");
            let text = help(&[noun, verb]);
            let (own, common) = text.split_once(COMMON).unwrap();
            let example = common.split_once("\nExample").unwrap().1;
            writeln!(all, "$ postrider {noun} {verb} --help\n{own}Example{example}").unwrap();
        }
    }
    writeln!(all, "$ postrider explain --help\n{}", help(&["explain"])).unwrap();
    insta::assert_snapshot!(all);
}

#[test]
fn destinations_and_subscriptions_are_made_changed_linked_and_deleted() {
    let mut desk = Desk::new();
    let url = "https://books.example/hooks";
    desk.show(&["destination", "list"]);
    desk.show(&["destination", "create", "--name", "books", "--endpoint", url, "--rate", "50/1s"]);
    let id = desk.json(&["destination", "list"])["webhook"][0]["id"].as_str().unwrap().to_owned();
    desk.show(&["destination", "list"]);
    desk.show(&["destination", "update", &id, "--timeout", "10s", "--header", "X-A: b", "--disabled"]);
    desk.show(&["destination", "update", &id]);
    desk.show(&["destination", "update", &id, "--timeout", "soon", "--delays", "1s,never"]);
    desk.show(&["destination", "pause", &id]);
    desk.show(&["subscription", "list"]);
    desk.show(&["subscription", "create", "transaction.*", "--name", "books"]);
    let subscription = desk.json(&["subscription", "list", "transaction.*"])["subscriptions"][0]["id"].clone();
    let subscription = subscription.as_str().unwrap();
    desk.show(&["subscription", "link", "transaction.*", subscription, &id]);
    desk.show(&["subscription", "update", "transaction.*", subscription, "--roll-up", "--name", "all books"]);
    desk.show(&["subscription", "list"]);
    desk.show(&["subscription", "unlink", "transaction.*", subscription, &id]);
    desk.show(&["subscription", "delete", "transaction.*", subscription, "--yes"]);
    desk.show(&["destination", "delete", &id, "--yes"]);
    desk.show(&["destination", "show", &id]);
    desk.show(&["destination", "show", "books"]);
    insta::assert_snapshot!(desk.transcript);
}

/// S4.10: the catalogue of events is listed, with what each means; what is added is changed and deleted, what is built in is not.
#[test]
fn event_types_are_listed_added_changed_and_deleted() {
    let mut desk = Desk::new();
    desk.show(&["event-type", "list", "--limit", "1000"]);
    desk.show(&["event-type", "show", "cardupdate.submitted"]);
    let alias = ["--alias", "refund.done"];
    let words = ["--description", "A refund was settled"];
    desk.show(&[&["event-type", "create", "refund.settled"][..], &words, &alias].concat());
    desk.show(&["event-type", "create", "refund.done"]);
    std::fs::write(desk.home.folder().join("sample.json"), r#"{"refund": "R-1"}"#).unwrap();
    std::fs::write(desk.home.folder().join("wrong.json"), "{").unwrap();
    let sample = |name: &str| desk.home.folder().join(name).display().to_string();
    let (sample, wrong) = (sample("sample.json"), sample("wrong.json"));
    desk.show(&["event-type", "update", "refund.settled", "--sample", &sample]);
    desk.show(&["event-type", "update", "refund.settled", "--sample", &wrong]);
    desk.show(&["event-type", "update", "refund.settled"]);
    desk.show(&["event-type", "update", "transaction", "--description", "Something else"]);
    desk.show(&["event-type", "delete", "refund.settled", "--dry-run"]);
    desk.show(&["event-type", "delete", "refund.settled", "--yes", "--json"]);
    desk.show(&["event-type", "show", "refund.settled"]);
    desk.show(&["event-type", "delete", "ach.failed", "--yes"]);
    desk.show(&["event-type", "delete", "ach.failed", "--dry-run"]);
    insta::assert_snapshot!(desk.transcript);
}

#[test]
fn tenants_and_keys_are_made_changed_and_deleted() {
    let mut desk = Desk::new();
    desk.show(&["tenant", "create", "shop", "--name", "A shop"]);
    desk.show(&["tenant", "create", "shop"]);
    desk.show(&["tenant", "update", "shop", "--name", "The shop", "--parent", "default"]);
    desk.show(&["tenant", "list"]);
    desk.show(&["key", "create", "--role", "read", "--tenant", "shop", "--name", "till"]);
    let key = desk.json(&["key", "list"])["keys"][0]["id"].as_str().unwrap().to_owned();
    desk.show(&["key", "update", &key, "--role", "operate"]);
    desk.show(&["key", "list"]);
    desk.show(&["tenant", "delete", "shop", "--yes"]);
    desk.show(&["tenant", "delete", "shop", "--dry-run"]);
    desk.show(&["key", "delete", &key, "--yes"]);
    desk.show(&["tenant", "delete", "shop", "--yes"]);
    desk.show(&["destination", "list", "--tenant", "shop"]);
    insta::assert_snapshot!(desk.transcript.replace(&key, "KEY"));
}

/// S1.28: signing keys are made, named by destinations, rotated, shown again and deleted.
#[test]
fn signing_keys_are_made_rotated_revealed_and_deleted() {
    let mut desk = Desk::new();
    desk.show(&["signing-key", "create", "--kind", "signature"]);
    desk.show(&["signing-key", "create", "--kind", "source"]);
    desk.show(&["signing-key", "create", "--kind", "source", "--name", "till"]);
    let keys = desk.json(&["signing-key", "list"]);
    let by_kind = |kind: &str| {
        let found = keys["signing_keys"].as_array().unwrap().iter().find(|key| key["kind"] == kind);
        found.unwrap()["id"].as_str().unwrap().to_owned()
    };
    let (own, source) = (by_kind("signature"), by_kind("source"));
    let signed = ["--signature", "x-signature", "--signing-key", &source];
    let id = desk.destination("https://books.example/hooks", &signed);
    desk.show(&["destination", "update", &id, "--signature", "x-signature", "--signing-key", "signature"]);
    desk.show(&["signing-key", "show", &own]);
    desk.show(&["signing-key", "delete", &own, "--dry-run"]);
    desk.show(&["signing-key", "delete", &own, "--yes"]);
    desk.show(&["signing-key", "update", &source, "--name", "till 2"]);
    desk.show(&["signing-key", "rotate", &own, "--overlap", "1h"]);
    desk.show(&["signing-key", "rotate", &own]);
    desk.show(&["signing-key", "reveal", &own]);
    desk.show(&["signing-key", "delete", &source]);
    desk.show(&["signing-key", "delete", &source, "--dry-run"]);
    desk.show(&["signing-key", "delete", &source, "--yes"]);
    desk.show(&["signing-key", "get", &source]);
    insta::assert_snapshot!(desk.transcript.replace(&own, "OWN").replace(&source, "SOURCE"));
}

#[test]
fn people_are_added_changed_and_removed() {
    let mut desk = Desk::new();
    let made = desk.json(&["user", "add", "Anna@Example.com", "--role", "admin", "--all-tenants"]);
    let (id, password) = (made["id"].as_str().unwrap(), made["password"].as_str().unwrap());
    assert!(password.len() > 20 && made["one_time_password"] == true, "{made}");
    desk.show(&["user", "list"]);
    desk.show(&["user", "show", "anna@example.com"]);
    desk.show(&["user", "add", "anna@example.com", "--role", "read", "--all-tenants"]);
    desk.show(&["user", "add", "ben", "--role", "ingest", "--all-tenants"]);
    desk.show(&["user", "update", "anna@example.com", "--role", "operate"]);
    desk.show(&["user", "unlock", id]);
    desk.show(&["user", "reset-totp", id]);
    let file = desk.home.folder().join("password");
    std::fs::write(&file, "correct horse battery staple\n").unwrap();
    desk.show(&["user", "set-password", "anna@example.com", "--password-file", file.to_str().unwrap()]);
    let given = ["user", "set-password", "anna@example.com", "--password-file", "-"];
    desk.run_with(&given, "another horse battery staple\n").code(0);
    let refused = desk.run_with(&given, "hunter2\n").code(1);
    assert!(!String::from_utf8_lossy(&refused.get_output().stderr).contains("hunter2"));
    desk.run(&["user", "set-password", "anna@example.com", "--ask-password"]).code(2);
    let again = desk.json(&["user", "set-password", "anna@example.com"]);
    assert!(again["password"].is_string() && again["password"] != made["password"], "{again}");
    desk.show(&["user", "show", "nobody"]);
    desk.show(&["user", "delete", "anna@example.com", "--yes"]);
    insta::assert_snapshot!(desk.transcript.replace(id, "USER"));
}

#[test]
fn an_event_is_followed_from_its_producers_id_to_its_last_attempt() {
    let receiver = Receiver::start(|_| Reaction::Answer(503));
    let mut desk = Desk::new();
    let id = desk.destination(&receiver.url("/hook"), &["--delays", "1h", "--attempts-max", "2"]);
    desk.run(&["emit", "a.b", "--data", r#"{"amount": 1.10}"#, "--id", "inv-42"]).code(0);
    let tried = |delivery: &Value| delivery["attempts"].as_array().is_some_and(|tries| !tries.is_empty());
    let delivery = wait_for("the first attempt", || desk.deliveries(&[]).into_iter().find(tried));
    let (event, delivery) = (delivery["event_id"].as_str().unwrap(), delivery["id"].as_str().unwrap());
    desk.show(&["event", "list", "--producer-id", "inv-42"]);
    desk.show(&["event", "show", event]);
    desk.show(&["event", "deliveries", event]);
    desk.show(&["event", "history", "--destination", &id, "--type", "queued", "--from", "2020-01-31"]);
    desk.show(&["event", "history", "--to", "2020-01-31"]);
    desk.show(&["event", "history", "--from", "yesterday"]);
    desk.show(&["delivery", "show", delivery]);
    desk.json(&["destination", "pause", &id]);
    desk.show(&["event", "list", "--producer-id", "inv-43"]);
    desk.show(&["delivery", "list", "--state", "held"]);
    desk.show(&["explain", delivery]);
    desk.show(&["explain", event]);
    desk.show(&["explain", &id]);
    desk.show(&["delivery", "cancel", delivery, "--dry-run"]);
    desk.show(&["delivery", "cancel", delivery, "--yes"]);
    desk.show(&["delivery", "cancel", delivery, "--yes"]);
    desk.show(&["delivery", "cancel", delivery, "--dry-run"]);
    desk.show(&["delivery", "resend", delivery, "--dry-run"]);
    desk.show(&["explain", delivery]);
    desk.show(&["event", "erase-payload", event, "--yes"]);
    desk.show(&["delivery", "resend", delivery, "--dry-run"]);
    desk.show(&["delivery", "resend", delivery]);
    desk.show(&["explain", delivery]);
    desk.show(&["destination", "delete", &id, "--yes"]);
    desk.show(&["delivery", "resend", delivery, "--dry-run"]);
    desk.show(&["explain", delivery]);
    insta::assert_snapshot!(desk.transcript);
}

/// What an event carries is its producer's: legal JSON that no value of ours holds is in nobody's way. And nobody is shown it, nor
/// noted as such, who asks what became of it.
#[test]
fn an_event_is_explained_whatever_it_carries() {
    let receiver = Receiver::start(|_| Reaction::Answer(200));
    let desk = Desk::new();
    desk.destination(&receiver.url("/hook"), &[]);
    let deep = ["[".repeat(200), "]".repeat(200)].concat();
    for data in [r#"{"x":1e999}"#, r#"{"\ud800":"\udfff"}"#, &deep] {
        desk.run(&["emit", "a.b", "--data", data]).code(0);
    }
    let ended =
        || Some(desk.deliveries(&[])).filter(|all| all.len() == 3 && all.iter().all(|it| it["state"] == "succeeded"));
    for delivery in wait_for("the deliveries", ended) {
        let (event, delivery) = (delivery["event_id"].as_str().unwrap(), delivery["id"].as_str().unwrap());
        desk.run(&["explain", event]).code(0);
        desk.run(&["explain", delivery]).code(0);
        desk.run(&["delivery", "resend", delivery, "--dry-run"]).code(0);
        desk.run(&["event", "erase-payload", event, "--dry-run"]).code(0);
    }
    let noted = || desk.json(&["audit", "list", "--action", "event.read_payload"])["records"].as_array().unwrap().len();
    assert_eq!(noted(), 0, "nobody was shown a payload");
    for (event, data) in desk.json(&["event", "list"])["events"].as_array().unwrap().iter().zip([
        &deep,
        r#"{"\ud800":"\udfff"}"#,
        r#"{"x":1e999}"#,
    ]) {
        let shown = desk.run(&["event", "show", event["id"].as_str().unwrap()]).code(0);
        let shown = String::from_utf8(shown.get_output().stdout.clone()).unwrap();
        assert!(shown.ends_with(&format!("\n\n{data}\n")), "{shown}");
    }
    assert_eq!(noted(), 3);
}

/// What a script reads is the API's own answer, to the last digit.
#[test]
fn json_is_the_answer_of_the_api() {
    let desk = Desk::new();
    let id = desk.destination("https://books.example/hooks", &[]);
    let admin = desk.home.admin();
    let shown = desk.json(&["destination", "show", &id]);
    assert_eq!(shown, admin.must("GET", &format!("/v1/destinations/webhook/{id}"), None));
    desk.run(&["emit", "a.b", "--data", r#"{"amount":1.10,"big":12345678901234567890123}"#]).code(0);
    let data = r#""data":{"amount":1.10,"big":12345678901234567890123}"#;
    // Payloads are listed where they are asked for.
    for (asked, shown) in [(&[][..], false), (&["--payload"], true)] {
        let list = desk.run(&[&["event", "list", "--json", "--limit", "1"], asked].concat()).code(0).stderr("");
        let list = String::from_utf8(list.get_output().stdout.clone()).unwrap();
        assert_eq!((list.lines().count(), list.contains(data)), (1, shown), "{list}");
    }
    let refused = desk.run(&["event", "list", "--payload"]).code(2).stdout("");
    assert!(String::from_utf8_lossy(&refused.get_output().stderr).contains("event list --payload --json"));
    // Each type's answer stands on a line of its own.
    let all = desk.run(&["subscription", "list", "--json"]).code(0);
    let lines = String::from_utf8(all.get_output().stdout.clone()).unwrap();
    let lists: Vec<Value> = lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert!(lists.iter().any(|list| list["subscriptions"][0]["destinations"] == json!([id])), "{lines}");
    let failed = desk.run(&["tenant", "show", "nobody", "--json"]).code(1).stdout("");
    let failure: Value = serde_json::from_slice(&failed.get_output().stderr).unwrap();
    assert_eq!(failure["exit_code"], 1, "{failure}");
    // What was read can be sent back as it is.
    let read = desk.run(&["destination", "show", &id, "--json"]).get_output().stdout.clone();
    desk.run_with(&["destination", "update", &id, "--from-json", "-"], std::str::from_utf8(&read).unwrap()).code(0);
    desk.run_with(&["destination", "update", &id, "--from-json", "-"], "[]").code(2);
}

/// The pages of a list follow each other by the cursor that the page before named.
#[test]
fn a_list_goes_on_where_its_page_ended() {
    let desk = Desk::new();
    for name in ["a", "b", "c"] {
        desk.run(&["destination", "create", "--name", name, "--endpoint", "https://a.example/"]).code(0);
    }
    let first = desk.run(&["destination", "list", "--limit", "2"]).code(0);
    let talk = String::from_utf8(first.get_output().stderr.clone()).unwrap();
    let cursor = talk.trim().rsplit(' ').next().unwrap();
    let rest = desk.json(&["destination", "list", "--after", cursor]);
    assert_eq!(
        (&rest["webhook"][0]["name"], &rest["webhook"][1], &rest["next"]),
        (&"c".into(), &Value::Null, &Value::Null)
    );
}

/// Without a terminal and without --yes nothing is destroyed; a dry run destroys nothing either.
#[test]
fn what_destroys_asks_first() {
    let desk = Desk::new();
    let id = desk.destination("https://books.example/hooks", &[]);
    desk.json(&["destination", "pause", &id]);
    desk.run(&["emit", "a.b"]).code(0);
    desk.run(&["emit", "a.b"]).code(0);
    let held = desk.deliveries(&[]);
    let [one, two] = [0, 1].map(|place: usize| held[place]["id"].as_str().unwrap());
    let event = held[0]["event_id"].as_str().unwrap();
    desk.json(&["tenant", "create", "shop"]);
    let key = desk.json(&["key", "create", "--role", "read", "--all-tenants"])["id"].as_str().unwrap().to_owned();
    let replay = desk.json(&["replay", "create", "--yes"])["id"].as_str().unwrap().to_owned();
    wait_for("the replay's end", || (desk.json(&["replay", "show", &replay])["state"] == "done").then_some(()));
    let subscription = desk.json(&["subscription", "list", "*"])["subscriptions"][0]["id"].as_str().unwrap().to_owned();
    let destroying: [&[&str]; 10] = [
        &["event", "erase-payload", event],
        &["delivery", "cancel", one],
        &["delivery", "cancel", one, two],
        &["delivery", "resend", one, two],
        &["subscription", "delete", "*", &subscription],
        &["destination", "delete", &id],
        &["tenant", "delete", "shop"],
        &["key", "delete", &key],
        &["replay", "create", "--state", "cancelled"],
        &["replay", "cancel", &replay],
    ];
    let all = || {
        let nouns = [&["destination", "list"][..], &["tenant", "list"], &["key", "list"], &["event", "list"]];
        (nouns.map(|noun| desk.json(noun)), desk.deliveries(&[]), desk.json(&["subscription", "list", "*"]))
    };
    let before = all();
    for arguments in destroying {
        let refused = desk.run(arguments).code(2).stdout("");
        let talk = String::from_utf8(refused.get_output().stderr.clone()).unwrap();
        assert!(talk.contains("add --yes"), "{arguments:?}: {talk}");
        // What is held cannot be resent, nor a replay stopped that has ended, and the dry run says so.
        let code = if arguments[1] == "resend" || arguments[..2] == ["replay", "cancel"] { 1 } else { 0 };
        let dry = desk.run(&[arguments, &["--dry-run"]].concat()).code(code);
        assert!(!dry.get_output().stdout.is_empty(), "{arguments:?}");
        assert_eq!(all(), before, "{arguments:?}");
    }
    for arguments in
        [destroying[2], destroying[3], destroying[0], destroying[4], destroying[5], destroying[6], destroying[7]]
    {
        desk.run(&[arguments, &["--yes"]].concat()).code(0);
    }
    let (lists, _, subscriptions) = all();
    assert_eq!(lists[0]["webhook"], json!([]));
    assert_eq!(lists[1]["tenants"].as_array().unwrap().len(), 1);
    assert_eq!((&lists[2]["keys"], &subscriptions["subscriptions"]), (&json!([]), &json!([])));
    assert!(lists[3]["events"].as_array().unwrap().iter().any(|event| event["erased"] == true), "{lists:?}");
    let has_ended = |delivery: &Value| delivery["state"] == "cancelled" || delivery["state"] == "failed";
    wait_for("the deliveries to end with their destination", || {
        desk.deliveries(&[]).iter().all(has_ended).then_some(())
    });
}

/// A dry run that promises is kept: it looks at all that the daemon looks at, and names the first thing in the way.
#[test]
fn a_dry_run_of_what_would_be_refused_fails_with_the_cause() {
    let desk = Desk::new();
    let refused = |tenant: &str, cause: &str| {
        let assert = desk.run(&["tenant", "delete", tenant, "--dry-run"]).code(1);
        let talk = String::from_utf8(assert.get_output().stderr.clone()).unwrap();
        assert!(talk.contains(cause), "{talk}");
        desk.run(&["tenant", "delete", tenant, "--yes"]).code(1);
    };
    for id in ["shop", "branch"] {
        desk.json(&["tenant", "create", id]);
    }
    refused("default", "it is the default tenant");
    desk.json(&["tenant", "update", "branch", "--parent", "shop"]);
    refused("shop", "the tenant branch is below it");
    desk.json(&["key", "create", "--role", "read", "--tenant", "branch"]);
    refused("branch", "is bound to it");
    desk.json(&["subscription", "create", "a.b", "--tenant", "branch"]);
    refused("branch", "it owns the subscription");
    let url = "https://books.example/hooks";
    desk.json(&["destination", "create", "--name", "a", "--endpoint", url, "--tenant", "branch"]);
    refused("branch", "it owns the destination");
    desk.run(&["tenant", "delete", "nobody", "--dry-run"]).code(1).stdout("");
}

/// What was shown of one destination makes another: what the daemon gives itself is left out, and that is said.
#[test]
fn what_was_shown_makes_a_copy() {
    let desk = Desk::new();
    let create = ["--rate", "50/1s", "--delays", "1s,2s", "--timeout", "5s"];
    let id = desk.destination("https://books.example/hooks", &create);
    let shown = desk.run(&["destination", "show", &id, "--json"]).code(0).get_output().stdout.clone();
    std::fs::write(desk.home.folder().join("books.json"), &shown).unwrap();
    let copy = ["destination", "create", "--from-json", "books.json", "--name", "copy"];
    let made = desk.run(&copy).code(0);
    let talk = String::from_utf8(made.get_output().stderr.clone()).unwrap();
    assert!(talk.contains("not taken from it: id, tenant, created, lane, confirmed, paused\n"), "{talk}");
    let list = desk.json(&["destination", "list"]);
    let [first, second] = [0, 1].map(|place| &list["webhook"][place]);
    assert_eq!((&second["name"], &second["rate"]), (&"copy".into(), &first["rate"]));
    assert_ne!(first["id"], second["id"]);
    assert_eq!((&first["retry"], &first["timeout"]), (&second["retry"], &second["timeout"]));
}

/// One that has to confirm itself first is not offered a subscription, and a test that reaches nobody says whom it missed.
#[test]
fn what_passes_a_destination_by_is_said() {
    let desk = Desk::new();
    let create = ["destination", "create", "--name", "a", "--endpoint", "https://a.example/", "--confirmed=false"];
    let made = desk.run(&create).code(0);
    let talk = String::from_utf8(made.get_output().stderr.clone()).unwrap();
    let id = desk.json(&["destination", "list"])["webhook"][0]["id"].as_str().unwrap().to_owned();
    assert!(talk.contains(&format!("next: postrider explain {id} ")), "{talk}");
    let filter = r#"{"all": [{"pointer": "/amount", "op": "exists", "value": true}]}"#;
    std::fs::write(desk.home.folder().join("filter.json"), filter).unwrap();
    let subscribe = ["subscription", "create", "a.b", "--destination", &id, "--filter-from", "filter.json"];
    let subscription = desk.json(&subscribe);
    assert_eq!(subscription["filter"]["all"][0]["pointer"], "/amount");
    let subscription = subscription["id"].as_str().unwrap();
    let test = desk.run(&["subscription", "test", "a.b", subscription]).code(0);
    let talk = String::from_utf8(test.get_output().stderr.clone()).unwrap();
    assert!(talk.contains(&format!("not sent to {id}, which is ")), "{talk}");
    desk.run_with(&["subscription", "update", "a.b", subscription, "--filter-from", "-"], "[]").code(2);
}

/// Issue item "bulk replay" from the command line: counted, begun, shown, and done by the daemon.
#[test]
fn what_failed_is_sent_again_as_one_job() {
    let answers = std::sync::atomic::AtomicU16::new(0);
    let receiver = Receiver::start(move |_| {
        let number = answers.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        Reaction::Answer(if number < 3 { 503 } else { 200 })
    });
    let desk = Desk::new();
    let id = desk.destination(&receiver.url("/hook"), &["--attempts-max", "1"]);
    for _ in 0..3 {
        desk.run(&["emit", "a.b"]).code(0);
    }
    let in_state = |state: &str| desk.deliveries(&["--state", state]).len();
    wait_for("three failures", || (in_state("failed") == 3).then_some(()));
    let create = ["replay", "create", "--destination", &id, "--type", "a.*", "--rate", "50/1s"];
    let counted = desk.json(&[&create[..], &["--dry-run"]].concat());
    assert_eq!((&counted["matched"], &counted["matched_at_least"]), (&json!(3), &json!(false)));
    let begun = desk.json(&[&create[..], &["--yes"]].concat());
    assert_eq!((&begun["id"], &begun["matched"], &begun["rate"]["events"]), (&json!("rpl_1"), &json!(3), &json!(50)));
    let shown = || desk.json(&["replay", "show", "rpl_1"]);
    wait_for("the job's end", || (shown()["state"] == "done").then_some(()));
    wait_for("three successes", || (in_state("succeeded") == 3).then_some(()));
    let shown = shown();
    assert_eq!((&shown["done"], &shown["matched"], &shown["skipped"]), (&json!(3), &json!(3), &json!(0)));
    let triggers = desk.deliveries(&[]);
    assert!(triggers.iter().all(|delivery| delivery["attempts"][1]["trigger"] == "replay"), "{triggers:?}");
    assert_eq!(desk.json(&["replay", "list"])["replays"][0], shown);
    // A dry run promises nothing that the daemon would refuse.
    for (how, shows_it) in [("--yes", false), ("--dry-run", true)] {
        let ended = desk.run(&["replay", "cancel", "rpl_1", how]).code(1);
        let [said, talk] = [&ended.get_output().stdout, &ended.get_output().stderr];
        let [said, talk] = [said, talk].map(|bytes| String::from_utf8(bytes.clone()).unwrap());
        assert!(talk.contains("the replay has ended: it is done"), "{how}: {talk}");
        assert_eq!(said.contains("rpl_1"), shows_it, "{how}: {said}");
    }
}

/// A secret comes in by a file only, and goes out once, with a remark that also those see who read JSON.
#[test]
fn a_secret_comes_by_a_file_and_is_shown_once() {
    let desk = Desk::new();
    let folder = desk.home.folder();
    std::fs::write(folder.join("secret"), "whd-test-key-0001\n").unwrap();
    std::fs::write(folder.join("password"), "open sesame\n").unwrap();
    std::fs::write(folder.join("headers"), "X-Api-Key: canary-header\n\nX-B: c\n").unwrap();
    let create = ["destination", "create", "--name", "a", "--endpoint", "https://a.example/", "--json"];
    let generated = desk.run(&create).code(0).stderr("the secret is shown this once: put it away now\n");
    let generated: Value = serde_json::from_slice(&generated.get_output().stdout).unwrap();
    assert!(generated["signature"][0]["secret"].as_str().unwrap().starts_with("whsec_"), "{generated}");
    let given = ["--signature", "x-signature", "--secret-file", "secret", "--header-file", "headers"];
    let auth = ["--auth-basic-user", "ali", "--password-file", "password"];
    let made = desk.run(&[&create[..], &given, &auth].concat()).code(0).stderr("");
    let text = String::from_utf8(made.get_output().stdout.clone()).unwrap();
    for secret in ["whd-test-key-0001", "open sesame", "canary-header"] {
        assert!(!text.contains(secret), "{text}");
    }
    let made: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(made["auth"], json!({"type": "basic", "username": "ali"}));
    assert_eq!(made["headers"], json!({"X-Api-Key": "***", "X-B": "***"}));
    assert_eq!(made["signature"]["preset"], "x-signature");
    let id = made["id"].as_str().unwrap();
    for (option, auth) in [("--auth-bearer-file", "bearer"), ("--auth-shared-secret-file", "shared_secret")] {
        assert_eq!(desk.json(&["destination", "update", id, option, "secret"])["auth"]["type"], auth);
    }
    assert_eq!(desk.json(&["destination", "update", id, "--auth-none"])["auth"]["type"], "none");
    for wrong in [&["--secret-file", "secret"][..], &["--auth-basic-user", "ali"], &["--signature", "nonesuch"]] {
        desk.run(&[&["destination", "update", id], wrong].concat()).code(2).stdout("");
    }
    std::fs::write(folder.join("secret"), "\n").unwrap();
    desk.run(&["destination", "update", id, "--auth-bearer-file", "secret"]).code(2).stdout("");
    desk.run(&["destination", "update", id, "--auth-bearer-file", "absent"]).code(2).stdout("");
}

#[test]
fn a_secret_is_rotated_with_an_overlap_and_shown_once() {
    let folder = tempfile::tempdir().unwrap();
    let answer = r#"{"secret":"whsec_new","previous_expires_at":"2026-02-01T00:00:00.000Z"}"#;
    let path = format!("POST /v1/destinations/webhook/{UUID}/secret/rotate");
    let (start, body, said) = asked(folder.path(), &["destination", "rotate-secret", UUID], answer);
    assert_eq!((start, body), (path.clone(), json!({})));
    insta::assert_snapshot!(said, @r"
    previous_expires_at  2026-02-01T00:00:00.000Z
    secret               whsec_new
    the secret is shown this once: put it away now
    next: give the receiver the new secret before the one before it ends
    ");
    std::fs::write(folder.path().join("secret"), "whsec_mine\n").unwrap();
    let given = ["destination", "rotate-secret", UUID, "--overlap", "1h", "--secret-file", "secret", "--json"];
    let (start, body, said) = asked(folder.path(), &[&given[..], &["--signature", "x-signature"]].concat(), answer);
    assert_eq!((start, said), (path, format!("{answer}\n")));
    assert_eq!(body, json!({"overlap": "1h", "secret": "whsec_mine", "signature": "x-signature"}));
}

#[test]
fn stats_are_a_card_and_a_table_of_spans() {
    let folder = tempfile::tempdir().unwrap();
    let answer = r#"{"destination_id":"9603F4B2-1874-42FE-A2BC-F7B45C45A9D6","lane":{"state":"open","until":null},
        "deliveries":{"accepted":3,"pending":1},"last_success_at":null,"attempts":[
        {"within":"1h","attempts":4,"succeeded":1,"failed":3,"unknown":0,"reasons":{"status":2,"dns":1},
         "duration_ms":{"p50":12.4,"p99":80.0}},
        {"within":"24h","attempts":0,"succeeded":0,"failed":0,"unknown":0,"reasons":{},
         "duration_ms":{"p50":null,"p99":null}}]}"#;
    let (start, _, said) = asked(folder.path(), &["destination", "stats", UUID], answer);
    assert_eq!(start, format!("GET /v1/destinations/webhook/{UUID}/stats"));
    insta::assert_snapshot!(said, @r"
    destination_id       9603F4B2-1874-42FE-A2BC-F7B45C45A9D6
    lane.state           open
    deliveries.accepted  3
    deliveries.pending   1

    WITHIN  ATTEMPTS  SUCCEEDED  FAILED  UNKNOWN  MEDIAN  99 %   BECAUSE
    1h      4         1          3       0        12 ms   80 ms  1 dns, 2 status
    24h     0         0          0       0        -       -      -
    ");
}

#[test]
fn a_test_is_sent_and_a_confirmation_asked_for() {
    let folder = tempfile::tempdir().unwrap();
    let sent = r#"{"id":"evt_1","type":"a.b","deliveries":1}"#;
    let (start, body, said) = asked(folder.path(), &["destination", "test", UUID, "--type", "a.b"], sent);
    assert_eq!(start, format!("POST /v1/destinations/webhook/{UUID}/test"));
    assert_eq!(body, json!({"type": "a.b"}));
    assert!(said.ends_with("next: postrider explain evt_1\n"), "{said}");
    let (start, body, said) = asked(folder.path(), &["subscription", "test", "a.*", UUID, "--json"], sent);
    assert_eq!((start, body), (format!("POST /v1/subscriptions/a.*/{UUID}/test"), Value::Null));
    assert_eq!(said, format!("{sent}\n"));
    let (start, body, said) = asked(folder.path(), &["destination", "confirm", UUID], r#"{"status":"success"}"#);
    assert_eq!((start, body), (format!("POST /v1/destinations/webhook/{UUID}/confirm"), Value::Null));
    assert_eq!(said, format!("status  success\nnext: postrider explain {UUID}\n"));
}

/// A stop ends a stream at once; whoever watches comes back when the daemon does, and is told of what happens then.
#[test]
fn a_watcher_outlives_a_restart() {
    let receiver = Receiver::start(|_| Reaction::Answer(200));
    let mut desk = Desk::new();
    desk.destination(&receiver.url("/"), &[]);
    let mut child = std::process::Command::new(assert_cmd::cargo::cargo_bin("postrider"))
        .args(["tail", "--count", "2"])
        .env_clear()
        .env("POSTRIDER__ADMIN__SOCKET", desk.home.folder().join("admin.sock"))
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut attempts = BufReader::new(child.stdout.take().unwrap()).lines().map(Result::unwrap);
    let mut remarks = BufReader::new(child.stderr.take().unwrap()).lines().map(Result::unwrap);
    assert_eq!(remarks.next().unwrap(), "watching; Ctrl-C ends");
    desk.run(&["emit", "a.b", "--data", "1"]).code(0);
    let first = attempts.next().unwrap();
    assert!(first.contains("  succeeded  200      a.b  books  attempt 1, "), "{first}");

    let Desk { home, daemon, .. } = desk;
    assert!(daemon.stop().success());
    assert_eq!(remarks.next().unwrap(), "the daemon is gone (it ended the stream); waiting for it");
    desk = Desk { daemon: home.start(), home, transcript: String::new() };
    assert!(remarks.next().unwrap().starts_with("watching again; "));
    desk.run(&["emit", "a.c", "--data", "1"]).code(0);
    let second = attempts.next().unwrap();
    assert!(second.contains("  succeeded  200      a.c  books  attempt 1, "), "{second}");
    assert!(child.wait().unwrap().success());
    assert_eq!((attempts.next(), remarks.next()), (None, None));
}
