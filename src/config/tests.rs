use std::fmt::Write as _;

use super::*;

/// A configuration folder with these files.
fn folder(files: &[(&str, &str)]) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for (name, text) in files {
        let path = folder.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }
    folder
}

fn sources(folder: &Path) -> Sources {
    Sources { file: Some(folder.join("config.toml")), env: Vec::new(), flags: Vec::new(), places: Places::packaged() }
}

fn loaded(text: &str) -> Result<Loaded, ConfigError> {
    let folder = folder(&[("config.toml", text)]);
    Loaded::load(&sources(folder.path()))
}

/// The problems of a file as text, each as `line: what | cause`.
fn problems(text: &str) -> String {
    let mut all = String::new();
    for Problem { what, origin, cause, help } in loaded(text).expect_err("the file has a problem").problems {
        match origin {
            Some(Origin::File(_, line)) => write!(all, "{line}").unwrap(),
            origin => write!(all, "{origin:?}").unwrap(),
        }
        writeln!(all, ": {what} | {cause}").unwrap();
        assert!(!help.is_empty());
    }
    all
}

/// Takes the # from every line that is a key or a block, and leaves the sentences.
fn uncommented(example: &str) -> String {
    let is_toml = |line: &str| line.starts_with("[[") || line.split_once(" = ").is_some_and(|(key, _)| is_key(key));
    let is_illustration = |line: &str| line.starts_with("allow = [\"");
    let line = |line: &str| match line.strip_prefix("# ") {
        Some(bare) if is_toml(bare) && !is_illustration(bare) => bare.to_owned(),
        _ => line.to_owned(),
    };
    example.lines().map(line).collect::<Vec<_>>().join("\n")
}

fn is_key(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_')
}

#[test]
fn the_example_shows_every_key_with_its_default() {
    let loaded = loaded(&uncommented(EXAMPLE)).unwrap();
    let defaults = Config::of_places(&Places::packaged());
    let mut config = loaded.config.clone();
    config.ingest.allow.clear();
    config.egress.rules.clear();
    config.events = defaults.events.clone();
    config.schedules.remove("patient").expect("the example shows a schedule");
    assert_eq!(config, defaults);
    let not_shown: Vec<_> = loaded.entries.iter().filter(|entry| entry.origin == Origin::Default).collect();
    assert!(not_shown.is_empty(), "{not_shown:#?}");
}

#[test]
fn the_example_blocks_mean_what_they_say() {
    let config = loaded(&uncommented(EXAMPLE)).unwrap().config;
    let tenant = |id: &str| id.parse::<TenantId>().unwrap();
    assert_eq!(
        config.ingest.allow,
        [
            IngestRule { who: Who::Uid(1000), tenants: Tenants::Only(vec![tenant("shop"), tenant("shop-eu")]) },
            IngestRule { who: Who::Group(Group::Name("billing".to_owned())), tenants: Tenants::All },
        ]
    );
    assert_eq!(
        config.egress.rules,
        [EgressRule {
            tenant: Some(tenant("shop")),
            cidr: Some("10.8.0.0/16".parse().unwrap()),
            host: Some("orders.internal".parse().unwrap()),
            ports: vec![443..=443, 8440..=8449],
        }]
    );
    let refund = config.events.types.find(&"refund.done".parse().unwrap()).unwrap();
    assert_eq!((refund.name.as_str(), refund.origin.as_str()), ("refund.settled", "configuration"));
    assert_eq!(refund.sample.as_deref(), Some(r#"{"refund": "R-1", "amount": "5.00"}"#));
    let patient = &config.schedules["patient"];
    assert_eq!((patient.attempts_max(), patient.base_delay(47)), (48, Some(Duration::from_secs(3600))));
    let illustrated = loaded("[egress]\nallow = [\"10.4.0.0/16\", \"ERP.internal\", \"192.168.7.9\"]").unwrap().config;
    assert_eq!(
        illustrated.egress.allow,
        [
            EgressTarget::Net("10.4.0.0/16".parse().unwrap()),
            EgressTarget::Name("erp.internal".parse().unwrap()),
            EgressTarget::Net("192.168.7.9/32".parse().unwrap()),
        ]
    );
}

#[test]
fn the_example_as_it_is_changes_nothing() {
    assert_eq!(loaded(EXAMPLE).unwrap().config, Config::of_places(&Places::packaged()));
}

/// S0.20: the list of webhook types is open. Files and environment each add their part to a dialect's section.
#[test]
fn a_dialects_section_is_laid_over_key_by_key() {
    let folder = folder(&[
        ("config.toml", "[dialects.backoffice]\ntypes = { 9 = \"refund.settled\", 12 = \"a.b\" }"),
        ("conf.d/10-a.toml", "[dialects]\nsubscribe = { enabled = false }"),
    ]);
    let mut sources = sources(folder.path());
    sources.env = vec![("POSTRIDER__DIALECTS__BACKOFFICE__ENABLED".to_owned(), "false".to_owned())];
    let loaded = Loaded::load(&sources).unwrap();
    let Dialects { backoffice, subscribe } = &loaded.config.dialects;
    assert!(!backoffice.enabled && !subscribe.enabled);
    let types: Vec<_> = backoffice.types.0.iter().map(|(code, kind)| (*code, kind.as_str())).collect();
    assert_eq!(types, [(9, "refund.settled"), (12, "a.b")]);
    let shown = loaded.entries.iter().find(|entry| entry.key == "types").unwrap();
    assert_eq!((&*shown.heading, &*shown.value), ("[dialects.backoffice]", "{ 9 = \"refund.settled\", 12 = \"a.b\" }"));
    sources.flags = vec![("dialects.backoffice.types".to_owned(), "{ 10 = \"c\" }".to_owned())];
    let types = Loaded::load(&sources).unwrap().config.dialects.backoffice.types;
    assert_eq!(types.0.keys().copied().collect::<Vec<_>>(), [10]);
    for wrong in [
        "{ 4 = \"a\" }",
        "{ 9 = \"a b\" }",
        "{ x = \"a\" }",
        "{ 09 = \"a\" }",
        "{ 9 = \"a\", 10 = \"a\" }",
        "{ 9 = 1 }",
        "7",
    ] {
        let text = format!("[dialects.backoffice]\ntypes = {wrong}");
        let problem = self::loaded(&text).unwrap_err().problems.remove(0);
        assert!(problem.cause.starts_with("expected numbers other than 4 to 8"), "{wrong}: {problem}");
    }
    let unknown = self::loaded("[dialects.backofice]\nenabled = false").unwrap_err();
    assert!(unknown.problems[0].cause.contains("\"backoffice\""), "{unknown}");
}

#[test]
fn the_packaged_file_gives_the_socket_to_the_producers() {
    let config = loaded(include_str!("../../packaging/config.toml")).unwrap().config;
    let mut expected = Config::of_places(&Places::packaged());
    expected.ingest.socket_group = Some(Group::Name("postrider-producers".to_owned()));
    assert_eq!(config, expected);
}

#[test]
fn a_flag_wins_over_the_environment_over_drop_ins_over_the_file_over_the_default() {
    let folder = folder(&[
        (
            "config.toml",
            "[delivery]\ntimeout = \"1s\"\nconnect_timeout = \"1s\"\ntls_timeout = \"1s\"\nhead_timeout = \"1s\"",
        ),
        ("conf.d/20-b.toml", "[delivery]\ntls_timeout = \"3s\""),
        ("conf.d/10-a.toml", "[delivery]\ntimeout = \"2s\"\nconnect_timeout = \"2s\"\ntls_timeout = \"2s\""),
        ("conf.d/30-ignored.txt", "not a drop-in"),
    ]);
    let mut sources = sources(folder.path());
    let pair = |key: &str, value: &str| (key.to_owned(), value.to_owned());
    sources.env = vec![
        pair("POSTRIDER__DELIVERY__TIMEOUT", "4s"),
        pair("POSTRIDER__DELIVERY__CONNECT_TIMEOUT", "4s"),
        pair("HOME", "/nowhere"),
    ];
    sources.flags = vec![pair("delivery.timeout", "5s")];
    let loaded = Loaded::load(&sources).unwrap();
    let delivery = &loaded.config.delivery;
    let spans = [
        delivery.timeout,
        delivery.connect_timeout,
        delivery.tls_timeout,
        delivery.head_timeout,
        delivery.breaker_delay,
    ];
    assert_eq!(spans.map(|span| span.as_secs()), [5, 4, 3, 1, 30]);
    let origin = |key: &str| {
        let entry = loaded.entries.iter().find(|entry| entry.heading == "[delivery]" && entry.key == key).unwrap();
        entry.origin.to_string().replace(&format!("{}/", folder.path().display()), "")
    };
    assert_eq!(origin("timeout"), "flag --set delivery.timeout");
    assert_eq!(origin("connect_timeout"), "environment variable POSTRIDER__DELIVERY__CONNECT_TIMEOUT");
    assert_eq!(origin("tls_timeout"), "conf.d/20-b.toml:2");
    assert_eq!(origin("head_timeout"), "config.toml:5");
    assert_eq!(origin("breaker_delay"), "default");
}

#[test]
fn blocks_of_several_files_add_up_and_schedules_replace_each_other() {
    let folder = folder(&[
        (
            "config.toml",
            "[[ingest.allow]]\nuid = 1\ntenants = [\"a\"]\n[schedules]\nx = { delays = [\"1s\"], attempts_max = 9 }",
        ),
        (
            "conf.d/b.toml",
            "[[ingest.allow]]\ngroup = 7\ntenants = [\"b\", \"*\"]\n[schedules]\nx = { delays = [\"2s\"] }",
        ),
    ]);
    let config = Config::load(&sources(folder.path())).unwrap();
    let who: Vec<_> = config.ingest.allow.iter().map(|rule| rule.who.clone()).collect();
    assert_eq!(who, [Who::Uid(1), Who::Group(Group::Id(7))]);
    assert_eq!(config.ingest.allow[1].tenants, Tenants::All);
    assert_eq!(config.schedules["x"].attempts_max(), 2);
}

#[test]
fn the_environment_can_say_every_kind_of_value() {
    let pair = |key: &str, value: &str| (key.to_owned(), value.to_owned());
    let env = vec![
        pair("POSTRIDER__ADMIN__LISTEN", ""),
        pair("POSTRIDER__ADMIN__INSECURE", "true"),
        pair("POSTRIDER__INGEST__PENDING_MAX", "1_000"),
        pair("POSTRIDER__INGEST__SOCKET_GROUP", "44"),
        pair("POSTRIDER__EGRESS__ALLOW", "10.0.0.0/8, erp.internal"),
        pair("POSTRIDER__STORE__CACHE", "4MiB"),
        pair("POSTRIDER__STORE__PATH", "7"),
    ];
    let folder = folder(&[("config.toml", "")]);
    let mut sources = Sources { env, ..sources(folder.path()) };
    let config = Config::load(&sources).unwrap();
    assert_eq!((config.admin.listen, config.admin.insecure), (None, true));
    assert_eq!((config.ingest.pending_max, config.ingest.socket_group), (1000, Some(Group::Id(44))));
    assert_eq!((config.egress.allow.len(), config.store.cache), (2, ByteSize::mib(4)));
    assert_eq!(config.store.path, Path::new("7"));

    sources.env = vec![pair("POSTRIDER__EGRESS__ALLOW", "[\"10.0.0.0/8\", \"erp.internal\"]")];
    assert_eq!(Config::load(&sources).unwrap().egress.allow, config.egress.allow);

    sources.env = vec![pair("POSTRIDER__DELIVERY__TIMOUT", "1s"), pair("POSTRIDER__STORE", "x")];
    let error = Config::load(&sources).unwrap_err().to_string();
    assert_eq!(
        error,
        "environment variable POSTRIDER__STORE: store = \"x\" is not a section: its keys stand under [store]\n\
         environment variable POSTRIDER__DELIVERY__TIMOUT: [delivery] has no key \"timout\": \
         the nearest known name is \"timeout\""
    );
}

#[test]
fn an_unknown_key_is_an_error_with_its_line_and_the_nearest_name() {
    insta::assert_snapshot!(problems(
        "[delivery]\ntimout = \"3s\"\nlisten = \"x\"\n\n[deliver]\na = 1\n[[egress.rule]]\ncdir = \"10.0.0.0/8\"\nhost = \"a.b\"\n\
         [schedules]\nx = { delays = [\"1s\"], attempts = 3 }\n[log]\nzzzzzz = 1"
    ), @r#"
    2: [delivery] has no key "timout" | the nearest known name is "timeout"
    3: [delivery] has no key "listen" | "listen" stands in [admin]
    5: there is no section [deliver] | the nearest known name is "delivery"
    8: [egress.rule] has no key "cdir" | the nearest known name is "cidr"
    11: [schedules.NAME] has no key "attempts" | the nearest known name is "attempts_max"
    13: [log] has no key "zzzzzz" | no known name is near; there are format, level
    "#);
}

#[test]
fn a_bad_value_is_an_error_with_its_line_and_what_is_expected() {
    insta::assert_snapshot!(problems(
        "[store]\ncache = 16\npath = \"\"\n[ingest]\nline_max = \"16MB\"\npending_max = -1\nconnections_max = 0\n\
         [admin]\nlisten = \"8470\"\ninsecure = \"yes\"\n[delivery]\ntimeout = \"30\"\nsource_address = \"eth0\"\n\
         [egress]\nallow = [\"10.0.0.0/33\"]\n[log]\nlevel = \"loud\"\nformat = 2026-01-01\n[retention]\nevents = \"0s\""
    ), @r#"
    2: store.cache = 16 is not valid | expected a size with its unit, such as "64KiB", "16MiB" or "1GiB"
    3: store.path = "" is not valid | expected a path
    5: ingest.line_max = "16MB" is not valid | expected a size with its unit, such as "64KiB", "16MiB" or "1GiB"
    6: ingest.pending_max = -1 is not valid | expected a whole number
    7: ingest.connections_max = 0 is out of bounds | it lies between 1 and 65535
    9: admin.listen = "8470" is not valid | expected an address and a port, such as "127.0.0.1:8470" or "[::1]:8470"
    10: admin.insecure = "yes" is not valid | expected true or false
    12: delivery.timeout = "30" is not valid | expected a duration with its unit, such as "500ms", "30s", "5m", "1h30m" or "30d"
    13: delivery.source_address = "eth0" is not valid | expected an IP address, such as "192.0.2.7"
    15: egress.allow = ["10.0.0.0/33"] is not valid | expected a list of address ranges and host names, such as ["10.4.0.0/16", "erp.internal"]
    17: log.level = "loud" is not valid | expected one of "error", "warn", "info", "debug", "trace"
    18: log.format = 2026-01-01 is not valid | expected one of "auto", "pretty", "json", "journald"
    20: retention.events = "0s" is out of bounds | it lies between "1s" and "36525d"
    "#);
}

#[test]
fn a_block_or_schedule_that_makes_no_sense_says_why() {
    insta::assert_snapshot!(problems(
        "[[ingest.allow]]\ntenants = [\"a\"]\n[[ingest.allow]]\nuid = 1\ngroup = \"b\"\ntenants = [\"a\"]\n\
         [[ingest.allow]]\nuid = 1\n[[ingest.allow]]\nuid = \"root\"\n[[egress.rule]]\ntenant = \"a\"\n\
         [[egress.rule]]\nports = [\"90-80\"]\n[schedules]\nnone = { delays = [] }\nshort = { attempts_max = 1 }\n\
         \"a b\" = { delays = [\"1s\"] }\nplain = 7\n[delivery]\nschedule = \"nonesuch\""
    ), @r#"
    1: a [[ingest.allow]] is incomplete | it is about one uid or one group
    3: a [[ingest.allow]] is incomplete | it is about one uid or one group
    7: a [[ingest.allow]] is incomplete | it names no tenants
    10: ingest.allow.uid = "root" is not valid | expected a whole number
    11: a [[egress.rule]] is incomplete | it opens nothing
    14: egress.rule.ports = ["90-80"] is not valid | expected a list of ports and port ranges, such as [8443, "9000-9010"]
    18: the schedule "a b" is not valid | its name is 1 to 64 of A-Z a-z 0-9 - _ .
    19: schedules.plain = 7 is not a table | it is written { … } in a file
    21: delivery.schedule names "nonesuch", which is no schedule | the schedules are adyen-30d, checkout-30h, console-72h, nmi-3d, none, short, standard
    "#);
}

#[test]
fn an_event_type_is_its_own() {
    insta::assert_snapshot!(problems(
        "[events]\nstrict_types = 1\n[[events.type]]\ndescription = \"x\"\n[[events.type]]\nname = \"transaction\"\n\
         [[events.type]]\nname = \"a\"\naliases = [\"cardupdate.created\"]\n[[events.type]]\nname = \"a b\"\n\
         [[events.type]]\nname = \"b\"\nsample = \"{\"\n[[events.type]]\nname = \"c\"\naliases = [\"c\"]\n\
         [[events.type]]\nname = \"d\"\ndescription = \"\""
    ), @r#"
    2: events.strict_types = 1 is not valid | expected true or false
    3: a [[events.type]] is incomplete | it has no name
    5: a [[events.type]] is incomplete | its name or an alias is another event type's
    7: a [[events.type]] is incomplete | its name or an alias is another event type's
    11: events.type.name = "a b" is not valid | expected an event type: 1 to 128 of A-Z a-z 0-9 _ . -
    12: a [[events.type]] is incomplete | its sample is not one JSON value of at most 64 KiB
    15: a [[events.type]] is incomplete | it has over 16 aliases, or one twice
    18: a [[events.type]] is incomplete | its description is not 1 to 256 characters on one line
    "#);
    let types = loaded("[events]\nstrict_types = true").unwrap().config.events.types;
    assert!(types.takes(&"transaction".parse().unwrap()) && !types.takes(&"a".parse().unwrap()));
}

/// P16: what is to be masked and would not be is told at the start, with its key and how it is written.
#[test]
fn a_mask_that_names_no_place_is_refused() {
    for wrong in ["\"card/holder\"", "[\"/card\", \"card.holder\"]", "[\"/a~2b\"]", "[\"\"]", "[7]"] {
        let told = problems(&format!("[events]\nmask = {wrong}"));
        let expected = format!("2: events.mask = {wrong} is not valid | expected a list of JSON pointers, such as");
        assert!(told.starts_with(&expected) && told.contains("each begins with /"), "{told}");
    }
    let mask = loaded("[events]\nmask = [\"/card/holder\", \"/~01/*\"]").unwrap().config.events.mask;
    assert_eq!(mask.show_reply(br#"{"card":{"holder":"A B"}}"#), r#"{"card":{"holder":"***"}}"#);
}

#[test]
fn what_belongs_together_is_checked_together() {
    insta::assert_snapshot!(problems(
        "[admin]\nlisten = \"0.0.0.0:8470\"\ntls_cert = \"c.pem\"\nsocket = \"/same.sock\"\n\
         [ingest]\nqueue_max = \"1MiB\"\nline_max = \"2MiB\"\nsocket = \"/same.sock\""
    ), @r#"
    2: admin.listen = "0.0.0.0:8470" would serve keys and payloads in plain text beyond this machine | neither TLS nor insecure = true is set
    3: admin.tls_cert is set and admin.tls_key is not | a certificate and its key come together
    4: ingest.socket and admin.socket are one path | whoever may emit could then administer
    6: ingest.queue_max = "1MiB" is less than one request may have | ingest.line_max is "2MiB"
    "#);
    let long = format!("[ingest]\nsocket = \"/{}\"", "x".repeat(120));
    insta::assert_snapshot!(problems(&long), @"2: ingest.socket is too long a path for a Unix socket | it has 121 bytes, and the system takes at most 107");
}

#[test]
fn beyond_loopback_the_admin_listener_needs_tls_or_an_explicit_word() {
    for (text, right) in [
        ("listen = \"127.0.0.2:1\"", true),
        ("listen = \"[::1]:1\"", true),
        ("listen = \"\"", true),
        ("listen = \"10.0.0.1:1\"", false),
        ("listen = \"[::]:1\"", false),
        ("listen = \"10.0.0.1:1\"\ninsecure = true", true),
        ("listen = \"10.0.0.1:1\"\ntls_cert = \"c\"\ntls_key = \"k\"", true),
        ("tls_key = \"k\"", false),
    ] {
        assert_eq!(loaded(&format!("[admin]\n{text}")).is_ok(), right, "{text}");
    }
}

#[test]
fn a_file_that_is_no_toml_or_not_there_is_an_error_with_its_place() {
    assert!(problems("[store]\npath = \n").starts_with("2: the configuration is not TOML | "));
    assert!(problems("[store]\n[store]\n").starts_with("2: the configuration is not TOML | "));
    let folder = tempfile::tempdir().unwrap();
    let mut sources = sources(folder.path());
    let error = Config::load(&sources).unwrap_err();
    assert!(error.to_string().contains("config.toml: No such file"), "{error}");
    std::fs::write(folder.path().join("config.toml"), b"[store]\n# \xff\n").unwrap();
    let error = Config::load(&sources).unwrap_err();
    assert!(error.to_string().contains("config.toml:2: the configuration is not TOML: it holds bytes"), "{error}");
    sources.file = None;
    sources.places.config = folder.path().join("absent");
    assert_eq!(Config::load(&sources).unwrap(), Config::of_places(&Places::packaged()));
}
