//! Who is signed in: in memory only, so a restart signs everybody out.
//!
//! A session is known by the hash of its token; the token itself is its holder's alone. It has a bound in time without use and
//! in all, and there are bounds on how many a person and the house may have: the oldest goes. What a session may do is not kept
//! in it: each look asks the catalogue for the person, and one who is gone, or whose [`User::stamp`] has moved on, has no session.

use std::collections::HashMap;
use std::time::Duration;

use sha2::{Digest, Sha256};
use tokio::time::Instant;

use crate::model::user::TotpKey;
use crate::model::{Secret, User, UserId};
use crate::store::people::Tried;

/// How far somebody has come through the door.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// The password was right; the second factor is asked for.
    Code,
    /// The password was right; there is no second factor yet, and one must be enrolled (S1.5, decision D20).
    Enrol,
    /// The password that was made by the daemon must be replaced.
    NewPassword,
    /// Signed in.
    Inside,
}

/// A session without use ends after this long.
pub const IDLE_MAX: Duration = Duration::from_secs(15 * 60);
/// A session ends after this long.
pub const AGE_MAX: Duration = Duration::from_secs(12 * 3600);
/// Whoever is at the door has this long to come in.
pub const DOOR_AGE_MAX: Duration = Duration::from_secs(15 * 60);
/// Sessions of one person, at most.
pub(super) const PER_USER_MAX: usize = 8;
/// Sessions in all, at most.
pub(super) const ALL_MAX: usize = 4096;

/// Bytes of chance in a token.
pub(super) const TOKEN_BYTES: usize = 32;

/// A session as it is looked at.
#[derive(Debug, Clone)]
pub(super) struct Session {
    /// Whose, as he was when it began.
    pub(super) tried: Tried,
    /// How far it has come.
    pub(super) stage: Stage,
    /// The key that its person was shown, until his app has proved to have it.
    pub(super) key: Option<TotpKey>,
    began: Instant,
    used: Instant,
    proved: Option<Instant>,
}

impl Session {
    /// How long the proof of the second factor, which lasts so long, stays fresh; `None` when it is not.
    pub(super) fn fresh_for(&self, lasts: Duration, now: Instant) -> Option<Duration> {
        let left = lasts.checked_sub(now.duration_since(self.proved?))?;
        (!left.is_zero()).then_some(left)
    }

    fn has_ended(&self, now: Instant) -> bool {
        let age_max = match self.stage {
            Stage::Code | Stage::Enrol | Stage::NewPassword => DOOR_AGE_MAX,
            Stage::Inside => AGE_MAX,
        };
        now.duration_since(self.used) >= IDLE_MAX || now.duration_since(self.began) >= age_max
    }
}

/// All sessions. Held for a look or an entry, never across an await.
#[derive(Debug, Default)]
pub(super) struct Sessions(HashMap<[u8; 32], Session>);

fn place(token: &str) -> [u8; 32] {
    Sha256::digest(token).into()
}

impl Sessions {
    /// Begins a session under a fresh token. `proved` says that the second factor was shown just now.
    pub(super) fn begin(&mut self, token: &Secret, user: &User, stage: Stage, proved: bool, now: Instant) {
        self.0.retain(|_, session| !session.has_ended(now));
        self.make_room(PER_USER_MAX, |session| session.tried.id == user.id);
        self.make_room(ALL_MAX, |_| true);
        let tried = Tried { id: user.id, stamp: user.stamp };
        let session = Session { tried, stage, key: None, began: now, used: now, proved: proved.then_some(now) };
        self.0.insert(place(token.expose()), session);
    }

    /// Ends the oldest of those that are counted, until there is room for one more.
    fn make_room(&mut self, max: usize, counted: impl Fn(&Session) -> bool) {
        let mut all: Vec<_> = self.0.iter().filter(|(_, session)| counted(session)).collect();
        if all.len() < max {
            return;
        }
        all.sort_unstable_by_key(|(_, session)| session.used);
        let oldest: Vec<_> = all[..=all.len() - max].iter().map(|(place, _)| **place).collect();
        oldest.iter().for_each(|place| drop(self.0.remove(place)));
    }

    /// The session of a token, if it has not ended; it has been used now.
    pub(super) fn touch(&mut self, token: &str, now: Instant) -> Option<&mut Session> {
        let place = place(token);
        if self.0.get(&place)?.has_ended(now) {
            self.0.remove(&place);
            return None;
        }
        let session = self.0.get_mut(&place)?;
        session.used = now;
        Some(session)
    }

    /// The session of a token, if it has not ended; that somebody looks is no use of it.
    pub(super) fn peek(&self, token: &str, now: Instant) -> Option<&Session> {
        self.0.get(&place(token)).filter(|session| !session.has_ended(now))
    }

    /// The second factor was shown just now.
    pub(super) fn prove(&mut self, token: &str, now: Instant) {
        if let Some(session) = self.touch(token, now) {
            session.proved = Some(now);
        }
    }

    /// Ends a session.
    pub(super) fn end(&mut self, token: &str) {
        self.0.remove(&place(token));
    }

    /// Ends all of a person's.
    pub(super) fn end_all_of(&mut self, id: UserId) {
        self.0.retain(|_, session| session.tried.id != id);
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }
}
