//! Bulk replays: counted, begun, listed, shown, cancelled.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::api::caller::Caller;
use crate::api::door::{Faults, duration, duration_text};
use crate::api::page::{Cursor, Page};
use crate::api::{Call, native};
use crate::http::problem::Problem;
use crate::http::request::Object;
use crate::http::response::Response;
use crate::model::{
    DeliveryState, DestinationId, Invalid, Rate, Replay, ReplayId, ReplayState, ReplayWanted, TenantId, Timestamp,
};
use crate::service::Sight;
use crate::service::replays::{Count, SeenReplay};

/// Where they live.
const PATH: &str = "/v1/replays";
/// Deliveries in one span of a rate, at most.
const RATE_EVENTS_MAX: u32 = 10_000;
/// The spans of a rate.
const RATE_PER: (Duration, Duration) = (Duration::from_millis(1), Duration::from_secs(24 * 3600));

/// A rate as it is written: so many in a span of time, or a second.
#[derive(Debug, Clone, Deserialize)]
#[serde(untagged, expecting = "is neither a number of deliveries per second nor an object of events and per")]
enum RateRequest {
    PerSecond(u32),
    Span(Object<RateSpan>),
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct RateSpan {
    events: u32,
    per: Option<String>,
}

/// What a caller writes of a new bulk replay.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ReplayRequest {
    destination: Option<String>,
    r#type: Option<String>,
    from: Option<String>,
    to: Option<String>,
    state: Option<String>,
    rate: Option<RateRequest>,
    dry_run: Option<bool>,
}

/// A request that has been weighed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Weighed {
    /// Of which deliveries; its tenant is the caller's until its destination says otherwise.
    pub wanted: ReplayWanted,
    /// The one destination it names.
    pub destination: Option<DestinationId>,
    /// How fast.
    pub rate: Rate,
    /// Whether it only asks how many there are.
    pub dry_run: bool,
}

impl ReplayRequest {
    /// The request as values of the model; a 400 that names every wrong field.
    pub fn weigh(self, tenant: TenantId) -> Result<Weighed, Problem> {
        let faults = &mut Faults::default();
        fn read<T: std::str::FromStr<Err = Invalid>>(
            faults: &mut Faults,
            pointer: &str,
            text: Option<String>,
        ) -> Option<T> {
            text.and_then(|text| faults.weigh(pointer, text.parse()))
        }
        let destination = read(faults, "/destination", self.destination);
        let kind = read(faults, "/type", self.r#type);
        let from: Option<Timestamp> = read(faults, "/from", self.from);
        let to = read(faults, "/to", self.to);
        if let (Some(from), Some(to)) = (from, to)
            && from >= to
        {
            faults.note("/to", "is not later than from");
        }
        let state = match self.state.as_deref() {
            None | Some("failed") => DeliveryState::Failed,
            Some("cancelled") => DeliveryState::Cancelled,
            Some("succeeded") => DeliveryState::Succeeded,
            Some(_) => {
                faults.note(
                    "/state",
                    "must be one of failed, cancelled, succeeded: what has not ended cannot be replayed",
                );
                DeliveryState::Failed
            }
        };
        let rate = match self.rate {
            None => Replay::RATE_DEFAULT,
            Some(RateRequest::PerSecond(events)) => weigh_rate(faults, "/rate", events, Ok(Replay::RATE_DEFAULT.per)),
            Some(RateRequest::Span(Object(RateSpan { events, per }))) => {
                let per = per.map_or(Ok(Replay::RATE_DEFAULT.per), |text| duration(&text, RATE_PER.0, RATE_PER.1));
                weigh_rate(faults, "/rate/events", events, per)
            }
        };
        std::mem::take(faults).into_result()?;
        let wanted = ReplayWanted { tenant, destination: None, kind, from, to, state };
        Ok(Weighed { wanted, destination, rate, dry_run: self.dry_run.unwrap_or(false) })
    }
}

fn weigh_rate(faults: &mut Faults, pointer: &str, events: u32, per: Result<Duration, Invalid>) -> Rate {
    if !(1..=RATE_EVENTS_MAX).contains(&events) {
        faults.note(pointer, format!("must be 1 to {RATE_EVENTS_MAX}"));
    }
    let per = faults.weigh("/rate/per", per).unwrap_or(Replay::RATE_DEFAULT.per);
    Rate { events, per }
}

/// A rate in an answer.
#[derive(Debug, Serialize)]
struct RateView {
    events: u32,
    per: String,
}

/// What a bulk replay is about, in an answer.
#[derive(Debug, Serialize)]
struct FilterView {
    destination: Option<String>,
    r#type: Option<String>,
    from: Option<String>,
    to: Option<String>,
    state: &'static str,
}

/// A bulk replay in an answer.
#[derive(Debug, Serialize)]
pub struct ReplayView {
    id: String,
    /// `running`, `done`, `cancelled` or `failed`.
    state: &'static str,
    /// Why it failed.
    reason: Option<&'static str>,
    /// How many deliveries match; while `matched_at_least`, there may be more.
    matched: u64,
    matched_at_least: bool,
    /// How many are due again.
    done: u64,
    /// How many cannot be sent, for their payload has been erased.
    skipped: u64,
    filter: FilterView,
    rate: RateView,
    tenant: String,
    created: String,
    ended: Option<String>,
}

impl ReplayView {
    /// How a bulk replay is shown.
    pub fn of(seen: &SeenReplay) -> Self {
        let SeenReplay { replay, destination } = seen;
        let wanted = &replay.wanted;
        ReplayView {
            id: replay.id.to_string(),
            state: replay.state.as_str(),
            reason: (replay.state == ReplayState::Failed).then_some("destination_deleted"),
            matched: replay.matched,
            matched_at_least: !replay.exact,
            done: replay.done,
            skipped: replay.skipped,
            filter: FilterView {
                destination: destination.map(|id| id.to_string()),
                r#type: wanted.kind.as_ref().map(|kind| kind.to_string()),
                from: wanted.from.map(|at| at.to_string()),
                to: wanted.to.map(|at| at.to_string()),
                state: wanted.state.as_str(),
            },
            rate: RateView { events: replay.rate.events, per: duration_text(replay.rate.per) },
            tenant: wanted.tenant.to_string(),
            created: replay.created.to_string(),
            ended: replay.ended.map(|at| at.to_string()),
        }
    }
}

/// What a dry run found.
#[derive(Debug, Serialize)]
pub struct CountView {
    dry_run: bool,
    /// How many deliveries match; while `matched_at_least`, there may be more.
    matched: u64,
    matched_at_least: bool,
}

impl From<Count> for CountView {
    fn from(Count { matched, exact }: Count) -> Self {
        CountView { dry_run: true, matched, matched_at_least: !exact }
    }
}

/// `POST /v1/replays`
pub(super) async fn create(mut call: Call, caller: Caller) -> Result<Response, Problem> {
    let request: ReplayRequest = call.request.json(call.settings.body_bytes_max).await?;
    let Weighed { mut wanted, destination, rate, dry_run } = request.weigh(caller.tenant())?;
    if let Some(id) = destination {
        match call.service.destination(&caller.sight(), id) {
            Ok(destination) => {
                wanted.tenant = destination.tenant.clone();
                wanted.destination = Some(destination.no);
            }
            Err(_) => {
                let mut faults = Faults::default();
                faults.note("/destination", "there is no destination of this id");
                faults.into_result()?;
            }
        }
    }
    if dry_run {
        return Ok(native::ok(&CountView::from(call.service.count_replayable(&wanted).await?)));
    }
    let replay = call.service.create_replay(caller.actor(), wanted, rate).await?;
    Ok(native::accepted(&format!("{PATH}/{}", replay.replay.id), &ReplayView::of(&replay)))
}

/// `GET /v1/replays`: newest first.
pub(super) async fn list(call: Call, caller: Caller) -> Result<Response, Problem> {
    let query = call.request.query()?;
    let page = Page::from_query(call.request.path(), &query)?;
    let replays = call.service.replays(&Sight::One(caller.tenant())).await?;
    let cursor = |seen: &SeenReplay| Cursor { place: u64::MAX - seen.replay.id.0, second: 0 };
    Ok(native::ok(&page.of("replays", replays, cursor, |seen| ReplayView::of(&seen))))
}

/// `GET /v1/replays/{id}`
pub(super) async fn read(call: Call, caller: Caller) -> Result<Response, Problem> {
    let replay = call.service.replay(&caller.sight(), call.params.parse::<ReplayId>("id")?).await?;
    Ok(native::ok(&ReplayView::of(&replay)))
}

/// `POST /v1/replays/{id}/cancel`
pub(super) async fn cancel(call: Call, caller: Caller) -> Result<Response, Problem> {
    let id = call.params.parse::<ReplayId>("id")?;
    let replay = call.service.cancel_replay(caller.actor(), &caller.sight(), id).await?;
    Ok(native::ok(&ReplayView::of(&replay)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::request::parse_json;

    fn weigh(text: &str) -> Result<Weighed, Problem> {
        parse_json::<ReplayRequest>(text.as_bytes())?.weigh(TenantId::default_tenant())
    }

    #[test]
    fn a_replay_takes_failures_at_a_hundred_a_second_unless_told_otherwise() {
        let plain = weigh("{}").unwrap();
        assert_eq!(
            (plain.wanted.state, plain.rate, plain.dry_run),
            (DeliveryState::Failed, Replay::RATE_DEFAULT, false)
        );
        assert_eq!(weigh(r#"{"state": "failed", "dry_run": false}"#).unwrap(), plain);
        let rate = |text: &str| weigh(text).map(|weighed| (weighed.rate.events, weighed.rate.per.as_millis()));
        assert_eq!(rate(r#"{"rate": 7}"#), Ok((7, 1000)));
        assert_eq!(rate(r#"{"rate": {"events": 7}}"#), Ok((7, 1000)));
        assert_eq!(rate(r#"{"rate": {"events": 7, "per": "1m"}}"#), Ok((7, 60_000)));
    }

    #[test]
    fn what_is_wrong_with_a_replay_is_told_with_its_place() {
        let table = [
            (r#"{"destination": "x"}"#, "/destination"),
            (r#"{"type": "a*"}"#, "/type"),
            (r#"{"from": "today"}"#, "/from"),
            (r#"{"from": "2026-01-02T00:00:00Z", "to": "2026-01-02T00:00:00Z"}"#, "/to"),
            (r#"{"state": "pending"}"#, "/state"),
            (r#"{"rate": 0}"#, "/rate"),
            (r#"{"rate": {"events": 10001}}"#, "/rate/events"),
            (r#"{"rate": {"events": 1, "per": "2d"}}"#, "/rate/per"),
            (r#"{"rate": "fast"}"#, "/rate"),
            (r#"{"rate": [7, "1m"]}"#, "/rate"),
        ];
        for (text, pointer) in table {
            let problem = weigh(text).unwrap_err();
            assert_eq!(problem.errors()[0].pointer, pointer, "{text}");
        }
        assert!(weigh(r#"{"destinations": []}"#).is_err());
    }
}
