//! Destinations: where deliveries go, and how.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::schedule::Retry;
use super::{Confirmation, DestinationId, DestinationNo, Secret, Seq, SigningKeyId, TenantId, Timestamp};

/// Where deliveries go: URL, method, headers, credentials, signatures, schedule, limits.
///
/// The URL's text has passed the address guard's parser when the destination was saved, and passes it again on every attempt.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Destination {
    /// Its number in this store.
    pub no: DestinationNo,
    /// Its name outside.
    pub id: DestinationId,
    /// Who owns it.
    pub tenant: TenantId,
    /// For people; 1 to 124 characters.
    pub name: String,
    /// For people; 1 to 256 characters.
    pub description: Option<String>,
    /// The receiver's URL.
    pub url: String,
    /// POST or PUT.
    pub method: Method,
    /// Further request headers. Values are secret: they often are credentials.
    pub headers: Vec<(String, Secret)>,
    /// The credentials that go along.
    pub auth: Auth,
    /// The signatures that go along, none to several.
    pub signatures: Vec<SignedWith>,
    /// How the body is made from the event.
    pub format: Format,
    /// When a failed delivery is tried again.
    pub retry: Retry,
    /// When a reply counts as success.
    pub success: Success,
    /// The whole attempt's deadline; the installation's when absent.
    pub timeout: Option<Duration>,
    /// How many attempts may run at once; the installation's number when absent.
    pub in_flight_max: Option<u32>,
    /// The lane's pace; unbounded when absent.
    pub rate: Option<Rate>,
    /// Whether its deliveries go one at a time, in the order in which their events were accepted.
    pub ordered: bool,
    /// TLS beyond the system's roots.
    pub tls: TlsOptions,
    /// Whether private addresses are allowed; set by an administrator of all tenants only.
    pub allow_private: bool,
    /// Whether a single 410 holds the lane.
    pub gone_at_once: bool,
    /// Whether the receiver has shown that it wants deliveries.
    pub confirmation: Confirmation,
    /// The event that asked it for that last; only a success of this one confirms.
    pub asked: Option<Seq>,
    /// Whether an operator switched it off: matching events are then not queued for it.
    pub disabled: bool,
    /// When it was created.
    pub created: Timestamp,
}

impl Destination {
    /// A destination with the defaults: POST, no headers, no credentials, no signature, the raw body, the installation's
    /// schedule and limits; confirmed and switched on.
    pub fn new(
        no: DestinationNo,
        id: DestinationId,
        tenant: TenantId,
        name: impl Into<String>,
        url: impl Into<String>,
        created: Timestamp,
    ) -> Self {
        Destination {
            no,
            id,
            tenant,
            name: name.into(),
            description: None,
            url: url.into(),
            method: Method::default(),
            headers: Vec::new(),
            auth: Auth::default(),
            signatures: Vec::new(),
            format: Format::default(),
            retry: Retry::default(),
            success: Success::default(),
            timeout: None,
            in_flight_max: None,
            rate: None,
            ordered: false,
            tls: TlsOptions::default(),
            allow_private: false,
            gone_at_once: false,
            confirmation: Confirmation::Given,
            asked: None,
            disabled: false,
            created,
        }
    }

    /// Whether the receiver has shown that it wants deliveries, at the present URL.
    pub fn is_confirmed(&self) -> bool {
        self.confirmation == Confirmation::Given
    }
}

/// The request method of a delivery.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum Method {
    /// The default.
    #[default]
    Post,
    /// The alternative of source 002.
    Put,
}

impl Method {
    /// The method as HTTP writes it.
    pub fn as_str(self) -> &'static str {
        match self {
            Method::Post => "POST",
            Method::Put => "PUT",
        }
    }
}

/// The credentials of a delivery.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum Auth {
    /// None are sent.
    #[default]
    None,
    /// `Authorization: Basic` (RFC 7617).
    Basic {
        /// Without a colon.
        username: String,
        /// Any text.
        password: Secret,
    },
    /// The secret verbatim in a header (source 000; decision D4).
    SharedSecret {
        /// The header's name; `X-Shared-Secret` unless the caller says otherwise.
        header: String,
        /// What is sent.
        secret: Secret,
    },
    /// `Authorization: Bearer` (RFC 6750).
    Bearer {
        /// What is sent.
        token: Secret,
    },
}

/// How a body is made from an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum Format {
    /// The producer's bytes.
    #[default]
    Raw,
    /// Source 001's envelope.
    Console,
    /// Source 002's wrapper, which tells of the attempts.
    Notification,
    /// What Standard Webhooks recommends: `type`, `timestamp`, `data`.
    Standard,
    /// CloudEvents 1.0, structured: one JSON object.
    CloudEvents,
    /// CloudEvents 1.0, binary: the producer's bytes, the attributes in headers.
    CloudEventsBinary,
}

impl Format {
    /// Every format there is.
    pub const ALL: [Format; 6] = [
        Format::Raw,
        Format::Console,
        Format::Notification,
        Format::Standard,
        Format::CloudEvents,
        Format::CloudEventsBinary,
    ];

    /// The format's name in the API.
    pub fn as_str(self) -> &'static str {
        match self {
            Format::Raw => "raw",
            Format::Console => "console",
            Format::Notification => "notification",
            Format::Standard => "standard",
            Format::CloudEvents => "cloudevents",
            Format::CloudEventsBinary => "cloudevents-binary",
        }
    }

    /// The format of this name.
    pub fn named(name: &str) -> Option<Format> {
        Format::ALL.into_iter().find(|format| format.as_str() == name)
    }
}

/// One signature of a destination's: by which scheme, and with whose secret.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum SignedWith {
    /// With a secret of its own.
    Own(Signature),
    /// With a signing key of its tenant's, whose secret is looked up for each attempt.
    Key {
        /// How it is computed and written.
        scheme: Scheme,
        /// Which key.
        key: SigningKeyId,
    },
}

impl SignedWith {
    /// How the signature is computed and written.
    pub fn scheme(&self) -> &Scheme {
        match self {
            SignedWith::Own(signature) => &signature.scheme,
            SignedWith::Key { scheme, .. } => scheme,
        }
    }

    /// The signature with its secret, where that is its own.
    pub fn own(&self) -> Option<&Signature> {
        match self {
            SignedWith::Own(signature) => Some(signature),
            SignedWith::Key { .. } => None,
        }
    }

    /// The signing key, where it signs with one.
    pub fn key(&self) -> Option<SigningKeyId> {
        match self {
            SignedWith::Own(_) => None,
            SignedWith::Key { key, .. } => Some(*key),
        }
    }
}

/// One signature on a delivery: a scheme and its secret.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Signature {
    /// How it is computed and written.
    pub scheme: Scheme,
    /// The present secret, in the text form that the scheme asks for.
    pub secret: Secret,
    /// The secret before a rotation and until when it still counts: list-valued presets sign with both till then,
    /// single-valued ones with this one.
    pub previous: Option<(Secret, Timestamp)>,
}

/// How a signature is computed and written.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Scheme {
    /// A known scheme.
    Preset(Preset),
    /// One that the destination spells out.
    Custom(CustomScheme),
}

/// The signature schemes that are known by name; see INTERFACES for header, value, message and key of each.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Preset {
    /// Standard Webhooks: `webhook-id`, `webhook-timestamp`, `webhook-signature`; `whsec_` (v1) or `whsk_` (v1a, Ed25519).
    Standard,
    /// Source 001.
    XSignature,
    /// Source 002.
    XWebhookSignature,
    /// `Stripe-Signature`.
    StripeLike,
    /// `X-Hub-Signature-256`.
    GithubLike,
    /// `X-ANET-Signature`.
    AuthorizeNetLike,
    /// `Webhook-Signature` with a nonce.
    NmiLike,
    /// `x-square-hmacsha256-signature`.
    SquareLike,
    /// `HmacSignature`.
    AdyenLike,
    /// `Cko-Signature`.
    CheckoutLike,
    /// `Webhook-Signature`.
    GocardlessLike,
}

impl Preset {
    /// Every preset there is.
    pub const ALL: [Preset; 11] = [
        Preset::Standard,
        Preset::XSignature,
        Preset::XWebhookSignature,
        Preset::StripeLike,
        Preset::GithubLike,
        Preset::AuthorizeNetLike,
        Preset::NmiLike,
        Preset::SquareLike,
        Preset::AdyenLike,
        Preset::CheckoutLike,
        Preset::GocardlessLike,
    ];

    /// The preset's name in the API and on the command line.
    pub fn as_str(self) -> &'static str {
        match self {
            Preset::Standard => "standard",
            Preset::XSignature => "x-signature",
            Preset::XWebhookSignature => "x-webhook-signature",
            Preset::StripeLike => "stripe-like",
            Preset::GithubLike => "github-like",
            Preset::AuthorizeNetLike => "authorize-net-like",
            Preset::NmiLike => "nmi-like",
            Preset::SquareLike => "square-like",
            Preset::AdyenLike => "adyen-like",
            Preset::CheckoutLike => "checkout-like",
            Preset::GocardlessLike => "gocardless-like",
        }
    }

    /// The preset of this name.
    pub fn named(name: &str) -> Option<Preset> {
        Preset::ALL.into_iter().find(|preset| preset.as_str() == name)
    }
}

/// A signature scheme that the destination spells out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CustomScheme {
    /// The header that carries it.
    pub header: String,
    /// What stands before the encoded code; may hold `{ts}` and `{nonce}`.
    pub prefix: String,
    /// What is signed: a template of `{body} {ts} {id} {nonce} {url} {method}`.
    pub message: String,
    /// The hash under the HMAC.
    pub algorithm: Algorithm,
    /// How the code is written.
    pub encoding: Encoding,
    /// How the secret's text becomes key bytes.
    pub key_encoding: KeyEncoding,
}

/// The hash under an HMAC.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Algorithm {
    /// HMAC-SHA256.
    Sha256,
    /// HMAC-SHA512.
    Sha512,
}

/// How a code is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Encoding {
    /// Lower-case hex.
    Hex,
    /// Upper-case hex.
    HexUpper,
    /// Standard base64 with padding.
    Base64,
}

/// How a secret's text becomes key bytes (decision D19).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum KeyEncoding {
    /// Its UTF-8 bytes.
    Text,
    /// Hex digits of either case.
    Hex,
    /// Standard base64; padding may be absent.
    Base64,
}

/// When a reply counts as success (decision D18).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Success {
    /// Inclusive ranges of statuses.
    pub status: Vec<(u16, u16)>,
    /// What the body must say besides.
    pub body: Option<BodyRule>,
}

/// What a reply's body must say.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum BodyRule {
    /// Exactly this, white space around it aside.
    Equals(String),
    /// Starts with this, white space before it aside.
    Prefix(String),
    /// Holds this somewhere in the part that is read.
    Contains(String),
}

impl Default for Success {
    /// Any 2xx.
    fn default() -> Self {
        Success { status: vec![(200, 299)], body: None }
    }
}

impl Success {
    /// Whether the status is one of the set.
    pub fn takes_status(&self, status: u16) -> bool {
        self.status.iter().any(|&(first, last)| (first..=last).contains(&status))
    }

    /// Whether the body says what it must.
    pub fn takes_body(&self, body: &[u8]) -> bool {
        match &self.body {
            None => true,
            Some(BodyRule::Equals(text)) => body.trim_ascii() == text.as_bytes(),
            Some(BodyRule::Prefix(text)) => body.trim_ascii_start().starts_with(text.as_bytes()),
            Some(BodyRule::Contains(text)) => {
                text.is_empty() || body.windows(text.len()).any(|window| window == text.as_bytes())
            }
        }
    }
}

/// A lane's pace: so many attempts in so much time, evenly spread.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rate {
    /// How many; at least one.
    pub events: u32,
    /// In how long; more than zero.
    pub per: Duration,
}

impl Rate {
    /// The time between two attempts.
    pub fn interval(self) -> Duration {
        self.per / self.events.max(1)
    }
}

/// TLS beyond the system's roots: all PEM texts.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct TlsOptions {
    /// Authorities that are trusted for this destination besides the installation's.
    pub ca: Option<String>,
    /// The certificate chain that we show.
    pub client_cert: Option<String>,
    /// Its key.
    pub client_key: Option<Secret>,
    /// SHA-256 of the receiver's certificate in DER; no other is accepted.
    pub pin: Option<[u8; 32]>,
}

#[cfg(test)]
mod tests {
    use super::*;

    /// SX.6: the success predicate is a status set and, where asked for, what the body says.
    #[test]
    fn a_success_predicate_weighs_status_and_body() {
        let ok = |rule: Option<BodyRule>| Success { status: vec![(200, 200), (204, 206)], body: rule };
        let table = [
            (None, 200, "", true),
            (None, 201, "", false),
            (None, 205, "", true),
            (Some(BodyRule::Equals("OK".into())), 200, " OK\r\n", true),
            (Some(BodyRule::Equals("OK".into())), 200, "OKAY", false),
            (Some(BodyRule::Prefix("OK".into())), 200, "OKAY", true),
            (Some(BodyRule::Contains("done".into())), 200, "all done.", true),
            (Some(BodyRule::Contains("done".into())), 200, "", false),
        ];
        for (rule, status, body, success) in table {
            let predicate = ok(rule);
            assert_eq!(
                predicate.takes_status(status) && predicate.takes_body(body.as_bytes()),
                success,
                "{predicate:?} {status} {body}"
            );
        }
    }

    #[test]
    fn each_preset_is_found_by_its_name() {
        for preset in Preset::ALL {
            assert_eq!(Preset::named(preset.as_str()), Some(preset));
        }
        assert_eq!(Preset::named("none"), None);
    }
}
