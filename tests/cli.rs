//! The command line as a script sees it: arguments in; data, talk and exit code out. What stands at the other end of the
//! sockets here only repeats what the interfaces say; the daemon itself is tested elsewhere.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpListener;
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::process::{Child, ChildStdout, Command as Process, Stdio};
use std::thread::JoinHandle;
use std::time::Duration;

use assert_cmd::Command;
use assert_cmd::assert::Assert;
use assert_cmd::cargo::{cargo_bin, cargo_bin_cmd};
use postrider::clock::Clock;
use postrider::store::{KEY_BYTES, Keys, MasterKey, Settings, Store};

/// The program in a folder of its own, without this process's environment.
fn postrider(folder: &Path) -> Command {
    let mut command = cargo_bin_cmd!("postrider");
    command.env_clear().env("STATE_DIRECTORY", folder).env("RUNTIME_DIRECTORY", folder);
    command.env("CONFIGURATION_DIRECTORY", folder).current_dir(folder).timeout(Duration::from_secs(60));
    command
}

fn folder() -> tempfile::TempDir {
    tempfile::tempdir().unwrap()
}

/// Standard output and standard error as one text, without the folder's name.
fn said(assert: &Assert, folder: &Path) -> String {
    let output = assert.get_output();
    let text = [&output.stdout[..], &output.stderr[..]].concat();
    String::from_utf8(text).unwrap().replace(&folder.display().to_string(), "FOLDER")
}

/// A socket that takes one connection, reads `requests` lines, answers each with the next reply, and tells what it read.
fn ingest(path: &Path, requests: usize, replies: &'static [&'static str]) -> JoinHandle<Vec<String>> {
    let listener = UnixListener::bind(path).unwrap();
    std::thread::spawn(move || {
        let (stream, _) = listener.accept().unwrap();
        let mut lines = BufReader::new(&stream).lines();
        let read: Vec<_> = lines.by_ref().take(requests).map(Result::unwrap).collect();
        for reply in replies {
            writeln!(&stream, "{reply}").unwrap();
        }
        read
    })
}

/// A socket that answers one HTTP request, and tells the request's head.
fn admin(path: &Path, answer: String) -> JoinHandle<String> {
    let listener = UnixListener::bind(path).unwrap();
    std::thread::spawn(move || answer_one(listener.accept().unwrap().0, &answer))
}

/// The same at an address.
fn far_admin(answer: String) -> (String, JoinHandle<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    (url, std::thread::spawn(move || answer_one(listener.accept().unwrap().0, &answer)))
}

fn answer_one(stream: impl Read + Write, answer: &str) -> String {
    let mut head = String::new();
    let mut reader = BufReader::new(stream);
    while !head.ends_with("\r\n\r\n") {
        assert_ne!(reader.read_line(&mut head).unwrap(), 0, "the request ends within its head: {head}");
    }
    reader.get_mut().write_all(answer.as_bytes()).unwrap();
    head
}

/// A socket that takes a connection for each answer, one after the other, and tells the requests' heads. An answer that
/// does not end is cut there, but for the last one, which stays open until the client closes it.
fn admins(path: &Path, answers: Vec<String>) -> JoinHandle<Vec<String>> {
    let listener = UnixListener::bind(path).unwrap();
    std::thread::spawn(move || {
        let mut heads = Vec::new();
        let count = answers.len();
        for answer in answers {
            let (mut stream, _) = listener.accept().unwrap();
            let mut head = String::new();
            let mut reader = BufReader::new(stream.try_clone().unwrap());
            while !head.ends_with("\r\n\r\n") {
                assert_ne!(reader.read_line(&mut head).unwrap(), 0, "the request ends within its head: {head}");
            }
            stream.write_all(answer.as_bytes()).unwrap();
            heads.push(head);
            if heads.len() == count {
                reader.read_to_end(&mut Vec::new()).unwrap();
            }
        }
        heads
    })
}

/// The beginning of a stream of server-sent events.
fn stream_of(events: &str) -> String {
    let head = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n";
    format!("{head}{:x}\r\n{events}\r\n", events.len())
}

fn http(status: &str, kind: &str, body: &str) -> String {
    format!("HTTP/1.1 {status}\r\ncontent-type: {kind}\r\ncontent-length: {}\r\n\r\n{body}", body.len())
}

#[test]
fn help_lists_the_commands_and_exit_codes() {
    let folder = folder();
    let assert = postrider(folder.path()).arg("--help").assert().code(0);
    insta::assert_snapshot!(said(&assert, folder.path()), @r#"
    Webhook delivery daemon for payment gateways: one process, one binary, one file on disk

    Usage: postrider [OPTIONS] <COMMAND>

    Commands:
      demo          See it work: a throw-away daemon, a receiver that fails at first, and a few events
      serve         Run the daemon until it is told to stop
      check         Read the configuration, look at what it names, and say what `serve` would do
      status        Show how the daemon fares
      emit          Hand an event to the daemon, and wait until it is on disk
      tail          Show attempts as they end
      explain       Say why a delivery, an event or a destination is where it is, and what helps
      destination   Where webhooks go, and how
      subscription  Which events go where
      event         What was accepted
      event-type    Which types of events there are: the catalogue
      delivery      One event on its way to one destination, with its attempts
      replay        Many deliveries that have ended, sent again as one job
      tenant        Whose destinations, events and keys they are
      key           Who may use the admin API, and for what
      signing-key   Secrets of a tenant that several destinations sign with
      user          Who may sign in to the dashboard
      listen        Receive webhooks on this machine and print them
      bench         Measure a throw-away daemon on this machine, beside the same load without one
      sign          Print the signature headers for a body
      verify        Say whether a body's signature is right
      audit         Show who changed what, and prove that nothing was changed since
      db            Look at the store of a stopped daemon, and make it smaller
      config        Show the configuration
      completions   Print the completions for a shell
      man           Print the manual page
      help          Print this message or the help of the given subcommand(s)

    Options:
          --json     Write data, and failures, as JSON
      -h, --help     Print help
      -V, --version  Print version

    Exit codes: 0 done, 1 failed, 2 usage, 69 daemon not reachable, 74 the store failed, 75 try later,
    77 not permitted, 78 bad config.
    "#);
}

/// SX.8 in small: the whole way of an event, and of one that fails twice, through the real socket.
#[test]
fn the_demonstration_ends_well_and_every_signature_is_verified() {
    let folder = folder();
    let assert = postrider(folder.path()).args(["demo", "--exit-after-delivery"]).assert().code(0).stderr("");
    let told = said(&assert, folder.path());
    assert_eq!(told.matches("ms, signature verified").count(), 12, "{told}");
    assert_eq!(told.matches("503 failed").count(), 2, "{told}");
    assert!(
        told.contains("5 events, 10 of 10 deliveries succeeded in 12 attempts, every signature verified"),
        "{told}"
    );
    assert!(told.contains("attempt 3  200 succeeded"), "{told}");

    let assert = postrider(folder.path()).args(["demo", "--exit-after-delivery", "--json"]).assert().code(0);
    let output = String::from_utf8(assert.get_output().stdout.clone()).unwrap();
    let last: serde_json::Value = serde_json::from_str(output.lines().last().unwrap()).unwrap();
    assert_eq!(last["succeeded"], 10);
}

/// The shape of what the benchmark says, and that nothing was lost on its way; its speed is nobody's business here.
#[test]
fn the_benchmark_measures_everything_beside_its_floor_and_leaves_nothing_behind() {
    let folder = folder();
    let arguments = ["bench", "--quick", "--json", "--events", "135", "--destinations", "3", "--fanout", "3"];
    let preload = ["--preload", "50", "--preload-as", "waiting"];
    let assert =
        postrider(folder.path()).args(arguments).args(preload).env("TMPDIR", folder.path()).assert().code(0).stderr("");
    let told: serde_json::Value = serde_json::from_slice(&assert.get_output().stdout).unwrap();
    let mut ids = Vec::new();
    for figure in told["figures"].as_array().unwrap() {
        let id = figure["id"].as_str().unwrap();
        let is_measured = figure["value"].as_f64().is_some_and(|value| value >= 0.0);
        let has_floor = figure["floor"].is_f64();
        assert!(is_measured, "{figure}");
        assert_eq!(has_floor, !["memory", "ready", "first"].iter().any(|part| id.starts_with(part)), "{figure}");
        let has_bare = figure["bare"].is_f64();
        assert_eq!(has_bare, id.starts_with("deliveries") || id.starts_with("cpu"), "{figure}");
        ids.push(id);
    }
    assert_eq!(
        ids.join(" "),
        "memory_idle memory_waiting ready_after_restart memory_restarted intake_4x64 intake_64x1 latency_50_p50 \
         latency_50_p99 whole_50_p50 whole_50_p99 latency_1000_p50 latency_1000_p99 whole_1000_p50 whole_1000_p99 \
         deliveries_1 cpu_1 deliveries_fanout cpu_fanout memory_peak memory_after \
         first_after_resume"
    );
    // The open loop's 50 and 135, twice; then the warm-up; then all deliveries and as many of the floor and of the bare
    // client, twice; then the first of those that waited.
    assert_eq!(told["received"], 2 * (50 + 135) + 13 + 6 * 135 + 1);
    for nothing in ["lost", "repeats", "strays", "unverified"] {
        assert_eq!(told[nothing], 0, "{nothing}");
    }
    assert!(told["verified"].as_u64().unwrap() > 10);
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0, "the scratch folder is gone");
}

/// A receiver with a certificate that the daemon, the floor and the bare client know for this run only.
#[test]
fn the_benchmark_delivers_over_tls_too() {
    let folder = folder();
    let arguments = ["bench", "--quick", "--json", "--tls", "--only", "delivery", "--events", "54", "--fanout", "3"];
    let assert = postrider(folder.path()).args(arguments).env("TMPDIR", folder.path()).assert().code(0).stderr("");
    let told: serde_json::Value = serde_json::from_slice(&assert.get_output().stdout).unwrap();
    assert_eq!(told["tls"], true);
    assert_eq!(told["received"], 5 + 6 * 54, "the warm-up; all deliveries, the floor and the bare client, twice");
    for nothing in ["lost", "repeats", "strays", "unverified"] {
        assert_eq!(told[nothing], 0, "{nothing}");
    }
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0, "the scratch folder is gone");
}

#[test]
fn a_usage_error_ends_with_2() {
    let folder = folder();
    for arguments in [&["emit"][..], &["emit", "no spaces"], &["nonesuch"], &["check", "--set", "x"], &[]] {
        postrider(folder.path()).args(arguments).assert().code(2).stdout("");
    }
}

#[test]
fn a_wrong_configuration_ends_with_78_and_names_place_cause_and_remedy() {
    let folder = folder();
    std::fs::write(folder.path().join("config.toml"), "[delivery]\ntimout = \"3s\"\nin_flight_max = 0\n").unwrap();
    for command in [&["check"][..], &["config", "show"]] {
        let assert = postrider(folder.path()).args(command).assert().code(78).stdout("");
        insta::allow_duplicates! {
            insta::assert_snapshot!(said(&assert, folder.path()), @r#"
    error: [delivery] has no key "timout"
      where: FOLDER/config.toml:2
      cause: the nearest known name is "timeout"
       help: postrider config example    # every key with its default
    error: delivery.in_flight_max = 0 is out of bounds
      where: FOLDER/config.toml:3
      cause: it lies between 1 and 10000
       help: postrider config example    # every key with its default
    "#);
        }
    }
    let assert = postrider(folder.path()).args(["check", "--config", "absent.toml", "--json"]).assert().code(78);
    insta::assert_snapshot!(said(&assert, folder.path()), @r#"{"error":{"cause":"No such file or directory (os error 2)","help":"postrider config example > absent.toml","what":"cannot read absent.toml"},"exit_code":78}"#);
}

#[test]
fn check_says_what_serve_would_do() {
    let folder = folder();
    let arguments = ["check", "--set", "admin.listen=127.0.0.1:0"];
    let assert = postrider(folder.path()).args(arguments).assert().code(0);
    insta::assert_snapshot!(said(&assert, folder.path()), @r#"
    reads    no file: the defaults hold
    store    FOLDER/postrider.redb (does not exist yet, will be made)
    key      FOLDER/postrider.redb.key (does not exist yet, will be made)
    listens  unix:FOLDER/ingest.sock
    listens  unix:FOLDER/admin.sock
    listens  http://127.0.0.1:0
    the configuration is right
    "#);
}

#[test]
fn check_names_everything_that_is_not_there() {
    let folder = folder();
    std::fs::write(folder.path().join("empty.pem"), "").unwrap();
    std::fs::write(folder.path().join("file.sock"), "").unwrap();
    let config = "[ingest]\nsocket = \"file.sock\"\nsocket_group = \"no-such-group\"\n\
                  [admin]\nlisten = \"127.0.0.1:0\"\ntls_cert = \"empty.pem\"\ntls_key = \"absent.pem\"\n\
                  [delivery]\nsource_address = \"192.0.2.7\"";
    std::fs::write(folder.path().join("config.toml"), config).unwrap();
    let assert = postrider(folder.path()).arg("check").assert().code(78);
    insta::assert_snapshot!(said(&assert, folder.path()), @r#"
    error: what lies at a socket's path is no socket
      where: ingest.socket = file.sock
      cause: the path names something else
       help: move it away, or choose another path
    error: there is no group "no-such-group"
      where: ingest.socket_group
      cause: the system knows no such group
       help: groupadd --system no-such-group
    error: the file holds no certificate
      where: admin.tls_cert = empty.pem
      cause: there is no CERTIFICATE block in it
       help: openssl x509 -in empty.pem -noout -subject, or ls -l empty.pem
    error: the private key cannot be read
      where: admin.tls_key = absent.pem
      cause: I/O error: No such file or directory (os error 2)
       help: openssl x509 -in absent.pem -noout -subject, or ls -l absent.pem
    error: deliveries cannot come from that address
      where: delivery.source_address = "192.0.2.7"
      cause: Cannot assign requested address (os error 99)
       help: ip address    # lists those of this machine
    "#);
}

#[test]
fn check_refuses_a_held_store_unless_the_daemon_of_this_configuration_holds_it() {
    let folder = folder();
    let open = || {
        let keys = Keys::new(MasterKey::new([7; KEY_BYTES]), [9; Keys::CHANCE_BYTES]);
        let settings = Settings::at(folder.path().join("postrider.redb"), keys);
        Store::open(&settings, Clock::system(), 1).unwrap()
    };
    let key = folder.path().join("postrider.redb.key");
    std::fs::write(&key, "07".repeat(KEY_BYTES)).unwrap();
    std::fs::set_permissions(&key, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let store = open();
    runtime.block_on(store.close());
    drop(store);
    let arguments = ["check", "--set", "admin.listen="];
    let first_line = |assert: &Assert| said(assert, folder.path()).lines().next().unwrap().to_owned();
    postrider(folder.path()).args(arguments).assert().code(0);
    let store = open();
    let assert = postrider(folder.path()).args(arguments).assert().code(78);
    assert_eq!(first_line(&assert), "error: the store is locked");
    let _daemon = UnixListener::bind(folder.path().join("admin.sock")).unwrap();
    let assert = postrider(folder.path()).args(arguments).assert().code(0);
    assert_eq!(
        first_line(&assert),
        "reads    no file: the defaults hold",
        "a running daemon is no fault of the configuration"
    );
    drop(store);
}

#[test]
fn config_show_names_the_origin_of_each_value() {
    let folder = folder();
    let config =
        "[log]\nlevel = \"debug\"\n[[egress.rule]]\nhost = \"a.internal\"\n[schedules]\nx = { delays = [\"1s\"] }";
    std::fs::write(folder.path().join("config.toml"), config).unwrap();
    let assert = postrider(folder.path())
        .args(["config", "show", "--set", "log.format=json"])
        .env("POSTRIDER__EGRESS__ALLOW_HTTP", "true")
        .assert()
        .code(0);
    let text = said(&assert, folder.path());
    let from = text.find("[egress]").unwrap();
    insta::assert_snapshot!(&text[from..], @r#"
    [egress]
    allow = []                               # default
    allow_loopback = false                   # default
    allow_http = true                        # environment variable POSTRIDER__EGRESS__ALLOW_HTTP
    ca = ""                                  # default

    [[egress.rule]]
    host = "a.internal"                      # FOLDER/config.toml:4

    [retention]
    events = "30d"                           # default
    attempts = "90d"                         # default
    audit = "400d"                           # default

    [limits]
    url_chars_max = 2048                     # default
    disk_reserve = "256MiB"                  # default

    [dialects.backoffice]
    enabled = true                           # default
    types = {}                               # default

    [dialects.subscribe]
    enabled = true                           # default

    [schedules.x]
    delays = ["1s"]                          # FOLDER/config.toml:6

    [log]
    format = "json"                          # flag --set log.format
    level = "debug"                          # FOLDER/config.toml:2
    "#);
}

#[test]
fn config_example_is_a_configuration() {
    let folder = folder();
    let assert = postrider(folder.path()).args(["config", "example"]).assert().code(0);
    std::fs::write(folder.path().join("config.toml"), &assert.get_output().stdout).unwrap();
    postrider(folder.path()).args(["check", "--set", "admin.listen="]).assert().code(0);
}

#[test]
fn completions_and_pages_exist_for_each_shell_and_command() {
    let folder = folder();
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let assert = postrider(folder.path()).args(["completions", shell]).assert().code(0);
        assert!(said(&assert, folder.path()).contains("erase-payload"), "{shell}");
    }
    for command in [&[][..], &["emit"], &["config", "show"], &["destination", "create"]] {
        let assert = postrider(folder.path()).arg("man").args(command).assert().code(0);
        assert!(said(&assert, folder.path()).contains(".SH SYNOPSIS"), "{command:?}");
    }
    postrider(folder.path()).args(["man", "nonesuch"]).assert().code(2);
}

#[test]
fn emit_sends_one_line_and_says_what_was_accepted() {
    let folder = folder();
    let socket = folder.path().join("ingest.sock");
    let reply = r#"{"ok":true,"id":"evt_1","duplicate":false,"deliveries":2}"#;
    let daemon = ingest(&socket, 1, &[r#"{"ok":true,"id":"evt_1","duplicate":false,"deliveries":2}"#]);
    let arguments = ["emit", "a.b", "--data", r#"{"x": 1.50}"#, "--id", "p1", "--tenant", "shop", "--key", "k"];
    postrider(folder.path())
        .args(arguments)
        .args(["--deliver-at", "2026-01-31T09:30:00+01:00", "--source", "till 7"])
        .assert()
        .code(0)
        .stdout("accepted evt_1 (2 deliveries)\n");
    insta::assert_snapshot!(daemon.join().unwrap().concat(), @r#"{"type":"a.b","tenant":"shop","id":"p1","key":"k","deliver_at":"2026-01-31T08:30:00.000Z","source":"till 7","data":{"x": 1.50}}"#);

    std::fs::remove_file(&socket).unwrap();
    let daemon = ingest(&socket, 1, &[r#"{"ok":true,"id":"evt_1","duplicate":false,"deliveries":2}"#]);
    postrider(folder.path()).args(["emit", "a.b", "--json"]).assert().code(0).stdout(format!("{reply}\n"));
    assert_eq!(daemon.join().unwrap(), [r#"{"type":"a.b","data":{}}"#]);
}

/// SX.1: what does not fit on a line as JSON travels as base64, so that not a byte changes.
#[test]
fn emit_keeps_the_data_byte_for_byte() {
    let folder = folder();
    let socket = folder.path().join("ingest.sock");
    let table: [(&[u8], &[&str], &str); 4] = [
        (b"{\"a\":\n 1}", &[], r#"{"type":"t","content_type":"application/json","data_base64":"eyJhIjoKIDF9"}"#),
        (b" [1]\n", &[], r#"{"type":"t","data":[1]}"#),
        (b"\xff", &["--content-type", "x/y"], r#"{"type":"t","content_type":"x/y","data_base64":"/w=="}"#),
        (b"{\"n\":1.00}", &[], r#"{"type":"t","data":{"n":1.00}}"#),
    ];
    for (data, more, expected) in table {
        let daemon = ingest(&socket, 1, &[r#"{"ok":true,"id":"evt_1","duplicate":false,"deliveries":0}"#]);
        let mut command = postrider(folder.path());
        command.args(["emit", "t", "--data", "-"]).args(more).write_stdin(data).assert().code(0);
        assert_eq!(daemon.join().unwrap(), [expected]);
        std::fs::remove_file(&socket).unwrap();
    }
    postrider(folder.path()).args(["emit", "t", "--data", "not json"]).assert().code(2);
}

#[test]
fn emit_ends_with_the_code_of_the_refusal() {
    let folder = folder();
    let socket = folder.path().join("ingest.sock");
    let table: [(&'static [&'static str], i32); 5] = [
        (&[r#"{"ok":false,"error":{"code":"bad_field","message":"no","retryable":false}}"#], 1),
        (&[r#"{"ok":false,"error":{"code":"queue_full","message":"no","retryable":true}}"#], 75),
        (&[r#"{"ok":false,"error":{"code":"not_allowed","message":"no","retryable":false}}"#], 77),
        (&["HTTP/1.1 200 OK"], 1),
        (&[], 75),
    ];
    for (replies, code) in table {
        for form in [&[][..], &["--json"]] {
            let daemon = ingest(&socket, 1, replies);
            postrider(folder.path()).args(["emit", "a.b"]).args(form).assert().code(code);
            daemon.join().unwrap();
            std::fs::remove_file(&socket).unwrap();
        }
    }
}

#[test]
fn without_a_daemon_the_cause_is_named_and_the_code_is_69() {
    let folder = folder();
    for arguments in [&["emit", "a.b"][..], &["emit", "--ndjson"], &["status"], &["key", "list"]] {
        let assert = postrider(folder.path()).args(arguments).assert().code(69).stdout("");
        assert!(said(&assert, folder.path()).contains("there is no such socket"), "{arguments:?}");
    }
    for socket in ["ingest.sock", "admin.sock"] {
        drop(UnixListener::bind(folder.path().join(socket)).unwrap());
    }
    for arguments in [&["emit", "a.b"][..], &["status"]] {
        let assert = postrider(folder.path()).args(arguments).assert().code(69).stdout("");
        assert!(said(&assert, folder.path()).contains("nobody listens there"), "{arguments:?}");
    }
}

#[test]
fn a_stream_passes_through_as_it_is_and_ends_with_the_worst_code() {
    const GOOD: &str = r#"{"ok":true,"id":"evt_1","duplicate":false,"deliveries":0}"#;
    const LATER: &str = r#"{"ok":false,"error":{"code":"draining","message":"no","retryable":true}}"#;
    const BATCH: &str = r#"[{"ok":true,"id":"evt_1","duplicate":false,"deliveries":0},{"ok":false,"error":{"code":"bad_field","message":"no","retryable":false}}]"#;
    let folder = folder();
    let socket = folder.path().join("ingest.sock");
    let table: [(&'static [&'static str], i32); 3] =
        [(&[GOOD, GOOD, GOOD], 0), (&[GOOD, LATER, GOOD], 75), (&[LATER, BATCH, GOOD], 1)];
    for (replies, code) in table {
        // Reads until the half-close, as the daemon does.
        let daemon = ingest(&socket, usize::MAX, replies);
        let input = "{\"type\": \"a\"}\nnot json\n[]\n";
        let mut command = postrider(folder.path());
        let assert = command.args(["emit", "--ndjson"]).write_stdin(input).assert().code(code);
        assert_eq!(said(&assert, folder.path()), replies.join("\n") + "\n");
        assert_eq!(daemon.join().unwrap().join("\n") + "\n", input);
        std::fs::remove_file(&socket).unwrap();
    }
}

#[test]
fn a_stream_ends_when_the_daemon_goes_although_the_input_goes_on() {
    let folder = folder();
    let socket = folder.path().join("ingest.sock");
    let daemon = ingest(&socket, 1, &[]);
    let mut child = Process::new(cargo_bin("postrider"))
        .args(["emit", "--ndjson", "--socket"])
        .arg(&socket)
        .stdin(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut input = child.stdin.take().unwrap();
    input.write_all(b"{\"type\": \"a\"}\n").unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(75));
    daemon.join().unwrap();
}

#[test]
fn status_is_a_small_table_or_the_answer_as_it_is() {
    let folder = folder();
    let socket = folder.path().join("admin.sock");
    let body = r#"{"accepted":7,"events":5,"pending":2,"held":1,"succeeded":3,"failed":1,"cancelled":0,"oldest_pending_seconds":12.5,"more":[]}"#;
    let daemon = admin(&socket, http("200 OK", "application/json", body));
    let assert = postrider(folder.path()).arg("status").assert().code(0);
    insta::assert_snapshot!(said(&assert, folder.path()), @r#"
    events             5 
    deliveries         7 
      pending          2 
      held             1 
      succeeded        3 
      failed           1 
      cancelled        0 
    oldest pending  12 s
    "#);
    let head = daemon.join().unwrap();
    assert!(head.starts_with("GET /v1/status HTTP/1.1\r\n"), "{head}");

    std::fs::remove_file(&socket).unwrap();
    let daemon = admin(&socket, http("200 OK", "application/json", body));
    let assert = postrider(folder.path()).args(["status", "--json"]).assert().code(0);
    let shown: serde_json::Value = serde_json::from_slice(&assert.get_output().stdout).unwrap();
    assert_eq!(shown, serde_json::from_str::<serde_json::Value>(body).unwrap());
    daemon.join().unwrap();
}

#[test]
fn a_refusal_of_the_admin_api_is_told_with_its_detail() {
    let folder = folder();
    let socket = folder.path().join("admin.sock");
    let problem = r#"{"type":"about:blank","title":"Forbidden","status":403,"detail":"the role read is too low","code":"forbidden","errors":[{"pointer":"/x","detail":"bad"}]}"#;
    let daemon = admin(&socket, http("403 Forbidden", "application/problem+json", problem));
    let assert = postrider(folder.path()).arg("status").assert().code(77).stdout("");
    insta::assert_snapshot!(said(&assert, folder.path()), @r#"
    error: Forbidden
      where: GET /v1/status at FOLDER/admin.sock
      cause: the role read is too low; x: bad
       help: use a key with a higher role, or of that tenant
    "#);
    daemon.join().unwrap();
    // A program is told all that the API names.
    std::fs::remove_file(&socket).unwrap();
    let problem = problem.replace("\"status\":403", "\"status\":403,\"request_id\":\"r-1\"");
    let daemon = admin(&socket, http("403 Forbidden", "application/problem+json", &problem));
    let assert = postrider(folder.path()).args(["status", "--json"]).assert().code(77).stdout("");
    let told: serde_json::Value = serde_json::from_slice(&assert.get_output().stderr).unwrap();
    let error = &told["error"];
    assert_eq!((&error["code"], &error["request_id"]), (&"forbidden".into(), &"r-1".into()), "{told}");
    assert_eq!(error["errors"], serde_json::json!([{"pointer": "/x", "detail": "bad"}]));
    assert_eq!((&error["what"], &told["exit_code"]), (&"Forbidden".into(), &77.into()));
    daemon.join().unwrap();
    for (status, code) in [("503 Service Unavailable", 75), ("500 Internal Server Error", 1), ("404 Not Found", 1)] {
        std::fs::remove_file(&socket).unwrap();
        let daemon = admin(&socket, http(status, "text/plain", "oops"));
        postrider(folder.path()).args(["destination", "list"]).assert().code(code).stdout("");
        daemon.join().unwrap();
    }
}

/// Who names a key acts with it, also over the socket, however the socket was named.
#[test]
fn a_key_is_shown_over_the_socket_as_well() {
    let folder = folder();
    let socket = folder.path().join("other.sock");
    std::fs::write(folder.path().join("key"), "prk_canary\n").unwrap();
    let ways: [(&[&str], Option<&Path>); 3] = [
        (&["status", "--json", "--key-file", "key", "--socket", "other.sock"], None),
        (&["status", "--json", "--key-file", "key"], Some(&socket)),
        (&["status", "--json"], Some(&socket)),
    ];
    for (arguments, variable) in ways {
        let daemon = admin(&socket, http("200 OK", "application/json", "{}"));
        let mut command = postrider(folder.path());
        variable.map(|path| command.env("POSTRIDER__ADMIN__SOCKET", path));
        command.args(arguments).assert().code(0);
        let head = daemon.join().unwrap().to_lowercase();
        assert_eq!(
            head.contains("authorization: bearer prk_canary\r\n"),
            arguments.contains(&"--key-file"),
            "{arguments:?}: {head}"
        );
        std::fs::remove_file(&socket).unwrap();
    }
}

/// A URL that was typed beats a socket that only the environment names. What contradicts itself is refused before anything
/// is dialled, at whichever level of the command it stands.
#[test]
fn what_is_typed_says_which_daemon_is_meant() {
    let folder = folder();
    std::fs::write(folder.path().join("key"), "prk_canary\n").unwrap();
    let (url, daemon) = far_admin(http("200 OK", "application/json", r#"{"webhook":[]}"#));
    let list = ["destination", "list", "--json", "--url", &url, "--key-file", "key"];
    postrider(folder.path()).env("POSTRIDER__ADMIN__SOCKET", "absent.sock").args(list).assert().code(0);
    let head = daemon.join().unwrap().to_lowercase();
    assert!(head.contains("authorization: bearer prk_canary\r\n"), "{head}");
    let refused: [&[&str]; 5] = [
        &["status", "--url", "https://127.0.0.1:1", "--key-file", "key", "--socket", "admin.sock"],
        &["destination", "--socket", "admin.sock", "list", "--url", "https://127.0.0.1:1", "--key-file", "key"],
        &["status", "--url", "https://127.0.0.1:1"],
        &["status", "--ca", "key"],
        &["status", "--ca", "key", "--socket", "admin.sock"],
    ];
    for arguments in refused {
        for variable in [None, Some("admin.sock")] {
            let mut command = postrider(folder.path());
            variable.map(|path| command.env("POSTRIDER__ADMIN__SOCKET", path));
            command.args(arguments).assert().code(2).stdout("");
        }
    }
}

/// A key is shown in clear to this machine only, and to nothing that is no web server. Nothing is dialled before.
#[test]
fn a_key_does_not_travel_in_clear() {
    let folder = folder();
    std::fs::write(folder.path().join("key"), "prk_canary\n").unwrap();
    let status =
        |url: &str| postrider(folder.path()).args(["status", "--json", "--url", url, "--key-file", "key"]).assert();
    // Of a network for documentation: whoever dialled it would wait, and end with another code.
    for url in ["http://192.0.2.1", "http://192.0.2.1:8470", "http://[2001:db8::1]", "http://localhost.example"] {
        let told = said(&status(url).code(2), folder.path());
        assert!(told.contains("use https, or the socket"), "{url}: {told}");
    }
    for url in ["ftp://127.0.0.1", "unix:/run/postrider/admin.sock"] {
        status(url).code(2);
    }
    let (url, daemon) = far_admin(http("200 OK", "application/json", "{}"));
    status(&url).code(0);
    assert!(daemon.join().unwrap().to_lowercase().contains("authorization: bearer prk_canary\r\n"));
}

/// `listen` and the lines it writes; ended when dropped.
struct Listening {
    child: Child,
    lines: std::io::Lines<BufReader<ChildStdout>>,
    address: String,
}

impl Listening {
    fn start(arguments: &[&str]) -> Self {
        let mut child = Process::new(cargo_bin("postrider"))
            .args(["listen", "--port", "0", "--json"])
            .args(arguments)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let first: serde_json::Value = serde_json::from_str(&lines.next().unwrap().unwrap()).unwrap();
        let url = first["listening"].as_str().unwrap();
        let address = url.trim_start_matches("http://").trim_end_matches('/').to_owned();
        Listening { child, lines, address }
    }

    /// The answer to one POST.
    fn post(&self, headers: &str, body: &str) -> String {
        let mut stream = std::net::TcpStream::connect(&self.address).unwrap();
        let length = body.len();
        write!(
            stream,
            "POST /hook HTTP/1.1\r\nhost: x\r\ncontent-length: {length}\r\nconnection: close\r\n{headers}\r\n{body}"
        )
        .unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    }

    fn next(&mut self) -> serde_json::Value {
        serde_json::from_str(&self.lines.next().unwrap().unwrap()).unwrap()
    }
}

impl Drop for Listening {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn listen_prints_each_delivery_fails_as_often_as_told_and_ends() {
    let mut listening = Listening::start(&["--fail", "1", "--status", "202", "--body", "OK", "--once", "2"]);
    assert!(listening.post("x-webhook-event: a.b\r\n", "{}").starts_with("HTTP/1.1 500 "));
    assert!(listening.post("", "second").starts_with("HTTP/1.1 202 "));
    let first = listening.next();
    assert_eq!((&first["method"], &first["path"], &first["body"]), (&"POST".into(), &"/hook".into(), &"{}".into()));
    assert!(first["headers"].as_array().unwrap().contains(&serde_json::json!(["x-webhook-event", "a.b"])));
    let second = listening.next();
    assert_eq!((&second["body"], &second["answered"]), (&"second".into(), &202.into()));
    assert!(listening.child.wait().unwrap().success());
}

/// A file with this secret on one line.
fn secret_file(folder: &Path, secret: &str) -> String {
    let path = folder.join("secret.txt");
    std::fs::write(&path, format!("{secret}\n")).unwrap();
    path.display().to_string()
}

const SIGNED_BODY: &str = r#"{"id":"evt_1","type":"transaction.sale.success"}"#;
const TEXT_SECRET: &str = "whd-test-key-0001";
const STANDARD_SECRET: &str = "whsec_AAECAwQFBgcICQoLDA0ODxAREhMUFRYX";

/// The secret, and the options besides, with which the vector file computes a preset's row.
fn inputs_of(preset: &str) -> (&'static str, &'static [&'static str]) {
    match preset {
        "standard" => (STANDARD_SECRET, &["--id", "msg_0001", "--timestamp", "1700000000"]),
        "stripe-like" => (TEXT_SECRET, &["--timestamp", "2023-11-14T22:13:20Z"]),
        "nmi-like" => (TEXT_SECRET, &["--nonce", "a1b2c3d4"]),
        "square-like" => (TEXT_SECRET, &["--url", "https://hooks.example.test/in"]),
        "adyen-like" => ("00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff", &[]),
        _ => (TEXT_SECRET, &[]),
    }
}

#[test]
fn sign_meets_each_published_vector_and_verify_believes_it() {
    let folder = folder();
    let rows: Vec<Vec<&str>> = include_str!("vectors/signatures.tsv")
        .lines()
        .filter(|line| !line.starts_with('#'))
        .skip(1)
        .map(|line| line.split('\t').collect())
        .collect();
    assert_eq!(rows.len(), 7);
    for row in rows {
        let (secret, options) = inputs_of(row[0]);
        let secret = secret_file(folder.path(), secret);
        let run = |verb: &str, headers: &[String], body: &str| {
            let mut command = postrider(folder.path());
            command.args([verb, "--preset", row[0], "--secret-file", &secret]).args(options);
            for header in headers {
                command.args(["--header", header]);
            }
            command.write_stdin(body).assert()
        };
        let signed = run("sign", &[], SIGNED_BODY).code(0).stderr("");
        let headers: Vec<String> = said(&signed, folder.path()).lines().map(str::to_owned).collect();
        assert!(headers.last().unwrap().ends_with(&format!(": {}", row[2])), "{row:?}: {headers:?}");
        run("verify", &headers, SIGNED_BODY).code(0).stdout("signature verified\n");
        let refused = run("verify", &headers, "{}").code(1);
        assert!(said(&refused, folder.path()).starts_with("signature NOT verified: cannot match"), "{row:?}");
    }
}

#[test]
fn what_a_preset_signs_is_asked_for_or_made() {
    let folder = folder();
    let sign = |preset: &str, secret: &str, options: &[&str]| {
        let secret = secret_file(folder.path(), secret);
        let mut command = postrider(folder.path());
        command.args(["sign", "--preset", preset, "--secret-file", &secret]).args(options);
        command.write_stdin(SIGNED_BODY).assert()
    };
    for (preset, secret, option) in [("standard", STANDARD_SECRET, "--id"), ("square-like", TEXT_SECRET, "--url")] {
        let refused = sign(preset, secret, &[]).code(2).stdout("");
        assert!(said(&refused, folder.path()).contains(&format!("add {option}")), "{preset}");
    }
    let refused = sign("standard", TEXT_SECRET, &["--id", "x"]).code(2).stdout("");
    insta::assert_snapshot!(said(&refused, folder.path()), @r"
    error: cannot sign with this
      where: FOLDER/secret.txt
      cause: cannot read the secret: whsec_ and base64 are asked for (or whsk_ and base64, for Ed25519)
       help: look at the secret's form: postrider sign --help
    ");
    sign("nonesuch", TEXT_SECRET, &[]).code(2).stdout("");
    // Time and nonce are made: two calls differ in the nonce, and both verify.
    let values: Vec<String> = (0..2)
        .map(|_| {
            let signed = sign("nmi-like", TEXT_SECRET, &["--json"]).code(0);
            let object: serde_json::Value = serde_json::from_str(&said(&signed, folder.path())).unwrap();
            object["webhook-signature"].as_str().unwrap().to_owned()
        })
        .collect();
    assert_ne!(values[0], values[1]);
    let secret = secret_file(folder.path(), TEXT_SECRET);
    let verify = |options: &[&str]| {
        let mut command = postrider(folder.path());
        command.args(["verify", "--json", "--preset", "nmi-like", "--secret-file", &secret]).args(options);
        command.write_stdin(SIGNED_BODY).assert()
    };
    for value in &values {
        let header = format!("Webhook-Signature: {value}");
        verify(&["--header", &header]).code(0).stdout("{\"verified\":true}\n");
        let disagreeing = verify(&["--header", &header, "--nonce", "other"]).code(1);
        assert!(said(&disagreeing, folder.path()).contains("--nonce says"), "{value}");
    }
    let absent = verify(&["--header", "X-Other: 1"]).code(1);
    assert!(said(&absent, folder.path()).contains("cannot find the header webhook-signature"));
}

#[test]
fn listen_believes_only_what_is_signed() {
    let folder = folder();
    let secret = secret_file(folder.path(), TEXT_SECRET);
    let signed = |preset: &str| {
        let mut command = postrider(folder.path());
        command.args(["sign", "--preset", preset, "--secret-file", &secret]);
        let assert = command.write_stdin(SIGNED_BODY).assert().code(0);
        said(&assert, folder.path()).replace('\n', "\r\n")
    };
    let both = [signed("x-signature"), signed("github-like")].concat();
    let presets = ["--preset", "x-signature", "--preset", "github-like", "--secret-file", &secret];
    let mut listening = Listening::start(&presets);
    for (headers, status, verified) in [(&both, "200", true), (&signed("x-signature"), "401", false)] {
        assert!(listening.post(headers, SIGNED_BODY).starts_with(&format!("HTTP/1.1 {status} ")));
        let delivery = listening.next();
        assert_eq!(delivery["signature"]["verified"], verified, "{delivery}");
    }
    let mut lenient = Listening::start(&[&presets[..], &["--accept-all"]].concat());
    assert!(lenient.post("", SIGNED_BODY).starts_with("HTTP/1.1 200 "));
    assert_eq!(lenient.next()["signature"]["why"], "cannot find the header x-signature");
    // What verifies nothing would be believed for nothing.
    postrider(folder.path()).args(["listen", "--accept-all"]).assert().code(2);
    postrider(folder.path()).args(["listen", "--preset", "x-signature"]).assert().code(2);
}

#[test]
fn data_goes_nowhere_without_a_complaint_when_nobody_reads_it() {
    let mut command = Process::new(cargo_bin("postrider"));
    let mut child =
        command.args(["completions", "bash"]).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert_eq!((output.status.code(), output.stderr.as_slice()), (Some(0), &b""[..]));
}

/// An attempt as the daemon tells of it.
fn told(number: u32, outcome: &str, reason: Option<&str>, status: Option<u16>, next: Option<&str>) -> String {
    let object = serde_json::json!({
        "delivery_id": "dlv_1", "event_id": "evt_1", "type": "transaction.sale", "tenant": "default",
        "destination_id": "9603F4B2-1874-42FE-A2BC-F7B45C45A9D6", "destination_name": "books",
        "attempt": {
            "number": number, "started_at": "2026-03-16T10:00:00.000Z", "duration_ms": 12, "outcome": outcome,
            "reason": reason, "status": status,
        },
        "next_attempt_at": next,
    });
    format!("data: {object}\n\n")
}

#[test]
fn tail_shows_attempts_and_waits_for_a_daemon_that_is_gone() {
    let folder = folder();
    let first = [
        ": attempts from now on\nretry: 3000\n\n",
        &told(1, "failed", Some("timeout_connect"), None, Some("2026-03-16T10:00:05.000Z")),
        ":\n\nevent: missed\ndata: {\"missed\":7}\n\nevent: of_tomorrow\ndata: {}\n\n",
    ];
    let refusal = r#"{"title": "The daemon is stopping", "detail": "try again later"}"#;
    let answers = vec![
        // Cut in the middle of a chunk, as a crash does.
        stream_of(&first.concat()) + "ffff\r\ndata: {",
        http("503 Service Unavailable", "application/problem+json", refusal),
        // Ended as a stop ends it.
        stream_of(&told(2, "failed", Some("status"), Some(503), Some("2026-03-16T10:05:05.000Z"))) + "0\r\n\r\n",
        stream_of(&told(3, "succeeded", None, Some(200), None)),
    ];
    let daemon = admins(&folder.path().join("admin.sock"), answers);
    let arguments = ["tail", "--type", "transaction.*", "--outcome", "failed", "--count", "3", "--tenant", "m1"];
    let assert = postrider(folder.path()).args(arguments).assert().code(0);
    insta::assert_snapshot!(said(&assert, folder.path()), @r"
    2026-03-16T10:00:00.000Z  failed     timeout_connect  transaction.sale  books  attempt 1, 12 ms, again at 2026-03-16T10:00:05.000Z
    2026-03-16T10:00:00.000Z  failed     503      transaction.sale  books  attempt 2, 12 ms, again at 2026-03-16T10:05:05.000Z
    2026-03-16T10:00:00.000Z  succeeded  200      transaction.sale  books  attempt 3, 12 ms
    watching; Ctrl-C ends
    7 attempts passed too fast to be shown; postrider delivery list has them
    the daemon is gone (error reading a body from connection); waiting for it
    watching again; what happened meanwhile is in: postrider delivery list
    the daemon is gone (it ended the stream); waiting for it
    watching again; what happened meanwhile is in: postrider delivery list
    ");
    for head in daemon.join().unwrap() {
        assert!(head.starts_with("GET /v1/tail?type=transaction.*&outcome=failed HTTP/1.1\r\n"), "{head}");
        assert!(head.contains("x-tenant: m1\r\n"), "{head}");
    }
}

#[test]
fn tail_ends_when_there_is_nothing_to_wait_for() {
    let folder = folder();
    postrider(folder.path()).args(["tail"]).assert().code(69).stdout("");
    postrider(folder.path()).args(["tail", "--outcome", "well"]).assert().code(2).stdout("");
    postrider(folder.path()).args(["tail", "--count", "0"]).assert().code(2).stdout("");
    let refusal = r#"{"title": "There is nothing here", "detail": "there is no such destination"}"#;
    let gone = vec![stream_of(":\n\n") + "0\r\n\r\n", http("404 Not Found", "application/problem+json", refusal)];
    let daemon = admins(&folder.path().join("admin.sock"), gone);
    let arguments = ["tail", "--destination", "9603F4B2-1874-42FE-A2BC-F7B45C45A9D6"];
    let assert = postrider(folder.path()).args(arguments).assert().code(1);
    insta::assert_snapshot!(said(&assert, folder.path()), @r"
    watching; Ctrl-C ends
    the daemon is gone (it ended the stream); waiting for it
    error: There is nothing here
      where: GET /v1/tail?destination=9603F4B2-1874-42FE-A2BC-F7B45C45A9D6 at FOLDER/admin.sock
      cause: there is no such destination
       help: postrider destination list    # those there are; --tenant ID for another tenant's
    ");
    daemon.join().unwrap();
}

#[test]
fn tail_ends_well_on_ctrl_c() {
    let folder = folder();
    let data = told(1, "succeeded", None, Some(200), None);
    let daemon = admins(&folder.path().join("admin.sock"), vec![stream_of(&data)]);
    let mut child = Process::new(cargo_bin("postrider"))
        .args(["tail", "--json"])
        .env_clear()
        .env("RUNTIME_DIRECTORY", folder.path())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
    assert_eq!(format!("data: {line}\n"), data, "an attempt is passed on as it came");
    let pid = nix::unistd::Pid::from_raw(i32::try_from(child.id()).unwrap());
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGINT).unwrap();
    assert!(child.wait().unwrap().success());
    daemon.join().unwrap();
}
