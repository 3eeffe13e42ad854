//! What is overdue all at once does not go all at once: retries after a restart, and after the clock was set ahead.
//!
//! A retry that a jump of the clock made due waits for the rest of its time, as if the clock had gone on at its pace. So after a
//! jump there are at most twice as many attempts as before it: those that were overtaken, and those whose time comes by the clock
//! that is right now. A retry that is overdue when the daemon starts comes within as long as it is overdue, five minutes at most,
//! at a moment that chance gives it once for all; so does one that would have had to wait for days when the clock jumped, for no
//! schedule waits as long: the clock was wrong before, as that of a machine which starts in 1970.
//!
//! Nothing of this is on disk: a clock that is set back, or a restart, finds each delivery due when it was due. What has never
//! been tried and what an operator sends again does not wait; nor do the lanes that are ordered, with their one attempt at a time.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::model::Timestamp;
use crate::store::DueRow;

/// The longest that a retry is put off after a start.
pub const AFTER_START_MAX: Duration = Duration::from_secs(300);
/// The longest that a retry can have had to wait when the clock jumped.
pub const AFTER_JUMP_MAX: Duration = Duration::from_secs(48 * 3600);
/// A clock that has gone on for so long without being set is right.
pub const LEAD_STAYS: Duration = Duration::from_secs(3600);
/// Moments at which retries are let go: a lane with many of them is not read again for each.
const STEPS: u32 = 256;
/// Jumps that are kept apart; of more, the oldest ends early.
const SPREADS_MAX: usize = 4;

/// How far the clock may run ahead of the right time, for all that anybody knows: by how much it was set ahead, until it has gone
/// on without being set again for an hour.
///
/// What expires does not come back, so nothing expires on the word of such a clock: an event is given up when its time has passed
/// by the clock as it went before. One that is delivered meanwhile may come later than its producer wanted; none is lost because a
/// clock was wrong for a while. At a start the clock is believed.
#[derive(Debug, Default)]
pub struct Lead(AtomicU64);

impl Lead {
    /// How far.
    pub fn now(&self) -> Duration {
        Duration::from_millis(self.0.load(Ordering::Relaxed))
    }

    pub(super) fn set(&self, lead: Duration) {
        self.0.store(u64::try_from(lead.as_millis()).unwrap_or(u64::MAX), Ordering::Relaxed);
    }
}

/// Retries that became due all at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Spread {
    /// Those due after this moment,
    from: Timestamp,
    /// and not after this one.
    to: Timestamp,
    /// When it was found, by the clock that is right now.
    at: Timestamp,
    /// How long it takes at most.
    over: Duration,
    /// What gives a moment to each that cannot have had so long to wait.
    chance: u64,
}

/// All that are not over yet.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Spreads(Vec<Spread>);

impl Spread {
    fn release(&self, row: &DueRow) -> Option<Timestamp> {
        if row.plan.tried == 0 || row.due <= self.from || row.due > self.to {
            return None;
        }
        let (mut wait, mut span) = (row.due.since(self.from), self.over);
        if wait > self.over {
            let seed = self.chance ^ row.seq.0.rotate_left(32) ^ u64::from(row.destination.0);
            span = self.over.min(AFTER_START_MAX);
            let longest = self.to.since(row.due).min(span);
            wait = longest.mul_f64(fastrand::Rng::with_seed(seed).f64());
        }
        let step = (span / STEPS).max(Duration::from_millis(1));
        let steps = wait.as_nanos().div_ceil(step.as_nanos()).min(u128::from(STEPS));
        Some(self.at.after(step * u32::try_from(steps).unwrap_or(STEPS)))
    }

    fn end(&self) -> Timestamp {
        self.at.after(self.over)
    }
}

impl Spreads {
    /// The daemon starts: what is overdue by now comes one after the other.
    pub fn start(&mut self, now: Timestamp, chance: u64) {
        self.add(Spread { from: Timestamp::ZERO, to: now, at: now, over: AFTER_START_MAX, chance });
    }

    /// The clock was set ahead, from where it would have been to now.
    pub fn jump(&mut self, from: Timestamp, now: Timestamp, chance: u64) {
        let by = now.since(from);
        // What waits for the end of another spread goes on waiting for as long.
        for spread in &mut self.0 {
            spread.at = spread.at.after(by);
        }
        self.add(Spread { from, to: now, at: now, over: by.min(AFTER_JUMP_MAX), chance });
    }

    /// The clock was set back: what it made due too early is not due any more, and whatever still is goes.
    pub fn set_back(&mut self) {
        self.0.clear();
    }

    fn add(&mut self, spread: Spread) {
        self.0.retain(|other| other.end() > spread.at);
        if self.0.len() == SPREADS_MAX {
            self.0.remove(0);
        }
        self.0.push(spread);
    }

    /// When a row may be attempted, if not at once.
    pub fn release(&self, row: &DueRow, now: Timestamp) -> Option<Timestamp> {
        let released = self.0.iter().filter_map(|spread| spread.release(row)).max();
        released.filter(|release| *release > now)
    }

    /// Whether any row has to wait at all.
    pub fn are_over(&self, now: Timestamp) -> bool {
        self.0.iter().all(|spread| spread.end() <= now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{DestinationNo, Seq, Trigger};
    use crate::store::Plan;

    fn at(seconds: u64) -> Timestamp {
        Timestamp::from_millis(1_700_000_000_000 + seconds * 1000)
    }

    fn retry(seq: u64, due: Timestamp) -> DueRow {
        DueRow { destination: DestinationNo(1), due, seq: Seq(seq), plan: Plan { tried: 1, number: 2, ..Plan::FIRST } }
    }

    /// Each waits for what was left of its time, to a small part of the jump, and what was not overtaken does not wait.
    #[test]
    fn what_a_jump_overtook_waits_for_the_rest_of_its_time() {
        let mut spreads = Spreads::default();
        spreads.jump(at(0), at(6400), 7);
        let release = |row: &DueRow| spreads.release(row, at(6400)).map(|release| release.since(at(6400)).as_secs());
        for (due, expected) in [(0, None), (1, Some(25)), (3200, Some(3200)), (6399, Some(6400)), (6401, None)] {
            assert_eq!(release(&retry(1, at(due))), expected, "{due}");
        }
        let fresh = DueRow { plan: Plan::FIRST, ..retry(1, at(10)) };
        let resent = DueRow { plan: Plan { trigger: Trigger::Manual, number: 3, ..Plan::FIRST }, ..fresh };
        assert_eq!((release(&fresh), release(&resent)), (None, None));
        assert!(!spreads.are_over(at(12_799)) && spreads.are_over(at(12_800)));
        spreads.set_back();
        assert_eq!(spreads.release(&retry(1, at(10)), at(0)), None);
    }

    /// After a start none waits longer than it is overdue, nor longer than the bound; they are spread, and each has its one moment.
    #[test]
    fn what_is_overdue_at_a_start_comes_within_as_long_again() {
        let mut spreads = Spreads::default();
        spreads.start(at(100_000), 7);
        let step = AFTER_START_MAX / STEPS;
        let mut counts = [0; 10];
        for seq in 0..10_000 {
            let row = retry(seq, at(10_000));
            let release = spreads.release(&row, at(100_000)).unwrap();
            assert_eq!(spreads.release(&row, at(100_000)), Some(release));
            let wait = release.since(at(100_000));
            assert!(wait <= AFTER_START_MAX);
            counts[(wait.as_millis() * 10 / (AFTER_START_MAX.as_millis() + 1)) as usize] += 1;
        }
        assert!(counts.iter().all(|count| (700..1300).contains(count)), "{counts:?}");
        for overdue in [0, 1, 60] {
            let row = retry(1, at(100_000 - overdue));
            let wait = spreads.release(&row, at(100_000)).map_or(Duration::ZERO, |it| it.since(at(100_000)));
            assert!(wait <= Duration::from_secs(overdue) + step, "{overdue} {wait:?}");
        }
    }

    /// A machine that starts in 1970 and is set right has overtaken nothing, and one that is set to 2099 lets nothing go at once.
    #[test]
    fn a_clock_that_was_wrong_before_keeps_nothing_waiting_for_years() {
        let mut spreads = Spreads::default();
        spreads.jump(Timestamp::from_millis(60_000), at(100_000), 7);
        let release = spreads.release(&retry(1, at(10)), at(100_000));
        assert!(release.is_none_or(|release| release.since(at(100_000)) <= AFTER_START_MAX), "{release:?}");
        let year_2099 = Timestamp::from_millis(4_070_908_800_000);
        let mut spreads = Spreads::default();
        spreads.jump(at(0), year_2099, 7);
        let release = spreads.release(&retry(1, at(7200)), year_2099).unwrap();
        let wait = release.since(year_2099);
        assert!((7200..=7200 + AFTER_JUMP_MAX.as_secs() / u64::from(STEPS)).contains(&wait.as_secs()), "{wait:?}");
    }

    /// A jump while others still wait leaves them waiting for as long as before.
    #[test]
    fn a_second_jump_does_not_let_the_first_go_at_once() {
        let mut spreads = Spreads::default();
        spreads.start(at(100_000), 7);
        let row = retry(1, at(10));
        let wait = spreads.release(&row, at(100_000)).unwrap().since(at(100_000));
        spreads.jump(at(100_001), at(200_000), 8);
        let release = spreads.release(&row, at(200_000)).unwrap();
        assert_eq!(release, at(100_000).after(wait).after(Duration::from_secs(99_999)));
        (0..20).for_each(|nth| spreads.jump(at(300_000 + nth), at(400_000 + nth), nth));
        assert_eq!(spreads.0.len(), SPREADS_MAX);
    }
}
