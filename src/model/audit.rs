//! The audit log: who changed what, from where, and how it was before.
//!
//! A record is a JSON text that is written once and kept as it is: names in alphabetical order, no white space. Records are
//! numbered from 1 without a gap and chained: a record's hash is SHA-256 over the 32 bytes of the hash before it, then its
//! text. So a record that was changed, left out or moved does not fit its neighbours, and whoever has noted the last
//! [`Link`] elsewhere sees that the end was cut off. Secrets are never in a record, not even hashed.

mod view;

use std::fmt;
use std::net::SocketAddr;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::event::Peer;
use super::id::hex;
use super::{Invalid, KeyId, Role, TenantId, Timestamp, TypePattern, User, UserId, UserName};

pub use view::{CHANGED, MASK, changes, destination, event_type, key, signing_key, subscription, tenant, user};

/// Who acts, from where, in which request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Actor {
    /// Who.
    pub who: Who,
    /// From where.
    pub from: Origin,
    /// The request's id, which stands in the answer and in the daemon's own log.
    pub request: Option<String>,
}

impl Actor {
    /// The daemon itself.
    pub const SYSTEM: Actor = Actor { who: Who::System, from: Origin::Inside, request: None };
}

/// Who acts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Who {
    /// Whoever holds a key.
    Key {
        /// The key's public part.
        id: KeyId,
        /// Its role at that moment.
        role: Role,
        /// The one tenant it is bound to.
        tenant: Option<TenantId>,
    },
    /// Whoever opened the admin socket and showed no key.
    Operator {
        /// As the kernel says.
        uid: u32,
    },
    /// Somebody who has signed in, or is about to and knew the password.
    User {
        /// Who.
        id: UserId,
        /// What he signs in with.
        name: UserName,
        /// His role at that moment.
        role: Role,
        /// The one tenant he belongs to.
        tenant: Option<TenantId>,
    },
    /// Somebody at the door of whom nothing is known.
    Stranger,
    /// The daemon itself.
    System,
}

/// In a word, as the filter of the log takes it: a key's id, `uid:1000`, a person's id, `stranger`, `system`.
impl fmt::Display for Who {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Who::Key { id, .. } => id.fmt(f),
            Who::Operator { uid } => write!(f, "uid:{uid}"),
            Who::User { id, .. } => id.fmt(f),
            Who::Stranger => f.write_str("stranger"),
            Who::System => f.write_str("system"),
        }
    }
}

impl Who {
    /// This person.
    pub fn user(user: &User) -> Self {
        let User { id, name, role, tenant, .. } = user;
        Who::User { id: *id, name: name.clone(), role: *role, tenant: tenant.clone() }
    }

    fn to_json(&self) -> Value {
        let name = self.to_string();
        match self {
            Who::Key { role, tenant, .. } => {
                json!({"id": name, "role": role.as_str(), "tenant": tenant.as_ref().map(TenantId::as_str), "type": "key"})
            }
            Who::Operator { .. } => {
                json!({"id": name, "role": Role::Admin.as_str(), "tenant": null, "type": "operator"})
            }
            Who::User { name: login, role, tenant, .. } => json!({
                "id": name,
                "name": login.as_str(),
                "role": role.as_str(),
                "tenant": tenant.as_ref().map(TenantId::as_str),
                "type": "user",
            }),
            Who::Stranger => json!({"id": name, "role": null, "tenant": null, "type": "stranger"}),
            Who::System => json!({"id": name, "role": null, "tenant": null, "type": "system"}),
        }
    }
}

/// From where somebody acts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Origin {
    /// Over a Unix socket: the process, as the kernel says.
    Socket(Peer),
    /// Over TCP: the other end's address.
    Address(SocketAddr),
    /// From within the daemon.
    Inside,
}

impl Origin {
    fn to_json(self) -> Value {
        match self {
            Origin::Socket(Peer { uid, gid, pid }) => json!({"gid": gid, "pid": pid, "uid": uid}),
            Origin::Address(address) => json!({"address": address.to_string()}),
            Origin::Inside => Value::Null,
        }
    }
}

macro_rules! actions {
    ($($(#[$doc:meta])* $variant:ident = $name:literal;)*) => {
        /// What somebody does.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum Action { $($(#[$doc])* $variant,)* }

        impl Action {
            /// Every action there is.
            pub const ALL: &[Action] = &[$(Action::$variant,)*];

            /// Its name in a record: the kind of thing, a dot, the verb.
            pub fn as_str(self) -> &'static str {
                match self { $(Action::$variant => $name,)* }
            }
        }
    };
}

actions! {
    /// A tenant is made.
    TenantCreate = "tenant.create";
    /// A tenant's name or parent changes.
    TenantUpdate = "tenant.update";
    /// A tenant is deleted.
    TenantDelete = "tenant.delete";
    /// A key is made.
    KeyCreate = "key.create";
    /// A key's name or role changes.
    KeyUpdate = "key.update";
    /// A key is deleted.
    KeyDelete = "key.delete";
    /// A signing key is made.
    SigningKeyCreate = "signing_key.create";
    /// A signing key's name changes.
    SigningKeyUpdate = "signing_key.update";
    /// A signing key's secret is replaced.
    SigningKeyRotate = "signing_key.rotate";
    /// A signing key's secret is shown to somebody.
    SigningKeyReveal = "signing_key.reveal";
    /// A signing key is deleted.
    SigningKeyDelete = "signing_key.delete";
    /// A person is added.
    UserCreate = "user.create";
    /// A person's name, role or password is changed by somebody else.
    UserUpdate = "user.update";
    /// A person is removed.
    UserDelete = "user.delete";
    /// A person's login is unlocked.
    UserUnlock = "user.unlock";
    /// A person's second factor and recovery codes are taken away: a new one must be enrolled first.
    UserResetTotp = "user.reset_totp";
    /// A person enrols a second factor and gets recovery codes.
    UserEnrol = "user.enrol";
    /// A person chooses another password.
    UserSetPassword = "user.set_password";
    /// A person signs in with both factors.
    UserSignIn = "user.sign_in";
    /// Somebody is refused at the door: a wrong password, a wrong code, a locked login, or a name that nobody has.
    UserSignInRefused = "user.sign_in_refused";
    /// A person proves himself once more, for what asks for that.
    UserStepUp = "user.step_up";
    /// A person signs out.
    UserSignOut = "user.sign_out";
    /// A destination is made.
    DestinationCreate = "destination.create";
    /// A destination changes.
    DestinationUpdate = "destination.update";
    /// A destination is deleted, and leaves its subscriptions.
    DestinationDelete = "destination.delete";
    /// A destination's lane is paused.
    DestinationPause = "destination.pause";
    /// A destination's lane is resumed.
    DestinationResume = "destination.resume";
    /// A destination's secret is replaced.
    DestinationRotateSecret = "destination.rotate_secret";
    /// A destination's receiver is asked for its confirmation once more.
    DestinationConfirm = "destination.confirm";
    /// A destination's receiver has confirmed.
    DestinationConfirmed = "destination.confirmed";
    /// A test event is sent to a destination.
    DestinationTest = "destination.test";
    /// A subscription is made.
    SubscriptionCreate = "subscription.create";
    /// A subscription changes.
    SubscriptionUpdate = "subscription.update";
    /// A subscription is deleted.
    SubscriptionDelete = "subscription.delete";
    /// A subscription links one more destination.
    SubscriptionLink = "subscription.link";
    /// A subscription links one destination less.
    SubscriptionUnlink = "subscription.unlink";
    /// A test event is sent to a subscription's destinations.
    SubscriptionTest = "subscription.test";
    /// A delivery that had ended is made due again.
    DeliveryResend = "delivery.resend";
    /// A delivery that waited is ended.
    DeliveryCancel = "delivery.cancel";
    /// A bulk replay begins.
    ReplayCreate = "replay.create";
    /// A bulk replay is stopped before its end.
    ReplayCancel = "replay.cancel";
    /// An event type is added to the catalogue.
    EventTypeCreate = "event_type.create";
    /// An added event type's description, aliases or sample change.
    EventTypeUpdate = "event_type.update";
    /// An added event type is taken out of the catalogue.
    EventTypeDelete = "event_type.delete";
    /// An event's payload is erased before its time.
    EventErasePayload = "event.erase_payload";
    /// Payloads of events are shown to somebody.
    EventReadPayload = "event.read_payload";
}

impl Action {
    /// The kind of thing that it is done to.
    pub fn kind(self) -> &'static str {
        self.as_str().split_once('.').map_or("", |(kind, _)| kind)
    }
}

/// What was done, as the operation that did it tells.
#[derive(Debug, Clone, PartialEq)]
pub struct Deed {
    /// What.
    pub action: Action,
    /// Whose thing it was done to; none for what belongs to the whole installation.
    pub tenant: Option<TenantId>,
    /// To which thing; none where it was done to several, which `after` then names.
    pub object: Option<String>,
    /// How it was; null where it was not there, and of an update only what changes.
    pub before: Value,
    /// How it is now; null where it is there no longer, and of an update only what has changed.
    pub after: Value,
}

impl Deed {
    /// The record's text.
    pub fn text(&self, number: u64, at: Timestamp, actor: &Actor) -> String {
        // serde_json keeps the names of an object in alphabetical order.
        let record = json!({
            "action": self.action.as_str(),
            "actor": actor.who.to_json(),
            "after": self.after,
            "at": at.to_string(),
            "before": self.before,
            "from": actor.from.to_json(),
            "number": number,
            "object": {"id": self.object, "kind": self.action.kind()},
            "request": actor.request,
            "tenant": self.tenant.as_ref().map(TenantId::as_str),
        });
        record.to_string()
    }

    /// The [`Record::terms`] of its record.
    pub fn terms(&self, actor: &Actor) -> Vec<String> {
        let objects = [self.object.as_deref(), Some(self.action.kind())];
        terms_of(self.action.as_str(), objects, Some(&actor.who.to_string()), self.tenant.as_ref())
    }
}

/// A SHA-256 of the chain.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hash([u8; 32]);

impl fmt::Display for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex(&self.0))
    }
}

impl FromStr for Hash {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        let malformed = || Invalid::new("a hash is 64 hexadecimal digits");
        if text.len() != 64 || !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return Err(malformed());
        }
        let mut hash = [0; 32];
        for (place, byte) in hash.iter_mut().enumerate() {
            *byte = u8::from_str_radix(&text[2 * place..2 * place + 2], 16).map_err(|_| malformed())?;
        }
        Ok(Hash(hash))
    }
}

/// A place in the chain: the number of a record and its hash. Written `7:0a1b…`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Link {
    /// Which record; 0 before the first.
    pub number: u64,
    /// Its hash.
    pub hash: Hash,
}

impl Link {
    /// Before the first record.
    pub const START: Link = Link { number: 0, hash: Hash([0; 32]) };

    /// The place of the record of this text, when it follows this one.
    #[must_use]
    pub fn next(self, text: &str) -> Link {
        let hash = Sha256::new().chain_update(self.hash.0).chain_update(text).finalize();
        Link { number: self.number + 1, hash: Hash(hash.into()) }
    }
}

impl fmt::Display for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.number, self.hash)
    }
}

impl FromStr for Link {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        let malformed = || Invalid::new("must be a record's number, a colon and its hash, as in 7:0a1b…");
        let (number, hash) = text.split_once(':').ok_or_else(malformed)?;
        Ok(Link { number: number.parse().map_err(|_| malformed())?, hash: hash.parse()? })
    }
}

/// Where the chain begins and ends. What was before the anchor has passed its age.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Chain {
    /// The last record that was dropped; [`Link::START`] while none was.
    pub anchor: Link,
    /// The newest record.
    pub head: Link,
}

impl Default for Chain {
    fn default() -> Self {
        Chain { anchor: Link::START, head: Link::START }
    }
}

/// A record as it is kept: its text, and the hash that it follows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Kept {
    /// The hash of the record before it.
    pub previous: Hash,
    /// Its text.
    pub text: String,
}

/// What is wrong with a chain: which record, and why.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("record {number}: {why}")]
pub struct Broken {
    /// The record at or before which it is broken.
    pub number: u64,
    /// In words.
    pub why: String,
}

/// Follows a chain from its head to its anchor, newest record first.
#[derive(Debug, Clone)]
pub struct Walk {
    /// What the record that comes next must be.
    wanted: Link,
    checked: u64,
}

impl Walk {
    /// Begins at a record that is known: the head, or one that was noted.
    pub fn from(head: Link) -> Self {
        Walk { wanted: head, checked: 0 }
    }

    /// The next record, one older than the one before; answers its place.
    pub fn follow(&mut self, record: &Kept) -> Result<Link, Broken> {
        let Link { number, hash } = self.wanted;
        let broken = |why: &str| Err(Broken { number, why: why.to_owned() });
        let Some(before) = number.checked_sub(1) else {
            return broken("the chain has begun already, and a further record claims to be older");
        };
        let previous = Link { number: before, hash: record.previous };
        if previous.next(&record.text).hash != hash {
            return broken("is not what it was, or not in its place: its hash differs from the one that was chained");
        }
        match Record::of(&record.text) {
            Ok(read) if read.number == number => {}
            Ok(_) => return broken("bears another number"),
            Err(_) => return broken("is no record"),
        }
        let place = self.wanted;
        self.wanted = previous;
        self.checked += 1;
        Ok(place)
    }

    /// How many records were followed.
    pub fn checked(&self) -> u64 {
        self.checked
    }

    /// The place that the chain has been followed to: what is left must be its anchor.
    pub fn reached(&self) -> Link {
        self.wanted
    }

    /// Nothing older is left: the chain must have been followed to its anchor.
    pub fn end(&self, anchor: Link) -> Result<(), Broken> {
        if self.wanted == anchor {
            return Ok(());
        }
        let Link { number, .. } = self.wanted;
        let why = if number > anchor.number { "is missing" } else { "is not the anchor that was noted" };
        Err(Broken { number, why: why.to_owned() })
    }
}

/// What a list of records is filtered by, read from a record's text.
#[derive(Debug, Clone, Deserialize)]
pub struct Record {
    /// Its number.
    pub number: u64,
    at: String,
    action: String,
    actor: Named,
    object: Named,
    tenant: Option<TenantId>,
}

#[derive(Debug, Clone, Deserialize)]
struct Named {
    id: Option<String>,
    kind: Option<String>,
}

impl Record {
    /// What a record says.
    pub fn of(text: &str) -> Result<Self, Invalid> {
        serde_json::from_str(text).map_err(Invalid::new)
    }

    /// When it was written.
    pub fn at(&self) -> Option<Timestamp> {
        self.at.parse().ok()
    }

    /// All that it can be found by, whatever its time: what a list asks for is among it, where the record is wanted.
    pub fn terms(&self) -> Vec<String> {
        let objects = [self.object.id.as_deref(), self.object.kind.as_deref()];
        terms_of(&self.action, objects, self.actor.id.as_deref(), self.tenant.as_ref())
    }
}

fn terms_of(action: &str, objects: [Option<&str>; 2], actor: Option<&str>, tenant: Option<&TenantId>) -> Vec<String> {
    let dots = action.match_indices('.').map(|(dot, _)| format!("{}*", &action[..=dot]));
    let actions = dots.chain([action.to_owned()]).map(|action| term("action", &action));
    let objects = objects.into_iter().flatten().map(|it| term("object", it));
    let actor = actor.map(|it| term("actor", it));
    let tenant = tenant.map(|it| term("tenant", it.as_str()));
    let mut terms: Vec<_> = actions.chain(objects).chain(actor).chain(tenant).collect();
    terms.sort_unstable();
    terms.dedup();
    terms
}

/// What a record can be found by. Only of a tenant's name the case counts.
fn term(of: &str, text: &str) -> String {
    if of == "tenant" { format!("{of} {text}") } else { format!("{of} {}", text.to_ascii_lowercase()) }
}

/// Which records to list. Newest first.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Wanted {
    /// Of this tenant's things only.
    pub tenant: Option<TenantId>,
    /// From this number on.
    pub first: u64,
    /// By this actor only, as [`Who`] writes it.
    pub actor: Option<String>,
    /// Of these actions only: one, or `destination.*`.
    pub action: Option<TypePattern>,
    /// Of this kind of thing, or of the thing of this id.
    pub object: Option<String>,
    /// Written at or after.
    pub from: Option<Timestamp>,
    /// Written before.
    pub to: Option<Timestamp>,
}

impl Wanted {
    /// What each record that is wanted can be found by.
    pub fn terms(&self) -> Vec<String> {
        let action = self.action.as_ref().filter(|action| **action != TypePattern::Any);
        let action = action.map(|action| term("action", &action.to_string()));
        let tenant = self.tenant.as_ref().map(|it| term("tenant", it.as_str()));
        let actor = self.actor.as_ref().map(|it| term("actor", it));
        let object = self.object.as_ref().map(|it| term("object", it));
        object.into_iter().chain(actor).chain(action).chain(tenant).collect()
    }

    /// Whether a record is wanted.
    pub fn takes(&self, record: &Record) -> bool {
        let is =
            |text: &Option<String>, wanted: &str| text.as_ref().is_some_and(|text| text.eq_ignore_ascii_case(wanted));
        self.tenant.as_ref().is_none_or(|tenant| record.tenant.as_ref() == Some(tenant))
            && self.actor.as_ref().is_none_or(|actor| is(&record.actor.id, actor))
            && self.action.as_ref().is_none_or(|wanted| record.action.parse().is_ok_and(|it| wanted.matches(&it)))
            && self.object.as_ref().is_none_or(|it| is(&record.object.id, it) || is(&record.object.kind, it))
            && self.from.is_none_or(|from| record.at().is_some_and(|at| at >= from))
            && self.to.is_none_or(|to| record.at().is_some_and(|at| at < to))
    }
}

#[cfg(test)]
mod tests;
