//! Where a page of a list looks: the places of events that may be wanted, newest first.
//!
//! Whoever walks looks at each event itself: what is named here may be gone or not wanted after all, but nothing that is
//! wanted is left out. Waiting deliveries are few as a rule and lie in their lanes; what ended without success has rows by
//! destination; everything else is found by the lists of the runs.

use std::collections::{BinaryHeap, VecDeque};

use crate::model::{DeliveryState, DestinationNo, Milestone, Seq, Timestamp, TypePattern, milestone};

use super::reader::{DeliveriesWanted, Ends, EventsWanted, ReadError, Snapshot};
use super::segments::{Answer, Asked, Stretch};

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
    Runs { runs: VecDeque<Stretch>, asked: Asked, current: Current },
    /// These places, in ascending order.
    These(Vec<Seq>),
    /// For each destination its newest row of a table of ends that has not been passed.
    Ended(Ends, BinaryHeap<(Seq, DestinationNo)>),
}

/// What is left of the run whose turn it is.
enum Current {
    None,
    All { first: Seq, rows: Box<redb::Range<'static, u64, &'static [u8]>> },
    These { first: Seq, places: Vec<Seq> },
}

/// A step of a walk.
pub(super) enum Step {
    /// Look here.
    Look(Seq),
    /// A run is done.
    On,
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
        let before = no_later(snapshot, wanted.events.to, before);
        let ends = match (wanted.state, wanted.milestone) {
            (Some(DeliveryState::Failed | DeliveryState::Cancelled), _) => Some(Ends::Ended),
            (_, Some(Milestone::Failed)) => Some(Ends::Failures),
            (_, _) => None,
        };
        match (wanted.state, ends) {
            (Some(DeliveryState::Pending | DeliveryState::Held), None) => {
                if let Some(places) = waiting(snapshot, destinations.as_deref(), before)? {
                    return Ok(Candidates { source: Source::These(places), before });
                }
            }
            (_, Some(ends)) => {
                let end = before.unwrap_or(Seq(u64::MAX));
                let nos = match destinations {
                    Some(nos) => nos,
                    None => snapshot.destinations_with_ends(ends)?,
                };
                let mut newest = BinaryHeap::new();
                for no in nos {
                    newest.extend(snapshot.ended_before(ends, no, end)?.map(|seq| (seq, no)));
                }
                return Ok(Candidates { source: Source::Ended(ends, newest), before });
            }
            (Some(_) | None, None) => {}
        }
        // Only events of one type have these steps.
        let kind = match wanted.milestone {
            Some(Milestone::Confirm | Milestone::Confirmed) if wanted.events.kind.is_none() => {
                milestone::CONFIRMATION.parse().ok().map(TypePattern::One)
            }
            Some(_) | None => wanted.events.kind.clone(),
        };
        let asked = Asked {
            destinations,
            subscription: wanted.subscription,
            tenant: wanted.events.tenant.clone(),
            kind,
            key: wanted.events.key.clone(),
        };
        Ok(Self::in_runs(snapshot, &wanted.events, asked, before))
    }

    fn in_runs(snapshot: &Snapshot, wanted: &EventsWanted, asked: Asked, before: Option<Seq>) -> Self {
        let in_time = |stretch: &Stretch| {
            let (oldest, newest) = stretch.accepted();
            wanted.from.is_none_or(|from| newest >= from) && wanted.to.is_none_or(|to: Timestamp| oldest < to)
        };
        let in_place = |stretch: &Stretch| before.is_none_or(|before| stretch.first() < before);
        let runs = snapshot.runs().newest_first().filter(|stretch| in_place(stretch) && in_time(stretch)).collect();
        Candidates { source: Source::Runs { runs, asked, current: Current::None }, before }
    }

    /// How far the walk has come: nothing at or after this place comes any more.
    pub(super) fn reached(&self) -> Option<Seq> {
        self.before
    }

    /// The next place.
    pub(super) fn step(&mut self, snapshot: &Snapshot) -> Result<Step, ReadError> {
        let step = match &mut self.source {
            Source::These(places) => places.pop().map_or(Step::End, Step::Look),
            Source::Ended(ends, newest) => next_end(snapshot, *ends, newest)?,
            Source::Runs { runs, asked, current } => loop {
                let (first, next) = match current {
                    Current::None => {
                        let Some(run) = runs.pop_front() else { break Step::End };
                        let end = self.before.map_or(snapshot.runs().end(), |before| before.min(snapshot.runs().end()));
                        *current = open(snapshot, &run, asked, end)?;
                        continue;
                    }
                    Current::All { first, rows } => {
                        let row = rows.next_back().transpose()?;
                        (*first, row.map(|(seq, _)| Seq(seq.value())))
                    }
                    Current::These { first, places } => (*first, places.pop()),
                };
                match next {
                    Some(seq) => break Step::Look(seq),
                    None => {
                        *current = Current::None;
                        self.before = Some(first);
                        return Ok(Step::On);
                    }
                }
            },
        };
        if let Step::Look(seq) = step {
            self.before = Some(seq);
        }
        Ok(step)
    }
}

/// The events of a run that are asked for and lie before `end`.
fn open(snapshot: &Snapshot, run: &Stretch, asked: &Asked, end: Seq) -> Result<Current, ReadError> {
    let first = run.first();
    Ok(match run.ask(asked, snapshot.segments(), || snapshot.look())? {
        Answer::All => Current::All { first, rows: Box::new(snapshot.event_rows(first, run.end().min(end))?) },
        Answer::These(mut places) => {
            places.truncate(places.partition_point(|place| *place < end));
            Current::These { first, places }
        }
    })
}

/// The place before which everything lies that was accepted before a moment, as far as the runs know.
fn no_later(snapshot: &Snapshot, to: Option<Timestamp>, before: Option<Seq>) -> Option<Seq> {
    let Some(to) = to else { return before };
    let mut runs = snapshot.runs().newest_first();
    let end = runs.find(|stretch| stretch.accepted().0 < to).map_or(Seq(0), |stretch| stretch.end());
    Some(before.map_or(end, |before| before.min(end)))
}

fn next_end(snapshot: &Snapshot, ends: Ends, newest: &mut BinaryHeap<(Seq, DestinationNo)>) -> Result<Step, ReadError> {
    let Some((seq, _)) = newest.peek().copied() else { return Ok(Step::End) };
    while let Some((same, no)) = newest.peek().copied()
        && same == seq
    {
        newest.pop();
        newest.extend(snapshot.ended_before(ends, no, seq)?.map(|older| (older, no)));
    }
    Ok(Step::Look(seq))
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
