//! Who is calling over the API: the operator on the socket, or the holder of a key.

use crate::http::problem::{Problem, ProblemCode};
use crate::http::request::{Peer, Request};
use crate::http::route::Access;
use crate::model::audit::{Actor, Origin, Who};
use crate::model::{Role, TenantId};
use crate::service::{Service, Sight};

pub use crate::mouth::caller::Caller;
pub(super) use crate::mouth::caller::forbidden;

use super::credentials::{named_tenant, shown_key};
use super::door::{Faults, Patch};

/// Who sent the request, once it is clear that `access` lets him in.
///
/// A 401 without a key (on a Unix socket that is the operator) and with one that opens nothing; a 403 when its role does
/// not do, and when it is bound to another tenant than `X-Tenant` names; a 400 when that tenant does not exist.
pub(super) fn of(request: &Request, access: Access, service: &Service) -> Result<Caller, Problem> {
    let (role, bound, who) = match (shown_key(request.headers())?, request.peer()) {
        (Some(secret), _) => {
            let key = service.key_of(secret.expose(), None);
            let key = key.ok_or_else(|| Problem::new(ProblemCode::Unauthorized, "no such key"))?;
            let who = Who::Key { id: key.id, role: key.role, tenant: key.tenant.clone() };
            (key.role, key.tenant.clone(), who)
        }
        (None, Peer::Unix(peer)) => (Role::Admin, None, Who::Operator { uid: peer.uid }),
        (None, Peer::Tcp(_)) => {
            let detail = "show a key: Authorization, x-api-key, or x-AuthenticationKeyId with x-AuthenticationKeyValue";
            return Err(Problem::new(ProblemCode::Unauthorized, detail));
        }
    };
    let from = match request.peer() {
        Peer::Unix(peer) => Origin::Socket(peer),
        Peer::Tcp(address) => Origin::Address(address),
    };
    let caller = Caller::new(role, bound, Actor { who, from, request: Some(request.id().to_owned()) });
    lets_in(&caller, access)?;
    caller.naming(named_tenant(request.headers())?, service)
}

/// A 403 unless the caller's role covers what the route asks for.
pub(super) fn lets_in(caller: &Caller, access: Access) -> Result<(), Problem> {
    match access {
        Access::Role(needed) if !caller.role().covers(needed) => {
            let detail = format!("this asks for the role {}; the key has {}", needed.as_str(), caller.role().as_str());
            Err(Problem::new(ProblemCode::Forbidden, detail))
        }
        Access::Role(_) | Access::Public => Ok(()),
    }
}

/// Whom something that the caller makes reaches, a key or a person: the one tenant that the body names, or all (`None`).
///
/// What the body does not say, the caller's own reach does: nobody makes what reaches further. All tenants are asked for in so
/// many words, for that must not be what a forgotten field leads to.
pub(super) fn reach_in_body(caller: &Caller, field: Patch<TenantId>) -> Result<Option<TenantId>, Problem> {
    match (field, caller.sight()) {
        (Patch::Absent, Sight::All) => {
            let mut faults = Faults::default();
            faults.note("/tenant", "is required: a tenant's id, or null for all");
            Err(faults.into_result().expect_err("a fault was noted"))
        }
        (Patch::Null, Sight::All) => Ok(None),
        (Patch::Absent, Sight::One(own)) => Ok(Some(own)),
        (Patch::Null, Sight::One(_)) => Err(forbidden("/tenant", "the caller acts for one tenant only")),
        (Patch::Value(tenant), _) => caller.tenant_in_body(Some(tenant)).map(Some),
    }
}
