//! Signatures: what proves to a receiver that a delivery comes from us and is whole.
//!
//! Owns every preset of the interfaces and the custom scheme: which header, which message, which key, how it is written.
//! A signature is computed for each attempt over the very bytes that are sent; nothing here parses or rewrites a body.
//! All schemes but Standard Webhooks are one shape with different entries: a row of the plan. Reads no clock and draws no
//! chance: both are arguments. Which headers may stand beside a signature is for whoever saves a destination to decide;
//! [`header_names`] and [`check_all`] tell it what it needs.

use aws_lc_rs::signature::{ED25519, Ed25519KeyPair, KeyPair, UnparsedPublicKey};
use base64::Engine as _;
use base64::engine::DecodePaddingMode;
use base64::engine::general_purpose::{GeneralPurpose, PAD, STANDARD};
use hmac::{Hmac, KeyInit, Mac};
use http::{HeaderMap, HeaderName, HeaderValue};
use sha2::{Sha256, Sha512};
use subtle::ConstantTimeEq;

use crate::model::destination::{Algorithm, CustomScheme, Encoding, KeyEncoding, Preset, Scheme, Signature};
use crate::model::id::hex;
use crate::model::{Secret, Timestamp};

/// What is signed: one attempt of one delivery.
#[derive(Debug, Clone, Copy)]
pub struct Message<'a> {
    /// The event's id, the same on every attempt.
    pub id: &'a str,
    /// When this attempt is made; whole seconds of it travel.
    pub timestamp: Timestamp,
    /// Fresh for each attempt; visible ASCII without commas.
    pub nonce: &'a str,
    /// The destination's URL as it is stored.
    pub url: &'a str,
    /// The request's method.
    pub method: &'a str,
    /// The bytes of the body.
    pub body: &'a [u8],
}

/// Why a signature cannot be computed. Nothing was sent; [`check`] finds all but the last when a destination is saved.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SignError {
    /// The secret is not in the form that the scheme asks for.
    #[error("read the secret: {0}")]
    Secret(&'static str),
    /// A template of a custom scheme is malformed.
    #[error("read the template {template:?}: {why}")]
    Template {
        /// The template as it was written.
        template: String,
        /// What is wrong with it.
        why: String,
    },
    /// The header's name is not one, or is not for a signature to take.
    #[error("use the header {name:?}: {why}")]
    Header {
        /// The name as it was written.
        name: String,
        /// Why it is refused.
        why: &'static str,
    },
    /// Two signatures of one destination would be written to one header.
    #[error("write two signatures to one header: {0}")]
    Collision(HeaderName),
    /// The id or the nonce of this attempt cannot be written into a header.
    #[error("write the header {0}: the id or the nonce holds what no header may")]
    Value(HeaderName),
}

/// Why a signature was not believed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum VerifyError {
    /// The header that carries it is absent.
    #[error("find the header {0}")]
    Absent(HeaderName),
    /// The header is there, but its value is not of the scheme's form.
    #[error("read the header {0}")]
    Malformed(HeaderName),
    /// It is well-formed and wrong: other secret, other bytes.
    #[error("match the signature: the secret or the signed bytes differ")]
    Mismatch,
    /// The secret itself does not serve.
    #[error(transparent)]
    Sign(#[from] SignError),
}

/// A destination's signatures with their keys read: what is the same for every message is done once.
pub struct Signer(Vec<Ready>);

enum Ready {
    Standard {
        present: StandardKey,
        /// Read, or why it cannot be, which matters only while it still counts; and until when that is.
        previous: Option<(Result<StandardKey, SignError>, Timestamp)>,
    },
    Code(Signature),
}

impl Signer {
    /// Makes the signatures ready.
    ///
    /// # Errors
    ///
    /// When a secret does not serve; [`check`] would have said so.
    pub fn new(signatures: &[Signature]) -> Result<Self, SignError> {
        let ready = |signature: &Signature| match Plan::of(&signature.scheme) {
            Plan::Standard => {
                let previous = signature.previous.as_ref();
                Ok(Ready::Standard {
                    present: StandardKey::read(&signature.secret)?,
                    previous: previous.map(|(secret, until)| (StandardKey::read(secret), *until)),
                })
            }
            Plan::Code(_) => Ok(Ready::Code(signature.clone())),
        };
        signatures.iter().map(ready).collect::<Result<_, _>>().map(Signer)
    }

    /// Signs, and hands over each header, in order.
    ///
    /// While a rotation overlaps, list-valued schemes sign with both secrets, the present one first, and single-valued ones
    /// with the previous.
    ///
    /// # Errors
    ///
    /// When a secret, a template or a header name does not serve; [`check`] would have said so.
    pub fn sign(
        &self,
        message: &Message<'_>,
        now: Timestamp,
        mut take: impl FnMut(HeaderName, &str),
    ) -> Result<(), SignError> {
        for ready in &self.0 {
            match ready {
                Ready::Standard { present, previous } => {
                    let seconds = message.timestamp.as_secs().to_string();
                    let mut codes = String::with_capacity(2 * STANDARD_CODE_BYTES_MAX);
                    present.write_code(&mut codes, message, &seconds)?;
                    if let Some((previous, until)) = previous
                        && now < *until
                    {
                        codes.push(' ');
                        previous.as_ref().map_err(SignError::clone)?.write_code(&mut codes, message, &seconds)?;
                    }
                    take(WEBHOOK_ID, message.id);
                    take(WEBHOOK_TIMESTAMP, &seconds);
                    take(WEBHOOK_SIGNATURE, &codes);
                }
                Ready::Code(signature) => {
                    let Plan::Code(plan) = Plan::of(&signature.scheme) else { continue };
                    let previous = signature.previous.as_ref().filter(|(_, until)| now < *until);
                    let overlapping = previous.map(|(secret, _)| secret);
                    let present = &signature.secret;
                    let first = if plan.further.is_some() { present } else { overlapping.unwrap_or(present) };
                    let mut text = Template::parse(plan.prefix, IN_PREFIX)?.render(message);
                    text.push_str(&plan.code(first, message)?);
                    if let (Some(further), Some(previous)) = (plan.further, overlapping) {
                        text.push_str(further);
                        text.push_str(&plan.code(previous, message)?);
                    }
                    take(plan.header_name()?, &text);
                }
            }
        }
        Ok(())
    }
}

/// The headers of all of a destination's signatures, in order, as [`Signer::sign`] makes them.
///
/// # Errors
///
/// When a secret, a template or a header name does not serve ([`check`] would have said so), or when the id or the nonce
/// cannot stand in a header.
pub fn headers(
    signatures: &[Signature],
    message: &Message<'_>,
    now: Timestamp,
) -> Result<Vec<(HeaderName, HeaderValue)>, SignError> {
    let mut headers = Vec::with_capacity(signatures.len() + 2);
    let mut refused = None;
    Signer::new(signatures)?.sign(message, now, |name, text| match value(&name, text) {
        Ok(value) => headers.push((name, value)),
        Err(error) => refused = refused.take().or(Some(error)),
    })?;
    match refused {
        None => Ok(headers),
        Some(error) => Err(error),
    }
}

/// Whether a signature can be computed at all: asked once, when a destination is saved.
///
/// # Errors
///
/// The key does not decode or is empty, a Standard Webhooks secret has less than 24 or more than 64 bytes, a template is
/// empty or holds an unknown placeholder, a header name is no name or belongs to HTTP or to the daemon.
pub fn check(signature: &Signature) -> Result<(), SignError> {
    let secrets = std::iter::once(&signature.secret).chain(signature.previous.as_ref().map(|(secret, _)| secret));
    match Plan::of(&signature.scheme) {
        Plan::Standard => {
            for secret in secrets {
                if let StandardKey::Public(_) = StandardKey::read(secret)? {
                    return Err(SignError::Secret("a whpk_ key verifies only; signing takes whsec_ or whsk_"));
                }
            }
        }
        Plan::Code(plan) => {
            let name = plan.header_name()?;
            if let Scheme::Custom(_) = signature.scheme
                && NOT_FOR_CUSTOM.contains(&name.as_str())
            {
                let why = "HTTP or the daemon owns it";
                return Err(SignError::Header { name: plan.header.to_owned(), why });
            }
            Template::parse(plan.prefix, IN_PREFIX)?;
            Template::parse(plan.message, IN_MESSAGE)?;
            if plan.message.is_empty() {
                return Err(SignError::Template { template: String::new(), why: "it signs nothing".to_owned() });
            }
            // The static parts of a prefix must be able to stand in a header; what is filled in is checked when it is.
            if HeaderValue::from_str(plan.prefix).is_err() || !plan.prefix.is_ascii() {
                let why = "only visible ASCII can stand in a header".to_owned();
                return Err(SignError::Template { template: plan.prefix.to_owned(), why });
            }
            for secret in secrets {
                key_bytes(secret, plan.key_encoding)?;
            }
        }
    }
    Ok(())
}

/// What a new secret must be besides what [`check`] says: long enough. Whoever verifies somebody else's signature has no choice.
///
/// # Errors
///
/// When its key has fewer than 8 bytes, or is none.
pub fn check_length(signature: &Signature) -> Result<(), SignError> {
    match Plan::of(&signature.scheme) {
        // It has bounds of its own.
        Plan::Standard => Ok(()),
        Plan::Code(plan) => match key_bytes(&signature.secret, plan.key_encoding)?.len() {
            0..KEY_BYTES_MIN => Err(SignError::Secret("a key has at least 8 bytes")),
            _ => Ok(()),
        },
    }
}

/// Whether all signatures of one destination can be computed and written side by side.
///
/// # Errors
///
/// As [`check`] and [`check_length`], and when two of them would write the same header.
pub fn check_all(signatures: &[Signature]) -> Result<(), SignError> {
    let mut taken: Vec<HeaderName> = Vec::new();
    for signature in signatures {
        check(signature)?;
        check_length(signature)?;
        for name in header_names(&signature.scheme) {
            if taken.contains(&name) {
                return Err(SignError::Collision(name));
            }
            taken.push(name);
        }
    }
    Ok(())
}

/// A fresh secret in the form that the scheme asks for, made of 32 random bytes.
pub fn generate(scheme: &Scheme, chance: &[u8; 32]) -> Secret {
    let key_encoding = match Plan::of(scheme) {
        Plan::Standard => KeyEncoding::Text,
        Plan::Code(plan) => plan.key_encoding,
    };
    Secret::new(match key_encoding {
        // A text scheme takes any text: with the prefix, the one secret serves Standard Webhooks beside it.
        KeyEncoding::Text => format!("{SYMMETRIC}{}", STANDARD.encode(chance)),
        KeyEncoding::Hex => hex(chance),
        KeyEncoding::Base64 => STANDARD.encode(chance),
    })
}

/// The headers that a signature writes; a destination's own headers must not bear these names.
pub fn header_names(scheme: &Scheme) -> Vec<HeaderName> {
    match Plan::of(scheme) {
        Plan::Standard => vec![WEBHOOK_ID, WEBHOOK_TIMESTAMP, WEBHOOK_SIGNATURE],
        Plan::Code(plan) => plan.header_name().into_iter().collect(),
    }
}

/// Whether one signature among `headers` is right, in constant time as far as codes are compared.
///
/// Id, time and nonce are taken from the headers wherever the scheme carries them there, as any receiver must; the
/// message supplies the rest. A previous secret counts like the present one. Whether the time is fresh is the caller's to
/// judge: it alone has a clock.
///
/// # Errors
///
/// The header is absent, malformed, or does not match; or the secret does not serve.
pub fn verify(signature: &Signature, message: &Message<'_>, headers: &HeaderMap) -> Result<(), VerifyError> {
    let secrets = || std::iter::once(&signature.secret).chain(signature.previous.as_ref().map(|(secret, _)| secret));
    match Plan::of(&signature.scheme) {
        Plan::Standard => {
            let id = text_of(headers, &WEBHOOK_ID)?;
            let timestamp =
                seconds(text_of(headers, &WEBHOOK_TIMESTAMP)?).ok_or(VerifyError::Malformed(WEBHOOK_TIMESTAMP))?;
            let message = Message { id, timestamp, ..*message };
            let codes = text_of(headers, &WEBHOOK_SIGNATURE)?;
            for secret in secrets() {
                let key = StandardKey::read(secret)?;
                if codes.split(' ').any(|code| key.believes(code, &message)) {
                    return Ok(());
                }
            }
            Err(VerifyError::Mismatch)
        }
        Plan::Code(plan) => {
            let name = plan.header_name()?;
            let text = text_of(headers, &name)?;
            let malformed = || VerifyError::Malformed(name.clone());
            // The first code follows the prefix; a list goes on with the same words before each.
            let parts: Vec<&str> = match plan.further {
                Some(further) => {
                    let (head, rest) = text.split_once(further).ok_or_else(malformed)?;
                    // The prefix ends with the separator's own words: put them back for the template.
                    let first_end = head.len() + further.len();
                    let mut parts = vec![&text[..first_end + rest.find(further).unwrap_or(rest.len())]];
                    parts.extend(rest.split(further).skip(1));
                    parts
                }
                None => vec![text],
            };
            let first = parts.first().ok_or_else(malformed)?;
            let prefix_length = first.len().checked_sub(plan.code_length()).ok_or_else(malformed)?;
            let (prefix, code) = first.split_at_checked(prefix_length).ok_or_else(malformed)?;
            let seen = Template::parse(plan.prefix, IN_PREFIX)?.read(prefix).ok_or_else(malformed)?;
            let message = Message {
                timestamp: seen.timestamp.unwrap_or(message.timestamp),
                nonce: seen.nonce.unwrap_or(message.nonce),
                ..*message
            };
            for secret in secrets() {
                let expected = plan.code(secret, &message)?;
                for code in std::iter::once(code).chain(parts[1..].iter().copied()) {
                    if code.as_bytes().ct_eq(expected.as_bytes()).into() {
                        return Ok(());
                    }
                }
            }
            Err(VerifyError::Mismatch)
        }
    }
}

const WEBHOOK_ID: HeaderName = HeaderName::from_static("webhook-id");
const WEBHOOK_TIMESTAMP: HeaderName = HeaderName::from_static("webhook-timestamp");
const WEBHOOK_SIGNATURE: HeaderName = HeaderName::from_static("webhook-signature");

/// What a custom scheme may not write: HTTP's own, what the daemon always sends, what it is told to send elsewhere.
const NOT_FOR_CUSTOM: &[&str] = &[
    "host",
    "connection",
    "keep-alive",
    "proxy-connection",
    "proxy-authenticate",
    "proxy-authorization",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "expect",
    "content-length",
    "content-type",
    "content-encoding",
    "accept-encoding",
    "authorization",
    "user-agent",
    "traceparent",
    "webhook-id",
    "webhook-timestamp",
    "x-webhook-event",
    "x-webhook-id",
    "x-webhook-delivery",
    "x-webhook-attempt",
    "x-webhook-timestamp",
];

/// How a scheme is carried out.
enum Plan<'a> {
    /// Standard Webhooks: three headers, two kinds of key.
    Standard,
    /// One header with an HMAC in it.
    Code(CodePlan<'a>),
}

struct CodePlan<'a> {
    header: &'a str,
    prefix: &'a str,
    message: &'a str,
    algorithm: Algorithm,
    encoding: Encoding,
    key_encoding: KeyEncoding,
    /// What stands before each further code, when the header can hold a list.
    further: Option<&'static str>,
}

impl<'a> Plan<'a> {
    fn of(scheme: &'a Scheme) -> Plan<'a> {
        let hex_of_body = |header| CodePlan {
            header,
            prefix: "",
            message: "{body}",
            algorithm: Algorithm::Sha256,
            encoding: Encoding::Hex,
            key_encoding: KeyEncoding::Text,
            further: None,
        };
        Plan::Code(match scheme {
            Scheme::Preset(Preset::Standard) => return Plan::Standard,
            Scheme::Preset(Preset::XSignature) => hex_of_body("x-signature"),
            Scheme::Preset(Preset::XWebhookSignature) => hex_of_body("x-webhook-signature"),
            Scheme::Preset(Preset::CheckoutLike) => hex_of_body("cko-signature"),
            Scheme::Preset(Preset::GocardlessLike) => hex_of_body("webhook-signature"),
            Scheme::Preset(Preset::GithubLike) => CodePlan { prefix: "sha256=", ..hex_of_body("x-hub-signature-256") },
            Scheme::Preset(Preset::StripeLike) => CodePlan {
                prefix: "t={ts},v1=",
                message: "{ts}.{body}",
                further: Some(",v1="),
                ..hex_of_body("stripe-signature")
            },
            Scheme::Preset(Preset::AuthorizeNetLike) => CodePlan {
                prefix: "sha512=",
                algorithm: Algorithm::Sha512,
                encoding: Encoding::HexUpper,
                ..hex_of_body("x-anet-signature")
            },
            Scheme::Preset(Preset::NmiLike) => {
                CodePlan { prefix: "t={nonce},s=", message: "{nonce}.{body}", ..hex_of_body("webhook-signature") }
            }
            Scheme::Preset(Preset::SquareLike) => CodePlan {
                message: "{url}{body}",
                encoding: Encoding::Base64,
                ..hex_of_body("x-square-hmacsha256-signature")
            },
            Scheme::Preset(Preset::AdyenLike) => {
                CodePlan { encoding: Encoding::Base64, key_encoding: KeyEncoding::Hex, ..hex_of_body("hmacsignature") }
            }
            Scheme::Custom(CustomScheme { header, prefix, message, algorithm, encoding, key_encoding }) => CodePlan {
                header,
                prefix,
                message,
                algorithm: *algorithm,
                encoding: *encoding,
                key_encoding: *key_encoding,
                further: None,
            },
        })
    }
}

impl CodePlan<'_> {
    fn header_name(&self) -> Result<HeaderName, SignError> {
        HeaderName::from_bytes(self.header.as_bytes())
            .map_err(|_| SignError::Header { name: self.header.to_owned(), why: "not the name of a header" })
    }

    fn code(&self, secret: &Secret, message: &Message<'_>) -> Result<String, SignError> {
        let key = key_bytes(secret, self.key_encoding)?;
        let template = Template::parse(self.message, IN_MESSAGE)?;
        let code = match self.algorithm {
            Algorithm::Sha256 => template.authenticate::<Hmac<Sha256>>(&key, message),
            Algorithm::Sha512 => template.authenticate::<Hmac<Sha512>>(&key, message),
        };
        Ok(match self.encoding {
            Encoding::Hex => hex(&code),
            Encoding::HexUpper => hex(&code).to_ascii_uppercase(),
            Encoding::Base64 => STANDARD.encode(&code),
        })
    }

    /// The characters of every code of this plan.
    fn code_length(&self) -> usize {
        let bytes: usize = match self.algorithm {
            Algorithm::Sha256 => 32,
            Algorithm::Sha512 => 64,
        };
        match self.encoding {
            Encoding::Hex | Encoding::HexUpper => bytes * 2,
            Encoding::Base64 => bytes.div_ceil(3) * 4,
        }
    }
}

fn key_bytes(secret: &Secret, encoding: KeyEncoding) -> Result<Vec<u8>, SignError> {
    let text = secret.expose();
    let bytes = match encoding {
        KeyEncoding::Text => text.as_bytes().to_vec(),
        KeyEncoding::Hex => unhex(text).ok_or(SignError::Secret("an even number of hex digits is asked for"))?,
        KeyEncoding::Base64 => LENIENT.decode(text).map_err(|_| SignError::Secret("base64 is asked for"))?,
    };
    if bytes.is_empty() { Err(SignError::Secret("it is empty")) } else { Ok(bytes) }
}

/// Bytes of a key, at least. One signature is enough to try keys against, as fast as a machine can, so what is shorter is found; vendors
/// hand out longer texts, and Standard Webhooks asks for 24.
const KEY_BYTES_MIN: usize = 8;

/// Standard base64 whose padding may be absent.
const LENIENT: GeneralPurpose =
    GeneralPurpose::new(&base64::alphabet::STANDARD, PAD.with_decode_padding_mode(DecodePaddingMode::Indifferent));

fn unhex(text: &str) -> Option<Vec<u8>> {
    let digit = |byte: u8| char::from(byte).to_digit(16).map(|digit| digit as u8);
    let (pairs, rest) = text.as_bytes().as_chunks::<2>();
    if !rest.is_empty() {
        return None;
    }
    pairs.iter().map(|[high, low]| Some(digit(*high)? << 4 | digit(*low)?)).collect()
}

/// An Ed25519 signature in base64, with its version.
const STANDARD_CODE_BYTES_MAX: usize = 96;
const SYMMETRIC: &str = "whsec_";
const SIGNING: &str = "whsk_";
const VERIFYING: &str = "whpk_";

/// The key of a Standard Webhooks signature, told apart by its prefix.
enum StandardKey {
    /// `whsec_`: HMAC-SHA256, version 1, with the key taken in.
    Symmetric(Hmac<Sha256>),
    /// `whsk_`: Ed25519, version 1a.
    Signing(Box<Ed25519KeyPair>),
    /// `whpk_`: the public half, which verifies only.
    Public(Vec<u8>),
}

impl StandardKey {
    fn read(secret: &Secret) -> Result<Self, SignError> {
        let decode = |text| LENIENT.decode(text).map_err(|_| SignError::Secret("base64 is asked for after the prefix"));
        let text = secret.expose();
        if let Some(text) = text.strip_prefix(SYMMETRIC) {
            let key = decode(text)?;
            if !(24..=64).contains(&key.len()) {
                return Err(SignError::Secret("24 to 64 bytes in base64 are asked for after whsec_"));
            }
            Ok(StandardKey::Symmetric(Hmac::new_from_slice(&key).expect("an HMAC takes a key of any length")))
        } else if let Some(text) = text.strip_prefix(SIGNING) {
            // A seed, or a seed with its public key behind it: both are in use.
            let key = decode(text)?;
            let pair = match key.split_at_checked(32) {
                Some((seed, [])) => Ed25519KeyPair::from_seed_unchecked(seed),
                Some((seed, public)) if public.len() == 32 => Ed25519KeyPair::from_seed_and_public_key(seed, public),
                _ => return Err(SignError::Secret("32 or 64 bytes in base64 are asked for after whsk_")),
            };
            let pair = pair.map_err(|_| SignError::Secret("the two halves of the whsk_ key do not belong together"))?;
            Ok(StandardKey::Signing(Box::new(pair)))
        } else if let Some(text) = text.strip_prefix(VERIFYING) {
            let key = decode(text)?;
            if key.len() != 32 {
                return Err(SignError::Secret("32 bytes in base64 are asked for after whpk_"));
            }
            Ok(StandardKey::Public(key))
        } else {
            Err(SignError::Secret("whsec_ and base64 are asked for (or whsk_ and base64, for Ed25519)"))
        }
    }

    /// Appends the code of a message; `seconds` is its time as it travels.
    fn write_code(&self, codes: &mut String, message: &Message<'_>, seconds: &str) -> Result<(), SignError> {
        match self {
            StandardKey::Symmetric(mac) => {
                codes.push_str("v1,");
                STANDARD.encode_string(standard_mac(mac, message, seconds), codes);
            }
            StandardKey::Signing(pair) => {
                codes.push_str("v1a,");
                let code = pair.try_sign(&standard_bytes(message));
                let code = code.map_err(|_| SignError::Secret("the whsk_ key does not sign"))?;
                STANDARD.encode_string(code, codes);
            }
            StandardKey::Public(_) => {
                return Err(SignError::Secret("a whpk_ key verifies only; signing takes whsec_ or whsk_"));
            }
        }
        Ok(())
    }

    fn believes(&self, code: &str, message: &Message<'_>) -> bool {
        let Some((version, code)) = code.split_once(',') else { return false };
        let Ok(code) = STANDARD.decode(code) else { return false };
        match self {
            StandardKey::Symmetric(mac) => {
                version == "v1"
                    && code
                        .as_slice()
                        .ct_eq(&standard_mac(mac, message, &message.timestamp.as_secs().to_string()))
                        .into()
            }
            StandardKey::Signing(pair) => {
                version == "v1a" && believes_ed25519(pair.public_key().as_ref(), &code, message)
            }
            StandardKey::Public(key) => version == "v1a" && believes_ed25519(key, &code, message),
        }
    }
}

fn believes_ed25519(public: &[u8], code: &[u8], message: &Message<'_>) -> bool {
    UnparsedPublicKey::new(&ED25519, public).verify(&standard_bytes(message), code).is_ok()
}

/// What is signed, in pieces. `seconds` is the message's time as it travels.
fn standard_pieces<'m>(message: &Message<'m>, seconds: &'m str) -> [&'m [u8]; 5] {
    [message.id.as_bytes(), b".", seconds.as_bytes(), b".", message.body]
}

fn standard_mac(keyed: &Hmac<Sha256>, message: &Message<'_>, seconds: &str) -> [u8; 32] {
    let mut mac = keyed.clone();
    standard_pieces(message, seconds).iter().for_each(|piece| mac.update(piece));
    mac.finalize().into_bytes().into()
}

fn standard_bytes(message: &Message<'_>) -> Vec<u8> {
    standard_pieces(message, &message.timestamp.as_secs().to_string()).concat()
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Piece<'a> {
    Text(&'a str),
    Body,
    Timestamp,
    Id,
    Nonce,
    Url,
    Method,
}

const IN_MESSAGE: &[(&str, Piece<'static>)] = &[
    ("body", Piece::Body),
    ("ts", Piece::Timestamp),
    ("id", Piece::Id),
    ("nonce", Piece::Nonce),
    ("url", Piece::Url),
    ("method", Piece::Method),
];
const IN_PREFIX: &[(&str, Piece<'static>)] = &[("ts", Piece::Timestamp), ("nonce", Piece::Nonce)];

/// A template cut into its pieces.
struct Template<'a>(Vec<Piece<'a>>);

/// What a receiver finds in a prefix.
#[derive(Default)]
struct Seen<'a> {
    timestamp: Option<Timestamp>,
    nonce: Option<&'a str>,
}

impl<'a> Template<'a> {
    fn parse(text: &'a str, known: &[(&str, Piece<'static>)]) -> Result<Self, SignError> {
        let refused = |why: String| SignError::Template { template: text.to_owned(), why };
        let mut pieces = Vec::new();
        let mut rest = text;
        while let Some(open) = rest.find('{') {
            if open > 0 {
                pieces.push(Piece::Text(&rest[..open]));
            }
            let after = &rest[open + 1..];
            let close = after.find('}').ok_or_else(|| refused("a { is not closed".to_owned()))?;
            let name = &after[..close];
            let (_, piece) = known.iter().find(|(word, _)| *word == name).ok_or_else(|| {
                let words: Vec<String> = known.iter().map(|(word, _)| format!("{{{word}}}")).collect();
                refused(format!("{{{name}}} is not one of {}", words.join(" ")))
            })?;
            pieces.push(*piece);
            rest = &after[close + 1..];
        }
        if !rest.is_empty() {
            pieces.push(Piece::Text(rest));
        }
        Ok(Template(pieces))
    }

    fn each(&self, message: &Message<'_>, mut take: impl FnMut(&[u8])) {
        for piece in &self.0 {
            match piece {
                Piece::Text(text) => take(text.as_bytes()),
                Piece::Body => take(message.body),
                Piece::Timestamp => take(message.timestamp.as_secs().to_string().as_bytes()),
                Piece::Id => take(message.id.as_bytes()),
                Piece::Nonce => take(message.nonce.as_bytes()),
                Piece::Url => take(message.url.as_bytes()),
                Piece::Method => take(message.method.as_bytes()),
            }
        }
    }

    fn authenticate<M: Mac + KeyInit>(&self, key: &[u8], message: &Message<'_>) -> Vec<u8> {
        let mut mac = <M as KeyInit>::new_from_slice(key).expect("an HMAC takes a key of any length");
        self.each(message, |part| mac.update(part));
        mac.finalize().into_bytes().to_vec()
    }

    /// The template filled in; for prefixes, which hold nothing but text.
    fn render(&self, message: &Message<'_>) -> String {
        let mut text = String::new();
        self.each(message, |part| text.push_str(&String::from_utf8_lossy(part)));
        text
    }

    /// What was filled into a prefix, or `None` when the text is not of this template.
    fn read<'t>(&self, mut text: &'t str) -> Option<Seen<'t>> {
        let mut seen = Seen::default();
        let mut pieces = self.0.iter().peekable();
        while let Some(piece) = pieces.next() {
            if let Piece::Text(expected) = piece {
                text = text.strip_prefix(expected)?;
                continue;
            }
            let end = match pieces.peek() {
                Some(Piece::Text(next)) => text.find(next)?,
                Some(_) | None => text.len(),
            };
            let filled = &text[..end];
            text = &text[end..];
            match piece {
                Piece::Timestamp => seen.timestamp = Some(seconds(filled)?),
                Piece::Nonce => seen.nonce = Some(filled),
                Piece::Text(_) | Piece::Body | Piece::Id | Piece::Url | Piece::Method => return None,
            }
        }
        text.is_empty().then_some(seen)
    }
}

fn seconds(text: &str) -> Option<Timestamp> {
    let seconds: u64 = text.parse().ok()?;
    Some(Timestamp::from_millis(seconds.checked_mul(1000)?))
}

fn value(name: &HeaderName, text: &str) -> Result<HeaderValue, SignError> {
    HeaderValue::from_str(text).map_err(|_| SignError::Value(name.clone()))
}

fn text_of<'h>(headers: &'h HeaderMap, name: &HeaderName) -> Result<&'h str, VerifyError> {
    let value = headers.get(name).ok_or_else(|| VerifyError::Absent(name.clone()))?;
    value.to_str().map_err(|_| VerifyError::Malformed(name.clone()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use sha2::Digest;

    const BODY: &[u8] = br#"{"id":"evt_1","type":"transaction.sale.success"}"#;
    const TEXT_SECRET: &str = "whd-test-key-0001";
    const STANDARD_SECRET: &str = "whsec_AAECAwQFBgcICQoLDA0ODxAREhMUFRYX";
    const HEX_SECRET: &str = "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff";

    fn message(body: &[u8]) -> Message<'_> {
        Message {
            id: "msg_0001",
            timestamp: Timestamp::from_millis(1_700_000_000_999),
            nonce: "a1b2c3d4",
            url: "https://hooks.example.test/in",
            method: "POST",
            body,
        }
    }

    fn preset(preset: Preset, secret: &str) -> Signature {
        Signature { scheme: Scheme::Preset(preset), secret: Secret::new(secret), previous: None }
    }

    fn secret_for(preset: Preset) -> &'static str {
        match preset {
            Preset::Standard => STANDARD_SECRET,
            Preset::AdyenLike => HEX_SECRET,
            _ => TEXT_SECRET,
        }
    }

    fn custom(prefix: &str, message: &str) -> CustomScheme {
        CustomScheme {
            header: "X-Custom-Signature".to_owned(),
            prefix: prefix.to_owned(),
            message: message.to_owned(),
            algorithm: Algorithm::Sha256,
            encoding: Encoding::Hex,
            key_encoding: KeyEncoding::Text,
        }
    }

    fn signed(signature: &Signature, message: &Message<'_>) -> HeaderMap {
        headers(std::slice::from_ref(signature), message, Timestamp::ZERO).unwrap().into_iter().collect()
    }

    fn only_value(signature: &Signature, message: &Message<'_>, now: Timestamp) -> String {
        let headers = headers(std::slice::from_ref(signature), message, now).unwrap();
        headers.last().unwrap().1.to_str().unwrap().to_owned()
    }

    /// RFC 2104 spelled out over the bare hash, to have a second opinion.
    fn hmac_by_hand<D: Digest>(block: usize, key: &[u8], message: &[u8]) -> Vec<u8> {
        let mut padded = if key.len() > block { D::digest(key).to_vec() } else { key.to_vec() };
        padded.resize(block, 0);
        let with = |pad: u8| padded.iter().map(|byte| byte ^ pad).collect::<Vec<u8>>();
        let inner = D::digest([with(0x36), message.to_vec()].concat());
        D::digest([with(0x5c), inner.to_vec()].concat()).to_vec()
    }

    /// S1.23, S1.24, S2.57, D19, SX.1: every row of the vector file.
    #[test]
    fn each_published_vector_is_met() {
        let mut rows = 0;
        for line in
            include_str!("../tests/vectors/signatures.tsv").lines().filter(|line| !line.starts_with('#')).skip(1)
        {
            let cells: Vec<&str> = line.split('\t').collect();
            let known = Preset::named(cells[0]).unwrap();
            let signature = preset(known, secret_for(known));
            assert_eq!(only_value(&signature, &message(BODY), Timestamp::ZERO), cells[2], "{line}");
            rows += 1;
        }
        assert_eq!(rows, 7);
    }

    #[test]
    fn each_preset_agrees_with_a_second_computation() {
        let sha256 = |key: &[u8], signed: &[u8]| hmac_by_hand::<Sha256>(64, key, signed);
        let text = TEXT_SECRET.as_bytes();
        let of_body = hex(&sha256(text, BODY));
        let with = |before: &str| [before.as_bytes(), BODY].concat();
        let table = [
            (Preset::XSignature, "x-signature", of_body.clone()),
            (Preset::XWebhookSignature, "x-webhook-signature", of_body.clone()),
            (Preset::CheckoutLike, "cko-signature", of_body.clone()),
            (Preset::GocardlessLike, "webhook-signature", of_body.clone()),
            (Preset::GithubLike, "x-hub-signature-256", format!("sha256={of_body}")),
            (
                Preset::StripeLike,
                "stripe-signature",
                format!("t=1700000000,v1={}", hex(&sha256(text, &with("1700000000.")))),
            ),
            (
                Preset::AuthorizeNetLike,
                "x-anet-signature",
                format!("sha512={}", hex(&hmac_by_hand::<Sha512>(128, text, BODY)).to_uppercase()),
            ),
            (Preset::NmiLike, "webhook-signature", format!("t=a1b2c3d4,s={}", hex(&sha256(text, &with("a1b2c3d4."))))),
            (
                Preset::SquareLike,
                "x-square-hmacsha256-signature",
                STANDARD.encode(sha256(text, &with("https://hooks.example.test/in"))),
            ),
            (Preset::AdyenLike, "hmacsignature", STANDARD.encode(sha256(&unhex(HEX_SECRET).unwrap(), BODY))),
            (
                Preset::Standard,
                "webhook-signature",
                format!("v1,{}", STANDARD.encode(sha256(&Vec::from_iter(0..24), &with("msg_0001.1700000000.")))),
            ),
        ];
        assert_eq!(table.len(), Preset::ALL.len());
        for (known, header, expected) in table {
            let headers = signed(&preset(known, secret_for(known)), &message(BODY));
            assert_eq!(headers[header].to_str().unwrap(), expected, "{known:?}");
        }
    }

    /// S1.25: no signature means no header.
    #[test]
    fn without_signatures_nothing_is_sent() {
        assert_eq!(headers(&[], &message(BODY), Timestamp::ZERO), Ok(Vec::new()));
    }

    /// D27: a new destination has two with one secret, whose text the second takes as it is shown.
    #[test]
    fn several_signatures_stand_side_by_side() {
        let both = [preset(Preset::Standard, STANDARD_SECRET), preset(Preset::XWebhookSignature, STANDARD_SECRET)];
        assert_eq!(check_all(&both), Ok(()));
        let names: Vec<_> =
            headers(&both, &message(BODY), Timestamp::ZERO).unwrap().into_iter().map(|(n, _)| n).collect();
        assert_eq!(names, ["webhook-id", "webhook-timestamp", "webhook-signature", "x-webhook-signature"]);
        let second = hex(&hmac_by_hand::<Sha256>(64, STANDARD_SECRET.as_bytes(), BODY));
        assert_eq!(only_value(&both[1], &message(BODY), Timestamp::ZERO), second);
    }

    #[test]
    fn two_signatures_in_one_header_are_refused() {
        let both = [preset(Preset::Standard, STANDARD_SECRET), preset(Preset::GocardlessLike, TEXT_SECRET)];
        assert_eq!(check_all(&both), Err(SignError::Collision(WEBHOOK_SIGNATURE)));
    }

    #[test]
    fn an_overlap_signs_with_both_where_a_list_fits_and_with_the_old_where_not() {
        let until = Timestamp::from_millis(5_000);
        let (during, after) = (Timestamp::from_millis(4_999), until);
        for known in Preset::ALL {
            let old = generate(&Scheme::Preset(known), &[1; 32]);
            let new = generate(&Scheme::Preset(known), &[2; 32]);
            let alone = |secret: &Secret| only_value(&preset(known, secret.expose()), &message(BODY), after);
            let rotating = Signature { previous: Some((old.clone(), until)), ..preset(known, new.expose()) };
            assert_eq!(check(&rotating), Ok(()));
            let expected = match known {
                Preset::Standard => format!("{} {}", alone(&new), alone(&old)),
                Preset::StripeLike => format!("{},{}", alone(&new), alone(&old).split_once(',').unwrap().1),
                _ => alone(&old),
            };
            let text = only_value(&rotating, &message(BODY), during);
            assert_eq!(text, expected, "{known:?}");
            assert_eq!(only_value(&rotating, &message(BODY), after), alone(&new), "{known:?}");

            // Receivers with either secret, or with both, believe what is sent during the overlap.
            let headers: HeaderMap =
                super::headers(std::slice::from_ref(&rotating), &message(BODY), during).unwrap().into_iter().collect();
            assert_eq!(verify(&preset(known, old.expose()), &message(BODY), &headers), Ok(()), "{known:?}");
            assert_eq!(verify(&rotating, &message(BODY), &headers), Ok(()), "{known:?}");
            let believes_new = verify(&preset(known, new.expose()), &message(BODY), &headers).is_ok();
            assert_eq!(believes_new, matches!(known, Preset::Standard | Preset::StripeLike), "{known:?}");
        }
    }

    #[test]
    fn ed25519_signs_with_the_private_half_and_verifies_with_the_public() {
        let pair = Ed25519KeyPair::from_seed_unchecked(&[7; 32]).unwrap();
        let public = format!("whpk_{}", STANDARD.encode(pair.public_key().as_ref()));
        let seed = format!("whsk_{}", STANDARD.encode([7; 32]));
        let whole = format!("whsk_{}", STANDARD.encode([&[7; 32], pair.public_key().as_ref()].concat()));
        let headers = signed(&preset(Preset::Standard, &seed), &message(BODY));
        assert_eq!(headers, signed(&preset(Preset::Standard, &whole), &message(BODY)));
        assert!(headers["webhook-signature"].to_str().unwrap().starts_with("v1a,"));
        let code = STANDARD.decode(&headers["webhook-signature"].as_bytes()[4..]).unwrap();
        let expected = [b"msg_0001.1700000000.", BODY].concat();
        UnparsedPublicKey::new(&ED25519, pair.public_key().as_ref()).verify(&expected, &code).unwrap();
        assert_eq!(verify(&preset(Preset::Standard, &public), &message(BODY), &headers), Ok(()));
        assert_eq!(verify(&preset(Preset::Standard, &seed), &message(BODY), &headers), Ok(()));
        assert_eq!(verify(&preset(Preset::Standard, &public), &message(b"{}"), &headers), Err(VerifyError::Mismatch));
        assert!(check(&preset(Preset::Standard, &public)).is_err());
        let halves = format!("whsk_{}", STANDARD.encode([7; 64]));
        assert!(check(&preset(Preset::Standard, &halves)).is_err());
    }

    /// D19: a key is read the way its scheme says.
    #[test]
    fn a_custom_scheme_says_all_of_it() {
        let scheme = CustomScheme {
            header: "X-Sig".to_owned(),
            prefix: "n={nonce};t={ts};".to_owned(),
            message: "{method} {url} {id}|{ts}|{nonce}|{body}".to_owned(),
            algorithm: Algorithm::Sha512,
            encoding: Encoding::Base64,
            key_encoding: KeyEncoding::Base64,
        };
        let signature =
            Signature { scheme: Scheme::Custom(scheme), secret: Secret::new("AAECAwQFBgc"), previous: None };
        assert_eq!(check(&signature), Ok(()));
        assert_eq!(header_names(&signature.scheme), ["x-sig"]);
        let start = b"POST https://hooks.example.test/in msg_0001|1700000000|a1b2c3d4|";
        let code = hmac_by_hand::<Sha512>(128, &Vec::from_iter(0..8), &[start, BODY].concat());
        let expected = format!("n=a1b2c3d4;t=1700000000;{}", STANDARD.encode(code));
        assert_eq!(only_value(&signature, &message(BODY), Timestamp::ZERO), expected);
        // A receiver reads time and nonce where they travel.
        let elsewhere = Message { timestamp: Timestamp::ZERO, nonce: "", ..message(BODY) };
        assert_eq!(verify(&signature, &elsewhere, &signed(&signature, &message(BODY))), Ok(()));
    }

    #[test]
    fn what_cannot_sign_is_refused_when_it_is_saved() {
        let short = format!("whsec_{}", STANDARD.encode([0; 23]));
        let long = format!("whsec_{}", STANDARD.encode([0; 65]));
        for (known, secret) in [
            (Preset::Standard, "plain text"),
            (Preset::Standard, "whsec_not base64"),
            (Preset::Standard, short.as_str()),
            (Preset::Standard, long.as_str()),
            (Preset::Standard, "whsk_AAAA"),
            (Preset::AdyenLike, "abc"),
            (Preset::AdyenLike, "zz"),
            (Preset::AdyenLike, "+1"),
            (Preset::XSignature, ""),
        ] {
            assert!(matches!(check(&preset(known, secret)), Err(SignError::Secret(_))), "{known:?} {secret}");
        }
        for (prefix, template, header) in [
            ("", "{bdy}", "X-Sig"),
            ("", "{body", "X-Sig"),
            ("", "", "X-Sig"),
            ("{id}", "{body}", "X-Sig"),
            ("a\r\nb", "{body}", "X-Sig"),
            ("é", "{body}", "X-Sig"),
            ("", "{body}", "X Sig"),
            ("", "{body}", ""),
            ("", "{body}", "Content-Length"),
            ("", "{body}", "X-Webhook-Id"),
        ] {
            let scheme = CustomScheme { header: header.to_owned(), ..custom(prefix, template) };
            let signature = Signature { scheme: Scheme::Custom(scheme), secret: Secret::new("k"), previous: None };
            assert!(check(&signature).is_err(), "{prefix:?} {template:?} {header:?}");
        }
    }

    #[test]
    fn an_id_that_no_header_may_hold_is_an_error_and_no_panic() {
        let broken = Message { id: "a\r\nb", nonce: "a\nb", ..message(BODY) };
        assert_eq!(
            headers(&[preset(Preset::Standard, STANDARD_SECRET)], &broken, Timestamp::ZERO),
            Err(SignError::Value(WEBHOOK_ID))
        );
        assert!(headers(&[preset(Preset::NmiLike, TEXT_SECRET)], &broken, Timestamp::ZERO).is_err());
    }

    proptest! {
        /// SX.1, SX.2: whatever the bytes of an attempt are, what is sent verifies, and nothing else does.
        #[test]
        fn what_is_signed_verifies_and_nothing_else(
            which in 0..Preset::ALL.len() + 1,
            body: Vec<u8>,
            other: Vec<u8>,
            chance: [u8; 32],
            wrong: [u8; 32],
            seconds in 0..4_000_000_000u64,
            nonce in "[0-9a-f]{1,32}",
        ) {
            let scheme = match Preset::ALL.get(which) {
                Some(known) => Scheme::Preset(*known),
                None => Scheme::Custom(custom("t={ts},n={nonce},s=", "{ts}{nonce}{body}")),
            };
            let secret = generate(&scheme, &chance);
            let signature = Signature { scheme: scheme.clone(), secret, previous: None };
            prop_assert_eq!(check(&signature), Ok(()));
            let sent = Message { timestamp: Timestamp::from_millis(seconds * 1000), nonce: &nonce, ..message(&body) };
            let headers = signed(&signature, &sent);
            prop_assert_eq!(verify(&signature, &sent, &headers), Ok(()));
            if body != other {
                prop_assert_eq!(verify(&signature, &Message { body: &other, ..sent }, &headers), Err(VerifyError::Mismatch));
            }
            if chance != wrong {
                let stranger = Signature { secret: generate(&scheme, &wrong), ..signature };
                prop_assert_eq!(verify(&stranger, &sent, &headers), Err(VerifyError::Mismatch));
            }
        }

        #[test]
        fn a_receiver_survives_any_header(which in 0..Preset::ALL.len(), text in "[ -~]{0,200}") {
            let known = Preset::ALL[which];
            let signature = preset(known, secret_for(known));
            let mut headers = HeaderMap::new();
            for name in header_names(&signature.scheme) {
                headers.insert(name, HeaderValue::from_str(&text).unwrap());
            }
            prop_assert!(verify(&signature, &message(BODY), &headers).is_err());
            prop_assert!(verify(&signature, &message(BODY), &HeaderMap::new()).is_err());
        }
    }
}
