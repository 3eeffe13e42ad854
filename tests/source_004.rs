//! Source 004 as its gateway's operator lives it: a reseller and its portfolios, each with its page; everything registered with the
//! command line alone, against the real daemon.

mod harness;

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};

use assert_cmd::assert::Assert;
use assert_cmd::cargo::cargo_bin_cmd;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use harness::{Daemon, Home, Message, Reaction, Receiver, wait_for};
use serde_json::{Value, json};

/// A daemon whose gateway resends on a schedule of its own.
const CONFIG: &str = "[confirmation]\nmode = \"off\"\n[delivery]\nbreaker_failures = 1_000_000\n\
    [schedules]\ngateway = { delays = [\"10ms\", \"20ms\", \"40ms\", \"10ms\"], jitter = 0.0 }\n";

/// The gateway's operator, with nothing but the command line.
struct Support {
    home: Home,
    _daemon: Daemon,
}

impl Support {
    fn new() -> Support {
        let home = Home::new(CONFIG);
        let daemon = home.start();
        Support { home, _daemon: daemon }
    }

    fn run(&self, arguments: &[&str], input: &str) -> Assert {
        let folder = self.home.folder();
        let mut command = cargo_bin_cmd!("postrider");
        command.env_clear().env("STATE_DIRECTORY", folder).env("RUNTIME_DIRECTORY", folder);
        command.env("CONFIGURATION_DIRECTORY", folder).current_dir(folder).timeout(harness::PATIENCE);
        command.env("POSTRIDER__ADMIN__SOCKET", folder.join("admin.sock"));
        command.env("POSTRIDER__INGEST__SOCKET", self.home.ingest_socket());
        command.args(arguments).write_stdin(input).assert()
    }

    /// The answer of a command that must be done.
    fn done(&self, arguments: &[&str]) -> Value {
        let assert = self.run(&[arguments, &["--json"]].concat(), "").code(0);
        serde_json::from_slice(&assert.get_output().stdout).unwrap_or(Value::Null)
    }

    /// Registers a URL for a portfolio or a reseller, with these types of events; its id.
    fn register(&self, tenant: &str, url: &str, further: &[&str], types: &[&str], roll_up: &[&str]) -> String {
        let create = ["destination", "create", "--tenant", tenant, "--name", tenant, "--endpoint", url];
        let unsigned = ["--signature", "none"];
        let id = self.done(&[&create[..], &unsigned, further].concat())["id"].as_str().unwrap().to_owned();
        for kind in types {
            let subscribe = ["subscription", "create", kind, "--tenant", tenant, "--destination", &id];
            self.done(&[&subscribe[..], roll_up].concat());
        }
        id
    }

    /// What the gateway's programs hand in; how many deliveries it makes.
    fn emit(&self, tenant: &str, kind: &str, data: &str) -> u64 {
        self.done(&["emit", kind, "--tenant", tenant, "--data", data])["deliveries"].as_u64().unwrap()
    }

    fn delivery(&self, tenant: &str) -> Value {
        self.done(&["delivery", "list", "--tenant", tenant])["deliveries"][0].clone()
    }
}

/// A page of somebody's: keeps what comes, and answers by turns.
struct Page {
    receiver: Receiver,
    kept: Arc<Mutex<Vec<Message>>>,
}

impl Page {
    /// Answers with each of these once, and with the last from then on.
    fn open(answers: &'static [(u16, &'static str)]) -> Page {
        let kept = Arc::new(Mutex::new(Vec::new()));
        let all = Arc::clone(&kept);
        let receiver = Receiver::start(move |message| {
            let mut all = all.lock().unwrap();
            let (status, body) = answers[all.len().min(answers.len() - 1)];
            all.push(message.clone());
            Reaction::Say(status, body)
        });
        Page { receiver, kept }
    }

    fn url(&self, path: &str) -> String {
        self.receiver.url(path)
    }

    fn wait_for(&self, count: usize) -> Vec<Message> {
        wait_for(&format!("{count} requests"), || {
            let kept = self.kept.lock().unwrap();
            (kept.len() >= count).then(|| kept.clone())
        })
    }

    fn kinds(&self, count: usize) -> Vec<String> {
        self.wait_for(count).iter().map(|message| message.header("x-webhook-event").to_owned()).collect()
    }
}

/// S4.1, S4.2, S4.4, S4.5, S4.7, S4.8, S4.9, S4.11, S4.12: URLs are registered for a reseller and for a portfolio with the command
/// line alone, one without credentials and one with a user and a password. What a bank begins or a person changes at the screen reaches
/// the portfolio's page and, from whatever depth, its reseller's, as far as each chose it; another portfolio's page never.
#[test]
fn a_reseller_hears_of_its_portfolios_and_a_portfolio_of_itself() {
    let support = Support::new();
    for (id, parent) in
        [("reseller", "default"), ("portfolio", "reseller"), ("merchant", "portfolio"), ("other", "reseller")]
    {
        support.done(&["tenant", "create", id, "--parent", parent]);
    }
    let (above, own, foreign) = (Page::open(&[(200, "")]), Page::open(&[(200, "")]), Page::open(&[(200, "")]));
    std::fs::write(support.home.folder().join("password"), "s3cret\n").unwrap();
    let login = ["--auth-basic-user", "gateway", "--password-file", "password"];
    let bank = ["processing.chargeback-processed", "processing.return-processed"];
    support.register("reseller", &above.url("/notify"), &login, &bank, &["--roll-up"]);
    let chosen = ["billing.subscription-modified", "processing.*"];
    support.register("portfolio", &own.url("/page.php?from=gateway"), &[], &chosen, &["--roll-up"]);
    support.register("other", &foreign.url("/"), &[], &["*"], &[]);

    let chargeback = r#"{"transactionId": 4711, "amount": 500}"#;
    assert_eq!(support.emit("portfolio", "processing.chargeback-processed", chargeback), 2, "a bank's doing");
    assert_eq!(
        support.emit("portfolio", "billing.subscription-modified", r#"{"id": 7}"#),
        1,
        "a person's, at a screen"
    );
    assert_eq!(
        support.emit("merchant", "processing.return-processed", r#"{"transactionId": 4712}"#),
        2,
        "two levels below"
    );
    assert_eq!(support.emit("portfolio", "management.terminal-created", r#"{"id": 8}"#), 0, "nobody chose it");
    assert_eq!(support.emit("reseller", "processing.noc-processed", "{}"), 0, "it rolls up, not down");

    let (to_above, to_own) = (above.wait_for(2), own.wait_for(3));
    let kinds: BTreeSet<_> = above.kinds(2).into_iter().collect();
    assert_eq!(kinds, bank.map(str::to_owned).into());
    let basic = format!("Basic {}", BASE64.encode("gateway:s3cret"));
    assert!(to_above.iter().all(|message| message.path() == "/notify" && message.header("authorization") == basic));
    let kinds: BTreeSet<_> = own.kinds(3).into_iter().collect();
    let wanted = ["billing.subscription-modified", "processing.chargeback-processed", "processing.return-processed"];
    assert_eq!(kinds, wanted.map(str::to_owned).into());
    let bare =
        |message: &Message| message.path() == "/page.php?from=gateway" && message.header("authorization").is_empty();
    assert!(to_own.iter().all(bare), "{to_own:?}");
    let told = |message: &&Message| message.header("x-webhook-event") == "processing.chargeback-processed";
    assert_eq!(to_own.iter().find(told).unwrap().body, chargeback.as_bytes());
    assert_eq!(foreign.kept.lock().unwrap().len(), 0);
}

/// S4.3: a page that the gateway cannot reach is refused when it is registered, with what opens the way to it; one that it can is
/// taken as its owner wrote it.
#[test]
fn a_page_that_cannot_be_reached_is_refused_with_the_way_out() {
    let support = Support::new();
    let register = |url: &str| support.run(&["destination", "create", "--name", "page", "--endpoint", url], "");
    for url in ["http://10.1.2.3/notify", "https://pages.internal/notify"] {
        let refused = register(url).code(1);
        let said = String::from_utf8(refused.get_output().stderr.clone()).unwrap();
        assert!(said.contains("[egress] allow"), "{said}");
    }
    register("https://shop.example.com/page.php?from=gateway&x=%20").code(0);
    let listed = support.done(&["destination", "list"]);
    assert_eq!(listed["webhook"].as_array().unwrap().len(), 1);
    assert_eq!(listed["webhook"][0]["http_endpoint_url"], "https://shop.example.com/page.php?from=gateway&x=%20");
}

/// S4.10, S4.16: the list of supported events is there for users; each of the 14 can be chosen by itself, and comes.
#[test]
fn each_of_the_14_events_can_be_chosen_from_the_list() {
    let support = Support::new();
    let listed = support.done(&["event-type", "list", "--limit", "1000"]);
    let listed = listed["event_types"].as_array().unwrap().clone();
    let own: Vec<_> = listed.iter().filter(|known| known["source"] == "gateway").collect();
    let names: Vec<_> = own.iter().map(|known| known["name"].as_str().unwrap()).collect();
    assert!(names.len() == 14 && own.iter().all(|known| known["description"].is_string()), "{names:?}");
    let page = Page::open(&[(200, "")]);
    support.register("default", &page.url("/"), &[], &names, &[]);
    let line = |known: &&Value| json!({"type": known["name"], "data": known["sample"]}).to_string();
    let lines: Vec<_> = own.iter().map(line).collect();
    support.run(&["emit", "--ndjson"], &(lines.join("\n") + "\n")).code(0);
    let mut got = page.kinds(14);
    got.sort();
    let mut wanted: Vec<_> = names.iter().map(|name| (*name).to_owned()).collect();
    wanted.sort();
    assert_eq!(got, wanted);
}

/// S4.13, S4.14, S4.15: it is sent again, never earlier than the schedule says, until the page confirms it: with a status of the set
/// and a body that equals, begins with or contains a text. Then no more; and where nothing confirms it, to the schedule's end.
#[test]
fn a_notification_is_sent_again_until_the_page_confirms_it() {
    const TURNS: [(u16, &str); 4] = [(500, "OK"), (200, "busy, not [OK] yet"), (201, "OK"), (200, "OK: 1 taken [OK]")];
    let support = Support::new();
    let status = ["--schedule", "gateway", "--success-status", "200"];
    // Of the four replies the first that confirms, by this rule.
    for (tenant, rule, text, attempts) in [
        ("prefixed", "--success-prefix", "OK", 4),
        ("contained", "--success-contains", "[OK]", 2),
        ("equal", "--success-equals", "OK: 1 taken [OK]", 4),
        ("never", "--success-equals", "OK", 5),
    ] {
        support.done(&["tenant", "create", tenant]);
        let page = Page::open(&TURNS);
        let kind = "processing.reversal-processed";
        support.register(tenant, &page.url("/"), &[&status[..], &[rule, text]].concat(), &[kind], &[]);
        support.emit(tenant, kind, r#"{"transactionId": 1}"#);
        let ended = wait_for("the end", || {
            let delivery = support.delivery(tenant);
            (delivery["state"] != "pending").then_some(delivery)
        });
        let tried = ended["attempts"].as_array().unwrap();
        let got = page.wait_for(attempts);
        assert_eq!((tried.len(), got.len()), (attempts, attempts), "{tenant}: {ended}");
        let confirmed = tenant != "never";
        assert_eq!(ended["state"], if confirmed { "succeeded" } else { "failed" }, "{tenant}");
        let reasons: Vec<_> = tried.iter().map(|attempt| attempt["reason"].as_str()).collect();
        let unmet = if rule == "--success-contains" { None } else { Some("predicate") };
        let wanted = [Some("status"), unmet, Some("status"), if confirmed { None } else { unmet }, unmet];
        assert_eq!(reasons, wanted[..attempts], "{tenant}");
        let ids: BTreeSet<_> = got.iter().map(|message| message.header("x-webhook-id")).collect();
        assert!(ids.len() == 1 && got.iter().all(|message| message.body == got[0].body), "{tenant}");

        let moments: Vec<_> = tried.iter().map(|attempt| millis(&attempt["started_at"])).collect();
        for (place, delay) in [10, 20, 40, 10].into_iter().enumerate().take(attempts - 1) {
            // Moments are told in whole milliseconds.
            assert!(moments[place + 1] + 1 >= moments[place] + delay, "{tenant}: {moments:?}");
        }
    }
}

/// A moment of the API, in milliseconds.
fn millis(moment: &Value) -> i64 {
    moment.as_str().unwrap().parse::<jiff::Timestamp>().unwrap().as_millisecond()
}
