//! Registrations: a destination and its one subscription, made, changed and deleted together.
//!
//! A dialect knows one thing where the model has two. What it registers are an ordinary destination and an ordinary
//! subscription; the subscription bears the mark [`Registered`], by which the dialect finds its own. The mark stands as long as
//! the subscription links that destination: whoever deletes or unlinks one of the two ends the registration.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::{Auth, Confirmation, Destination, DestinationNo, Subscription, SubscriptionId, TypePattern};

/// The mark of a subscription that a dialect registered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Registered {
    /// The dialect's name; it shows and manages this registration, and no other does.
    pub dialect: String,
    /// The registration's number in its tenant: from 1, in order of creation, never given twice.
    pub serial: u32,
    /// The destination that was registered with it.
    pub destination: DestinationNo,
}

/// A registration as it stands.
#[derive(Debug, Clone)]
pub struct Registration {
    /// Its number in its tenant.
    pub serial: u32,
    /// Which events.
    pub subscription: Arc<Subscription>,
    /// Where they go.
    pub destination: Arc<Destination>,
}

/// What is to be done with a registration.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Order {
    /// Makes one.
    Register {
        /// Where the events go; its number is given by the store.
        destination: Box<Destination>,
        /// Which events; its number, its mark and what it links are given by the store.
        subscription: Box<Subscription>,
        /// Whether the tenant may have no other registration of the dialect.
        only: bool,
    },
    /// Changes one.
    Change {
        /// Which, by its subscription.
        subscription: SubscriptionId,
        /// How.
        change: RegistrationChange,
    },
    /// Deletes one: its subscription, and its destination with whatever still waits for it.
    Deregister {
        /// Which, by its subscription.
        subscription: SubscriptionId,
    },
}

/// A change of a registration; what is `None` stays.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct RegistrationChange {
    /// Which events count from now on.
    pub pattern: Option<TypePattern>,
    /// The receiver's URL.
    pub url: Option<String>,
    /// The credentials that go along.
    pub auth: Option<Auth>,
    /// How many attempts a delivery gets in all.
    pub attempts_max: Option<u32>,
    /// Whether the URL may change of a destination that private addresses are opened for.
    pub moves_openings: bool,
}

impl RegistrationChange {
    /// The destination as it is to be.
    ///
    /// Who registers a receiver answers for it, so it stays confirmed at another URL, as it was when it was made.
    #[must_use]
    pub fn of_destination(&self, before: &Destination) -> Destination {
        let mut after = before.clone();
        if let Some(url) = &self.url {
            after.url.clone_from(url);
            after.confirmation = Confirmation::Given;
            after.asked = None;
        }
        if let Some(auth) = &self.auth {
            after.auth.clone_from(auth);
        }
        if let Some(attempts_max) = self.attempts_max {
            after.retry.attempts_max = Some(attempts_max);
        }
        after
    }

    /// The subscription as it is to be.
    #[must_use]
    pub fn of_subscription(&self, before: &Subscription) -> Subscription {
        let pattern = self.pattern.clone().unwrap_or_else(|| before.pattern.clone());
        Subscription { pattern, ..before.clone() }
    }

    /// Whether it may be made: private addresses are opened for a destination at one URL, and who may not open them does not
    /// move the opening to another.
    pub fn may_change(&self, before: &Destination) -> bool {
        let stays = self.url.as_ref().is_none_or(|url| *url == before.url);
        stays || !before.allow_private || self.moves_openings
    }
}
