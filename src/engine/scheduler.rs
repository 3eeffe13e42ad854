//! The loop: wait, decide, act.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::broadcast;
use tokio::task::{Id, JoinError, JoinSet};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::client::Wire;
use crate::clock::Clock;
use crate::model::delivery::Ending;
use crate::model::{DeliveryId, DeliveryKey, DestinationNo, Ended, NumberMap, Outcome, Reason, Timestamp, Trigger};
use crate::store::op::{AtOnce, Finish, GiveUp, Start, Started, Unstart};
use crate::store::{Change, Heard, ReadError, Snapshot, Store};

use super::attempt::{Attempts, Done, Made};
use super::health::{Kind, Signal};
use super::janitor::OUT_OF_STEP;
use super::lanes::{self, LaneSpec, Lanes, Lease, Limits, Load, Page, Rows};
use super::spread::{LEAD_STAYS, Spreads};
use super::{Metrics, Settings, verdict};

/// Attempts whose end is not on disk yet, at most.
const UNSETTLED_MAX: usize = 8192;
/// The pause after a read that failed.
const READ_REST: Duration = Duration::from_secs(1);
/// An attempt that has run for this long gets a row of its own, so that a crash leaves a trace of it in the history.
const STARTED_AFTER: Duration = Duration::from_millis(100);
/// The least time between two looks for such attempts: many that began shortly one after the other get their rows together.
const LOOK_REST: Duration = Duration::from_millis(25);
/// Pages that are read at once.
const LOADS_MAX: usize = 4;
/// Rows that are looked at for one page, about, where many are put off.
const LOOKED_AT_MAX: usize = 4096;

/// Owns the lanes and the tasks that work for them.
pub(super) struct Scheduler<W> {
    settings: Arc<Settings>,
    store: Store,
    clock: Clock,
    attempts: Attempts<W>,
    rng: fastrand::Rng,
    watchers: broadcast::Sender<Arc<Ended>>,
    metrics: Metrics,
    lanes: Lanes,
    making: JoinSet<Done>,
    leases: NumberMap<Id, UnderWay>,
    /// When the attempts under way are looked at for those that take their time; at the earliest moment that one can.
    look_at: Option<Instant>,
    /// What is overdue all at once, and when each of it may go.
    spreads: Spreads,
    /// Both clocks, when they were compared last.
    clocks: (Timestamp, Instant),
    /// When the clock was set ahead last, while it is not believed for that.
    set_ahead: Option<Instant>,
    loading: JoinSet<(Load, Result<Page, ReadError>)>,
    surveying: JoinSet<Result<Vec<DestinationNo>, ReadError>>,
}

/// An attempt that is under way.
struct UnderWay {
    lease: Lease,
    started: Timestamp,
    /// The same by a clock that does not jump.
    since: Instant,
    /// Whether it has its row.
    noted: bool,
}

/// What the loop waited for.
enum Woken {
    Bell,
    Made(Result<(Id, Done), JoinError>),
    Loaded(Result<(Load, Result<Page, ReadError>), JoinError>),
    Surveyed(Result<Result<Vec<DestinationNo>, ReadError>, JoinError>),
    Clock,
    Stop,
}

impl<W: Wire> Scheduler<W> {
    pub(super) fn new(
        settings: Arc<Settings>,
        store: Store,
        clock: Clock,
        attempts: Attempts<W>,
        rng: fastrand::Rng,
        watchers: broadcast::Sender<Arc<Ended>>,
        metrics: Metrics,
    ) -> Self {
        let limits = Limits {
            in_flight_max: settings.in_flight_total,
            unsettled_max: UNSETTLED_MAX.max(2 * settings.in_flight_total),
            breaker: settings.breaker,
        };
        Scheduler {
            settings,
            store,
            clock,
            attempts,
            rng,
            watchers,
            metrics,
            lanes: Lanes::new(limits),
            making: JoinSet::new(),
            leases: NumberMap::default(),
            look_at: None,
            spreads: Spreads::default(),
            clocks: (clock.now(), Instant::now()),
            set_ahead: None,
            loading: JoinSet::new(),
            surveying: JoinSet::new(),
        }
    }

    pub(super) async fn run(mut self, stop: CancellationToken) {
        self.spreads.start(self.clock.now(), self.rng.u64(..));
        self.listen();
        loop {
            self.compare_clocks();
            self.act();
            match self.wait(&stop).await {
                Woken::Stop => break,
                woken => self.take(woken),
            }
            // What else has happened meanwhile, before anything new is begun.
            while let Some(made) = self.making.try_join_next_with_id() {
                self.take(Woken::Made(made));
            }
            self.note_started();
            self.listen();
        }
        self.drain().await;
    }

    async fn wait(&mut self, stop: &CancellationToken) -> Woken {
        let now = self.clock.now();
        let wake = self.lanes.next_wake().map_or(self.settings.look_at_clock, |at| at.since(now));
        let wake = self.look_at.map_or(wake, |at| wake.min(at.saturating_duration_since(Instant::now())));
        tokio::select! {
            biased;
            () = stop.cancelled() => Woken::Stop,
            Some(made) = self.making.join_next_with_id() => Woken::Made(made),
            () = self.store.bell().rung() => Woken::Bell,
            Some(loaded) = self.loading.join_next() => Woken::Loaded(loaded),
            Some(surveyed) = self.surveying.join_next() => Woken::Surveyed(surveyed),
            () = tokio::time::sleep(wake.min(self.settings.look_at_clock)) => Woken::Clock,
        }
    }

    fn take(&mut self, woken: Woken) {
        let now = self.clock.now();
        match woken {
            Woken::Bell | Woken::Clock | Woken::Stop => {}
            Woken::Made(Ok((id, done))) => {
                if let Some(under_way) = self.leases.remove(&id) {
                    self.ended(under_way, done, now);
                }
            }
            Woken::Made(Err(error)) => {
                if let Some(under_way) = self.leases.remove(&error.id()) {
                    self.cut_off(under_way, &error, now);
                }
            }
            Woken::Loaded(Ok((load, Ok(page)))) => self.lanes.loaded(load, page, now),
            Woken::Loaded(Ok((load, Err(error)))) => {
                tracing::error!(event = "lane_unreadable", destination = load.destination.0, %error, "read a lane");
                self.lanes.load_failed(load);
            }
            Woken::Surveyed(Ok(Ok(found))) => {
                let spec_of = specs(&self.settings, &self.store);
                found.into_iter().for_each(|no| self.lanes.has_rows(no, now, &spec_of));
            }
            Woken::Surveyed(Ok(Err(error))) => {
                tracing::error!(event = "lanes_unreadable", %error, "read which lanes have work");
                self.survey();
            }
            Woken::Loaded(Err(error)) | Woken::Surveyed(Err(error)) => {
                tracing::error!(event = "read_failed", %error, "a reading task ended early; the lanes are read again");
                self.survey();
            }
        }
    }

    /// Hears what the commits changed.
    fn listen(&mut self) {
        match self.store.bell().heard() {
            Heard::Changes(changes) => {
                if changes.is_empty() {
                    return;
                }
                self.hear(changes);
            }
            Heard::Everything(changes) => {
                self.hear(changes);
                self.attempts.destinations_changed();
                self.survey();
            }
        }
    }

    fn hear(&mut self, changes: Vec<Change>) {
        let now = self.clock.now();
        let spec_of = specs(&self.settings, &self.store);
        for change in changes {
            if let Change::Lane(no) | Change::Opened(no) = change {
                self.attempts.destination_changed(no);
            }
            self.lanes.hear(change, now, &spec_of);
        }
    }

    /// Finds out whether the clock was set: what that makes due at once does not go at once.
    fn compare_clocks(&mut self) {
        let (now, instant) = (self.clock.now(), Instant::now());
        let (before, earlier) = std::mem::replace(&mut self.clocks, (now, instant));
        let expected = before.after(instant.duration_since(earlier));
        let (ahead, back) = (now.since(expected), expected.since(now));
        let lead = self.attempts.lead();
        if ahead > OUT_OF_STEP {
            lead.set(lead.now().saturating_add(ahead));
            self.set_ahead = Some(instant);
            self.spreads.jump(expected, now, self.rng.u64(..));
            self.survey();
        } else if back > OUT_OF_STEP {
            lead.set(lead.now().saturating_sub(back));
            self.spreads.set_back();
            self.survey();
        } else if self.set_ahead.is_some_and(|since| instant.duration_since(since) >= LEAD_STAYS) {
            lead.set(Duration::ZERO);
            self.set_ahead = None;
        }
    }

    fn was_set_ahead_since(&mut self, since: Instant) -> bool {
        self.compare_clocks();
        self.set_ahead.is_some_and(|set_ahead| set_ahead >= since)
    }

    /// Reads the lanes again from the disk: at start, and when more has happened than was heard.
    fn survey(&mut self) {
        self.lanes.forget_windows();
        let store = self.store.clone();
        self.surveying.spawn(async move {
            let found = store.read_for_engine(|snapshot| snapshot.lanes_with_work()).await;
            rested(found).await
        });
    }

    /// Begins what the lanes have decided on.
    fn act(&mut self) {
        while self.loading.len() < LOADS_MAX
            && let Some(load) = self.lanes.next_load()
        {
            let store = self.store.clone();
            let (spreads, now) = (self.spreads.clone(), self.clock.now());
            self.loading.spawn(async move { (load, rested(page(&store, load, spreads, now).await).await) });
        }
        let (now, since) = (self.clock.now(), Instant::now());
        while !self.store.has_failed()
            && let Some(lease) = self.lanes.lease(now)
        {
            self.store.note_attempt(lease.row.key(), true);
            let attempt = self.attempts.make(lease.row);
            let id = self.making.spawn(attempt).id();
            self.leases.insert(id, UnderWay { lease, started: now, since, noted: false });
            self.look_at.get_or_insert(since + STARTED_AFTER);
        }
        self.metrics.under_way(self.making.len());
    }

    /// Hands in which attempts have begun to take their time. Those that end before cost nothing here: no row, no timer each, and
    /// one look at all of them in as long as one may take.
    fn note_started(&mut self) {
        if self.leases.is_empty() {
            self.look_at = None;
            return;
        }
        let now = Instant::now();
        if self.look_at.is_none_or(|at| now < at) {
            return;
        }
        let attempts;
        (attempts, self.look_at) = take_their_time(self.leases.values_mut(), now);
        if !attempts.is_empty() {
            self.hand_in(Start { attempts });
        }
    }

    /// Takes the end of an attempt: frees its slot and hands its record to the writer.
    fn ended(&mut self, under_way: UnderWay, done: Done, now: Timestamp) {
        let UnderWay { lease, noted, since, .. } = under_way;
        let row = lease.row;
        self.store.note_attempt(row.key(), false);
        match done {
            // It was weighed by a clock that may have been set ahead in that very moment.
            Done::GivenUp(Ending::Expired) if self.was_set_ahead_since(since) => self.put_back(lease, noted, now),
            Done::Made(made) => self.record(lease, *made, now),
            Done::GivenUp(ending) => {
                // Nothing was sent, so nothing is known of the receiver.
                let silent = Signal { kind: Kind::Silent, kept_waiting: false, retry_after: None };
                let _ = self.lanes.finished(lease, silent, now);
                self.hand_in(GiveUp { row, ending });
            }
            Done::PutBack => self.put_back(lease, noted, now),
        }
    }

    /// A lease that came to nothing: no trace of it stays.
    fn put_back(&mut self, lease: Lease, noted: bool, now: Timestamp) {
        if noted {
            self.hand_in(Unstart { key: lease.row.key() });
        }
        self.lanes.put_back(lease, now);
    }

    fn record(&mut self, lease: Lease, made: Made, now: Timestamp) {
        let row = lease.row;
        let Made { mut attempt, verdict, destination, event } = made;
        let health = self.lanes.finished(lease, verdict.signal, now);
        let schedule = || self.settings.schedule_of(&destination);
        let expires_at = event.head.expires_at.map(|expires_at| expires_at.after(self.attempts.lead().now()));
        let next = verdict::next(&verdict, schedule, row.plan.tried + 1, expires_at, now, &mut self.rng);
        attempt.next = match next {
            crate::store::op::Next::Retry(due) | crate::store::op::Next::Again(due) => Some(due),
            crate::store::op::Next::Succeeded | crate::store::op::Next::GivenUp(_) => None,
        };
        self.metrics.ended(&attempt, event.head.accepted, now);
        let is_awaited = destination.ordered;
        let delivery = || DeliveryId { event: event.id(), destination: row.destination };
        if self.watchers.receiver_count() > 0 {
            let (delivery, kind) = (delivery(), event.head.kind.clone());
            let ended = Ended { delivery, destination, kind, attempt: attempt.bare() };
            // The last of them may have left meanwhile.
            let _ = self.watchers.send(Arc::new(ended));
        }
        if attempt.outcome != Outcome::Succeeded {
            tracing::info!(
                event = "attempt_failed",
                delivery = %delivery(),
                attempt = attempt.number,
                reason = attempt.reason.map(Reason::as_str),
                status = attempt.status,
                next = attempt.next.map(|at| at.to_string()),
                "an attempt failed"
            );
        }
        let finish = Finish { row, attempt, next, health };
        // The next one of an ordered lane waits for the commit.
        if is_awaited { self.hand_in(AtOnce(finish)) } else { self.hand_in(finish) }
    }

    fn hand_in<O: crate::store::Op<Answer = ()>>(&self, op: O) {
        if self.store.record(op).is_err() {
            // The rows are still due on disk: after the restart these deliveries repeat.
            tracing::warn!(event = "outcome_lost", "the store has failed; an outcome is not recorded");
        }
    }

    /// An attempt's task panicked or was cut off: that is an end, too. The receiver may have taken the event.
    fn cut_off(&mut self, under_way: UnderWay, error: &JoinError, now: Timestamp) {
        let UnderWay { lease, started, noted, .. } = under_way;
        let row = lease.row;
        self.store.note_attempt(row.key(), false);
        if error.is_panic() {
            tracing::error!(event = "attempt_panicked", seq = row.seq.0, destination = row.destination.0, %error, "an attempt panicked");
        }
        let event = self.attempts.event_of(row.seq);
        let destination = self.store.catalog().destination(row.destination).map(Arc::clone);
        match (event, destination) {
            (Some(event), Some(destination)) => {
                let made = Made::interrupted(row, started, now, destination, event, error.is_cancelled());
                self.record(lease, made, now);
            }
            // Its row stays due on disk: it is read and tried again.
            (None, _) | (_, None) => self.put_back(lease, noted, now),
        }
    }

    /// Lets attempts under way end, cuts off what takes too long, and records all of them.
    async fn drain(&mut self) {
        // A store that has failed records nothing: waiting for outcomes would only keep the next start waiting.
        let drain_max = if self.store.has_failed() { Duration::ZERO } else { self.settings.drain_max };
        let deadline = Instant::now() + drain_max;
        while !self.making.is_empty() {
            let look_at = self.look_at;
            tokio::select! {
                biased;
                Some(made) = self.making.join_next_with_id() => self.take(Woken::Made(made)),
                // Whoever stops us may lose patience before we do.
                () = at(look_at) => {}
                () = tokio::time::sleep_until(deadline) => {
                    self.making.abort_all();
                    while let Some(made) = self.making.join_next_with_id().await {
                        self.take(Woken::Made(made));
                    }
                }
            }
            self.note_started();
        }
    }
}

/// Which attempts have begun to take their time, and when to look again.
fn take_their_time<'a>(
    under_way: impl Iterator<Item = &'a mut UnderWay>,
    now: Instant,
) -> (Vec<Started>, Option<Instant>) {
    let (mut attempts, mut longest) = (Vec::new(), None);
    for under_way in under_way.filter(|under_way| !under_way.noted) {
        let ran = now - under_way.since;
        if ran >= STARTED_AFTER {
            under_way.noted = true;
            attempts.push(Started { row: under_way.lease.row, at: under_way.started, ran });
        } else {
            longest = longest.max(Some(ran));
        }
    }
    (attempts, longest.map(|ran| now + (STARTED_AFTER - ran).max(LOOK_REST)))
}

/// Waits until a moment, for ever when there is none.
async fn at(moment: Option<Instant>) {
    match moment {
        Some(moment) => tokio::time::sleep_until(moment).await,
        None => std::future::pending().await,
    }
}

/// The rows of a lane that are wanted.
async fn page(store: &Store, load: Load, spreads: Spreads, now: Timestamp) -> Result<Page, ReadError> {
    let Load { destination, from, limit, .. } = load;
    let rows = match load.what {
        Rows::First if !spreads.are_over(now) => {
            return store.read_for_engine(move |snapshot| first_but_put_off(snapshot, &load, &spreads, now)).await;
        }
        Rows::First => store.read_for_engine(move |snapshot| snapshot.lane(destination, from, limit)).await,
        // Two at most, which is never as many as there may be.
        Rows::Heads => store.read_for_engine(move |snapshot| snapshot.heads(destination)).await,
        Rows::Request => {
            // What has been asked since the catalog was published is heard as a change.
            let asked = store.catalog().destination(destination).and_then(|destination| destination.asked);
            let Some(seq) = asked else { return Ok(Page::default()) };
            let key = DeliveryKey { destination, seq };
            let row = store.read_for_engine(move |snapshot| snapshot.waiting_row(key)).await;
            row.map(|row| row.into_iter().filter(|row| row.plan.trigger == Trigger::Confirmation).collect())
        }
    }?;
    Ok(Page::of(&load, rows))
}

/// The first rows of a lane but for those that are put off, and when the first of these may go.
fn first_but_put_off(snapshot: &Snapshot, load: &Load, spreads: &Spreads, now: Timestamp) -> Result<Page, ReadError> {
    let mut page = Page { next: Some(load.from), ..Page::default() };
    let mut looked_at = 0;
    while let Some(from) = page.next
        && page.rows.len() < load.limit
        && looked_at < LOOKED_AT_MAX
    {
        let limit = load.limit - page.rows.len();
        let rows = snapshot.lane(load.destination, from, limit)?;
        looked_at += rows.len();
        page.next = rows.last().filter(|_| rows.len() == limit).map(lanes::after);
        for row in rows {
            match spreads.release(&row, now) {
                None => page.rows.push(row),
                Some(release) => page.wakes = Some(page.wakes.map_or(release, |wakes| wakes.min(release))),
            }
        }
    }
    Ok(page)
}

/// What was read. After a read that failed it comes a moment later, so that trying again does not spin.
async fn rested<T>(read: Result<T, ReadError>) -> Result<T, ReadError> {
    if read.is_err() {
        tokio::time::sleep(READ_REST).await;
    }
    read
}

/// What the configuration and the store say of a lane.
fn specs(settings: &Settings, store: &Store) -> impl Fn(DestinationNo) -> Option<LaneSpec> + use<> {
    let catalog = store.catalog();
    let store = store.clone();
    let in_flight_max = settings.in_flight_max;
    move |no| {
        let destination = catalog.destination(no)?;
        let lane = store.standing(|standing| standing.lane(no));
        Some(LaneSpec {
            in_flight_max: destination.in_flight_max.unwrap_or(in_flight_max),
            ordered: destination.ordered,
            ordering: lane.ordering.is_some(),
            interval: destination.rate.map(|rate| rate.interval()),
            held: lane.is_stopped(destination),
            unconfirmed: !destination.is_confirmed(),
            gone_at_once: destination.gone_at_once,
            health: lane.health,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Seq;
    use crate::store::{DueRow, Plan};

    /// Attempts that begin one after the other share their rows' writes: each is noted, soon, and few writes note them all.
    #[test]
    fn attempts_that_begin_shortly_after_each_other_are_noted_together() {
        let begun_at = Instant::now();
        let mut under_way: Vec<_> = (0..100)
            .map(|place| {
                let due = Timestamp::ZERO;
                let row = DueRow { destination: DestinationNo(1), due, seq: Seq(place), plan: Plan::FIRST };
                let since = begun_at + Duration::from_millis(place);
                UnderWay { lease: Lease { row, resumed: 0 }, started: Timestamp::ZERO, since, noted: false }
            })
            .collect();
        let (mut notes, mut noted, mut look_at) = (0, 0, Some(begun_at + STARTED_AFTER));
        while let Some(now) = look_at {
            let attempts;
            (attempts, look_at) = take_their_time(under_way.iter_mut().filter(|it| it.since <= now), now);
            assert!(attempts.iter().all(|started| started.ran <= STARTED_AFTER + LOOK_REST), "{attempts:?}");
            notes += u32::from(!attempts.is_empty());
            noted += attempts.len();
        }
        assert_eq!(noted, 100);
        assert!(notes <= 5, "{notes} writes");
    }
}
