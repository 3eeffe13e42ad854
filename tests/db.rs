//! `postrider db` on the files of a real daemon, and what a start says about a master key that is missing or wrong.

mod harness;

use std::fs::{self, Permissions};
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::time::Duration;

use assert_cmd::cargo::cargo_bin_cmd;
use harness::{Home, PATIENCE};
use serde_json::{Value, json};

/// Runs `postrider` on a home's configuration: exit code, standard output, standard error.
fn run(home: &Home, arguments: &[&str]) -> (i32, String, String) {
    let mut command = cargo_bin_cmd!("postrider");
    command.env_clear().timeout(Duration::from_secs(60)).args(arguments);
    command.arg("--config").arg(home.folder().join("config.toml"));
    let output = command.output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (output.status.code().unwrap(), text(output.stdout), text(output.stderr))
}

fn store(home: &Home) -> PathBuf {
    home.folder().join("postrider.redb")
}

fn key(home: &Home) -> PathBuf {
    home.folder().join("postrider.redb.key")
}

/// Lets a daemon take so many events for a destination that is paused, and stop.
fn live(home: &Home, events: usize) {
    let daemon = home.start();
    let admin = home.admin();
    let wanted = json!({ "name": "d", "http_endpoint_url": "http://127.0.0.1:40000/", "confirmed": true });
    let id = admin.must("POST", "/v1/destinations/webhook", Some(&wanted))["id"].as_str().unwrap().to_owned();
    admin.must("POST", &format!("/v1/destinations/webhook/{id}/pause"), None);
    admin.must("POST", "/v1/subscriptions/*", Some(&json!({ "destinations": [id] })));
    let mut socket = UnixStream::connect(home.ingest_socket()).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut answers = BufReader::new(socket.try_clone().unwrap()).lines();
    for n in 0..events {
        writeln!(socket, "{}", json!({ "type": "order.paid", "data": { "n": n, "pad": "x".repeat(500) } })).unwrap();
        assert!(answers.next().unwrap().unwrap().contains("\"ok\":true"));
    }
    assert_eq!(daemon.stop().code(), Some(0));
}

#[test]
fn a_stopped_store_is_checked_counted_and_made_smaller() {
    let home = Home::new("");
    let (code, _, said) = run(&home, &["db", "check"]);
    assert!(code == 78 && said.contains("there is no store") && said.contains("--config"), "{code} {said}");
    live(&home, 20);

    let (code, told, said) = run(&home, &["db", "check"]);
    assert_eq!((code, said.as_str()), (0, ""), "{told}");
    assert!(told.lines().count() == 1 && told.ends_with("records, all is well\n"), "{told}");
    let (code, told, _) = run(&home, &["db", "check", "--json"]);
    let told: Value = serde_json::from_str(&told).unwrap();
    assert_eq!((code, &told["ok"], &told["findings"]), (0, &json!(true), &json!(0)));

    let (code, told, _) = run(&home, &["db", "stat", "--json"]);
    let stat: Value = serde_json::from_str(&told).unwrap();
    assert_eq!(code, 0);
    let rows = |table: &str| {
        stat["tables"].as_array().unwrap().iter().find(|it| it["table"] == table).unwrap()["rows"].clone()
    };
    assert_eq!((rows("events"), rows("due"), &stat["next_seq"]), (json!(20), json!(20), &json!(21)));
    let (code, told, _) = run(&home, &["db", "stat"]);
    assert!(code == 0 && told.contains("events") && told.contains("bytes on disk"), "{told}");

    let length = fs::metadata(store(&home)).unwrap().len();
    let (code, told, said) = run(&home, &["db", "compact"]);
    assert!(code == 0 && told.starts_with("before  ") && told.contains("data keys: 0 dropped"), "{told}{said}");
    assert!(fs::metadata(store(&home)).unwrap().len() < length);
    assert_eq!(run(&home, &["db", "check"]).0, 0);
    // The daemon goes on with what was made smaller.
    let daemon = home.start();
    assert_eq!(home.admin().must("GET", "/v1/status", None)["held"], 20);
    assert_eq!(daemon.stop().code(), Some(0));
}

#[test]
fn while_a_daemon_runs_its_store_is_left_alone() {
    let home = Home::new("");
    let daemon = home.start();
    for verb in ["check", "stat", "compact"] {
        let (code, told, said) = run(&home, &["db", verb]);
        assert_eq!((code, told.as_str()), (75, ""), "{said}");
        assert!(said.contains("another process holds the store") && said.contains("stop the daemon"), "{said}");
    }
    assert_eq!(daemon.stop().code(), Some(0));
}

/// A bit that flips in the file of a stopped daemon is found, and the record that it hits is named.
#[test]
fn a_flipped_bit_is_named_with_its_table_and_key() {
    let home = Home::new("");
    live(&home, 20);
    let (_, told, _) = run(&home, &["db", "stat", "--json"]);
    let stat: Value = serde_json::from_str(&told).unwrap();
    let whole = fs::read(store(&home)).unwrap();
    // Events are by far the largest records: of some places in the file, most lie in one of them.
    let mut named = 0;
    for place in (4096..stat["file"]["length"].as_u64().unwrap() as usize).step_by(1024) {
        if whole[place..place + 64].iter().filter(|byte| **byte == 0).count() > 8 {
            continue;
        }
        let mut damaged = whole.clone();
        damaged[place] ^= 1;
        fs::write(store(&home), &damaged).unwrap();
        let (code, told, said) = run(&home, &["db", "check", "--json"]);
        if code == 0 {
            // A free page: nothing is there.
            continue;
        }
        assert_eq!(code, 1, "{told}{said}");
        assert!(said.contains("the store is damaged") && said.contains("put back the last copy"), "{said}");
        assert!(!told.contains("xxxx"), "{told}");
        let findings: Vec<Value> = told.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert!(findings[0]["table"] == "file" && findings.last().unwrap()["ok"] == false, "{told}");
        named += usize::from(findings.iter().any(|it| it["table"] == "events" && it["key"] != ""));
        if named == 3 {
            break;
        }
    }
    assert_eq!(named, 3);
    let (code, told, _) = run(&home, &["db", "check"]);
    assert!(code == 1 && told.lines().any(|line| line.starts_with("events ")), "{told}");
    let (code, _, said) = run(&home, &["db", "compact"]);
    assert!(code == 1 && said.contains("postrider db check"), "{code} {said}");
}

/// What the system reads well and is no store, or the beginning of one, is damage and not a matter of rights.
#[test]
fn a_file_that_is_no_store_or_ends_early_is_told_as_damage() {
    let home = Home::new("");
    live(&home, 20);
    let whole = fs::read(store(&home)).unwrap();
    let mut overwritten = whole.clone();
    overwritten[..9].copy_from_slice(b"no store!");
    for (what, bytes) in
        [("overwritten", &overwritten[..]), ("cut off", &whole[..whole.len() / 2]), ("a stub", &whole[..100])]
    {
        fs::write(store(&home), bytes).unwrap();
        let (code, told, said) = run(&home, &["db", "check"]);
        assert_eq!((code, told.lines().count()), (1, 1), "{what}: {told}{said}");
        assert!(told.starts_with("file: ") && said.contains("put back the last copy"), "{what}: {told}{said}");
        assert_eq!(home.spawn().ended().code(), Some(78), "{what}");
        assert!(home.log_end().contains("postrider db check"), "{what}: {}", home.log_end());
        assert!(fs::read(store(&home)).unwrap() == bytes, "{what}: it stays as it is");
    }
}

/// S4: without its key a store cannot be read, so a start says what is missing and how to go on, and changes nothing.
#[test]
fn a_missing_damaged_or_wrong_master_key_ends_with_78_and_the_remedy() {
    let home = Home::new("");
    live(&home, 1);
    let own = fs::read(key(&home)).unwrap();
    assert_eq!(fs::metadata(key(&home)).unwrap().permissions().mode() & 0o777, 0o600);
    type Change = fn(&Home);
    let changes: [(&str, Change, &[&str]); 4] = [
        ("missing", |home| fs::remove_file(key(home)).unwrap(), &["is not", "backup", "store.master_key"]),
        (
            "truncated",
            |home| fs::write(key(home), "0011").unwrap(),
            &["is 4 bytes long and no key", "bring the true file back"],
        ),
        (
            "another store's",
            |home| fs::write(key(home), "ab".repeat(32)).unwrap(),
            &["does not open the store", "bring the store's own key file back"],
        ),
        (
            "world-readable",
            |home| fs::set_permissions(key(home), Permissions::from_mode(0o644)).unwrap(),
            &["has mode 644", "chmod 600"],
        ),
    ];
    for (what, change, parts) in changes {
        fs::write(key(&home), &own).unwrap();
        fs::set_permissions(key(&home), Permissions::from_mode(0o600)).unwrap();
        change(&home);
        assert_eq!(home.spawn().ended().code(), Some(78), "{what}");
        let log = home.log_end();
        let commands = ["check", "stat", "compact"].map(|verb| run(&home, &["db", verb]));
        // `check` does not ask the store.
        let (code, _, told) = run(&home, &["check"]);
        if what == "another store's" {
            assert_eq!(code, 0, "{told}");
        } else {
            assert!(code == 78 && parts.iter().all(|part| told.contains(part)), "{what}: {told}");
        }
        let says = commands.iter().map(|(_, _, said)| said).chain([&log]);
        for said in says {
            for part in parts.iter().chain(&["postrider.redb.key"]) {
                assert!(said.contains(part), "{what}: {part} in {said}");
            }
        }
        assert!(commands.iter().all(|(code, told, _)| *code == 78 && told.is_empty()), "{what}: {commands:?}");
        assert_eq!(key(&home).exists(), what != "missing", "no second key is made for a store that has one");
    }
    fs::set_permissions(key(&home), Permissions::from_mode(0o600)).unwrap();
    fs::write(key(&home), &own).unwrap();
    assert_eq!(run(&home, &["db", "check"]).0, 0, "nothing was changed by all of that");
    assert_eq!(home.start().stop().code(), Some(0));
}

/// A disk that is not mounted at boot leaves a link to nothing where the store was: no new store takes its place.
#[test]
fn a_store_behind_a_link_to_nothing_ends_with_78_and_is_there_when_the_disk_is() {
    let home = Home::new("");
    live(&home, 1);
    let (link, disk) = (store(&home), store(&home).with_extension("elsewhere"));
    fs::rename(&link, &disk).unwrap();
    let away = disk.with_extension("away");
    std::os::unix::fs::symlink(&disk, &link).unwrap();
    fs::rename(&disk, &away).unwrap();
    let own = fs::read(key(&home)).unwrap();
    for with_key in [true, false] {
        if !with_key {
            fs::remove_file(key(&home)).unwrap();
        }
        assert_eq!(home.spawn().ended().code(), Some(78));
        for command in [&["check"][..], &["db", "check"], &["db", "stat"], &["db", "compact"]] {
            let (code, _, told) = run(&home, command);
            assert!(code == 78 && told.contains("is a symbolic link to"), "{command:?}: {code} {told}");
        }
        assert_eq!(key(&home).exists(), with_key, "a store that cannot be seen may have a key");
    }
    assert_eq!(fs::read_link(&link).unwrap(), disk);
    fs::write(key(&home), own).unwrap();
    fs::set_permissions(key(&home), Permissions::from_mode(0o600)).unwrap();
    fs::rename(&away, &disk).unwrap();
    assert_eq!(run(&home, &["db", "check"]).0, 0);
}
