//! What a caller writes of a destination: the bodies of `POST` and `PUT`.
//!
//! A request is laid over a destination: over the defaults at creation, over the stored one in an update. So a field has
//! one rule, whichever way it comes. What was read can be sent back as it is: read-only fields are taken when they equal
//! what is stored, and [`MASK`] in the place of a secret keeps it.
//!
//! Two checks are not made here, because other rooms own them: the URL's (the address guard's) and the signature
//! secret's (does its text decode as its scheme asks).

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use serde::Deserialize;
use serde::de::{self, Deserializer, MapAccess, Visitor};

use super::view::LaneView;
use super::{Limits, path_of};
use crate::api::door::{Faults, MASK, Patch, duration, plain_text, readable};
use crate::api::native::signature::{SignaturesRequest, Signed, Signing, default_pair};
use crate::http::problem::Problem;
use crate::http::request::{Object, push_segment};
use crate::model::destination::{BodyRule, Format, Method, SignedWith};
use crate::model::schedule::{ATTEMPTS_MAX, DELAY_MAX, JITTER_DEFAULT, Plan};
use crate::model::{
    Auth, Confirmation, Destination, DestinationId, DestinationNo, Invalid, Rate, Retry, Schedule, Secret, Success,
    TenantId, Timestamp, TlsOptions,
};

const NAME_CHARS_MAX: usize = 124;
const DESCRIPTION_CHARS_MAX: usize = 256;
const HEADERS_MAX: usize = 50;
const HEADER_NAME_MAX: usize = 128;
const HEADER_VALUE_MAX: usize = 4096;
const CREDENTIAL_CHARS_MAX: usize = 4096;
/// The header of a shared secret whose caller names none (decision D4).
pub(in crate::api) const SHARED_SECRET_HEADER: &str = "X-Shared-Secret";
const TIMEOUT_MIN: Duration = Duration::from_secs(1);
const TIMEOUT_MAX: Duration = Duration::from_secs(120);
const IN_FLIGHT_MAX: u32 = 1000;
const RATE_EVENTS_MAX: u32 = 1_000_000;
const RATE_PER_MIN: Duration = Duration::from_millis(100);
const RATE_PER_MAX: Duration = Duration::from_secs(24 * 3600);
const STATUS_RANGES_MAX: usize = 32;
const BODY_TEXT_BYTES_MAX: usize = 4096;
const PEM_BYTES_MAX: usize = 64 * 1024;

/// The body of a create and of an update.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct DestinationRequest {
    id: Patch<String>,
    tenant: Patch<String>,
    created: Patch<String>,
    url: Patch<String>,
    confirmed: Patch<bool>,
    name: Patch<String>,
    description: Patch<String>,
    http_endpoint_url: Patch<String>,
    method: Patch<String>,
    headers: Patch<HeadersRequest>,
    disabled: Patch<bool>,
    auth: Patch<Object<AuthRequest>>,
    signature: Patch<SignaturesRequest>,
    format: Patch<String>,
    retry: Patch<Object<RetryRequest>>,
    success: Patch<Object<SuccessRequest>>,
    timeout: Patch<String>,
    in_flight_max: Patch<u32>,
    rate: Patch<Object<RateRequest>>,
    ordered: Patch<bool>,
    tls: Patch<Object<TlsRequest>>,
    allow_private: Patch<bool>,
    gone_at_once: Patch<bool>,
    paused: Patch<bool>,
    lane: Patch<Object<LaneRequest>>,
}

/// How a lane stands, as it was read. Until when is not weighed: it moves with every failure.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct LaneRequest {
    state: Option<String>,
    #[serde(rename = "until")]
    _until: Option<String>,
}

/// `headers` in the order of the body, since serde's maps would hide a name that stands there twice.
#[derive(Debug, Clone)]
struct HeadersRequest(Vec<(String, Secret)>);

impl<'de> Deserialize<'de> for HeadersRequest {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Pairs;

        impl<'de> Visitor<'de> for Pairs {
            type Value = HeadersRequest;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object of header names and values")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut pairs = Vec::new();
                while let Some(pair) = map.next_entry()? {
                    pairs.push(pair);
                }
                Ok(HeadersRequest(pairs))
            }
        }

        deserializer.deserialize_map(Pairs)
    }
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct AuthRequest {
    r#type: Option<String>,
    username: Option<String>,
    password: Option<Secret>,
    header: Option<String>,
    secret: Option<Secret>,
    token: Option<Secret>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct RetryRequest {
    schedule: Option<String>,
    delays: Option<Vec<String>>,
    attempts_max: Option<u32>,
    jitter: Option<f64>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct SuccessRequest {
    status: Option<Vec<StatusRequest>>,
    body: Option<Object<BodyRuleRequest>>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct BodyRuleRequest {
    contains: Option<String>,
    equals: Option<String>,
    prefix: Option<String>,
}

/// A status, a range or a class: `"2xx"`, `"200-204"`, `"200"`, and the number 200 as well.
#[derive(Debug, Clone)]
struct StatusRequest(String);

impl<'de> Deserialize<'de> for StatusRequest {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct TextOrNumber;

        impl Visitor<'_> for TextOrNumber {
            type Value = StatusRequest;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a status such as \"2xx\", \"200\" or \"200-204\"")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<StatusRequest, E> {
                Ok(StatusRequest(text.to_owned()))
            }

            fn visit_u64<E: de::Error>(self, number: u64) -> Result<StatusRequest, E> {
                Ok(StatusRequest(number.to_string()))
            }
        }

        deserializer.deserialize_any(TextOrNumber)
    }
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct RateRequest {
    events: Option<u32>,
    per: Option<String>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct TlsRequest {
    ca: Option<String>,
    client_cert: Option<String>,
    client_key: Option<Secret>,
    pin: Option<String>,
}

/// What a destination is before anybody has said anything about it.
#[derive(Debug, Clone)]
pub struct Identity {
    /// Its number; the store's to give.
    pub no: DestinationNo,
    /// Its name outside.
    pub id: DestinationId,
    /// Who owns it.
    pub tenant: TenantId,
    /// When it was created.
    pub created: Timestamp,
}

/// A destination as a request makes it.
#[derive(Debug, Clone, PartialEq)]
pub struct Weighed {
    /// The destination.
    pub destination: Destination,
    /// For each of its signatures whether the secret has just been generated: then it is shown, this once.
    pub fresh: Vec<bool>,
}

impl DestinationRequest {
    /// A new destination: this request over the defaults.
    ///
    /// `confirmed` says what it is when the request does not: true when nothing asks receivers for a confirmation.
    ///
    /// A 400 that names every wrong field.
    pub fn create(
        mut self,
        identity: Identity,
        confirmed: bool,
        limits: Limits,
        signing: &mut Signing<'_>,
    ) -> Result<Weighed, Problem> {
        let Identity { no, id, tenant, created } = identity;
        let mut faults = Faults::default();
        if matches!(self.name, Patch::Absent) {
            faults.note("/name", "is required");
        }
        if matches!(self.http_endpoint_url, Patch::Absent) {
            faults.note("/http_endpoint_url", "is required");
        }
        for (pointer, field) in [
            ("/id", &mut self.id),
            ("/tenant", &mut self.tenant),
            ("/created", &mut self.created),
            ("/url", &mut self.url),
        ] {
            if std::mem::take(field) != Patch::Absent {
                let why = match pointer {
                    "/tenant" => "is the caller's; one of all tenants names it in X-Tenant",
                    _ => "is given by the daemon",
                };
                faults.note(pointer, why);
            }
        }
        if self.lane != Patch::Absent {
            faults.note("/lane", "is given by the daemon");
        }
        self.refuse_steering(false, &mut faults);
        // In a create `null` says the same as nothing.
        let confirmed = std::mem::take(&mut self.confirmed).value().unwrap_or(confirmed);
        for flag in [&mut self.disabled, &mut self.ordered, &mut self.allow_private, &mut self.gone_at_once] {
            if *flag == Patch::Null {
                *flag = Patch::Absent;
            }
        }
        if self.signature == Patch::Null {
            self.signature = Patch::Absent;
        }
        let says_signature = self.signature != Patch::Absent;
        let confirmation = if confirmed { Confirmation::Given } else { Confirmation::Awaited };
        let blank = Destination { confirmation, ..Destination::new(no, id, tenant, "", "", created) };
        let mut signed = if says_signature { Vec::new() } else { default_pair(signing) };
        let destination = self.lay_over(blank, &mut signed, limits, signing, faults)?;
        Ok(Weighed { destination, fresh: signed.iter().map(|signed| signed.is_fresh).collect() })
    }

    /// The destination `stored` with this request's changes (decision D12: fields that are not there stay).
    ///
    /// A 400 that names every wrong field, read-only ones that would change included.
    /// `lane` is how its lane stands at this moment: that is shown beside the destination, and not changed by an update.
    pub(super) fn update(
        mut self,
        stored: &Destination,
        lane: &LaneView,
        limits: Limits,
        signing: &mut Signing<'_>,
    ) -> Result<Weighed, Problem> {
        let mut faults = Faults::default();
        let own_path = path_of(stored.id);
        faults.read_only("/id", &self.id, |sent| sent.is_some_and(|id| id.parse() == Ok(stored.id)));
        faults.read_only("/tenant", &self.tenant, |sent| sent.is_some_and(|tenant| tenant == stored.tenant.as_str()));
        faults.read_only("/created", &self.created, |sent| sent.is_some_and(|at| at.parse() == Ok(stored.created)));
        faults.read_only("/url", &self.url, |sent| sent.is_some_and(|url| url.eq_ignore_ascii_case(&own_path)));
        faults.read_only("/confirmed", &self.confirmed, |sent| sent == Some(&stored.is_confirmed()));
        let is_lane = |Object(named): &Object<LaneRequest>| named.state.as_deref() == Some(lane.state);
        match &self.lane {
            Patch::Value(other) if !is_lane(other) => {
                let why = format!("is read-only, and {} by now; leave it out", lane.state);
                faults.note("/lane/state", why);
            }
            named => faults.read_only("/lane", named, |sent| sent.is_some_and(is_lane)),
        }
        self.refuse_steering(lane.is_paused(), &mut faults);
        let keep = |signature: &SignedWith| Signed { signature: signature.clone(), is_fresh: false };
        let mut signed = stored.signatures.iter().map(keep).collect();
        let destination = self.lay_over(stored.clone(), &mut signed, limits, signing, faults)?;
        Ok(Weighed { destination, fresh: signed.iter().map(|signed| signed.is_fresh).collect() })
    }

    fn refuse_steering(&mut self, is_paused: bool, faults: &mut Faults) {
        match std::mem::take(&mut self.paused) {
            Patch::Absent => {}
            Patch::Value(paused) if paused == is_paused => {}
            Patch::Value(_) | Patch::Null => faults.note("/paused", "is changed by POST …/pause and …/resume"),
        }
    }

    fn lay_over(
        self,
        mut to: Destination,
        signed: &mut Vec<Signed>,
        limits: Limits,
        signing: &mut Signing<'_>,
        mut faults: Faults,
    ) -> Result<Destination, Problem> {
        let faults = &mut faults;
        faults.set("/name", self.name, &mut to.name, |text| readable(text, 1, NAME_CHARS_MAX));
        faults.set_or("/description", self.description, &mut to.description, None, |text| {
            readable(text, 1, DESCRIPTION_CHARS_MAX).map(Some)
        });
        faults.set("/http_endpoint_url", self.http_endpoint_url, &mut to.url, |text| {
            plain_text(text, 1, limits.url_chars_max)
        });
        faults.set_or("/method", self.method, &mut to.method, Method::default(), method);
        faults.set("/disabled", self.disabled, &mut to.disabled, Ok);
        faults.set_or("/format", self.format, &mut to.format, Format::default(), format);
        faults.set_or("/timeout", self.timeout, &mut to.timeout, None, |text| {
            duration(&text, TIMEOUT_MIN, TIMEOUT_MAX).map(Some)
        });
        faults.set_or("/in_flight_max", self.in_flight_max, &mut to.in_flight_max, None, |number| {
            match (1..=IN_FLIGHT_MAX).contains(&number) {
                true => Ok(Some(number)),
                false => Err(Invalid(format!("must be 1 to {IN_FLIGHT_MAX}"))),
            }
        });
        faults.set("/ordered", self.ordered, &mut to.ordered, Ok);
        // One at a time is what order means: more is not silently less.
        if to.ordered && to.in_flight_max.is_some_and(|most| most > 1) {
            faults.note("/in_flight_max", "must be 1 or null where `ordered` is true: one delivery at a time");
        }
        faults.set("/allow_private", self.allow_private, &mut to.allow_private, Ok);
        faults.set("/gone_at_once", self.gone_at_once, &mut to.gone_at_once, Ok);
        block(self.auth, &mut to.auth, |Object(request), stored| request.weigh(stored, faults));
        block(self.retry, &mut to.retry, |Object(request), _| request.weigh(faults));
        block(self.success, &mut to.success, |Object(request), _| request.weigh(faults));
        block(self.rate, &mut to.rate, |Object(request), _| request.weigh(faults).map(Some));
        block(self.tls, &mut to.tls, |Object(request), stored| request.weigh(stored, faults));
        match self.signature {
            Patch::Absent => {}
            Patch::Null => faults.note("/signature", "cannot be null; {\"preset\": \"none\"} sends none"),
            Patch::Value(request) => *signed = request.weigh(&to.signatures, signing, faults),
        }
        to.signatures = signed.iter().map(|signed| signed.signature.clone()).collect();
        block(self.headers, &mut to.headers, |request, stored| Some(request.weigh(stored, faults)));
        refuse_clashes(&to, signing, faults);
        std::mem::take(faults).into_result().map(|()| to)
    }
}

/// Sets a block of fields as a whole: `null` is the default, a value is what the rule makes of it and the stored one.
fn block<T, U: Default>(field: Patch<T>, slot: &mut U, rule: impl FnOnce(T, &U) -> Option<U>) {
    match field {
        Patch::Absent => {}
        Patch::Null => *slot = U::default(),
        Patch::Value(value) => {
            if let Some(value) = rule(value, slot) {
                *slot = value;
            }
        }
    }
}

fn method(text: String) -> Result<Method, Invalid> {
    [Method::Post, Method::Put]
        .into_iter()
        .find(|method| method.as_str() == text)
        .ok_or_else(|| Invalid::new("must be POST or PUT"))
}

fn format(text: String) -> Result<Format, Invalid> {
    let known = || Format::ALL.map(Format::as_str).join(", ");
    Format::named(&text).ok_or_else(|| Invalid(format!("must be one of {}", known())))
}

/// A name that a header of a delivery may bear: a token that neither HTTP nor the daemon owns.
///
/// For a signature's own header more is allowed (any `X-Webhook-…` or `webhook-…` but the daemon's); see [`own_header_name`].
pub(in crate::api::native) fn header_name(name: &str) -> Result<http::HeaderName, Invalid> {
    // What belongs to the connection or to the framing of a message (RFC 9110, 9112), then what the daemon always writes.
    const OWNED: [&str; 26] = [
        "host",
        "content-length",
        "content-encoding",
        "transfer-encoding",
        "connection",
        "keep-alive",
        "proxy-connection",
        "proxy-authorization",
        "proxy-authenticate",
        "te",
        "trailer",
        "upgrade",
        "expect",
        "http2-settings",
        "date",
        "via",
        "accept-encoding",
        "user-agent",
        "traceparent",
        "x-webhook-event",
        "x-webhook-id",
        "x-webhook-delivery",
        "x-webhook-attempt",
        "x-webhook-timestamp",
        "webhook-id",
        "webhook-timestamp",
    ];
    if name.len() > HEADER_NAME_MAX {
        return Err(Invalid(format!("a header's name has at most {HEADER_NAME_MAX} characters")));
    }
    let parsed = http::HeaderName::from_bytes(name.as_bytes()).map_err(|_| Invalid::new("is no header name"))?;
    if OWNED.contains(&parsed.as_str()) {
        return Err(Invalid::new("is a header that HTTP or the daemon owns"));
    }
    Ok(parsed)
}

/// A name that a destination's own header may bear.
fn own_header_name(name: &str) -> Result<http::HeaderName, Invalid> {
    let parsed = header_name(name)?;
    if parsed.as_str().starts_with("x-webhook-") || parsed.as_str().starts_with("webhook-") {
        return Err(Invalid::new("is a header that HTTP or the daemon owns"));
    }
    Ok(parsed)
}

/// A value that a header can carry as it is: no control characters, no white space at its ends, which HTTP would drop.
fn header_value(value: &str) -> Result<(), Invalid> {
    if value.len() > HEADER_VALUE_MAX {
        return Err(Invalid(format!("a header's value has at most {HEADER_VALUE_MAX} bytes")));
    }
    if value.trim_matches([' ', '\t']) != value {
        return Err(Invalid::new("a header's value has no white space at its ends"));
    }
    http::HeaderValue::from_bytes(value.as_bytes())
        .map(|_| ())
        .map_err(|_| Invalid::new("a header's value has no line breaks or other control characters"))
}

impl HeadersRequest {
    fn weigh(self, stored: &[(String, Secret)], faults: &mut Faults) -> Vec<(String, Secret)> {
        if self.0.len() > HEADERS_MAX {
            faults.note("/headers", format!("must have at most {HEADERS_MAX} entries"));
            return Vec::new();
        }
        let mut headers: Vec<(String, Secret)> = Vec::with_capacity(self.0.len());
        for (name, value) in self.0 {
            let mut pointer = "/headers".to_owned();
            push_segment(&mut pointer, &name);
            if faults.weigh(&pointer, own_header_name(&name)).is_none() {
                continue;
            }
            if headers.iter().any(|(other, _)| other.eq_ignore_ascii_case(&name)) {
                faults.note(pointer, "stands there twice; the case of a name does not count");
                continue;
            }
            let value = if value.expose() == MASK {
                match stored.iter().find(|(other, _)| other.eq_ignore_ascii_case(&name)) {
                    Some((_, kept)) => kept.clone(),
                    None => {
                        faults.note(pointer, format!("{MASK:?} stands for a stored value, and there is none"));
                        continue;
                    }
                }
            } else {
                if faults.weigh(&pointer, header_value(value.expose())).is_none() {
                    continue;
                }
                value
            };
            headers.push((name, value));
        }
        headers
    }
}

impl AuthRequest {
    fn weigh(mut self, stored: &Auth, faults: &mut Faults) -> Option<Auth> {
        let Some(kind) = self.r#type.take() else {
            faults.note("/auth/type", "is required");
            return None;
        };
        let username = self.username.take();
        let header = self.header.take();
        let (password, secret, token) = (self.password.take(), self.secret.take(), self.token.take());
        let given = [
            ("username", username.is_some()),
            ("password", password.is_some()),
            ("header", header.is_some()),
            ("secret", secret.is_some()),
            ("token", token.is_some()),
        ];
        let mut takes = |fields: &[&str]| {
            for (field, _) in given.iter().filter(|(field, is_given)| *is_given && !fields.contains(field)) {
                faults.note(format!("/auth/{field}"), format!("does not belong to the type {kind}"));
            }
        };
        match kind.as_str() {
            "none" => {
                takes(&[]);
                Some(Auth::None)
            }
            "basic" => {
                takes(&["username", "password"]);
                let name = username.map_or_else(|| Err(Invalid::new("is required")), self::username);
                // Weighed both before either is missed: whoever left out two is told of two.
                let username = faults.weigh("/auth/username", name);
                let kept = match stored {
                    Auth::Basic { username: before, password } if Some(before) == username.as_ref() => Some(password),
                    _ => None,
                };
                let password = credential("/auth/password", password, kept, faults, self::password);
                Some(Auth::Basic { username: username?, password: password? })
            }
            "shared_secret" => {
                takes(&["header", "secret"]);
                let header = header.unwrap_or_else(|| SHARED_SECRET_HEADER.to_owned());
                let named = faults.weigh("/auth/header", own_header_name(&header));
                let kept = match stored {
                    Auth::SharedSecret { header: before, secret } if before.eq_ignore_ascii_case(&header) => {
                        Some(secret)
                    }
                    _ => None,
                };
                let secret = credential("/auth/secret", secret, kept, faults, |text| {
                    plain_text(text.to_owned(), SHARED_SECRET_CHARS_MIN, CREDENTIAL_CHARS_MAX)?;
                    header_value(text)
                });
                named?;
                Some(Auth::SharedSecret { header, secret: secret? })
            }
            "bearer" => {
                takes(&["token"]);
                let kept = match stored {
                    Auth::Bearer { token } => Some(token),
                    _ => None,
                };
                let token = credential("/auth/token", token, kept, faults, sent_verbatim)?;
                Some(Auth::Bearer { token })
            }
            _ => {
                faults.note("/auth/type", "must be one of none, basic, shared_secret, bearer");
                None
            }
        }
    }
}

/// A name for basic authentication.
pub(in crate::api) fn username(text: String) -> Result<String, Invalid> {
    match text.contains(':') {
        true => Err(Invalid::new("must not have a colon (RFC 7617)")),
        false => plain_text(text, 0, 255),
    }
}

/// A password for basic authentication.
pub(in crate::api) fn password(text: &str) -> Result<(), Invalid> {
    plain_text(text.to_owned(), 0, CREDENTIAL_CHARS_MAX).map(|_| ())
}

/// A shared secret in characters, at least: what is shorter is soon guessed at the receiver.
const SHARED_SECRET_CHARS_MIN: usize = 8;

/// A secret that is sent as it is, in a header.
pub(in crate::api) fn sent_verbatim(text: &str) -> Result<(), Invalid> {
    if text.is_empty() {
        return Err(Invalid::new("must not be empty"));
    }
    header_value(text)
}

/// A secret that is given, or the `kept` one when the request leaves it out or masks it.
fn credential(
    pointer: &str,
    given: Option<Secret>,
    kept: Option<&Secret>,
    faults: &mut Faults,
    rule: impl FnOnce(&str) -> Result<(), Invalid>,
) -> Option<Secret> {
    match (given, kept) {
        (Some(given), _) if given.expose() != MASK => {
            let ruled = rule(given.expose());
            faults.weigh(pointer, ruled).map(|()| given)
        }
        (_, Some(kept)) => Some(kept.clone()),
        (Some(_), None) => {
            faults.note(pointer, format!("{MASK:?} stands for a stored secret, and there is none"));
            None
        }
        (None, None) => {
            faults.note(pointer, "is required");
            None
        }
    }
}

impl RetryRequest {
    fn weigh(self, faults: &mut Faults) -> Option<Retry> {
        let RetryRequest { schedule, delays, attempts_max, jitter } = self;
        if schedule.is_some() && delays.is_some() {
            faults.note("/retry/delays", "excludes schedule: name one, or list the delays");
            return None;
        }
        if attempts_max.is_some_and(|attempts| !(1..=ATTEMPTS_MAX).contains(&attempts)) {
            faults.note("/retry/attempts_max", format!("must be 1 to {ATTEMPTS_MAX}"));
            return None;
        }
        if jitter.is_some_and(|jitter| !(0.0..=10.0).contains(&jitter)) {
            faults.note("/retry/jitter", "must be a share of the delay, 0 to 10");
            return None;
        }
        let plan = match (schedule, delays) {
            (Some(name), _) => {
                let is_name = (1..=64).contains(&name.len())
                    && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte));
                if !is_name {
                    faults.note("/retry/schedule", "is no name of a schedule");
                    return None;
                }
                Plan::Named(name)
            }
            (None, Some(texts)) => {
                if texts.len() >= ATTEMPTS_MAX as usize {
                    faults.note("/retry/delays", format!("must have fewer than {ATTEMPTS_MAX} entries"));
                    return None;
                }
                let mut delays = Vec::with_capacity(texts.len());
                for (place, text) in texts.iter().enumerate() {
                    let delay = duration(text, Duration::ZERO, DELAY_MAX);
                    delays.push(faults.weigh(&format!("/retry/delays/{place}"), delay)?);
                }
                let schedule = Schedule::new(delays.clone(), attempts_max, jitter.unwrap_or(JITTER_DEFAULT));
                faults.weigh("/retry/delays", schedule)?;
                Plan::Delays(delays)
            }
            (None, None) => Plan::Default,
        };
        Some(Retry { plan, attempts_max, jitter })
    }
}

impl SuccessRequest {
    fn weigh(self, faults: &mut Faults) -> Option<Success> {
        let default = Success::default();
        let status = match self.status {
            None => default.status,
            Some(texts) if texts.is_empty() || texts.len() > STATUS_RANGES_MAX => {
                faults.note("/success/status", format!("must have 1 to {STATUS_RANGES_MAX} entries"));
                return None;
            }
            Some(texts) => {
                let mut ranges = Vec::with_capacity(texts.len());
                for (place, StatusRequest(text)) in texts.iter().enumerate() {
                    ranges.push(faults.weigh(&format!("/success/status/{place}"), status_range(text))?);
                }
                ranges
            }
        };
        let body = match self.body {
            None => None,
            Some(Object(request)) => Some(request.weigh(faults)?),
        };
        Some(Success { status, body })
    }
}

fn status_range(text: &str) -> Result<(u16, u16), Invalid> {
    let form = || Invalid::new("must be a status such as \"2xx\", \"200\" or \"200-204\"");
    let three_digits = |text: &str| match text.len() == 3 && text.bytes().all(|byte| byte.is_ascii_digit()) {
        true => text.parse::<u16>().map_err(|_| form()),
        false => Err(form()),
    };
    let (first, last) = if let Some(class) = text.strip_suffix("xx") {
        let first = three_digits(&format!("{class}00"))?;
        (first, first + 99)
    } else if let Some((first, last)) = text.split_once('-') {
        (three_digits(first)?, three_digits(last)?)
    } else {
        let status = three_digits(text)?;
        (status, status)
    };
    if first > last || first < 200 || last > 599 {
        return Err(Invalid::new("must lie between 200 and 599"));
    }
    // SX.13: redirects are failures and are never followed, so no predicate can make one a success.
    if first <= 399 && last >= 300 {
        return Err(Invalid::new("holds no 3xx: a redirect is never a success"));
    }
    Ok((first, last))
}

pub(super) fn status_text(&(first, last): &(u16, u16)) -> String {
    match (first, last) {
        (first, last) if first % 100 == 0 && last == first + 99 => format!("{}xx", first / 100),
        (first, last) if first == last => first.to_string(),
        (first, last) => format!("{first}-{last}"),
    }
}

impl BodyRuleRequest {
    fn weigh(self, faults: &mut Faults) -> Option<BodyRule> {
        let rule = match (self.contains, self.equals, self.prefix) {
            (Some(text), None, None) => BodyRule::Contains(text),
            (None, Some(text), None) => BodyRule::Equals(text),
            (None, None, Some(text)) => BodyRule::Prefix(text),
            _ => {
                faults.note("/success/body", "must have one of contains, equals, prefix");
                return None;
            }
        };
        let (field, text) = rule_parts(&rule);
        if !(1..=BODY_TEXT_BYTES_MAX).contains(&text.len()) {
            faults.note(format!("/success/body/{field}"), format!("must have 1 to {BODY_TEXT_BYTES_MAX} bytes"));
            return None;
        }
        Some(rule)
    }
}

pub(super) fn rule_parts(rule: &BodyRule) -> (&'static str, &str) {
    match rule {
        BodyRule::Contains(text) => ("contains", text),
        BodyRule::Equals(text) => ("equals", text),
        BodyRule::Prefix(text) => ("prefix", text),
    }
}

impl RateRequest {
    fn weigh(self, faults: &mut Faults) -> Option<Rate> {
        let events = match self.events {
            Some(events) if (1..=RATE_EVENTS_MAX).contains(&events) => Some(events),
            Some(_) => {
                faults.note("/rate/events", format!("must be 1 to {RATE_EVENTS_MAX}"));
                None
            }
            None => {
                faults.note("/rate/events", "is required");
                None
            }
        };
        let per = match self.per {
            Some(text) => duration(&text, RATE_PER_MIN, RATE_PER_MAX),
            None => Ok(Duration::from_secs(1)),
        };
        let per = faults.weigh("/rate/per", per);
        Some(Rate { events: events?, per: per? })
    }
}

impl TlsRequest {
    fn weigh(self, stored: &TlsOptions, faults: &mut Faults) -> Option<TlsOptions> {
        let ca = self.ca.filter(|text| !text.is_empty());
        if let Some(text) = &ca {
            faults.weigh("/tls/ca", certificates(text));
        }
        let client_key = match self.client_key {
            Some(key) if key.expose() == MASK => match &stored.client_key {
                Some(kept) => Some(kept.clone()),
                None => {
                    faults.note("/tls/client_key", format!("{MASK:?} stands for a stored key, and there is none"));
                    return None;
                }
            },
            key => key,
        };
        match (&self.client_cert, &client_key) {
            (None, None) => {}
            (Some(_), None) => faults.note("/tls/client_key", "is required with client_cert"),
            (None, Some(_)) => faults.note("/tls/client_cert", "is required with client_key"),
            (Some(cert), Some(key)) => {
                let chain = faults.weigh("/tls/client_cert", certificates(cert));
                let key = faults.weigh("/tls/client_key", private_key(key.expose()));
                if let (Some(chain), Some(key)) = (chain, key) {
                    faults.weigh("/tls/client_key", pair(chain, key));
                }
            }
        }
        let pin = match self.pin.map(|text| pin(&text)) {
            None => None,
            Some(pin) => faults.weigh("/tls/pin", pin),
        };
        // With a fault noted nothing of this is kept: the request fails as a whole.
        Some(TlsOptions { ca, client_cert: self.client_cert, client_key, pin })
    }
}

fn certificates(pem: &str) -> Result<Vec<CertificateDer<'static>>, Invalid> {
    if pem.len() > PEM_BYTES_MAX {
        return Err(Invalid(format!("must have at most {PEM_BYTES_MAX} bytes")));
    }
    let chain: Vec<_> = CertificateDer::pem_slice_iter(pem.as_bytes())
        .collect::<Result<_, _>>()
        .map_err(|_| Invalid::new("is not well-formed PEM"))?;
    match chain.is_empty() {
        true => Err(Invalid::new("holds no PEM certificate")),
        false => Ok(chain),
    }
}

fn private_key(pem: &str) -> Result<PrivateKeyDer<'static>, Invalid> {
    if pem.len() > PEM_BYTES_MAX {
        return Err(Invalid(format!("must have at most {PEM_BYTES_MAX} bytes")));
    }
    PrivateKeyDer::from_pem_slice(pem.as_bytes())
        .map_err(|_| Invalid::new("holds no PEM private key (PKCS #8, PKCS #1 or SEC 1)"))
}

fn pair(chain: Vec<CertificateDer<'static>>, key: PrivateKeyDer<'static>) -> Result<(), Invalid> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    rustls::sign::CertifiedKey::from_der(chain, key, &provider)
        .map(|_| ())
        .map_err(|_| Invalid::new("does not fit client_cert, or is of a kind that is not supported"))
}

/// A SHA-256 in hex, with or without colons between its bytes, as openssl prints it.
fn pin(text: &str) -> Result<[u8; 32], Invalid> {
    let form = || Invalid::new("must be a SHA-256 in hex: 64 digits, colons between them allowed");
    let digits: String = text.chars().filter(|&character| character != ':').collect();
    if text.len() > 95 || digits.len() != 64 || !digits.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return Err(form());
    }
    let mut pin = [0; 32];
    for (place, byte) in pin.iter_mut().enumerate() {
        *byte = u8::from_str_radix(&digits[place * 2..place * 2 + 2], 16).map_err(|_| form())?;
    }
    Ok(pin)
}

/// One header has one writer: the destination's own headers, its credentials and its signatures must not meet.
fn refuse_clashes(destination: &Destination, signing: &Signing<'_>, faults: &mut Faults) {
    let credentials = match &destination.auth {
        Auth::None => None,
        Auth::Basic { .. } | Auth::Bearer { .. } => Some("Authorization"),
        Auth::SharedSecret { header, .. } => Some(header.as_str()),
    };
    let signed: Vec<String> =
        destination.signatures.iter().flat_map(|one| (signing.header_names)(one.scheme())).collect();
    for (name, _) in &destination.headers {
        let mut pointer = "/headers".to_owned();
        push_segment(&mut pointer, name);
        if credentials.is_some_and(|other| other.eq_ignore_ascii_case(name)) {
            faults.note(pointer, "is written by auth");
        } else if signed.iter().any(|other| other.eq_ignore_ascii_case(name)) {
            faults.note(pointer, "is written by a signature");
        } else if destination.format == Format::CloudEventsBinary && name.to_ascii_lowercase().starts_with("ce-") {
            faults.note(pointer, "is written by the format, which puts the event's attributes there");
        }
    }
    if let Some(name) = credentials
        && signed.iter().any(|other| other.eq_ignore_ascii_case(name))
    {
        faults.note("/auth", format!("writes the header {name}, as a signature does"));
    }
}
