//! Tenants: `{"id", "name", "parent"}` at `/v1/tenants`.

use serde::{Deserialize, Serialize};

use crate::api::caller::Caller;
use crate::api::door::{Faults, Patch, readable};
use crate::api::page::{Page, by_creation};
use crate::api::{Call, native};
use crate::http::problem::{Problem, ProblemCode};
use crate::http::response::Response;
use crate::model::{Tenant, TenantId, Timestamp};

/// The path of tenants; a tenant's own path is this, a slash and its id.
pub const PATH: &str = "/v1/tenants";

const NAME_CHARS_MAX: usize = 124;

/// The body of a create and of an update.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TenantRequest {
    id: Patch<String>,
    name: Patch<String>,
    parent: Patch<String>,
    created: Patch<String>,
}

impl TenantRequest {
    /// A new tenant; its name is its id unless the body gives one. Whether the parent exists is the service's to say.
    pub fn create(self, created: Timestamp) -> Result<Tenant, Problem> {
        let mut faults = Faults::default();
        if self.created != Patch::Absent {
            faults.note("/created", "is given by the daemon");
        }
        let id = TenantId::default_tenant();
        let mut tenant = Tenant { id, name: String::new(), parent: None, created, audit_from: 0 };
        match self.id {
            Patch::Absent => faults.note("/id", "is required"),
            id => faults.set("/id", id, &mut tenant.id, |text| text.parse()),
        }
        tenant.name = tenant.id.to_string();
        let own_name = tenant.name.clone();
        faults.set_or("/name", self.name, &mut tenant.name, own_name, |text| readable(text, 1, NAME_CHARS_MAX));
        faults.set_or("/parent", self.parent, &mut tenant.parent, None, |text| text.parse().map(Some));
        if tenant.parent.as_ref() == Some(&tenant.id) {
            faults.note("/parent", "is the tenant itself");
        }
        faults.into_result().map(|()| tenant)
    }

    /// The tenant `stored` with this request's changes; fields that are not there stay.
    pub fn update(self, stored: &Tenant) -> Result<Tenant, Problem> {
        let mut faults = Faults::default();
        for (pointer, field, own) in
            [("/id", self.id, stored.id.to_string()), ("/created", self.created, stored.created.to_string())]
        {
            faults.read_only(pointer, &field, |sent| sent == Some(&own));
        }
        let mut tenant = stored.clone();
        faults.set("/name", self.name, &mut tenant.name, |text| readable(text, 1, NAME_CHARS_MAX));
        faults.set_or("/parent", self.parent, &mut tenant.parent, None, |text| text.parse().map(Some));
        if tenant.parent.as_ref() == Some(&tenant.id) {
            faults.note("/parent", "is the tenant itself");
        }
        faults.into_result().map(|()| tenant)
    }
}

/// A tenant in an answer.
#[derive(Debug, Serialize)]
pub struct TenantView {
    id: String,
    name: String,
    parent: Option<String>,
    created: String,
}

impl TenantView {
    /// How the tenant is shown.
    pub fn of(tenant: &Tenant) -> Self {
        TenantView {
            id: tenant.id.to_string(),
            name: tenant.name.clone(),
            parent: tenant.parent.as_ref().map(|parent| parent.to_string()),
            created: tenant.created.to_string(),
        }
    }
}

/// `GET /v1/tenants`: the one that the caller acts for, or all of them.
pub(super) async fn list(call: Call, caller: Caller) -> Result<Response, Problem> {
    let query = call.request.query()?;
    let (page, sight, catalog) =
        (Page::from_query(call.request.path(), &query)?, caller.sight(), call.service.catalog());
    let mut tenants: Vec<_> = catalog.tenants().filter(|tenant| sight.takes(&tenant.id)).collect();
    let cursor = |tenant: &Tenant| by_creation(tenant.created, tenant.id.as_str());
    tenants.sort_by_cached_key(|tenant| cursor(tenant));
    Ok(native::ok(&page.of("tenants", tenants, |it| cursor(it), |it| TenantView::of(it))))
}

/// A key that is bound to a tenant changes none, itself least.
fn may_change(caller: &Caller) -> Result<(), Problem> {
    match caller.reaches_all() {
        true => Ok(()),
        false => Err(Problem::new(ProblemCode::Forbidden, "tenants are for administrators of all of them")),
    }
}

/// `POST /v1/tenants`
pub(super) async fn create(mut call: Call, caller: Caller) -> Result<Response, Problem> {
    may_change(&caller)?;
    let request: TenantRequest = call.request.json(call.settings.body_bytes_max).await?;
    let tenant = request.create(call.service.now())?;
    call.service.create_tenant(caller.actor(), tenant.clone()).await?;
    Ok(native::created(&format!("{PATH}/{}", tenant.id), &TenantView::of(&tenant)))
}

/// `GET /v1/tenants/{id}`
pub(super) async fn read(call: Call, caller: Caller) -> Result<Response, Problem> {
    let tenant = call.service.tenant(&caller.sight(), &call.params.parse("id")?)?;
    Ok(native::ok(&TenantView::of(&tenant)))
}

/// `PUT /v1/tenants/{id}`
pub(super) async fn update(mut call: Call, caller: Caller) -> Result<Response, Problem> {
    may_change(&caller)?;
    let stored = call.service.tenant(&caller.sight(), &call.params.parse("id")?)?;
    let request: TenantRequest = call.request.json(call.settings.body_bytes_max).await?;
    let tenant = request.update(&stored)?;
    call.service.update_tenant(caller.actor(), tenant.clone()).await?;
    Ok(native::ok(&TenantView::of(&tenant)))
}

/// `DELETE /v1/tenants/{id}`
pub(super) async fn delete(call: Call, caller: Caller) -> Result<Response, Problem> {
    may_change(&caller)?;
    let tenant = call.service.tenant(&caller.sight(), &call.params.parse("id")?)?;
    call.service.delete_tenant(caller.actor(), tenant.id.clone()).await?;
    Ok(native::no_content())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::request::parse_json;

    fn create(text: &str) -> Result<Tenant, Problem> {
        parse_json::<TenantRequest>(text.as_bytes()).unwrap().create(Timestamp::ZERO)
    }

    #[test]
    fn a_tenant_is_made_changed_and_shown() {
        let tenant = create(r#"{"id": "m1", "parent": "reseller"}"#).unwrap();
        assert_eq!((tenant.name.as_str(), tenant.parent.as_ref().map(TenantId::as_str)), ("m1", Some("reseller")));
        let view = serde_json::to_string(&TenantView::of(&tenant)).unwrap();
        let update = |text: &str| parse_json::<TenantRequest>(text.as_bytes()).unwrap().update(&tenant);
        assert_eq!(update(&view), Ok(tenant.clone()));
        assert_eq!(update(r#"{"parent": null}"#).unwrap().parent, None);
        assert_eq!(update(r#"{"name": "Shop"}"#).unwrap().name, "Shop");
        for wrong in [r#"{"id": "m2"}"#, r#"{"name": null}"#, r#"{"name": ""}"#, r#"{"parent": "m1"}"#] {
            assert!(update(wrong).is_err(), "{wrong}");
        }
        for wrong in ["{}", r#"{"id": "a b"}"#, r#"{"id": "a", "parent": "a"}"#, r#"{"id": "a", "created": "x"}"#] {
            assert!(create(wrong).is_err(), "{wrong}");
        }
    }
}
