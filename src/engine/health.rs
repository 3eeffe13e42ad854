//! What an attempt tells about its receiver, and what follows for the lane: Retry-After, 410, the breaker.

use std::time::Duration;

use crate::model::Timestamp;
use crate::store::LaneHealth;

/// The longest that a Retry-After is honoured.
pub const RETRY_AFTER_MAX: Duration = Duration::from_secs(24 * 3600);
/// Two 410s in a row this far apart hold a lane as gone, so that one bad deployment does not cut payments off.
pub const GONE_APART: Duration = Duration::from_secs(3600);
/// The longest that a lane is shut between two probes, unless the first time is set longer.
const SHUT_MAX: Duration = Duration::from_secs(300);
/// When a lane is shut, and for how long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BreakerSettings {
    /// Failures of the receiver in a row; 0 never shuts.
    pub failures_max: u32,
    /// How long it is shut at first; each failed probe doubles it, up to five minutes.
    pub shut_for: Duration,
}

impl BreakerSettings {
    /// The longest that a lane is shut at all.
    pub fn shut_longest(&self) -> Duration {
        SHUT_MAX.max(self.shut_for)
    }
}

/// What an attempt tells about its receiver.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Signal {
    /// In one word.
    pub kind: Kind,
    /// The receiver kept us waiting: a limit passed, or the attempt took long.
    pub kept_waiting: bool,
    /// The receiver asked for no request before this moment.
    pub retry_after: Option<Timestamp>,
}

impl Signal {
    /// Nothing is told.
    pub const SILENT: Signal = Signal { kind: Kind::Silent, kept_waiting: false, retry_after: None };
}

/// What an attempt tells about its receiver, in one word.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// It took the delivery.
    Succeeded,
    /// It answered, and did not want this one: it is alive.
    Refused,
    /// It is not there, or not well.
    Failing,
    /// It says that it is gone.
    Gone,
    /// Nothing: the attempt was not made, or we cut it.
    Silent,
}

/// What is known of a receiver after an attempt.
pub fn after(
    before: LaneHealth,
    signal: Signal,
    now: Timestamp,
    breaker: &BreakerSettings,
    gone_at_once: bool,
) -> LaneHealth {
    let mut health = before;
    // What has passed, and what lies further ahead than it can have been set to: the clock has jumped.
    let holds = |until: &Timestamp| *until > now && *until <= now.after(RETRY_AFTER_MAX);
    health.hold_until = health.hold_until.filter(holds);
    health.shut_until = health.shut_until.filter(|until| *until <= now.after(breaker.shut_longest()));
    if let Some(until) = signal.retry_after {
        let until = until.min(now.after(RETRY_AFTER_MAX));
        health.hold_until = Some(health.hold_until.map_or(until, |already| already.max(until)));
    }
    match signal.kind {
        Kind::Succeeded | Kind::Refused => {
            let LaneHealth { hold_until, resumed, .. } = health;
            let slow = signal.kept_waiting;
            health = LaneHealth { hold_until, proven: true, slow, ..LaneHealth::unknown(resumed) };
        }
        Kind::Failing => {
            health.gone_since = None;
            health.slow = signal.kept_waiting;
            // Attempts that were under way when the lane was shut tell nothing new.
            if health.shut_until.is_none_or(|until| until <= now) {
                health.failures = health.failures.saturating_add(1);
                if let Some(extra) = health.failures.checked_sub(breaker.failures_max)
                    && breaker.failures_max > 0
                {
                    let shut_for = breaker.shut_for.saturating_mul(1 << extra.min(10)).min(breaker.shut_longest());
                    health.shut_until = Some(now.after(shut_for));
                }
            }
        }
        Kind::Gone => {
            let since = *health.gone_since.get_or_insert(now);
            health.gone |= gone_at_once || now.since(since) >= GONE_APART;
            health.failures = 0;
            health.shut_until = None;
            health.slow = false;
        }
        Kind::Silent => {}
    }
    health
}

#[cfg(test)]
mod tests {
    use super::*;

    const BREAKER: BreakerSettings = BreakerSettings { failures_max: 3, shut_for: Duration::from_secs(30) };

    fn at(seconds: u64) -> Timestamp {
        Timestamp::from_millis(seconds * 1000)
    }

    fn proven() -> LaneHealth {
        LaneHealth { proven: true, ..LaneHealth::default() }
    }

    fn told(signals: &[(u64, Kind)]) -> LaneHealth {
        signals.iter().fold(LaneHealth::default(), |health, &(seconds, kind)| {
            after(health, Signal { kind, kept_waiting: false, retry_after: None }, at(seconds), &BREAKER, false)
        })
    }

    #[test]
    fn a_lane_is_shut_after_failures_in_a_row_and_longer_after_each_failed_probe() {
        use Kind::*;
        assert_eq!(told(&[(0, Failing), (1, Failing)]).shut_until, None);
        assert_eq!(told(&[(0, Failing), (1, Failing), (2, Failing)]).shut_until, Some(at(32)));
        let cut_off = [(0, Failing), (1, Failing), (2, Failing), (3, Failing)];
        assert_eq!(told(&cut_off).shut_until, Some(at(32)), "what was under way does not count");
        assert_eq!(told(&[(0, Failing), (1, Failing), (2, Failing), (32, Failing)]).shut_until, Some(at(92)));
        assert_eq!(told(&[(0, Failing), (1, Failing), (2, Failing), (32, Succeeded)]), proven());
        assert_eq!(told(&[(0, Failing), (1, Failing), (2, Refused), (3, Failing)]).shut_until, None);
    }

    #[test]
    fn a_receiver_proves_itself_by_an_answer_and_is_slow_until_it_answers_in_time() {
        let kept_waiting = Signal { kind: Kind::Failing, kept_waiting: true, retry_after: None };
        let slow = after(proven(), kept_waiting, at(0), &BREAKER, false);
        assert!(slow.proven && slow.slow);
        let drip = Signal { kind: Kind::Succeeded, kept_waiting: true, retry_after: None };
        assert!(after(proven(), drip, at(0), &BREAKER, false).slow, "a success that took long is slow, too");
        let refused = Signal { kind: Kind::Failing, kept_waiting: false, retry_after: None };
        assert!(!after(slow, refused, at(1), &BREAKER, false).slow);
        let answered = Signal { kind: Kind::Refused, kept_waiting: false, retry_after: None };
        assert_eq!(after(slow, answered, at(1), &BREAKER, false), proven());
    }

    #[test]
    fn what_a_jumping_clock_left_behind_does_not_count() {
        let far =
            LaneHealth { hold_until: Some(at(1_000_000)), shut_until: Some(at(1_000_000)), failures: 2, ..proven() };
        let failing = Signal { kind: Kind::Failing, kept_waiting: false, retry_after: Some(at(60)) };
        let health = after(far, failing, at(0), &BREAKER, false);
        assert_eq!((health.hold_until, health.shut_until), (Some(at(60)), Some(at(30))));
    }

    #[test]
    fn one_gone_does_not_hold_a_lane_but_two_in_a_row_an_hour_apart_do() {
        use Kind::*;
        assert!(!told(&[(0, Gone)]).gone);
        assert!(!told(&[(0, Gone), (3599, Gone)]).gone);
        assert!(told(&[(0, Gone), (3600, Gone)]).gone);
        assert!(!told(&[(0, Gone), (1800, Succeeded), (3600, Gone)]).gone);
        let strict = after(
            LaneHealth::default(),
            Signal { kind: Gone, kept_waiting: false, retry_after: None },
            at(0),
            &BREAKER,
            true,
        );
        assert!(strict.gone);
    }

    #[test]
    fn retry_after_holds_a_lane_for_a_day_at_most() {
        let asked = |seconds| Signal { kind: Kind::Failing, kept_waiting: false, retry_after: Some(at(seconds)) };
        let health = after(LaneHealth::default(), asked(100), at(0), &BREAKER, false);
        assert_eq!(health.hold_until, Some(at(100)));
        let health = after(health, asked(50), at(1), &BREAKER, false);
        assert_eq!(health.hold_until, Some(at(100)), "a shorter wish does not shorten a longer one");
        let health = after(health, asked(1_000_000), at(1), &BREAKER, false);
        assert_eq!(health.hold_until, Some(at(1 + 24 * 3600)));
    }
}
