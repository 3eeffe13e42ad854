//! The audit log through the real binary: `postrider audit` over a daemon's socket and over an export, across a restart and a
//! kill, and against logs that were tampered with.

mod harness;

use std::process::Command;

use serde_json::{Value, json};

use harness::Home;

/// What the command says on both ways, and its exit code.
fn audit(home: &Home, arguments: &[&str]) -> (i32, String, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_postrider"));
    command.env_clear().env("POSTRIDER__ADMIN__SOCKET", home.folder().join("admin.sock"));
    let output = command.arg("audit").args(arguments).current_dir(home.folder()).output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (output.status.code().unwrap(), text(output.stdout), text(output.stderr))
}

fn json_of(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}"))
}

/// P19, S4.6 of the interfaces: who changed what is listed, exported and verified without trusting the daemon; a record
/// that was acknowledged survives a kill; what was done to an export is found, and so is an end that was cut off.
#[test]
fn the_log_is_listed_exported_and_verified_across_a_kill() {
    let home = Home::new("");
    let daemon = home.start();
    let admin = home.admin();
    let url = "http://127.0.0.1:8080/in?a=1";
    let body = json!({"name": "books", "http_endpoint_url": url, "confirmed": true, "retry": {"delays": ["1s"], "jitter": 0.3}});
    let id = admin.must("POST", "/v1/destinations/webhook", Some(&body))["id"].as_str().unwrap().to_owned();
    for name in ["one ü \"x\" \\", "two"] {
        admin.must("PUT", &format!("/v1/destinations/webhook/{id}"), Some(&json!({"name": name})));
    }
    let (code, noted, _) = audit(&home, &["verify", "--json"]);
    assert_eq!((code, &json_of(&noted)["records"]), (0, &json!(3)), "{noted}");
    let noted = json_of(&noted)["head"].as_str().unwrap().to_owned();
    admin.must("POST", &format!("/v1/destinations/webhook/{id}/pause"), None);
    home.kill(daemon);
    let daemon = home.start();

    let uid = nix::unistd::getuid();
    let (code, table, talk) = audit(&home, &["list", "--action", "destination.*"]);
    assert_eq!((code, talk.as_str()), (0, ""));
    assert_eq!(table.lines().count(), 5, "{table}");
    let newest = table.lines().nth(1).unwrap();
    for part in ["4 ", &format!("uid:{uid}"), "destination.pause", &id, "default"] {
        assert!(newest.contains(part), "{part} in {table}");
    }
    // A list is the API's own object, with its cursor, as every other list is.
    let own = ["list", "--object", &id.to_lowercase(), "--limit", "2", "--json"];
    let (code, page, _) = audit(&home, &own);
    let page = json_of(&page);
    let records = page["records"].as_array().unwrap();
    assert_eq!((code, records.len()), (0, 2));
    let (code, rest, _) = audit(&home, &[&own[..], &["--after", page["next"].as_str().unwrap()]].concat());
    let rest = json_of(&rest);
    assert_eq!((code, rest["records"].as_array().map(Vec::len)), (0, Some(2)), "{rest}");
    let changed = json!([{"name": "one ü \"x\" \\"}, {"name": "two"}]);
    assert_eq!(json!([records[1]["record"]["before"], records[1]["record"]["after"]]), changed);

    let (code, said, talk) = audit(&home, &["verify", "--expect", &noted]);
    assert!(code == 0 && said.starts_with("4 records, each as it was written\nhead    4:"), "{said}{talk}");
    assert!(talk.starts_with("note the head elsewhere; later: postrider audit verify --expect 4:"), "{talk}");

    let (code, export, talk) = audit(&home, &["export"]);
    assert_eq!((code, talk.as_str()), (0, ""));
    let lines: Vec<&str> = export.lines().collect();
    assert_eq!(lines.len(), 5, "{export}");
    let verify = |lines: &[&str], further: &[&str]| {
        std::fs::write(home.folder().join("audit.ndjson"), lines.join("\n")).unwrap();
        audit(&home, &[&["verify", "--file", "audit.ndjson"], further].concat())
    };
    assert_eq!(verify(&lines, &["--expect", &noted]).0, 0);
    let changed = lines[2].replace("\"two\"", "\"tow\"");
    let tampered: [(&[&str], &str); 4] = [
        (&[lines[0], lines[1], &changed, lines[3], lines[4]], "record 3"),
        (&[lines[0], lines[1], lines[3], lines[4]], "record 3"),
        (&[lines[0], lines[1], lines[3], lines[2], lines[4]], "record 3"),
        (&[lines[0], lines[1], lines[2], lines[3]], "record 1"),
    ];
    for (lines, place) in tampered {
        let (code, said, trouble) = verify(lines, &[]);
        assert_eq!((code, said.as_str()), (1, ""), "{place}");
        assert!(trouble.contains("the audit log is broken") && trouble.contains(place), "{trouble}");
    }

    // A log whose end is cut off fits itself; the place that was noted does not.
    let head = json_of(lines[2]);
    let cut = json!({"head": {"number": 3, "hash": head["hash"]}, "anchor": json_of(lines[0])["anchor"]}).to_string();
    let cut = [&cut, lines[2], lines[3], lines[4]];
    assert_eq!(verify(&cut, &[]).0, 0);
    let head = json_of(lines[1]);
    let last = format!("4:{}", head["hash"].as_str().unwrap());
    let (code, _, trouble) = verify(&cut, &["--expect", &last]);
    assert!(code == 1 && trouble.contains("the log ends with record 3"), "{trouble}");
    let other = format!("2:{}", "0".repeat(64));
    let (code, _, trouble) = audit(&home, &["verify", "--expect", &noted, "--expect", &other]);
    assert!(code == 1 && trouble.contains("the log was written anew"), "{trouble}");
    for wrong in ["nonsense", "3", "x:y"] {
        assert_eq!(audit(&home, &["verify", "--expect", wrong]).0, 2, "{wrong}");
    }
    assert_eq!(verify(&["nonsense"], &[]).0, 1);
    assert!(daemon.stop().success());
}

/// The daemon's own log has the chain's ends at each start and stop: kept elsewhere, it is what a chain is held against.
#[test]
fn the_daemons_own_log_has_the_head_at_each_start_and_stop() {
    let home = Home::new("");
    let path = home.folder().join("config.toml");
    let config = std::fs::read_to_string(&path).unwrap().replace("level = \"warn\"", "level = \"info\"");
    std::fs::write(&path, config).unwrap();
    let daemon = home.start();
    home.admin().must("POST", "/v1/tenants", Some(&json!({"id": "m1"})));
    assert!(daemon.stop().success());
    let heads: Vec<_> = home.log().lines().filter(|line| line.contains("\"audit_head\"")).map(json_of).collect();
    let numbers: Vec<_> = heads.iter().map(|head| head["head"].as_str().unwrap().split(':').next().unwrap()).collect();
    assert_eq!(numbers, ["0", "1"], "{heads:?}");
}
