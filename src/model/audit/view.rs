//! How things stand in a record. Every field has its place here, so that whoever adds one decides whether it is a secret.

use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};

use crate::model::destination::{
    Algorithm, Auth, BodyRule, CustomScheme, Encoding, KeyEncoding, Rate, Scheme, Signature, SignedWith, Success,
    TlsOptions,
};
use crate::model::id::hex;
use crate::model::schedule::{Plan, Retry};
use crate::model::time::duration_text;
use crate::model::{
    ApiKey, Destination, DestinationId, DestinationNo, EventType, Filter, KnownType, Secret, SigningKey, Subscription,
    Tenant, TenantId, Timestamp, User,
};

/// What stands in the place of a secret in every view; in an update through the API it means: keep what is stored.
pub const MASK: &str = "***";
/// What stands in the place of a secret that is another one than before.
pub const CHANGED: &str = "*** (changed)";

/// A secret, without it: whether it is the one that stood there before.
fn masked(secret: &Secret, before: Option<&Secret>) -> Value {
    Value::from(if before.is_some_and(|before| before != secret) { CHANGED } else { MASK })
}

/// Of two views of one thing what differs.
pub fn changes(before: Value, after: Value) -> (Value, Value) {
    let (Value::Object(before), Value::Object(after)) = (&before, &after) else { return (before, after) };
    let differing = |of: &Map<String, Value>, other: &Map<String, Value>| {
        let differs = |(name, value): &(&String, &Value)| other.get(*name) != Some(*value);
        of.iter().filter(differs).map(|(name, value)| (name.clone(), value.clone())).collect()
    };
    (Value::Object(differing(before, after)), Value::Object(differing(after, before)))
}

/// A tenant.
pub fn tenant(tenant: &Tenant) -> Value {
    let Tenant { id, name, parent, created: _, audit_from: _ } = tenant;
    json!({"id": id.as_str(), "name": name, "parent": parent.as_ref().map(TenantId::as_str)})
}

/// A key, without its digest.
pub fn key(key: &ApiKey) -> Value {
    let tenant = key.tenant.as_ref().map(TenantId::as_str);
    json!({"id": key.id.to_string(), "name": key.name, "role": key.role.as_str(), "tenant": tenant})
}

/// An event type. Its sample is not shown, for somebody may have taken a real payload for one; beside how it was `before`, it says
/// whether it is another one.
pub fn event_type(known: &KnownType, before: Option<&KnownType>) -> Value {
    let KnownType { name, description, aliases, sample, origin: _ } = known;
    let is_other = before.is_some_and(|before| before.sample != *sample);
    json!({
        "aliases": aliases.iter().map(EventType::as_str).collect::<Vec<_>>(),
        "description": description,
        "name": name.as_str(),
        "sample": sample.as_ref().map(|_| if is_other { CHANGED } else { MASK }),
    })
}

/// A signing key; beside how it was `before`, its secret says whether it is another one.
pub fn signing_key(it: &SigningKey, before: Option<&SigningKey>) -> Value {
    let SigningKey { id, tenant, kind, name, secret, previous, created: _ } = it;
    json!({
        "id": id.to_string(),
        "kind": kind.as_str(),
        "name": name,
        "previous_expires_at": expiry(previous),
        "secret": masked(secret, before.map(|before| &before.secret)),
        "tenant": tenant.as_str(),
    })
}

fn expiry(previous: &Option<(Secret, Timestamp)>) -> Value {
    previous.as_ref().map(|(_, until)| until.to_string()).into()
}

/// A person, without password, key and codes; beside how he was `before`, the password and the key say whether they are other ones.
pub fn user(it: &User, before: Option<&User>) -> Value {
    let User { id, name, role, tenant, created: _, password, one_time, totp, recovery, failures, stamp: _ } = it;
    let mark = |is_other: bool| Value::from(if is_other { CHANGED } else { MASK });
    let key = totp.as_ref().map(|totp| &totp.key);
    let other_key = before.and_then(|before| before.totp.as_ref()).is_some_and(|totp| key != Some(&totp.key));
    json!({
        "id": id.to_string(),
        "locked": failures.lock(),
        "name": name.as_str(),
        "one_time_password": one_time,
        "password": mark(before.is_some_and(|before| before.password != *password)),
        "recovery_codes": recovery.len(),
        "role": role.as_str(),
        "tenant": tenant.as_ref().map(TenantId::as_str),
        "totp": key.map(|_| mark(other_key)),
    })
}

/// A subscription; `name` knows the ids of destinations.
pub fn subscription(it: &Subscription, name: impl Fn(DestinationNo) -> Option<DestinationId>) -> Value {
    let Subscription { no: _, id, tenant, pattern, name: label, roll_up, filter, destinations, registered, created: _ } =
        it;
    let destinations: Vec<_> = destinations.iter().filter_map(|no| name(*no)).map(|id| id.to_string()).collect();
    json!({
        "destinations": destinations,
        "filter": filter.as_ref().map(Filter::view),
        "id": id.to_string(),
        "name": label,
        "registered_by": registered.as_ref().map(|registered| &registered.dialect),
        "roll_up": roll_up,
        "tenant": tenant.as_str(),
        "type": pattern.to_string(),
    })
}

/// A destination; beside how it was `before`, its secrets say whether they are other ones.
pub fn destination(it: &Destination, before: Option<&Destination>) -> Value {
    let Destination {
        no: _,
        id,
        tenant,
        name,
        description,
        url,
        method,
        headers,
        auth,
        signatures,
        format,
        retry,
        success,
        timeout,
        in_flight_max,
        rate,
        ordered,
        tls,
        allow_private,
        gone_at_once,
        confirmation: _,
        asked: _,
        disabled,
        created: _,
    } = it;
    let header = |(name, value): &(String, Secret)| {
        let old = before.and_then(|before| before.headers.iter().find(|(other, _)| other == name));
        (name.clone(), masked(value, old.map(|(_, value)| value)))
    };
    let signatures: Vec<_> = signatures
        .iter()
        .enumerate()
        .map(|(place, signature)| signature_view(signature, before.and_then(|before| before.signatures.get(place))))
        .collect();
    json!({
        "allow_private": allow_private,
        "auth": auth_view(auth, before.map(|before| &before.auth)),
        "confirmed": it.is_confirmed(),
        "description": description,
        "disabled": disabled,
        "format": format.as_str(),
        "gone_at_once": gone_at_once,
        "headers": headers.iter().map(header).collect::<Map<_, _>>(),
        "http_endpoint_url": url,
        "id": id.to_string(),
        "in_flight_max": in_flight_max,
        "method": method.as_str(),
        "name": name,
        "ordered": ordered,
        "rate": rate.map(|Rate { events, per }| json!({"events": events, "per": duration_text(per)})),
        "retry": retry_view(retry),
        "signature": signatures,
        "success": success_view(success),
        "tenant": tenant.as_str(),
        "timeout": timeout.map(duration_text),
        "tls": tls_view(tls, before.map(|before| &before.tls)),
    })
}

fn auth_view(auth: &Auth, before: Option<&Auth>) -> Value {
    match auth {
        Auth::None => json!({"type": "none"}),
        Auth::Basic { username, password } => {
            let old = before.and_then(|it| if let Auth::Basic { password, .. } = it { Some(password) } else { None });
            json!({"password": masked(password, old), "type": "basic", "username": username})
        }
        Auth::SharedSecret { header, secret } => {
            let old =
                before.and_then(|it| if let Auth::SharedSecret { secret, .. } = it { Some(secret) } else { None });
            json!({"header": header, "secret": masked(secret, old), "type": "shared_secret"})
        }
        Auth::Bearer { token } => {
            let old = before.and_then(|it| if let Auth::Bearer { token } = it { Some(token) } else { None });
            json!({"token": masked(token, old), "type": "bearer"})
        }
    }
}

fn signature_view(signature: &SignedWith, before: Option<&SignedWith>) -> Value {
    let mut view = match signature.scheme() {
        Scheme::Preset(preset) => json!({"preset": preset.as_str()}),
        Scheme::Custom(CustomScheme { header, prefix, message, algorithm, encoding, key_encoding }) => json!({
            "algorithm": match algorithm {
                Algorithm::Sha256 => "sha256",
                Algorithm::Sha512 => "sha512",
            },
            "encoding": match encoding {
                Encoding::Hex => "hex",
                Encoding::HexUpper => "HEX",
                Encoding::Base64 => "base64",
            },
            "header": header,
            "key_encoding": match key_encoding {
                KeyEncoding::Text => "text",
                KeyEncoding::Hex => "hex",
                KeyEncoding::Base64 => "base64",
            },
            "message": message,
            "prefix": prefix,
            "preset": "custom",
        }),
    };
    match signature {
        SignedWith::Own(Signature { scheme: _, secret, previous }) => {
            view["secret"] = masked(secret, before.and_then(SignedWith::own).map(|before| &before.secret));
            view["previous_expires_at"] = expiry(previous);
        }
        SignedWith::Key { scheme: _, key } => view["key"] = key.to_string().into(),
    }
    view
}

fn retry_view(retry: &Retry) -> Value {
    let Retry { plan, attempts_max, jitter } = retry;
    let (schedule, delays) = match plan {
        Plan::Default => (None, None),
        Plan::Named(name) => (Some(name), None),
        Plan::Delays(delays) => (None, Some(delays.iter().map(|delay| duration_text(*delay)).collect::<Vec<_>>())),
    };
    json!({"attempts_max": attempts_max, "delays": delays, "jitter": jitter, "schedule": schedule})
}

fn success_view(success: &Success) -> Value {
    let Success { status, body } = success;
    let range = |&(first, last): &(u16, u16)| if first == last { first.to_string() } else { format!("{first}-{last}") };
    let body = body.as_ref().map(|rule| match rule {
        BodyRule::Equals(text) => json!({"equals": text}),
        BodyRule::Prefix(text) => json!({"prefix": text}),
        BodyRule::Contains(text) => json!({"contains": text}),
    });
    json!({"body": body, "status": status.iter().map(range).collect::<Vec<_>>()})
}

/// Certificates by their hash: they are public, and long.
fn tls_view(tls: &TlsOptions, before: Option<&TlsOptions>) -> Value {
    let TlsOptions { ca, client_cert, client_key, pin } = tls;
    let digest = |pem: &Option<String>| pem.as_ref().map(|pem| format!("sha256:{}", hex(&Sha256::digest(pem))));
    let old = before.and_then(|before| before.client_key.as_ref());
    json!({
        "ca": digest(ca),
        "client_cert": digest(client_cert),
        "client_key": client_key.as_ref().map(|key| masked(key, old)),
        "pin": pin.as_ref().map(|pin| hex(pin)),
    })
}
