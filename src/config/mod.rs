//! The configuration: what an operator wrote, as typed values, each with the place it came from.
//!
//! A flag wins over the environment (`POSTRIDER__SECTION__KEY`), that over `conf.d/*.toml` in the order of their names,
//! that over `config.toml`, that over the default. Keys replace each other; `[[blocks]]` of several files add up.
//! Everything wrong is reported at once, each with file and line, the likely cause and the remedy. What a `Config`
//! holds is right because it exists: names resolve, bounds hold, what belongs together is together.
//!
//! No part of the daemon imports this module: `daemon` turns a `Config` into each part's own `Settings`. Whether a file
//! that is named here exists, or a name or an address can be used, is for the part that uses it.

mod places;
mod reader;
mod tree;
mod value;

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::ops::RangeInclusive;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use ipnet::IpNet;

pub use places::Places;
pub use reader::{ConfigError, Entry, Problem};
use reader::{Reader, Report};
pub use tree::Origin;
use tree::{SyntaxError, Table, Tree};
pub use value::{ByteSize, EgressTarget, Group, HostName, LogFormat, LogLevel, MasterKey, ProxyAddress, WebhookTypes};
use value::{Ports, TenantName};

use crate::model::mask::PayloadMask;
use crate::model::schedule::JITTER_DEFAULT;
use crate::model::user::PROOF_LASTS;
use crate::model::{ConfirmationMode, EventType, EventTypes, KnownType, Schedule, TenantId, event_type};

/// The file that shows every key with its default.
pub const EXAMPLE: &str = include_str!("../../config.example.toml");

/// Longest path of a Unix socket on Linux, in bytes: `sun_path` less its closing zero.
const SOCKET_PATH_MAX: usize = 107;

/// What an environment variable that sets a key begins with.
const ENV_PREFIX: &str = "POSTRIDER__";

/// From where a configuration is put together.
#[derive(Debug, Clone)]
pub struct Sources {
    /// The main file, which must exist; `None` stands for the one in `places`, which may be absent. `conf.d` lies beside
    /// it in either case.
    pub file: Option<PathBuf>,
    /// The environment; only names with the prefix `POSTRIDER__` are looked at.
    pub env: Vec<(String, String)>,
    /// `section.key` and value of each `--set`.
    pub flags: Vec<(String, String)>,
    /// Where files lie by default.
    pub places: Places,
}

/// The whole configuration.
#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    /// `[store]`
    pub store: Store,
    /// `[ingest]`
    pub ingest: Ingest,
    /// `[events]`
    pub events: Events,
    /// `[admin]`
    pub admin: Admin,
    /// `[delivery]`
    pub delivery: Delivery,
    /// `[confirmation]`
    pub confirmation: Confirmation,
    /// `[egress]`
    pub egress: Egress,
    /// `[retention]`
    pub retention: Retention,
    /// `[limits]`
    pub limits: Limits,
    /// `[dialects.…]`
    pub dialects: Dialects,
    /// The schedules that every installation knows, and those of `[schedules]`, by name.
    pub schedules: BTreeMap<String, Schedule>,
    /// `[log]`
    pub log: Log,
}

/// `[store]`: the one file on disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Store {
    /// The redb file.
    pub path: PathBuf,
    /// Where the key lies that opens its records.
    pub master_key: MasterKey,
    /// Memory for its pages.
    pub cache: ByteSize,
}

/// `[ingest]`: the socket that takes events.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ingest {
    /// Its path.
    pub socket: PathBuf,
    /// The group that may write to it; `None` leaves the process's own.
    pub socket_group: Option<Group>,
    /// Longest request.
    pub line_max: ByteSize,
    /// Requests waiting for a commit; beyond it reading pauses (the soft mark).
    pub queue_max: ByteSize,
    /// Deliveries waiting on disk; beyond it events are refused as retryable (the hard mark).
    pub pending_max: u64,
    /// Open connections.
    pub connections_max: u32,
    /// `[[ingest.allow]]`: who may emit for whom; empty means that whoever may open the socket may emit for all.
    pub allow: Vec<IngestRule>,
}

/// `[events]`: which event types there are.
#[derive(Debug, Clone, PartialEq)]
pub struct Events {
    /// The built-in types and those of `[[events.type]]`, and whether others are taken.
    pub types: EventTypes,
    /// What is masked of payloads that people are shown, beside card data.
    pub mask: PayloadMask,
}

/// `[[ingest.allow]]`: these callers may emit for these tenants.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IngestRule {
    /// Whom the rule is about.
    pub who: Who,
    /// For whom they may emit.
    pub tenants: Tenants,
}

/// Callers of the ingest socket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Who {
    /// Processes of the user with this number.
    Uid(u32),
    /// Processes of this group.
    Group(Group),
}

/// A choice of tenants.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Tenants {
    /// Each there is and will be.
    All,
    /// These.
    Only(Vec<TenantId>),
}

/// `[admin]`: the API's listeners.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Admin {
    /// The operator's Unix socket.
    pub socket: PathBuf,
    /// The TCP listener; `None` when switched off.
    pub listen: Option<SocketAddr>,
    /// The TCP listener's certificate and key; without them it speaks plain HTTP, on loopback or because `insecure` says so.
    pub tls: Option<TlsFiles>,
    /// Plain HTTP beyond loopback is wanted (a proxy in front does TLS).
    pub insecure: bool,
    /// Names, beside `localhost` and addresses, under which browsers reach the dashboard.
    pub hosts: Vec<HostName>,
    /// For how long a person's proof of the second factor is fresh.
    pub proof_lasts: Duration,
}

/// A certificate chain and its private key, both PEM files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsFiles {
    /// The chain, leaf first.
    pub cert: PathBuf,
    /// The key.
    pub key: PathBuf,
}

/// `[delivery]`: how attempts are made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Delivery {
    /// The whole attempt.
    pub timeout: Duration,
    /// Until the TCP connection stands.
    pub connect_timeout: Duration,
    /// Until TLS is agreed.
    pub tls_timeout: Duration,
    /// From the request's last byte to the end of the reply's head.
    pub head_timeout: Duration,
    /// Attempts at a time to one destination.
    pub in_flight_max: u32,
    /// Attempts at a time to all.
    pub in_flight_total: u32,
    /// The name of the schedule for destinations that name none; it is a key of [`Config::schedules`].
    pub schedule: String,
    /// The local address that connections come from; `None` leaves it to the system.
    pub source_address: Option<IpAddr>,
    /// The HTTP proxy that all deliveries go through; `None` for none. The environment's proxies are never read.
    pub proxy: Option<ProxyAddress>,
    /// So many failures in a row shut a lane.
    pub breaker_failures: u32,
    /// How long a lane stays shut before its first probe.
    pub breaker_delay: Duration,
}

/// `[confirmation]`: how receivers are asked whether they want deliveries.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Confirmation {
    /// What confirms a destination.
    pub mode: ConfirmationMode,
    /// Whether a confirmation ends when the destination's URL changes.
    pub reset_on_url_change: bool,
}

/// `[egress]`: where deliveries may go beyond public addresses over https.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Egress {
    /// Ranges and names opened for all tenants.
    pub allow: Vec<EgressTarget>,
    /// Receivers on this machine.
    pub allow_loopback: bool,
    /// Plain http URLs.
    pub allow_http: bool,
    /// A PEM file with further roots for all destinations.
    pub ca: Option<PathBuf>,
    /// `[[egress.rule]]`
    pub rules: Vec<EgressRule>,
}

/// `[[egress.rule]]`: a finer opening. Everything it names must match.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EgressRule {
    /// For this tenant; `None` for all.
    pub tenant: Option<TenantId>,
    /// Addresses of this range; `None` leaves the address to the ordinary rules.
    pub cidr: Option<IpNet>,
    /// URLs with this host; `None` for any.
    pub host: Option<HostName>,
    /// These ports; empty leaves them to the ordinary rules.
    pub ports: Vec<RangeInclusive<u16>>,
}

/// `[retention]`: how long finished things stay.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Retention {
    /// Events and their deliveries, from acceptance.
    pub events: Duration,
    /// Attempts, from their start.
    pub attempts: Duration,
    /// Records of the audit log.
    pub audit: Duration,
}

/// `[limits]`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Longest URL of a destination, in characters.
    pub url_chars_max: u32,
    /// Free space on the store's file system below which no event is taken.
    pub disk_reserve: ByteSize,
}

/// `[dialects.…]`: the APIs of other systems that the admin API speaks as well.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dialects {
    /// `[dialects.backoffice]`
    pub backoffice: Backoffice,
    /// `[dialects.subscribe]`
    pub subscribe: Subscribe,
}

/// `[dialects.backoffice]`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Backoffice {
    /// Whether it is spoken.
    pub enabled: bool,
    /// Types of webhooks beside those of the document.
    pub types: WebhookTypes,
}

/// `[dialects.subscribe]`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Subscribe {
    /// Whether it is spoken.
    pub enabled: bool,
}

/// `[log]`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Log {
    /// How lines are written.
    pub format: LogFormat,
    /// From which severity on.
    pub level: LogLevel,
}

/// A configuration and the account of where each of its values comes from.
#[derive(Debug, Clone, PartialEq)]
pub struct Loaded {
    /// What holds.
    pub config: Config,
    /// Every value with its origin, in the order of the example file.
    pub entries: Vec<Entry>,
    /// The files that were read, in order.
    pub files: Vec<PathBuf>,
}

impl Config {
    /// Puts the configuration together. Reads the files that `sources` names, and nothing else.
    pub fn load(sources: &Sources) -> Result<Config, ConfigError> {
        Loaded::load(sources).map(|loaded| loaded.config)
    }

    /// The configuration of somebody who wrote nothing.
    pub fn of_places(places: &Places) -> Config {
        let (config, _) = read(Tree::default(), places).expect("the defaults are within their own bounds");
        config
    }
}

impl Loaded {
    /// Puts the configuration together and keeps the account.
    pub fn load(sources: &Sources) -> Result<Loaded, ConfigError> {
        let mut tree = Tree::default();
        let files = config_files(sources)?;
        for file in &files {
            add_file(&mut tree, file)?;
        }
        for (name, value) in &sources.env {
            if let Some(path) = name.strip_prefix(ENV_PREFIX) {
                let path = path.to_ascii_lowercase();
                let path: Vec<_> = path.split("__").collect();
                tree.add_text(&path, value, &Origin::Env(name.clone()));
            }
        }
        for (key, value) in &sources.flags {
            let path: Vec<_> = key.split('.').collect();
            tree.add_text(&path, value, &Origin::Flag(key.clone()));
        }
        let (config, entries) = read(tree, &sources.places)?;
        Ok(Loaded { config, entries, files })
    }
}

/// The main file and those of `conf.d` beside it, lowest precedence first.
fn config_files(sources: &Sources) -> Result<Vec<PathBuf>, ConfigError> {
    let main = sources.file.clone().unwrap_or_else(|| sources.places.config.join("config.toml"));
    let folder = main.parent().unwrap_or(Path::new("")).join("conf.d");
    let mut files = Vec::new();
    if sources.file.is_some() || main.exists() {
        files.push(main);
    }
    let mut drop_ins = Vec::new();
    match std::fs::read_dir(&folder) {
        Err(error) if matches!(error.kind(), std::io::ErrorKind::NotFound | std::io::ErrorKind::NotADirectory) => {}
        Err(error) => return Err(unreadable(&folder, &error).into()),
        Ok(listing) => {
            for item in listing {
                let path = item.map_err(|error| unreadable(&folder, &error))?.path();
                if path.extension().is_some_and(|extension| extension == "toml") {
                    drop_ins.push(path);
                }
            }
        }
    }
    drop_ins.sort();
    files.append(&mut drop_ins);
    Ok(files)
}

fn add_file(tree: &mut Tree, file: &Path) -> Result<(), Problem> {
    let bytes = std::fs::read(file).map_err(|error| unreadable(file, &error))?;
    let syntax = |SyntaxError { message, line }| Problem {
        what: "the configuration is not TOML".to_owned(),
        origin: Some(Origin::File(file.into(), line)),
        cause: message.trim_end().replace('\n', ", "),
        help: "mend that line; postrider config example shows the form".to_owned(),
    };
    let text = String::from_utf8(bytes).map_err(|error| {
        let before = &error.as_bytes()[..error.utf8_error().valid_up_to()];
        let line = before.iter().filter(|byte| **byte == b'\n').count() + 1;
        syntax(SyntaxError { message: "it holds bytes that are not UTF-8".to_owned(), line })
    })?;
    tree.add_file(file, &text).map_err(syntax)
}

fn unreadable(path: &Path, error: &std::io::Error) -> Problem {
    let help = match error.kind() {
        std::io::ErrorKind::NotFound => format!("postrider config example > {}", path.display()),
        _ => format!("ls -l {}    # may this user read it?", path.display()),
    };
    Problem { what: format!("cannot read {}", path.display()), origin: None, cause: error.to_string(), help }
}

fn read(tree: Tree, places: &Places) -> Result<(Config, Vec<Entry>), ConfigError> {
    let mut sections = tree.sections;
    let mut report = Report::default();
    let config = Config {
        store: Store::read(&mut sections, &mut report, places),
        ingest: Ingest::read(&mut sections, &mut report, places),
        events: Events::read(&mut sections, &mut report),
        admin: Admin::read(&mut sections, &mut report, places),
        delivery: Delivery::read(&mut sections, &mut report),
        confirmation: Confirmation::read(&mut sections, &mut report),
        egress: Egress::read(&mut sections, &mut report),
        retention: Retention::read(&mut sections, &mut report),
        limits: Limits::read(&mut sections, &mut report),
        dialects: Dialects::read(&mut sections, &mut report),
        schedules: read_schedules(&mut sections, &mut report),
        log: Log::read(&mut sections, &mut report),
    };
    report.unknown_sections(sections);
    config.check_together(&mut report);
    Ok((config, report.finish()?))
}

impl Store {
    fn read(sections: &mut Table, report: &mut Report, places: &Places) -> Self {
        let mut section = Reader::of_section(sections, "store", report);
        let store = Store {
            path: section.value("path", places.state.join("postrider.redb")),
            master_key: section.value("master_key", MasterKey::Beside),
            cache: section.within("cache", ByteSize::mib(16), ByteSize::mib(1)..=ByteSize::gib(64)),
        };
        section.finish();
        store
    }
}

impl Ingest {
    fn read(sections: &mut Table, report: &mut Report, places: &Places) -> Self {
        let mut section = Reader::of_section(sections, "ingest", report);
        let ingest = Ingest {
            socket: section.value("socket", places.ingest_socket()),
            socket_group: section.value("socket_group", None),
            line_max: section.within("line_max", ByteSize::mib(1), ByteSize::kib(1)..=ByteSize::mib(64)),
            queue_max: section.within("queue_max", ByteSize::mib(32), ByteSize::mib(1)..=ByteSize::gib(4)),
            pending_max: section.within("pending_max", 50_000_000, 1..=10_000_000_000),
            connections_max: section.within("connections_max", 1024, 1..=65_535),
            allow: section.blocks("allow", "ingest.allow", IngestRule::read),
        };
        section.finish();
        ingest
    }
}

impl Events {
    fn read(sections: &mut Table, report: &mut Report) -> Self {
        let mut section = Reader::of_section(sections, "events", report);
        let mut types = EventTypes::default().strict(section.value("strict_types", false));
        let mask = PayloadMask::new(section.value("mask", Vec::new()));
        section.blocks("type", "events.type", |block| {
            let known = read_event_type(block)?;
            let taken =
                |_| ("its name or an alias is another event type's", "postrider event-type list names them all");
            types.put(known).map(drop).map_err(taken)
        });
        section.finish();
        Events { types, mask }
    }
}

/// `[[events.type]]`: one more event type.
fn read_event_type(block: &mut Reader<'_>) -> Result<KnownType, (&'static str, &'static str)> {
    let (name, description) = (block.optional::<EventType>("name"), block.optional::<String>("description"));
    let (aliases, sample) = (block.optional::<Vec<EventType>>("aliases"), block.optional::<String>("sample"));
    let Some(name) = name else { return Err(("it has no name", "name = \"refund.settled\"")) };
    let description = description.map(KnownType::description).transpose();
    let aliases = KnownType::aliases(&name, aliases.unwrap_or_default());
    let sample = sample.map(KnownType::sample).transpose();
    let wrong = |cause, help| move |_| (cause, help);
    Ok(KnownType {
        description: description
            .map_err(wrong(
                "its description is not 1 to 256 characters on one line",
                "description = \"A refund was settled\"",
            ))?
            .flatten(),
        aliases: aliases.map_err(wrong("it has over 16 aliases, or one twice", "aliases = [\"refund.done\"]"))?,
        sample: sample
            .map_err(wrong("its sample is not one JSON value of at most 64 KiB", "sample = '{\"refund\": 1}'"))?
            .flatten(),
        ..KnownType::new(name, event_type::Origin::Configured)
    })
}

impl IngestRule {
    fn read(block: &mut Reader<'_>) -> Result<Self, (&'static str, &'static str)> {
        let (uid, group) = (block.optional::<u32>("uid"), block.optional::<Group>("group"));
        let tenants = block.optional::<Vec<TenantName>>("tenants");
        let who = match (uid, group) {
            (Some(uid), None) => Who::Uid(uid),
            (None, Some(group)) => Who::Group(group),
            _ => return Err(("it is about one uid or one group", "uid = 1000, or group = \"shop\"")),
        };
        let Some(tenants) = tenants.filter(|tenants| !tenants.is_empty()) else {
            return Err(("it names no tenants", "tenants = [\"shop\"], or tenants = [\"*\"] for all"));
        };
        let named = tenants.into_iter().map(|tenant| match tenant {
            TenantName::All => None,
            TenantName::One(tenant) => Some(tenant),
        });
        // One "*" among names makes them all.
        let tenants = named.collect::<Option<Vec<_>>>().map_or(Tenants::All, Tenants::Only);
        Ok(IngestRule { who, tenants })
    }
}

impl Admin {
    fn read(sections: &mut Table, report: &mut Report, places: &Places) -> Self {
        let mut section = Reader::of_section(sections, "admin", report);
        let socket = section.value("socket", places.admin_socket());
        let listen = section.value("listen", Some(SocketAddr::from(([127, 0, 0, 1], 8470))));
        let (cert, key) = (section.value::<Option<PathBuf>>("tls_cert", None), section.value("tls_key", None));
        let insecure = section.value("insecure", false);
        let hosts = section.value("hosts", Vec::new());
        let seconds = Duration::from_secs;
        let proof_lasts = section.within("proof_lasts", PROOF_LASTS, seconds(1)..=seconds(12 * 3600));
        section.finish();
        let tls = match (cert, key) {
            (Some(cert), Some(key)) => Some(TlsFiles { cert, key }),
            (None, None) => None,
            (cert, _) => {
                let (given, missing) = if cert.is_some() { ("tls_cert", "tls_key") } else { ("tls_key", "tls_cert") };
                let what = format!("admin.{given} is set and admin.{missing} is not");
                let help = format!("set admin.{missing} too, or remove admin.{given}");
                report.problem(report.origin("admin", given), what, "a certificate and its key come together", &help);
                None
            }
        };
        Admin { socket, listen, tls, insecure, hosts, proof_lasts }
    }
}

impl Delivery {
    fn read(sections: &mut Table, report: &mut Report) -> Self {
        let mut section = Reader::of_section(sections, "delivery", report);
        let seconds = Duration::from_secs;
        let bounds = Duration::from_millis(10)..=seconds(600);
        let delivery = Delivery {
            timeout: section.within("timeout", seconds(30), bounds.clone()),
            connect_timeout: section.within("connect_timeout", seconds(5), bounds.clone()),
            tls_timeout: section.within("tls_timeout", seconds(5), bounds.clone()),
            head_timeout: section.within("head_timeout", seconds(15), bounds),
            in_flight_max: section.within("in_flight_max", 20, 1..=10_000),
            in_flight_total: section.within("in_flight_total", 1024, 1..=100_000),
            schedule: section.value("schedule", "standard".to_owned()),
            source_address: section.value("source_address", None),
            proxy: section.value("proxy", None),
            breaker_failures: section.within("breaker_failures", 10, 1..=1_000_000),
            breaker_delay: section.within("breaker_delay", seconds(30), seconds(1)..=seconds(86_400)),
        };
        section.finish();
        delivery
    }
}

impl Confirmation {
    fn read(sections: &mut Table, report: &mut Report) -> Self {
        let mut section = Reader::of_section(sections, "confirmation", report);
        let confirmation = Confirmation {
            mode: section.value("mode", ConfirmationMode::Ack),
            reset_on_url_change: section.value("reset_on_url_change", true),
        };
        section.finish();
        confirmation
    }
}

impl Egress {
    fn read(sections: &mut Table, report: &mut Report) -> Self {
        let mut section = Reader::of_section(sections, "egress", report);
        let egress = Egress {
            allow: section.value("allow", Vec::new()),
            allow_loopback: section.value("allow_loopback", false),
            allow_http: section.value("allow_http", false),
            ca: section.value("ca", None),
            rules: section.blocks("rule", "egress.rule", EgressRule::read),
        };
        section.finish();
        egress
    }
}

impl EgressRule {
    fn read(block: &mut Reader<'_>) -> Result<Self, (&'static str, &'static str)> {
        let (tenant, cidr, host) = (block.optional("tenant"), block.optional("cidr"), block.optional("host"));
        let ports = block.optional::<Vec<Ports>>("ports").unwrap_or_default();
        if cidr.is_none() && host.is_none() && ports.is_empty() {
            return Err(("it opens nothing", "name at least one of cidr, host and ports"));
        }
        Ok(EgressRule { tenant, cidr, host, ports: ports.into_iter().map(|Ports(range)| range).collect() })
    }
}

impl Retention {
    fn read(sections: &mut Table, report: &mut Report) -> Self {
        let mut section = Reader::of_section(sections, "retention", report);
        let days = |days: u64| Duration::from_secs(days * 86_400);
        let bounds = Duration::from_secs(1)..=days(36_525);
        let retention = Retention {
            events: section.within("events", days(30), bounds.clone()),
            attempts: section.within("attempts", days(90), bounds.clone()),
            audit: section.within("audit", days(400), bounds),
        };
        section.finish();
        retention
    }
}

impl Limits {
    fn read(sections: &mut Table, report: &mut Report) -> Self {
        let mut section = Reader::of_section(sections, "limits", report);
        let limits = Limits {
            url_chars_max: section.within("url_chars_max", 2048, 16..=65_535),
            disk_reserve: section.within("disk_reserve", ByteSize::mib(256), ByteSize(0)..=ByteSize::gib(1024)),
        };
        section.finish();
        limits
    }
}

impl Dialects {
    fn read(sections: &mut Table, report: &mut Report) -> Self {
        let mut dialects = Reader::of_section(sections, "dialects", report);
        let mut section = dialects.section("backoffice", "dialects.backoffice");
        let backoffice = Backoffice {
            enabled: section.value("enabled", true),
            types: section.value("types", WebhookTypes::default()),
        };
        section.finish();
        let mut section = dialects.section("subscribe", "dialects.subscribe");
        let subscribe = Subscribe { enabled: section.value("enabled", true) };
        section.finish();
        dialects.finish();
        Dialects { backoffice, subscribe }
    }
}

impl Log {
    fn read(sections: &mut Table, report: &mut Report) -> Self {
        let mut section = Reader::of_section(sections, "log", report);
        let log =
            Log { format: section.value("format", LogFormat::Auto), level: section.value("level", LogLevel::Info) };
        section.finish();
        log
    }
}

/// The built-in schedules and those of `[schedules]`; one of a built-in name takes its place.
fn read_schedules(sections: &mut Table, report: &mut Report) -> BTreeMap<String, Schedule> {
    let mut all: BTreeMap<_, _> =
        Schedule::named().into_iter().map(|(name, schedule)| (name.to_owned(), schedule)).collect();
    Reader::of_section(sections, "schedules", report).named_tables("schedules.NAME", |name, origin, table| {
        let delays = table.optional::<Vec<Duration>>("delays").unwrap_or_default();
        let attempts_max = table.optional("attempts_max");
        let jitter = table.optional("jitter").unwrap_or(JITTER_DEFAULT);
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
        let invalid = if (1..=64).contains(&name.len()) && name.bytes().all(allowed) {
            match Schedule::new(delays, attempts_max, jitter) {
                Ok(schedule) => {
                    all.insert(name.to_owned(), schedule);
                    return;
                }
                Err(invalid) => invalid.to_string(),
            }
        } else {
            "its name is 1 to 64 of A-Z a-z 0-9 - _ .".to_owned()
        };
        let help = "name = { delays = [\"5s\", \"1m\"], attempts_max = 3, jitter = 0.2 }";
        table.problem(origin, format!("the schedule \"{name}\" is not valid"), &invalid, help);
    });
    all
}

impl Config {
    /// What no key can tell by itself.
    fn check_together(&self, report: &mut Report) {
        if let Some(listen) = self.admin.listen
            && !listen.ip().to_canonical().is_loopback()
            && self.admin.tls.is_none()
            && !self.admin.insecure
        {
            report.problem(
                report.origin("admin", "listen"),
                format!("admin.listen = \"{listen}\" would serve keys and payloads in plain text beyond this machine"),
                "neither TLS nor insecure = true is set",
                "set admin.tls_cert and admin.tls_key, or listen on 127.0.0.1, or say admin.insecure = true",
            );
        }
        if !self.schedules.contains_key(&self.delivery.schedule) {
            let known: Vec<_> = self.schedules.keys().map(String::as_str).collect();
            report.problem(
                report.origin("delivery", "schedule"),
                format!("delivery.schedule names \"{}\", which is no schedule", self.delivery.schedule),
                &format!("the schedules are {}", known.join(", ")),
                "name one of those, or add it under [schedules]",
            );
        }
        if self.ingest.queue_max < self.ingest.line_max {
            report.problem(
                report.origin("ingest", "queue_max"),
                format!("ingest.queue_max = \"{}\" is less than one request may have", self.ingest.queue_max),
                &format!("ingest.line_max is \"{}\"", self.ingest.line_max),
                "raise ingest.queue_max to at least ingest.line_max",
            );
        }
        for (section, socket) in [("ingest", &self.ingest.socket), ("admin", &self.admin.socket)] {
            let length = socket.as_os_str().as_bytes().len();
            if length > SOCKET_PATH_MAX {
                report.problem(
                    report.origin(section, "socket"),
                    format!("{section}.socket is too long a path for a Unix socket"),
                    &format!("it has {length} bytes, and the system takes at most {SOCKET_PATH_MAX}"),
                    "choose a shorter path, such as one under /run",
                );
            }
        }
        if self.ingest.socket == self.admin.socket {
            report.problem(
                report.origin("admin", "socket"),
                "ingest.socket and admin.socket are one path".to_owned(),
                "whoever may emit could then administer",
                "give each a path of its own",
            );
        }
    }
}

#[cfg(test)]
mod tests;
