//! People and the door: who is added, and how he signs in.
//!
//! The door has two steps (S1.4): name and password, then a code of the person's app, or a recovery code. Whoever has no second
//! factor enrols one before anything else (S1.5, decision D20), and whoever has a password that the daemon made replaces it.
//! Each step ends the session of the one before and begins another under a fresh token.
//!
//! A name that nobody has costs what a wrong password costs and is answered in the same words, as is a login that is locked:
//! who has a login here, and whether a password was right, is not told to whoever has to guess.

mod hashing;
mod sessions;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use crate::model::audit::{Actor, Origin, Who};
use crate::model::id::base32;
use crate::model::user::{Failures, PasswordHash, RECOVERY_CODES, RecoveryDigest, TotpKey, password_from, password_of};
use crate::model::{Role, Secret, TenantId, User, UserId, UserName};
use crate::store::people::{
    ChangePassword, CreateUser, DeleteUser, Enrol, EnrolRefused, LastAdmin, NoteSignOut, Purpose, ResetTotp, Tried,
    TryCode, TryPassword, TryRecovery, UnlockUser, UpdateUser, UserChange,
};

use super::{Error, Service, Sight, created};

pub use sessions::{AGE_MAX, IDLE_MAX, Stage};

use hashing::Hashing;
use sessions::{Session, Sessions, TOKEN_BYTES};

/// What the service keeps of people beside the store.
#[derive(Debug, Default)]
pub(super) struct People {
    hashing: Hashing,
    sessions: Mutex<Sessions>,
}

impl People {
    fn sessions(&self) -> MutexGuard<'_, Sessions> {
        self.sessions.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A person to be added.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewUser {
    /// What he signs in with.
    pub name: UserName,
    /// What he may do.
    pub role: Role,
    /// The one tenant whose things he sees; `None` for all.
    pub tenant: Option<TenantId>,
    /// His password, which will do; `None` to have one made that he must replace.
    pub password: Option<Secret>,
}

/// What is changed of a person by somebody else.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ChangedUser {
    /// Another login name.
    pub name: Option<UserName>,
    /// Another role.
    pub role: Option<Role>,
    /// Another password.
    pub password: NewPassword,
}

/// Which password a person gets from somebody else.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum NewPassword {
    /// The one that he has.
    #[default]
    Keep,
    /// One that the daemon makes, and that he must replace at his next sign-in.
    Made,
    /// This one.
    Given(Secret),
}

/// Who knocks: from where, in which request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Knock {
    /// From where.
    pub from: Origin,
    /// The request's id.
    pub request: Option<String>,
}

impl Knock {
    fn of_stranger(&self) -> Actor {
        Actor { who: Who::Stranger, from: self.from, request: self.request.clone() }
    }

    /// This person, who knocks.
    pub fn of(&self, user: &User) -> Actor {
        Actor { who: Who::user(user), from: self.from, request: self.request.clone() }
    }
}

/// Why somebody was not let in, or on.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DoorError {
    /// The name, the password, or the recovery code beside them is wrong, or the login is locked: the same words for all.
    #[error("the name or the password is wrong, or the login is locked")]
    Refused,
    /// The code is wrong, or has been used.
    #[error("the code is wrong, or has been used already")]
    WrongCode,
    /// That was one wrong code too many.
    #[error("the login is locked now; an administrator or a recovery code unlocks it")]
    Locked,
    /// There is no such session any more, or it has not come so far.
    #[error("the session has ended; sign in again")]
    Ended,
    /// It asks for a fresh proof of the second factor.
    #[error("show a code of your authenticator app first")]
    StepUp,
    /// The new password will not do.
    #[error("{0}")]
    BadPassword(String),
    /// It cannot be done at this moment.
    #[error("{0}")]
    NotNow(#[from] Error),
}

impl From<crate::store::StoreFailed> for DoorError {
    fn from(failed: crate::store::StoreFailed) -> Self {
        DoorError::NotNow(failed.into())
    }
}

/// A step through the door: the session's new token, which is its holder's alone, and how far he has come.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    /// The token; whoever shows it is the person.
    pub token: Secret,
    /// What is next.
    pub stage: Stage,
}

/// A session, as whoever holds its token is seen.
#[derive(Debug, Clone)]
pub struct Seen {
    /// The person, as he is at this moment.
    pub user: Arc<User>,
    /// How far he has come. Nothing but the door is for whoever is not [`Stage::Inside`].
    pub stage: Stage,
    /// For how long the proof of his second factor stays fresh; `None` when it is not.
    pub fresh_for: Option<Duration>,
}

/// What a person is shown who enrols a second factor.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Enrolment {
    /// The key, to be typed.
    pub key: Secret,
    /// The key, for a QR code: `otpauth://totp/…`.
    pub url: Secret,
}

impl Service {
    // ------------------------------------------------------------------------------------------------------ people

    /// The people in sight, by id. Whoever sees one tenant sees the people who belong to it.
    pub fn users(&self, sight: &Sight) -> Vec<Arc<User>> {
        let sees = |user: &&Arc<User>| match sight {
            Sight::All => true,
            Sight::One(one) => user.tenant.as_ref() == Some(one),
        };
        self.catalog().users().filter(sees).map(Arc::clone).collect()
    }

    /// The person of an id.
    pub fn user(&self, sight: &Sight, id: UserId) -> Result<Arc<User>, Error> {
        self.users(sight).into_iter().find(|user| user.id == id).ok_or(Error::NotFound("user"))
    }

    /// Adds a person. Answers the password that was made, which is shown once and not kept.
    pub async fn create_user(&self, actor: &Actor, new: NewUser) -> Result<(User, Option<Secret>), Error> {
        let NewUser { name, role, tenant, password } = new;
        let (password, made) = match password {
            Some(password) => (self.hash(password).await?, None),
            None => {
                let made = password_from(self.chance_of());
                (self.hash(made.clone()).await?, Some(made))
            }
        };
        let user = User {
            id: UserId::from_chance(self.chance_of()),
            name,
            role,
            tenant,
            created: self.now(),
            password,
            one_time: made.is_some(),
            totp: None,
            recovery: Vec::new(),
            failures: Failures::default(),
            stamp: 0,
        };
        created(self.store.steer(actor, CreateUser { user: user.clone() }).await?.answer, "user")?;
        Ok((user, made))
    }

    /// Changes a person. Answers how he is now, and the password that was made, if one was.
    ///
    /// Another role or password ends his sessions.
    pub async fn update_user(
        &self,
        actor: &Actor,
        id: UserId,
        change: ChangedUser,
    ) -> Result<(Arc<User>, Option<Secret>), Error> {
        let ChangedUser { name, role, password } = change;
        let (password, made) = match password {
            NewPassword::Keep => (None, None),
            NewPassword::Given(password) => (Some((self.hash(password).await?, false)), None),
            NewPassword::Made => {
                let made = password_from(self.chance_of());
                (Some((self.hash(made.clone()).await?, true)), Some(made))
            }
        };
        let change = UserChange { name, role, password };
        let update = UpdateUser { id, change, last_admin: last_admin_by(actor) };
        let user = created(self.store.steer(actor, update).await?.answer, "user")?;
        Ok((user, made))
    }

    /// Removes a person: his sessions have ended.
    pub async fn delete_user(&self, actor: &Actor, id: UserId) -> Result<(), Error> {
        let delete = DeleteUser { id, last_admin: last_admin_by(actor) };
        created(self.store.steer(actor, delete).await?.answer, "user")?;
        self.people.sessions().end_all_of(id);
        Ok(())
    }

    /// Unlocks a person's login.
    pub async fn unlock_user(&self, actor: &Actor, id: UserId) -> Result<Arc<User>, Error> {
        created(self.store.steer(actor, UnlockUser { id }).await?.answer, "user")
    }

    /// Takes a person's second factor away, for he has lost it. He enrols another one at his next sign-in.
    pub async fn reset_totp(&self, actor: &Actor, id: UserId) -> Result<Arc<User>, Error> {
        created(self.store.steer(actor, ResetTotp { id }).await?.answer, "user")
    }

    async fn hash(&self, password: Secret) -> Result<PasswordHash, Error> {
        let salt = self.chance_of();
        self.people.hashing.run(move || PasswordHash::of(&password, salt)).await
    }

    // ------------------------------------------------------------------------------------------------------ the door

    /// The first step: name and password, as they were typed.
    pub async fn sign_in(&self, knock: &Knock, name: &str, password: Secret) -> Result<Step, DoorError> {
        let (tried, is_right) = self.weigh(name, password).await?;
        let let_in = self.store.steer(&knock.of_stranger(), TryPassword { tried, is_right }).await?.answer;
        let user = let_in.ok_or(DoorError::Refused)?;
        let stage = if user.totp.is_some() { Stage::Code } else { Stage::Enrol };
        Ok(self.begin(&user, stage, false))
    }

    /// The second step: a code of the app, or a recovery code, as it was typed.
    pub async fn show_code(&self, knock: &Knock, token: &str, typed: &str) -> Result<Step, DoorError> {
        let (session, user) = self.session(token, Stage::Code)?;
        match self.try_code(knock, &user, session.tried, typed, Purpose::SignIn).await {
            Ok(user) => {
                self.people.sessions().end(token);
                Ok(self.begin(&user, stage_after_code(&user), true))
            }
            Err(DoorError::Locked) => {
                self.people.sessions().end(token);
                Err(DoorError::Locked)
            }
            Err(other) => Err(other),
        }
    }

    /// Both steps at once, with a recovery code: the way in for whoever is locked out. It unlocks the login.
    pub async fn recover(&self, knock: &Knock, name: &str, password: Secret, typed: &str) -> Result<Step, DoorError> {
        let (tried, is_right) = self.weigh(name, password).await?;
        let recovery = TryRecovery { tried, is_right, digest: RecoveryDigest::of(typed), purpose: Purpose::SignIn };
        let let_in = self.store.steer(&knock.of_stranger(), recovery).await?.answer;
        let user = let_in.ok_or(DoorError::Refused)?;
        Ok(self.begin(&user, stage_after_code(&user), true))
    }

    /// What to show to whoever has to enrol a second factor, or wants another one and has just proved the present one.
    pub fn enrolment(&self, token: &str) -> Result<Enrolment, DoorError> {
        let (_, user) = self.enrolling(token)?;
        let fresh = TotpKey::from_chance(self.chance_of());
        let mut sessions = self.people.sessions();
        let session = sessions.touch(token, Instant::now()).ok_or(DoorError::Ended)?;
        let key = session.key.get_or_insert(fresh);
        Ok(Enrolment { key: Secret::new(key.expose()), url: key.url(&user.name) })
    }

    /// The app has the key: here is a code. Answers the recovery codes, which are shown once and not kept.
    pub async fn confirm_enrolment(
        &self,
        knock: &Knock,
        token: &str,
        typed: &str,
    ) -> Result<(Step, Vec<Secret>), DoorError> {
        let (session, user) = self.enrolling(token)?;
        let key = session.key.ok_or(DoorError::Ended)?;
        let (codes, recovery) = (0..RECOVERY_CODES).map(|_| RecoveryDigest::generate(self.chance_of())).unzip();
        let enrol = Enrol { tried: session.tried, key, code: code_of(typed), recovery };
        let user = self.store.steer(&knock.of(&user), enrol).await?.answer.map_err(|refused| match refused {
            EnrolRefused::WrongCode => DoorError::WrongCode,
            EnrolRefused::Changed => DoorError::Ended,
        })?;
        self.people.sessions().end_all_of(user.id);
        Ok((self.begin(&user, stage_after_code(&user), true), codes))
    }

    /// Chooses another password. Whoever is inside shows the present one, too. All other sessions of his end.
    pub async fn choose_password(
        &self,
        knock: &Knock,
        token: &str,
        present: Option<Secret>,
        new: Secret,
    ) -> Result<Step, DoorError> {
        let (session, user) = self.session_of(token)?;
        let new = password_of(new, &user.name).map_err(|why| DoorError::BadPassword(why.to_string()))?;
        match (session.stage, present) {
            (Stage::Inside, Some(present)) => {
                let hash = user.password.clone();
                let is_right = self.people.hashing.run(move || hash.is_of(&present)).await?;
                let try_password = TryPassword { tried: Some(session.tried), is_right };
                self.store.steer(&knock.of(&user), try_password).await?.answer.ok_or(DoorError::Refused)?;
            }
            // It was typed a moment ago.
            (Stage::NewPassword, _) => {}
            (Stage::Inside, None) => return Err(DoorError::Refused),
            (Stage::Code | Stage::Enrol, _) => return Err(DoorError::Ended),
        }
        let (hash, salt) = (user.password.clone(), self.chance_of());
        let hashed = self.people.hashing.run(move || match hash.is_of(&new) {
            true => None,
            false => Some(PasswordHash::of(&new, salt)),
        });
        let same = || DoorError::BadPassword("the new password is the present one; choose another".to_owned());
        let password = hashed.await?.ok_or_else(same)?;
        let change = ChangePassword { tried: session.tried, password };
        let changed = self.store.steer(&knock.of(&user), change).await?.answer;
        let user = changed.map_err(|_| DoorError::Ended)?;
        let was_fresh = self.fresh_for(&session).is_some();
        self.people.sessions().end_all_of(user.id);
        Ok(self.begin(&user, Stage::Inside, was_fresh))
    }

    /// Proves the second factor once more, for what asks for a fresh proof.
    pub async fn step_up(&self, knock: &Knock, token: &str, typed: &str) -> Result<(), DoorError> {
        let (session, user) = self.session(token, Stage::Inside)?;
        self.try_code(knock, &user, session.tried, typed, Purpose::StepUp).await?;
        self.people.sessions().prove(token, Instant::now());
        Ok(())
    }

    /// Ends a session.
    pub async fn sign_out(&self, knock: &Knock, token: &str) -> Result<(), Error> {
        let Some(Seen { user, stage, .. }) = self.seen(token) else { return Ok(()) };
        self.people.sessions().end(token);
        if stage == Stage::Inside {
            let _ = self.store.steer(&knock.of(&user), NoteSignOut { id: user.id }).await?;
        }
        Ok(())
    }

    /// Whose session a token is, and how far it has come. To look is to use it.
    pub fn seen(&self, token: &str) -> Option<Seen> {
        let (session, user) = self.session_of(token).ok()?;
        Some(Seen { user, stage: session.stage, fresh_for: self.fresh_for(&session) })
    }

    /// Whether a session goes on, for an answer that has no end: to ask is not to use it.
    pub fn goes_on(&self, token: &str) -> bool {
        let session = self.people.sessions().peek(token, Instant::now()).cloned();
        session.is_some_and(|session| session.stage == Stage::Inside && self.standing(session.tried).is_some())
    }

    /// For how long a proof of the second factor is fresh.
    pub fn proof_lasts(&self) -> Duration {
        self.settings.proof_lasts
    }

    fn fresh_for(&self, session: &Session) -> Option<Duration> {
        session.fresh_for(self.settings.proof_lasts, Instant::now())
    }

    fn standing(&self, tried: Tried) -> Option<Arc<User>> {
        self.catalog().user(tried.id).filter(|user| user.stamp == tried.stamp).map(Arc::clone)
    }

    fn session_of(&self, token: &str) -> Result<(Session, Arc<User>), DoorError> {
        let session = self.people.sessions().touch(token, Instant::now()).cloned().ok_or(DoorError::Ended)?;
        let Some(user) = self.standing(session.tried) else {
            self.people.sessions().end(token);
            return Err(DoorError::Ended);
        };
        Ok((session, user))
    }

    fn session(&self, token: &str, stage: Stage) -> Result<(Session, Arc<User>), DoorError> {
        self.session_of(token).and_then(|found| if found.0.stage == stage { Ok(found) } else { Err(DoorError::Ended) })
    }

    fn enrolling(&self, token: &str) -> Result<(Session, Arc<User>), DoorError> {
        let found = self.session_of(token)?;
        match found.0.stage {
            Stage::Enrol => Ok(found),
            Stage::Inside if self.fresh_for(&found.0).is_some() => Ok(found),
            Stage::Inside => Err(DoorError::StepUp),
            Stage::Code | Stage::NewPassword => Err(DoorError::Ended),
        }
    }

    /// Whom a name and a password stand for, and whether the password is right. Takes as long for nobody as for somebody.
    async fn weigh(&self, name: &str, password: Secret) -> Result<(Option<Tried>, bool), DoorError> {
        let catalog = self.catalog();
        let user = name.trim().parse().ok().and_then(|name: UserName| catalog.user_by_name(&name).map(Arc::clone));
        let hash = user.as_ref().map_or(PasswordHash::NOBODY, |user| user.password.clone());
        let is_right = self.people.hashing.run(move || hash.is_of(&password)).await?;
        let tried = user.map(|user| Tried { id: user.id, stamp: user.stamp });
        Ok((tried, is_right && tried.is_some()))
    }

    async fn try_code(
        &self,
        knock: &Knock,
        user: &User,
        tried: Tried,
        typed: &str,
        purpose: Purpose,
    ) -> Result<Arc<User>, DoorError> {
        let actor = knock.of(user);
        let let_in = match RecoveryDigest::of(typed) {
            // A locked login is unlocked with the password and a recovery code together, not behind half a door.
            Some(_) if user.failures.lock() => None,
            digest @ Some(_) => {
                let recovery = TryRecovery { tried: Some(tried), is_right: true, digest, purpose };
                self.store.steer(&actor, recovery).await?.answer
            }
            None => self.store.steer(&actor, TryCode { tried, code: code_of(typed), purpose }).await?.answer,
        };
        let locked = || self.standing(tried).is_none_or(|user| user.failures.lock());
        let_in.ok_or_else(|| if locked() { DoorError::Locked } else { DoorError::WrongCode })
    }

    fn begin(&self, user: &User, stage: Stage, proved: bool) -> Step {
        let token = Secret::new(base32(&self.chance_of::<TOKEN_BYTES>()));
        self.people.sessions().begin(&token, user, stage, proved, Instant::now());
        Step { token, stage }
    }
}

/// Over the admin socket the last administrator may go: whoever sits there needs none.
fn last_admin_by(actor: &Actor) -> LastAdmin {
    match actor.who {
        Who::Operator { .. } => LastAdmin::MayGo,
        Who::Key { .. } | Who::User { .. } | Who::Stranger | Who::System => LastAdmin::Stays,
    }
}

fn stage_after_code(user: &User) -> Stage {
    match user {
        User { totp: None, .. } => Stage::Enrol,
        User { one_time: true, .. } => Stage::NewPassword,
        User { one_time: false, .. } => Stage::Inside,
    }
}

/// A code as it was typed, without the gap that apps show in the middle.
fn code_of(typed: &str) -> Secret {
    Secret::new(typed.chars().filter(|c| !c.is_whitespace()).take(16).collect::<String>())
}

#[cfg(test)]
mod tests;
