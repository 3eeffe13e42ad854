//! The kinds of values that a key can have: how each is read, and how it is written in a file.

use std::collections::BTreeMap;
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use ipnet::IpNet;

use super::tree::{Value, list_from_text, table_from_text};
use crate::model::mask::MaskPointer;
use crate::model::{ConfirmationMode, EventType, Invalid, TenantId};

/// A kind of value. `EXPECTED` completes the sentence "expected …".
pub(super) trait Setting: Sized {
    const EXPECTED: &'static str;

    /// Reads what stood between quotes in a file, or came without them from the environment.
    fn from_text(text: &str) -> Option<Self>;

    /// Reads what stood in a file; most kinds are written as text.
    fn from_value(value: &Value) -> Option<Self> {
        match value {
            Value::Text(text) | Value::Untyped(text) => Self::from_text(text),
            _ => None,
        }
    }

    /// The value as it would stand in a file.
    fn to_toml(&self) -> String;
}

/// `text` in TOML's quotes.
pub(super) fn quoted(text: &str) -> String {
    toml::Value::from(text).to_string()
}

impl Setting for String {
    const EXPECTED: &'static str = "a text";

    fn from_text(text: &str) -> Option<Self> {
        Some(text.to_owned())
    }

    fn to_toml(&self) -> String {
        quoted(self)
    }
}

impl Setting for ConfirmationMode {
    const EXPECTED: &'static str = r#"one of "ack", "echo", "off""#;

    fn from_text(text: &str) -> Option<Self> {
        ConfirmationMode::named(text)
    }

    fn to_toml(&self) -> String {
        quoted(self.as_str())
    }
}

impl Setting for EventType {
    const EXPECTED: &'static str = "an event type: 1 to 128 of A-Z a-z 0-9 _ . -";

    fn from_text(text: &str) -> Option<Self> {
        text.parse().ok()
    }

    fn to_toml(&self) -> String {
        quoted(self.as_str())
    }
}

impl Setting for PathBuf {
    const EXPECTED: &'static str = "a path";

    fn from_text(text: &str) -> Option<Self> {
        (!text.is_empty() && !text.contains('\0')).then(|| text.into())
    }

    fn to_toml(&self) -> String {
        quoted(&self.to_string_lossy())
    }
}

impl Setting for bool {
    const EXPECTED: &'static str = "true or false";

    fn from_text(text: &str) -> Option<Self> {
        text.parse().ok()
    }

    fn from_value(value: &Value) -> Option<Self> {
        match value {
            Value::Bool(flag) => Some(*flag),
            Value::Untyped(text) => Self::from_text(text),
            _ => None,
        }
    }

    fn to_toml(&self) -> String {
        self.to_string()
    }
}

impl Setting for u64 {
    const EXPECTED: &'static str = "a whole number";

    fn from_text(text: &str) -> Option<Self> {
        text.replace('_', "").parse().ok()
    }

    fn from_value(value: &Value) -> Option<Self> {
        match value {
            Value::Integer(integer) => (*integer).try_into().ok(),
            Value::Untyped(text) => Self::from_text(text),
            _ => None,
        }
    }

    fn to_toml(&self) -> String {
        self.to_string()
    }
}

impl Setting for u32 {
    const EXPECTED: &'static str = "a whole number";

    fn from_text(text: &str) -> Option<Self> {
        u64::from_text(text)?.try_into().ok()
    }

    fn from_value(value: &Value) -> Option<Self> {
        u64::from_value(value)?.try_into().ok()
    }

    fn to_toml(&self) -> String {
        self.to_string()
    }
}

impl Setting for f64 {
    const EXPECTED: &'static str = "a number";

    fn from_text(text: &str) -> Option<Self> {
        text.parse().ok()
    }

    fn from_value(value: &Value) -> Option<Self> {
        match value {
            Value::Float(float) => Some(*float),
            Value::Integer(integer) => Some(*integer as f64),
            Value::Untyped(text) => Self::from_text(text),
            _ => None,
        }
    }

    fn to_toml(&self) -> String {
        format!("{self:?}")
    }
}

impl Setting for Duration {
    const EXPECTED: &'static str = r#"a duration with its unit, such as "500ms", "30s", "5m", "1h30m" or "30d""#;

    fn from_text(text: &str) -> Option<Self> {
        let span: jiff::Span = text.parse().ok()?;
        let duration = span.to_duration(jiff::SpanRelativeTo::days_are_24_hours()).ok()?;
        duration.try_into().ok()
    }

    fn to_toml(&self) -> String {
        quoted(&duration_text(*self))
    }
}

/// `1h30m`, `30d`, `0s`: the units that are not zero, down to milliseconds.
fn duration_text(duration: Duration) -> String {
    let mut rest = duration.as_millis();
    let mut text = String::new();
    for (unit, millis) in [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1000), ("ms", 1)] {
        if rest >= millis {
            text += &format!("{}{unit}", rest / millis);
            rest %= millis;
        }
    }
    if text.is_empty() { "0s".to_owned() } else { text }
}

/// A number of bytes, written with its unit: `"16MiB"`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct ByteSize(pub u64);

impl ByteSize {
    const UNITS: [(&'static str, u64); 5] =
        [("TiB", 1 << 40), ("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10), ("B", 1)];

    /// So many KiB of 1024 bytes.
    pub const fn kib(count: u64) -> Self {
        ByteSize(count << 10)
    }

    /// So many MiB of 1024 KiB.
    pub const fn mib(count: u64) -> Self {
        ByteSize(count << 20)
    }

    /// So many GiB of 1024 MiB.
    pub const fn gib(count: u64) -> Self {
        ByteSize(count << 30)
    }

    /// The number of bytes.
    pub const fn bytes(self) -> u64 {
        self.0
    }
}

impl fmt::Display for ByteSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let whole = |(_, bytes): &&(&str, u64)| self.0 >= *bytes && self.0.is_multiple_of(*bytes);
        match Self::UNITS.iter().find(whole) {
            Some((unit, bytes)) => write!(f, "{}{unit}", self.0 / bytes),
            None => write!(f, "{}B", self.0),
        }
    }
}

impl Setting for ByteSize {
    const EXPECTED: &'static str = r#"a size with its unit, such as "64KiB", "16MiB" or "1GiB""#;

    fn from_text(text: &str) -> Option<Self> {
        let (unit, bytes) = Self::UNITS.iter().find(|(unit, _)| text.ends_with(unit))?;
        let count: u64 = text.strip_suffix(unit)?.trim_end().parse().ok()?;
        count.checked_mul(*bytes).map(ByteSize)
    }

    fn to_toml(&self) -> String {
        quoted(&self.to_string())
    }
}

impl Setting for SocketAddr {
    const EXPECTED: &'static str = r#"an address and a port, such as "127.0.0.1:8470" or "[::1]:8470""#;

    fn from_text(text: &str) -> Option<Self> {
        text.parse().ok()
    }

    fn to_toml(&self) -> String {
        quoted(&self.to_string())
    }
}

impl Setting for IpAddr {
    const EXPECTED: &'static str = r#"an IP address, such as "192.0.2.7""#;

    fn from_text(text: &str) -> Option<Self> {
        text.parse().ok()
    }

    fn to_toml(&self) -> String {
        quoted(&self.to_string())
    }
}

impl Setting for IpNet {
    const EXPECTED: &'static str = r#"an address range, such as "10.4.0.0/16""#;

    fn from_text(text: &str) -> Option<Self> {
        text.parse::<IpNet>().ok().or_else(|| text.parse::<IpAddr>().ok().map(IpNet::from))
    }

    fn to_toml(&self) -> String {
        quoted(&self.to_string())
    }
}

impl Setting for TenantId {
    const EXPECTED: &'static str = "a tenant's id: 1 to 64 of A-Z a-z 0-9 _ - .";

    fn from_text(text: &str) -> Option<Self> {
        text.parse().ok()
    }

    fn to_toml(&self) -> String {
        quoted(self.as_str())
    }
}

/// The empty text stands for "none".
impl<T: Setting> Setting for Option<T> {
    const EXPECTED: &'static str = T::EXPECTED;

    fn from_text(text: &str) -> Option<Self> {
        if text.is_empty() { Some(None) } else { T::from_text(text).map(Some) }
    }

    fn to_toml(&self) -> String {
        self.as_ref().map_or_else(|| quoted(""), T::to_toml)
    }
}

/// A list in a file; from the environment also with plain commas between its members.
impl<T: ListMember> Setting for Vec<T> {
    const EXPECTED: &'static str = T::EXPECTED_LIST;

    fn from_text(text: &str) -> Option<Self> {
        if text.trim_start().starts_with('[') {
            list_from_text(text)?.iter().map(T::from_value).collect()
        } else {
            text.split(',').map(str::trim).filter(|member| !member.is_empty()).map(T::from_text).collect()
        }
    }

    fn from_value(value: &Value) -> Option<Self> {
        match value {
            Value::List(nodes) => nodes.iter().map(|node| T::from_value(&node.value)).collect(),
            Value::Untyped(text) => Self::from_text(text),
            _ => None,
        }
    }

    fn to_toml(&self) -> String {
        format!("[{}]", self.iter().map(T::to_toml).collect::<Vec<_>>().join(", "))
    }
}

/// A kind of value that stands in lists.
pub(super) trait ListMember: Setting {
    const EXPECTED_LIST: &'static str;
}

impl ListMember for Duration {
    const EXPECTED_LIST: &'static str = r#"a list of durations, such as ["5s", "5m", "1h"]"#;
}

impl ListMember for EgressTarget {
    const EXPECTED_LIST: &'static str =
        r#"a list of address ranges and host names, such as ["10.4.0.0/16", "erp.internal"]"#;
}

impl ListMember for HostName {
    const EXPECTED_LIST: &'static str = r#"a list of host names, such as ["postrider.example"]"#;
}

impl ListMember for MaskPointer {
    const EXPECTED_LIST: &'static str = r#"a list of JSON pointers, such as ["/card/holder", "/items/*/email"]: each begins with / and writes ~ as ~0, / in a name as ~1"#;
}

impl ListMember for Ports {
    const EXPECTED_LIST: &'static str = r#"a list of ports and port ranges, such as [8443, "9000-9010"]"#;
}

impl ListMember for TenantName {
    const EXPECTED_LIST: &'static str = r#"a list of tenants' ids, or ["*"] for all"#;
}

impl ListMember for EventType {
    const EXPECTED_LIST: &'static str = r#"a list of event types, such as ["refund.done"]"#;
}

/// What `egress.allow` opens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EgressTarget {
    /// The addresses of this range.
    Net(IpNet),
    /// This host name, in lower case and without a closing dot.
    Name(HostName),
}

impl Setting for EgressTarget {
    const EXPECTED: &'static str = r#"an address range or a host name"#;

    fn from_text(text: &str) -> Option<Self> {
        match IpNet::from_text(text) {
            Some(net) => Some(EgressTarget::Net(net)),
            None => HostName::from_text(text).map(EgressTarget::Name),
        }
    }

    fn to_toml(&self) -> String {
        match self {
            EgressTarget::Net(net) => net.to_toml(),
            EgressTarget::Name(name) => name.to_toml(),
        }
    }
}

/// A host name in lower case, without a closing dot; never an address.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct HostName(String);

impl HostName {
    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for HostName {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        let name = text.strip_suffix('.').unwrap_or(text).to_ascii_lowercase();
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"-_".contains(&byte);
        let label = |label: &str| (1..=63).contains(&label.len()) && label.bytes().all(allowed);
        // A last label of digits only would be read as an address somewhere down the line.
        let ends_in_a_number =
            name.rsplit('.').next().is_some_and(|last| last.bytes().all(|byte| byte.is_ascii_digit()));
        if name.len() <= 253 && name.split('.').all(label) && !ends_in_a_number {
            Ok(HostName(name))
        } else {
            Err(Invalid::new("a host name is labels of A-Z a-z 0-9 - _ with dots between them"))
        }
    }
}

impl Setting for HostName {
    const EXPECTED: &'static str = r#"a host name, such as "erp.internal" (international names in their xn-- form)"#;

    fn from_text(text: &str) -> Option<Self> {
        text.parse().ok()
    }

    fn to_toml(&self) -> String {
        quoted(&self.0)
    }
}

impl Setting for MaskPointer {
    const EXPECTED: &'static str = r#"a JSON pointer, such as "/card/holder""#;

    fn from_text(text: &str) -> Option<Self> {
        text.parse().ok()
    }

    fn to_toml(&self) -> String {
        quoted(self.as_str())
    }
}

/// A port, or a range of ports.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Ports(pub(super) RangeInclusive<u16>);

impl Setting for Ports {
    const EXPECTED: &'static str = r#"a port or a range of ports"#;

    fn from_text(text: &str) -> Option<Self> {
        let (first, last) = text.split_once('-').unwrap_or((text, text));
        let (first, last) = (first.trim().parse().ok()?, last.trim().parse().ok()?);
        (1 <= first && first <= last).then_some(Ports(first..=last))
    }

    fn from_value(value: &Value) -> Option<Self> {
        match value {
            Value::Integer(port) => (*port).try_into().ok().filter(|port| *port > 0).map(|port| Ports(port..=port)),
            Value::Text(text) | Value::Untyped(text) => Self::from_text(text),
            _ => None,
        }
    }

    fn to_toml(&self) -> String {
        let (first, last) = (self.0.start(), self.0.end());
        if first == last { first.to_string() } else { quoted(&format!("{first}-{last}")) }
    }
}

/// A member of a list of tenants: one tenant, or all.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum TenantName {
    All,
    One(TenantId),
}

impl Setting for TenantName {
    const EXPECTED: &'static str = r#"a tenant's id or "*""#;

    fn from_text(text: &str) -> Option<Self> {
        if text == "*" { Some(TenantName::All) } else { text.parse().ok().map(TenantName::One) }
    }

    fn to_toml(&self) -> String {
        match self {
            TenantName::All => quoted("*"),
            TenantName::One(tenant) => quoted(tenant.as_str()),
        }
    }
}

/// The address of an egress proxy, as it was written: it may hold a password, so it is shown without one.
#[derive(Clone, PartialEq, Eq)]
pub struct ProxyAddress(String);

impl ProxyAddress {
    /// The address with its credentials.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl std::fmt::Debug for ProxyAddress {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.to_toml())
    }
}

impl Setting for ProxyAddress {
    const EXPECTED: &'static str = r#"an address such as "http://proxy.internal:3128""#;

    /// Takes every text: what is wrong with it is said by who dials it, in words that do not repeat a password.
    fn from_text(text: &str) -> Option<Self> {
        Some(ProxyAddress(text.to_owned()))
    }

    fn to_toml(&self) -> String {
        match self.0.rsplit_once('@') {
            Some((_, host)) => quoted(&format!("http://***@{host}")),
            None => quoted(&self.0),
        }
    }
}

/// A system group by name or by number.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Group {
    /// The group of this name.
    Name(String),
    /// The group with this number.
    Id(u32),
}

/// Where the master key lies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MasterKey {
    /// In a file beside the store, made at the first start.
    Beside,
    /// In this file.
    File(PathBuf),
    /// In the systemd credential of this name.
    Credential(String),
}

impl Setting for MasterKey {
    const EXPECTED: &'static str = r#"a key file's path, "credential:NAME", or "" for a key file beside the store"#;

    fn from_text(text: &str) -> Option<Self> {
        if text.is_empty() {
            return Some(MasterKey::Beside);
        }
        match text.strip_prefix("credential:") {
            // systemd's rule: a credential is a plain file name.
            Some("" | "." | "..") => None,
            Some(name) if name.contains(['/', '\0']) => None,
            Some(name) => Some(MasterKey::Credential(name.to_owned())),
            None => PathBuf::from_text(text).map(MasterKey::File),
        }
    }

    fn to_toml(&self) -> String {
        match self {
            MasterKey::Beside => quoted(""),
            MasterKey::File(path) => path.to_toml(),
            MasterKey::Credential(name) => quoted(&format!("credential:{name}")),
        }
    }
}

impl Setting for Group {
    const EXPECTED: &'static str = r#"a group's name or number"#;

    fn from_text(text: &str) -> Option<Self> {
        if text.is_empty() || text.contains(char::is_whitespace) {
            return None;
        }
        Some(text.parse().map_or_else(|_| Group::Name(text.to_owned()), Group::Id))
    }

    fn from_value(value: &Value) -> Option<Self> {
        match value {
            Value::Integer(id) => (*id).try_into().ok().map(Group::Id),
            Value::Text(text) | Value::Untyped(text) => Self::from_text(text),
            _ => None,
        }
    }

    fn to_toml(&self) -> String {
        match self {
            Group::Name(name) => quoted(name),
            Group::Id(id) => id.to_string(),
        }
    }
}

/// Declares a closed list of words as an enum that can be a key's value.
macro_rules! words {
    ($(#[$doc:meta])* $name:ident: $expected:literal { $($(#[$word_doc:meta])* $variant:ident = $word:literal,)* }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum $name { $($(#[$word_doc])* $variant,)* }

        impl $name {
            /// The word in the configuration.
            pub fn as_str(self) -> &'static str {
                match self { $($name::$variant => $word,)* }
            }
        }

        impl Setting for $name {
            const EXPECTED: &'static str = $expected;

            fn from_text(text: &str) -> Option<Self> {
                match text { $($word => Some($name::$variant),)* _ => None }
            }

            fn to_toml(&self) -> String {
                quoted(self.as_str())
            }
        }
    };
}

words! {
    /// How log lines are written.
    LogFormat: r#"one of "auto", "pretty", "json", "journald""# {
        /// `journald` when the journal listens, `pretty` on a terminal, else `json`.
        Auto = "auto",
        /// For people.
        Pretty = "pretty",
        /// One JSON object a line.
        Json = "json",
        /// To systemd's journal, with fields.
        Journald = "journald",
    }
}

words! {
    /// From which severity on log lines are written.
    LogLevel: r#"one of "error", "warn", "info", "debug", "trace""# {
        /// What needs somebody.
        Error = "error",
        /// And what may soon.
        Warn = "warn",
        /// And what happens rarely or matters.
        Info = "info",
        /// And what an investigation needs.
        Debug = "debug",
        /// Everything.
        Trace = "trace",
    }
}

/// The types of webhooks that the dialect `backoffice` knows beside those of its document: a number each, and the event type
/// that it stands for.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct WebhookTypes(pub BTreeMap<u32, EventType>);

impl WebhookTypes {
    /// The numbers of the document keep their meaning.
    const DOCUMENTED: RangeInclusive<u32> = 4..=8;
}

impl Setting for WebhookTypes {
    const EXPECTED: &'static str =
        "numbers other than 4 to 8, each with an event type of its own, such as { 9 = \"refund.settled\" }";

    fn from_text(text: &str) -> Option<Self> {
        Self::from_value(&Value::Table(table_from_text(text)?))
    }

    fn from_value(value: &Value) -> Option<Self> {
        let table = match value {
            Value::Table(table) => table,
            Value::Untyped(text) => return Self::from_text(text),
            _ => return None,
        };
        let mut types = BTreeMap::new();
        for (code, node) in table {
            let number = code.parse().ok().filter(|number: &u32| number.to_string() == *code)?;
            let Value::Text(kind) = &node.value else { return None };
            let kind = kind.parse::<EventType>().ok()?;
            if WebhookTypes::DOCUMENTED.contains(&number) || types.values().any(|other| *other == kind) {
                return None;
            }
            types.insert(number, kind);
        }
        Some(WebhookTypes(types))
    }

    fn to_toml(&self) -> String {
        let pairs: Vec<_> = self.0.iter().map(|(code, kind)| format!("{code} = {}", quoted(kind.as_str()))).collect();
        if pairs.is_empty() { "{}".to_owned() } else { format!("{{ {} }}", pairs.join(", ")) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_have_units_and_may_be_sums() {
        let seconds = |seconds| Some(Duration::from_secs(seconds));
        let table = [
            ("30s", seconds(30)),
            ("5m", seconds(300)),
            ("12h", seconds(12 * 3600)),
            ("30d", seconds(30 * 86_400)),
            ("1h30m", seconds(5400)),
            ("0s", seconds(0)),
            ("250ms", Some(Duration::from_millis(250))),
            ("30", None),
            ("", None),
            ("-5s", None),
            ("1mo", None),
            ("5 parsecs", None),
        ];
        for (text, expected) in table {
            assert_eq!(Duration::from_text(text), expected, "{text}");
        }
    }

    #[test]
    fn sizes_have_units() {
        let table = [
            ("16MiB", Some(ByteSize::mib(16))),
            ("64KiB", Some(ByteSize::kib(64))),
            ("1GiB", Some(ByteSize::gib(1))),
            ("512B", Some(ByteSize(512))),
            ("0B", Some(ByteSize(0))),
            ("16", None),
            ("16MB", None),
            ("-1KiB", None),
            ("99999999999TiB", None),
        ];
        for (text, expected) in table {
            assert_eq!(ByteSize::from_text(text), expected, "{text}");
        }
    }

    #[test]
    fn what_is_written_reads_back() {
        for text in ["1h30m", "30d", "1d2h3m4s5ms", "0s"] {
            let duration = Duration::from_text(text).unwrap();
            assert_eq!(duration.to_toml(), quoted(text));
        }
        for text in ["16MiB", "1000B", "1536KiB"] {
            assert_eq!(ByteSize::from_text(text).unwrap().to_toml(), quoted(text));
        }
    }

    #[test]
    fn host_names_are_names_and_not_addresses() {
        for (text, expected) in [
            ("ERP.internal.", Some("erp.internal")),
            ("localhost", Some("localhost")),
            ("xn--bcher-kva.example", Some("xn--bcher-kva.example")),
            ("10.4.0", None),
            ("bücher.example", None),
            ("a..b", None),
            ("", None),
            ("a b", None),
            ("host:80", None),
        ] {
            assert_eq!(HostName::from_text(text).as_ref().map(HostName::as_str), expected, "{text}");
        }
    }
}
