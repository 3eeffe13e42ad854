//! Where a page of a list looks: the places of events that may be wanted, newest first.
//!
//! Whoever walks looks at each event itself: what is named here may be gone or not wanted after all, but nothing that is
//! wanted is left out. Waiting deliveries are few as a rule and lie in their lanes; what ended without success, or ever failed,
//! has rows by destination; everything else, and every time, is found by the lists of the runs.

use std::collections::{BinaryHeap, VecDeque};

use crate::model::{DeliveryState, DestinationNo, Milestone, Seq, TypePattern, milestone};

use super::op;
use super::reader::{DeliveriesWanted, Ends, EventsWanted, ReadError, Snapshot};
use super::segments::{Answer, Asked, Stretch, Time};

/// Waiting deliveries that are read and sorted for one page. Where more wait, most of what is new waits too, and the lists
/// of the runs are as good.
const WAITING_MAX: usize = 4096;

/// The places where a page looks, newest first.
pub(super) struct Candidates {
    source: Source,
    /// Nothing at or after this place comes any more.
    before: Option<Seq>,
}

enum Source {
    /// The runs in turn.
    Runs(Within),
    /// These places, in ascending order.
    These(Vec<Seq>),
    /// For each destination its newest row of a table of ends that has not been passed, as far as the runs lead there.
    Ended { ends: Ends, newest: BinaryHeap<(Seq, DestinationNo)>, within: Within },
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
        Self::in_runs(snapshot, wanted, asked, before)
    }

    /// For a list of deliveries.
    pub(super) fn of_deliveries(
        snapshot: &Snapshot,
        wanted: &DeliveriesWanted,
        before: Option<Seq>,
    ) -> Result<Self, ReadError> {
        let destinations = destinations(wanted);
        let ends = match (wanted.state, wanted.milestone, wanted.status) {
            (Some(DeliveryState::Failed), _, _) => Some(Ends::Failed),
            (Some(DeliveryState::Cancelled), _, _) => Some(Ends::Cancelled),
            (_, Some(Milestone::Failed), _) => Some(Ends::Failures),
            (_, _, Some(status)) if op::is_of_failures(status) => Some(Ends::Failures),
            (_, _, _) => None,
        };
        if let (Some(DeliveryState::Pending | DeliveryState::Held), None | Some(Ends::Failures)) = (wanted.state, ends)
            && let Some(places) = waiting(snapshot, destinations.as_deref(), before)?
        {
            return Ok(Candidates { source: Source::These(places), before });
        }
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
        let Some(ends) = ends else {
            return Ok(Self::in_runs(snapshot, &wanted.events, Asked { destinations, ..asked }, before));
        };
        let end = before.unwrap_or(Seq(u64::MAX));
        let nos = match destinations {
            Some(nos) => nos,
            None => snapshot.destinations_with_ends(ends)?,
        };
        let mut newest = BinaryHeap::new();
        for no in nos {
            newest.extend(snapshot.ended_before(ends, no, end)?.map(|seq| (seq, no)));
        }
        let within = Within::new(snapshot, &wanted.events, asked, before);
        Ok(Candidates { source: Source::Ended { ends, newest, within }, before })
    }

    fn in_runs(snapshot: &Snapshot, wanted: &EventsWanted, asked: Asked, before: Option<Seq>) -> Self {
        Candidates { source: Source::Runs(Within::new(snapshot, wanted, asked, before)), before }
    }

    /// How far the walk has come: nothing at or after this place comes any more.
    pub(super) fn reached(&self) -> Option<Seq> {
        self.before
    }

    /// The next place.
    pub(super) fn step(&mut self, snapshot: &Snapshot) -> Result<Step, ReadError> {
        let step = match &mut self.source {
            Source::These(places) => places.pop().map_or(Step::End, Step::Look),
            Source::Ended { ends, newest, within } => next_end(snapshot, *ends, newest, within)?,
            Source::Runs(within) => within.next(snapshot, self.before)?,
        };
        match step {
            Step::Look(seq) => self.before = Some(seq),
            Step::On(before) => self.before = Some(before),
            Step::End => {}
        }
        Ok(step)
    }
}

/// The places that the lists of the runs lead to.
struct Within {
    runs: VecDeque<Stretch>,
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
    fn new(snapshot: &Snapshot, wanted: &EventsWanted, asked: Asked, before: Option<Seq>) -> Self {
        let time = Time { from: wanted.from, to: wanted.to };
        let is_asked = |stretch: &Stretch| {
            before.is_none_or(|before| stretch.first() < before) && time.may_hold(stretch.accepted())
        };
        let runs = snapshot.runs().newest_first().filter(is_asked).collect();
        Within { runs, asked, time, current: None }
    }

    /// The events of the next run that are asked for and lie before `end`; `None` after the last run.
    fn open(&mut self, snapshot: &Snapshot, end: Seq) -> Result<Option<Current>, ReadError> {
        let Some(run) = self.runs.pop_front() else { return Ok(None) };
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
                while self.runs.front().is_some_and(|run| run.first() > seq) {
                    self.runs.pop_front();
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

/// The newest of the ends that the runs lead to as well. Whichever of the two has nothing for long is followed by a seek in
/// the other.
fn next_end(
    snapshot: &Snapshot,
    ends: Ends,
    newest: &mut BinaryHeap<(Seq, DestinationNo)>,
    within: &mut Within,
) -> Result<Step, ReadError> {
    let Some((seq, _)) = newest.peek().copied() else { return Ok(Step::End) };
    // What was committed after the runs were taken is in none that is known: it is looked at itself.
    let led = match seq >= snapshot.runs().end() {
        true => seq,
        false => match within.newest_until(snapshot, seq)? {
            Step::Look(place) => place,
            step @ (Step::On(_) | Step::End) => return Ok(step),
        },
    };
    // Those after it are led to by nothing; so they are left out, and at it itself all of its destinations are passed at once.
    let before = if led == seq { seq } else { Seq(led.0 + 1) };
    while let Some((later, no)) = newest.peek().copied()
        && later >= before
    {
        newest.pop();
        newest.extend(snapshot.ended_before(ends, no, before)?.map(|older| (older, no)));
    }
    Ok(if led == seq { Step::Look(seq) } else { Step::On(before) })
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
