//! A secret is replaced, a destination's own or a signing key's, and the one before it goes on counting for a while.
//!
//! Signatures that share one secret are one thing to their receiver and rotate together (decision D27). During the overlap
//! list-valued schemes sign with both secrets, single-valued ones with the old ([`sign::headers`]). Only one secret can be
//! the previous one: a rotation within an overlap would break what the first one promised, and is refused, unless it has no
//! overlap itself, which ends every promise at once.

use std::time::Duration;

use crate::model::audit::{Action, Actor};
use crate::model::destination::{Preset, Scheme, Signature, SignedWith};
use crate::model::{Destination, DestinationId, Secret, SigningKey, SigningKeyId, Timestamp};
use crate::sign;

use super::{Error, Service, Sight};

/// What is asked for.
#[derive(Debug, Clone)]
pub struct Rotation {
    /// How long the secret before goes on counting; not at all when it is zero.
    pub overlap: Duration,
    /// The new secret; generated when absent.
    pub secret: Option<Secret>,
    /// Which signature's secret, by its preset or by its header; needed only where signatures have several secrets.
    pub signature: Option<String>,
}

/// What has been done.
#[derive(Debug)]
pub struct Rotated {
    /// The new secret, to be shown this once.
    pub secret: Secret,
    /// From when on the secret before it no longer counts.
    pub previous_expires_at: Timestamp,
}

/// A whsk_ key is half of a pair, whose other half its receiver must be given: it is not made here.
const ED25519: &str = "whsk_";

impl Service {
    /// Replaces a destination's secret.
    ///
    /// # Errors
    ///
    /// A conflict when the destination has no secret of its own, or when the overlap of an earlier rotation lasts; otherwise
    /// the field that is wrong. Nothing has changed then.
    pub async fn rotate_secret(
        &self,
        actor: &Actor,
        sight: &Sight,
        id: DestinationId,
        rotation: &Rotation,
    ) -> Result<Rotated, Error> {
        let (chance, now) = (self.chance_of(), self.now());
        let change = |destination: &mut Destination| {
            let mut own = own(destination);
            rotate(&mut own, rotation, &chance, now)?;
            let mut rotated = own.into_iter();
            for signature in &mut destination.signatures {
                if let SignedWith::Own(signature) = signature {
                    *signature = rotated.next().expect("one was taken from each of these");
                }
            }
            Ok::<_, Error>(())
        };
        let destination = self.update_destination(actor, Action::DestinationRotateSecret, sight, id, change).await?;
        let secret = chosen(&own(&destination), rotation.signature.as_deref())?.clone();
        Ok(Rotated { secret, previous_expires_at: now.after(rotation.overlap) })
    }

    /// Replaces a signing key's secret, by the same rule: for all destinations that sign with it at once.
    ///
    /// # Errors
    ///
    /// A conflict when the overlap of an earlier rotation lasts; otherwise the field that is wrong, also where a destination
    /// signs with the key by a scheme that the new secret does not serve. Nothing has changed then.
    pub async fn rotate_signing_key(
        &self,
        actor: &Actor,
        sight: &Sight,
        id: SigningKeyId,
        rotation: &Rotation,
    ) -> Result<Rotated, Error> {
        let (chance, now) = (self.chance_of(), self.now());
        let change = |key: &mut SigningKey| {
            let mut signatures = vec![key.signature(&Scheme::Preset(Preset::XSignature))];
            for destination in self.catalog().signed_with(id) {
                for by_key in destination.signatures.iter().filter(|it| it.key() == Some(id)) {
                    if !signatures.iter().any(|known| known.scheme == *by_key.scheme()) {
                        signatures.push(key.signature(by_key.scheme()));
                    }
                }
            }
            rotate(&mut signatures, rotation, &chance, now)?;
            let Signature { scheme: _, secret, previous } = signatures.swap_remove(0);
            (key.secret, key.previous) = (secret, previous);
            Ok::<_, Error>(())
        };
        let key = self.update_signing_key(actor, Action::SigningKeyRotate, sight, id, change).await?;
        Ok(Rotated { secret: key.secret.clone(), previous_expires_at: now.after(rotation.overlap) })
    }
}

/// A destination's signatures that have a secret of their own.
fn own(destination: &Destination) -> Vec<Signature> {
    destination.signatures.iter().filter_map(SignedWith::own).cloned().collect()
}

fn rotate(signatures: &mut [Signature], rotation: &Rotation, chance: &[u8; 32], now: Timestamp) -> Result<(), Error> {
    let invalid = |detail: &str| Error::Invalid { pointer: "/secret", detail: detail.to_owned() };
    let present = chosen(signatures, rotation.signature.as_deref())?.clone();
    let sharing = || signatures.iter().filter(|signature| signature.secret == present);
    let lasting = sharing().filter_map(|signature| signature.previous.as_ref()).map(|(_, until)| *until).max();
    if let Some(until) = lasting.filter(|until| *until > now)
        && !rotation.overlap.is_zero()
    {
        let detail = format!(
            "the secret before the last rotation counts until {until}; rotate after that, or with overlap \"0s\", which ends it at once"
        );
        return Err(Error::Conflict(detail));
    }
    let secret = match &rotation.secret {
        Some(secret) if *secret == present => return Err(invalid("is the present one")),
        Some(secret) => secret.clone(),
        None if present.expose().starts_with(ED25519) => {
            return Err(invalid(
                "is required: the present one is an Ed25519 key, whose public half the receiver must know",
            ));
        }
        // Schemes that take a text take one that serves another scheme, too.
        None => {
            let generated = || sharing().map(|signature| sign::generate(&signature.scheme, chance));
            let serves = |secret: &Secret, scheme: &Scheme| {
                sign::check(&Signature { scheme: scheme.clone(), secret: secret.clone(), previous: None }).is_ok()
            };
            let serves_all = |secret: &Secret| sharing().all(|signature| serves(secret, &signature.scheme));
            match generated().find(serves_all).or_else(|| generated().next()) {
                Some(secret) => secret,
                None => return Err(nothing_to_rotate()),
            }
        }
    };
    let until = now.after(rotation.overlap);
    for signature in signatures.iter_mut().filter(|signature| signature.secret == present) {
        signature.secret = secret.clone();
        signature.previous = (!rotation.overlap.is_zero()).then(|| (present.clone(), until));
        let sound = sign::check(signature).and_then(|()| sign::check_length(signature));
        sound.map_err(|error| invalid(&error.to_string()))?;
    }
    Ok(())
}

/// The secret that is meant.
fn chosen<'a>(signatures: &'a [Signature], name: Option<&str>) -> Result<&'a Secret, Error> {
    let Some(first) = signatures.first() else { return Err(nothing_to_rotate()) };
    let names = |signature: &Signature| {
        let preset = match &signature.scheme {
            Scheme::Preset(preset) => Some(preset.as_str().to_owned()),
            Scheme::Custom(_) => None,
        };
        preset
            .into_iter()
            .chain(sign::header_names(&signature.scheme).iter().map(|name| name.to_string()))
            .collect::<Vec<_>>()
    };
    let invalid = |why: &str| {
        let first = signatures.iter().filter_map(|signature| names(signature).into_iter().next());
        let known = first.collect::<Vec<_>>().join(", ");
        Error::Invalid { pointer: "/signature", detail: format!("{why}: {known}") }
    };
    match name {
        Some(name) => {
            let is_named = |signature: &&Signature| names(signature).iter().any(|own| own.eq_ignore_ascii_case(name));
            let found = signatures.iter().find(is_named).map(|signature| &signature.secret);
            found.ok_or_else(|| invalid("must be one of the destination's signatures, by preset or header"))
        }
        None if signatures.iter().all(|signature| signature.secret == first.secret) => Ok(&first.secret),
        None => Err(invalid("is required, since the signatures have several secrets; it is one of")),
    }
}

fn nothing_to_rotate() -> Error {
    Error::Conflict(
        "the destination's deliveries are not signed with a secret of its own; a signing key is rotated at POST /v1/signing-keys/{id}/rotate".into(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::destination::{Algorithm, CustomScheme, Encoding, KeyEncoding};
    use http::HeaderMap;

    const START: Timestamp = Timestamp::from_millis(1_700_000_000_000);
    const DAY: Duration = Duration::from_secs(24 * 3600);
    const OLD: &str = "whsec_AAECAwQFBgcICQoLDA0ODxAREhMUFRYX";

    fn signature(preset: Preset, secret: &str) -> Signature {
        Signature { scheme: Scheme::Preset(preset), secret: Secret::new(secret), previous: None }
    }

    fn custom(secret: &str) -> Signature {
        let scheme = CustomScheme {
            header: "X-Own".into(),
            prefix: String::new(),
            message: "{body}".into(),
            algorithm: Algorithm::Sha256,
            encoding: Encoding::Hex,
            key_encoding: KeyEncoding::Hex,
        };
        Signature { scheme: Scheme::Custom(scheme), secret: Secret::new(secret), previous: None }
    }

    fn rotation(overlap: Duration) -> Rotation {
        Rotation { overlap, secret: None, signature: None }
    }

    fn headers(signatures: &[Signature], now: Timestamp) -> HeaderMap {
        let message =
            sign::Message { id: "evt_1", timestamp: now, nonce: "n", url: "https://a/", method: "POST", body: b"{}" };
        sign::headers(signatures, &message, now).unwrap().into_iter().collect()
    }

    fn believed(preset: Preset, secret: &Secret, headers: &HeaderMap) -> bool {
        let message =
            sign::Message { id: "evt_1", timestamp: START, nonce: "n", url: "https://a/", method: "POST", body: b"{}" };
        sign::verify(&signature(preset, secret.expose()), &message, headers).is_ok()
    }

    /// D27: a secret that two signatures share is rotated in both. Through the overlap list-valued schemes are believed with
    /// either secret, single-valued ones with the old; from its end on the new one alone counts.
    #[test]
    fn what_shares_a_secret_rotates_together_and_overlaps() {
        let presets = [Preset::Standard, Preset::StripeLike, Preset::XWebhookSignature];
        let mut signatures = presets.map(|preset| signature(preset, OLD));
        rotate(&mut signatures, &rotation(DAY), &[7; 32], START).unwrap();
        let new = chosen(&signatures, None).unwrap().clone();
        let old = Secret::new(OLD);
        assert_ne!(new, old);
        let until = START.after(DAY);
        let during = headers(&signatures, until.before(Duration::from_millis(1)));
        let after = headers(&signatures, until);
        for (preset, with_old, with_new) in
            [(presets[0], true, true), (presets[1], true, true), (presets[2], true, false)]
        {
            let seen = |headers| (believed(preset, &old, headers), believed(preset, &new, headers));
            assert_eq!(seen(&during), (with_old, with_new), "{preset:?}");
            assert_eq!(seen(&after), (false, true), "{preset:?}");
        }
    }

    #[test]
    fn a_second_rotation_waits_for_the_first_ones_end_or_ends_it() {
        let mut signatures = [signature(Preset::Standard, OLD)];
        rotate(&mut signatures, &rotation(DAY), &[1; 32], START).unwrap();
        let first = signatures.clone();
        let soon = START.after(DAY / 2);
        assert!(matches!(rotate(&mut signatures, &rotation(DAY), &[2; 32], soon), Err(Error::Conflict(_))));
        assert_eq!(signatures, first, "what is refused changes nothing");
        rotate(&mut signatures, &rotation(Duration::ZERO), &[2; 32], soon).unwrap();
        assert_eq!(signatures[0].previous, None);
        rotate(&mut signatures, &rotation(DAY), &[3; 32], soon).unwrap();
        rotate(&mut signatures, &rotation(DAY), &[4; 32], soon.after(DAY)).unwrap();
        assert_eq!(signatures[0].previous.as_ref().unwrap().1, soon.after(DAY).after(DAY));
    }

    #[test]
    fn the_secret_that_is_meant_must_be_told_among_several() {
        let other = "00112233445566778899aabbccddeeff";
        let mut signatures = [signature(Preset::Standard, OLD), custom(other)];
        let named = |name: &str| Rotation { signature: Some(name.into()), ..rotation(DAY) };
        let pointer = |result: Result<(), Error>| match result {
            Err(Error::Invalid { pointer, .. }) => pointer,
            other => panic!("{other:?}"),
        };
        assert_eq!(pointer(rotate(&mut signatures, &rotation(DAY), &[1; 32], START)), "/signature");
        assert_eq!(pointer(rotate(&mut signatures, &named("x-signature"), &[1; 32], START)), "/signature");
        let given = |secret: &str| Rotation { secret: Some(Secret::new(secret)), ..named("x-own") };
        assert_eq!(pointer(rotate(&mut signatures, &given("no hex"), &[1; 32], START)), "/secret");
        rotate(&mut signatures, &named("Webhook-Signature"), &[1; 32], START).unwrap();
        let mut signatures = [signature(Preset::Standard, OLD), custom(other)];
        assert_eq!(pointer(rotate(&mut signatures, &given(other), &[1; 32], START)), "/secret");
        rotate(&mut signatures, &named("x-own"), &[1; 32], START).unwrap();
        assert_eq!((signatures[0].secret.expose(), signatures[0].previous.is_none()), (OLD, true));
        assert_eq!(signatures[1].secret.expose(), "01".repeat(32), "in the form that its scheme asks for");
        let mut ed25519 = [signature(Preset::Standard, &format!("whsk_{}", "A".repeat(43)))];
        assert_eq!(pointer(rotate(&mut ed25519, &rotation(DAY), &[1; 32], START)), "/secret");
        assert!(matches!(rotate(&mut [], &rotation(DAY), &[1; 32], START), Err(Error::Conflict(_))));
    }
}
