//! Bulk replays on disk: jobs, and the slices in which they are done.
//!
//! A slice is found by a reader and done by the writer: the deliveries that it makes due, the job's counts and how far it has
//! come are one transaction, so that a crash neither skips nor repeats a delivery. A slice that was found before another one
//! was done is not done any more.
//!
//! Failed deliveries and cancelled ones lie by destination in a table each; successes are found by the lists of the runs.
//! A slice looks at a bounded number of rows in any case, and goes on with the next.

use redb::{ReadableTable, ReadableTableMetadata};
use serde_json::{Value, json};

use crate::model::audit::{Action, Deed};
use crate::model::replay::{Replay, ReplayId, ReplayState, ReplayWalk, ReplayWanted};
use crate::model::{
    DeliveryKey, DeliveryState, DestinationNo, Rate, Seq, TenantId, Timestamp, Trigger, TypePattern, milestone,
};

use super::audit::{Effect, Steer};
use super::codec;
use super::op::{self, Steered};
use super::reader::{ReadError, Snapshot};
use super::segments::{Answer, Asked, Stretch, Time};
use super::tables::Records;
use super::writer::{ApplyError, Batch, Op};

/// Jobs that may run at once, over all tenants.
pub const RUNNING_MAX: usize = 100;
/// Jobs of one tenant that may run at once: nobody takes the others' places.
pub const RUNNING_PER_TENANT_MAX: usize = 20;
/// Jobs that are kept; the oldest that have ended make room for new ones.
pub const KEPT_MAX: u64 = 1000;
/// Destinations that a job is at work on at once.
const PARTS_MAX: usize = 1024;

// ---------------------------------------------------------------------------------------------------------- reading

/// The destinations that a job may make deliveries due for, in ascending order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Scope(Vec<DestinationNo>);

impl Scope {
    /// Of what is wanted, those that are there at this moment.
    pub fn of(catalog: &super::Catalog, wanted: &ReplayWanted) -> Self {
        let is_there = |no: &DestinationNo| catalog.destination(*no).is_some_and(|it| it.tenant == wanted.tenant);
        let mut nos: Vec<_> = match wanted.destination {
            Some(no) => vec![no],
            None => catalog.destinations_of(&wanted.tenant).collect(),
        };
        nos.retain(is_there);
        nos.sort_unstable();
        Scope(nos)
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    fn has(&self, no: DestinationNo) -> bool {
        self.0.binary_search(&no).is_ok()
    }

    fn first_from(&self, no: DestinationNo) -> Option<DestinationNo> {
        self.0.get(self.0.partition_point(|own| *own < no)).copied()
    }
}

/// What bounds a slice.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bounds {
    /// Deliveries, at most.
    pub deliveries: usize,
    /// Rows that are looked at, at most, but for the last one's further ones.
    pub looks: u64,
    /// Deliveries that may be due and waiting in a lane for it to be given more; `None` when only counting.
    pub waiting: Option<(Timestamp, usize)>,
    /// With which of the job's destinations to begin, counted round.
    pub turn: usize,
}

/// The next deliveries of a job.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// Which.
    pub deliveries: Vec<DeliveryKey>,
    /// How far the job has come with them.
    pub walk: ReplayWalk,
    /// How many of its destinations were looked at.
    pub parts: usize,
}

/// What a walk looks for, and where it can be.
struct Search<'a> {
    wanted: &'a ReplayWanted,
    from: Seq,
    until: Seq,
    /// Oldest first; only where successes are wanted.
    runs: Vec<Stretch>,
    looks_end: u64,
}

impl Snapshot {
    /// A job.
    pub fn replay(&self, id: ReplayId) -> Result<Option<Replay>, ReadError> {
        match self.replays.get(id.0)? {
            Some(record) => Ok(Some(codec::decode(self.replays.place(id.0), record.value())?)),
            None => Ok(None),
        }
    }

    /// The jobs of a tenant, or all of them, newest first. There are [`KEPT_MAX`] at most.
    pub fn replays(&self, tenant: Option<&TenantId>) -> Result<Vec<Replay>, ReadError> {
        let mut found = Vec::new();
        for entry in self.replays.iter()?.rev() {
            self.look();
            let (number, record) = entry?;
            let Ok(replay) = codec::decode::<Replay>(self.replays.place(number.value()), record.value()) else {
                continue;
            };
            if tenant.is_none_or(|tenant| *tenant == replay.wanted.tenant) {
                found.push(replay);
            }
        }
        Ok(found)
    }

    /// The deliveries that are wanted, from where a walk has come on.
    pub fn replayable(
        &self,
        wanted: &ReplayWanted,
        until: Seq,
        walk: &ReplayWalk,
        scope: &Scope,
        bounds: Bounds,
    ) -> Result<Found, ReadError> {
        let search = self.search(wanted, until, bounds.looks);
        let mut next = walk.next;
        let mut line: std::collections::VecDeque<_> = walk.parts.iter().copied().collect();
        let length = line.len().max(1);
        line.rotate_left(bounds.turn % length);
        let (mut kept, mut deliveries, mut parts) = (Vec::new(), Vec::new(), 0);
        while deliveries.len() < bounds.deliveries && self.looked_at() < search.looks_end {
            let opened = |next: &mut Option<DestinationNo>| {
                let no = next.and_then(|next| scope.first_from(next));
                *next = no.and_then(|no| no.0.checked_add(1)).map(DestinationNo);
                no.map(|no| (no, search.from))
            };
            let part = match line.pop_front() {
                Some(part) => Some(part),
                None if kept.len() < PARTS_MAX => opened(&mut next),
                None => None,
            };
            let Some((no, from)) = part else { break };
            parts += 1;
            self.look();
            if !scope.has(no) {
                continue;
            }
            let room = match bounds.waiting {
                None => usize::MAX,
                Some((now, most)) => most - self.waiting_now(no, now, most)?,
            };
            let limit = room.min(bounds.deliveries - deliveries.len());
            if limit == 0 {
                kept.push((no, from));
                continue;
            }
            let left_at = self.find_ended(&search, no, from, limit, &mut deliveries)?;
            kept.extend(left_at.map(|seq| (no, seq)));
        }
        kept.extend(line);
        kept.sort_unstable();
        Ok(Found { deliveries, walk: ReplayWalk { parts: kept, next }, parts })
    }

    fn search<'a>(&self, wanted: &'a ReplayWanted, until: Seq, looks: u64) -> Search<'a> {
        let time = Time { from: wanted.from, to: wanted.to };
        let mut runs: Vec<_> = self.runs().newest_first().filter(|run| time.may_hold(run.accepted())).collect();
        runs.reverse();
        let from = runs.first().map_or(until, Stretch::first);
        let until = runs.last().map_or(until, |run| run.end().min(until));
        if wanted.state != DeliveryState::Succeeded {
            runs.clear();
        }
        Search { wanted, from, until, runs, looks_end: self.looked_at() + looks.max(1) }
    }

    /// How many deliveries of a lane are due and wait, as far as they are at most so many.
    fn waiting_now(&self, no: DestinationNo, now: Timestamp, most: usize) -> Result<usize, ReadError> {
        let mut count = 0;
        for entry in self.due.range((no.0, 0, 0)..=(no.0, now.as_millis(), u64::MAX))?.take(most) {
            entry?;
            self.look();
            count += 1;
        }
        Ok(count)
    }

    /// Adds up to so many wanted deliveries of a destination. Answers where it left off, unless nothing is left.
    fn find_ended(
        &self,
        search: &Search<'_>,
        no: DestinationNo,
        from: Seq,
        limit: usize,
        into: &mut Vec<DeliveryKey>,
    ) -> Result<Option<Seq>, ReadError> {
        let full = into.len().saturating_add(limit);
        // However much the way to the first row took: a slice that comes to its part comes on with it.
        let mut moved = false;
        let stops =
            |into: &Vec<DeliveryKey>, moved| into.len() >= full || (moved && self.looked_at() >= search.looks_end);
        let rows = match search.wanted.state {
            DeliveryState::Succeeded => None,
            DeliveryState::Cancelled => Some(&self.cancelled),
            DeliveryState::Failed | DeliveryState::Pending | DeliveryState::Held => Some(&self.ended),
        };
        if let Some(rows) = rows {
            for entry in rows.range((no.0, from.0)..(no.0, search.until.0.max(from.0)))? {
                let seq = Seq(entry?.0.value().1);
                if stops(into, moved) {
                    return Ok(Some(seq));
                }
                moved = true;
                self.look();
                let key = DeliveryKey { destination: no, seq };
                if self.is_of_wanted_event(search.wanted, key)? {
                    into.push(key);
                }
            }
            return Ok(None);
        }
        let asked = Asked { kind: search.wanted.kind.clone(), ..Asked::destination(no) };
        for run in search.runs.iter().filter(|run| run.end() > from && run.first() < search.until) {
            if stops(into, moved) {
                return Ok(Some(run.first().max(from)));
            }
            self.look();
            let places = match run.ask(&asked, self.segments(), || self.look())? {
                Answer::These(places) => places,
                // The destination's list is damaged.
                Answer::All => {
                    let rows = self.event_rows(run.first().max(from), run.end().min(search.until))?;
                    rows.map(|row| row.map(|(seq, _)| Seq(seq.value()))).collect::<Result<_, _>>()?
                }
            };
            for seq in places.into_iter().filter(|seq| (from..search.until).contains(seq)) {
                if stops(into, moved) {
                    return Ok(Some(seq));
                }
                moved = true;
                self.look();
                let key = DeliveryKey { destination: no, seq };
                let has_succeeded = self.ended.get((no.0, seq.0))?.is_none()
                    && self.cancelled.get((no.0, seq.0))?.is_none()
                    && op::find_waiting(&self.events, &self.attempts, &self.due, key)?.is_none();
                if has_succeeded && self.is_of_wanted_event(search.wanted, key)? {
                    into.push(key);
                }
            }
            moved = true;
        }
        Ok(None)
    }

    fn is_of_wanted_event(&self, wanted: &ReplayWanted, key: DeliveryKey) -> Result<bool, ReadError> {
        let Some(record) = self.events.get(key.seq.0)? else { return Ok(false) };
        let Ok(head) = codec::decode_event_head(self.events.place(key.seq.0), record.value()) else { return Ok(false) };
        // Whoever replays everything does not ask receivers for a confirmation once more.
        if head.kind.as_str() == milestone::CONFIRMATION && !matches!(wanted.kind, Some(TypePattern::One(_))) {
            return Ok(false);
        }
        Ok(head.targets.iter().any(|target| target.destination == key.destination)
            && wanted.kind.as_ref().is_none_or(|kind| kind.matches(&head.kind))
            && wanted.from.is_none_or(|from| head.accepted >= from)
            && wanted.to.is_none_or(|to| head.accepted < to))
    }
}

/// The jobs that have not ended.
pub(super) fn running(rows: &impl Records<u64>) -> Result<Vec<ReplayId>, ApplyError> {
    let mut running = Vec::new();
    for entry in rows.iter()? {
        let (number, record) = entry?;
        let Ok(replay) = codec::decode::<Replay>(rows.place(number.value()), record.value()) else { continue };
        if replay.state == ReplayState::Running {
            running.push(replay.id);
        }
    }
    Ok(running)
}

// --------------------------------------------------------------------------------------------------------- changing

/// Begins a bulk replay.
pub struct CreateReplay {
    /// Of which deliveries.
    pub wanted: ReplayWanted,
    /// How fast, at most.
    pub rate: Rate,
    /// How many match, as far as they were counted.
    pub matched: u64,
    /// Whether that is all of them.
    pub exact: bool,
}

/// Why a bulk replay was not begun.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refused {
    /// There is no such tenant any more.
    UnknownTenant,
    /// There is no such destination of the tenant any more.
    UnknownDestination,
    /// [`RUNNING_MAX`] jobs run already.
    TooMany,
    /// [`RUNNING_PER_TENANT_MAX`] jobs of the tenant run already.
    TooManyOfTenant,
}

impl Steer for CreateReplay {
    type Answer = Result<Replay, Refused>;

    fn bytes(&self) -> usize {
        512
    }

    fn steer(self, batch: &mut Batch<'_>) -> Result<Effect<Self::Answer>, ApplyError> {
        let CreateReplay { wanted, rate, matched, exact } = self;
        let refused = |why| Ok(Effect::Refused(Err(why)));
        if batch.catalog().tenant(&wanted.tenant).is_none() {
            return refused(Refused::UnknownTenant);
        }
        if wanted.destination.is_some() && Scope::of(batch.catalog(), &wanted).is_empty() {
            return refused(Refused::UnknownDestination);
        }
        if batch.replays().len() >= RUNNING_MAX {
            return refused(Refused::TooMany);
        }
        let mut of_tenant = 0;
        for id in batch.replays().iter().copied().collect::<Vec<_>>() {
            of_tenant += usize::from(get(batch, id)?.is_some_and(|other| other.wanted.tenant == wanted.tenant));
        }
        if of_tenant >= RUNNING_PER_TENANT_MAX {
            return refused(Refused::TooManyOfTenant);
        }
        make_room(batch)?;
        let id = ReplayId(batch.numbers.next_replay);
        batch.numbers.next_replay += 1;
        let replay = Replay {
            id,
            rate,
            created: batch.now,
            until: Seq(batch.numbers.next_seq),
            state: ReplayState::Running,
            ended: None,
            matched,
            exact,
            done: 0,
            skipped: 0,
            step: 0,
            walk: ReplayWalk::START,
            wanted,
        };
        put(batch, &replay)?;
        batch.replays_mut().insert(id);
        let after = shown(batch, &replay);
        let deed = deed(&replay, Action::ReplayCreate, (Value::Null, after));
        Ok(Effect::Done(Ok(replay), vec![deed]))
    }
}

/// Stops a bulk replay. What it has made due stays due.
pub struct CancelReplay {
    /// Which.
    pub id: ReplayId,
}

/// Why a bulk replay was not stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NotStopped {
    /// There is no such job.
    Unknown,
    /// It has ended already.
    Ended(ReplayState),
}

impl Steer for CancelReplay {
    type Answer = Result<Replay, NotStopped>;

    fn bytes(&self) -> usize {
        512
    }

    fn steer(self, batch: &mut Batch<'_>) -> Result<Effect<Self::Answer>, ApplyError> {
        let mut replay = match get(batch, self.id)? {
            None => return Ok(Effect::Refused(Err(NotStopped::Unknown))),
            Some(Replay { state, .. }) if state != ReplayState::Running => {
                return Ok(Effect::Refused(Err(NotStopped::Ended(state))));
            }
            Some(replay) => replay,
        };
        let state = |replay: &Replay| json!({"done": replay.done, "state": replay.state.as_str()});
        let before = state(&replay);
        end(batch, &mut replay, ReplayState::Cancelled);
        put(batch, &replay)?;
        let deed = deed(&replay, Action::ReplayCancel, (before, state(&replay)));
        Ok(Effect::Done(Ok(replay), vec![deed]))
    }
}

/// Does a slice of a bulk replay: makes deliveries due again, and keeps how far the job has come.
pub struct ReplaySlice {
    /// Which job.
    pub id: ReplayId,
    /// How many slices had been done when this one was found.
    pub step: u64,
    /// What was found.
    pub found: Found,
}

impl Op for ReplaySlice {
    /// How many deliveries are due again; `None` when the slice was not done, for the job has gone on or has ended.
    type Answer = Option<usize>;

    fn bytes(&self) -> usize {
        1024 + self.found.deliveries.len() * 256 + self.found.walk.parts.len() * 16
    }

    fn apply(self, batch: &mut Batch<'_>) -> Result<Option<usize>, ApplyError> {
        let Some(mut replay) = get(batch, self.id)? else { return Ok(None) };
        if replay.state != ReplayState::Running || replay.step != self.step {
            return Ok(None);
        }
        if replay.wanted.destination.is_some() && Scope::of(batch.catalog(), &replay.wanted).is_empty() {
            end(batch, &mut replay, ReplayState::Failed);
            put(batch, &replay)?;
            return Ok(Some(0));
        }
        let mut done = 0;
        for key in self.found.deliveries {
            // What was found may have been resent, cancelled or removed since: then it does not match any more.
            match op::resend(batch, key, Trigger::Replay, |state| state == replay.wanted.state)? {
                Ok(_) => done += 1,
                Err(Steered::Erased) => replay.skipped += 1,
                Err(
                    Steered::Done
                    | Steered::Unknown
                    | Steered::NotFrom(_)
                    | Steered::DueAlready
                    | Steered::NoDestination
                    | Steered::Damaged,
                ) => {}
            }
        }
        replay.done += done as u64;
        replay.matched = replay.matched.max(replay.done + replay.skipped);
        replay.step += 1;
        replay.walk = self.found.walk;
        if replay.walk.is_over() {
            end(batch, &mut replay, ReplayState::Done);
            (replay.matched, replay.exact) = (replay.done + replay.skipped, true);
        }
        put(batch, &replay)?;
        Ok(Some(done))
    }
}

/// Stops a job whose record is damaged: nobody knows what it is to do. The record stays where it is.
pub struct SetAside {
    /// Which.
    pub id: ReplayId,
}

impl Op for SetAside {
    type Answer = ();

    fn bytes(&self) -> usize {
        64
    }

    fn apply(self, batch: &mut Batch<'_>) -> Result<(), ApplyError> {
        if get(batch, self.id)?.is_none() {
            batch.replays_mut().remove(&self.id);
        }
        Ok(())
    }
}

/// Drops jobs that ended before a moment.
pub struct DropReplays {
    /// Which moment.
    pub before: Timestamp,
}

impl Op for DropReplays {
    type Answer = ();

    fn bytes(&self) -> usize {
        1024
    }

    fn apply(self, batch: &mut Batch<'_>) -> Result<(), ApplyError> {
        drop_where(batch, |replay| replay.ended.is_some_and(|ended| ended < self.before))
    }
}

/// Drops the jobs of a tenant that is deleted: whoever takes its id one day does not see them.
pub(super) fn forget_tenant(batch: &mut Batch<'_>, tenant: &TenantId) -> Result<(), ApplyError> {
    drop_where(batch, |replay| replay.wanted.tenant == *tenant)
}

fn drop_where(batch: &mut Batch<'_>, is_dropped: impl Fn(&Replay) -> bool) -> Result<(), ApplyError> {
    let mut rows = batch.replay_rows()?;
    let mut dropped = Vec::new();
    for entry in rows.iter()? {
        let (number, record) = entry?;
        let Ok(replay) = codec::decode::<Replay>(rows.place(number.value()), record.value()) else { continue };
        if is_dropped(&replay) {
            dropped.push(replay.id);
        }
    }
    for id in &dropped {
        rows.remove(id.0)?;
    }
    drop(rows);
    if dropped.iter().any(|id| batch.replays().contains(id)) {
        let running = batch.replays_mut();
        running.retain(|id| !dropped.contains(id));
    }
    Ok(())
}

/// Drops the oldest jobs that have ended, until there is room for one more.
fn make_room(batch: &mut Batch<'_>) -> Result<(), ApplyError> {
    let mut rows = batch.replay_rows()?;
    while rows.len()? >= KEPT_MAX {
        let mut oldest = None;
        for entry in rows.iter()? {
            let number = entry?.0.value();
            if !batch.replays().contains(&ReplayId(number)) {
                oldest = Some(number);
                break;
            }
        }
        // Fewer run than are kept, so there is one.
        let Some(number) = oldest else { break };
        rows.remove(number)?;
    }
    Ok(())
}

/// A job, if it is there and not damaged.
fn get(batch: &Batch<'_>, id: ReplayId) -> Result<Option<Replay>, ApplyError> {
    let rows = batch.replay_rows()?;
    let record = rows.get(id.0)?;
    Ok(record.and_then(|record| codec::decode(rows.place(id.0), record.value()).ok()))
}

fn put(batch: &Batch<'_>, replay: &Replay) -> Result<(), ApplyError> {
    Ok(batch.replay_rows()?.put(replay.id.0, replay)?)
}

fn end(batch: &mut Batch<'_>, replay: &mut Replay, state: ReplayState) {
    replay.state = state;
    replay.ended = Some(batch.now);
    replay.walk = ReplayWalk { parts: Vec::new(), next: None };
    batch.replays_mut().remove(&replay.id);
}

fn deed(replay: &Replay, action: Action, (before, after): (Value, Value)) -> Deed {
    let (tenant, object) = (Some(replay.wanted.tenant.clone()), Some(replay.id.to_string()));
    Deed { action, tenant, object, before, after }
}

fn shown(batch: &Batch<'_>, replay: &Replay) -> Value {
    let Replay { wanted, rate, matched, .. } = replay;
    let destination = wanted.destination.and_then(|no| batch.catalog().destination_id(no));
    json!({
        "destination": destination.map(|id| id.to_string()),
        "from": wanted.from.map(|at| at.to_string()),
        "matched": matched,
        "rate": {"events": rate.events, "per": crate::model::time::duration_text(rate.per)},
        "state": wanted.state.as_str(),
        "to": wanted.to.map(|at| at.to_string()),
        "type": wanted.kind.as_ref().map(|kind| kind.to_string()),
    })
}

#[cfg(test)]
mod tests;
