//! Retry schedules: data, not code. The base delay is one function, the jitter another.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::Invalid;

/// Upper bound on the attempts of one delivery on one schedule.
pub const ATTEMPTS_MAX: u32 = 1000;
/// Upper bound on one delay.
pub const DELAY_MAX: Duration = Duration::from_secs(31 * 24 * 3600);
/// How much a delay may grow by chance when nobody says otherwise: up to a fifth.
pub const JITTER_DEFAULT: f64 = 0.2;

/// When a failed delivery is tried again: the delays between attempts, before jitter.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Schedule {
    delays: Vec<Duration>,
    attempts_max: u32,
    jitter: f64,
}

impl Schedule {
    /// A schedule of these delays. Without `attempts_max` each delay is used once; beyond the list its last delay repeats.
    pub fn new(delays: Vec<Duration>, attempts_max: Option<u32>, jitter: f64) -> Result<Self, Invalid> {
        let attempts_max = match attempts_max {
            Some(attempts_max) => attempts_max,
            None => u32::try_from(delays.len() + 1).map_err(|_| Invalid::new("has too many delays"))?,
        };
        if !(1..=ATTEMPTS_MAX).contains(&attempts_max) {
            return Err(Invalid(format!("attempts_max is 1 to {ATTEMPTS_MAX}")));
        }
        if delays.is_empty() && attempts_max > 1 {
            return Err(Invalid::new("needs at least one delay, or attempts_max = 1"));
        }
        if delays.iter().any(|delay| *delay > DELAY_MAX) {
            return Err(Invalid::new("a delay is at most 31 days"));
        }
        if !(0.0..=10.0).contains(&jitter) {
            return Err(Invalid::new("jitter is a share of the delay, 0 to 10"));
        }
        Ok(Schedule { delays, attempts_max, jitter })
    }

    /// How many attempts a delivery gets in all.
    pub fn attempts_max(&self) -> u32 {
        self.attempts_max
    }

    /// The delays between attempts, before jitter.
    pub fn delays(&self) -> &[Duration] {
        &self.delays
    }

    /// The wait after `tried` attempts on this schedule, before jitter; `None` when there is no further attempt.
    pub fn base_delay(&self, tried: u32) -> Option<Duration> {
        if tried >= self.attempts_max {
            return None;
        }
        let place = (tried.max(1) - 1) as usize;
        self.delays.get(place).or(self.delays.last()).copied()
    }

    /// `base` and a random part of it on top, up to this schedule's share. Chance never shortens a delay.
    pub fn jittered(&self, base: Duration, rng: &mut fastrand::Rng) -> Duration {
        base + base.mul_f64(self.jitter * rng.f64())
    }

    /// The schedules that every installation knows by name. Sources: Standard Webhooks, and the vendors' documented policies.
    pub fn named() -> Vec<(&'static str, Schedule)> {
        const S: u64 = 1;
        const M: u64 = 60;
        const H: u64 = 3600;
        let of = |runs: &[(u64, usize)]| {
            let delays =
                runs.iter().flat_map(|&(seconds, times)| std::iter::repeat_n(Duration::from_secs(seconds), times));
            Schedule::new(delays.collect(), None, JITTER_DEFAULT).expect("the built-in delays are within bounds")
        };
        let adyen_start = [9, 18, 27, 2 * M, 5 * M, 10 * M, 15 * M, 30 * M, H, 2 * H, 4 * H];
        let adyen_repeats = (30 * 24 * H - adyen_start.iter().sum::<u64>()) / (8 * H);
        let mut adyen: Vec<_> = adyen_start.iter().map(|&seconds| (seconds, 1)).collect();
        adyen.push((8 * H, adyen_repeats as usize));
        vec![
            (
                "standard",
                of(&[
                    (5 * S, 1),
                    (5 * M, 1),
                    (30 * M, 1),
                    (2 * H, 1),
                    (5 * H, 1),
                    (10 * H, 1),
                    (14 * H, 1),
                    (20 * H, 1),
                    (24 * H, 1),
                ]),
            ),
            ("console-72h", of(&[(5 * M, 12), (H, 11), (3 * H, 4), (6 * H, 8)])),
            (
                "nmi-3d",
                of(&[
                    (15 * S, 1),
                    (60 * S, 3),
                    (5 * M, 1),
                    (15 * M, 1),
                    (30 * M, 1),
                    (H, 10),
                    (12 * H, 2),
                    (24 * H, 1),
                ]),
            ),
            ("checkout-30h", of(&[(5 * M, 1), (10 * M, 1), (15 * M, 1), (30 * M, 1), (H, 1), (4 * H, 1), (12 * H, 2)])),
            ("adyen-30d", of(&adyen)),
        ]
    }
}

/// What a destination says about retries: which schedule, and what it changes of it.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Retry {
    /// Where the delays come from.
    pub plan: Plan,
    /// Replaces the schedule's own number of attempts.
    pub attempts_max: Option<u32>,
    /// Replaces the schedule's own jitter.
    pub jitter: Option<f64>,
}

/// Where a destination's delays come from.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub enum Plan {
    /// The installation's default schedule (`delivery.schedule`).
    #[default]
    Default,
    /// A schedule of the installation by name.
    Named(String),
    /// The destination's own list.
    Delays(Vec<Duration>),
}

impl Retry {
    /// The schedule that this and the `named` schedule (the one `plan` refers to) make together.
    pub fn resolve(&self, named: &Schedule) -> Result<Schedule, Invalid> {
        let (delays, attempts_max) = match &self.plan {
            Plan::Delays(delays) => (delays.clone(), self.attempts_max),
            Plan::Default | Plan::Named(_) => (named.delays.clone(), self.attempts_max.or(Some(named.attempts_max))),
        };
        Schedule::new(delays, attempts_max, self.jitter.unwrap_or(named.jitter))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(name: &str) -> Schedule {
        Schedule::named().into_iter().find(|(known, _)| *known == name).unwrap().1
    }

    fn total(schedule: &Schedule) -> Duration {
        (1..).map_while(|tried| schedule.base_delay(tried)).sum()
    }

    /// SX.7: each named schedule makes the attempts, and ends after the time, that its source documents.
    #[test]
    fn named_schedules_have_their_documented_length() {
        let hours = |h: u64, m: u64, s: u64| Duration::from_secs(h * 3600 + m * 60 + s);
        let table = [
            ("standard", 10, hours(75, 35, 5)),
            ("console-72h", 36, hours(72, 0, 0)),
            ("nmi-3d", 21, hours(58, 53, 15)),
            ("checkout-30h", 9, hours(30, 0, 0)),
        ];
        for (name, attempts, span) in table {
            let schedule = named(name);
            assert_eq!((schedule.attempts_max(), total(&schedule)), (attempts, span), "{name}");
        }
        let adyen = total(&named("adyen-30d"));
        assert!(adyen <= hours(30 * 24, 0, 0) && adyen > hours(30 * 24 - 8, 0, 0), "{adyen:?}");
    }

    /// Source 001's policy (NOTES 2.3): every 5 minutes for the first hour, hourly for the next 11 hours, every 3 hours for the
    /// next 12 and every 6 for the next 48.
    #[test]
    fn the_consoles_schedule_is_its_policy() {
        let minutes = |delays: &[Duration]| delays.iter().map(|delay| delay.as_secs() / 60).collect::<Vec<_>>();
        let policy = [vec![5; 12], vec![60; 11], vec![180; 4], vec![360; 8]].concat();
        assert_eq!(minutes(named("console-72h").delays()), policy);
        assert_eq!(policy.iter().sum::<u64>(), 72 * 60);
    }

    #[test]
    fn attempts_beyond_the_list_repeat_its_last_delay() {
        let schedule = Schedule::new(vec![Duration::from_secs(1), Duration::from_secs(5)], Some(5), 0.0).unwrap();
        let delays: Vec<_> = (1..=5).map(|tried| schedule.base_delay(tried).map(|delay| delay.as_secs())).collect();
        assert_eq!(delays, [Some(1), Some(5), Some(5), Some(5), None]);
    }

    #[test]
    fn one_attempt_needs_no_delay() {
        let schedule = Schedule::new(vec![], Some(1), 0.2).unwrap();
        assert_eq!(schedule.base_delay(1), None);
        assert!(Schedule::new(vec![], Some(2), 0.2).is_err());
    }

    #[test]
    fn jitter_only_ever_adds_and_stays_within_its_share() {
        let schedule = named("standard");
        let mut rng = fastrand::Rng::with_seed(1);
        let base = Duration::from_secs(100);
        let drawn: Vec<_> = (0..1000).map(|_| schedule.jittered(base, &mut rng)).collect();
        assert!(drawn.iter().all(|delay| (base..=base.mul_f64(1.2)).contains(delay)));
        assert!(drawn.iter().max() > Some(&base.mul_f64(1.19)), "the whole share is used");
    }

    #[test]
    fn a_destination_changes_what_it_names_of_a_schedule() {
        let standard = named("standard");
        let retry = Retry { plan: Plan::Default, attempts_max: Some(3), jitter: Some(0.0) };
        let schedule = retry.resolve(&standard).unwrap();
        assert_eq!(schedule.attempts_max(), 3);
        let own = Retry { plan: Plan::Delays(vec![Duration::from_secs(1)]), ..Retry::default() };
        assert_eq!(own.resolve(&standard).unwrap().attempts_max(), 2);
    }
}
