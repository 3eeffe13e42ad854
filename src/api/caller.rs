//! Who is calling, and what that caller may see.

use crate::http::problem::{FieldError, Problem, ProblemCode};
use crate::http::request::{Peer, Request};
use crate::http::route::Access;
use crate::model::audit::{Actor, Origin, Who};
use crate::model::{Role, TenantId};
use crate::service::{Service, Sight};

use super::credentials::{named_tenant, shown_key};

/// A caller whose role covers what the route asks for. Only this module makes one, from a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Caller {
    role: Role,
    /// The tenant that the key is bound to.
    bound: Option<TenantId>,
    /// The tenant that an all-tenant caller names; it exists.
    named: Option<TenantId>,
    /// As the audit log names him.
    actor: Actor,
}

impl Caller {
    /// Who sent the request, once it is clear that `access` lets him in.
    ///
    /// A 401 without a key (on a Unix socket that is the operator) and with one that opens nothing; a 403 when its role does
    /// not do, and when it is bound to another tenant than `X-Tenant` names; a 400 when that tenant does not exist.
    pub(super) fn of(request: &Request, access: Access, service: &Service) -> Result<Self, Problem> {
        let (role, bound, who) = match (shown_key(request.headers())?, request.peer()) {
            (Some(secret), _) => {
                let key = service.key_of(secret.expose(), None);
                let key = key.ok_or_else(|| Problem::new(ProblemCode::Unauthorized, "no such key"))?;
                let who = Who::Key { id: key.id, role: key.role, tenant: key.tenant.clone() };
                (key.role, key.tenant.clone(), who)
            }
            (None, Peer::Unix(peer)) => (Role::Admin, None, Who::Operator { uid: peer.uid }),
            (None, Peer::Tcp(_)) => {
                let detail =
                    "show a key: Authorization, x-api-key, or x-AuthenticationKeyId with x-AuthenticationKeyValue";
                return Err(Problem::new(ProblemCode::Unauthorized, detail));
            }
        };
        if let Access::Role(needed) = access
            && !role.covers(needed)
        {
            let detail = format!("this asks for the role {}; the key has {}", needed.as_str(), role.as_str());
            return Err(Problem::new(ProblemCode::Forbidden, detail));
        }
        let named = named_tenant(request.headers())?;
        match (&bound, &named) {
            // The same words whether the other tenant exists or not.
            (Some(bound), Some(named)) if bound != named => {
                return Err(Problem::new(ProblemCode::Forbidden, "X-Tenant: the key is bound to another tenant"));
            }
            (None, Some(named)) if service.catalog().tenant(named).is_none() => {
                return Err(Problem::new(ProblemCode::UnknownTenant, "X-Tenant: there is no tenant of this id"));
            }
            (Some(_), _) | (None, _) => {}
        }
        let from = match request.peer() {
            Peer::Unix(peer) => Origin::Socket(peer),
            Peer::Tcp(address) => Origin::Address(address),
        };
        let actor = Actor { who, from, request: Some(request.id().to_owned()) };
        Ok(Caller { role, bound, named, actor })
    }

    /// Who this is in the audit log: each verb that changes something takes it.
    pub fn actor(&self) -> &Actor {
        &self.actor
    }

    /// Whether the caller would be let in as the same one at this moment: a key may be deleted, or given less, while its
    /// holder is being answered.
    pub fn still_stands(&self, service: &Service) -> bool {
        match &self.actor.who {
            Who::Operator { .. } | Who::System => true,
            Who::Key { id, role, tenant } => {
                service.catalog().key(*id).is_some_and(|key| key.role == *role && key.tenant == *tenant)
            }
        }
    }

    /// What the caller sees by id: its one tenant, or, when it is bound to none and names none, all of them.
    pub fn sight(&self) -> Sight {
        match self.bound.as_ref().or(self.named.as_ref()) {
            Some(one) => Sight::One(one.clone()),
            None => Sight::All,
        }
    }

    /// The tenant that the caller lists and creates for.
    pub fn tenant(&self) -> TenantId {
        let one = self.bound.as_ref().or(self.named.as_ref());
        one.cloned().unwrap_or_else(TenantId::default_tenant)
    }

    /// The tenant that a body names, where it may: the caller's own unless it names another that the caller may act for.
    pub fn tenant_in_body(&self, field: Option<TenantId>) -> Result<TenantId, Problem> {
        match field {
            Some(tenant) if self.sight().takes(&tenant) => Ok(tenant),
            Some(_) => Err(forbidden("/tenant", "is another one than the caller acts for")),
            None => Ok(self.tenant()),
        }
    }

    /// Whether the caller is bound to no tenant.
    pub fn reaches_all(&self) -> bool {
        self.bound.is_none()
    }

    /// Whether the caller administers the whole installation.
    pub fn is_house_admin(&self) -> bool {
        self.reaches_all() && self.role.covers(Role::Admin)
    }

    /// Whether the caller may be shown payloads.
    pub fn sees_payloads(&self) -> bool {
        self.role.covers(Role::Operate)
    }
}

/// A 403 that names the field it is about.
pub(super) fn forbidden(pointer: &str, detail: &str) -> Problem {
    let error = FieldError { pointer: pointer.to_owned(), detail: detail.to_owned() };
    Problem::of_fields(ProblemCode::Forbidden, vec![error])
}
