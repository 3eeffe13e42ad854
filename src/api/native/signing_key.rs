//! Signing keys: `{"kind", "name"}` in at `/v1/signing-keys`, and the secret out once, or on the admin socket.

use serde::{Deserialize, Serialize};

use super::destination::rotate::RotateRequest;
use super::signature::{SECRET_CHARS_MAX, SECRET_CHARS_MIN};
use crate::api::caller::Caller;
use crate::api::door::{Faults, MASK, Patch, plain_text, readable};
use crate::api::idempotency::IDEMPOTENCY_KEY;
use crate::api::page::{Page, by_creation};
use crate::api::{Call, native};
use crate::http::problem::{Problem, ProblemCode};
use crate::http::response::Response;
use crate::model::audit::Action;
use crate::model::{Invalid, Secret, SigningKey, SigningKeyKind, TenantId};
use crate::service::{Catalog, NewSigningKey, Sight};

/// The path of signing keys; a key's own path is this, a slash and its id.
pub const PATH: &str = "/v1/signing-keys";

const NAME_CHARS_MAX: usize = 124;

/// The body of a create and of an update.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SigningKeyRequest {
    id: Patch<String>,
    created: Patch<String>,
    tenant: Patch<String>,
    kind: Patch<String>,
    name: Patch<String>,
    secret: Patch<Secret>,
    previous_expires_at: Patch<String>,
    destinations: Patch<Vec<String>>,
}

impl SigningKeyRequest {
    /// The key that is asked for, or a 400 that names every wrong field.
    pub fn create(self, tenant: TenantId) -> Result<NewSigningKey, Problem> {
        let mut faults = Faults::default();
        for (pointer, is_given) in [
            ("/id", self.id != Patch::Absent),
            ("/created", self.created != Patch::Absent),
            ("/tenant", self.tenant != Patch::Absent),
            ("/previous_expires_at", self.previous_expires_at != Patch::Absent),
            ("/destinations", self.destinations != Patch::Absent),
        ] {
            if is_given {
                faults.note(pointer, "is given by the daemon");
            }
        }
        let mut new = NewSigningKey { tenant, kind: SigningKeyKind::Source, name: String::new(), secret: None };
        match self.kind {
            Patch::Absent => faults.note("/kind", "is required: one of signature, source"),
            kind => faults.set("/kind", kind, &mut new.kind, |text| text.parse()),
        }
        match (self.name, new.kind) {
            // There is one of it: it needs no name to be told from others.
            (Patch::Absent, SigningKeyKind::Signature) => new.name = SigningKeyKind::Signature.as_str().to_owned(),
            (Patch::Absent, SigningKeyKind::Source) => faults.note("/name", "is required of a source key"),
            (name, _) => faults.set("/name", name, &mut new.name, |text| readable(text, 1, NAME_CHARS_MAX)),
        }
        faults.set_or("/secret", self.secret, &mut new.secret, None, |secret| match secret.expose() {
            MASK => Err(Invalid::new("*** stands for a stored secret, and there is none")),
            text => plain_text(text.to_owned(), SECRET_CHARS_MIN, SECRET_CHARS_MAX).map(|_| Some(secret)),
        });
        faults.into_result().map(|()| new)
    }

    /// The key with this request's change: its name. All else stays.
    fn update(self, key: &mut SigningKey, view: &SigningKeyView) -> Result<(), Problem> {
        let mut faults = Faults::default();
        let texts = [
            ("/id", self.id, Some(&view.id)),
            ("/created", self.created, Some(&view.created)),
            ("/tenant", self.tenant, Some(&view.tenant)),
            ("/previous_expires_at", self.previous_expires_at, view.previous_expires_at.as_ref()),
        ];
        for (pointer, field, own) in texts {
            faults.read_only(pointer, &field, |sent| sent == own);
        }
        faults.read_only("/kind", &self.kind, |sent| sent.is_some_and(|kind| kind == view.kind));
        if self.destinations != Patch::Absent && self.destinations.value().as_ref() != Some(&view.destinations) {
            faults.note("/destinations", "is changed at the destinations: each names the key that it signs with");
        }
        if self.secret != Patch::Absent {
            faults.note("/secret", "is changed by POST …/rotate");
        }
        faults.set("/name", self.name, &mut key.name, |text| readable(text, 1, NAME_CHARS_MAX));
        faults.into_result()
    }
}

/// A signing key in an answer.
#[derive(Debug, Serialize)]
pub struct SigningKeyView {
    id: String,
    kind: &'static str,
    name: String,
    tenant: String,
    created: String,
    /// Until when the secret before the last rotation counts, or counted.
    previous_expires_at: Option<String>,
    /// The destinations that sign with it.
    destinations: Vec<String>,
    /// Only in the answer to the create and to a reveal.
    #[serde(skip_serializing_if = "Option::is_none")]
    secret: Option<String>,
}

impl SigningKeyView {
    /// How the key is shown: never its secret.
    pub fn of(key: &SigningKey, catalog: &Catalog) -> Self {
        SigningKeyView {
            id: key.id.to_string(),
            kind: key.kind.as_str(),
            name: key.name.clone(),
            tenant: key.tenant.to_string(),
            created: key.created.to_string(),
            previous_expires_at: key.previous.as_ref().map(|(_, until)| until.to_string()),
            destinations: catalog.signed_with(key.id).map(|destination| destination.id.to_string()).collect(),
            secret: None,
        }
    }

    /// With its secret: for the answer to the create, and to a reveal.
    fn with_secret(self, key: &SigningKey) -> Self {
        SigningKeyView { secret: Some(key.secret.expose().to_owned()), ..self }
    }
}

/// `GET /v1/signing-keys`
pub(super) async fn list(call: Call, caller: Caller) -> Result<Response, Problem> {
    let query = call.request.query()?;
    let page = Page::from_query(call.request.path(), &query)?;
    let (mut keys, catalog) = (call.service.signing_keys(&Sight::One(caller.tenant())), call.service.catalog());
    let cursor = |key: &SigningKey| by_creation(key.created, &key.id.to_string());
    keys.sort_by_cached_key(|key| cursor(key));
    Ok(native::ok(&page.of("signing_keys", keys, |it| cursor(it), |it| SigningKeyView::of(&it, &catalog))))
}

/// `POST /v1/signing-keys`
pub(super) async fn create(mut call: Call, caller: Caller) -> Result<Response, Problem> {
    let request: SigningKeyRequest = call.request.json(call.settings.body_bytes_max).await?;
    let new = request.create(caller.tenant())?;
    let is_generated = new.secret.is_none();
    let key = call.service.create_signing_key(caller.actor(), new).await?;
    let view = SigningKeyView::of(&key, &call.service.catalog());
    let view = if is_generated { view.with_secret(&key) } else { view };
    Ok(native::created(&format!("{PATH}/{}", key.id), &view))
}

/// `GET /v1/signing-keys/{id}`
pub(super) async fn read(call: Call, caller: Caller) -> Result<Response, Problem> {
    let key = call.service.signing_key(&caller.sight(), call.params.parse("id")?)?;
    Ok(native::ok(&SigningKeyView::of(&key, &call.service.catalog())))
}

/// `PUT /v1/signing-keys/{id}`
pub(super) async fn update(mut call: Call, caller: Caller) -> Result<Response, Problem> {
    let (sight, id) = (caller.sight(), call.params.parse("id")?);
    call.service.signing_key(&sight, id)?;
    let request: SigningKeyRequest = call.request.json(call.settings.body_bytes_max).await?;
    let service = &call.service;
    let change = |key: &mut SigningKey| {
        let view = SigningKeyView::of(key, &service.catalog());
        request.clone().update(key, &view)
    };
    let key = service.update_signing_key(caller.actor(), Action::SigningKeyUpdate, &sight, id, change).await?;
    Ok(native::ok(&SigningKeyView::of(&key, &service.catalog())))
}

#[derive(Debug, Serialize)]
struct RotatedView<'a> {
    secret: &'a str,
    previous_expires_at: String,
    /// Whose receivers need the new secret.
    destinations: Vec<String>,
}

/// `POST /v1/signing-keys/{id}/rotate`
pub(super) async fn rotate(mut call: Call, caller: Caller) -> Result<Response, Problem> {
    let (sight, id) = (caller.sight(), call.params.parse("id")?);
    call.service.signing_key(&sight, id)?;
    let request: RotateRequest = call.request.json(call.settings.body_bytes_max).await?;
    let rotation = request.weigh_for_key()?;
    let rotated = call.service.rotate_signing_key(caller.actor(), &sight, id, &rotation).await?;
    let destinations = call.service.catalog().signed_with(id).map(|destination| destination.id.to_string()).collect();
    let previous_expires_at = rotated.previous_expires_at.to_string();
    Ok(native::ok(&RotatedView { secret: rotated.secret.expose(), previous_expires_at, destinations }))
}

/// `POST /v1/signing-keys/{id}/reveal`: for whoever may open the admin socket, and for a person on the dashboard who has just shown a
/// second factor. Whoever holds an API key has shown one factor only, and a key that has leaked must not show the secrets that
/// receivers trust.
pub(super) async fn reveal(call: Call, caller: Caller) -> Result<Response, Problem> {
    let (sight, id) = (caller.sight(), call.params.parse("id")?);
    call.service.signing_key(&sight, id)?;
    if call.request.header(IDEMPOTENCY_KEY)?.is_some() {
        let detail = "Idempotency-Key: a secret is shown to who asks at this moment, and each time that is in the audit log; ask without";
        return Err(Problem::new(ProblemCode::BadHeader, detail));
    }
    if !caller.is_proved() {
        let detail = "a signing key's secret is shown on the admin socket (postrider signing-key reveal, on the daemon's own machine) and on \
                      the dashboard after a second factor, to no key; or give the key a new one by POST …/rotate, whose answer shows it";
        return Err(Problem::new(ProblemCode::Forbidden, detail));
    }
    let key = call.service.reveal_signing_key(caller.actor(), &sight, id).await?;
    Ok(native::ok(&SigningKeyView::of(&key, &call.service.catalog()).with_secret(&key)))
}

/// `DELETE /v1/signing-keys/{id}`
pub(super) async fn delete(call: Call, caller: Caller) -> Result<Response, Problem> {
    call.service.delete_signing_key(caller.actor(), &caller.sight(), call.params.parse("id")?).await?;
    Ok(native::no_content())
}
