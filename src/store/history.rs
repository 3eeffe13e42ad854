//! Where a page of a list looks: the places of events that may be wanted, newest first.
//!
//! Whoever walks looks at each event itself: what is named here may be gone or not wanted after all, but nothing that is
//! wanted is left out, unless a damaged record hides it (see [`super::chapters`]). Waiting deliveries are few as a rule and lie
//! in their lanes; what was given up, cancelled or ever failed has rows by destination; what succeeded, and each status, is
//! found by the facts of chapters; everything else, and every time, by the lists of the runs.

use std::collections::{BinaryHeap, HashMap};
use std::ops::Range;
use std::rc::Rc;

use crate::model::{DeliveryState, DestinationNo, Milestone, Seq, TypePattern, milestone};

use super::chapters::Fact;
use super::reader::{DeliveriesWanted, Ends, EventsWanted, ReadError, Snapshot};
use super::segments::{Answer, Asked, Stretch, Time};

/// Waiting deliveries that are read and sorted for one page. Where more wait, most of what is new waits too, and the lists
/// of the runs are as good.
const WAITING_MAX: usize = 4096;
/// Waiting deliveries that are asked, for a status, whether they have been tried. Where more wait, chapters say it of them too.
pub(super) const GOING_ON_MAX: usize = 1024;
/// Destinations whose facts are asked for at once. Of more, a page is filled from the lists first: what is usual is found there.
const DESTINATIONS_AT_ONCE: usize = 64;
/// Destinations whose facts are followed at all. Each is asked before the first is found, so that of more a page is filled from
/// the lists alone.
const DESTINATIONS_FOLLOWED_MAX: usize = 4096;
/// Rows that are looked at in the lists first, about.
pub(super) const TRIED_FIRST: u64 = 256;

/// The places where a page looks, newest first.
pub(super) struct Candidates {
    source: Source,
    /// Nothing at or after this place comes any more.
    before: Option<Seq>,
    /// Rows that were looked at on the way, to find out where else to look.
    aside: u64,
}

enum Source {
    /// The runs in turn.
    Runs(Within),
    /// The runs in turn until so many rows have been looked at, then what the facts lead to.
    First { within: Within, until: u64, then: Option<Box<Leads>> },
    /// These places, in ascending order.
    These(Vec<Seq>),
    /// What something else leads to, as far as the runs lead there.
    Led(Box<Led>),
}

/// A step of a walk.
pub(super) enum Step {
    /// Look here.
    Look(Seq),
    /// Nothing at or after this place comes any more; go on.
    On(Seq),
    /// There is nothing more.
    End,
}

impl Candidates {
    /// For a list of events.
    pub(super) fn of_events(snapshot: &Snapshot, wanted: &EventsWanted, before: Option<Seq>) -> Self {
        let asked = Asked {
            tenant: wanted.tenant.clone(),
            kind: wanted.kind.clone(),
            key: wanted.key.clone(),
            ..Asked::default()
        };
        let within = Within::new(runs_of(snapshot, before), asked, time_of(wanted));
        Candidates { source: Source::Runs(within), before, aside: 0 }
    }

    /// For a list of deliveries.
    pub(super) fn of_deliveries(
        snapshot: &Snapshot,
        wanted: &DeliveriesWanted,
        before: Option<Seq>,
    ) -> Result<Self, ReadError> {
        let destinations = destinations(wanted);
        let ends = match (wanted.state, wanted.milestone) {
            (Some(DeliveryState::Failed), _) => Some(Ends::Failed),
            (Some(DeliveryState::Cancelled), _) => Some(Ends::Cancelled),
            (_, Some(Milestone::Failed)) => Some(Ends::Failures),
            (_, _) => None,
        };
        if let (Some(DeliveryState::Pending | DeliveryState::Held), None | Some(Ends::Failures)) = (wanted.state, ends)
            && let Some(places) = waiting(snapshot, destinations.as_deref(), before)?
        {
            return Ok(Candidates { source: Source::These(places), before, aside: 0 });
        }
        let (facts, further) = facts_of(snapshot, wanted, destinations.as_deref())?;
        // Only events of one type have these steps.
        let kind = match wanted.milestone {
            Some(Milestone::Confirm | Milestone::Confirmed) if wanted.events.kind.is_none() => {
                milestone::CONFIRMATION.parse().ok().map(TypePattern::One)
            }
            Some(_) | None => wanted.events.kind.clone(),
        };
        let asked = Asked {
            destinations: None,
            subscription: wanted.subscription,
            tenant: wanted.events.tenant.clone(),
            kind,
            key: wanted.events.key.clone(),
        };
        let (runs, time) = (runs_of(snapshot, before), time_of(&wanted.events));
        let plain =
            || Within::new(Rc::clone(&runs), Asked { destinations: destinations.clone(), ..asked.clone() }, time);
        if ends.is_none() && facts.is_empty() {
            return Ok(Candidates { source: Source::Runs(plain()), before, aside: 0 });
        }
        let is_of_few = destinations.as_ref().is_some_and(|nos| nos.len() <= DESTINATIONS_AT_ONCE);
        let within = (ends.is_none() && !is_of_few).then(plain);
        let all = Within::new(Rc::clone(&runs), asked.clone(), time);
        let leads = Leads { ends, facts, destinations: destinations.clone(), further, within: all };
        let source = match within {
            Some(within) => {
                let until = snapshot.looked_at() + TRIED_FIRST;
                Source::First { within, until, then: Some(Box::new(leads)) }
            }
            None => match leads.follow(snapshot, before)? {
                Some(led) => Source::Led(Box::new(led)),
                None => Source::Runs(plain()),
            },
        };
        Ok(Candidates { source, before, aside: 0 })
    }

    /// How far the walk has come: nothing at or after this place comes any more.
    pub(super) fn reached(&self) -> Option<Seq> {
        self.before
    }

    /// Rows that were looked at to find out where facts lead. They are bounded by themselves, and no page moves on by them.
    pub(super) fn aside(&self) -> u64 {
        self.aside
    }

    /// The next place.
    pub(super) fn step(&mut self, snapshot: &Snapshot) -> Result<Step, ReadError> {
        if let Source::First { until, then, .. } = &mut self.source
            && snapshot.looked_at() >= *until
            && let Some(leads) = then.take()
        {
            let begun_at = snapshot.looked_at();
            let led = leads.follow(snapshot, self.before)?;
            self.aside += snapshot.looked_at() - begun_at;
            if let Some(led) = led {
                self.source = Source::Led(Box::new(led));
            }
        }
        let step = match &mut self.source {
            Source::These(places) => places.pop().map_or(Step::End, Step::Look),
            Source::Led(led) => led.next(snapshot)?,
            Source::Runs(within) | Source::First { within, .. } => within.next(snapshot, self.before)?,
        };
        if let Step::Look(seq) | Step::On(seq) = step {
            self.before = Some(self.before.map_or(seq, |before| before.min(seq)));
        }
        Ok(step)
    }
}

/// What must be true of a delivery's chapter, one of each group at least, and places that are wanted whatever that says.
type Facts = (Vec<Vec<Fact>>, Vec<Seq>);

/// What is true of the deliveries that are wanted.
fn facts_of(
    snapshot: &Snapshot,
    wanted: &DeliveriesWanted,
    destinations: Option<&[DestinationNo]>,
) -> Result<Facts, ReadError> {
    let (mut facts, mut further) = (Vec::new(), Vec::new());
    let has_succeeded = matches!(wanted.milestone, Some(Milestone::Success | Milestone::Confirmed));
    if has_succeeded || wanted.state == Some(DeliveryState::Succeeded) {
        facts.push(vec![Fact::SUCCEEDED]);
    }
    let Some(status) = wanted.status else { return Ok((facts, further)) };
    let has_ended = match wanted.state {
        Some(DeliveryState::Succeeded | DeliveryState::Failed | DeliveryState::Cancelled) => true,
        Some(DeliveryState::Pending | DeliveryState::Held) | None => false,
    };
    // What goes on after this status is found where it waits, for it may have another one next, and its chapter would not forget.
    match if has_ended { Some(Vec::new()) } else { going_on(snapshot, destinations)? } {
        Some(places) => {
            facts.push(vec![Fact::ended_with(status)]);
            further = places;
        }
        None => facts.push(vec![Fact::ended_with(status), Fact::went_on_after(status)]),
    }
    Ok((facts, further))
}

/// The places of what waits for another attempt to these destinations; `None` when it is too much to ask.
fn going_on(snapshot: &Snapshot, destinations: Option<&[DestinationNo]>) -> Result<Option<Vec<Seq>>, ReadError> {
    let Some(nos) = destinations else { return snapshot.going_on(None, GOING_ON_MAX) };
    let (mut places, begun_at) = (Vec::new(), snapshot.looked_at());
    for no in nos {
        let left = (GOING_ON_MAX as u64).saturating_sub(snapshot.looked_at() - begun_at);
        match snapshot.going_on(Some(*no), left as usize)? {
            Some(more) => places.extend(more),
            None => return Ok(None),
        }
    }
    Ok(Some(places))
}

/// What leads to the deliveries that are wanted, beside the lists of the runs.
struct Leads {
    ends: Option<Ends>,
    facts: Vec<Vec<Fact>>,
    destinations: Option<Vec<DestinationNo>>,
    further: Vec<Seq>,
    within: Within,
}

impl Leads {
    /// The destinations to ask; `None` when they are too many.
    fn destinations(&self, snapshot: &Snapshot) -> Result<Option<Vec<DestinationNo>>, ReadError> {
        let nos = match (&self.destinations, self.ends, self.facts.first()) {
            (Some(nos), _, _) => nos.clone(),
            (None, Some(ends), _) => snapshot.destinations_with_ends(ends)?,
            (None, None, group) => {
                let mut nos = Vec::new();
                for fact in group.into_iter().flatten() {
                    nos.extend(snapshot.destinations_with(*fact, DESTINATIONS_FOLLOWED_MAX + 1)?);
                }
                nos.sort_unstable();
                nos.dedup();
                nos
            }
        };
        // Each end is itself a place, so that of ends a page moves on however many destinations there are.
        Ok(Some(nos).filter(|nos| self.ends.is_some() || nos.len() <= DESTINATIONS_FOLLOWED_MAX))
    }

    /// Goes to where each leads first, before a place; `None` when there are too many to go to.
    fn follow(self, snapshot: &Snapshot, before: Option<Seq>) -> Result<Option<Led>, ReadError> {
        let Some(nos) = self.destinations(snapshot)? else { return Ok(None) };
        let Leads { ends, facts, mut further, within, .. } = self;
        let (mut heads, mut lines) = (BinaryHeap::new(), HashMap::new());
        let first = before.map_or(u64::MAX, |before| before.0);
        for no in nos {
            let until = match (ends, facts.first()) {
                (Some(ends), _) => snapshot.ended_before(ends, no, Seq(first))?,
                (None, Some(group)) => {
                    // What was committed after the runs were taken is in no list of theirs.
                    let last = Seq(first.min(snapshot.runs().end().0).saturating_sub(1));
                    snapshot.chapter_with(group, no, last)?.map(|places| {
                        let until = last.min(Seq(places.end - 1));
                        let mut line = Line::new(ends, &facts, within.of_destination(no));
                        line.chapters[0] = Some(places);
                        lines.insert(no, line);
                        until
                    })
                }
                (None, None) => None,
            };
            heads.extend(until.map(|until| Head { until, is_place: false, of: Some(no) }));
        }
        further.retain(|place| place.0 < first);
        further.sort_unstable();
        further.dedup();
        heads.extend(further.last().map(|last| Head { until: *last, is_place: true, of: None }));
        Ok(Some(Led { ends, facts, further, within, lines, heads, until: Seq(u64::MAX) }))
    }
}

/// A walk over what leads to deliveries, for all destinations at once.
struct Led {
    ends: Option<Ends>,
    facts: Vec<Vec<Fact>>,
    /// In ascending order.
    further: Vec<Seq>,
    within: Within,
    lines: HashMap<DestinationNo, Line>,
    heads: BinaryHeap<Head>,
    /// Nothing after this place comes any more.
    until: Seq,
}

/// How far the walk has come with a destination, or with the further places.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Head {
    /// Nothing of it lies after this place.
    until: Seq,
    /// Whether something of it lies at this place.
    is_place: bool,
    of: Option<DestinationNo>,
}

/// What is at hand of a destination.
struct Line {
    /// The chapter that the walk has come to, for each group of facts.
    chapters: Vec<Option<Range<u64>>>,
    /// Its deliveries, where nothing else names them.
    own: Option<Within>,
}

impl Line {
    fn new(ends: Option<Ends>, facts: &[Vec<Fact>], own: Within) -> Self {
        Line { chapters: vec![None; facts.len()], own: ends.is_none().then_some(own) }
    }
}

impl Led {
    fn next(&mut self, snapshot: &Snapshot) -> Result<Step, ReadError> {
        let Some(mut head) = self.heads.pop() else { return Ok(Step::End) };
        if head.until > self.until {
            head = Head { until: self.until, is_place: false, ..head };
        }
        if !head.is_place {
            let next = self.advance(snapshot, head)?;
            self.heads.extend(next);
            return Ok(Step::On(Seq(head.until.0.saturating_add(1))));
        }
        let led = match head.until >= snapshot.runs().end() {
            true => Step::Look(head.until),
            false => self.within.newest_until(snapshot, head.until)?,
        };
        let until = match led {
            Step::Look(place) => place,
            Step::On(before) if before > Seq(0) => Seq(before.0 - 1),
            Step::On(_) | Step::End => return Ok(Step::End),
        };
        // At the place itself all of its destinations are passed at once.
        self.until = if until == head.until { Seq(until.0.saturating_sub(1)) } else { until };
        self.heads.push(Head { until: self.until, is_place: false, ..head });
        Ok(if until == head.until { Step::Look(until) } else { Step::On(Seq(until.0 + 1)) })
    }

    /// A step of one: to where something may lie, or does; `None` when nothing does any more.
    fn advance(&mut self, snapshot: &Snapshot, head: Head) -> Result<Option<Head>, ReadError> {
        let Some(no) = head.of else {
            self.further.truncate(self.further.partition_point(|place| *place <= head.until));
            return Ok(self.further.last().map(|last| Head { until: *last, is_place: true, of: None }));
        };
        let (ends, within) = (self.ends, &self.within);
        let line = self.lines.entry(no).or_insert_with(|| Line::new(ends, &self.facts, within.of_destination(no)));
        let mut until = head.until;
        for (group, at_hand) in self.facts.iter().zip(&mut line.chapters) {
            if !at_hand.as_ref().is_some_and(|places| places.contains(&until.0)) {
                *at_hand = snapshot.chapter_with(group, no, until)?;
            }
            let Some(places) = at_hand else { return Ok(None) };
            until = until.min(Seq(places.end - 1));
        }
        if until < head.until {
            return Ok(Some(Head { until, ..head }));
        }
        let found = match (ends, &mut line.own) {
            (Some(ends), _) => snapshot.ended_before(ends, no, Seq(until.0.saturating_add(1)))?,
            (None, Some(own)) => match own.newest_until(snapshot, until)? {
                Step::Look(place) => Some(place),
                Step::On(before) if before > Seq(0) => return Ok(Some(Head { until: Seq(before.0 - 1), ..head })),
                Step::On(_) | Step::End => None,
            },
            (None, None) => None,
        };
        let is_covered = |place: Seq| line.chapters.iter().flatten().all(|places| places.contains(&place.0));
        Ok(found.map(|place| Head { until: place, is_place: is_covered(place), of: Some(no) }))
    }
}

/// The places that the lists of the runs lead to.
struct Within {
    /// Newest first.
    runs: Rc<[Stretch]>,
    /// How many of them have had their turn.
    passed: usize,
    asked: Asked,
    time: Time,
    current: Option<Current>,
}

/// What is left of the run whose turn it is.
struct Current {
    first: Seq,
    left: Left,
}

enum Left {
    /// Every event between these places, the newest of them last, of which the rows of one are being read.
    All { spans: Vec<(Seq, Seq)>, rows: Option<Box<redb::Range<'static, u64, &'static [u8]>>> },
    /// These places, in ascending order.
    These(Vec<Seq>),
}

impl Within {
    fn new(runs: Rc<[Stretch]>, asked: Asked, time: Time) -> Self {
        Within { runs, passed: 0, asked, time, current: None }
    }

    /// All places of a destination, in the same runs.
    fn of_destination(&self, no: DestinationNo) -> Self {
        Within::new(Rc::clone(&self.runs), Asked::destination(no), Time::default())
    }

    /// The events of the next run that are asked for and lie before `end`; `None` after the last run.
    fn open(&mut self, snapshot: &Snapshot, end: Seq) -> Result<Option<Current>, ReadError> {
        let time = self.time;
        let is_wanted = |run: &Stretch| time.may_hold(run.accepted());
        let Some(turn) = self.runs.iter().skip(self.passed).position(is_wanted) else { return Ok(None) };
        self.passed += turn + 1;
        let run = &self.runs[self.passed - 1];
        let mut spans = run.spans(&self.time);
        spans.iter_mut().for_each(|(_, until)| *until = (*until).min(end));
        spans.retain(|(from, until)| from < until);
        let left = match spans.is_empty() {
            true => Left::These(Vec::new()),
            false => match run.ask(&self.asked, snapshot.segments(), || snapshot.look())? {
                Answer::All => Left::All { spans, rows: None },
                Answer::These(mut places) => {
                    let mut spans = spans.into_iter().peekable();
                    places.retain(|place| {
                        while spans.next_if(|(_, until)| until <= place).is_some() {}
                        spans.peek().is_some_and(|(from, _)| from <= place)
                    });
                    Left::These(places)
                }
            },
        };
        Ok(Some(Current { first: run.first(), left }))
    }

    /// The next place before `before`.
    fn next(&mut self, snapshot: &Snapshot, before: Option<Seq>) -> Result<Step, ReadError> {
        let end = before.map_or(snapshot.runs().end(), |before| before.min(snapshot.runs().end()));
        let current = match &mut self.current {
            Some(current) => current,
            None => match self.open(snapshot, end)? {
                Some(current) => self.current.insert(current),
                None => return Ok(Step::End),
            },
        };
        let next = match &mut current.left {
            Left::These(places) => places.pop(),
            Left::All { spans, rows } => loop {
                if let Some(rows) = rows
                    && let Some((seq, _)) = rows.next_back().transpose()?
                {
                    break Some(Seq(seq.value()));
                }
                let Some((from, until)) = spans.pop() else { break None };
                *rows = Some(Box::new(snapshot.event_rows(from, until)?));
            },
        };
        let first = current.first;
        Ok(next.map(Step::Look).unwrap_or_else(|| {
            self.current = None;
            Step::On(first)
        }))
    }

    /// The newest place at or before `seq`, whether there is an event or not. It stays.
    fn newest_until(&mut self, snapshot: &Snapshot, seq: Seq) -> Result<Step, ReadError> {
        let current = match &mut self.current {
            Some(current) => current,
            None => {
                // What lies after `seq` is not asked for.
                while self.runs.get(self.passed).is_some_and(|run| run.first() > seq) {
                    self.passed += 1;
                }
                match self.open(snapshot, snapshot.runs().end())? {
                    Some(current) => self.current.insert(current),
                    None => return Ok(Step::End),
                }
            }
        };
        let newest = match &mut current.left {
            Left::These(places) => {
                places.truncate(places.partition_point(|place| *place <= seq));
                places.last().copied()
            }
            Left::All { spans, .. } => {
                spans.truncate(spans.partition_point(|(from, _)| *from <= seq));
                spans.last().map(|(_, until)| seq.min(Seq(until.0 - 1)))
            }
        };
        let first = current.first;
        Ok(newest.map(Step::Look).unwrap_or_else(|| {
            self.current = None;
            Step::On(first)
        }))
    }
}

/// The runs that a list may lead through, newest first.
fn runs_of(snapshot: &Snapshot, before: Option<Seq>) -> Rc<[Stretch]> {
    let is_asked = |run: &Stretch| before.is_none_or(|before| run.first() < before);
    snapshot.runs().newest_first().filter(is_asked).collect()
}

fn time_of(wanted: &EventsWanted) -> Time {
    Time { from: wanted.from, to: wanted.to }
}

/// The destinations that a list of deliveries is about, when it is not about all.
fn destinations(wanted: &DeliveriesWanted) -> Option<Vec<DestinationNo>> {
    let mut nos: Vec<_> = match (wanted.destination, &wanted.among, wanted.state) {
        (Some(no), _, _) => vec![no],
        (None, _, Some(DeliveryState::Held)) => wanted.held.clone(),
        (None, Some(among), _) => among.iter().copied().collect(),
        (None, None, _) => return None,
    };
    nos.retain(|no| wanted.among.as_ref().is_none_or(|among| among.contains(no)));
    nos.retain(|no| wanted.state != Some(DeliveryState::Held) || wanted.held.contains(no));
    nos.sort_unstable();
    nos.dedup();
    Some(nos)
}

/// The places of what waits for these destinations, in ascending order; `None` when it is too much for one page.
fn waiting(
    snapshot: &Snapshot,
    destinations: Option<&[DestinationNo]>,
    before: Option<Seq>,
) -> Result<Option<Vec<Seq>>, ReadError> {
    let mut places = Vec::new();
    match destinations {
        None => places.extend(snapshot.waiting(None, WAITING_MAX + 1)?),
        Some(nos) => {
            for no in nos {
                places.extend(snapshot.waiting(Some(*no), WAITING_MAX + 1 - places.len())?);
            }
        }
    }
    if places.len() > WAITING_MAX {
        return Ok(None);
    }
    places.retain(|place| before.is_none_or(|before| *place < before));
    places.sort_unstable();
    places.dedup();
    Ok(Some(places))
}
