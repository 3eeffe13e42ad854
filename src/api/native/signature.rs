//! Signatures on the wire: presets and `custom`, one or a list, secrets in but never out.
//!
//! An absent secret is generated and shown once, in the answer to the request that made it. In an update a signature
//! whose scheme is already there keeps its secret, or its key, unless another is given, so that what was read can be sent
//! back.

use std::fmt;

use serde::de::value::{MapAccessDeserializer, SeqAccessDeserializer};
use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize as DeserializeDerive, Serialize};

use super::destination::header_name;
use crate::api::door::{Faults, MASK, Patch, plain_text};
use crate::http::request::Object;
use crate::model::destination::{
    Algorithm, CustomScheme, Encoding, KeyEncoding, Preset, Scheme, Signature, SignedWith,
};
use crate::model::{Invalid, Secret, SigningKeyId};

/// How many signatures a destination may carry.
pub const SIGNATURES_MAX: usize = 8;
/// A secret in characters: at least as many as a key has bytes, since no encoding has fewer.
pub(super) const SECRET_CHARS_MIN: usize = 8;
/// A secret in characters, at most.
pub(super) const SECRET_CHARS_MAX: usize = 512;

/// What this room must be told of the signing room, and of the tenant's signing keys.
pub struct Signing<'a> {
    /// A fresh secret in the form that a scheme asks for.
    pub generate: &'a mut dyn FnMut(&Scheme) -> Secret,
    /// The names of the headers that a signature writes.
    pub header_names: &'a dyn Fn(&Scheme) -> Vec<String>,
    /// The signing key that a text names: one of the tenant's by its id, or its own as `signature`.
    pub key: &'a dyn Fn(&str) -> Result<SigningKeyId, Invalid>,
}

/// `signature` in a request: one, or a list.
#[derive(Debug, Clone, PartialEq)]
pub enum SignaturesRequest {
    /// One object.
    One(Box<SignatureRequest>),
    /// A list of them.
    Many(Vec<SignatureRequest>),
}

// By hand, because serde's untagged enums forget the path to what is wrong.
impl<'de> Deserialize<'de> for SignaturesRequest {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct OneOrMany;

        impl<'de> Visitor<'de> for OneOrMany {
            type Value = SignaturesRequest;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a signature or a list of them")
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Self::Value, A::Error> {
                SignatureRequest::deserialize(MapAccessDeserializer::new(map)).map(Box::new).map(SignaturesRequest::One)
            }

            fn visit_seq<A: SeqAccess<'de>>(self, list: A) -> Result<Self::Value, A::Error> {
                let many = Vec::<Object<_>>::deserialize(SeqAccessDeserializer::new(list))?;
                Ok(SignaturesRequest::Many(many.into_iter().map(|Object(one)| one).collect()))
            }
        }

        deserializer.deserialize_any(OneOrMany)
    }
}

/// One signature in a request. Which fields apply depends on the preset.
#[derive(Debug, Clone, PartialEq, Eq, Default, DeserializeDerive)]
#[serde(deny_unknown_fields)]
pub struct SignatureRequest {
    preset: Option<String>,
    secret: Option<Secret>,
    /// A signing key of the tenant's to sign with in the place of a secret; `null` takes it away.
    #[serde(default)]
    key: Patch<String>,
    header: Option<String>,
    prefix: Option<String>,
    message: Option<String>,
    algorithm: Option<String>,
    encoding: Option<String>,
    key_encoding: Option<String>,
    /// When the secret before a rotation ends: shown, and taken back only as it was shown.
    previous_expires_at: Option<String>,
}

/// A signature and whether its secret has just been made here, to be shown once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Signed {
    /// The signature.
    pub signature: SignedWith,
    /// Whether its secret is to be shown in this one answer.
    pub is_fresh: bool,
}

/// What a new destination carries when the caller says nothing (decision D27): `standard` and `x-webhook-signature`
/// with one generated secret.
pub fn default_pair(signing: &mut Signing<'_>) -> Vec<Signed> {
    let standard = Scheme::Preset(Preset::Standard);
    let secret = (signing.generate)(&standard);
    [standard, Scheme::Preset(Preset::XWebhookSignature)]
        .into_iter()
        .map(|scheme| Signed {
            signature: SignedWith::Own(Signature { scheme, secret: secret.clone(), previous: None }),
            is_fresh: true,
        })
        .collect()
}

impl SignaturesRequest {
    /// The signatures that are asked for; `stored` are those that the destination has, none at creation.
    pub(super) fn weigh(self, stored: &[SignedWith], signing: &mut Signing<'_>, faults: &mut Faults) -> Vec<Signed> {
        let requests = match self {
            SignaturesRequest::One(one) if one.preset.as_deref() == Some("none") => {
                return match *one == (SignatureRequest { preset: one.preset.clone(), ..Default::default() }) {
                    true => Vec::new(),
                    false => {
                        faults.note("/signature", "the preset none has no further fields");
                        Vec::new()
                    }
                };
            }
            SignaturesRequest::One(one) => vec![("/signature".to_owned(), *one)],
            SignaturesRequest::Many(many) => {
                let at = |(place, one)| (format!("/signature/{place}"), one);
                many.into_iter().enumerate().map(at).collect()
            }
        };
        if requests.len() > SIGNATURES_MAX {
            faults.note("/signature", format!("must have at most {SIGNATURES_MAX} entries"));
            return Vec::new();
        }
        let mut left: Vec<&SignedWith> = stored.iter().collect();
        let mut signatures: Vec<Signed> = Vec::with_capacity(requests.len());
        for (pointer, request) in requests {
            let Some(signed) = request.weigh(&pointer, &mut left, signing, faults) else { continue };
            let names = (signing.header_names)(signed.signature.scheme());
            let taken = signatures.iter().flat_map(|other| (signing.header_names)(other.signature.scheme()));
            if let Some(twice) =
                taken.into_iter().find(|other| names.iter().any(|name| name.eq_ignore_ascii_case(other)))
            {
                faults.note(pointer, format!("writes the header {twice}, as another signature does"));
                continue;
            }
            signatures.push(signed);
        }
        signatures
    }
}

impl SignatureRequest {
    fn weigh(
        self,
        pointer: &str,
        left: &mut Vec<&SignedWith>,
        signing: &mut Signing<'_>,
        faults: &mut Faults,
    ) -> Option<Signed> {
        let at = |field: &str| format!("{pointer}/{field}");
        let scheme = match self.preset.as_deref() {
            None => {
                faults.note(at("preset"), "is required");
                return None;
            }
            Some("none") => {
                faults.note(at("preset"), "none stands alone, not in a list");
                return None;
            }
            Some("custom") => Scheme::Custom(self.custom(pointer, faults)?),
            Some(name) => match Preset::named(name) {
                None => {
                    let known: Vec<_> = Preset::ALL.iter().map(|preset| preset.as_str()).collect();
                    faults.note(at("preset"), format!("must be one of {}, custom, none", known.join(", ")));
                    return None;
                }
                Some(preset) => {
                    self.refuse_custom_fields(pointer, preset, signing, faults);
                    Scheme::Preset(preset)
                }
            },
        };
        let place = left.iter().position(|stored| is_same(stored.scheme(), &scheme));
        let stored = place.map(|place| left.remove(place));
        let key = match (&self.key, stored.and_then(SignedWith::key)) {
            (Patch::Value(name), _) => Some(faults.weigh(&at("key"), (signing.key)(name))?),
            // A secret that is given takes the place of the key.
            (Patch::Absent, Some(key)) if self.secret.is_none() => Some(key),
            (Patch::Absent | Patch::Null, _) => None,
        };
        if let Some(key) = key {
            for (field, is_given) in
                [("secret", self.secret.is_some()), ("previous_expires_at", self.previous_expires_at.is_some())]
            {
                if is_given {
                    faults.note(at(field), "is the signing key's own; a signature has a key or a secret, not both");
                }
            }
            return Some(Signed { signature: SignedWith::Key { scheme, key }, is_fresh: false });
        }
        let kept = stored.and_then(SignedWith::own);
        let own = |signature: Signature, is_fresh| Some(Signed { signature: SignedWith::Own(signature), is_fresh });
        if let Some(shown) = &self.previous_expires_at {
            let stored = kept.and_then(|kept| kept.previous.as_ref()).map(|(_, until)| until.to_string());
            if stored.as_ref() != Some(shown) {
                faults.note(at("previous_expires_at"), "is read-only");
            }
        }
        match self.secret {
            Some(secret) if secret.expose() == MASK => match kept {
                Some(kept) => own(Signature { scheme, ..kept.clone() }, false),
                None => {
                    faults.note(at("secret"), format!("{MASK:?} stands for a stored secret, and there is none"));
                    None
                }
            },
            Some(secret) => {
                let rule = plain_text(secret.expose().to_owned(), SECRET_CHARS_MIN, SECRET_CHARS_MAX);
                faults.weigh(&at("secret"), rule)?;
                let previous = kept.filter(|kept| kept.secret == secret).and_then(|kept| kept.previous.clone());
                own(Signature { scheme, secret, previous }, false)
            }
            None => match kept {
                Some(kept) => own(Signature { scheme, ..kept.clone() }, false),
                None => {
                    let secret = (signing.generate)(&scheme);
                    own(Signature { scheme, secret, previous: None }, true)
                }
            },
        }
    }

    /// A preset decides everything but the secret; its header may be sent back as it was shown.
    fn refuse_custom_fields(&self, pointer: &str, preset: Preset, signing: &Signing<'_>, faults: &mut Faults) {
        if let Some(header) = &self.header {
            let own = (signing.header_names)(&Scheme::Preset(preset));
            if !own.iter().any(|name| name.eq_ignore_ascii_case(header)) {
                faults.note(format!("{pointer}/header"), format!("is decided by the preset {}", preset.as_str()));
            }
        }
        let others = [
            ("prefix", &self.prefix),
            ("message", &self.message),
            ("algorithm", &self.algorithm),
            ("encoding", &self.encoding),
            ("key_encoding", &self.key_encoding),
        ];
        for (field, value) in others {
            if value.is_some() {
                faults.note(format!("{pointer}/{field}"), format!("is decided by the preset {}", preset.as_str()));
            }
        }
    }

    fn custom(&self, pointer: &str, faults: &mut Faults) -> Option<CustomScheme> {
        let at = |field: &str| format!("{pointer}/{field}");
        let header = match &self.header {
            None => Err(Invalid::new("is required with the preset custom")),
            Some(header) => header_name(header).map(|_| header.clone()),
        };
        let header = faults.weigh(&at("header"), header);
        let prefix = plain_text(self.prefix.clone().unwrap_or_default(), 0, 64);
        let prefix = faults.weigh(&at("prefix"), prefix);
        let message = plain_text(self.message.clone().unwrap_or_else(|| "{body}".to_owned()), 1, 256);
        let message = message.and_then(|message| match message.contains("{body}") {
            true => Ok(message),
            false => Err(Invalid::new("must sign {body}, at least")),
        });
        let message = faults.weigh(&at("message"), message);
        let algorithm = faults.weigh(&at("algorithm"), named(&self.algorithm, &ALGORITHMS));
        let encoding = faults.weigh(&at("encoding"), named(&self.encoding, &ENCODINGS));
        let key_encoding = faults.weigh(&at("key_encoding"), named(&self.key_encoding, &KEY_ENCODINGS));
        Some(CustomScheme {
            header: header?,
            prefix: prefix?,
            message: message?,
            algorithm: algorithm?,
            encoding: encoding?,
            key_encoding: key_encoding?,
        })
    }
}

/// Whether a stored scheme and one that is asked for are the same signature, perhaps changed: a custom one is known by its header.
fn is_same(stored: &Scheme, asked: &Scheme) -> bool {
    match (stored, asked) {
        (Scheme::Custom(stored), Scheme::Custom(asked)) => stored.header.eq_ignore_ascii_case(&asked.header),
        (Scheme::Preset(stored), Scheme::Preset(asked)) => stored == asked,
        (Scheme::Custom(_), Scheme::Preset(_)) | (Scheme::Preset(_), Scheme::Custom(_)) => false,
    }
}

// Each table's first entry is the default.
const ALGORITHMS: [(&str, Algorithm); 2] = [("sha256", Algorithm::Sha256), ("sha512", Algorithm::Sha512)];
const ENCODINGS: [(&str, Encoding); 3] =
    [("hex", Encoding::Hex), ("HEX", Encoding::HexUpper), ("base64", Encoding::Base64)];
const KEY_ENCODINGS: [(&str, KeyEncoding); 3] =
    [("text", KeyEncoding::Text), ("hex", KeyEncoding::Hex), ("base64", KeyEncoding::Base64)];

fn named<T: Copy, const N: usize>(text: &Option<String>, table: &[(&str, T); N]) -> Result<T, Invalid> {
    let Some(text) = text else { return Ok(table[0].1) };
    table.iter().find(|(name, _)| name == text).map(|(_, value)| *value).ok_or_else(|| {
        let known: Vec<_> = table.iter().map(|(name, _)| *name).collect();
        Invalid(format!("must be one of {}", known.join(", ")))
    })
}

fn name_of<T: PartialEq, const N: usize>(value: &T, table: &[(&'static str, T); N]) -> &'static str {
    table.iter().find(|(_, known)| known == value).expect("each table names every variant").0
}

/// `signature` in an answer: as it could be sent, less the secrets.
#[derive(Debug, Clone, Serialize)]
#[serde(untagged)]
pub enum SignaturesView {
    /// One, or `{"preset": "none"}`.
    One(Box<SignatureView>),
    /// Several.
    Many(Vec<SignatureView>),
}

/// One signature in an answer.
#[derive(Debug, Clone, Serialize)]
pub struct SignatureView {
    preset: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    header: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    prefix: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    message: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    algorithm: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    encoding: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    key_encoding: Option<&'static str>,
    /// Only in the answer to the request that made it.
    #[serde(skip_serializing_if = "Option::is_none")]
    secret: Option<String>,
    /// The signing key that it signs with, where that is no secret of its own.
    #[serde(skip_serializing_if = "Option::is_none")]
    key: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    previous_expires_at: Option<String>,
}

impl SignaturesView {
    /// The view of `signatures`; those at the places where `fresh` says so show their secret, this once.
    pub fn of(signatures: &[SignedWith], fresh: &[bool], header_names: &dyn Fn(&Scheme) -> Vec<String>) -> Self {
        let mut views: Vec<_> = signatures
            .iter()
            .enumerate()
            .map(|(place, signature)| {
                SignatureView::of(signature, fresh.get(place).copied().unwrap_or(false), header_names)
            })
            .collect();
        match views.len() {
            0 => SignaturesView::One(Box::new(SignatureView::none())),
            1 => SignaturesView::One(Box::new(views.remove(0))),
            _ => SignaturesView::Many(views),
        }
    }
}

impl SignatureView {
    fn none() -> Self {
        SignatureView {
            preset: "none",
            header: None,
            prefix: None,
            message: None,
            algorithm: None,
            encoding: None,
            key_encoding: None,
            secret: None,
            key: None,
            previous_expires_at: None,
        }
    }

    fn of(signature: &SignedWith, is_fresh: bool, header_names: &dyn Fn(&Scheme) -> Vec<String>) -> Self {
        let scheme = signature.scheme();
        let view = match scheme {
            // Of several headers the last carries the signature itself.
            Scheme::Preset(preset) => {
                SignatureView { preset: preset.as_str(), header: header_names(scheme).pop(), ..SignatureView::none() }
            }
            Scheme::Custom(custom) => SignatureView {
                preset: "custom",
                header: Some(custom.header.clone()),
                prefix: Some(custom.prefix.clone()),
                message: Some(custom.message.clone()),
                algorithm: Some(name_of(&custom.algorithm, &ALGORITHMS)),
                encoding: Some(name_of(&custom.encoding, &ENCODINGS)),
                key_encoding: Some(name_of(&custom.key_encoding, &KEY_ENCODINGS)),
                ..SignatureView::none()
            },
        };
        match signature {
            SignedWith::Own(Signature { scheme: _, secret, previous }) => SignatureView {
                secret: is_fresh.then(|| secret.expose().to_owned()),
                previous_expires_at: previous.as_ref().map(|(_, until)| until.to_string()),
                ..view
            },
            SignedWith::Key { scheme: _, key } => SignatureView { key: Some(key.to_string()), ..view },
        }
    }
}
