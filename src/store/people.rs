//! People on disk: who is added and changed, and every try at the door.
//!
//! What is tried is weighed inside the writer: the count of what was guessed wrong, the last step of a second factor and the
//! recovery codes that are left are read and written in one transaction. So however many tries come at once, the tenth wrong one
//! locks and the eleventh is refused, a code is accepted once, and a restart forgets none of it.
//!
//! A try that is about nobody, or about somebody who is locked already, is written too: it costs what a wrong password costs,
//! and tells nothing by its time. Such tries are counted in one row, and the audit log tells of them once a minute at most, so
//! that whoever knocks for ever does not fill the disk.

use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::model::audit::{self, Action, Deed};
use crate::model::user::{Factor, PasswordHash, RecoveryDigest, Totp, TotpKey};
use crate::model::{Role, Secret, Timestamp, User, UserId, UserName};

use super::audit::{Effect, Steer};
use super::op::{Rejected, done, kind, refused};
use super::writer::{ApplyError, Batch};

/// About what a person's record takes.
const USER_BYTES: usize = 1024;

/// Tries about nobody, or about somebody who is locked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub(super) struct Strangers {
    /// How many there were since the log was told.
    pub(super) count: u64,
    /// When it was told.
    pub(super) told: Timestamp,
}

/// How often the audit log is told of them, at most.
const TOLD_EVERY: Duration = Duration::from_secs(60);

/// Whether the last administrator of the whole installation may go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LastAdmin {
    /// He stays: nobody could let anybody in any more but over the admin socket.
    Stays,
    /// He may go: whoever says so sits at the admin socket.
    MayGo,
}

/// Adds a person.
pub struct CreateUser {
    /// Whom.
    pub user: User,
}

impl Steer for CreateUser {
    type Answer = Result<(), Rejected>;

    fn bytes(&self) -> usize {
        USER_BYTES
    }

    fn steer(self, batch: &mut Batch<'_>) -> Result<Effect<Self::Answer>, ApplyError> {
        let CreateUser { user } = self;
        let catalog = batch.catalog();
        if catalog.user(user.id).is_some() {
            return refused(Err(Rejected::Exists));
        }
        if catalog.user_by_name(&user.name).is_some() {
            return refused(Err(Rejected::NameTaken));
        }
        if user.tenant.as_ref().is_some_and(|tenant| catalog.tenant(tenant).is_none()) {
            return refused(Err(Rejected::UnknownTenant));
        }
        let user = put(batch, user)?;
        let after = audit::user(&user, None);
        done(Ok(()), Action::UserCreate, user.tenant.as_ref(), user.id, (Value::Null, after))
    }
}

/// What somebody else changes of a person.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct UserChange {
    /// Another login name.
    pub name: Option<UserName>,
    /// Another role.
    pub role: Option<Role>,
    /// Another password, and whether it is to be replaced at the next sign-in.
    pub password: Option<(PasswordHash, bool)>,
}

/// Changes a person. The counters and the second factor stay as they are.
pub struct UpdateUser {
    /// Whom.
    pub id: UserId,
    /// What.
    pub change: UserChange,
    /// Whether this may leave no administrator.
    pub last_admin: LastAdmin,
}

impl Steer for UpdateUser {
    type Answer = Result<Arc<User>, Rejected>;

    fn bytes(&self) -> usize {
        USER_BYTES
    }

    fn steer(self, batch: &mut Batch<'_>) -> Result<Effect<Self::Answer>, ApplyError> {
        let UserChange { name, role, password } = self.change;
        let Some(before) = find(batch, self.id) else { return refused(Err(Rejected::Unknown)) };
        let mut user = User::clone(&before);
        if let Some(name) = name {
            if batch.catalog().user_by_name(&name).is_some_and(|other| other.id != user.id) {
                return refused(Err(Rejected::NameTaken));
            }
            user.name = name;
        }
        user.role = role.unwrap_or(user.role);
        if let Some((password, one_time)) = password {
            (user.password, user.one_time) = (password, one_time);
        }
        if user.role != before.role || user.password != before.password {
            user.stamp = user.stamp.wrapping_add(1);
        }
        if before.is_house_admin() && !user.is_house_admin() && is_last(batch, &before, self.last_admin) {
            return refused(Err(Rejected::LastAdmin));
        }
        change(batch, &before, user, Action::UserUpdate)
    }
}

/// Removes a person.
pub struct DeleteUser {
    /// Whom.
    pub id: UserId,
    /// Whether this may leave no administrator.
    pub last_admin: LastAdmin,
}

impl Steer for DeleteUser {
    type Answer = Result<(), Rejected>;

    fn bytes(&self) -> usize {
        64
    }

    fn steer(self, batch: &mut Batch<'_>) -> Result<Effect<Self::Answer>, ApplyError> {
        let Some(user) = find(batch, self.id) else { return refused(Err(Rejected::Unknown)) };
        if user.is_house_admin() && is_last(batch, &user, self.last_admin) {
            return refused(Err(Rejected::LastAdmin));
        }
        batch.things.remove((kind::USER, user.id.to_string().as_bytes()))?;
        batch.catalog_mut().remove_user(user.id);
        let before = audit::user(&user, None);
        done(Ok(()), Action::UserDelete, user.tenant.as_ref(), user.id, (before, Value::Null))
    }
}

/// Unlocks a person's login: what was guessed wrong counts no more.
pub struct UnlockUser {
    /// Whose.
    pub id: UserId,
}

impl Steer for UnlockUser {
    type Answer = Result<Arc<User>, Rejected>;

    fn bytes(&self) -> usize {
        USER_BYTES
    }

    fn steer(self, batch: &mut Batch<'_>) -> Result<Effect<Self::Answer>, ApplyError> {
        let Some(before) = find(batch, self.id) else { return refused(Err(Rejected::Unknown)) };
        let mut user = User::clone(&before);
        user.failures.clear();
        change(batch, &before, user, Action::UserUnlock)
    }
}

/// Takes a person's second factor and recovery codes away. He must enrol a new one before anything else.
pub struct ResetTotp {
    /// Whose.
    pub id: UserId,
}

impl Steer for ResetTotp {
    type Answer = Result<Arc<User>, Rejected>;

    fn bytes(&self) -> usize {
        USER_BYTES
    }

    fn steer(self, batch: &mut Batch<'_>) -> Result<Effect<Self::Answer>, ApplyError> {
        let Some(before) = find(batch, self.id) else { return refused(Err(Rejected::Unknown)) };
        let mut user = User { totp: None, recovery: Vec::new(), ..User::clone(&before) };
        user.stamp = user.stamp.wrapping_add(1);
        change(batch, &before, user, Action::UserResetTotp)
    }
}

// -------------------------------------------------------------------------------------------------------- at the door

/// What a try is about, as it was when the try began: where that has changed since, the try is about nobody.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tried {
    /// Who.
    pub id: UserId,
    /// His [`User::stamp`].
    pub stamp: u32,
}

/// Whom a try has let in, as he is now; `None` when it was refused.
pub type LetIn = Option<Arc<User>>;

/// Somebody has typed a password for a name.
pub struct TryPassword {
    /// Whose name it is; `None` when it is nobody's.
    pub tried: Option<Tried>,
    /// Whether the password was right.
    pub is_right: bool,
}

impl Steer for TryPassword {
    type Answer = LetIn;

    fn bytes(&self) -> usize {
        USER_BYTES
    }

    fn steer(self, batch: &mut Batch<'_>) -> Result<Effect<LetIn>, ApplyError> {
        match self.tried.and_then(|tried| standing(batch, tried)) {
            Some(user) if user.failures.lock() => count_stranger(batch),
            Some(user) if self.is_right => refused(Some(user)),
            Some(user) => count(batch, &user, Factor::Password),
            None => count_stranger(batch),
        }
    }
}

/// What a second factor is proved for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// To get in.
    SignIn,
    /// To do what asks for a fresh proof.
    StepUp,
}

impl Purpose {
    fn action(self) -> Action {
        match self {
            Purpose::SignIn => Action::UserSignIn,
            Purpose::StepUp => Action::UserStepUp,
        }
    }
}

/// Somebody whose password was right has typed a code of his app. A step is accepted once, and none after a later one.
pub struct TryCode {
    /// Who.
    pub tried: Tried,
    /// What he typed.
    pub code: Secret,
    /// What for.
    pub purpose: Purpose,
}

impl Steer for TryCode {
    type Answer = LetIn;

    fn bytes(&self) -> usize {
        USER_BYTES
    }

    fn steer(self, batch: &mut Batch<'_>) -> Result<Effect<LetIn>, ApplyError> {
        let Some(before) = standing(batch, self.tried).filter(|user| !user.failures.lock()) else {
            return count_stranger(batch);
        };
        let accepted = before.totp.as_ref().and_then(|Totp { key, step: last }| {
            let step = key.step_of(self.code.expose(), batch.now).filter(|step| step > last)?;
            Some(Totp { key: key.clone(), step })
        });
        let Some(totp) = accepted else { return count(batch, &before, Factor::Code) };
        let mut user = User { totp: Some(totp), ..User::clone(&before) };
        user.failures.forgive(batch.now);
        let user = put(batch, user)?;
        let (action, tenant, object) = (self.purpose.action(), user.tenant.clone(), user.id);
        done(Some(user), action, tenant.as_ref(), object, (Value::Null, json!({"by": "totp"})))
    }
}

/// Somebody has typed a recovery code: it is used up, and unlocks the login.
pub struct TryRecovery {
    /// Whose; `None` when the name is nobody's.
    pub tried: Option<Tried>,
    /// Whether the password was right.
    pub is_right: bool,
    /// What would be kept of what he typed, when that could be a code at all.
    pub digest: Option<RecoveryDigest>,
    /// What for.
    pub purpose: Purpose,
}

impl Steer for TryRecovery {
    type Answer = LetIn;

    fn bytes(&self) -> usize {
        USER_BYTES
    }

    fn steer(self, batch: &mut Batch<'_>) -> Result<Effect<LetIn>, ApplyError> {
        let Some(before) = self.tried.and_then(|tried| standing(batch, tried)) else { return count_stranger(batch) };
        let mut user = User::clone(&before);
        let is_taken = self.is_right && self.digest.is_some_and(|digest| digest.take_from(&mut user.recovery));
        if !is_taken {
            let factor = if self.is_right { Factor::Code } else { Factor::Password };
            return if before.failures.lock() { count_stranger(batch) } else { count(batch, &before, factor) };
        }
        user.failures.clear();
        let user = put(batch, user)?;
        let (action, tenant, object) = (self.purpose.action(), user.tenant.clone(), user.id);
        let after = json!({"by": "recovery_code", "recovery_codes": user.recovery.len()});
        done(Some(user), action, tenant.as_ref(), object, (Value::Null, after))
    }
}

/// A person enrols a second factor: he shows by a code that his app has the key.
pub struct Enrol {
    /// Who.
    pub tried: Tried,
    /// The key that he was shown.
    pub key: TotpKey,
    /// What he typed.
    pub code: Secret,
    /// What is kept of his new recovery codes.
    pub recovery: Vec<RecoveryDigest>,
}

impl Steer for Enrol {
    type Answer = Result<Arc<User>, EnrolRefused>;

    fn bytes(&self) -> usize {
        USER_BYTES
    }

    fn steer(self, batch: &mut Batch<'_>) -> Result<Effect<Self::Answer>, ApplyError> {
        let Some(before) = standing(batch, self.tried) else { return refused(Err(EnrolRefused::Changed)) };
        let Some(step) = self.key.step_of(self.code.expose(), batch.now) else {
            return refused(Err(EnrolRefused::WrongCode));
        };
        let totp = Some(Totp { key: self.key, step });
        let mut user = User { totp, recovery: self.recovery, ..User::clone(&before) };
        user.stamp = user.stamp.wrapping_add(1);
        user.failures.forgive(batch.now);
        let user = put(batch, user)?;
        let (tenant, object) = (user.tenant.clone(), user.id);
        let changes = audit::changes(audit::user(&before, None), audit::user(&user, Some(&before)));
        done(Ok(user), Action::UserEnrol, tenant.as_ref(), object, changes)
    }
}

/// Why a second factor was not enrolled. Nothing has changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EnrolRefused {
    /// The code is not the key's.
    WrongCode,
    /// The person was changed meanwhile.
    Changed,
}

/// A person chooses another password.
pub struct ChangePassword {
    /// Who.
    pub tried: Tried,
    /// Of which.
    pub password: PasswordHash,
}

impl Steer for ChangePassword {
    type Answer = Result<Arc<User>, Rejected>;

    fn bytes(&self) -> usize {
        USER_BYTES
    }

    fn steer(self, batch: &mut Batch<'_>) -> Result<Effect<Self::Answer>, ApplyError> {
        let Some(before) = standing(batch, self.tried) else { return refused(Err(Rejected::Stale)) };
        let mut user = User { password: self.password, one_time: false, ..User::clone(&before) };
        user.stamp = user.stamp.wrapping_add(1);
        change(batch, &before, user, Action::UserSetPassword)
    }
}

/// Notes that a person has signed out.
pub struct NoteSignOut {
    /// Who.
    pub id: UserId,
}

impl Steer for NoteSignOut {
    type Answer = ();

    fn bytes(&self) -> usize {
        64
    }

    fn steer(self, batch: &mut Batch<'_>) -> Result<Effect<()>, ApplyError> {
        let Some(user) = find(batch, self.id) else { return refused(()) };
        done((), Action::UserSignOut, user.tenant.as_ref(), user.id, (Value::Null, Value::Null))
    }
}

fn find(batch: &Batch<'_>, id: UserId) -> Option<Arc<User>> {
    batch.catalog().user(id).map(Arc::clone)
}

/// Who a try is about, if he is as he was.
fn standing(batch: &Batch<'_>, tried: Tried) -> Option<Arc<User>> {
    find(batch, tried.id).filter(|user| user.stamp == tried.stamp)
}

fn is_last(batch: &Batch<'_>, user: &User, last_admin: LastAdmin) -> bool {
    let others = || batch.catalog().users().any(|other| other.id != user.id && other.is_house_admin());
    last_admin == LastAdmin::Stays && !others()
}

fn put(batch: &mut Batch<'_>, user: User) -> Result<Arc<User>, ApplyError> {
    batch.things.put((kind::USER, user.id.to_string().as_bytes()), &user)?;
    Ok(batch.catalog_mut().put_user(user))
}

fn change(
    batch: &mut Batch<'_>,
    before: &User,
    user: User,
    action: Action,
) -> Result<Effect<Result<Arc<User>, Rejected>>, ApplyError> {
    let user = put(batch, user)?;
    let changes = audit::changes(audit::user(before, None), audit::user(&user, Some(before)));
    let (tenant, object) = (user.tenant.clone(), user.id);
    done(Ok(user), action, tenant.as_ref(), object, changes)
}

/// Counts what somebody guessed wrong.
fn count(batch: &mut Batch<'_>, before: &User, factor: Factor) -> Result<Effect<LetIn>, ApplyError> {
    let mut user = before.clone();
    user.failures.note(factor, batch.now);
    let user = put(batch, user)?;
    let (count, locked) = (user.failures.count(), user.failures.lock());
    let after = json!({"failures": count, "locked": locked, "wrong": factor.as_str()});
    done(None, Action::UserSignInRefused, user.tenant.as_ref(), user.id, (Value::Null, after))
}

/// Counts a try that is about nobody, and tells the log of them now and then. Which name was typed is not told: people type
/// their password there.
fn count_stranger(batch: &mut Batch<'_>) -> Result<Effect<LetIn>, ApplyError> {
    let mut strangers = batch.strangers()?;
    strangers.count += 1;
    let (count, now) = (strangers.count, batch.now);
    // A clock that was set back must not keep the log waiting.
    let is_time = now.since(strangers.told) >= TOLD_EVERY || now < strangers.told;
    if is_time {
        strangers = Strangers { count: 0, told: now };
    }
    batch.set_strangers(&strangers)?;
    let after = json!({"refused": count});
    let deed = Deed { action: Action::UserSignInRefused, tenant: None, object: None, before: Value::Null, after };
    Ok(if is_time { Effect::Done(None, vec![deed]) } else { Effect::Refused(None) })
}

#[cfg(test)]
mod tests;
