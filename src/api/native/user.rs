//! People who sign in to the dashboard: `{"name", "role", "tenant" or null, "password"}` in at `/v1/users`, and a password that
//! the daemon made out once.

use serde::{Deserialize, Serialize};

use crate::api::caller::{Caller, forbidden, reach_in_body};
use crate::api::door::{Faults, Patch};
use crate::api::page::{Page, by_creation};
use crate::api::{Call, native};
use crate::http::problem::Problem;
use crate::http::response::Response;
use crate::model::user::password_of;
use crate::model::{Role, Secret, TenantId, User, UserName};
use crate::service::people::{ChangedUser, NewPassword, NewUser};

/// The path of people; a person's own path is this, a slash and his id.
pub const PATH: &str = "/v1/users";

/// The body of a create and of an update.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct UserRequest {
    id: Patch<String>,
    created: Patch<String>,
    totp: Patch<bool>,
    locked: Patch<bool>,
    recovery_codes: Patch<usize>,
    one_time_password: Patch<bool>,
    name: Patch<String>,
    role: Patch<String>,
    tenant: Patch<String>,
    password: Patch<Secret>,
}

/// What a create asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AskedUser {
    /// What he signs in with.
    pub name: UserName,
    /// What he may do.
    pub role: Role,
    /// The one tenant he belongs to, `Null` for all; when the body does not say, the caller's own reach decides.
    pub tenant: Patch<TenantId>,
    /// His password; `None` to have one made.
    pub password: Option<Secret>,
}

impl UserRequest {
    /// The person that is asked for, or a 400 that names every wrong field.
    pub fn create(self) -> Result<AskedUser, Problem> {
        let mut faults = Faults::default();
        let given = [
            ("/id", self.id != Patch::Absent),
            ("/created", self.created != Patch::Absent),
            ("/totp", self.totp != Patch::Absent),
            ("/locked", self.locked != Patch::Absent),
            ("/recovery_codes", self.recovery_codes != Patch::Absent),
            ("/one_time_password", self.one_time_password != Patch::Absent),
        ];
        for (pointer, _) in given.into_iter().filter(|(_, is_given)| *is_given) {
            faults.note(pointer, "is given by the daemon");
        }
        let name: Option<UserName> = match self.name.value() {
            Some(text) => faults.weigh("/name", text.parse()),
            None => {
                faults.note("/name", "is required: what the person signs in with");
                None
            }
        };
        let role = match self.role.value() {
            Some(text) => faults.weigh("/role", User::role_of(&text)),
            None => {
                faults.note("/role", "is required: one of read, operate, admin");
                None
            }
        };
        let tenant = match self.tenant {
            Patch::Absent => Patch::Absent,
            Patch::Null => Patch::Null,
            Patch::Value(text) => faults.weigh("/tenant", text.parse()).map_or(Patch::Absent, Patch::Value),
        };
        let password = match (self.password.value(), &name) {
            (Some(password), Some(name)) => faults.weigh("/password", password_of(password, name)),
            (Some(_), None) | (None, _) => None,
        };
        faults.into_result()?;
        let both = name.zip(role);
        let (name, role) = both.expect("no fault was noted, so both were read");
        Ok(AskedUser { name, role, tenant, password })
    }

    /// What is to change of the person `stored`: name, role and password. `"password": null` asks for one to be made.
    pub fn update(self, stored: &User) -> Result<ChangedUser, Problem> {
        let mut faults = Faults::default();
        let texts = [
            ("/id", self.id, Some(stored.id.to_string())),
            ("/created", self.created, Some(stored.created.to_string())),
            ("/tenant", self.tenant, stored.tenant.as_ref().map(|tenant| tenant.to_string())),
        ];
        let flags = [
            ("/totp", self.totp, stored.totp.is_some()),
            ("/locked", self.locked, stored.failures.lock()),
            ("/one_time_password", self.one_time_password, stored.one_time),
        ];
        for (pointer, field, own) in texts {
            faults.read_only(pointer, &field, |sent| sent == own.as_ref());
        }
        for (pointer, field, own) in flags {
            faults.read_only(pointer, &field, |sent| sent == Some(&own));
        }
        faults.read_only("/recovery_codes", &self.recovery_codes, |sent| sent == Some(&stored.recovery.len()));
        let (mut name, mut role) = (stored.name.clone(), stored.role);
        faults.set("/name", self.name, &mut name, |text| text.parse());
        faults.set("/role", self.role, &mut role, |text| User::role_of(&text));
        let password = match self.password {
            Patch::Absent => NewPassword::Keep,
            Patch::Null => NewPassword::Made,
            Patch::Value(password) => {
                faults.weigh("/password", password_of(password, &name)).map_or(NewPassword::Keep, NewPassword::Given)
            }
        };
        faults.into_result()?;
        let other = |is_other: bool| is_other.then_some(());
        Ok(ChangedUser {
            name: other(name != stored.name).map(|()| name),
            role: other(role != stored.role).map(|()| role),
            password,
        })
    }
}

/// A person in an answer.
#[derive(Debug, Serialize)]
pub struct UserView {
    id: String,
    name: String,
    role: &'static str,
    tenant: Option<String>,
    created: String,
    /// Whether he has enrolled a second factor.
    totp: bool,
    /// How many recovery codes are left.
    recovery_codes: usize,
    /// Whether too much was guessed wrong.
    locked: bool,
    /// Whether he must replace his password at the next sign-in.
    one_time_password: bool,
    /// Only in the answer to the request that had it made.
    #[serde(skip_serializing_if = "Option::is_none")]
    password: Option<String>,
}

impl UserView {
    /// How a person is shown: never his password, key or codes.
    pub fn of(user: &User) -> Self {
        UserView {
            id: user.id.to_string(),
            name: user.name.to_string(),
            role: user.role.as_str(),
            tenant: user.tenant.as_ref().map(|tenant| tenant.to_string()),
            created: user.created.to_string(),
            totp: user.totp.is_some(),
            recovery_codes: user.recovery.len(),
            locked: user.failures.lock(),
            one_time_password: user.one_time,
            password: None,
        }
    }

    /// With the password that was made, this once.
    pub fn with_password(user: &User, made: Option<&Secret>) -> Self {
        UserView { password: made.map(|made| made.expose().to_owned()), ..UserView::of(user) }
    }
}

/// `GET /v1/users`
pub(super) async fn list(call: Call, caller: Caller) -> Result<Response, Problem> {
    let query = call.request.query()?;
    let page = Page::from_query(call.request.path(), &query)?;
    let mut users = call.service.users(&caller.sight());
    let cursor = |user: &User| by_creation(user.created, &user.id.to_string());
    users.sort_by_cached_key(|user| cursor(user));
    Ok(native::ok(&page.of("users", users, |it| cursor(it), |it| UserView::of(&it))))
}

/// `POST /v1/users`
pub(super) async fn create(mut call: Call, caller: Caller) -> Result<Response, Problem> {
    let request: UserRequest = call.request.json(call.settings.body_bytes_max).await?;
    let AskedUser { name, role, tenant, password } = request.create()?;
    may_give(&caller, role)?;
    let tenant = reach_in_body(&caller, tenant)?;
    let (user, made) = call.service.create_user(caller.actor(), NewUser { name, role, tenant, password }).await?;
    Ok(native::created(&format!("{PATH}/{}", user.id), &UserView::with_password(&user, made.as_ref())))
}

/// `GET /v1/users/{id}`
pub(super) async fn read(call: Call, caller: Caller) -> Result<Response, Problem> {
    let user = call.service.user(&caller.sight(), call.params.parse("id")?)?;
    Ok(native::ok(&UserView::of(&user)))
}

/// `PUT /v1/users/{id}`
pub(super) async fn update(mut call: Call, caller: Caller) -> Result<Response, Problem> {
    let stored = call.service.user(&caller.sight(), call.params.parse("id")?)?;
    let request: UserRequest = call.request.json(call.settings.body_bytes_max).await?;
    let change = request.update(&stored)?;
    may_give(&caller, change.role.unwrap_or(stored.role))?;
    let (user, made) = call.service.update_user(caller.actor(), stored.id, change).await?;
    Ok(native::ok(&UserView::with_password(&user, made.as_ref())))
}

/// `DELETE /v1/users/{id}`
pub(super) async fn delete(call: Call, caller: Caller) -> Result<Response, Problem> {
    let user = call.service.user(&caller.sight(), call.params.parse("id")?)?;
    call.service.delete_user(caller.actor(), user.id).await?;
    Ok(native::no_content())
}

/// `POST /v1/users/{id}/unlock`
pub(super) async fn unlock(call: Call, caller: Caller) -> Result<Response, Problem> {
    let user = call.service.user(&caller.sight(), call.params.parse("id")?)?;
    let user = call.service.unlock_user(caller.actor(), user.id).await?;
    Ok(native::ok(&UserView::of(&user)))
}

/// `POST /v1/users/{id}/reset-totp`
pub(super) async fn reset_totp(call: Call, caller: Caller) -> Result<Response, Problem> {
    let user = call.service.user(&caller.sight(), call.params.parse("id")?)?;
    let user = call.service.reset_totp(caller.actor(), user.id).await?;
    Ok(native::ok(&UserView::of(&user)))
}

/// Nobody gives what he does not have.
fn may_give(caller: &Caller, role: Role) -> Result<(), Problem> {
    match caller.role().covers(role) {
        true => Ok(()),
        false => Err(forbidden("/role", "is more than the caller's own")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::request::parse_json;
    use crate::model::Timestamp;
    use crate::model::user::{Failures, PasswordHash};

    fn create(text: &str) -> Result<AskedUser, Problem> {
        parse_json::<UserRequest>(text.as_bytes()).unwrap().create()
    }

    fn stored() -> User {
        User {
            id: crate::model::UserId::from_chance([1; 6]),
            name: "anna".parse().unwrap(),
            role: Role::Operate,
            tenant: None,
            created: Timestamp::ZERO,
            password: PasswordHash::NOBODY,
            one_time: false,
            totp: None,
            recovery: Vec::new(),
            failures: Failures::default(),
            stamp: 0,
        }
    }

    #[test]
    fn a_person_asks_for_a_name_and_a_role() {
        let asked = create(r#"{"name": "Anna", "role": "read", "tenant": null, "password": "correct horse"}"#).unwrap();
        assert_eq!((asked.name.as_str(), asked.role, asked.tenant), ("anna", Role::Read, Patch::Null));
        let pointers = |text: &str| -> Vec<_> {
            create(text).unwrap_err().errors().iter().map(|error| error.pointer.clone()).collect()
        };
        assert_eq!(pointers("{}"), ["/name", "/role"]);
        let wrong =
            r#"{"id": "x", "locked": true, "name": "a", "role": "ingest", "tenant": "a b", "password": "short"}"#;
        assert_eq!(pointers(wrong), ["/id", "/locked", "/role", "/tenant", "/password"]);
        let problem = create(r#"{"name": "a", "role": "read", "password": "hunter2"}"#).unwrap_err();
        assert!(!format!("{problem} {:?}", problem.errors()).contains("hunter2"));
    }

    #[test]
    fn an_update_may_repeat_what_is_there_and_changes_the_rest() {
        let user = stored();
        let update = |text: &str| parse_json::<UserRequest>(text.as_bytes()).unwrap().update(&user);
        let own = serde_json::to_string(&UserView::of(&user)).unwrap();
        assert_eq!(update(&own), Ok(ChangedUser::default()));
        assert_eq!(update(r#"{"password": null}"#).unwrap().password, NewPassword::Made);
        assert_eq!(update(r#"{"role": "admin"}"#).unwrap().role, Some(Role::Admin));
        let problem = update(r#"{"tenant": "m1", "totp": true, "recovery_codes": 3, "name": ""}"#).unwrap_err();
        let pointers: Vec<_> = problem.errors().iter().map(|error| error.pointer.as_str()).collect();
        assert_eq!(pointers, ["/tenant", "/totp", "/recovery_codes", "/name"]);
    }
}
