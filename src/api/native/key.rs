//! Keys: `{"role", "tenant" or null, "name"}` in at `/v1/keys`, and the secret out once.

use serde::{Deserialize, Serialize};

use crate::api::caller::{Caller, reach_in_body};
use crate::api::door::{Faults, Patch, readable};
use crate::api::page::{Page, by_creation};
use crate::api::{Call, native};
use crate::http::problem::Problem;
use crate::http::response::Response;
use crate::model::{ApiKey, Role, Secret, TenantId};

/// The path of keys; a key's own path is this, a slash and its id.
pub const PATH: &str = "/v1/keys";

const NAME_CHARS_MAX: usize = 124;

/// The body of a create and of an update.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct KeyRequest {
    id: Patch<String>,
    created: Patch<String>,
    role: Patch<String>,
    tenant: Patch<String>,
    name: Patch<String>,
}

/// What a create asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewKey {
    /// What it may do.
    pub role: Role,
    /// The one tenant it is bound to, `Null` for all; when the body does not say, the caller's own reach decides.
    pub tenant: Patch<TenantId>,
    /// For people; may be empty.
    pub name: String,
}

impl KeyRequest {
    /// The key that is asked for, or a 400 that names every wrong field.
    pub fn create(self) -> Result<NewKey, Problem> {
        let mut faults = Faults::default();
        for (pointer, field) in [("/id", &self.id), ("/created", &self.created)] {
            if *field != Patch::Absent {
                faults.note(pointer, "is given by the daemon");
            }
        }
        let role = match self.role.value() {
            None => {
                faults.note("/role", "is required: one of ingest, read, operate, admin");
                None
            }
            Some(text) => faults.weigh("/role", text.parse()),
        };
        let tenant = match self.tenant {
            Patch::Absent => Patch::Absent,
            Patch::Null => Patch::Null,
            Patch::Value(text) => faults.weigh("/tenant", text.parse()).map_or(Patch::Absent, Patch::Value),
        };
        let name = faults.weigh("/name", readable(self.name.value().unwrap_or_default(), 0, NAME_CHARS_MAX));
        faults.into_result()?;
        let both = role.zip(name);
        let (role, name) = both.expect("no fault was noted, so both were read");
        Ok(NewKey { role, tenant, name })
    }

    /// The key `stored` with this request's changes: its name and its role. What it opens, and for whom, stays.
    pub fn update(self, stored: &ApiKey) -> Result<ApiKey, Problem> {
        let mut faults = Faults::default();
        let texts = [
            ("/id", self.id, Some(stored.id.to_string())),
            ("/created", self.created, Some(stored.created.to_string())),
            ("/tenant", self.tenant, stored.tenant.as_ref().map(|tenant| tenant.to_string())),
        ];
        for (pointer, field, own) in texts {
            faults.read_only(pointer, &field, |sent| sent == own.as_ref());
        }
        let mut key = stored.clone();
        faults.set("/role", self.role, &mut key.role, |text| text.parse());
        faults.set("/name", self.name, &mut key.name, |text| readable(text, 0, NAME_CHARS_MAX));
        faults.into_result().map(|()| key)
    }
}

/// A key in an answer.
#[derive(Debug, Serialize)]
pub struct KeyView {
    id: String,
    name: String,
    role: &'static str,
    tenant: Option<String>,
    created: String,
    /// Only in the answer to the request that made it.
    #[serde(skip_serializing_if = "Option::is_none")]
    secret: Option<String>,
}

impl KeyView {
    /// How the key is shown: never its secret.
    pub fn of(key: &ApiKey) -> Self {
        KeyView {
            id: key.id.to_string(),
            name: key.name.clone(),
            role: key.role.as_str(),
            tenant: key.tenant.as_ref().map(|tenant| tenant.to_string()),
            created: key.created.to_string(),
            secret: None,
        }
    }

    /// The answer to the create: with the secret, this once.
    pub fn with_secret(key: &ApiKey, secret: &Secret) -> Self {
        KeyView { secret: Some(secret.expose().to_owned()), ..KeyView::of(key) }
    }
}

/// `GET /v1/keys`
pub(super) async fn list(call: Call, caller: Caller) -> Result<Response, Problem> {
    let query = call.request.query()?;
    let page = Page::from_query(call.request.path(), &query)?;
    let mut keys = call.service.keys(&caller.sight());
    let cursor = |key: &ApiKey| by_creation(key.created, &key.id.to_string());
    keys.sort_by_cached_key(|key| cursor(key));
    Ok(native::ok(&page.of("keys", keys, |it| cursor(it), |it| KeyView::of(&it))))
}

/// `POST /v1/keys`
pub(super) async fn create(mut call: Call, caller: Caller) -> Result<Response, Problem> {
    let request: KeyRequest = call.request.json(call.settings.body_bytes_max).await?;
    let NewKey { role, tenant, name } = request.create()?;
    let tenant = reach_in_body(&caller, tenant)?;
    let (key, secret) = call.service.create_key(caller.actor(), name, role, tenant).await?;
    Ok(native::created(&format!("{PATH}/{}", key.id), &KeyView::with_secret(&key, &secret)))
}

/// `GET /v1/keys/{id}`
pub(super) async fn read(call: Call, caller: Caller) -> Result<Response, Problem> {
    let key = call.service.key(&caller.sight(), call.params.parse("id")?)?;
    Ok(native::ok(&KeyView::of(&key)))
}

/// `PUT /v1/keys/{id}`
pub(super) async fn update(mut call: Call, caller: Caller) -> Result<Response, Problem> {
    let stored = call.service.key(&caller.sight(), call.params.parse("id")?)?;
    let request: KeyRequest = call.request.json(call.settings.body_bytes_max).await?;
    let key = request.update(&stored)?;
    call.service.update_key(caller.actor(), key.clone()).await?;
    Ok(native::ok(&KeyView::of(&key)))
}

/// `DELETE /v1/keys/{id}`
pub(super) async fn delete(call: Call, caller: Caller) -> Result<Response, Problem> {
    let key = call.service.key(&caller.sight(), call.params.parse("id")?)?;
    call.service.delete_key(caller.actor(), key.id).await?;
    Ok(native::no_content())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::request::parse_json;
    use crate::model::Timestamp;

    fn create(text: &str) -> Result<NewKey, Problem> {
        parse_json::<KeyRequest>(text.as_bytes()).unwrap().create()
    }

    /// SX.5: a key's secret is shown in the answer that makes it and nowhere else.
    #[test]
    fn a_secret_is_shown_once() {
        let (key, secret) = ApiKey::generate([3; 38], "till".into(), Role::Ingest, None, Timestamp::ZERO);
        let shown = serde_json::to_string(&KeyView::with_secret(&key, &secret)).unwrap();
        let later = serde_json::to_string(&KeyView::of(&key)).unwrap();
        assert!(shown.contains(secret.expose()) && !later.contains(&secret.expose()[15..]));
        assert!(later.contains("\"role\":\"ingest\"") && later.contains("\"tenant\":null"), "{later}");
    }

    #[test]
    fn a_key_asks_for_a_role_and_says_its_reach() {
        let read = |tenant: &str| create(&format!(r#"{{"role": "read"{tenant}, "name": "n"}}"#)).unwrap().tenant;
        assert_eq!(read(""), Patch::Absent);
        assert_eq!(read(r#", "tenant": null"#), Patch::Null);
        assert_eq!(read(r#", "tenant": "m1""#), Patch::Value("m1".parse().unwrap()));
        let problem = create(r#"{"role": "root", "tenant": "a b", "name": "\u0000"}"#).unwrap_err();
        let pointers: Vec<_> = problem.errors().iter().map(|error| error.pointer.as_str()).collect();
        assert_eq!(pointers, ["/role", "/tenant", "/name"]);
        assert_eq!(create("{}").unwrap_err().errors()[0].pointer, "/role");
    }
}
