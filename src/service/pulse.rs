//! What attempts came to over the last hour and the last day, in memory: for charts, and for a page that must be there at once.
//!
//! It is bounded whatever the traffic: attempts are counted in slices of time, their durations in classes. There is one
//! series for the whole installation, and one in coarser slices for each destination that was tried lately. It begins anew
//! with each start of the daemon; what was before stands in the deliveries themselves.

use std::collections::{HashMap, VecDeque};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use crate::model::{Attempt, DestinationNo, Ended, Outcome, Reason, Timestamp};

/// Destinations that have a series of their own; beyond it the one that was tried longest ago is forgotten.
const SERIES_MAX: usize = 512;
/// Destinations whose last attempts are remembered; beyond it what happens to further ones is not.
const LATELY_MAX: usize = 65_536;
/// The upper bounds of the classes of durations, in milliseconds; what took longer is in a last one.
const CLASSES: [u64; 27] = [
    1, 2, 3, 5, 7, 10, 15, 20, 30, 50, 70, 100, 150, 200, 300, 500, 700, 1000, 1500, 2000, 3000, 5000, 7000, 10_000,
    15_000, 20_000, 30_000,
];
const MINUTE: u64 = 60_000;

/// A span of time that ends now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Span {
    /// The last hour.
    Hour,
    /// The last day.
    Day,
}

impl Span {
    /// How long it is.
    pub fn duration(self) -> Duration {
        match self {
            Span::Hour => Duration::from_secs(3600),
            Span::Day => Duration::from_secs(24 * 3600),
        }
    }
}

/// What attempts came to that ended within one slice of time.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Slice {
    /// When it begins.
    pub from: Timestamp,
    /// How many succeeded.
    pub succeeded: u64,
    /// How many failed, or lost their reply.
    pub failed: u64,
    took: [u32; CLASSES.len() + 1],
}

impl Slice {
    fn note(&mut self, outcome: Outcome, took: Duration) {
        match outcome {
            Outcome::Succeeded => self.succeeded += 1,
            Outcome::Failed | Outcome::Unknown => self.failed += 1,
        }
        let millis = u64::try_from(took.as_millis()).unwrap_or(u64::MAX);
        let class = CLASSES.partition_point(|bound| *bound < millis);
        self.took[class] = self.took[class].saturating_add(1);
    }

    fn add(&mut self, other: &Slice) {
        self.succeeded += other.succeeded;
        self.failed += other.failed;
        for (sum, count) in self.took.iter_mut().zip(&other.took) {
            *sum = sum.saturating_add(*count);
        }
    }

    /// How many there were.
    pub fn attempts(&self) -> u64 {
        self.succeeded + self.failed
    }

    /// The part that succeeded; `None` when there was no attempt.
    pub fn success_rate(&self) -> Option<f64> {
        (self.attempts() > 0).then(|| self.succeeded as f64 / self.attempts() as f64)
    }

    /// Within which time so many of a hundred attempts ended, as far as the classes tell: within a class they are taken to
    /// lie evenly. `None` when there was no attempt.
    pub fn percentile(&self, percent: u64) -> Option<Duration> {
        let all: u64 = self.took.iter().map(|count| u64::from(*count)).sum();
        let rank = (all * percent).div_ceil(100).max(1);
        let mut before = 0;
        for (class, count) in self.took.iter().enumerate() {
            let count = u64::from(*count);
            if before + count >= rank && count > 0 {
                let low = class.checked_sub(1).map_or(0, |below| CLASSES[below]);
                // What took longer than the last bound is told as that bound.
                let high = CLASSES.get(class).copied().unwrap_or(low);
                let part = (rank - before) as f64 / count as f64;
                return Some(Duration::from_secs_f64((low as f64 + part * (high - low) as f64) / 1000.0));
            }
            before += count;
        }
        None
    }
}

/// Attempts over a span, slice by slice.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Course {
    /// Every slice of the span, the oldest first; those before [`Course::since`] are empty.
    pub slices: Vec<Slice>,
    /// All of them together.
    pub total: Slice,
    /// How long a slice is.
    pub step: Duration,
    /// From when on attempts have been counted.
    pub since: Timestamp,
}

/// Why an attempt did not succeed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LastFailure {
    /// When it began.
    pub at: Timestamp,
    /// Why.
    pub reason: Option<Reason>,
    /// The status of the reply, if there was one.
    pub status: Option<u16>,
}

/// How a destination did lately: whatever the receiver answered, and not only what says that it is not there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Lately {
    /// Attempts that failed since one succeeded, as far as they are known: there may have been more before the daemon's start.
    pub failures: u32,
    /// Whether one of these was the last of its delivery.
    pub gave_up: bool,
    /// The last attempt that did not succeed.
    pub last_failure: Option<LastFailure>,
    /// The last attempt after which a delivery was given up, whatever has succeeded since.
    pub last_given_up: Option<LastFailure>,
}

impl Lately {
    fn note(&mut self, attempt: &Attempt) {
        match attempt.outcome {
            Outcome::Succeeded => {
                self.failures = 0;
                self.gave_up = false;
            }
            // That the daemon stopped says nothing of the receiver.
            Outcome::Failed | Outcome::Unknown if attempt.reason == Some(Reason::Interrupted) => {}
            Outcome::Failed | Outcome::Unknown => {
                let Attempt { started: at, reason, status, .. } = *attempt;
                let failure = Some(LastFailure { at, reason, status });
                self.failures = self.failures.saturating_add(1);
                self.last_failure = failure;
                if attempt.next.is_none() {
                    self.gave_up = true;
                    self.last_given_up = failure;
                }
            }
        }
    }
}

/// Slices of two sizes: fine ones for the hour, coarse ones for the day. Those without an attempt are not kept.
#[derive(Debug)]
struct Series {
    fine: Ring,
    coarse: Ring,
    last: Timestamp,
}

#[derive(Debug)]
struct Ring {
    step: u64,
    span: Span,
    slices: VecDeque<Slice>,
}

impl Ring {
    fn new(step_minutes: u64, span: Span) -> Self {
        Ring { step: step_minutes * MINUTE, span, slices: VecDeque::new() }
    }

    fn floor(&self, at: Timestamp) -> Timestamp {
        Timestamp::from_millis(at.as_millis() / self.step * self.step)
    }

    fn note(&mut self, at: Timestamp, outcome: Outcome, took: Duration) {
        let from = self.floor(at);
        // A clock that was set back adds to the newest slice there is.
        if self.slices.back().is_none_or(|newest| newest.from < from) {
            self.slices.push_back(Slice { from, ..Slice::default() });
            let first = self.floor(at.before(self.span.duration()));
            while self.slices.front().is_some_and(|oldest| oldest.from < first) {
                self.slices.pop_front();
            }
        }
        if let Some(newest) = self.slices.back_mut() {
            newest.note(outcome, took);
        }
    }
}

impl Series {
    fn new(fine_minutes: u64, coarse_minutes: u64) -> Self {
        Series {
            fine: Ring::new(fine_minutes, Span::Hour),
            coarse: Ring::new(coarse_minutes, Span::Day),
            last: Timestamp::ZERO,
        }
    }

    fn of_house() -> Self {
        Series::new(1, 15)
    }

    fn of_destination() -> Self {
        Series::new(5, 30)
    }

    fn note(&mut self, at: Timestamp, ended: &Ended) {
        let attempt = &ended.attempt;
        self.last = self.last.max(at);
        self.fine.note(at, attempt.outcome, attempt.duration);
        self.coarse.note(at, attempt.outcome, attempt.duration);
    }

    fn ring(&self, span: Span) -> &Ring {
        match span {
            Span::Hour => &self.fine,
            Span::Day => &self.coarse,
        }
    }
}

/// What attempts came to lately.
#[derive(Debug)]
pub struct Pulse {
    since: Timestamp,
    // Locked for a look or a change.
    kept: Mutex<Kept>,
}

#[derive(Debug)]
struct Kept {
    house: Series,
    destinations: HashMap<DestinationNo, Series>,
    lately: HashMap<DestinationNo, Lately>,
}

impl Pulse {
    /// Nothing yet, from this moment on.
    pub fn new(since: Timestamp) -> Self {
        let kept = Kept { house: Series::of_house(), destinations: HashMap::new(), lately: HashMap::new() };
        Pulse { since, kept: Mutex::new(kept) }
    }

    /// An attempt has ended.
    pub fn note(&self, ended: &Ended) {
        let at = ended.attempt.started.after(ended.attempt.duration);
        let no = ended.destination.no;
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        kept.house.note(at, ended);
        if kept.destinations.len() >= SERIES_MAX && !kept.destinations.contains_key(&no) {
            let idle = kept.destinations.iter().min_by_key(|(_, series)| series.last).map(|(no, _)| *no);
            if let Some(idle) = idle {
                kept.destinations.remove(&idle);
            }
        }
        kept.destinations.entry(no).or_insert_with(Series::of_destination).note(at, ended);
        if kept.lately.len() < LATELY_MAX || kept.lately.contains_key(&no) {
            kept.lately.entry(no).or_default().note(&ended.attempt);
        }
    }

    /// The course of the whole installation.
    pub fn of_house(&self, span: Span, now: Timestamp) -> Course {
        let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        self.course([&kept.house].into_iter(), &Series::of_house(), span, now)
    }

    /// The course of these destinations together.
    pub fn of_destinations(&self, which: impl Fn(DestinationNo) -> bool, span: Span, now: Timestamp) -> Course {
        let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let seen = kept.destinations.iter().filter(|(no, _)| which(**no)).map(|(_, series)| series);
        self.course(seen, &Series::of_destination(), span, now)
    }

    /// How a destination did lately; `None` when nothing is known of it.
    pub fn lately(&self, no: DestinationNo) -> Option<Lately> {
        let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        kept.lately.get(&no).copied()
    }

    /// Learns how destinations did before the daemon's start, from some of their attempts, the oldest first; where one has been
    /// tried meanwhile, that counts. Those that are not there any more are forgotten.
    pub fn recall(&self, found: Vec<(DestinationNo, Vec<Attempt>)>, is_there: impl Fn(DestinationNo) -> bool) {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        kept.lately.retain(|no, _| is_there(*no));
        for (no, attempts) in found {
            if kept.lately.len() < LATELY_MAX && !kept.lately.contains_key(&no) {
                let mut lately = Lately::default();
                attempts.iter().for_each(|attempt| lately.note(attempt));
                kept.lately.insert(no, lately);
            }
        }
    }

    fn course<'a>(&self, all: impl Iterator<Item = &'a Series>, form: &Series, span: Span, now: Timestamp) -> Course {
        let ring = form.ring(span);
        let count = u64::try_from(span.duration().as_millis()).unwrap_or(u64::MAX) / ring.step;
        let last = ring.floor(now).as_millis();
        let first = last.saturating_sub((count - 1) * ring.step);
        let begins = |place: u64| Timestamp::from_millis(first + place * ring.step);
        let mut slices: Vec<_> = (0..count).map(|place| Slice { from: begins(place), ..Slice::default() }).collect();
        let mut total = Slice { from: begins(0), ..Slice::default() };
        for slice in all.flat_map(|series| &series.ring(span).slices) {
            let Some(behind) = slice.from.as_millis().checked_sub(first) else { continue };
            if let Some(sum) = slices.get_mut(usize::try_from(behind / ring.step).unwrap_or(usize::MAX)) {
                sum.add(slice);
                total.add(slice);
            }
        }
        Course { slices, total, step: Duration::from_millis(ring.step), since: self.since }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::delivery::{Headers, Phases};
    use crate::model::{Attempt, DeliveryId, Destination, DestinationId, Epoch, EventId, Seq, TenantId, Trigger};
    use std::sync::Arc;
    use uuid::Uuid;

    const NOW: Timestamp = Timestamp::from_millis(1_700_000_000_000);

    fn ended(no: u32, started: Timestamp, millis: u64, outcome: Outcome) -> Ended {
        let (number, id) = (DestinationNo(no), DestinationId(Uuid::from_u128(no.into())));
        let destination =
            Destination::new(number, id, TenantId::default_tenant(), "d", "https://a.example/", Timestamp::ZERO);
        let attempt = Attempt {
            number: 1,
            due: started,
            started,
            duration: Duration::from_millis(millis),
            trigger: Trigger::Schedule,
            outcome,
            reason: (outcome == Outcome::Failed).then_some(Reason::Status),
            status: (outcome == Outcome::Failed).then_some(503),
            request_headers: Headers::default(),
            response_headers: Headers::default(),
            response_body: Vec::new(),
            error: None,
            address: None,
            phases: Phases::default(),
            reconnected: false,
            next: None,
        };
        let delivery = DeliveryId { event: EventId::new(Epoch(1), Seq(1)), destination: number };
        let kind = "a.b".parse().unwrap();
        Ended { delivery, destination: Arc::new(destination), kind, attempt }
    }

    #[test]
    fn attempts_are_counted_in_the_slice_that_they_ended_in() {
        let pulse = Pulse::new(NOW);
        pulse.note(&ended(1, NOW.before(Duration::from_secs(130)), 10_000, Outcome::Succeeded));
        pulse.note(&ended(1, NOW, 5, Outcome::Failed));
        pulse.note(&ended(2, NOW, 5, Outcome::Unknown));
        let hour = pulse.of_house(Span::Hour, NOW.after(Duration::from_secs(1)));
        assert_eq!((hour.slices.len(), hour.step), (60, Duration::from_secs(60)));
        let counted: Vec<_> = hour.slices.iter().rev().take(3).map(|it| (it.succeeded, it.failed)).collect();
        assert_eq!(counted, [(0, 2), (0, 0), (1, 0)]);
        assert_eq!((hour.total.attempts(), hour.total.success_rate()), (3, Some(1.0 / 3.0)));
        let one = pulse.of_destinations(|no| no.0 == 1, Span::Day, NOW);
        assert_eq!((one.slices.len(), one.total.succeeded, one.total.failed), (48, 1, 1));
        let failure = pulse.lately(DestinationNo(1)).unwrap().last_failure.unwrap();
        assert_eq!((failure.at, failure.reason, failure.status), (NOW, Some(Reason::Status), Some(503)));
        assert_eq!(pulse.of_house(Span::Hour, NOW.after(Duration::from_secs(7200))).total.attempts(), 0);
    }

    #[test]
    fn percentiles_lie_within_the_class_of_their_rank() {
        let mut slice = Slice::default();
        assert_eq!((slice.percentile(50), slice.success_rate()), (None, None));
        for millis in 1..=100 {
            slice.note(Outcome::Succeeded, Duration::from_millis(millis));
        }
        let near = |percent, millis: u64| {
            let told = slice.percentile(percent).unwrap().as_millis() as u64;
            assert!(told.abs_diff(millis) <= millis / 20, "{percent}: {told} is not near {millis}");
        };
        near(50, 50);
        near(95, 95);
        slice.note(Outcome::Failed, Duration::from_secs(600));
        assert_eq!(slice.percentile(100), Some(Duration::from_secs(30)), "beyond the last bound");
    }

    /// Invariant 5: memory stays bounded however many destinations there are and however long they are tried.
    #[test]
    fn what_is_kept_is_bounded() {
        let pulse = Pulse::new(NOW);
        for no in 0..SERIES_MAX as u32 + 10 {
            pulse.note(&ended(no, NOW.after(Duration::from_secs(no.into())), 1, Outcome::Failed));
        }
        let has_series = |no| pulse.kept.lock().unwrap().destinations.contains_key(&DestinationNo(no));
        assert!(!has_series(0), "the one that was tried longest ago");
        assert!(has_series(SERIES_MAX as u32 + 9));
        for minute in 0..3000 {
            pulse.note(&ended(600, NOW.after(Duration::from_secs(60 * minute)), 1, Outcome::Succeeded));
        }
        for no in 0..LATELY_MAX as u32 + 10 {
            pulse.note(&ended(no, NOW, 1, Outcome::Failed));
        }
        let kept = pulse.kept.lock().unwrap();
        assert_eq!((kept.destinations.len(), kept.lately.len()), (SERIES_MAX, LATELY_MAX));
        assert!(kept.house.fine.slices.len() <= 61 && kept.house.coarse.slices.len() <= 97);
    }

    /// A receiver that refuses everything is alive and does badly all the same: what it answers counts, until one is taken.
    #[test]
    fn failures_are_counted_until_a_success_and_what_was_given_up_is_remembered() {
        let pulse = Pulse::new(NOW);
        let one = DestinationNo(1);
        assert_eq!(pulse.lately(one), None);
        let mut retried = ended(1, NOW, 1, Outcome::Failed);
        retried.attempt.next = Some(NOW.after(Duration::from_secs(60)));
        pulse.note(&retried);
        let lately = pulse.lately(one).unwrap();
        assert_eq!((lately.failures, lately.gave_up, lately.last_given_up), (1, false, None));
        pulse.note(&ended(1, NOW, 1, Outcome::Failed));
        let mut stopped = ended(1, NOW.after(Duration::from_secs(1)), 1, Outcome::Unknown);
        stopped.attempt.reason = Some(Reason::Interrupted);
        pulse.note(&stopped);
        let lately = pulse.lately(one).unwrap();
        assert_eq!((lately.failures, lately.gave_up), (2, true), "that the daemon stopped does not count");
        assert_eq!(lately.last_given_up, lately.last_failure);
        pulse.note(&ended(1, NOW, 1, Outcome::Succeeded));
        let lately = pulse.lately(one).unwrap();
        assert_eq!((lately.failures, lately.gave_up, lately.last_given_up.is_some()), (0, false, true));
        // What is on disk counts only where nothing was seen since the start.
        let failed = |no| (DestinationNo(no), vec![ended(no, NOW, 1, Outcome::Failed).attempt]);
        pulse.recall(vec![failed(1), failed(2)], |_| true);
        assert_eq!([1, 2].map(|no| pulse.lately(DestinationNo(no)).unwrap().failures), [0, 1]);
        pulse.recall(vec![], |no| no == one);
        assert!(pulse.lately(one).is_some() && pulse.lately(DestinationNo(2)).is_none());
    }
}
