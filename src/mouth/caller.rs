//! Who is calling, and what that caller may see and do: the same for a key over HTTP and for a person on the dashboard.

use crate::http::problem::{FieldError, Problem, ProblemCode};
use crate::model::audit::{Actor, Origin, Who};
use crate::model::{Role, TenantId};
use crate::service::{Service, Sight};

/// A caller that has been let in. Each mouth makes one of what it was shown: a key, a session, a socket's peer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Caller {
    role: Role,
    /// The tenant that the caller is bound to.
    bound: Option<TenantId>,
    /// The tenant that an all-tenant caller names; it exists.
    named: Option<TenantId>,
    /// As the audit log names him.
    actor: Actor,
    /// Whether he has shown a second factor a moment ago.
    has_just_proved: bool,
}

impl Caller {
    /// A caller with this role, bound to this tenant or to none, as the audit log is to name him.
    pub fn new(role: Role, bound: Option<TenantId>, actor: Actor) -> Self {
        Caller { role, bound, named: None, actor, has_just_proved: false }
    }

    /// The same caller, who has shown a second factor a moment ago: a person in a session, never the holder of a key.
    #[must_use]
    pub fn proved(self) -> Self {
        Caller { has_just_proved: true, ..self }
    }

    /// The same caller, acting for the tenant that it names.
    ///
    /// A 403 when it is bound to another one, a 400 when that tenant does not exist.
    pub fn naming(self, named: Option<TenantId>, service: &Service) -> Result<Self, Problem> {
        match (&self.bound, &named) {
            // The same words whether the other tenant exists or not.
            (Some(bound), Some(named)) if bound != named => {
                return Err(Problem::new(ProblemCode::Forbidden, "X-Tenant: the key is bound to another tenant"));
            }
            (None, Some(named)) if service.catalog().tenant(named).is_none() => {
                return Err(Problem::new(ProblemCode::UnknownTenant, "X-Tenant: there is no tenant of this id"));
            }
            (Some(_), _) | (None, _) => {}
        }
        Ok(Caller { named, ..self })
    }

    /// What the caller may do.
    pub fn role(&self) -> Role {
        self.role
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
            Who::User { id, role, tenant, .. } => {
                service.catalog().user(*id).is_some_and(|user| user.role == *role && user.tenant == *tenant)
            }
            Who::Stranger => false,
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

    /// Whether the caller came over the admin socket: the machine itself has let him in, whatever key he shows.
    fn is_on_socket(&self) -> bool {
        matches!(self.actor.from, Origin::Socket(_))
    }

    /// Whether somebody has shown at this moment that it is he: with a second factor, or by opening the admin socket. Whoever holds
    /// a key over TCP has shown one factor only.
    pub fn is_proved(&self) -> bool {
        self.has_just_proved || self.is_on_socket()
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
pub fn forbidden(pointer: &str, detail: &str) -> Problem {
    let error = FieldError { pointer: pointer.to_owned(), detail: detail.to_owned() };
    Problem::of_fields(ProblemCode::Forbidden, vec![error])
}
