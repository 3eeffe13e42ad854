//! The verbs of bulk replays. The engine does them; here they are counted, begun, shown and stopped.

use crate::model::audit::Actor;
use crate::model::replay::ReplayWalk;
use crate::model::{DestinationId, Rate, Replay, ReplayId, ReplayWanted, Seq};
use crate::store::replays::{
    Bounds, CancelReplay, CreateReplay, NotStopped, RUNNING_MAX, RUNNING_PER_TENANT_MAX, Refused, Scope,
};

use super::{Error, Service, Sight};

/// Rows that are looked at in one read while deliveries are counted.
const COUNT_LOOKED_AT: u64 = 20_000;
/// Such reads for one count, at most: beyond it the count is a lower bound.
const COUNT_READS_MAX: usize = 10;
/// Rows that are looked at where a lower bound will do, so that nobody waits for it.
const GLANCE_LOOKED_AT: u64 = 2_000;

/// How many deliveries match.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Count {
    /// As far as they were counted.
    pub matched: u64,
    /// Whether that is all of them.
    pub exact: bool,
}

/// A job as a caller sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SeenReplay {
    /// Everything that the store knows.
    pub replay: Replay,
    /// The one destination that it is about, also when that has been deleted.
    pub destination: Option<DestinationId>,
}

impl Service {
    /// How many deliveries a bulk replay would make due at this moment: a bounded number of short reads.
    pub async fn count_replayable(&self, wanted: &ReplayWanted) -> Result<Count, Error> {
        self.count_in(wanted, COUNT_LOOKED_AT, COUNT_READS_MAX).await
    }

    /// The same as far as one short read tells: exact where it is not many, however many rows there are.
    pub async fn glance_at_replayable(&self, wanted: &ReplayWanted) -> Result<Count, Error> {
        self.count_in(wanted, GLANCE_LOOKED_AT, 1).await
    }

    async fn count_in(&self, wanted: &ReplayWanted, looks: u64, reads_max: usize) -> Result<Count, Error> {
        let mut count = Count { matched: 0, exact: false };
        let mut walk = ReplayWalk::START;
        for turn in 0..reads_max {
            let (wanted, scope) = (wanted.clone(), Scope::of(&self.store.catalog(), wanted));
            let bounds = Bounds { deliveries: usize::MAX, looks, waiting: None, turn };
            let read = move |snapshot: &crate::store::Snapshot| {
                snapshot.replayable(&wanted, Seq(u64::MAX), &walk, &scope, bounds)
            };
            let found = self.store.read(read).await?;
            count.matched += found.deliveries.len() as u64;
            count.exact = found.walk.is_over();
            if count.exact {
                break;
            }
            walk = found.walk;
        }
        Ok(count)
    }

    /// Begins a bulk replay.
    pub async fn create_replay(&self, actor: &Actor, wanted: ReplayWanted, rate: Rate) -> Result<SeenReplay, Error> {
        let Count { matched, exact } = self.count_replayable(&wanted).await?;
        let answer = self.store.steer(actor, CreateReplay { wanted, rate, matched, exact }).await?.answer;
        answer.map(|replay| self.see_replay(replay)).map_err(|refused| match refused {
            Refused::UnknownTenant => Error::NotFound("tenant"),
            Refused::UnknownDestination => Error::NotFound("destination"),
            Refused::TooMany => Error::Conflict(format!(
                "{RUNNING_MAX} bulk replays run already; wait until one has ended, or cancel one"
            )),
            Refused::TooManyOfTenant => Error::Conflict(format!(
                "{RUNNING_PER_TENANT_MAX} bulk replays of this tenant run already; wait until one has ended, or cancel one"
            )),
        })
    }

    /// A bulk replay.
    pub async fn replay(&self, sight: &Sight, id: ReplayId) -> Result<SeenReplay, Error> {
        let found = self.store.read(move |snapshot| snapshot.replay(id)).await?;
        let found = found.filter(|replay| sight.takes(&replay.wanted.tenant));
        found.map(|replay| self.see_replay(replay)).ok_or(Error::NotFound("replay"))
    }

    /// The bulk replays in sight, newest first. Only so many are kept.
    pub async fn replays(&self, sight: &Sight) -> Result<Vec<SeenReplay>, Error> {
        let tenant = match sight {
            Sight::One(tenant) => Some(tenant.clone()),
            Sight::All => None,
        };
        let found = self.store.read(move |snapshot| snapshot.replays(tenant.as_ref())).await?;
        Ok(found.into_iter().map(|replay| self.see_replay(replay)).collect())
    }

    /// Stops a bulk replay. What it has made due stays due.
    pub async fn cancel_replay(&self, actor: &Actor, sight: &Sight, id: ReplayId) -> Result<SeenReplay, Error> {
        self.replay(sight, id).await?;
        let answer = self.store.steer(actor, CancelReplay { id }).await?.answer;
        answer.map(|replay| self.see_replay(replay)).map_err(|why| match why {
            NotStopped::Unknown => Error::NotFound("replay"),
            NotStopped::Ended(state) => Error::Conflict(format!("the replay has ended: it is {}", state.as_str())),
        })
    }

    fn see_replay(&self, replay: Replay) -> SeenReplay {
        let catalog = self.store.catalog();
        let destination = replay.wanted.destination.and_then(|no| catalog.destination_id(no));
        SeenReplay { destination, replay }
    }
}
