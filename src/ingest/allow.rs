//! Who may emit for which tenants, by what the kernel says of the process at the other end.

use std::collections::HashSet;
use std::sync::Arc;

use tokio::sync::Semaphore;

use crate::model::TenantId;
use crate::model::event::Peer;

/// One `[[ingest.allow]]` rule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rule {
    /// Whom it lets in.
    pub who: Who,
    /// For which tenants; empty for all.
    pub tenants: Vec<TenantId>,
}

/// Whom a rule lets in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Who {
    /// A user, by number.
    Uid(u32),
    /// The members of a group, by number: as the process's own group, or as one of its user's further groups.
    Gid(u32),
}

/// For whom a producer may emit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Allowed {
    /// Every tenant: there are no rules, or one of them says so.
    All,
    /// These.
    These(HashSet<TenantId>),
}

impl Allowed {
    /// Whether a tenant is among them.
    pub fn takes(&self, tenant: &TenantId) -> bool {
        match self {
            Allowed::All => true,
            Allowed::These(tenants) => tenants.contains(tenant),
        }
    }
}

/// The rules, and how many may ask the system's user database at once: where that hangs, only those who ask wait for it.
pub(super) struct Rules {
    rules: Vec<Rule>,
    turns: Arc<Semaphore>,
}

/// Look-ups at once.
const LOOK_UPS_MAX: usize = 4;

impl Rules {
    pub(super) fn new(rules: Vec<Rule>) -> Self {
        Rules { rules, turns: Arc::new(Semaphore::new(LOOK_UPS_MAX)) }
    }

    /// For whom a peer may emit. The user database is asked only where a rule needs it, on a thread where it may take its time.
    pub(super) async fn allow(&self, peer: Peer) -> Allowed {
        let asks = |rule: &Rule| matches!(rule.who, Who::Gid(gid) if gid != peer.gid);
        if !self.rules.iter().any(asks) {
            return of(&self.rules, &peer);
        }
        let turn = Arc::clone(&self.turns).acquire_owned().await.expect("nobody closes the semaphore");
        let rules = self.rules.clone();
        let asked = tokio::task::spawn_blocking(move || {
            let _turn = turn;
            of(&rules, &peer)
        });
        // A look-up that fails lets nobody in.
        asked.await.unwrap_or(Allowed::These(HashSet::new()))
    }
}

/// For whom a peer may emit: without rules for all, otherwise for what the rules that let it in say together.
fn of(rules: &[Rule], peer: &Peer) -> Allowed {
    if rules.is_empty() {
        return Allowed::All;
    }
    let mut tenants = HashSet::new();
    for rule in rules.iter().filter(|rule| lets_in(&rule.who, peer)) {
        if rule.tenants.is_empty() {
            return Allowed::All;
        }
        tenants.extend(rule.tenants.iter().cloned());
    }
    Allowed::These(tenants)
}

fn lets_in(who: &Who, peer: &Peer) -> bool {
    match *who {
        Who::Uid(uid) => peer.uid == uid,
        Who::Gid(gid) => peer.gid == gid || is_member(peer.uid, gid),
    }
}

/// Whether a user is listed in a group. A look-up that fails lets nobody in.
fn is_member(uid: u32, gid: u32) -> bool {
    let user = nix::unistd::User::from_uid(uid.into()).ok().flatten();
    let group = nix::unistd::Group::from_gid(gid.into()).ok().flatten();
    match (user, group) {
        (Some(user), Some(group)) => group.mem.contains(&user.name),
        (None, _) | (_, None) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_add_up_and_no_rule_lets_everybody_in() {
        let tenant = |id: &str| -> TenantId { id.parse().unwrap() };
        let peer = Peer { uid: 4_000_000_001, gid: 4_000_000_002, pid: None };
        let rule = |who, tenants: &[&str]| Rule { who, tenants: tenants.iter().map(|id| tenant(id)).collect() };
        assert_eq!(of(&[], &peer), Allowed::All);
        let rules =
            [rule(Who::Uid(4_000_000_001), &["a"]), rule(Who::Gid(4_000_000_002), &["b"]), rule(Who::Uid(7), &["c"])];
        let allowed = of(&rules, &peer);
        assert!(allowed.takes(&tenant("a")) && allowed.takes(&tenant("b")) && !allowed.takes(&tenant("c")));
        assert_eq!(of(&[rule(Who::Uid(4_000_000_001), &[])], &peer), Allowed::All);
        assert_eq!(of(&[rule(Who::Uid(7), &[])], &peer), Allowed::These(HashSet::new()));
    }
}
