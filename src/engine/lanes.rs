//! Which delivery goes next: the decision, without a clock, a task or a disk in it.
//!
//! A lane is the line of due deliveries of one destination. On disk it is a key range; here it is a window on the head of that
//! range: a few ids, never bodies. The window is complete below its `bound`: whatever lies at or beyond it may be on disk only
//! and is loaded when the window runs low. So a lane with a million waiting deliveries costs what one with three hundred costs.
//!
//! Ready lanes take turns. Lanes whose receiver kept us waiting last share a quarter of the slots, so that a crowd of dead
//! receivers cannot take them all. Lanes whose receiver has not proved itself yet share another quarter, one attempt at a time
//! each, so that a new receiver does not wait behind the dead ones. What a receiver has proved is kept on disk.
//!
//! The request for a lane's confirmation passes where the lane is held for the lack of it. It may lie behind any number of held
//! rows, so it is kept beside the window and sought on disk by its own id.
//!
//! What a bulk replay made due gives way to what is fresh in the same lane, three times in a row at most: so neither waits long
//! for the other. Few of a replay's deliveries wait in a lane at once, for the replayer sees to that.
//!
//! An ordered lane has no window: of its deliveries the disk knows which is the first in the line, and which is the next of those
//! beside it (sent again, delayed by their producer, tests), and these two are all that memory holds. The first in the line holds
//! back what is behind it until its end is on disk, also while it waits for a retry: so whatever a crash repeats is what was sent
//! last. What waits beside the line takes turns with it, one attempt at a time over both, and its retries hold nobody back.
//!
//! A delivery that was leased is *unsettled* until the end of its attempt is on disk. Until then its old row may still be read
//! there, and must not be taken for work.

use std::collections::{BTreeMap, BTreeSet, VecDeque, hash_map};
use std::time::Duration;

use crate::model::{DeliveryKey, DestinationNo, NumberMap, Seq, Timestamp, Trigger};
use crate::store::{Change, DueRow, LaneHealth, Plan};

use super::health::{self, BreakerSettings, Signal};

/// Deliveries that a window holds at most; about 16 KB.
pub const WINDOW_MAX: usize = 256;
/// A window with fewer is filled up from the disk.
const WINDOW_LOW: usize = WINDOW_MAX / 2;
/// Changes that are kept for a lane while a page of it is on its way; at the bound the page is given up and asked for again.
const MISSED_MAX: usize = 4096;
/// How long a lane rests after a lease that came to nothing.
const REST: Duration = Duration::from_secs(1);
/// The share of all slots that the slow lanes may take together, and likewise the fresh ones.
const SHARE: usize = 4;

/// How often in a row a delivery of a bulk replay gives way to a fresh one.
const GIVES_WAY_MAX: u32 = 3;

/// The bounds over all lanes.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Attempts at once.
    pub in_flight_max: usize,
    /// Attempts whose end is not on disk yet; above it nothing new is leased.
    pub unsettled_max: usize,
    /// When a lane is shut, and for how long.
    pub breaker: BreakerSettings,
}

/// What the configuration and the operators say of a lane.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LaneSpec {
    /// Attempts at once.
    pub in_flight_max: u32,
    /// Whether its deliveries go one at a time, in order.
    pub ordered: bool,
    /// Whether they are still being put in order.
    pub ordering: bool,
    /// The time between two attempts, when the lane has a pace.
    pub interval: Option<Duration>,
    /// Whether it is held: paused or disabled.
    pub held: bool,
    /// Whether it is held but for the request for its confirmation.
    pub unconfirmed: bool,
    /// Whether a single 410 holds it.
    pub gone_at_once: bool,
    /// What the store remembers of the receiver.
    pub health: LaneHealth,
}

/// The right, and the duty, to make one attempt. It is consumed by [`Lanes::finished`] or [`Lanes::put_back`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub struct Lease {
    /// The row it was leased from.
    pub row: DueRow,
    /// Which receiver the attempt is to judge: the lane's count in [`LaneHealth::resumed`] at the time.
    pub resumed: u32,
}

/// A page of a lane that is wanted from the disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Load {
    /// Which lane.
    pub destination: DestinationNo,
    /// From where on.
    pub from: (Timestamp, Seq),
    /// How many rows.
    pub limit: usize,
    /// Which rows.
    pub what: Rows,
    generation: u64,
}

/// What is wanted of a lane.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rows {
    /// Its first rows.
    First,
    /// The request for its confirmation alone, which may lie behind any number of rows that are held.
    Request,
    /// The next ones of an ordered lane: the first in its line, and the first of those beside it.
    Heads,
}

/// A page of a lane, as it was read.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Page {
    /// Its rows, in order, but for those that are put off.
    pub rows: Vec<DueRow>,
    /// Where the next page begins, unless the lane ends with this one.
    pub next: Option<(Timestamp, Seq)>,
    /// When the first of those that are put off may go.
    pub wakes: Option<Timestamp>,
}

impl Page {
    /// Of rows that were asked for by a load.
    pub fn of(load: &Load, rows: Vec<DueRow>) -> Self {
        let next = rows.last().filter(|_| rows.len() == load.limit).map(after);
        Page { rows, next, wakes: None }
    }
}

/// The place after a row.
pub fn after(row: &DueRow) -> (Timestamp, Seq) {
    (row.due, Seq(row.seq.0.saturating_add(1)))
}

/// The place of a row in its lane.
type Place = (Timestamp, Seq);
/// Before every row.
const START: Place = (Timestamp::ZERO, Seq(0));

#[derive(Debug)]
struct Lane {
    spec: LaneSpec,
    window: BTreeMap<Place, Plan>,
    /// The request for the lane's confirmation, which passes where all else is held. At most one waits.
    request: Option<(Place, Plan)>,
    /// Whether a request may lie on disk that is not known here.
    request_sought: bool,
    /// The next deliveries of an ordered lane.
    heads: Heads,
    /// Rows at or beyond this place may be on disk only; `None` when the window is all there is.
    bound: Option<Place>,
    /// While a page is on its way: everything that happened since it was asked for, in order.
    loading: Option<Vec<Change>>,
    generation: u64,
    /// Whether it stands in line for a page.
    asked: bool,
    /// When the first of its deliveries may go that are put off: they are on disk only, wherever the bound is.
    wakes: Option<Timestamp>,
    in_flight: u32,
    /// Leased, and the end not on disk yet.
    unsettled: u32,
    /// How often in a row the first in line gave way.
    gave_way: u32,
    next_slot: Timestamp,
    /// Where it stands in line for a turn. What it left behind in the other line has another number.
    queued: Option<(Line, u64)>,
    wake: Option<Timestamp>,
}

/// What is known of the next deliveries of an ordered lane.
#[derive(Debug, Default)]
struct Heads {
    /// The first in the line.
    line: Head,
    /// The first of those beside it.
    beside: Head,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Head {
    /// The disk has to be asked.
    #[default]
    Sought,
    None,
    Is(Place, Plan),
}

impl Heads {
    fn of(&mut self, plan: &Plan) -> &mut Head {
        if plan.in_line { &mut self.line } else { &mut self.beside }
    }

    /// A delivery waits: it may come before the one that is known. What the disk has to be asked for, it is asked for.
    fn add(&mut self, place: Place, plan: Plan) {
        let order = |(due, seq): Place| if plan.in_line { (Timestamp::ZERO, seq) } else { (due, seq) };
        let head = self.of(&plan);
        match head {
            Head::Is(first, _) if order(*first) < order(place) => {}
            Head::None | Head::Is(..) => *head = Head::Is(place, plan),
            Head::Sought => {}
        }
    }

    /// A delivery no longer waits, or not at that place. Whatever comes after it is on disk only.
    fn remove(&mut self, is_it: impl Fn(&Place) -> bool) {
        for head in [&mut self.line, &mut self.beside] {
            if matches!(head, Head::Is(place, _) if is_it(place)) {
                *head = Head::Sought;
            }
        }
    }

    fn are_known(&self) -> bool {
        self.line != Head::Sought && self.beside != Head::Sought
    }

    /// How many.
    fn len(&self) -> usize {
        [self.line, self.beside].iter().filter(|head| matches!(head, Head::Is(..))).count()
    }
}

impl Head {
    fn row(self) -> Option<(Place, Plan)> {
        match self {
            Head::Is(place, plan) => Some((place, plan)),
            Head::Sought | Head::None => None,
        }
    }
}

/// The lines in which ready lanes stand.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Line {
    /// The receiver has proved itself, and answered in time last.
    Trusted,
    /// Nothing is known of the receiver yet.
    Fresh,
    /// The receiver kept us waiting last.
    Slow,
}

impl Line {
    const ALL: [Line; 3] = [Line::Trusted, Line::Fresh, Line::Slow];
}

/// When a lane has something to do.
enum When {
    Now,
    At(Timestamp),
    /// Only a change, a load or the end of an attempt brings something.
    Later,
}

impl Lane {
    fn new(spec: LaneSpec, bound: Option<Place>) -> Self {
        Lane {
            spec,
            window: BTreeMap::new(),
            request: None,
            request_sought: true,
            heads: Heads::default(),
            bound,
            loading: None,
            generation: 0,
            asked: false,
            wakes: None,
            in_flight: 0,
            unsettled: 0,
            gave_way: 0,
            next_slot: Timestamp::ZERO,
            queued: None,
            wake: None,
        }
    }

    fn line(&self) -> Line {
        match self.spec.health {
            LaneHealth { slow: true, .. } => Line::Slow,
            LaneHealth { proven: true, .. } => Line::Trusted,
            _ => Line::Fresh,
        }
    }

    fn when(&self, now: Timestamp, breaker: &BreakerSettings) -> When {
        let Some(((due, _), _)) = self.next(now) else { return When::Later };
        let health = &self.spec.health;
        if self.spec.held || health.gone || self.in_flight >= self.spec.in_flight_max {
            return When::Later;
        }
        if self.spec.ordered && (self.unsettled > 0 || self.spec.ordering) {
            return When::Later;
        }
        // Shut: nothing until its time, then one probe at a time until one succeeds. Fresh: one at a time until it has answered.
        if (health.shut_until.is_some() || self.line() == Line::Fresh) && self.in_flight > 0 {
            return When::Later;
        }
        // A moment further ahead than it can have been set to is from a clock that has jumped: it does not count.
        let sane = |(moment, ahead): (Option<Timestamp>, Duration)| moment.filter(|moment| *moment <= now.after(ahead));
        let pace = self.spec.interval.unwrap_or_default().max(REST);
        let bounds = [
            (health.shut_until, breaker.shut_longest()),
            (health.hold_until, health::RETRY_AFTER_MAX),
            (Some(self.next_slot), pace),
        ];
        let earliest = bounds.into_iter().filter_map(sane).fold(due, Timestamp::max);
        if earliest <= now { When::Now } else { When::At(earliest) }
    }

    /// The row whose turn it is, or will be first.
    fn next(&self, now: Timestamp) -> Option<(Place, Plan)> {
        if !self.spec.ordered || self.spec.unconfirmed {
            return self.first();
        }
        if !self.heads.are_known() {
            return None;
        }
        match (self.heads.line.row(), self.heads.beside.row()) {
            (Some(line), Some(beside)) => {
                let is_due = |((due, _), _): &(Place, Plan)| *due <= now;
                let patience = if beside.1.trigger == Trigger::Replay { GIVES_WAY_MAX } else { 1 };
                Some(match (is_due(&line), is_due(&beside)) {
                    (true, true) => {
                        if self.gave_way < patience {
                            line
                        } else {
                            beside
                        }
                    }
                    (true, false) => line,
                    (false, true) => beside,
                    (false, false) => [line, beside].into_iter().min_by_key(|(place, _)| *place)?,
                })
            }
            (line, beside) => line.or(beside),
        }
    }

    /// The first row of the window, or the request.
    fn first(&self) -> Option<(Place, Plan)> {
        let of_window = self.window.first_key_value().filter(|_| !self.spec.unconfirmed).map(|(at, plan)| (*at, *plan));
        [of_window, self.request].into_iter().flatten().min_by_key(|(place, _)| *place)
    }

    /// Takes the row whose turn it is: the first, unless that is a replay's and something fresh is due too.
    fn take(&mut self, now: Timestamp) -> Option<(Place, Plan)> {
        if self.spec.ordered {
            let turn = self.next(now)?;
            let waits_beside = matches!(self.heads.beside, Head::Is((due, _), _) if due <= now);
            self.gave_way = if turn.1.in_line && waits_beside { self.gave_way + 1 } else { 0 };
            self.remove(turn.0);
            return Some(turn);
        }
        let first = self.first()?;
        let is_replay = |plan: &Plan| plan.trigger == Trigger::Replay;
        let mut turn = first;
        if is_replay(&first.1) {
            let mut due = self.window.iter().take_while(|((due, _), _)| *due <= now);
            let fresh = due.find(|(_, plan)| !is_replay(plan)).filter(|_| self.gave_way < GIVES_WAY_MAX);
            turn = fresh.map_or(first, |(place, plan)| (*place, *plan));
            self.gave_way = if fresh.is_some() { self.gave_way + 1 } else { 0 };
        }
        self.remove(turn.0);
        Some(turn)
    }

    fn remove(&mut self, place: Place) {
        self.request.take_if(|(other, _)| *other == place);
        self.window.remove(&place);
        self.heads.remove(|other| *other == place);
    }

    fn wants_load(&self) -> Option<(Place, Rows)> {
        if self.spec.held || self.loading.is_some() {
            return None;
        }
        if self.spec.unconfirmed {
            return self.request_sought.then_some((START, Rows::Request));
        }
        if self.spec.ordered {
            // Once what was sent last has its end on disk: until then its row may be read there as before.
            let wanted = self.unsettled == 0 && !self.spec.ordering && !self.heads.are_known();
            return wanted.then_some((START, Rows::Heads));
        }
        self.bound.filter(|_| self.window.len() < WINDOW_LOW).map(|bound| (bound, Rows::First))
    }

    /// Adds a row if it lies within what the window covers; a request for the lane's confirmation in any case.
    fn add(&mut self, place: Place, plan: Plan) {
        if self.spec.ordered && !self.spec.unconfirmed {
            self.heads.add(place, plan);
            return;
        }
        if plan.trigger == Trigger::Confirmation {
            self.request = Some((place, plan));
            return;
        }
        if self.spec.ordered {
            return;
        }
        if self.bound.is_none_or(|bound| place < bound) {
            self.window.insert(place, plan);
            if self.window.len() > WINDOW_MAX
                && let Some((last, _)) = self.window.pop_last()
            {
                self.bound = Some(last);
            }
        }
    }

    /// Forgets the window: everything may be on disk only.
    fn forget_window(&mut self) {
        self.window.clear();
        self.heads = Heads::default();
        self.request = None;
        self.request_sought = true;
        self.bound = Some(START);
        self.wakes = None;
        self.loading = None;
    }

    /// Keeps a change for the page that is on its way. Where too much happens meanwhile, that page is given up: what lies in
    /// the window is as true as before, and what lies beyond its bound is on disk.
    fn note(&mut self, change: Change) {
        if let Some(missed) = self.loading.as_mut() {
            if missed.len() < MISSED_MAX {
                missed.push(change);
            } else {
                self.loading = None;
            }
        }
    }

    fn remove_delivery(&mut self, seq: Seq) {
        self.request.take_if(|((_, other), _)| *other == seq);
        self.window.retain(|(_, other), _| *other != seq);
        self.heads.remove(|(_, other)| *other == seq);
    }
}

/// All lanes with work, and what is under way.
#[derive(Debug)]
pub struct Lanes {
    limits: Limits,
    lanes: NumberMap<DestinationNo, Lane>,
    ready: [VecDeque<(DestinationNo, u64)>; 3],
    turn: usize,
    next_in_line: u64,
    timers: BTreeSet<(Timestamp, DestinationNo)>,
    loads: VecDeque<DestinationNo>,
    unsettled: NumberMap<DeliveryKey, Unsettled>,
    in_flight: [usize; 3],
    looked_at: Timestamp,
    generation: u64,
}

/// How far a leased delivery has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Unsettled {
    InFlight(Line),
    Ended,
}

impl Lanes {
    /// No lanes yet.
    pub fn new(limits: Limits) -> Self {
        Lanes {
            limits,
            lanes: NumberMap::default(),
            ready: Default::default(),
            turn: 0,
            next_in_line: 0,
            timers: BTreeSet::new(),
            loads: VecDeque::new(),
            unsettled: NumberMap::default(),
            in_flight: [0; 3],
            looked_at: Timestamp::ZERO,
            generation: 0,
        }
    }

    /// Attempts that are under way.
    pub fn in_flight(&self) -> usize {
        self.in_flight.iter().sum()
    }

    /// Attempts whose end is not on disk yet, those under way included.
    pub fn unsettled(&self) -> usize {
        self.unsettled.len()
    }

    /// Deliveries that memory holds, those under way aside: windows, and what was heard while a page was on its way.
    pub fn ids_in_memory(&self) -> usize {
        self.lanes
            .values()
            .map(|lane| {
                lane.window.len()
                    + lane.heads.len()
                    + usize::from(lane.request.is_some())
                    + lane.loading.as_ref().map_or(0, Vec::len)
            })
            .sum()
    }

    /// Takes over a change that the store rang in. `spec_of` tells a lane's present spec; `None` for a deleted destination.
    pub fn hear(&mut self, change: Change, now: Timestamp, spec_of: impl Fn(DestinationNo) -> Option<LaneSpec>) {
        match change {
            Change::Due(row) => self.hear_due(row, now, spec_of),
            Change::Settled(key) => {
                let was = self.unsettled.remove(&key);
                if let Some(lane) = self.lanes.get_mut(&key.destination) {
                    lane.note(change);
                    lane.unsettled -= u32::from(was.is_some());
                    if lane.spec.ordered {
                        self.look(key.destination, now);
                    }
                }
            }
            Change::Gone(row) => {
                let Some(lane) = self.lanes.get_mut(&row.destination) else { return };
                lane.remove((row.due, row.seq));
                lane.note(change);
                self.look(row.destination, now);
            }
            Change::Lane(no) => match spec_of(no) {
                None => self.remove(no),
                Some(spec) => {
                    if let Some(lane) = self.lanes.get_mut(&no) {
                        // What the engine found out since may not be on disk yet: it stays.
                        let before = lane.spec;
                        lane.spec = LaneSpec { health: before.health, ..spec };
                        let kind = |spec: &LaneSpec| (spec.ordered, spec.ordered && spec.unconfirmed);
                        if kind(&before) != kind(&spec) {
                            lane.forget_window();
                        }
                        self.look(no, now);
                    }
                }
            },
            Change::Opened(no) => {
                if let Some(lane) = self.lanes.get_mut(&no)
                    && let Some(spec) = spec_of(no)
                {
                    lane.spec.health = LaneHealth::unknown(spec.health.resumed);
                }
                self.hear(Change::Lane(no), now, spec_of);
            }
        }
    }

    fn hear_due(&mut self, row: DueRow, now: Timestamp, spec_of: impl Fn(DestinationNo) -> Option<LaneSpec>) {
        // While the delivery is unsettled its attempt's own commit will announce the row again.
        if self.unsettled.contains_key(&row.key()) {
            return;
        }
        let lane = match self.lanes.entry(row.destination) {
            hash_map::Entry::Occupied(entry) => entry.into_mut(),
            hash_map::Entry::Vacant(entry) => match spec_of(row.destination) {
                // It may have a past: the walk over the lanes may not have answered yet.
                Some(spec) => entry.insert(Lane::new(spec, Some(START))),
                None => return,
            },
        };
        lane.add((row.due, row.seq), row.plan);
        // Also where the window has it: what is noted before it may be the end of the same delivery's last attempt.
        lane.note(Change::Due(row));
        self.look(row.destination, now);
    }

    /// Forgets all windows: the disk will be read again. Attempts under way go on.
    pub fn forget_windows(&mut self) {
        for lane in self.lanes.values_mut() {
            lane.forget_window();
            lane.asked = false;
        }
        self.loads.clear();
    }

    /// A lane has rows on disk, says a walk over the lanes after [`Lanes::forget_windows`].
    pub fn has_rows(&mut self, no: DestinationNo, now: Timestamp, spec_of: impl Fn(DestinationNo) -> Option<LaneSpec>) {
        if let Some(spec) = spec_of(no) {
            let bound = Some(START);
            let lane = self.lanes.entry(no).or_insert_with(|| Lane::new(spec, bound));
            if lane.window.is_empty() && lane.loading.is_none() {
                lane.bound = bound;
            }
            self.look(no, now);
        }
    }

    /// The next page that is wanted from the disk, if any.
    pub fn next_load(&mut self) -> Option<Load> {
        while let Some(no) = self.loads.pop_front() {
            let Some(lane) = self.lanes.get_mut(&no) else { continue };
            lane.asked = false;
            let Some((from, what)) = lane.wants_load() else { continue };
            lane.loading = Some(Vec::new());
            self.generation += 1;
            lane.generation = self.generation;
            let limit = WINDOW_MAX - lane.window.len();
            return Some(Load { destination: no, from, limit, what, generation: lane.generation });
        }
        None
    }

    /// A page has come from the disk.
    pub fn loaded(&mut self, load: Load, page: Page, now: Timestamp) {
        let Page { rows, next, wakes } = page;
        let Some(lane) = self.lanes.get_mut(&load.destination) else { return };
        if lane.generation != load.generation {
            return;
        }
        let Some(missed) = lane.loading.take() else {
            // Given up meanwhile: it is asked for again.
            self.look(load.destination, now);
            return;
        };
        if load.what != Rows::First || lane.bound == Some(load.from) {
            match load.what {
                Rows::Request => lane.request_sought = false,
                Rows::Heads => lane.heads = Heads { line: Head::None, beside: Head::None },
                // Fewer rows than asked for: the window is all there is. Otherwise it covers what came, the last row included.
                Rows::First => {
                    lane.bound = next;
                    lane.wakes = [lane.wakes, wakes].into_iter().flatten().min();
                }
            }
            for row in rows {
                if !self.unsettled.contains_key(&row.key()) {
                    lane.add((row.due, row.seq), row.plan);
                }
            }
            // The page was read before or after these: applied in order, they make it true either way.
            for change in missed {
                match change {
                    Change::Due(row) if !self.unsettled.contains_key(&row.key()) => {
                        lane.add((row.due, row.seq), row.plan);
                    }
                    Change::Settled(key) => lane.remove_delivery(key.seq),
                    Change::Gone(row) => {
                        lane.remove((row.due, row.seq));
                    }
                    Change::Due(_) | Change::Lane(_) | Change::Opened(_) => {}
                }
            }
        }
        // A bound that moved meanwhile moved down: the page begins beyond it, and is read again when its turn comes.
        self.look(load.destination, now);
    }

    /// A page could not be read.
    pub fn load_failed(&mut self, load: Load) {
        if let Some(lane) = self.lanes.get_mut(&load.destination)
            && lane.generation == load.generation
        {
            lane.loading = None;
            if !lane.asked {
                lane.asked = true;
                self.loads.push_back(load.destination);
            }
        }
    }

    /// The next delivery to attempt, if one is due, its lane lets it through and there is room.
    pub fn lease(&mut self, now: Timestamp) -> Option<Lease> {
        if now < self.looked_at {
            // The clock has run back: what waits for a moment may wait for one that no longer counts.
            let lanes: Vec<_> = self.lanes.keys().copied().collect();
            lanes.into_iter().for_each(|no| self.look(no, now));
        }
        self.looked_at = now;
        while let Some(&(at, no)) = self.timers.first()
            && at <= now
        {
            self.timers.pop_first();
            if let Some(lane) = self.lanes.get_mut(&no) {
                lane.wake = None;
            }
            self.look(no, now);
        }
        while self.in_flight() < self.limits.in_flight_max && self.unsettled.len() < self.limits.unsettled_max {
            let (no, place) = self.next_turn()?;
            let Some(lane) = self.lanes.get_mut(&no) else { continue };
            let Some((line, _)) = lane.queued.take_if(|(_, own)| *own == place) else { continue };
            if !matches!(lane.when(now, &self.limits.breaker), When::Now) {
                self.look(no, now);
                continue;
            }
            let Some(((due, seq), plan)) = lane.take(now) else { continue };
            lane.in_flight += 1;
            lane.unsettled += 1;
            if let Some(interval) = lane.spec.interval {
                // From now, not from the slot before: that one has passed, or is from a clock that has jumped.
                lane.next_slot = now.after(interval);
            }
            let resumed = lane.spec.health.resumed;
            let row = DueRow { destination: no, due, seq, plan };
            self.in_flight[line as usize] += 1;
            self.unsettled.insert(row.key(), Unsettled::InFlight(line));
            self.look(no, now);
            return Some(Lease { row, resumed });
        }
        None
    }

    /// The lane whose turn it is: the lines take turns too, as far as their shares go.
    fn next_turn(&mut self) -> Option<(DestinationNo, u64)> {
        let share = (self.limits.in_flight_max / SHARE).max(1);
        self.turn = (self.turn + 1) % Line::ALL.len();
        let lines = Line::ALL.iter().cycle().skip(self.turn).take(Line::ALL.len());
        let may = |line: &&Line| **line == Line::Trusted || self.in_flight[**line as usize] < share;
        lines.filter(may).find_map(|line| self.ready[*line as usize].pop_front())
    }

    /// An attempt has ended: its slot is free at once, its delivery is unsettled until the end is on disk. Answers what is
    /// now known of the receiver, when that changed. An attempt that was leased before the lane was opened anew tells nothing
    /// of the receiver: it may have gone to another URL.
    pub fn finished(&mut self, lease: Lease, signal: Signal, now: Timestamp) -> Option<LaneHealth> {
        let key = lease.row.key();
        self.free(key);
        self.unsettled.insert(key, Unsettled::Ended);
        let lane = self.lanes.get_mut(&key.destination)?;
        let before = lane.spec.health;
        let is_current = lease.resumed == before.resumed;
        let signal = if is_current { signal } else { Signal::SILENT };
        let after = health::after(before, signal, now, &self.limits.breaker, lane.spec.gone_at_once);
        lane.spec.health = after;
        self.look(key.destination, now);
        (before != after).then_some(after)
    }

    /// A lease that came to nothing, because the store could not be read or the destination is gone: the lane is read again
    /// from the disk, after a moment, for its rows may have changed meanwhile.
    pub fn put_back(&mut self, lease: Lease, now: Timestamp) {
        let key = lease.row.key();
        self.free(key);
        if let Some(lane) = self.lanes.get_mut(&key.destination) {
            lane.unsettled = lane.unsettled.saturating_sub(1);
            lane.forget_window();
            lane.next_slot = now.after(REST);
            self.look(key.destination, now);
        }
    }

    fn free(&mut self, key: DeliveryKey) {
        if let Some(Unsettled::InFlight(line)) = self.unsettled.remove(&key) {
            self.in_flight[line as usize] -= 1;
            if let Some(lane) = self.lanes.get_mut(&key.destination) {
                lane.in_flight = lane.in_flight.saturating_sub(1);
            }
        }
    }

    /// When the next lane has something to do by itself.
    pub fn next_wake(&self) -> Option<Timestamp> {
        self.timers.first().map(|(at, _)| *at)
    }

    fn remove(&mut self, no: DestinationNo) {
        if let Some(lane) = self.lanes.remove(&no)
            && let Some(wake) = lane.wake
        {
            self.timers.remove(&(wake, no));
        }
    }

    /// Puts a lane where it belongs after a change: among the ready ones, on a timer, or nowhere; and asks for a page.
    fn look(&mut self, no: DestinationNo, now: Timestamp) {
        let Some(lane) = self.lanes.get_mut(&no) else { return };
        if lane.wakes.is_some_and(|wakes| wakes <= now) {
            lane.forget_window();
        }
        if lane.wants_load().is_some() && !lane.asked {
            lane.asked = true;
            self.loads.push_back(no);
        }
        let wake = match lane.when(now, &self.limits.breaker) {
            When::Now => {
                let line = lane.line();
                // A lane whose receiver has proved itself, or kept us waiting, changes over.
                if lane.queued.is_none_or(|(stands_in, _)| stands_in != line) {
                    let place = self.next_in_line;
                    self.next_in_line += 1;
                    lane.queued = Some((line, place));
                    self.ready[line as usize].push_back((no, place));
                }
                None
            }
            When::At(moment) => Some(moment),
            When::Later => None,
        };
        let wake = [wake, lane.wakes].into_iter().flatten().min();
        if lane.wake != wake {
            if let Some(before) = lane.wake.take() {
                self.timers.remove(&(before, no));
            }
            if let Some(moment) = wake {
                self.timers.insert((moment, no));
                lane.wake = wake;
            }
        }
    }
}

#[cfg(test)]
mod tests;
