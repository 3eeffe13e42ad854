//! Keys on the wire: `{"role", "tenant" or null, "name"}` in, and the secret out once.

use serde::{Deserialize, Serialize};

use crate::api::door::{Faults, Patch, plain_text};
use crate::http::problem::Problem;
use crate::model::{ApiKey, Role, Secret, TenantId};

const NAME_CHARS_MAX: usize = 124;

/// The body of a create.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct KeyRequest {
    role: Option<String>,
    tenant: Patch<String>,
    name: Option<String>,
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
        let role = match self.role {
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
        let name = faults.weigh("/name", plain_text(self.name.unwrap_or_default(), 0, NAME_CHARS_MAX));
        faults.into_result()?;
        let both = role.zip(name);
        let (role, name) = both.expect("no fault was noted, so both were read");
        Ok(NewKey { role, tenant, name })
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
