//! What is configured: tenants, destinations, subscriptions, keys, signing keys, people and event types, all in memory, all
//! on disk but for the event types that are built in or configured.
//!
//! A catalog is a value: a change makes a new one inside the writer, and it is published after the commit. Readers take the
//! present one and keep it as long as they like.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use crate::model::destination::{Signature, SignedWith};
use crate::model::event::{Skip, Target};
use crate::model::event_type::Taken;
use crate::model::{
    self, ApiKey, Confirmation, Destination, DestinationId, DestinationNo, EventType, EventTypes, KeyId, KnownType,
    SigningKey, SigningKeyId, Subscription, SubscriptionId, SubscriptionNo, Tenant, TenantId, TypePattern, User,
    UserId, UserName,
};

use super::record::Tombstone;

/// Destinations that an event's record names as kept out by a filter, at most: where many filters each let little
/// through, a record must not grow with their number.
const FILTERED_MAX: usize = 32;

/// How deep tenants may nest.
pub const TENANT_DEPTH_MAX: usize = 16;

/// Everything that is configured, at one moment.
#[derive(Debug, Clone, Default)]
pub struct Catalog {
    tenants: BTreeMap<TenantId, Arc<Tenant>>,
    destinations: BTreeMap<DestinationNo, Arc<Destination>>,
    destination_nos: HashMap<DestinationId, DestinationNo>,
    tombstones: BTreeMap<DestinationNo, Arc<Tombstone>>,
    subscriptions: BTreeMap<SubscriptionNo, Arc<Subscription>>,
    subscription_nos: HashMap<SubscriptionId, SubscriptionNo>,
    keys: BTreeMap<KeyId, Arc<ApiKey>>,
    signing_keys: BTreeMap<SigningKeyId, Arc<SigningKey>>,
    users: BTreeMap<UserId, Arc<User>>,
    user_ids: HashMap<UserName, UserId>,
    routes: HashMap<TenantId, Routes>,
    event_types: Arc<EventTypes>,
}

/// The subscriptions of one tenant, by what they match: exact types are found without a walk.
#[derive(Debug, Clone, Default)]
struct Routes {
    exact: HashMap<EventType, Vec<SubscriptionNo>>,
    patterns: Vec<SubscriptionNo>,
}

/// Where an event goes, and where it would have gone.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Routed {
    /// Its deliveries, by destination.
    pub targets: Vec<Target>,
    /// Matching destinations that get none, and why; of those that a filter kept out the first few.
    pub skipped: Vec<(DestinationNo, Skip)>,
}

impl Catalog {
    /// The tenants, by id.
    pub fn tenants(&self) -> impl Iterator<Item = &Arc<Tenant>> {
        self.tenants.values()
    }

    /// The tenant of this id.
    pub fn tenant(&self, id: &TenantId) -> Option<&Arc<Tenant>> {
        self.tenants.get(id)
    }

    /// The tenants above `id`, nearest first.
    pub fn ancestors(&self, id: &TenantId) -> impl Iterator<Item = &TenantId> {
        let parent = |id: &TenantId| self.tenants.get(id).and_then(|tenant| tenant.parent.as_ref());
        std::iter::successors(parent(id), move |above| parent(above)).take(TENANT_DEPTH_MAX)
    }

    /// The destinations, in order of creation.
    pub fn destinations(&self) -> impl Iterator<Item = &Arc<Destination>> {
        self.destinations.values()
    }

    /// The destination of this number.
    pub fn destination(&self, no: DestinationNo) -> Option<&Arc<Destination>> {
        self.destinations.get(&no)
    }

    /// The destination of this id.
    pub fn destination_by_id(&self, id: DestinationId) -> Option<&Arc<Destination>> {
        self.destination_nos.get(&id).and_then(|no| self.destinations.get(no))
    }

    /// The name outside of a destination, also of a deleted one.
    pub fn destination_id(&self, no: DestinationNo) -> Option<DestinationId> {
        let present = self.destinations.get(&no).map(|destination| destination.id);
        present.or_else(|| self.tombstones.get(&no).map(|tombstone| tombstone.id))
    }

    /// The name for people of a destination, also of a deleted one.
    pub fn destination_name(&self, no: DestinationNo) -> Option<&str> {
        let present = self.destinations.get(&no).map(|destination| destination.name.as_str());
        present.or_else(|| self.tombstones.get(&no).map(|tombstone| tombstone.name.as_str()))
    }

    /// Whose a destination is, also a deleted one.
    pub fn owner(&self, no: DestinationNo) -> Option<&TenantId> {
        let present = self.destinations.get(&no).map(|destination| &destination.tenant);
        present.or_else(|| self.tombstones.get(&no).map(|tombstone| &tombstone.tenant))
    }

    /// The destinations of a tenant, deleted ones included.
    pub fn destinations_of(&self, owner: &TenantId) -> impl Iterator<Item = DestinationNo> {
        let present = self.destinations.values().filter(move |it| it.tenant == *owner).map(|it| it.no);
        present.chain(self.tombstones.values().filter(move |it| it.tenant == *owner).map(|it| it.no))
    }

    /// The destinations that were deleted, by number.
    pub fn tombstones(&self) -> impl Iterator<Item = &Arc<Tombstone>> {
        self.tombstones.values()
    }

    /// The number of a destination, also of a deleted one.
    pub fn destination_no(&self, id: DestinationId) -> Option<DestinationNo> {
        let deleted = || self.tombstones.values().find(|tombstone| tombstone.id == id).map(|tombstone| tombstone.no);
        self.destination_nos.get(&id).copied().or_else(deleted)
    }

    /// The subscriptions, in order of creation.
    pub fn subscriptions(&self) -> impl Iterator<Item = &Arc<Subscription>> {
        self.subscriptions.values()
    }

    /// The subscription of this number.
    pub fn subscription(&self, no: SubscriptionNo) -> Option<&Arc<Subscription>> {
        self.subscriptions.get(&no)
    }

    /// The subscription of this id.
    pub fn subscription_by_id(&self, id: SubscriptionId) -> Option<&Arc<Subscription>> {
        self.subscription_nos.get(&id).and_then(|no| self.subscriptions.get(no))
    }

    /// The keys, by id.
    pub fn keys(&self) -> impl Iterator<Item = &Arc<ApiKey>> {
        self.keys.values()
    }

    /// The key of this id.
    pub fn key(&self, id: KeyId) -> Option<&Arc<ApiKey>> {
        self.keys.get(&id)
    }

    /// The signing keys, by id.
    pub fn signing_keys(&self) -> impl Iterator<Item = &Arc<SigningKey>> {
        self.signing_keys.values()
    }

    /// The signing key of this id.
    pub fn signing_key(&self, id: SigningKeyId) -> Option<&Arc<SigningKey>> {
        self.signing_keys.get(&id)
    }

    /// The destinations that sign with a key, in order of creation.
    pub fn signed_with(&self, id: SigningKeyId) -> impl Iterator<Item = &Arc<Destination>> {
        self.destinations().filter(move |destination| destination.signatures.iter().any(|it| it.key() == Some(id)))
    }

    /// The signatures of a destination with their secrets: its own, and those of the keys that it names at this moment; or
    /// the key that is not there for it.
    pub fn signatures_of(&self, destination: &Destination) -> Result<Vec<Signature>, SigningKeyId> {
        let resolved = |it: &SignedWith| match it {
            SignedWith::Own(signature) => Ok(signature.clone()),
            SignedWith::Key { scheme, key } => {
                let found = self.signing_key(*key).filter(|found| found.tenant == destination.tenant);
                found.map(|found| found.signature(scheme)).ok_or(*key)
            }
        };
        destination.signatures.iter().map(resolved).collect()
    }

    /// The event types.
    pub fn event_types(&self) -> &EventTypes {
        &self.event_types
    }

    /// The people, by id.
    pub fn users(&self) -> impl Iterator<Item = &Arc<User>> {
        self.users.values()
    }

    /// The person of this id.
    pub fn user(&self, id: UserId) -> Option<&Arc<User>> {
        self.users.get(&id)
    }

    /// The person of this login name.
    pub fn user_by_name(&self, name: &UserName) -> Option<&Arc<User>> {
        self.user_ids.get(name).and_then(|id| self.users.get(id))
    }

    /// Where an event of this tenant and type goes: by the tenant's own subscriptions and by those of the tenants above it
    /// that roll up, as far as their filters let it pass. Two subscriptions that name one destination make one delivery
    /// (decision D29). A type counts in each of its spellings (decisions D6, D8, D9).
    ///
    /// `json` is the event's data, if that is JSON: it is looked at once, and only if a matching subscription has a filter.
    pub fn route(&self, tenant: &TenantId, kind: &EventType, json: Option<&[u8]>) -> Routed {
        let kinds = self.event_types.spellings(kind);
        let mut matching: Vec<_> = self.matching(tenant, &kinds).collect();
        for above in self.ancestors(tenant) {
            matching.extend(self.matching(above, &kinds).filter(|subscription| subscription.roll_up));
        }
        let filters: Vec<_> = matching.iter().filter_map(|subscription| subscription.filter.as_ref()).collect();
        let passed = match json {
            Some(json) if !filters.is_empty() => model::filter::passed(&filters, json),
            Some(_) | None => vec![false; filters.len()],
        };
        let mut passed = passed.into_iter();
        let mut found: BTreeMap<DestinationNo, Vec<SubscriptionNo>> = BTreeMap::new();
        for subscription in matching {
            let passes = subscription.filter.is_none() || passed.next().unwrap_or(false);
            for destination in &subscription.destinations {
                let subscriptions = found.entry(*destination).or_default();
                if passes {
                    subscriptions.push(subscription.no);
                }
            }
        }
        let (mut routed, mut filtered) = (Routed::default(), 0);
        for (destination, subscriptions) in found {
            if !self.destinations.contains_key(&destination) {
                continue;
            }
            if subscriptions.is_empty() {
                filtered += 1;
                if filtered <= FILTERED_MAX {
                    routed.skipped.push((destination, Skip::Filtered));
                }
            } else {
                // Whoever had confirmed another URL is still to have what comes: it waits (decision D14).
                let target = Target { destination, subscriptions };
                self.sort_out(target, |confirmation| confirmation != Confirmation::Awaited, &mut routed);
            }
        }
        routed
    }

    /// Where a test event goes: only to who has confirmed (S2.52), and only where it has been aimed.
    pub fn route_test(&self, mut targets: Vec<Target>) -> Routed {
        let mut routed = Routed::default();
        // An event's targets are in the order of their numbers: its deliveries are listed by it.
        targets.sort_unstable_by_key(|target| target.destination);
        for target in targets {
            self.sort_out(target, |confirmation| confirmation == Confirmation::Given, &mut routed);
        }
        routed
    }

    fn sort_out(&self, target: Target, takes: impl Fn(Confirmation) -> bool, routed: &mut Routed) {
        let no = target.destination;
        match self.destinations.get(&no) {
            None => {}
            Some(destination) if destination.disabled => routed.skipped.push((no, Skip::Disabled)),
            Some(destination) if takes(destination.confirmation) => routed.targets.push(target),
            Some(_) => routed.skipped.push((no, Skip::Unconfirmed)),
        }
    }

    /// The subscriptions of one tenant that match one of these spellings of a type, each once.
    fn matching(&self, tenant: &TenantId, kinds: &[&EventType]) -> impl Iterator<Item = &Subscription> {
        let routes = self.routes.get(tenant);
        let exact = kinds.iter().filter_map(move |kind| routes.and_then(|routes| routes.exact.get(*kind))).flatten();
        let patterns = routes.map_or(&[][..], |routes| &routes.patterns);
        let matches = |no: &&SubscriptionNo| kinds.iter().any(|kind| self.subscriptions[*no].pattern.matches(kind));
        exact.chain(patterns.iter().filter(matches)).map(|no| &*self.subscriptions[no])
    }

    pub(super) fn set_event_types(&mut self, event_types: Arc<EventTypes>) {
        self.event_types = event_types;
    }

    pub(super) fn put_event_type(&mut self, known: KnownType) -> Result<Arc<KnownType>, Taken> {
        Arc::make_mut(&mut self.event_types).put(known)
    }

    pub(super) fn remove_event_type(&mut self, name: &EventType) {
        Arc::make_mut(&mut self.event_types).remove(name);
    }

    pub(super) fn put_tenant(&mut self, tenant: Tenant) {
        self.tenants.insert(tenant.id.clone(), Arc::new(tenant));
    }

    pub(super) fn unbury(&mut self, no: DestinationNo) {
        self.tombstones.remove(&no);
    }

    pub(super) fn remove_tenant(&mut self, id: &TenantId) {
        self.tenants.remove(id);
    }

    pub(super) fn put_destination(&mut self, destination: Destination) -> Arc<Destination> {
        let destination = Arc::new(destination);
        self.destination_nos.insert(destination.id, destination.no);
        self.destinations.insert(destination.no, Arc::clone(&destination));
        destination
    }

    pub(super) fn bury(&mut self, tombstone: Tombstone) {
        self.destination_nos.remove(&tombstone.id);
        self.destinations.remove(&tombstone.no);
        self.tombstones.insert(tombstone.no, Arc::new(tombstone));
    }

    pub(super) fn put_subscription(&mut self, subscription: Subscription) -> Arc<Subscription> {
        self.remove_subscription(subscription.no);
        let routes = self.routes.entry(subscription.tenant.clone()).or_default();
        match &subscription.pattern {
            TypePattern::One(kind) => routes.exact.entry(kind.clone()).or_default().push(subscription.no),
            TypePattern::Any | TypePattern::Branch(_) => routes.patterns.push(subscription.no),
        }
        let subscription = Arc::new(subscription);
        self.subscription_nos.insert(subscription.id, subscription.no);
        self.subscriptions.insert(subscription.no, Arc::clone(&subscription));
        subscription
    }

    pub(super) fn remove_subscription(&mut self, no: SubscriptionNo) {
        let Some(subscription) = self.subscriptions.remove(&no) else { return };
        self.subscription_nos.remove(&subscription.id);
        if let Some(routes) = self.routes.get_mut(&subscription.tenant) {
            routes.patterns.retain(|other| *other != no);
            if let TypePattern::One(kind) = &subscription.pattern
                && let Some(nos) = routes.exact.get_mut(kind)
            {
                nos.retain(|other| *other != no);
                if nos.is_empty() {
                    routes.exact.remove(kind);
                }
            }
        }
    }

    pub(super) fn put_key(&mut self, key: ApiKey) {
        self.keys.insert(key.id, Arc::new(key));
    }

    pub(super) fn remove_key(&mut self, id: KeyId) {
        self.keys.remove(&id);
    }

    pub(super) fn put_signing_key(&mut self, key: SigningKey) -> Arc<SigningKey> {
        let key = Arc::new(key);
        self.signing_keys.insert(key.id, Arc::clone(&key));
        key
    }

    pub(super) fn remove_signing_key(&mut self, id: SigningKeyId) {
        self.signing_keys.remove(&id);
    }

    pub(super) fn put_user(&mut self, user: User) -> Arc<User> {
        self.remove_user(user.id);
        let user = Arc::new(user);
        self.user_ids.insert(user.name.clone(), user.id);
        self.users.insert(user.id, Arc::clone(&user));
        user
    }

    pub(super) fn remove_user(&mut self, id: UserId) {
        if let Some(user) = self.users.remove(&id) {
            self.user_ids.remove(&user.name);
        }
    }
}
