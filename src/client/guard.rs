//! The address guard: where deliveries may go.
//!
//! Owns the one parse of a destination's URL ([`TargetUrl`]), the list of addresses, names and ports that are closed, and
//! what an administrator has opened. Promises that no socket is opened to an address it has not vetted: only
//! [`Guard::vet`] makes a [`Vetted`], and only a `Vetted` can be dialled. It resolves nothing and dials nothing itself.
//!
//! Closed by default, opened by name: a private network by a CIDR or a host, an exotic one (loopback, link-local,
//! metadata, multicast, …) only by a CIDR that lies wholly inside it, and a few (forms that hide an IPv4 address inside an
//! IPv6 one, "this network") by nothing. A refusal says which line of the configuration would open the way.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};

use http::HeaderValue;
use http::uri::PathAndQuery;
use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use url::Url;

use crate::model::TenantId;

/// What an administrator has opened, and what the daemon itself listens on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// CIDRs, addresses and host names (also `*.suffix`) that are open to all tenants.
    pub allow: Vec<String>,
    /// Whether loopback addresses and `localhost` are open.
    pub allow_loopback: bool,
    /// Whether plain http is allowed beside https.
    pub allow_http: bool,
    /// Finer openings.
    pub rules: Vec<Rule>,
    /// The longest URL, in characters.
    pub url_chars_max: usize,
    /// The daemon's own listeners, which no rule opens. An unspecified address stands for each of this machine's.
    pub own: Vec<SocketAddr>,
}

impl Default for Settings {
    /// Only https to public addresses; URLs of up to 2048 characters.
    fn default() -> Self {
        Settings {
            allow: Vec::new(),
            allow_loopback: false,
            allow_http: false,
            rules: Vec::new(),
            url_chars_max: 2048,
            own: Vec::new(),
        }
    }
}

/// A fine opening: it applies where everything that it names matches, name and address both.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Rule {
    /// For this tenant only; for all when absent.
    pub tenant: Option<TenantId>,
    /// For these addresses only. Without it a rule with a host opens the private ranges to that host.
    pub cidr: Option<IpNet>,
    /// For this host name only; `*.suffix` for all below it.
    pub host: Option<String>,
    /// Inclusive ranges of ports that are opened besides the usual ones; the rule then applies to these only.
    pub ports: Vec<(u16, u16)>,
}

/// Why the settings make no guard. Nothing is in force.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum GuardError {
    /// Neither a CIDR nor an address nor a host name.
    #[error("read {0:?} in [egress]: neither a CIDR such as 10.4.0.0/16 nor a host name such as erp.internal")]
    Entry(String),
    /// It would open everything at once.
    #[error("open {0} in [egress]: it covers every address; open the networks that are meant")]
    Everything(IpNet),
    /// It reaches over the edge of a closed block, so that it is not clear what is meant.
    #[error("open {cidr} in [egress]: it is wider than {block} ({what}); write that block or a part of it")]
    TooWide {
        /// As it was written.
        cidr: IpNet,
        /// The first block that it reaches over.
        block: IpNet,
        /// What that block is.
        what: &'static str,
    },
    /// It lies in a block that nothing opens.
    #[error("open {cidr} in [egress]: {what} cannot be opened")]
    Never {
        /// As it was written.
        cidr: IpNet,
        /// What lies there.
        what: &'static str,
    },
    /// It names nothing.
    #[error("read an [[egress.rule]]: it names neither cidr nor host nor ports")]
    EmptyRule,
    /// A range of ports that ends before it starts, or has port 0.
    #[error("read the ports {0}-{1} in an [[egress.rule]]: a range runs upwards from 1")]
    Ports(u16, u16),
}

/// Why a URL or an address is refused: a closed list.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Code {
    /// Longer than the limit.
    TooLong,
    /// Not a URL as a webhook's must be.
    Syntax,
    /// A user name or a password stands in it.
    Userinfo,
    /// A fragment stands in it.
    Fragment,
    /// A host name that is not written in its xn-- form.
    International,
    /// Neither https nor http.
    Scheme,
    /// http, while only https is allowed.
    HttpClosed,
    /// A port that is not open.
    Port,
    /// A name that is not open.
    Name,
    /// An address that is not open.
    Address,
    /// The daemon itself.
    OwnListener,
    /// A name without addresses.
    NoAddress,
}

impl Code {
    /// Whether the text is at fault, whatever is opened.
    pub fn is_syntax(self) -> bool {
        match self {
            Code::TooLong | Code::Syntax | Code::Userinfo | Code::Fragment | Code::International | Code::Scheme => true,
            Code::HttpClosed | Code::Port | Code::Name | Code::Address | Code::OwnListener | Code::NoAddress => false,
        }
    }
}

/// A refusal, in a word for programs and a sentence for people.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Refused {
    /// Why.
    pub code: Code,
    /// Why, and where it helps, the line of the configuration that opens the way.
    pub message: String,
}

fn refused(code: Code, message: impl Into<String>) -> Refused {
    Refused { code, message: message.into() }
}

/// http or https.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Scheme {
    /// Plain.
    Http,
    /// Over TLS.
    Https,
}

/// The host of a URL.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Host {
    /// A name: lower case, ASCII, without a trailing dot.
    Name(String),
    /// An address.
    Address(IpAddr),
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Host::Name(name) => f.write_str(name),
            Host::Address(IpAddr::V4(address)) => address.fmt(f),
            Host::Address(IpAddr::V6(address)) => write!(f, "[{address}]"),
        }
    }
}

/// A destination's URL, parsed once: requests are built from its parts, and its text is never parsed again.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct TargetUrl {
    scheme: Scheme,
    host: Host,
    port: u16,
    path_and_query: PathAndQuery,
}

impl TargetUrl {
    /// http or https.
    pub fn scheme(&self) -> Scheme {
        self.scheme
    }

    /// The host.
    pub fn host(&self) -> &Host {
        &self.host
    }

    /// The port, the scheme's own when the text names none.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// What stands in the request line.
    pub fn path_and_query(&self) -> &PathAndQuery {
        &self.path_and_query
    }

    /// Host and port as the Host header has them: the port only where it is not the scheme's own.
    pub fn authority(&self) -> String {
        match (self.scheme, self.port) {
            (Scheme::Http, 80) | (Scheme::Https, 443) => self.host.to_string(),
            (_, port) => format!("{}:{port}", self.host),
        }
    }

    /// The Host header.
    pub fn host_header(&self) -> HeaderValue {
        HeaderValue::from_str(&self.authority())
            .expect("a parsed host is made of letters, digits, dots, dashes, colons")
    }
}

impl fmt::Display for TargetUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = match self.scheme {
            Scheme::Http => "http",
            Scheme::Https => "https",
        };
        write!(f, "{scheme}://{}{}", self.authority(), self.path_and_query)
    }
}

/// On whose behalf an address is vetted.
#[derive(Debug, Clone, Copy)]
pub struct Scope<'a> {
    /// The destination's owner.
    pub tenant: &'a TenantId,
    /// Whether an administrator opened private addresses to this destination.
    pub allow_private: bool,
}

/// An address that may be dialled. Only [`Guard::vet`] makes one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Vetted(SocketAddr);

impl Vetted {
    /// The address and the port.
    pub fn address(self) -> SocketAddr {
        self.0
    }
}

/// The rules in force.
#[derive(Debug)]
pub struct Guard {
    openings: Vec<Opening>,
    allow_loopback: bool,
    allow_http: bool,
    url_chars_max: usize,
    own: Vec<SocketAddr>,
}

/// A [`Rule`], or an entry of `allow`, made ready.
#[derive(Debug)]
struct Opening {
    tenant: Option<TenantId>,
    cidr: Option<IpNet>,
    host: Option<Pattern>,
    ports: Vec<(u16, u16)>,
}

#[derive(Debug)]
enum Pattern {
    Exactly(String),
    Below(String),
}

impl Pattern {
    fn read(text: &str) -> Result<Self, GuardError> {
        let (below, name) = match text.strip_prefix("*.") {
            Some(name) => (true, name),
            None => (false, text),
        };
        let name = name.strip_suffix('.').unwrap_or(name).to_ascii_lowercase();
        if !is_host_name(&name) {
            return Err(GuardError::Entry(text.to_owned()));
        }
        Ok(if below { Pattern::Below(name) } else { Pattern::Exactly(name) })
    }

    fn takes(&self, host: &Host) -> bool {
        match (self, host) {
            (Pattern::Exactly(name), Host::Name(host)) => name == host,
            (Pattern::Below(suffix), Host::Name(host)) => is_below(host, suffix),
            (_, Host::Address(_)) => false,
        }
    }
}

impl Opening {
    fn concerns(&self, target: &TargetUrl, scope: Scope<'_>) -> bool {
        self.tenant.as_ref().is_none_or(|tenant| tenant == scope.tenant)
            && self.host.as_ref().is_none_or(|pattern| pattern.takes(&target.host))
            && (self.ports.is_empty() || self.names_port(target.port))
    }

    fn names_port(&self, port: u16) -> bool {
        self.ports.iter().any(|&(first, last)| (first..=last).contains(&port))
    }

    fn opens_address(&self, address: IpAddr, block: &Block) -> bool {
        match (block.opened_by, self.cidr) {
            (OpenedBy::Nothing, _) => false,
            (_, Some(cidr)) => block.net.contains(&cidr) && cidr.contains(&address),
            (OpenedBy::Private, None) => self.host.is_some(),
            (OpenedBy::Loopback | OpenedBy::OwnRule, None) => false,
        }
    }
}

impl Guard {
    /// Makes the settings ready.
    ///
    /// # Errors
    ///
    /// When an entry is neither a CIDR nor a name, or opens more than can be meant.
    pub fn new(settings: Settings) -> Result<Self, GuardError> {
        let Settings { allow, allow_loopback, allow_http, rules, url_chars_max, own } = settings;
        let mut openings = Vec::with_capacity(allow.len() + rules.len());
        for entry in &allow {
            let cidr = entry.parse::<IpNet>().ok().or_else(|| entry.parse::<IpAddr>().ok().map(IpNet::from));
            let host = match cidr {
                Some(cidr) => {
                    check_cidr(cidr)?;
                    None
                }
                None => Some(Pattern::read(entry)?),
            };
            openings.push(Opening { tenant: None, cidr, host, ports: Vec::new() });
        }
        for Rule { tenant, cidr, host, ports } in rules {
            if cidr.is_none() && host.is_none() && ports.is_empty() {
                return Err(GuardError::EmptyRule);
            }
            if let Some(&(first, last)) = ports.iter().find(|(first, last)| *first == 0 || first > last) {
                return Err(GuardError::Ports(first, last));
            }
            if let Some(cidr) = cidr {
                check_cidr(cidr)?;
            }
            let host = host.as_deref().map(Pattern::read).transpose()?;
            openings.push(Opening { tenant, cidr, host, ports });
        }
        Ok(Guard { openings, allow_loopback, allow_http, url_chars_max, own })
    }

    /// Parses a URL: syntax, scheme and limits, not yet whether its host is open.
    ///
    /// # Errors
    ///
    /// When the text is not the URL of a webhook, or is plain http while only https is allowed.
    pub fn parse(&self, text: &str) -> Result<TargetUrl, Refused> {
        let syntax = |why: &str| refused(Code::Syntax, format!("cannot read the URL: {why}"));
        // Parsers differ in what they strip, fold and forgive. Whatever they could differ in is refused beforehand.
        if text.chars().nth(self.url_chars_max).is_some() {
            let message =
                format!("cannot read the URL: longer than {} characters (limits.url_chars_max)", self.url_chars_max);
            return Err(refused(Code::TooLong, message));
        }
        if text.chars().any(|character| character.is_control() || character.is_whitespace()) {
            return Err(syntax("it holds a space or a control character"));
        }
        if text.contains('\\') {
            return Err(syntax("it holds a backslash"));
        }
        if text.contains('#') {
            return Err(refused(Code::Fragment, "cannot read the URL: a fragment (#) is never sent; leave it out"));
        }
        let (scheme, rest) = text.split_once(':').ok_or_else(|| syntax("it does not begin with https://"))?;
        let scheme = match scheme.to_ascii_lowercase().as_str() {
            "https" => Scheme::Https,
            "http" => Scheme::Http,
            _ => return Err(refused(Code::Scheme, "cannot read the URL: it does not begin with https://")),
        };
        let rest = rest.strip_prefix("//").ok_or_else(|| syntax("two slashes follow the scheme"))?;
        let authority = rest.split(['/', '?']).next().unwrap_or_default();
        if authority.is_empty() {
            return Err(syntax("it names no host"));
        }
        if authority.contains('@') {
            let message = "cannot read the URL: credentials do not belong in it; use the destination's auth";
            return Err(refused(Code::Userinfo, message));
        }
        if !authority.is_ascii() {
            // Digits of other scripts fold to plain ones in some parsers: an address in disguise, not a name.
            if authority.chars().all(|character| character.is_numeric() || ".:。．｡".contains(character)) {
                return Err(refused(
                    Code::Address,
                    "cannot reach the host: an address written in digits of another script",
                ));
            }
            let message = "cannot read the URL: write an international host name in its xn-- form";
            return Err(refused(Code::International, message));
        }
        // The host is spelled plainly before it is parsed. Mixed case beside escapes trips the parser's international part.
        let plain =
            plain_authority(authority).ok_or_else(|| syntax("the host holds an escape that is no letter or digit"))?;
        let prefix = match scheme {
            Scheme::Https => "https://",
            Scheme::Http => "http://",
        };
        let text = [prefix, &plain, &rest[authority.len()..]].concat();
        let url = Url::parse(&text).map_err(|error| syntax(&error.to_string()))?;
        let host = match url.host().ok_or_else(|| syntax("it names no host"))? {
            url::Host::Ipv4(address) => Host::Address(address.into()),
            url::Host::Ipv6(address) => Host::Address(address.into()),
            url::Host::Domain(name) => {
                let name = name.strip_suffix('.').unwrap_or(name).to_ascii_lowercase();
                if !is_host_name(&name) {
                    return Err(syntax("the host is not a name of letters, digits and dashes in labels of 1 to 63"));
                }
                Host::Name(name)
            }
        };
        let port = match url.port_or_known_default() {
            None | Some(0) => return Err(syntax("port 0 cannot be reached")),
            Some(port) => port,
        };
        let path_and_query = match url.query() {
            Some(query) => format!("{}?{query}", url.path()),
            None => url.path().to_owned(),
        };
        let path_and_query = PathAndQuery::try_from(path_and_query)
            .map_err(|_| syntax("the path or the query holds a character that must be percent-encoded"))?;
        if scheme == Scheme::Http && !self.allow_http {
            let message = "cannot use http: only https is open; set allow_http = true in [egress] to open it";
            return Err(refused(Code::HttpClosed, message));
        }
        Ok(TargetUrl { scheme, host, port, path_and_query })
    }

    /// Whether a destination with this URL may be saved: everything that can be known without asking the DNS.
    ///
    /// # Errors
    ///
    /// As [`Guard::parse`], and when the name, the literal address or the port is not open.
    pub fn admit(&self, text: &str, scope: Scope<'_>) -> Result<TargetUrl, Refused> {
        let target = self.parse(text)?;
        match &target.host {
            Host::Address(address) => {
                self.vet_one(&target, *address, scope)?;
            }
            Host::Name(name) => {
                self.check_name(&target, name, scope)?;
                self.check_port(&target, None, scope)?;
            }
        }
        Ok(target)
    }

    /// Vets the addresses that a target has been resolved to (or is): all of them, or none.
    ///
    /// # Errors
    ///
    /// When the name, the port or any one of the addresses is not open.
    pub fn vet(&self, target: &TargetUrl, addresses: &[IpAddr], scope: Scope<'_>) -> Result<Vec<Vetted>, Refused> {
        if addresses.is_empty() {
            return Err(refused(Code::NoAddress, format!("cannot reach {}: the name has no address", target.host)));
        }
        match &target.host {
            Host::Name(name) => self.check_name(target, name, scope)?,
            Host::Address(literal) if addresses.iter().any(|address| address != literal) => {
                return Err(refused(
                    Code::Address,
                    format!("cannot reach {}: it resolved to another address", target.host),
                ));
            }
            Host::Address(_) => {}
        }
        addresses.iter().map(|address| self.vet_one(target, *address, scope)).collect()
    }

    fn vet_one(&self, target: &TargetUrl, address: IpAddr, scope: Scope<'_>) -> Result<Vetted, Refused> {
        let place = SocketAddr::new(address, target.port);
        if self.is_own(place) {
            return Err(refused(Code::OwnListener, format!("cannot reach {place}: the daemon listens there itself")));
        }
        self.check_port(target, Some(address), scope)?;
        let Some(block) = denied(address) else { return Ok(Vetted(place)) };
        let opened = match block.opened_by {
            OpenedBy::Nothing => false,
            OpenedBy::Loopback => self.allow_loopback,
            OpenedBy::Private => scope.allow_private,
            OpenedBy::OwnRule => false,
        };
        if opened
            || self
                .openings
                .iter()
                .any(|opening| opening.concerns(target, scope) && opening.opens_address(address, &block))
        {
            return Ok(Vetted(place));
        }
        let via = match &target.host {
            Host::Name(name) => format!("{name} at {address}"),
            Host::Address(_) => address.to_string(),
        };
        let remedy = match block.opened_by {
            OpenedBy::Nothing => "; this cannot be opened".to_owned(),
            OpenedBy::Loopback => "; set allow_loopback = true in [egress] to open it".to_owned(),
            OpenedBy::Private | OpenedBy::OwnRule => {
                format!("; add \"{}\" to [egress] allow to open it", IpNet::from(address))
            }
        };
        Err(refused(Code::Address, format!("cannot reach {via}: {} ({}){remedy}", block.what, block.net)))
    }

    fn check_name(&self, target: &TargetUrl, name: &str, scope: Scope<'_>) -> Result<(), Refused> {
        let Some(kind) = closed_name(name) else { return Ok(()) };
        let (opened, what) = match kind {
            ClosedName::Loopback => (self.allow_loopback, "a name of this machine"),
            ClosedName::Private => (scope.allow_private, "a name of a private network"),
            ClosedName::Special => (false, "a name that is reserved"),
        };
        let named = |opening: &Opening| opening.host.is_some() && opening.concerns(target, scope);
        if opened || self.openings.iter().any(named) {
            return Ok(());
        }
        let remedy = match kind {
            ClosedName::Loopback => "set allow_loopback = true in [egress] to open it".to_owned(),
            ClosedName::Private | ClosedName::Special => format!("add \"{name}\" to [egress] allow to open it"),
        };
        Err(refused(Code::Name, format!("cannot reach {name}: {what}; {remedy}")))
    }

    /// Without an address, a rule's CIDR counts as matching: the address is asked for again before it is dialled.
    fn check_port(&self, target: &TargetUrl, address: Option<IpAddr>, scope: Scope<'_>) -> Result<(), Refused> {
        let port = target.port;
        let opens = |opening: &Opening| {
            opening.names_port(port)
                && opening.concerns(target, scope)
                && match (opening.cidr, address) {
                    (Some(cidr), Some(address)) => cidr.contains(&address),
                    (_, None) | (None, _) => true,
                }
        };
        if is_usual_port(port) || self.openings.iter().any(opens) {
            return Ok(());
        }
        let message = format!(
            "cannot reach port {port}: not one for webhooks; add an [[egress.rule]] with host = \"{}\" and ports = [{port}] to open it",
            target.host
        );
        Err(refused(Code::Port, message))
    }

    fn is_own(&self, place: SocketAddr) -> bool {
        self.own.iter().any(|own| {
            own.port() == place.port() && (own.ip() == place.ip() || own.ip().is_unspecified() && is_local(place.ip()))
        })
    }
}

/// In lower case and without percent escapes, when those stand for nothing but what a host is made of.
fn plain_authority(authority: &str) -> Option<String> {
    let mut parts = authority.split('%');
    let mut plain = parts.next()?.to_ascii_lowercase();
    for part in parts {
        let (digits, rest) = part.split_at_checked(2)?;
        let character = char::from(u8::from_str_radix(digits, 16).ok()?);
        if !digits.bytes().all(|digit| digit.is_ascii_hexdigit())
            || !(character.is_ascii_alphanumeric() || ".-_".contains(character))
        {
            return None;
        }
        plain.push(character.to_ascii_lowercase());
        plain.push_str(&rest.to_ascii_lowercase());
    }
    Some(plain)
}

/// Whether an address is one of this machine's: only those can be bound to.
fn is_local(address: IpAddr) -> bool {
    address.is_loopback() || UdpSocket::bind(SocketAddr::new(address, 0)).is_ok()
}

fn check_cidr(cidr: IpNet) -> Result<(), GuardError> {
    if cidr.prefix_len() == 0 {
        return Err(GuardError::Everything(cidr));
    }
    let inside: Vec<Block> = blocks().filter(|block| block.net.contains(&cidr)).collect();
    if let Some(block) = inside.iter().find(|block| block.opened_by == OpenedBy::Nothing) {
        return Err(GuardError::Never { cidr, what: block.what });
    }
    if inside.is_empty()
        && let Some(block) = blocks().find(|block| cidr.contains(&block.net))
    {
        return Err(GuardError::TooWide { cidr, block: block.net, what: block.what });
    }
    if inside.is_empty()
        && let Some(block) = denied(cidr.addr())
    {
        return Err(GuardError::Never { cidr, what: block.what });
    }
    Ok(())
}

/// A part of the address space that is closed.
#[derive(Debug, Clone, Copy)]
struct Block {
    net: IpNet,
    what: &'static str,
    opened_by: OpenedBy,
}

/// What opens a closed block, besides a CIDR inside it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum OpenedBy {
    /// A destination's `allow_private`, or a rule with its host.
    Private,
    /// `allow_loopback`.
    Loopback,
    /// Nothing else.
    OwnRule,
    /// Nothing at all, not even a CIDR.
    Nothing,
}

const fn v4(a: u8, b: u8, c: u8, d: u8, prefix: u8, opened_by: OpenedBy, what: &'static str) -> Block {
    Block { net: IpNet::V4(Ipv4Net::new_assert(Ipv4Addr::new(a, b, c, d), prefix)), what, opened_by }
}

const fn v6(head: [u16; 3], tail: [u16; 2], prefix: u8, opened_by: OpenedBy, what: &'static str) -> Block {
    let address = Ipv6Addr::new(head[0], head[1], head[2], 0, 0, 0, tail[0], tail[1]);
    Block { net: IpNet::V6(Ipv6Net::new_assert(address, prefix)), what, opened_by }
}

/// The first that holds an address counts, so the narrower stand before the wider.
const BLOCKS_V4: &[Block] = &[
    v4(0, 0, 0, 0, 8, OpenedBy::Nothing, "an address of \"this network\""),
    v4(10, 0, 0, 0, 8, OpenedBy::Private, "a private address"),
    v4(100, 100, 100, 200, 32, OpenedBy::OwnRule, "a cloud's metadata service"),
    v4(100, 64, 0, 0, 10, OpenedBy::Private, "a provider's shared address"),
    v4(127, 0, 0, 0, 8, OpenedBy::Loopback, "a loopback address"),
    v4(168, 63, 129, 16, 32, OpenedBy::OwnRule, "a cloud's host agent"),
    v4(169, 254, 0, 0, 16, OpenedBy::OwnRule, "a link-local or metadata address"),
    v4(172, 16, 0, 0, 12, OpenedBy::Private, "a private address"),
    v4(192, 0, 0, 0, 24, OpenedBy::OwnRule, "an address for protocols"),
    v4(192, 0, 2, 0, 24, OpenedBy::OwnRule, "an address for documentation"),
    v4(192, 88, 99, 0, 24, OpenedBy::OwnRule, "a relay's address"),
    v4(192, 168, 0, 0, 16, OpenedBy::Private, "a private address"),
    v4(198, 18, 0, 0, 15, OpenedBy::OwnRule, "an address for benchmarks"),
    v4(198, 51, 100, 0, 24, OpenedBy::OwnRule, "an address for documentation"),
    v4(203, 0, 113, 0, 24, OpenedBy::OwnRule, "an address for documentation"),
    v4(224, 0, 0, 0, 4, OpenedBy::OwnRule, "a multicast address"),
    v4(255, 255, 255, 255, 32, OpenedBy::Nothing, "the broadcast address"),
    v4(240, 0, 0, 0, 4, OpenedBy::OwnRule, "a reserved address"),
];

const BLOCKS_V6: &[Block] = &[
    v6([0, 0, 0], [0, 0], 128, OpenedBy::Nothing, "the unspecified address"),
    v6([0, 0, 0], [0, 1], 128, OpenedBy::Loopback, "a loopback address"),
    Block {
        net: IpNet::V6(Ipv6Net::new_assert(Ipv6Addr::new(0, 0, 0, 0, 0, 0xffff, 0, 0), 96)),
        what: "an IPv4 address in IPv6 form",
        opened_by: OpenedBy::Nothing,
    },
    v6([0, 0, 0], [0, 0], 96, OpenedBy::Nothing, "an IPv4 address in IPv6 form"),
    v6([0x64, 0xff9b, 0], [0, 0], 96, OpenedBy::Nothing, "a translated IPv4 address"),
    v6([0x64, 0xff9b, 1], [0, 0], 48, OpenedBy::Nothing, "a translated IPv4 address"),
    v6([0x100, 0, 0], [0, 0], 64, OpenedBy::Nothing, "an address that discards"),
    v6([0x2001, 0, 0], [0, 0], 23, OpenedBy::Nothing, "an address for protocols and tunnels"),
    v6([0x2001, 0xdb8, 0], [0, 0], 32, OpenedBy::OwnRule, "an address for documentation"),
    v6([0x2002, 0, 0], [0, 0], 16, OpenedBy::Nothing, "a tunnelled IPv4 address"),
    v6([0x3fff, 0, 0], [0, 0], 20, OpenedBy::OwnRule, "an address for documentation"),
    v6([0xfd00, 0xec2, 0], [0, 0x254], 128, OpenedBy::OwnRule, "a cloud's metadata service"),
    v6([0xfc00, 0, 0], [0, 0], 7, OpenedBy::Private, "a private address"),
    v6([0xfe80, 0, 0], [0, 0], 10, OpenedBy::OwnRule, "a link-local address"),
    v6([0xfec0, 0, 0], [0, 0], 10, OpenedBy::OwnRule, "a site-local address"),
    v6([0xff00, 0, 0], [0, 0], 8, OpenedBy::OwnRule, "a multicast address"),
];

/// Of IPv6 only this part is in public use; whatever lies outside it is closed, named above or not.
const GLOBAL_V6: Ipv6Net = Ipv6Net::new_assert(Ipv6Addr::new(0x2000, 0, 0, 0, 0, 0, 0, 0), 3);

fn blocks() -> impl Iterator<Item = Block> {
    BLOCKS_V4.iter().chain(BLOCKS_V6).copied()
}

fn denied(address: IpAddr) -> Option<Block> {
    let named = blocks().find(|block| block.net.contains(&address));
    match address {
        IpAddr::V6(v6) if named.is_none() && !GLOBAL_V6.contains(&v6) => Some(Block {
            net: IpNet::from(address),
            what: "an IPv6 address outside 2000::/3",
            opened_by: OpenedBy::Nothing,
        }),
        IpAddr::V4(_) | IpAddr::V6(_) => named,
    }
}

/// Names that mean something else on every network, or nothing anywhere.
enum ClosedName {
    Loopback,
    Private,
    Special,
}

fn closed_name(name: &str) -> Option<ClosedName> {
    let is = |suffix: &str| name == suffix || is_below(name, suffix);
    if ["localhost", "localdomain"].into_iter().any(is) {
        Some(ClosedName::Loopback)
    } else if ["onion", "test", "invalid"].into_iter().any(is) {
        Some(ClosedName::Special)
    } else if !name.contains('.') || ["local", "internal", "lan", "corp", "home", "home.arpa"].into_iter().any(is) {
        Some(ClosedName::Private)
    } else {
        None
    }
}

fn is_below(name: &str, suffix: &str) -> bool {
    name.strip_suffix(suffix).is_some_and(|rest| rest.ends_with('.'))
}

/// Letters, digits, dashes (and underscores, which private networks use) in labels of 1 to 63, 253 in all.
fn is_host_name(name: &str) -> bool {
    let is_label = |label: &str| {
        (1..=63).contains(&label.len())
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_')
    };
    name.len() <= 253 && name.split('.').all(is_label)
}

/// Ports from 1024 up where something other than HTTP listens: those that browsers refuse, and databases and the like.
const UNUSUAL_PORTS: &[u16] = &[
    1719, 1720, 1723, 2049, 3659, 4045, 4190, 5060, 5061, 6000, 6566, 6665, 6666, 6667, 6668, 6669, 6679, 6697, 10080,
    2375, 2379, 3306, 5432, 6379, 9200, 11211, 27017,
];

fn is_usual_port(port: u16) -> bool {
    matches!(port, 80 | 443 | 1024..) && !UNUSUAL_PORTS.contains(&port)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn guard(settings: Settings) -> Guard {
        Guard::new(settings).unwrap()
    }

    fn lab() -> Settings {
        Settings { allow_http: true, ..Settings::default() }
    }

    fn allow(entries: &[&str]) -> Settings {
        Settings { allow: entries.iter().map(|entry| (*entry).to_owned()).collect(), ..lab() }
    }

    fn tenant(name: &str) -> TenantId {
        name.parse().unwrap()
    }

    fn admit(guard: &Guard, url: &str) -> Result<TargetUrl, Code> {
        let tenant = TenantId::default_tenant();
        guard.admit(url, Scope { tenant: &tenant, allow_private: false }).map_err(|refused| refused.code)
    }

    fn vet(guard: &Guard, url: &str, address: &str, allow_private: bool) -> Result<(), Code> {
        let tenant = TenantId::default_tenant();
        let target = guard.parse(url).map_err(|refused| refused.code)?;
        let scope = Scope { tenant: &tenant, allow_private };
        guard.vet(&target, &[address.parse().unwrap()], scope).map(drop).map_err(|refused| refused.code)
    }

    /// S0.9, S0.10: https unless the installation says otherwise.
    #[test]
    fn only_https_is_open_by_default() {
        let strict = guard(Settings::default());
        assert!(admit(&strict, "https://hooks.example.com/in").is_ok());
        assert_eq!(admit(&strict, "http://hooks.example.com/in"), Err(Code::HttpClosed));
        assert!(admit(&guard(lab()), "http://hooks.example.com/in").is_ok());
    }

    #[test]
    fn a_url_is_taken_apart_once() {
        let target = guard(lab()).parse("HTTPS://Hooks.Example.COM.:8443/a b".replace(' ', "%20").as_str()).unwrap();
        assert_eq!(target.host(), &Host::Name("hooks.example.com".to_owned()));
        assert_eq!(target.to_string(), "https://hooks.example.com:8443/a%20b");
        let table = [
            ("http://hooks.example.com", "hooks.example.com", "/"),
            ("http://hooks.example.com:443?x=1", "hooks.example.com:443", "/?x=1"),
            ("https://hooks.example.com:443/ü?q='", "hooks.example.com", "/%C3%BC?q=%27"),
            ("https://[2606:4700:4700::1111]:8443/", "[2606:4700:4700::1111]:8443", "/"),
        ];
        for (text, authority, path) in table {
            let target = guard(lab()).parse(text).unwrap();
            assert_eq!((target.host_header().to_str().unwrap(), target.path_and_query().as_str()), (authority, path));
        }
    }

    /// S4.17: private receivers are normal on a gateway's own network, once somebody says so.
    #[test]
    fn a_private_address_is_opened_by_network_by_name_or_by_destination() {
        for (settings, url, address, allow_private, expected) in [
            (lab(), "http://erp.example.com/", "10.4.1.1", false, Err(Code::Address)),
            (lab(), "http://erp.example.com/", "10.4.1.1", true, Ok(())),
            (lab(), "http://erp.internal/", "10.4.1.1", false, Err(Code::Name)),
            (lab(), "http://erp.internal/", "10.4.1.1", true, Ok(())),
            (lab(), "http://erp/", "fd00::1", true, Ok(())),
            (lab(), "http://erp.test/", "10.4.1.1", true, Err(Code::Name)),
            (lab(), "http://erp.internal/", "169.254.169.254", true, Err(Code::Address)),
            (lab(), "http://erp.internal/", "fd00:ec2::254", true, Err(Code::Address)),
            (lab(), "http://erp.internal/", "100.100.100.200", true, Err(Code::Address)),
            (lab(), "http://erp.internal/", "127.0.0.1", true, Err(Code::Address)),
            (allow(&["10.4.0.0/16"]), "http://erp.example.com/", "10.4.1.1", false, Ok(())),
            (allow(&["10.4.0.0/16"]), "http://erp.example.com/", "10.5.1.1", false, Err(Code::Address)),
            (allow(&["10.4.1.1"]), "http://10.4.1.1/", "10.4.1.1", false, Ok(())),
            (allow(&["erp.internal"]), "http://ERP.internal./", "10.4.1.1", false, Ok(())),
            (allow(&["erp.internal"]), "http://erp.internal/", "127.0.0.1", false, Err(Code::Address)),
            (allow(&["erp.internal"]), "http://x.erp.internal/", "10.4.1.1", false, Err(Code::Name)),
            (allow(&["*.internal"]), "http://x.erp.internal/", "10.4.1.1", false, Ok(())),
            (allow(&["127.0.0.2"]), "http://127.0.0.2/", "127.0.0.2", false, Ok(())),
            (allow(&["127.0.0.2"]), "http://127.0.0.3/", "127.0.0.3", false, Err(Code::Address)),
            (allow(&["169.254.0.0/16"]), "http://169.254.169.254/", "169.254.169.254", false, Ok(())),
            (allow(&["100.64.0.0/10"]), "http://100.100.100.200/", "100.100.100.200", false, Err(Code::Address)),
        ] {
            let guard = guard(settings.clone());
            assert_eq!(vet(&guard, url, address, allow_private), expected, "{settings:?} {url} {address}");
        }
    }

    #[test]
    fn one_closed_address_among_open_ones_closes_the_name() {
        let guard = guard(lab());
        let tenant = TenantId::default_tenant();
        let scope = Scope { tenant: &tenant, allow_private: false };
        let target = guard.parse("http://mixed.example/").unwrap();
        let open = IpAddr::from([93, 184, 216, 34]);
        assert_eq!(guard.vet(&target, &[open], scope).unwrap()[0].address(), SocketAddr::new(open, 80));
        assert!(guard.vet(&target, &[open, IpAddr::from([10, 0, 0, 1])], scope).is_err());
        assert_eq!(guard.vet(&target, &[], scope).unwrap_err().code, Code::NoAddress);
    }

    #[test]
    fn a_refusal_names_the_line_that_opens_the_way() {
        for (url, line) in [
            ("http://10.4.0.7/", "add \"10.4.0.7/32\" to [egress] allow"),
            ("http://erp.internal/", "add \"erp.internal\" to [egress] allow"),
            ("http://127.0.0.1/", "allow_loopback = true in [egress]"),
            ("http://localhost/", "allow_loopback = true in [egress]"),
            ("http://a.example:22/", "[[egress.rule]] with host = \"a.example\" and ports = [22]"),
            ("http://[::ffff:1.2.3.4]/", "cannot be opened"),
        ] {
            let tenant = TenantId::default_tenant();
            let refused = guard(lab()).admit(url, Scope { tenant: &tenant, allow_private: false }).unwrap_err();
            assert!(refused.message.contains(line), "{refused}");
            assert!(!refused.code.is_syntax());
        }
    }

    #[test]
    fn a_rule_applies_where_all_that_it_names_matches() {
        let rule = Rule {
            tenant: Some(tenant("one")),
            cidr: Some("10.20.0.0/16".parse().unwrap()),
            host: Some("erp.corp".to_owned()),
            ports: vec![(22, 22), (8080, 8090)],
        };
        let guard = guard(Settings { rules: vec![rule], ..lab() });
        let verdict = |who: &str, url: &str, address: &str| {
            let tenant = tenant(who);
            let scope = Scope { tenant: &tenant, allow_private: false };
            let target = guard.parse(url).unwrap();
            guard.vet(&target, &[address.parse().unwrap()], scope).map(drop).map_err(|refused| refused.code)
        };
        assert_eq!(verdict("one", "http://erp.corp:22/", "10.20.0.5"), Ok(()));
        assert_eq!(verdict("one", "http://erp.corp:8085/", "10.20.0.5"), Ok(()));
        assert_eq!(verdict("one", "http://erp.corp:8091/", "10.20.0.5"), Err(Code::Name));
        assert_eq!(verdict("two", "http://erp.corp:22/", "10.20.0.5"), Err(Code::Name));
        assert_eq!(verdict("one", "http://erp.corp:22/", "10.21.0.5"), Err(Code::Port));
        assert_eq!(verdict("one", "http://erp.corp:8080/", "10.21.0.5"), Err(Code::Address));
        assert_eq!(verdict("one", "http://other.example:22/", "10.20.0.5"), Err(Code::Port));
    }

    #[test]
    fn the_daemons_own_listeners_are_never_open() {
        let own =
            vec!["127.0.0.1:8470".parse().unwrap(), "0.0.0.0:8471".parse().unwrap(), "[::]:8472".parse().unwrap()];
        let guard = guard(Settings { allow_loopback: true, own, ..allow(&["127.0.0.0/8"]) });
        for (url, expected) in [
            ("http://127.0.0.1:8470/", Err(Code::OwnListener)),
            ("http://127.0.0.2:8470/", Ok(())),
            ("http://127.0.0.1:8471/", Err(Code::OwnListener)),
            ("http://127.0.0.2:8471/", Err(Code::OwnListener)),
            ("http://[::1]:8472/", Err(Code::OwnListener)),
            ("http://93.184.216.34:8471/", Ok(())),
            ("http://127.0.0.1:8473/", Ok(())),
        ] {
            assert_eq!(admit(&guard, url).map(drop), expected, "{url}");
        }
    }

    #[test]
    fn settings_that_open_more_than_can_be_meant_make_no_guard() {
        let error = |entry: &str| Guard::new(allow(&[entry])).err();
        assert!(matches!(error("0.0.0.0/0"), Some(GuardError::Everything(_))));
        assert!(matches!(error("::/0"), Some(GuardError::Everything(_))));
        assert!(matches!(error("0.0.0.0/1"), Some(GuardError::TooWide { .. })));
        assert!(matches!(error("10.0.0.0/7"), Some(GuardError::TooWide { .. })));
        assert!(matches!(error("fc00::/6"), Some(GuardError::TooWide { .. })));
        assert!(matches!(error("::ffff:10.0.0.0/104"), Some(GuardError::Never { .. })));
        assert!(matches!(error("0.0.0.0"), Some(GuardError::Never { .. })));
        assert!(matches!(error("4000::/16"), Some(GuardError::Never { .. })));
        for entry in ["", "10.0.0.0/33", "a b", "-x.internal", "http://x", "*", "x..y"] {
            assert_eq!(error(entry), Some(GuardError::Entry(entry.to_owned())), "{entry}");
        }
        for fine in ["10.0.0.0/8", "127.0.0.1", "fd00::/8", "8.8.8.0/24", "erp", "*.corp.example"] {
            assert_eq!(error(fine), None, "{fine}");
        }
        let rule = |rule: Rule| Guard::new(Settings { rules: vec![rule], ..lab() }).err();
        assert_eq!(rule(Rule::default()), Some(GuardError::EmptyRule));
        assert_eq!(rule(Rule { ports: vec![(9, 8)], ..Rule::default() }), Some(GuardError::Ports(9, 8)));
        assert_eq!(rule(Rule { ports: vec![(0, 8)], ..Rule::default() }), Some(GuardError::Ports(0, 8)));
    }

    #[test]
    fn ports_of_other_protocols_are_closed() {
        let guard = guard(lab());
        for port in [1, 22, 25, 79, 81, 442, 444, 1023, 2049, 6000, 10080, 2375, 3306, 5432, 6379, 27017] {
            assert_eq!(admit(&guard, &format!("http://a.example:{port}/")), Err(Code::Port), "{port}");
        }
        for port in [80, 443, 1024, 3000, 8080, 8443, 65535] {
            assert!(admit(&guard, &format!("http://a.example:{port}/")).is_ok(), "{port}");
        }
    }

    /// The parser's stand-in for international names asserts that its input is in lower case, and with "http://A%AA/" it
    /// was not: a saved destination could stop a debug build.
    #[test]
    fn escapes_in_a_host_are_plain_characters_or_an_error() {
        let guard = guard(lab());
        for url in ["http://A%AA/", "http://A%C3%BC/", "http://a%2eb%/", "http://a%2", "http://a%+1/", "http://a%40b/"]
        {
            assert_eq!(guard.parse(url).map_err(|refused| refused.code), Err(Code::Syntax), "{url}");
        }
        assert_eq!(guard.parse("http://%41b%2Eexample:8080/%41").unwrap().to_string(), "http://ab.example:8080/%41");
        assert_eq!(admit(&guard, "http://%31%32%37.1/"), Err(Code::Address));
    }

    #[test]
    fn the_url_limit_counts_characters() {
        let guard = guard(Settings { url_chars_max: 30, ..lab() });
        assert!(guard.parse(&format!("http://a.example/{}", "ü".repeat(13))).is_ok());
        assert_eq!(guard.parse(&format!("http://a.example/{}", "ü".repeat(14))).unwrap_err().code, Code::TooLong);
    }

    proptest! {
            #![proptest_config(ProptestConfig { cases: 2000, ..ProptestConfig::default() })]

            /// Whatever is accepted has a host that is either a plain name or an address that has been classified.
            #[test]
            fn no_spelling_gets_a_closed_address_past_the_guard(
                text in prop_oneof![
                    "\\PC{0,60}",
                    "https?://[0-9a-fA-FxX.:%\\[\\]]{1,30}/?[a-z@#]{0,3}",
                    "https?:[/\\\\]{0,4}[0-9a-z.@:\\[\\]%-]{0,40}",
                    "https?://[0-9]{1,12}(\\.(0x)?[0-9a-f]{1,4}){0,4}(:[0-9]{1,5})?/",
                    "https?://\\[[0-9a-f:.]{2,30}\\]/",
                ]
            ) {
                let guard = guard(lab());
                let tenant = TenantId::default_tenant();
                let scope = Scope { tenant: &tenant, allow_private: false };
                if let Ok(target) = guard.admit(&text, scope) {
                    match target.host() {
                        Host::Address(address) => prop_assert!(denied(*address).is_none(), "{text} is {address}"),
                        Host::Name(name) => {
                            prop_assert!(is_host_name(name) && closed_name(name).is_none(), "{text} is {name}");
                            // The system's resolver would read such a name as an address.
                            prop_assert!(name.parse::<IpAddr>().is_err());
                            let last = name.rsplit('.').next().unwrap();
    let digits = last.strip_prefix("0x").unwrap_or(last);
                            let radix = if digits == last { 10 } else { 16 };
                            prop_assert!(!digits.chars().all(|digit| digit.is_digit(radix)), "{text} is {name}");
                        }
                    }
                    // Its own text leads to the same place.
                    prop_assert_eq!(guard.admit(&target.to_string(), scope).unwrap(), target);
                }
            }

            #[test]
            fn every_open_ipv6_address_is_global_unicast(bits: u128) {
                let address = Ipv6Addr::from_bits(bits);
                if denied(address.into()).is_none() {
                    prop_assert_eq!(address.segments()[0] >> 13, 1);
                    prop_assert!(address.to_ipv4_mapped().is_none());
                }
            }
        }
}
