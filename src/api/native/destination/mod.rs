//! Destinations on the wire: `POST` and `PUT /v1/destinations/webhook`, and how one is shown.
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
use serde::de::{self, Deserializer, MapAccess, Visitor};
use serde::ser::{SerializeMap, Serializer};
use serde::{Deserialize, Serialize};

use super::signature::{SignaturesRequest, SignaturesView, Signed, Signing, default_pair};
use crate::api::door::{Faults, MASK, Patch, duration, duration_text, plain_text};
use crate::http::problem::Problem;
use crate::http::request::push_segment;
use crate::model::destination::{BodyRule, Format, Method, Signature};
use crate::model::id::hex;
use crate::model::schedule::{ATTEMPTS_MAX, DELAY_MAX, JITTER_DEFAULT, Plan};
use crate::model::{
    Auth, Destination, DestinationId, DestinationNo, Invalid, Rate, Retry, Schedule, Secret, Success, TenantId,
    Timestamp, TlsOptions,
};

const NAME_CHARS_MAX: usize = 124;
const DESCRIPTION_CHARS_MAX: usize = 256;
const HEADERS_MAX: usize = 50;
const HEADER_NAME_MAX: usize = 128;
const HEADER_VALUE_MAX: usize = 4096;
const CREDENTIAL_CHARS_MAX: usize = 4096;
const SHARED_SECRET_HEADER: &str = "X-Shared-Secret";
const TIMEOUT_MIN: Duration = Duration::from_secs(1);
const TIMEOUT_MAX: Duration = Duration::from_secs(120);
const IN_FLIGHT_MAX: u32 = 1000;
const RATE_EVENTS_MAX: u32 = 1_000_000;
const RATE_PER_MIN: Duration = Duration::from_millis(100);
const RATE_PER_MAX: Duration = Duration::from_secs(24 * 3600);
const STATUS_RANGES_MAX: usize = 32;
const BODY_TEXT_BYTES_MAX: usize = 4096;
const PEM_BYTES_MAX: usize = 64 * 1024;

/// The path of destinations of this type; a destination's own path is this, a slash and its id.
pub const PATH: &str = "/v1/destinations/webhook";

/// The bounds that the installation sets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// A URL in characters (decision D21); default 2048.
    pub url_chars_max: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Limits { url_chars_max: 2048 }
    }
}

/// The body of a create and of an update.
#[derive(Debug, Default, Deserialize)]
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
    auth: Patch<AuthRequest>,
    signature: Patch<SignaturesRequest>,
    format: Patch<String>,
    retry: Patch<RetryRequest>,
    success: Patch<SuccessRequest>,
    timeout: Patch<String>,
    in_flight_max: Patch<u32>,
    rate: Patch<RateRequest>,
    tls: Patch<TlsRequest>,
    allow_private: Patch<bool>,
    gone_at_once: Patch<bool>,
}

/// `headers` in the order of the body, since serde's maps would hide a name that stands there twice.
#[derive(Debug)]
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

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct AuthRequest {
    r#type: Option<String>,
    username: Option<String>,
    password: Option<Secret>,
    header: Option<String>,
    secret: Option<Secret>,
    token: Option<Secret>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct RetryRequest {
    schedule: Option<String>,
    delays: Option<Vec<String>>,
    attempts_max: Option<u32>,
    jitter: Option<f64>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct SuccessRequest {
    status: Option<Vec<StatusRequest>>,
    body: Option<BodyRuleRequest>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct BodyRuleRequest {
    contains: Option<String>,
    equals: Option<String>,
    prefix: Option<String>,
}

/// A status, a range or a class: `"2xx"`, `"200-204"`, `"200"`, and the number 200 as well.
#[derive(Debug)]
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

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct RateRequest {
    events: Option<u32>,
    per: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
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
                faults.note(pointer, "is given by the daemon");
            }
        }
        // In a create `null` says the same as nothing.
        let confirmed = std::mem::take(&mut self.confirmed).value().unwrap_or(confirmed);
        for flag in [&mut self.disabled, &mut self.allow_private, &mut self.gone_at_once] {
            if *flag == Patch::Null {
                *flag = Patch::Absent;
            }
        }
        if self.signature == Patch::Null {
            self.signature = Patch::Absent;
        }
        let says_signature = self.signature != Patch::Absent;
        let blank = Destination {
            no,
            id,
            tenant,
            name: String::new(),
            description: None,
            url: String::new(),
            method: Method::default(),
            headers: Vec::new(),
            auth: Auth::None,
            signatures: Vec::new(),
            format: Format::default(),
            retry: Retry::default(),
            success: Success::default(),
            timeout: None,
            in_flight_max: None,
            rate: None,
            tls: TlsOptions::default(),
            allow_private: false,
            gone_at_once: false,
            confirmed,
            disabled: false,
            created,
        };
        let mut signed = if says_signature { Vec::new() } else { default_pair(signing) };
        let destination = self.lay_over(blank, &mut signed, limits, signing, faults)?;
        Ok(Weighed { destination, fresh: signed.iter().map(|signed| signed.is_fresh).collect() })
    }

    /// The destination `stored` with this request's changes (decision D12: fields that are not there stay).
    ///
    /// A 400 that names every wrong field, read-only ones that would change included.
    pub fn update(
        mut self,
        stored: &Destination,
        limits: Limits,
        signing: &mut Signing<'_>,
    ) -> Result<Weighed, Problem> {
        let mut faults = Faults::default();
        let id = std::mem::take(&mut self.id);
        read_only(&mut faults, "/id", id, |text| text.parse() == Ok(stored.id));
        let tenant = std::mem::take(&mut self.tenant);
        read_only(&mut faults, "/tenant", tenant, |text| text == stored.tenant.as_str());
        let created = std::mem::take(&mut self.created);
        read_only(&mut faults, "/created", created, |text| text.parse() == Ok(stored.created));
        let url = std::mem::take(&mut self.url);
        read_only(&mut faults, "/url", url, |text| text.eq_ignore_ascii_case(&path_of(stored.id)));
        let confirmed = std::mem::take(&mut self.confirmed);
        read_only(&mut faults, "/confirmed", confirmed, |confirmed| *confirmed == stored.confirmed);
        let keep = |signature: &Signature| Signed { signature: signature.clone(), is_fresh: false };
        let mut signed = stored.signatures.iter().map(keep).collect();
        let destination = self.lay_over(stored.clone(), &mut signed, limits, signing, faults)?;
        Ok(Weighed { destination, fresh: signed.iter().map(|signed| signed.is_fresh).collect() })
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
        faults.set("/name", self.name, &mut to.name, |text| plain_text(text, 1, NAME_CHARS_MAX));
        faults.set_or("/description", self.description, &mut to.description, None, |text| {
            plain_text(text, 1, DESCRIPTION_CHARS_MAX).map(Some)
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
                false => Err(Invalid(format!("is 1 to {IN_FLIGHT_MAX}"))),
            }
        });
        faults.set("/allow_private", self.allow_private, &mut to.allow_private, Ok);
        faults.set("/gone_at_once", self.gone_at_once, &mut to.gone_at_once, Ok);
        block(self.auth, &mut to.auth, |request, stored| request.weigh(stored, faults));
        block(self.retry, &mut to.retry, |request, _| request.weigh(faults));
        block(self.success, &mut to.success, |request, _| request.weigh(faults));
        block(self.rate, &mut to.rate, |request, _| request.weigh(faults).map(Some));
        block(self.tls, &mut to.tls, |request, stored| request.weigh(stored, faults));
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

fn read_only<T>(faults: &mut Faults, pointer: &str, field: Patch<T>, is_same: impl FnOnce(&T) -> bool) {
    match field {
        Patch::Absent => {}
        Patch::Value(value) if is_same(&value) => {}
        Patch::Value(_) | Patch::Null => faults.note(pointer, "is read-only; leave it out or send it as it is"),
    }
}

fn method(text: String) -> Result<Method, Invalid> {
    [Method::Post, Method::Put]
        .into_iter()
        .find(|method| method.as_str() == text)
        .ok_or_else(|| Invalid::new("is POST or PUT"))
}

fn format(text: String) -> Result<Format, Invalid> {
    match text == Format::Raw.as_str() {
        true => Ok(Format::Raw),
        false => Err(Invalid(format!("there is one format so far: {}", Format::Raw.as_str()))),
    }
}

/// A name that a header of a delivery may bear: a token that neither HTTP nor the daemon owns.
///
/// For a signature's own header more is allowed (any `X-Webhook-…` or `webhook-…` but the daemon's); see [`own_header_name`].
pub(super) fn header_name(name: &str) -> Result<http::HeaderName, Invalid> {
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
            faults.note("/headers", format!("has at most {HEADERS_MAX} entries"));
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
                let username = match username {
                    Some(username) => plain_text(username, 0, 255).and_then(|username| match username.contains(':') {
                        true => Err(Invalid::new("has no colon (RFC 7617)")),
                        false => Ok(username),
                    }),
                    None => Err(Invalid::new("is required")),
                };
                let username = faults.weigh("/auth/username", username)?;
                let kept = match stored {
                    Auth::Basic { username: before, password } if *before == username => Some(password),
                    _ => None,
                };
                let password = credential("/auth/password", password, kept, faults, |text| {
                    plain_text(text.to_owned(), 0, CREDENTIAL_CHARS_MAX).map(|_| ())
                })?;
                Some(Auth::Basic { username, password })
            }
            "shared_secret" => {
                takes(&["header", "secret"]);
                let header = header.unwrap_or_else(|| SHARED_SECRET_HEADER.to_owned());
                faults.weigh("/auth/header", own_header_name(&header))?;
                let kept = match stored {
                    Auth::SharedSecret { header: before, secret } if before.eq_ignore_ascii_case(&header) => {
                        Some(secret)
                    }
                    _ => None,
                };
                let secret = credential("/auth/secret", secret, kept, faults, sent_verbatim)?;
                Some(Auth::SharedSecret { header, secret })
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
                faults.note("/auth/type", "is one of none, basic, shared_secret, bearer");
                None
            }
        }
    }
}

fn sent_verbatim(text: &str) -> Result<(), Invalid> {
    if text.is_empty() {
        return Err(Invalid::new("is not empty"));
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
            faults.note("/retry/attempts_max", format!("is 1 to {ATTEMPTS_MAX}"));
            return None;
        }
        if jitter.is_some_and(|jitter| !(0.0..=10.0).contains(&jitter)) {
            faults.note("/retry/jitter", "is a share of the delay, 0 to 10");
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
                    faults.note("/retry/delays", format!("has fewer than {ATTEMPTS_MAX} entries"));
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
                faults.note("/success/status", format!("has 1 to {STATUS_RANGES_MAX} entries"));
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
            Some(request) => Some(request.weigh(faults)?),
        };
        Some(Success { status, body })
    }
}

fn status_range(text: &str) -> Result<(u16, u16), Invalid> {
    let form = || Invalid::new("is a status such as \"2xx\", \"200\" or \"200-204\"");
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
        return Err(Invalid::new("lies between 200 and 599"));
    }
    // SX.13: redirects are failures and are never followed, so no predicate can make one a success.
    if first <= 399 && last >= 300 {
        return Err(Invalid::new("holds no 3xx: a redirect is never a success"));
    }
    Ok((first, last))
}

fn status_text(&(first, last): &(u16, u16)) -> String {
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
                faults.note("/success/body", "has one of contains, equals, prefix");
                return None;
            }
        };
        let (field, text) = rule_parts(&rule);
        if !(1..=BODY_TEXT_BYTES_MAX).contains(&text.len()) {
            faults.note(format!("/success/body/{field}"), format!("is 1 to {BODY_TEXT_BYTES_MAX} bytes"));
            return None;
        }
        Some(rule)
    }
}

fn rule_parts(rule: &BodyRule) -> (&'static str, &str) {
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
                faults.note("/rate/events", format!("is 1 to {RATE_EVENTS_MAX}"));
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
        return Err(Invalid(format!("has at most {PEM_BYTES_MAX} bytes")));
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
        return Err(Invalid(format!("has at most {PEM_BYTES_MAX} bytes")));
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
    let form = || Invalid::new("is a SHA-256 in hex: 64 digits, colons between them allowed");
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
    let signed: Vec<String> = destination.signatures.iter().flat_map(|one| (signing.header_names)(one)).collect();
    for (name, _) in &destination.headers {
        let mut pointer = "/headers".to_owned();
        push_segment(&mut pointer, name);
        if credentials.is_some_and(|other| other.eq_ignore_ascii_case(name)) {
            faults.note(pointer, "is written by auth");
        } else if signed.iter().any(|other| other.eq_ignore_ascii_case(name)) {
            faults.note(pointer, "is written by a signature");
        }
    }
    if let Some(name) = credentials
        && signed.iter().any(|other| other.eq_ignore_ascii_case(name))
    {
        faults.note("/auth", format!("writes the header {name}, as a signature does"));
    }
}

fn path_of(id: DestinationId) -> String {
    format!("{PATH}/{id}")
}

/// A destination in an answer. No secret is in it, but for one that was generated by the request that is being answered.
#[derive(Debug, Serialize)]
pub struct DestinationView {
    id: String,
    name: String,
    description: Option<String>,
    http_endpoint_url: String,
    method: &'static str,
    headers: HeadersView,
    confirmed: bool,
    disabled: bool,
    created: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    url: Option<String>,
    tenant: String,
    auth: AuthView,
    signature: SignaturesView,
    format: &'static str,
    retry: RetryView,
    success: SuccessView,
    timeout: Option<String>,
    in_flight_max: Option<u32>,
    rate: Option<RateView>,
    tls: Option<TlsView>,
    allow_private: bool,
    gone_at_once: bool,
}

/// Names of headers, each with [`MASK`] in the place of its value (decision D11).
#[derive(Debug)]
struct HeadersView(Vec<String>);

impl Serialize for HeadersView {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.0.len()))?;
        for name in &self.0 {
            map.serialize_entry(name, MASK)?;
        }
        map.end()
    }
}

#[derive(Debug, Serialize)]
struct AuthView {
    r#type: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    username: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    header: Option<String>,
}

#[derive(Debug, Serialize)]
struct RetryView {
    #[serde(skip_serializing_if = "Option::is_none")]
    schedule: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    delays: Option<Vec<String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    attempts_max: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    jitter: Option<f64>,
}

#[derive(Debug, Serialize)]
struct SuccessView {
    status: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    body: Option<BodyRuleView>,
}

#[derive(Debug)]
struct BodyRuleView(&'static str, String);

impl Serialize for BodyRuleView {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(1))?;
        map.serialize_entry(self.0, &self.1)?;
        map.end()
    }
}

#[derive(Debug, Serialize)]
struct RateView {
    events: u32,
    per: String,
}

#[derive(Debug, Serialize)]
struct TlsView {
    ca: Option<String>,
    client_cert: Option<String>,
    client_key: Option<&'static str>,
    pin: Option<String>,
}

impl DestinationView {
    /// How the destination is shown; `header_names` tells the headers that a signature writes.
    pub fn of(destination: &Destination, header_names: &dyn Fn(&Signature) -> Vec<String>) -> Self {
        DestinationView::with_fresh(destination, &[], header_names)
    }

    /// The answer to a create or an update: with the secrets that were generated for it, this once.
    pub fn with_fresh(
        destination: &Destination,
        fresh: &[bool],
        header_names: &dyn Fn(&Signature) -> Vec<String>,
    ) -> Self {
        let no_auth = |r#type| AuthView { r#type, username: None, header: None };
        let tls = &destination.tls;
        DestinationView {
            id: destination.id.to_string(),
            name: destination.name.clone(),
            description: destination.description.clone(),
            http_endpoint_url: destination.url.clone(),
            method: destination.method.as_str(),
            headers: HeadersView(destination.headers.iter().map(|(name, _)| name.clone()).collect()),
            confirmed: destination.confirmed,
            disabled: destination.disabled,
            created: destination.created.to_string(),
            url: None,
            tenant: destination.tenant.to_string(),
            auth: match &destination.auth {
                Auth::None => no_auth("none"),
                Auth::Basic { username, .. } => AuthView { username: Some(username.clone()), ..no_auth("basic") },
                Auth::SharedSecret { header, .. } => {
                    AuthView { header: Some(header.clone()), ..no_auth("shared_secret") }
                }
                Auth::Bearer { .. } => no_auth("bearer"),
            },
            signature: SignaturesView::of(&destination.signatures, fresh, header_names),
            format: destination.format.as_str(),
            retry: RetryView {
                schedule: match &destination.retry.plan {
                    Plan::Named(name) => Some(name.clone()),
                    Plan::Default | Plan::Delays(_) => None,
                },
                delays: match &destination.retry.plan {
                    Plan::Delays(delays) => Some(delays.iter().map(|&delay| duration_text(delay)).collect()),
                    Plan::Default | Plan::Named(_) => None,
                },
                attempts_max: destination.retry.attempts_max,
                jitter: destination.retry.jitter,
            },
            success: SuccessView {
                status: destination.success.status.iter().map(status_text).collect(),
                body: destination.success.body.as_ref().map(|rule| {
                    let (field, text) = rule_parts(rule);
                    BodyRuleView(field, text.to_owned())
                }),
            },
            timeout: destination.timeout.map(duration_text),
            in_flight_max: destination.in_flight_max,
            rate: destination.rate.map(|rate| RateView { events: rate.events, per: duration_text(rate.per) }),
            tls: (*tls != TlsOptions::default()).then(|| TlsView {
                ca: tls.ca.clone(),
                client_cert: tls.client_cert.clone(),
                client_key: tls.client_key.as_ref().map(|_| MASK),
                pin: tls.pin.as_ref().map(|pin| hex(pin)),
            }),
            allow_private: destination.allow_private,
            gone_at_once: destination.gone_at_once,
        }
    }

    /// The same with its own path, as the answer to a create has it (source 002).
    #[must_use]
    pub fn with_url(mut self) -> Self {
        self.url = Some(format!("{PATH}/{}", self.id));
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::problem::ProblemCode;
    use crate::http::request::parse_json;
    use crate::model::destination::{Preset, Scheme};
    use serde_json::{Value, json};
    use uuid::Uuid;

    fn identity() -> Identity {
        Identity {
            no: DestinationNo(1),
            id: DestinationId(Uuid::from_u128(0x9603f4b2_1874_42fe_a2bc_f7b45c45a9d6)),
            tenant: TenantId::default_tenant(),
            created: Timestamp::from_millis(1_705_314_600_000),
        }
    }

    fn header_names(signature: &Signature) -> Vec<String> {
        let own: &[&str] = match &signature.scheme {
            Scheme::Preset(Preset::Standard) => &["webhook-id", "webhook-timestamp", "webhook-signature"],
            Scheme::Preset(Preset::XWebhookSignature) => &["X-Webhook-Signature"],
            Scheme::Preset(Preset::NmiLike | Preset::GocardlessLike) => &["Webhook-Signature"],
            Scheme::Preset(_) => &["X-Signature"],
            Scheme::Custom(custom) => return vec![custom.header.clone()],
        };
        own.iter().map(|&name| name.to_owned()).collect()
    }

    /// Runs `act` with a signing room whose secrets are `made-1`, `made-2`, ….
    fn signing<T>(act: impl FnOnce(&mut Signing<'_>) -> T) -> T {
        let mut made = 0;
        let mut generate = |_: &Scheme| {
            made += 1;
            Secret::new(format!("made-{made}"))
        };
        act(&mut Signing { generate: &mut generate, header_names: &header_names })
    }

    fn create(body: &Value) -> Result<Weighed, Problem> {
        let request: DestinationRequest = parse_json(body.to_string().as_bytes())?;
        signing(|signing| request.create(identity(), true, Limits::default(), signing))
    }

    fn update(stored: &Destination, body: &Value) -> Result<Weighed, Problem> {
        let request: DestinationRequest = parse_json(body.to_string().as_bytes())?;
        signing(|signing| request.update(stored, Limits::default(), signing))
    }

    fn minimal() -> Value {
        json!({"name": "My Webhook", "http_endpoint_url": "https://example.com/webhook"})
    }

    fn with(field: &str, value: Value) -> Value {
        let mut body = minimal();
        body[field] = value;
        body
    }

    fn show(weighed: &Weighed) -> Value {
        serde_json::to_value(DestinationView::with_fresh(&weighed.destination, &weighed.fresh, &header_names)).unwrap()
    }

    fn pointers(problem: &Problem) -> Vec<&str> {
        problem.errors().iter().map(|error| error.pointer.as_str()).collect()
    }

    fn full() -> Value {
        json!({
            "name": "Full",
            "description": "Everything set",
            "http_endpoint_url": "https://example.com/webhook",
            "method": "PUT",
            "headers": {"X-Key": "header-secret", "Content-Type": "application/json"},
            "disabled": true,
            "confirmed": false,
            "auth": {"type": "basic", "username": "till", "password": "basic-secret"},
            "signature": [
                {"preset": "x-signature", "secret": "text-secret"},
                {"preset": "custom", "header": "X-Sign", "prefix": "t={ts},", "message": "{ts}.{body}",
                 "algorithm": "sha512", "encoding": "HEX", "key_encoding": "hex", "secret": "00ff"},
            ],
            "format": "raw",
            "retry": {"delays": ["1s", "5s"], "attempts_max": 7, "jitter": 0.5},
            "success": {"status": ["2xx", "404", "500-504"], "body": {"contains": "OK"}},
            "timeout": "15s",
            "in_flight_max": 3,
            "rate": {"events": 10, "per": "1s"},
            "tls": {"pin": "ab".repeat(32)},
            "allow_private": true,
            "gone_at_once": true,
        })
    }

    /// S2.9, S2.16, S2.18, S2.22, S2.24, S2.25, S2.26: a new destination has the documented fields and defaults.
    #[test]
    fn a_create_answers_with_the_whole_object() {
        let weighed = create(&minimal()).unwrap();
        let view = DestinationView::with_fresh(&weighed.destination, &weighed.fresh, &header_names).with_url();
        assert_eq!(
            serde_json::to_value(view).unwrap(),
            json!({
                "id": "9603F4B2-1874-42FE-A2BC-F7B45C45A9D6",
                "name": "My Webhook",
                "description": null,
                "http_endpoint_url": "https://example.com/webhook",
                "method": "POST",
                "headers": {},
                "confirmed": true,
                "disabled": false,
                "created": "2024-01-15T10:30:00.000Z",
                "url": "/v1/destinations/webhook/9603F4B2-1874-42FE-A2BC-F7B45C45A9D6",
                "tenant": "default",
                "auth": {"type": "none"},
                "signature": [
                    {"preset": "standard", "header": "webhook-signature", "secret": "made-1"},
                    {"preset": "x-webhook-signature", "header": "X-Webhook-Signature", "secret": "made-1"},
                ],
                "format": "raw",
                "retry": {},
                "success": {"status": ["2xx"]},
                "timeout": null,
                "in_flight_max": null,
                "rate": null,
                "tls": null,
                "allow_private": false,
                "gone_at_once": false,
            })
        );
    }

    /// S2.31, S2.33, SX.5, decision D11: a view holds no secret and no `url`; header names are shown, values are not.
    #[test]
    fn a_view_holds_no_secret() {
        let weighed = create(&full()).unwrap();
        let view = show(&weighed);
        let text = view.to_string();
        for secret in ["header-secret", "basic-secret", "text-secret", "00ff"] {
            assert!(!text.contains(secret), "{text}");
        }
        assert!(view.get("url").is_none());
        assert_eq!(view["headers"], json!({"Content-Type": "***", "X-Key": "***"}));
        assert_eq!(view["auth"], json!({"type": "basic", "username": "till"}));
        assert_eq!(view["signature"][0], json!({"preset": "x-signature", "header": "X-Signature"}));
        assert_eq!(view["success"], json!({"status": ["2xx", "404", "500-504"], "body": {"contains": "OK"}}));
        assert_eq!(view["retry"], json!({"delays": ["1s", "5s"], "attempts_max": 7, "jitter": 0.5}));
        assert_eq!(view["tls"]["pin"], "ab".repeat(32));
        assert_eq!(format!("{:?}", weighed.destination.headers[0].1), "Secret(***)");
    }

    /// S2.36, S2.37, S2.38, decisions D11 and D12: what was read, sent back whole or in part, changes nothing else.
    #[test]
    fn an_update_is_partial_and_what_was_read_can_be_sent_back() {
        let bearer = with("auth", json!({"type": "bearer", "token": "t"}));
        let shared = with("auth", json!({"type": "shared_secret", "secret": "s"}));
        let unsigned = with("signature", json!({"preset": "none"}));
        for body in [minimal(), full(), bearer, shared, unsigned] {
            let stored = create(&body).unwrap().destination;
            assert_eq!(update(&stored, &json!({})).unwrap().destination, stored);
            let shown = serde_json::to_value(DestinationView::of(&stored, &header_names).with_url()).unwrap();
            let weighed = update(&stored, &shown).unwrap();
            assert_eq!(weighed.destination, stored, "{shown}");
            assert!(weighed.fresh.iter().all(|fresh| !fresh), "nothing was generated anew");
            let renamed = update(&stored, &json!({"name": "New"})).unwrap().destination;
            assert_eq!(renamed, Destination { name: "New".into(), ..stored });
        }
    }

    /// S2.36: read-only fields may not change, and say so at their place.
    #[test]
    fn a_read_only_field_that_would_change_is_refused() {
        let stored = create(&minimal()).unwrap().destination;
        let table = [
            ("id", json!("9603F4B2-1874-42FE-A2BC-F7B45C45A9D7")),
            ("tenant", json!("other")),
            ("created", json!("2024-01-15T10:30:01Z")),
            ("url", json!("/v1/destinations/webhook/x")),
            ("confirmed", json!(false)),
            ("confirmed", json!(null)),
        ];
        for (field, value) in table {
            let problem = update(&stored, &json!({field: value})).unwrap_err();
            assert_eq!(pointers(&problem), [format!("/{field}")]);
        }
        let same =
            json!({"id": "9603f4b2-1874-42fe-a2bc-f7b45c45a9d6", "created": "2024-01-15T10:30:00Z", "confirmed": true});
        assert!(update(&stored, &same).is_ok());
        for field in ["id", "tenant", "created", "url"] {
            assert_eq!(pointers(&create(&with(field, json!("x"))).unwrap_err()), [format!("/{field}")]);
        }
    }

    #[test]
    fn null_goes_back_to_the_default_where_there_is_one() {
        let stored = create(&full()).unwrap().destination;
        let body = json!({
            "description": null, "method": null, "headers": null, "auth": null, "format": null, "retry": null,
            "success": null, "timeout": null, "in_flight_max": null, "rate": null, "tls": null,
        });
        let cleared = update(&stored, &body).unwrap().destination;
        let blank = create(&minimal()).unwrap().destination;
        let kept = Destination {
            name: blank.name.clone(),
            signatures: blank.signatures.clone(),
            disabled: false,
            confirmed: true,
            allow_private: false,
            gone_at_once: false,
            ..cleared
        };
        assert_eq!(kept, blank);
        for field in ["name", "http_endpoint_url", "disabled", "signature", "allow_private", "gone_at_once"] {
            assert_eq!(pointers(&update(&stored, &json!({field: null})).unwrap_err()), [format!("/{field}")]);
        }
    }

    /// S2.13 to S2.21, S2.27, S2.39: each field has its bounds, and a 400 names the place that breaks them.
    #[test]
    fn each_field_has_its_bounds() {
        let long = |characters: usize| json!("ä".repeat(characters));
        let fits = [
            ("name", long(124)),
            ("description", long(256)),
            ("http_endpoint_url", long(2048)),
            ("method", json!("PUT")),
            ("headers", json!({"Authorization": "Bearer my-secret-token", "X-Empty": ""})),
            ("auth", json!({"type": "none"})),
            ("auth", json!({"type": "basic", "username": "", "password": ""})),
            ("auth", json!({"type": "shared_secret", "secret": "s", "header": "X-Own"})),
            ("retry", json!({"schedule": "nmi-3d", "attempts_max": 3})),
            ("retry", json!({"delays": [], "attempts_max": 1})),
            ("retry", json!({"delays": ["0s", "31d"], "jitter": 0})),
            ("success", json!({"status": [200, "204"]})),
            ("success", json!({"body": {"equals": "OK"}})),
            ("timeout", json!("2m")),
            ("in_flight_max", json!(1000)),
            ("rate", json!({"events": 5})),
            ("tls", json!({})),
            ("tls", json!({"pin": vec!["AB"; 32].join(":")})),
            ("signature", json!([])),
            ("signature", json!({"preset": "custom", "header": "X-Webhook-Own"})),
        ];
        for (field, value) in fits {
            let made = create(&with(field, value.clone()));
            assert!(made.is_ok(), "{field} {value}: {:?}", made.unwrap_err());
        }
        let breaks = [
            ("name", json!(""), "/name"),
            ("name", long(125), "/name"),
            ("name", json!(7), "/name"),
            ("description", json!(""), "/description"),
            ("description", long(257), "/description"),
            ("http_endpoint_url", long(2049), "/http_endpoint_url"),
            ("http_endpoint_url", json!(""), "/http_endpoint_url"),
            ("method", json!("GET"), "/method"),
            ("method", json!("post"), "/method"),
            ("headers", json!([]), "/headers"),
            ("headers", json!({"X-A": 1}), "/headers/X-A"),
            ("headers", json!({"X-A": "***"}), "/headers/X-A"),
            ("headers", json!({"X-A": "a\r\nb"}), "/headers/X-A"),
            ("headers", json!({"X-A": "a\u{0}"}), "/headers/X-A"),
            ("headers", json!({"X-A": " a"}), "/headers/X-A"),
            ("headers", json!({"X A": "a"}), "/headers/X A"),
            ("headers", json!({"a/b": "a"}), "/headers/a~1b"),
            ("headers", json!({"": "a"}), "/headers/"),
            ("headers", json!({"X-A": "1", "x-a": "2"}), "/headers/x-a"),
            ("headers", json!({"Host": "a"}), "/headers/Host"),
            ("headers", json!({"content-length": "1"}), "/headers/content-length"),
            ("headers", json!({"Transfer-Encoding": "chunked"}), "/headers/Transfer-Encoding"),
            ("headers", json!({"Connection": "close"}), "/headers/Connection"),
            ("headers", json!({"X-Webhook-Id": "1"}), "/headers/X-Webhook-Id"),
            ("headers", json!({"x-webhook-anything": "1"}), "/headers/x-webhook-anything"),
            ("headers", json!({"Webhook-Signature": "1"}), "/headers/Webhook-Signature"),
            ("disabled", json!("yes"), "/disabled"),
            ("confirmed", json!("yes"), "/confirmed"),
            ("auth", json!({}), "/auth/type"),
            ("auth", json!({"type": "digest"}), "/auth/type"),
            ("auth", json!({"type": "none", "token": "t"}), "/auth/token"),
            ("auth", json!({"type": "basic", "username": "a:b", "password": "p"}), "/auth/username"),
            ("auth", json!({"type": "basic", "username": "a"}), "/auth/password"),
            ("auth", json!({"type": "basic", "username": "a", "password": "***"}), "/auth/password"),
            ("auth", json!({"type": "bearer", "token": "a\nb"}), "/auth/token"),
            ("auth", json!({"type": "bearer", "token": ""}), "/auth/token"),
            ("auth", json!({"type": "shared_secret", "secret": "s", "header": "Host"}), "/auth/header"),
            ("auth", json!("basic"), "/auth"),
            ("format", json!("console"), "/format"),
            ("retry", json!({"schedule": "standard", "delays": ["1s"]}), "/retry/delays"),
            ("retry", json!({"delays": ["1s", "soon"]}), "/retry/delays/1"),
            ("retry", json!({"delays": ["32d"]}), "/retry/delays/0"),
            ("retry", json!({"delays": [], "attempts_max": 2}), "/retry/delays"),
            ("retry", json!({"attempts_max": 0}), "/retry/attempts_max"),
            ("retry", json!({"attempts_max": -1}), "/retry/attempts_max"),
            ("retry", json!({"jitter": 11}), "/retry/jitter"),
            ("retry", json!({"schedule": "a b"}), "/retry/schedule"),
            ("retry", json!({"wait": 1}), "/retry/wait"),
            ("success", json!({"status": []}), "/success/status"),
            ("success", json!({"status": ["3xx"]}), "/success/status/0"),
            ("success", json!({"status": ["2xx", "250-310"]}), "/success/status/1"),
            ("success", json!({"status": ["204-200"]}), "/success/status/0"),
            ("success", json!({"status": ["20"]}), "/success/status/0"),
            ("success", json!({"status": ["600"]}), "/success/status/0"),
            ("success", json!({"body": {}}), "/success/body"),
            ("success", json!({"body": {"equals": "a", "prefix": "b"}}), "/success/body"),
            ("success", json!({"body": {"equals": ""}}), "/success/body/equals"),
            ("timeout", json!("999ms"), "/timeout"),
            ("timeout", json!("121s"), "/timeout"),
            ("timeout", json!(10), "/timeout"),
            ("in_flight_max", json!(0), "/in_flight_max"),
            ("in_flight_max", json!(1001), "/in_flight_max"),
            ("rate", json!({"per": "1s"}), "/rate/events"),
            ("rate", json!({"events": 0}), "/rate/events"),
            ("rate", json!({"events": 1, "per": "0s"}), "/rate/per"),
            ("tls", json!({"ca": "no pem"}), "/tls/ca"),
            ("tls", json!({"pin": "abc"}), "/tls/pin"),
            ("tls", json!({"client_key": "***"}), "/tls/client_key"),
            ("tls", json!({"client_cert": "x"}), "/tls/client_key"),
            ("allow_private", json!(1), "/allow_private"),
            ("ordered", json!(true), "/ordered"),
        ];
        for (field, value, place) in breaks {
            let problem = create(&with(field, value.clone())).unwrap_err();
            assert_eq!(pointers(&problem), [place], "{field} {value}");
            assert_eq!(problem.code().status(), 400);
        }
        assert_eq!(pointers(&create(&json!({})).unwrap_err()), ["/name", "/http_endpoint_url"]);
        assert_eq!(create(&with("ordered", json!(true))).unwrap_err().code(), ProblemCode::UnknownField);
    }

    /// S2.15, decision D21: the documented 124 characters are one setting away.
    #[test]
    fn the_length_of_a_url_is_the_installations() {
        let request: DestinationRequest =
            parse_json(with("http_endpoint_url", json!("x".repeat(125))).to_string().as_bytes()).unwrap();
        let made = signing(|signing| request.create(identity(), true, Limits { url_chars_max: 124 }, signing));
        assert_eq!(pointers(&made.unwrap_err()), ["/http_endpoint_url"]);
    }

    /// S2.19, S2.23: `confirmed` can be given at creation, over what the installation would say.
    #[test]
    fn confirmed_is_given_at_creation_only() {
        let confirmed = |body: &Value, default| {
            let request: DestinationRequest = parse_json(body.to_string().as_bytes()).unwrap();
            signing(|signing| request.create(identity(), default, Limits::default(), signing))
                .map(|weighed| weighed.destination.confirmed)
        };
        assert_eq!(confirmed(&minimal(), true), Ok(true));
        assert_eq!(confirmed(&minimal(), false), Ok(false));
        assert_eq!(confirmed(&with("confirmed", json!(false)), true), Ok(false));
        assert_eq!(confirmed(&with("confirmed", json!(true)), false), Ok(true));
    }

    /// Decision D11: `"***"` keeps one value while others change; a name that is left out goes.
    #[test]
    fn masked_headers_keep_what_is_stored() {
        let stored = create(&with("headers", json!({"X-A": "1", "X-B": "2", "X-C": "3"}))).unwrap().destination;
        let changed = update(&stored, &json!({"headers": {"x-a": "***", "X-B": "new"}})).unwrap().destination;
        let headers: Vec<_> = changed.headers.iter().map(|(name, value)| (name.as_str(), value.expose())).collect();
        assert_eq!(headers, [("X-B", "new"), ("x-a", "1")]);
    }

    /// S1.34: stored credentials stay as they are until a complete new block comes.
    #[test]
    fn credentials_change_as_a_whole() {
        let stored = create(&full()).unwrap().destination;
        let table = [
            (json!({"type": "basic", "username": "till"}), Ok(stored.auth.clone())),
            (json!({"type": "basic", "username": "till", "password": "***"}), Ok(stored.auth.clone())),
            (json!({"type": "basic", "username": "other"}), Err("/auth/password")),
            (json!({"type": "bearer"}), Err("/auth/token")),
            (json!({"type": "bearer", "token": "new"}), Ok(Auth::Bearer { token: Secret::new("new") })),
        ];
        for (auth, expected) in table {
            let made = update(&stored, &json!({"auth": auth}));
            let made =
                made.as_ref().map(|weighed| weighed.destination.auth.clone()).map_err(|problem| pointers(problem)[0]);
            assert_eq!(made, expected, "{auth}");
        }
    }

    /// Decision D27; S2.57: signatures are one or a list, and a secret that is not given is made and shown once.
    #[test]
    fn a_secret_that_is_not_given_is_made_and_shown_once() {
        let one = create(&with("signature", json!({"preset": "x-signature"}))).unwrap();
        assert_eq!(
            show(&one)["signature"],
            json!({"preset": "x-signature", "header": "X-Signature", "secret": "made-1"})
        );
        let given = create(&with("signature", json!({"preset": "x-signature", "secret": "mine"}))).unwrap();
        assert_eq!(show(&given)["signature"], json!({"preset": "x-signature", "header": "X-Signature"}));
        let none = create(&with("signature", json!({"preset": "none"}))).unwrap();
        assert_eq!(show(&none)["signature"], json!({"preset": "none"}));
        let added = json!({"signature": [{"preset": "x-signature"}, {"preset": "standard"}]});
        let more = update(&given.destination, &added).unwrap();
        assert_eq!(
            (more.fresh.as_slice(), more.destination.signatures[0].secret.expose()),
            (&[false, true][..], "mine")
        );
        assert_eq!(show(&more)["signature"][1]["secret"], "made-1");
    }

    #[test]
    fn a_wrong_signature_is_told_at_its_place() {
        let table = [
            (json!({}), "/signature/preset"),
            (json!("standard"), "/signature"),
            (json!({"preset": "md5"}), "/signature/preset"),
            (json!({"preset": "standard", "message": "{body}"}), "/signature/message"),
            (json!({"preset": "standard", "header": "X-Other"}), "/signature/header"),
            (json!({"preset": "standard", "secret": ""}), "/signature/secret"),
            (json!({"preset": "standard", "secret": "***"}), "/signature/secret"),
            (json!({"preset": "x-signature", "key": "k"}), "/signature/key"),
            (json!({"preset": "none", "secret": "s"}), "/signature"),
            (json!([{"preset": "standard"}, {"preset": "none"}]), "/signature/1/preset"),
            (json!([{"preset": "standard"}, {"preset": "nmi-like"}]), "/signature/1"),
            (json!([{"preset": "standard"}, {"preset": 7}]), "/signature/1/preset"),
            (json!({"preset": "custom"}), "/signature/header"),
            (json!({"preset": "custom", "header": "Content-Length"}), "/signature/header"),
            (json!({"preset": "custom", "header": "X-Webhook-Id"}), "/signature/header"),
            (json!({"preset": "custom", "header": "X-A", "message": "{ts}"}), "/signature/message"),
            (json!({"preset": "custom", "header": "X-A", "algorithm": "md5"}), "/signature/algorithm"),
            (json!({"preset": "custom", "header": "X-A", "encoding": "base32"}), "/signature/encoding"),
            (json!({"preset": "custom", "header": "X-A", "key_encoding": "HEX"}), "/signature/key_encoding"),
            (
                json!({"preset": "standard", "previous_expires_at": "2024-01-15T10:30:00Z"}),
                "/signature/previous_expires_at",
            ),
        ];
        for (signature, place) in table {
            assert_eq!(pointers(&create(&with("signature", signature.clone())).unwrap_err()), [place], "{signature}");
        }
    }

    /// S2.21: the destination's headers, credentials and signatures do not write over each other.
    #[test]
    fn one_header_has_one_writer() {
        let mut both = with("auth", json!({"type": "bearer", "token": "t"}));
        both["headers"] = json!({"authorization": "Basic x"});
        assert_eq!(pointers(&create(&both).unwrap_err()), ["/headers/authorization"]);
        let mut signed = with("signature", json!({"preset": "x-signature"}));
        signed["headers"] = json!({"x-signature": "1"});
        assert_eq!(pointers(&create(&signed).unwrap_err()), ["/headers/x-signature"]);
        let mut shared = with("auth", json!({"type": "shared_secret", "secret": "s", "header": "X-Signature"}));
        shared["signature"] = json!({"preset": "x-signature"});
        assert_eq!(pointers(&create(&shared).unwrap_err()), ["/auth"]);
    }

    #[test]
    fn a_client_certificate_needs_its_own_key() {
        let own = rcgen::generate_simple_self_signed(vec!["a".into()]).unwrap();
        let other = rcgen::generate_simple_self_signed(vec!["b".into()]).unwrap();
        let (cert, key) = (own.cert.pem(), own.signing_key.serialize_pem());
        let tls = json!({"ca": cert, "client_cert": cert, "client_key": key});
        let stored = create(&with("tls", tls)).unwrap();
        let shown = show(&stored)["tls"].clone();
        assert_eq!((&shown["client_key"], &shown["client_cert"]), (&json!("***"), &json!(cert)));
        let kept = update(&stored.destination, &json!({"tls": shown})).unwrap();
        assert_eq!(kept.destination.tls, stored.destination.tls);
        let foreign = json!({"client_cert": cert, "client_key": other.signing_key.serialize_pem()});
        assert_eq!(pointers(&create(&with("tls", foreign)).unwrap_err()), ["/tls/client_key"]);
        let alone = json!({"client_key": key});
        assert_eq!(pointers(&create(&with("tls", alone)).unwrap_err()), ["/tls/client_cert"]);
    }

    /// SX.5: a refusal repeats nothing that was sent.
    #[test]
    fn a_refusal_repeats_no_value() {
        for body in [
            with("headers", json!({"X-A": "hunter2\n"})),
            with("auth", json!({"type": "basic", "username": "hunter2:", "password": 2})),
            with("auth", json!("hunter2")),
            with("signature", json!({"preset": "hunter2"})),
            with("method", json!("hunter2")),
            with("success", json!({"status": ["hunter2"]})),
        ] {
            let problem = create(&body).unwrap_err();
            assert!(!format!("{problem:?}").contains("hunter2"), "{problem:?}");
        }
    }
}
