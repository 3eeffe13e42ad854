//! The decision, as a table of what each lane may do, and then as a whole against a model of the disk.

use std::collections::{HashMap, HashSet};

use super::*;
use crate::engine::health::Kind;
use crate::model::Trigger;

const CALM: BreakerSettings = BreakerSettings { failures_max: 0, shut_for: Duration::from_secs(30) };
const LIMITS: Limits = Limits { in_flight_max: 1024, unsettled_max: 8192, breaker: CALM };
const SUCCEEDED: Signal = Signal { kind: Kind::Succeeded, kept_waiting: false, retry_after: None };
const FAILING: Signal = Signal { kind: Kind::Failing, kept_waiting: false, retry_after: None };
const KEPT_WAITING: Signal = Signal { kind: Kind::Failing, kept_waiting: true, retry_after: None };

/// A lane whose receiver has proved itself.
fn spec() -> LaneSpec {
    let health = LaneHealth { proven: true, ..LaneHealth::default() };
    LaneSpec {
        in_flight_max: 20,
        ordered: false,
        ordering: false,
        interval: None,
        held: false,
        unconfirmed: false,
        gone_at_once: false,
        health,
    }
}

/// A lane whose receiver has not answered yet.
fn fresh() -> LaneSpec {
    LaneSpec { health: LaneHealth::default(), ..spec() }
}

fn at(seconds: u64) -> Timestamp {
    Timestamp::from_millis(1_000_000_000 + seconds * 1000)
}

fn row(lane: u32, seq: u64) -> DueRow {
    DueRow { destination: DestinationNo(lane), due: at(0), seq: Seq(seq), plan: Plan::FIRST }
}

/// Lanes over a disk that is a sorted map, where every page that is asked for comes at once.
struct Desk {
    lanes: Lanes,
    disk: BTreeMap<(DestinationNo, Timestamp, Seq), Plan>,
    specs: HashMap<DestinationNo, LaneSpec>,
}

impl Desk {
    fn new(limits: Limits) -> Self {
        Desk { lanes: Lanes::new(limits), disk: BTreeMap::new(), specs: HashMap::new() }
    }

    fn lane(&mut self, no: u32, spec: LaneSpec) {
        self.specs.insert(DestinationNo(no), spec);
    }

    fn hear(&mut self, change: Change, now: Timestamp) {
        let specs = &self.specs;
        self.lanes.hear(change, now, |no| specs.get(&no).copied());
        self.load(now);
    }

    /// Puts rows on the disk and rings them in.
    fn due(&mut self, rows: impl IntoIterator<Item = DueRow>) {
        for row in rows {
            self.disk.insert((row.destination, row.due, row.seq), row.plan);
            self.hear(Change::Due(row), at(0));
        }
    }

    fn load(&mut self, now: Timestamp) {
        while let Some(load) = self.lanes.next_load() {
            let rows = page(&self.disk, &load);
            self.lanes.loaded(load, Page::of(&load, rows), now);
        }
    }

    fn lease(&mut self, now: Timestamp) -> Option<Lease> {
        self.load(now);
        self.lanes.lease(now)
    }

    fn leases(&mut self, now: Timestamp) -> Vec<Lease> {
        std::iter::from_fn(|| self.lease(now)).collect()
    }

    /// An attempt ends, and its delivery with it, at once on disk.
    fn end(&mut self, lease: Lease, signal: Signal, now: Timestamp) {
        let row = lease.row;
        let _ = self.lanes.finished(lease, signal, now);
        self.disk.remove(&(row.destination, row.due, row.seq));
        self.hear(Change::Settled(row.key()), now);
    }

    /// Lets a lane succeed once, so that it is trusted.
    fn trust(&mut self, no: u32) {
        self.due([row(no, u64::from(no) << 32)]);
        let lease = self.lease(at(0)).expect("the lane is open");
        assert_eq!(lease.row.destination, DestinationNo(no));
        self.end(lease, SUCCEEDED, at(0));
    }
}

fn page(disk: &BTreeMap<(DestinationNo, Timestamp, Seq), Plan>, load: &Load) -> Vec<DueRow> {
    let no = load.destination;
    if load.what == Rows::Heads {
        return heads(disk, no);
    }
    let end = (no, Timestamp::from_millis(u64::MAX), Seq(u64::MAX));
    disk.range((no, load.from.0, load.from.1)..=end)
        .map(|(&(destination, due, seq), &plan)| DueRow { destination, due, seq, plan })
        .filter(|row| load.what == Rows::First || row.plan.trigger == Trigger::Confirmation)
        .take(load.limit)
        .collect()
}

/// The first in the line of a lane, and the first of those beside it.
fn heads(disk: &BTreeMap<(DestinationNo, Timestamp, Seq), Plan>, no: DestinationNo) -> Vec<DueRow> {
    let rows = || {
        let of_lane = disk.iter().filter(move |((destination, _, _), _)| *destination == no);
        of_lane.map(|(&(destination, due, seq), &plan)| DueRow { destination, due, seq, plan })
    };
    let line = rows().filter(|row| row.plan.in_line).min_by_key(|row| row.seq);
    line.into_iter().chain(rows().find(|row| !row.plan.in_line)).collect()
}

fn lanes_of(leases: &[Lease]) -> Vec<u32> {
    leases.iter().map(|lease| lease.row.destination.0).collect()
}

/// Invariant 4: ready lanes take turns, so a crowd in one lane costs the others one turn.
#[test]
fn fifty_quiet_lanes_get_their_turn_beside_a_busy_one() {
    let mut desk = Desk::new(LIMITS);
    for no in 0..=50 {
        desk.lane(no, LaneSpec { in_flight_max: 1000, ..spec() });
    }
    desk.due((1..=10_000).map(|seq| row(0, seq)));
    desk.due((1..=50).map(|no| row(no, 20_000)));
    let first: HashSet<u32> = (0..51).map(|_| desk.lease(at(0)).unwrap().row.destination.0).collect();
    assert_eq!(first.len(), 51, "each lane had one of the first 51 turns");
}

/// Invariant 4: whatever keeps a lane from going on, its neighbour does not wait for it.
#[test]
fn a_lane_that_cannot_go_on_delays_no_other() {
    let health = |health: LaneHealth| LaneSpec { health, ..spec() };
    let none = LaneHealth::default();
    let later = Some(at(60));
    let table = [
        ("full", LaneSpec { in_flight_max: 0, ..spec() }),
        ("held", LaneSpec { held: true, ..spec() }),
        ("gone", health(LaneHealth { gone: true, ..none })),
        ("shut", health(LaneHealth { shut_until: later, failures: 10, ..none })),
        ("asked for time", health(LaneHealth { hold_until: later, ..none })),
    ];
    for (why, stuck) in table {
        let mut desk = Desk::new(LIMITS);
        desk.lane(1, stuck);
        desk.lane(2, spec());
        desk.due((1..=300).map(|seq| row(1, seq)));
        desk.due((1..=5).map(|seq| row(2, seq)));
        assert_eq!(lanes_of(&desk.leases(at(0))), [2; 5], "{why}");
    }
}

/// Invariant 4, SX.9: a lane never has more under way than its cap, and the whole never more than its own.
#[test]
fn caps_hold_and_a_free_slot_is_used_again() {
    let mut desk = Desk::new(Limits { in_flight_max: 8, ..LIMITS });
    desk.lane(1, LaneSpec { in_flight_max: 3, ..spec() });
    desk.trust(1);
    desk.due((1..=10).map(|seq| row(1, seq)));
    let mut leases = desk.leases(at(0));
    assert_eq!(leases.len(), 3);
    desk.end(leases.pop().unwrap(), SUCCEEDED, at(0));
    assert_eq!(desk.leases(at(0)).len(), 1);
    for no in 2..=6 {
        desk.lane(no, LaneSpec { in_flight_max: 3, ..fresh() });
    }
    desk.due((2..=6).flat_map(|no| (1..=10).map(move |seq| row(no, seq))));
    desk.leases(at(0));
    assert_eq!(desk.lanes.in_flight(), 3 + 2, "three of the trusted lane, and the fresh ones' quarter of eight");
}

#[test]
fn attempts_whose_end_is_not_on_disk_yet_are_bounded() {
    let mut desk = Desk::new(Limits { unsettled_max: 2, ..LIMITS });
    desk.lane(1, spec());
    desk.due((1..=5).map(|seq| row(1, seq)));
    let leases = desk.leases(at(0));
    assert_eq!(leases.len(), 2);
    let keys: Vec<_> = leases.iter().map(|lease| lease.row.key()).collect();
    for lease in leases {
        let _ = desk.lanes.finished(lease, SUCCEEDED, at(0));
    }
    assert_eq!((desk.lanes.in_flight(), desk.lanes.unsettled()), (0, 2));
    assert_eq!(desk.lease(at(0)), None);
    desk.hear(Change::Settled(keys[0]), at(0));
    assert!(desk.lease(at(0)).is_some());
}

/// Overload rule: lanes that have not proved themselves share a quarter of the slots, one attempt at a time each.
#[test]
fn fresh_lanes_share_a_quarter_and_the_trusted_have_the_rest() {
    let mut desk = Desk::new(Limits { in_flight_max: 40, ..LIMITS });
    desk.lane(0, LaneSpec { in_flight_max: 100, ..spec() });
    desk.trust(0);
    for no in 1..=100 {
        desk.lane(no, fresh());
    }
    desk.due((1..=100).flat_map(|no| (1..=3).map(move |seq| row(no, seq))));
    desk.due((1..=100).map(|seq| row(0, seq)));
    let lanes = lanes_of(&desk.leases(at(0)));
    assert_eq!(lanes.len(), 40);
    assert_eq!(lanes.iter().filter(|no| **no != 0).count(), 10);
}

/// A lane that stood in line while it was trusted, and timed out meanwhile, took a slot that the slow ones' share did not
/// have: with many lanes at once, all of them.
#[test]
fn a_lane_that_times_out_while_it_stands_in_line_counts_as_slow() {
    let mut desk = Desk::new(Limits { in_flight_max: 8, ..LIMITS });
    for no in 1..=8 {
        desk.lane(no, spec());
        desk.trust(no);
    }
    desk.due((1..=8).flat_map(|no| (1..=3).map(move |seq| row(no, seq))));
    let leases = desk.leases(at(0));
    assert_eq!(leases.len(), 8);
    for lease in leases {
        desk.end(lease, KEPT_WAITING, at(0));
    }
    assert_eq!(desk.leases(at(0)).len(), 2);
}

/// A lane that stood in line as a fresh one, and succeeded meanwhile, waited until hanging receivers gave their slots back.
#[test]
fn a_lane_that_succeeds_while_it_stands_in_line_no_longer_waits_for_the_others() {
    let mut desk = Desk::new(Limits { in_flight_max: 8, ..LIMITS });
    desk.lane(1, fresh());
    desk.lane(2, fresh());
    desk.due([row(1, 1), row(1, 2), row(1, 3)]);
    let lease = desk.lease(at(0)).unwrap();
    desk.due((1..=9).map(|seq| row(2, seq)));
    let hanging = desk.leases(at(0));
    assert_eq!(hanging.len(), 1, "the share is two slots, and one is lane 1's");
    let others = lanes_of(&hanging);
    desk.end(lease, SUCCEEDED, at(0));
    let mut now_under_way = lanes_of(&desk.leases(at(0)));
    now_under_way.extend(others);
    now_under_way.sort_unstable();
    assert!(now_under_way.iter().filter(|no| **no == 1).count() >= 2, "{now_under_way:?}");
}

/// The breaker: a shut lane lets one probe through after its time, and one only, until one succeeds.
#[test]
fn a_shut_lane_lets_one_probe_through_and_one_only() {
    let breaker = BreakerSettings { failures_max: 2, shut_for: Duration::from_secs(30) };
    let mut desk = Desk::new(Limits { breaker, ..LIMITS });
    desk.lane(1, spec());
    desk.due((1..=50).map(|seq| row(1, seq)));
    for lease in desk.leases(at(0)) {
        desk.end(lease, FAILING, at(0));
    }
    assert_eq!(desk.lease(at(29)), None, "shut");
    assert_eq!(desk.lanes.next_wake(), Some(at(30)));
    let probe = desk.leases(at(30));
    assert_eq!(probe.len(), 1);
    desk.end(probe[0], FAILING, at(31));
    assert_eq!(desk.lease(at(90)), None, "a failed probe shuts it for longer");
    let probe = desk.leases(at(91));
    assert_eq!(probe.len(), 1);
    desk.end(probe[0], SUCCEEDED, at(92));
    assert_eq!(desk.leases(at(92)).len(), 20, "open again, to its cap");
}

/// 429 and 503 with Retry-After hold the whole lane until then.
#[test]
fn retry_after_holds_the_lane_until_its_time() {
    let mut desk = Desk::new(LIMITS);
    desk.lane(1, LaneSpec { in_flight_max: 1, ..spec() });
    desk.due((1..=3).map(|seq| row(1, seq)));
    let lease = desk.lease(at(0)).unwrap();
    desk.end(lease, Signal { retry_after: Some(at(120)), ..FAILING }, at(1));
    assert_eq!(desk.lease(at(119)), None);
    assert_eq!(desk.lanes.next_wake(), Some(at(120)));
    assert!(desk.lease(at(120)).is_some());
}

#[test]
fn a_lanes_pace_spaces_its_attempts_and_saves_nothing_up() {
    let mut desk = Desk::new(LIMITS);
    desk.lane(1, LaneSpec { interval: Some(Duration::from_secs(10)), ..spec() });
    desk.due((1..=9).map(|seq| row(1, seq)));
    let mut moments = Vec::new();
    for second in 0..=25 {
        moments.extend(desk.leases(at(second)).iter().map(|_| second));
    }
    assert_eq!(moments, [0, 10, 20]);
    let mut moments = Vec::new();
    for second in 100..=115 {
        moments.extend(desk.leases(at(second)).iter().map(|_| second));
    }
    assert_eq!(moments, [100, 110], "the time without attempts is no credit");
}

/// A pace that was raised from one a minute to one in ten seconds was no pace at all: the old slot did not count, and each lease
/// moved it still further ahead.
#[test]
fn a_pace_that_is_raised_is_kept() {
    let mut desk = Desk::new(LIMITS);
    desk.lane(1, LaneSpec { interval: Some(Duration::from_secs(60)), ..spec() });
    desk.due((1..=9).map(|seq| row(1, seq)));
    assert_eq!(desk.leases(at(0)).len(), 1);
    desk.lane(1, LaneSpec { interval: Some(Duration::from_secs(10)), ..spec() });
    desk.hear(Change::Lane(DestinationNo(1)), at(0));
    let moments: Vec<_> =
        (1..=31).flat_map(|second| desk.leases(at(second)).into_iter().map(move |_| second)).collect();
    assert!(moments.windows(2).all(|pair| pair[1] - pair[0] >= 10), "{moments:?}");
    assert!(moments.len() >= 3, "{moments:?}");
}

/// A clock that runs back leaves no lane waiting for a moment that no longer counts.
#[test]
fn a_clock_that_runs_back_holds_no_lane() {
    let mut desk = Desk::new(LIMITS);
    let shut = LaneHealth { shut_until: Some(at(100_030)), failures: 10, ..LaneHealth::default() };
    desk.lane(1, LaneSpec { health: shut, ..spec() });
    desk.due([row(1, 1)]);
    assert_eq!(desk.lease(at(100_000)), None, "shut");
    assert!(desk.lease(at(10)).is_some(), "a day earlier nobody can have shut it for that long");
}

/// An operator's pause and resume, a deletion, and a resume that forgets what was known against the receiver.
#[test]
fn what_operators_say_takes_effect_on_the_next_lease() {
    let mut desk = Desk::new(LIMITS);
    let shut = LaneHealth { shut_until: Some(at(200)), failures: 10, ..LaneHealth::default() };
    desk.lane(1, LaneSpec { in_flight_max: 1, health: shut, ..spec() });
    desk.due((1..=5).map(|seq| row(1, seq)));
    assert_eq!(desk.lease(at(0)), None);
    desk.lane(1, LaneSpec { in_flight_max: 1, ..spec() });
    desk.hear(Change::Opened(DestinationNo(1)), at(0));
    let lease = desk.lease(at(0)).unwrap();
    desk.lane(1, LaneSpec { held: true, ..spec() });
    desk.hear(Change::Lane(DestinationNo(1)), at(0));
    desk.end(lease, SUCCEEDED, at(0));
    assert_eq!(desk.lease(at(0)), None);
    desk.lane(1, LaneSpec { in_flight_max: 2, ..spec() });
    desk.hear(Change::Lane(DestinationNo(1)), at(0));
    let leases = desk.leases(at(0));
    assert_eq!(leases.len(), 2);
    desk.specs.clear();
    desk.hear(Change::Lane(DestinationNo(1)), at(0));
    for lease in leases {
        desk.end(lease, SUCCEEDED, at(0));
    }
    assert_eq!((desk.lease(at(0)), desk.lanes.in_flight(), desk.lanes.unsettled()), (None, 0, 0));
}

/// Invariant 5: memory holds windows of ids, whatever waits on disk.
#[test]
fn memory_holds_windows_of_ids_whatever_the_backlog() {
    let mut desk = Desk::new(LIMITS);
    desk.lane(0, LaneSpec { held: true, ..spec() });
    desk.due((1..=100_000).map(|seq| row(0, seq)));
    assert!(desk.lanes.ids_in_memory() <= WINDOW_MAX, "{}", desk.lanes.ids_in_memory());
    for no in 1..=1000 {
        desk.lane(no, spec());
    }
    for seq in 1..=100 {
        desk.due((1..=1000).map(|no| row(no, seq)));
    }
    desk.due((101..=1000).map(|seq| row(1, seq)));
    let ids = desk.lanes.ids_in_memory();
    assert!((100_000..=1001 * WINDOW_MAX).contains(&ids), "{ids}");
}

/// S2.46, decision D14: what is held for the lack of a confirmation does not hold the request for it, which lies behind it; not
/// after a restart either. Nor does it let anything else through.
#[test]
fn the_request_for_a_confirmation_passes_what_is_held_for_the_lack_of_it() {
    let asks = Plan { trigger: Trigger::Confirmation, ..Plan::FIRST };
    let request = |seq| DueRow { due: at(1), plan: asks, ..row(1, seq) };
    let mut desk = Desk::new(LIMITS);
    desk.lane(1, LaneSpec { unconfirmed: true, ..spec() });
    desk.due((1..=1000).map(|seq| row(1, seq)));
    assert_eq!(desk.lease(at(1)), None);
    desk.due([request(2000)]);
    let lease = desk.lease(at(1)).unwrap();
    assert_eq!((lease.row, desk.lease(at(1))), (request(2000), None));
    // It could not be made, and is read again; so it is after a restart.
    desk.lanes.put_back(lease, at(1));
    let lease = desk.lease(at(2)).unwrap();
    assert_eq!((lease.row, desk.lease(at(2))), (request(2000), None));
    desk.end(lease, FAILING, at(2));
    desk.disk.insert((DestinationNo(1), at(3), Seq(2000)), asks);
    let specs = desk.specs.clone();
    desk.lanes.forget_windows();
    desk.lanes.has_rows(DestinationNo(1), at(3), |no| specs.get(&no).copied());
    let lease = desk.lease(at(3)).unwrap();
    assert_eq!((lease.row.seq, desk.lease(at(3))), (Seq(2000), None));
    // A pause holds it, too; and once it is withdrawn, there is none.
    desk.end(lease, FAILING, at(3));
    desk.due([request(2001)]);
    desk.lane(1, LaneSpec { unconfirmed: true, held: true, ..spec() });
    desk.hear(Change::Lane(DestinationNo(1)), at(4));
    assert_eq!(desk.lease(at(4)), None);
    desk.disk.retain(|_, plan| plan.trigger != Trigger::Confirmation);
    desk.hear(Change::Gone(request(2001)), at(4));
    desk.lane(1, LaneSpec { unconfirmed: true, ..spec() });
    desk.hear(Change::Lane(DestinationNo(1)), at(4));
    assert_eq!(desk.lease(at(4)), None);
    // Confirmed: all of it goes, the next request in its turn.
    desk.due([request(2002)]);
    desk.lane(1, LaneSpec { in_flight_max: 2000, ..spec() });
    desk.hear(Change::Lane(DestinationNo(1)), at(5));
    let leases = desk.leases(at(5));
    let seqs: Vec<_> = leases.iter().map(|lease| lease.row.seq.0).collect();
    assert_eq!(seqs, (1..=1000).chain([2002]).collect::<Vec<_>>());
}

/// Attempts that were under way when a lane was opened anew, because its URL changed or an operator said so, went to whoever
/// was there before: their answers neither hold nor shut the lane, nor do they make it trusted. The next one's does.
#[test]
fn an_attempt_from_before_a_lane_was_opened_anew_does_not_judge_it() {
    const GONE: Signal = Signal { kind: Kind::Gone, kept_waiting: false, retry_after: None };
    let held = Signal { retry_after: Some(at(600)), ..FAILING };
    for late in [GONE, held, KEPT_WAITING, SUCCEEDED] {
        let breaker = BreakerSettings { failures_max: 1, shut_for: Duration::from_secs(30) };
        let mut desk = Desk::new(Limits { breaker, ..LIMITS });
        desk.lane(1, LaneSpec { gone_at_once: true, ..spec() });
        desk.due((1..=4).map(|seq| row(1, seq)));
        let lease = desk.lease(at(0)).unwrap();
        let opened = LaneHealth::unknown(1);
        desk.lane(1, LaneSpec { health: opened, gone_at_once: true, ..spec() });
        desk.hear(Change::Opened(DestinationNo(1)), at(0));
        assert_eq!(desk.lanes.finished(lease, late, at(1)), None, "{late:?}");
        desk.hear(Change::Settled(lease.row.key()), at(1));
        let next = desk.lease(at(1)).expect("the lane is open");
        assert_eq!(next.resumed, 1);
        let gone = LaneHealth { gone: true, gone_since: Some(at(1)), ..opened };
        assert_eq!(desk.lanes.finished(next, GONE, at(1)), Some(gone));
        assert_eq!(desk.lease(at(1)), None, "this one judged the receiver that is there now");
    }
}

/// S2.44: once the store has opened a lane for the request for its confirmation, that is leased, and it alone.
#[test]
fn a_lane_that_was_gone_or_held_sends_the_request_that_it_was_opened_for() {
    let asks = Plan { trigger: Trigger::Confirmation, ..Plan::FIRST };
    let request = DueRow { plan: asks, ..row(1, 9) };
    let none = LaneHealth::default();
    for health in [LaneHealth { gone: true, ..none }, LaneHealth { hold_until: Some(at(600)), ..none }] {
        let mut desk = Desk::new(LIMITS);
        desk.lane(1, LaneSpec { unconfirmed: true, health, ..spec() });
        desk.due([row(1, 1), request]);
        assert_eq!(desk.lease(at(1)), None, "{health:?}");
        desk.lane(1, LaneSpec { unconfirmed: true, health: LaneHealth::unknown(1), ..spec() });
        desk.hear(Change::Opened(DestinationNo(1)), at(1));
        let leased: Vec<_> = desk.leases(at(1)).iter().map(|lease| lease.row).collect();
        assert_eq!(leased, [request]);
    }
}

/// Invariant 5: also while a page is on its way, and while pages wait for their turn, what is heard does not pile up.
#[test]
fn what_is_heard_while_a_page_is_on_its_way_is_bounded_too() {
    let mut lanes = Lanes::new(LIMITS);
    let hear = |lanes: &mut Lanes, seq| lanes.hear(Change::Due(row(1, seq)), at(0), |_| Some(spec()));
    lanes.has_rows(DestinationNo(1), at(0), |_| Some(spec()));
    for seq in 1..=50_000 {
        hear(&mut lanes, seq);
    }
    assert!(lanes.loads.len() <= 1, "{} wishes for one page", lanes.loads.len());
    let load = lanes.next_load().unwrap();
    for seq in 50_001..=200_000 {
        hear(&mut lanes, seq);
    }
    assert!(lanes.ids_in_memory() <= WINDOW_MAX + MISSED_MAX, "{}", lanes.ids_in_memory());
    // That page is no longer good, but the lane is not forgotten.
    lanes.loaded(load, Page::of(&load, (1..=256).map(|seq| row(1, seq)).collect()), at(0));
    let again = lanes.next_load().unwrap();
    assert_eq!(again.from, (Timestamp::ZERO, Seq(0)));
    lanes.loaded(again, Page::of(&again, (1..=256).map(|seq| row(1, seq)).collect()), at(0));
    assert_eq!(lanes.lease(at(0)).map(|lease| lease.row.seq), Some(Seq(1)));
}

/// A delivery failed and was to be retried before the rows that a page was on its way for. The page's arrival removed the old
/// row of every delivery that had settled meanwhile, and took the new one along: it was not tried again until a restart.
#[test]
fn a_retry_that_is_heard_while_a_page_is_on_its_way_is_kept() {
    let mut lanes = Lanes::new(LIMITS);
    let spec_of = |_| Some(spec());
    lanes.has_rows(DestinationNo(1), at(0), spec_of);
    let load = lanes.next_load().unwrap();
    let far = |seq| DueRow { due: at(3600), ..row(1, seq) };
    let disk: Vec<_> = std::iter::once(row(1, 1)).chain((2..=256).map(far)).collect();
    lanes.loaded(load, Page::of(&load, disk), at(0));
    // The window is low: all but a few of its rows are cancelled.
    for seq in 2..=200 {
        lanes.hear(Change::Gone(far(seq)), at(0), spec_of);
    }
    let lease = lanes.lease(at(0)).unwrap();
    let load = lanes.next_load().unwrap();
    let _ = lanes.finished(lease, FAILING, at(1));
    lanes.hear(Change::Settled(lease.row.key()), at(1), spec_of);
    let retry = DueRow { due: at(6), plan: Plan { number: 2, tried: 1, ..Plan::FIRST }, ..row(1, 1) };
    lanes.hear(Change::Due(retry), at(1), spec_of);
    lanes.loaded(load, Page::of(&load, (257..=300).map(far).collect()), at(1));
    assert_eq!(lanes.lease(at(6)).map(|lease| lease.row), Some(retry));
}

/// At a start an event came in before the walk over the lanes had answered. The lane was taken for one without a past, and its
/// backlog was not looked at until the next start.
#[test]
fn an_event_that_comes_before_the_survey_does_not_hide_the_backlog() {
    let mut desk = Desk::new(LIMITS);
    desk.lane(1, spec());
    for seq in 1..=5 {
        desk.disk.insert((DestinationNo(1), at(0), Seq(seq)), Plan::FIRST);
    }
    desk.lanes.forget_windows();
    desk.due([row(1, 6)]);
    let specs = desk.specs.clone();
    desk.lanes.has_rows(DestinationNo(1), at(0), |no| specs.get(&no).copied());
    let seqs: Vec<_> = desk.leases(at(0)).iter().map(|lease| lease.row.seq.0).collect();
    assert_eq!(seqs, [1, 2, 3, 4, 5, 6]);
}

/// Everything that happens between the lanes and the disk, in a random order from a seed.
struct Model {
    rng: fastrand::Rng,
    lanes: Lanes,
    now: Timestamp,
    specs: HashMap<DestinationNo, LaneSpec>,
    disk: BTreeMap<(DestinationNo, Timestamp, Seq), Plan>,
    /// The one row of each waiting delivery.
    rows: HashMap<DeliveryKey, DueRow>,
    /// Deliveries that have no row: they may be made due again.
    ended: Vec<DeliveryKey>,
    /// Changes that have been committed and not heard.
    bell: VecDeque<Change>,
    /// Attempts' ends that have been handed in and not committed.
    writer: VecDeque<(DueRow, Option<Duration>)>,
    leases: Vec<Lease>,
    /// Leased, and the end not yet on disk.
    under_way: HashSet<DeliveryKey>,
    /// The numbers of rows whose lease ended with a record: none may be leased again.
    spent: HashSet<u32>,
    /// How far ahead rows are due, in milliseconds, and how often new ones come, in a hundred steps.
    spread: u64,
    often: u8,
    /// How far the time moves on in a step, in milliseconds at most.
    pace: u64,
    loads: Vec<(Load, Option<Vec<DueRow>>)>,
    survey: Option<Option<Vec<DestinationNo>>>,
    next_seq: u64,
    next_number: u32,
    leased: u64,
}

impl Model {
    fn new(seed: u64) -> Self {
        let mut rng = fastrand::Rng::with_seed(seed);
        let breaker = BreakerSettings { failures_max: rng.u32(0..4), shut_for: Duration::from_secs(2) };
        let limits = Limits { in_flight_max: rng.usize(4..200), unsettled_max: rng.usize(100..1000), breaker };
        let spread = [1, 50, 5_000, 60_000][rng.usize(..4)];
        let (often, pace) = (rng.u8(1..6), [40, 400, 2_000][rng.usize(..3)]);
        let mut specs = HashMap::new();
        for no in 1..=rng.u32(1..5) {
            let interval = rng.bool().then(|| Duration::from_millis(rng.u64(1..20)));
            let ordered = rng.u8(..3) == 0;
            specs.insert(DestinationNo(no), LaneSpec { in_flight_max: rng.u32(1..100), ordered, interval, ..spec() });
        }
        Model {
            rng,
            lanes: Lanes::new(limits),
            now: at(0),
            specs,
            disk: BTreeMap::new(),
            rows: HashMap::new(),
            ended: Vec::new(),
            bell: VecDeque::new(),
            writer: VecDeque::new(),
            leases: Vec::new(),
            under_way: HashSet::new(),
            spent: HashSet::new(),
            spread,
            often,
            pace,
            loads: Vec::new(),
            survey: None,
            next_seq: 1,
            next_number: 1,
            leased: 0,
        }
    }

    fn plan(&mut self, in_line: bool) -> Plan {
        self.next_number += 1;
        Plan { number: self.next_number, in_line, ..Plan::FIRST }
    }

    fn put(&mut self, row: DueRow) {
        self.disk.insert((row.destination, row.due, row.seq), row.plan);
        assert_eq!(self.rows.insert(row.key(), row), None, "the model gives each delivery one row");
        self.bell.push_back(Change::Due(row));
    }

    fn take(&mut self, key: DeliveryKey) -> Option<DueRow> {
        let row = self.rows.remove(&key)?;
        self.disk.remove(&(row.destination, row.due, row.seq));
        Some(row)
    }

    fn some_lane(&mut self) -> DestinationNo {
        DestinationNo(self.rng.u32(1..=self.specs.len() as u32))
    }

    fn some_due(&mut self) -> Timestamp {
        let later = if self.rng.u8(..4) == 0 { 0 } else { self.rng.u64(..self.spread) };
        self.now.after(Duration::from_millis(later))
    }

    fn accept(&mut self) {
        let destination = self.some_lane();
        for _ in 0..self.rng.usize(1..120) {
            let due = self.some_due();
            let plan = self.plan(due <= self.now);
            let seq = Seq(self.next_seq);
            self.next_seq += 1;
            self.put(DueRow { destination, due, seq, plan });
        }
    }

    fn cancel(&mut self) {
        // Of those under way and of those that wait.
        let key = if self.rng.bool() && !self.under_way.is_empty() {
            self.leases.first().map(|lease| lease.row.key())
        } else {
            let place = self.rng.usize(..self.disk.len().max(1));
            self.disk.keys().nth(place).map(|&(destination, _, seq)| DeliveryKey { destination, seq })
        };
        if let Some(key) = key
            && let Some(row) = self.take(key)
        {
            self.bell.push_back(Change::Gone(row));
            self.ended.push(key);
            if self.rng.bool() {
                self.resend();
            }
        }
    }

    fn resend(&mut self) {
        if let Some(key) = self.ended.pop() {
            let plan = self.plan(false);
            self.put(DueRow { destination: key.destination, due: self.now, seq: key.seq, plan });
        }
    }

    /// Commits what the writer has: as the store's operation does.
    fn commit(&mut self) {
        let count = self.rng.usize(..=self.writer.len());
        for (row, retry) in self.writer.drain(..count).collect::<Vec<_>>() {
            let key = row.key();
            self.under_way.remove(&key);
            self.spent.insert(row.plan.number);
            self.bell.push_back(Change::Settled(key));
            let waiting = self.take(key);
            match (waiting, retry) {
                (Some(waiting), Some(delay)) if waiting == row => {
                    let plan = self.plan(row.plan.in_line);
                    self.put(DueRow { due: self.now.after(delay), plan, ..row });
                }
                (Some(waiting), None) if waiting == row => self.ended.push(key),
                // Cancelled and made due again during the attempt: its plan moves up.
                (Some(waiting), _) => {
                    let plan = self.plan(waiting.plan.in_line);
                    self.put(DueRow { plan, ..waiting });
                }
                (None, _) => {}
            }
        }
    }

    fn hear(&mut self, all: bool) {
        let count = if all { self.bell.len() } else { self.rng.usize(..=self.bell.len()) };
        for change in self.bell.drain(..count) {
            let specs = &self.specs;
            self.lanes.hear(change, self.now, |no| specs.get(&no).copied());
        }
    }

    fn ask(&mut self) {
        while self.loads.len() < 4
            && let Some(load) = self.lanes.next_load()
        {
            self.loads.push((load, None));
        }
    }

    /// A page is read as of now, to be answered later.
    fn read(&mut self) {
        if let Some(place) = self.some_load(|rows| rows.is_none()) {
            self.loads[place].1 = Some(page(&self.disk, &self.loads[place].0));
        }
        if let Some(found @ None) = self.survey.as_mut() {
            let mut lanes: Vec<_> = self.disk.keys().map(|(no, _, _)| *no).collect();
            lanes.dedup();
            *found = Some(lanes);
        }
    }

    fn some_load(&mut self, wanted: impl Fn(&Option<Vec<DueRow>>) -> bool) -> Option<usize> {
        let places: Vec<_> = (0..self.loads.len()).filter(|place| wanted(&self.loads[*place].1)).collect();
        (!places.is_empty()).then(|| places[self.rng.usize(..places.len())])
    }

    fn answer(&mut self) {
        if let Some(place) = self.some_load(|rows| rows.is_some()) {
            let (load, rows) = self.loads.swap_remove(place);
            match rows {
                Some(rows) if self.rng.u8(..10) > 0 => self.lanes.loaded(load, Page::of(&load, rows), self.now),
                Some(_) | None => self.lanes.load_failed(load),
            }
        }
        if let Some(Some(found)) = self.survey.take_if(|found| found.is_some()) {
            let specs = &self.specs;
            found.into_iter().for_each(|no| self.lanes.has_rows(no, self.now, |no| specs.get(&no).copied()));
        }
    }

    /// The bell was not heard in time: what was rung is dropped, the ends of attempts aside, and the disk is read again.
    fn fall_behind(&mut self) {
        if self.survey.is_none() {
            self.bell.retain(|change| matches!(change, Change::Settled(_)));
            self.hear(true);
            self.lanes.forget_windows();
            self.survey = Some(None);
        }
    }

    fn lease(&mut self) {
        for _ in 0..self.rng.usize(1..50) {
            let Some(lease) = self.lanes.lease(self.now) else { return };
            self.leased += 1;
            let (row, key) = (lease.row, lease.row.key());
            assert!(row.due <= self.now, "{row:?} is leased before its time");
            assert!(self.under_way.insert(key), "{key:?} has two attempts");
            assert!(!self.spent.contains(&row.plan.number), "{row:?} is leased again after its end");
            let unheard = self.bell.iter().any(|change| match change {
                Change::Due(other) | Change::Gone(other) => other.key() == key,
                Change::Settled(_) | Change::Lane(_) | Change::Opened(_) => false,
            });
            assert!(unheard || self.rows.get(&key) == Some(&row), "{row:?} is not what the disk says");
            let spec = self.specs[&row.destination];
            if spec.ordered {
                self.is_next(row);
            }
            assert!(!spec.held, "{row:?} is leased from a lane that is held");
            self.leases.push(lease);
            let in_lane = self.leases.iter().filter(|lease| lease.row.destination == row.destination).count();
            assert!(in_lane <= spec.in_flight_max as usize, "{in_lane} at once in {:?}", row.destination);
        }
    }

    /// Whether it is the turn of a row of an ordered lane, that was just leased.
    fn is_next(&self, row: DueRow) {
        let others = self.under_way.iter().filter(|key| key.destination == row.destination && **key != row.key());
        assert_eq!(others.count(), 0, "{row:?} is leased from an ordered lane before the last one's end is on disk");
        // What has not been heard may change whose turn it is.
        if self.bell.is_empty() {
            assert!(heads(&self.disk, row.destination).contains(&row), "{row:?} is not the next of its lane");
        }
    }

    /// An operator makes a lane an ordered one, or no longer.
    fn order(&mut self) {
        let no = self.some_lane();
        if let Some(spec) = self.specs.get_mut(&no) {
            spec.ordered = !spec.ordered;
        }
        self.hear(true);
        let specs = &self.specs;
        self.lanes.hear(Change::Lane(no), self.now, |no| specs.get(&no).copied());
    }

    fn end(&mut self, only_success: bool) {
        if self.leases.is_empty() {
            return;
        }
        let lease = self.leases.swap_remove(self.rng.usize(..self.leases.len()));
        let dice = if only_success { 0 } else { self.rng.u8(..20) };
        match dice {
            0..10 => {
                let _ = self.lanes.finished(lease, SUCCEEDED, self.now);
                self.writer.push_back((lease.row, None));
            }
            10.. if dice < 19 || self.rng.u8(..30) > 0 => {
                let signal = [FAILING, KEPT_WAITING, Signal { kind: Kind::Refused, ..FAILING }][self.rng.usize(..3)];
                let _ = self.lanes.finished(lease, signal, self.now);
                self.writer.push_back((lease.row, Some(Duration::from_millis(self.rng.u64(1..3000)))));
            }
            _ => {
                self.under_way.remove(&lease.row.key());
                self.lanes.put_back(lease, self.now);
            }
        }
    }

    fn hold(&mut self, held: bool) {
        let no = self.some_lane();
        if let Some(spec) = self.specs.get_mut(&no) {
            spec.held = held;
        }
        // The scheduler hears of it at once here, so that a lease from a held lane is told from a late one.
        self.hear(true);
        let specs = &self.specs;
        self.lanes.hear(Change::Lane(no), self.now, |no| specs.get(&no).copied());
    }

    fn step(&mut self) {
        match self.rng.u8(..100) {
            dice @ 0..5 if dice < self.often && self.disk.len() < 3000 => self.accept(),
            5..10 => self.cancel(),
            10..14 => self.resend(),
            14..28 => self.commit(),
            28..42 => self.hear(false),
            42..50 => self.ask(),
            50..57 => self.read(),
            57..64 => self.answer(),
            64..75 => self.lease(),
            75..92 => (0..5).for_each(|_| self.end(false)),
            92..98 => self.now = self.now.after(Duration::from_millis(self.rng.u64(..self.pace))),
            98 => match self.rng.u8(..20) {
                0..2 => self.fall_behind(),
                2 => self.order(),
                _ => {}
            },
            99 => {
                let held = self.rng.u8(..3) == 0;
                self.hold(held);
            }
            _ => {}
        }
        let ids = self.lanes.ids_in_memory();
        assert!(ids <= self.specs.len() * (WINDOW_MAX + MISSED_MAX), "{ids} ids in memory");
    }

    /// Lets everything come to its end: nothing more comes in, every lane is open, every attempt succeeds.
    fn drain(&mut self) {
        let nos: Vec<_> = self.specs.keys().copied().collect();
        for no in nos {
            if let Some(spec) = self.specs.get_mut(&no) {
                spec.held = false;
            }
            self.bell.push_back(Change::Lane(no));
        }
        let mut idle = 0;
        while idle < 400 {
            let before = self.leased;
            self.hear(true);
            self.ask();
            (0..8).for_each(|_| self.read());
            (0..8).for_each(|_| self.answer());
            self.lease();
            (0..60).for_each(|_| self.end(true));
            self.commit();
            self.now = self.now.after(Duration::from_millis(200));
            let quiet = before == self.leased && self.writer.is_empty() && self.leases.is_empty();
            idle = if quiet { idle + 1 } else { 0 };
        }
        assert!(self.rows.is_empty(), "forgotten: {:?}", self.rows.values().take(5).collect::<Vec<_>>());
        assert_eq!((self.lanes.in_flight(), self.lanes.unsettled(), self.lanes.ids_in_memory()), (0, 0, 0));
    }
}

/// Invariants 2, 3, 4 and 5 of the decision: whatever order things happen in between the lanes and the disk, each due row is
/// leased once for each plan, never beside another attempt of its delivery, and none is forgotten.
#[test]
fn each_due_row_is_leased_once_and_none_is_forgotten() {
    let soak = std::env::var_os("POSTRIDER_SOAK").is_some();
    let seeds = match std::env::var("POSTRIDER_SEED").ok().and_then(|seed| seed.parse().ok()) {
        Some(seed) => seed..seed + 1,
        None => 0..if soak { 20_000 } else { 100 },
    };
    for seed in seeds {
        let run = std::panic::catch_unwind(|| {
            let mut model = Model::new(seed);
            // What a start finds on disk.
            (0..model.rng.u8(..4)).for_each(|_| model.accept());
            model.fall_behind();
            (0..2000).for_each(|_| model.step());
            model.drain();
            model.leased
        });
        match run {
            Ok(leased) => assert!(leased > 50, "seed {seed}: the world stood still"),
            Err(cause) => {
                eprintln!("POSTRIDER_SEED={seed}");
                std::panic::resume_unwind(cause);
            }
        }
    }
}

/// PROMISES, overload: what a bulk replay made due gives way to fresh deliveries of its lane, and still gets a turn in four.
#[test]
fn a_replay_gives_way_to_fresh_deliveries_and_still_gets_its_turn() {
    let mut desk = Desk::new(LIMITS);
    desk.lane(1, LaneSpec { in_flight_max: 1, ..spec() });
    let replayed = |seq| DueRow { plan: Plan { number: 2, trigger: Trigger::Replay, ..Plan::FIRST }, ..row(1, seq) };
    desk.due((1..=30).map(replayed));
    let mut order = Vec::new();
    let mut lease = |desk: &mut Desk| {
        let lease = desk.lease(at(5)).expect("something is due");
        order.push(lease.row.seq.0);
        desk.end(lease, SUCCEEDED, at(5));
    };
    lease(&mut desk);
    // Newer, and so behind all of them on disk.
    desk.due((101..=106).map(|seq| DueRow { due: at(4), ..row(1, seq) }));
    // Not due yet.
    desk.due([DueRow { due: at(9), ..row(1, 200) }]);
    (0..10).for_each(|_| lease(&mut desk));
    assert_eq!(order, [1, 101, 102, 103, 2, 104, 105, 106, 3, 4, 5]);
}

/// An ordered lane sends one at a time, in the order of acceptance, the next one when the end of the one before is on disk; a retry
/// holds back what is behind it, however long it takes, and nothing is forgotten.
#[test]
fn an_ordered_lane_sends_the_next_when_the_one_before_has_ended_on_disk() {
    let mut desk = Desk::new(LIMITS);
    desk.lane(1, LaneSpec { ordered: true, ..spec() });
    // Accepted in this order, while the clock was set back twice.
    desk.due([2, 9, 1, 5].into_iter().zip(1..).map(|(due, seq)| DueRow { due: at(due), ..row(1, seq) }));
    let first = desk.lease(at(10)).unwrap();
    assert_eq!((first.row.seq, desk.lease(at(10))), (Seq(1), None));
    let _ = desk.lanes.finished(first, FAILING, at(10));
    assert_eq!(desk.lease(at(10)), None, "its end is not on disk yet");
    let retry = DueRow { due: at(600), plan: Plan { number: 2, tried: 1, ..Plan::FIRST }, ..first.row };
    desk.disk.remove(&(DestinationNo(1), first.row.due, Seq(1)));
    desk.hear(Change::Settled(first.row.key()), at(10));
    desk.due([retry]);
    assert_eq!((desk.lease(at(599)), desk.lanes.next_wake()), (None, Some(at(600))));
    let mut order = Vec::new();
    while let Some(lease) = desk.lease(at(600)) {
        order.push((lease.row.seq.0, lease.row.plan.number));
        desk.end(lease, SUCCEEDED, at(600));
    }
    assert_eq!(order, [(1, 2), (2, 1), (3, 1), (4, 1)]);
}

/// What stands beside an ordered line takes turns with it, a bulk replay three times more rarely, and its retries hold nobody back;
/// nor does the line, while it waits for a retry, hold back what stands beside it.
#[test]
fn what_stands_beside_an_ordered_line_takes_turns_with_it() {
    for (trigger, expected) in [(Trigger::Manual, [11, 1, 12, 2, 13, 3]), (Trigger::Replay, [11, 12, 13, 1, 14, 15])] {
        let mut desk = Desk::new(LIMITS);
        desk.lane(1, LaneSpec { ordered: true, ..spec() });
        let beside = |seq| DueRow { plan: Plan { number: 2, trigger, in_line: false, ..Plan::FIRST }, ..row(1, seq) };
        desk.due((11..=15).map(|seq| row(1, seq)).chain((1..=5).map(beside)));
        let mut order = Vec::new();
        while let Some(lease) = desk.lease(at(0)) {
            order.push(lease.row.seq.0);
            desk.end(lease, SUCCEEDED, at(0));
        }
        assert_eq!((&order[..6], order.len()), (&expected[..], 10), "{trigger:?}");
    }
    let mut desk = Desk::new(LIMITS);
    desk.lane(1, LaneSpec { ordered: true, ..spec() });
    let later = |seq, in_line| DueRow { due: at(600), plan: Plan { tried: 1, in_line, ..Plan::FIRST }, ..row(1, seq) };
    desk.due([later(1, false), row(1, 2), later(3, true), row(1, 4)]);
    let lease = desk.lease(at(0)).unwrap();
    assert_eq!(lease.row.seq, Seq(2));
    desk.end(lease, SUCCEEDED, at(0));
    assert_eq!(desk.lease(at(0)), None, "the fourth waits for the third");
    desk.due([DueRow { plan: Plan { in_line: false, ..Plan::FIRST }, ..row(1, 5) }]);
    assert_eq!(desk.lease(at(0)).map(|lease| lease.row.seq), Some(Seq(5)));
}

/// Invariant 5: whatever waits in an ordered lane, memory holds two ids of it.
#[test]
fn an_ordered_lane_holds_two_ids_whatever_waits() {
    let mut desk = Desk::new(LIMITS);
    desk.lane(1, LaneSpec { ordered: true, ..spec() });
    desk.due((1..=2_000).map(|seq| DueRow { plan: Plan { in_line: seq % 3 > 0, ..Plan::FIRST }, ..row(1, seq) }));
    assert_eq!(desk.lanes.ids_in_memory(), 2);
    let lease = desk.lease(at(0)).unwrap();
    desk.end(lease, SUCCEEDED, at(0));
    assert!(desk.lease(at(0)).is_some());
    assert!(desk.lanes.ids_in_memory() <= 2);
}

/// A lane that becomes an ordered one waits for what is under way, and for its deliveries to be in order; one that no longer is
/// takes its whole width again.
#[test]
fn order_is_switched_on_and_off_under_way() {
    let mut desk = Desk::new(LIMITS);
    desk.lane(1, spec());
    desk.due((1..=50).map(|seq| row(1, seq)));
    let mut leases = desk.leases(at(0));
    assert_eq!(leases.len(), 20);
    desk.lane(1, LaneSpec { ordered: true, ordering: true, ..spec() });
    desk.hear(Change::Lane(DestinationNo(1)), at(0));
    let last = leases.pop().unwrap();
    leases.into_iter().for_each(|lease| desk.end(lease, SUCCEEDED, at(0)));
    assert_eq!(desk.lease(at(0)), None, "one is still under way");
    desk.end(last, SUCCEEDED, at(0));
    assert_eq!(desk.lease(at(0)), None, "they are being put in order");
    desk.lane(1, LaneSpec { ordered: true, ..spec() });
    desk.hear(Change::Lane(DestinationNo(1)), at(0));
    let lease = desk.lease(at(0)).unwrap();
    assert_eq!((lease.row.seq, desk.lease(at(0))), (Seq(21), None));
    desk.lane(1, spec());
    desk.hear(Change::Lane(DestinationNo(1)), at(0));
    assert_eq!(desk.leases(at(0)).len(), 19);
}
