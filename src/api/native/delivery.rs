//! Deliveries: listed and shown with their attempts, resent, cancelled.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Serialize;

use crate::api::caller::Caller;
use crate::api::page::Page;
use crate::api::{Call, native};
use crate::http::problem::Problem;
use crate::http::request::Query;
use crate::http::response::Response;
use crate::model::delivery::{Attempt, DeliveryState, Headers, Phases};
use crate::model::mask::PayloadMask;
use crate::model::{DestinationId, Timestamp, TypePattern, WaitingReason};
use crate::service::{self, DeliveriesWanted, EventsWanted, SeenDelivery, Sight};

/// What a list of deliveries is filtered by.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Filter {
    /// Only in this state.
    pub state: Option<DeliveryState>,
    /// Only for this destination.
    pub destination: Option<DestinationId>,
    /// Only of events that match.
    pub kind: Option<TypePattern>,
    /// Only of events that were accepted at this time or later.
    pub from: Option<Timestamp>,
    /// Only of events that were accepted before this time.
    pub to: Option<Timestamp>,
    /// Only those whose last reply had this status.
    pub status: Option<u16>,
}

impl Filter {
    /// The names of the filter's parameters.
    pub const PARAMETERS: [&str; 6] = ["state", "destination", "type", "from", "to", "status"];

    /// The filter that a query asks for; a value that cannot be read is a 400.
    pub fn from_query(query: &Query) -> Result<Self, Problem> {
        let state = match query.text("state") {
            None => None,
            Some(text) => {
                let state = DeliveryState::ALL.into_iter().find(|state| state.as_str() == text);
                let bad =
                    || Problem::of_parameter("state", "must be one of pending, held, succeeded, failed, cancelled");
                Some(state.ok_or_else(bad)?)
            }
        };
        let bad = || Problem::of_parameter("status", "must be 100 to 999");
        let status = query.parse::<u16>("status").map_err(|_| bad())?;
        if status.is_some_and(|status| !(100..=999).contains(&status)) {
            return Err(bad());
        }
        Ok(Filter {
            state,
            destination: query.parse("destination")?,
            kind: query.parse("type")?,
            from: query.parse("from")?,
            to: query.parse("to")?,
            status,
        })
    }
}

/// Whether a view shows what receivers wrote back. They may echo what they were sent, so whoever sees no payloads sees none of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Replies<'a> {
    /// As it is kept: card data, the destination's secrets and cookies masked, and of payloads what this names.
    Shown(&'a PayloadMask),
    /// Without it.
    Hidden,
}

impl<'a> Replies<'a> {
    /// What the caller is shown.
    pub fn of(caller: &Caller, mask: &'a PayloadMask) -> Self {
        if caller.sees_payloads() { Replies::Shown(mask) } else { Replies::Hidden }
    }
}

/// A delivery in an answer.
#[derive(Debug, Serialize)]
pub struct DeliveryView {
    /// Its id.
    pub id: String,
    /// What is delivered.
    pub event_id: String,
    /// Where to; also when that has been deleted.
    pub destination_id: String,
    /// Where it stands.
    pub state: &'static str,
    /// How it ended, if it ended without success.
    pub ending: Option<&'static str>,
    /// Every try so far.
    pub attempts: Vec<AttemptView>,
    /// When the next try is due, while there is one.
    pub next_attempt_at: Option<String>,
    /// Why it is not being sent at this moment, while it is unfinished.
    pub waiting_reason: Option<&'static str>,
    /// The delivery that is to end before its turn comes, where its destination is an ordered one.
    pub waits_for: Option<String>,
}

impl DeliveryView {
    /// How a delivery is shown.
    pub fn of(seen: &SeenDelivery, replies: Replies<'_>) -> Self {
        DeliveryView {
            id: seen.id.to_string(),
            event_id: seen.id.event.to_string(),
            destination_id: seen.destination.to_string(),
            state: seen.state.as_str(),
            ending: seen.delivery.ended.map(|ended| ended.ending.as_str()),
            attempts: seen.delivery.attempts.iter().map(|attempt| AttemptView::of(attempt, replies)).collect(),
            next_attempt_at: seen.next_attempt_at.map(|at| at.to_string()),
            waiting_reason: seen.waiting.map(WaitingReason::as_str),
            waits_for: seen.waits_for.map(|id| id.to_string()),
        }
    }
}

/// An attempt in an answer.
#[derive(Debug, Serialize)]
pub struct AttemptView {
    #[serde(flatten)]
    bare: BareAttemptView,
    request_headers: BTreeMap<String, String>,
    response_headers: BTreeMap<String, String>,
    /// `None` for whoever sees no payloads.
    response_body: Option<String>,
    next_attempt_at: Option<String>,
}

/// An attempt without its headers and bodies.
#[derive(Debug, Serialize)]
pub struct BareAttemptView {
    number: u32,
    due_at: String,
    started_at: String,
    duration_ms: u64,
    trigger: &'static str,
    outcome: &'static str,
    reason: Option<&'static str>,
    status: Option<u16>,
    error: Option<String>,
    address: Option<String>,
    phases: PhasesView,
    reconnected: bool,
}

/// Milliseconds, to the microsecond; absent where a phase did not happen.
#[derive(Debug, Serialize)]
struct PhasesView {
    dns_ms: Option<f64>,
    connect_ms: Option<f64>,
    tls_ms: Option<f64>,
    head_ms: Option<f64>,
    body_ms: Option<f64>,
}

impl AttemptView {
    /// How an attempt is shown. Header lines of one name stand together; bytes of a reply that are no UTF-8 are replaced.
    pub fn of(attempt: &Attempt, replies: Replies<'_>) -> Self {
        let response_body = match replies {
            Replies::Shown(mask) => Some(mask.show_reply(&attempt.response_body)),
            Replies::Hidden => None,
        };
        AttemptView {
            bare: BareAttemptView::of(attempt),
            request_headers: joined(&attempt.request_headers),
            response_headers: joined(&attempt.response_headers),
            response_body,
            next_attempt_at: attempt.next.map(|at| at.to_string()),
        }
    }
}

impl BareAttemptView {
    /// How an attempt is shown without its headers and bodies.
    pub fn of(attempt: &Attempt) -> Self {
        BareAttemptView {
            number: attempt.number,
            due_at: attempt.due.to_string(),
            started_at: attempt.started.to_string(),
            duration_ms: u64::try_from(attempt.duration.as_millis()).unwrap_or(u64::MAX),
            trigger: attempt.trigger.as_str(),
            outcome: attempt.outcome.as_str(),
            reason: attempt.reason.map(|reason| reason.as_str()),
            status: attempt.status,
            error: attempt.error.clone(),
            address: attempt.address.map(|address| address.to_string()),
            phases: PhasesView::of(&attempt.phases),
            reconnected: attempt.reconnected,
        }
    }
}

impl PhasesView {
    fn of(phases: &Phases) -> Self {
        let millis = |span: Option<Duration>| span.map(|span| span.as_micros() as f64 / 1000.0);
        PhasesView {
            dns_ms: millis(phases.dns),
            connect_ms: millis(phases.connect),
            tls_ms: millis(phases.tls),
            head_ms: millis(phases.head),
            body_ms: millis(phases.body),
        }
    }
}

fn joined(headers: &Headers) -> BTreeMap<String, String> {
    let mut map: BTreeMap<String, String> = BTreeMap::new();
    for (name, value) in headers.iter() {
        map.entry(name.to_owned())
            .and_modify(|held| {
                held.push_str(", ");
                held.push_str(value);
            })
            .or_insert_with(|| value.to_owned());
    }
    map
}

/// A delivery as this caller sees it.
pub(super) fn view(call: &Call, caller: &Caller, seen: &SeenDelivery) -> DeliveryView {
    DeliveryView::of(seen, Replies::of(caller, call.service.mask()))
}

/// `GET /v1/deliveries`
pub(super) async fn list(call: Call, caller: Caller) -> Result<Response, Problem> {
    let query = call.request.query()?;
    let page = Page::from_query(call.request.path(), &query)?;
    let Filter { state, destination, kind, from, to, status } = Filter::from_query(&query)?;
    let destination = match destination {
        None => None,
        Some(id) => match call.service.catalog().destination_no(id) {
            Some(no) => Some(no),
            // Nothing goes to a destination that never was.
            None => {
                let none = service::Page { items: Vec::<SeenDelivery>::new(), skipped: 0, next: None };
                return Ok(native::ok(&page.found("deliveries", none, |seen| view(&call, &caller, &seen))?));
            }
        },
    };
    let events = EventsWanted { tenant: None, kind, key: None, from, to };
    let wanted = DeliveriesWanted { events, destination, state, status, ..DeliveriesWanted::default() };
    let found = call.service.deliveries(&Sight::One(caller.tenant()), wanted, page.window()).await?;
    Ok(native::ok(&page.found("deliveries", found, |seen| view(&call, &caller, &seen))?))
}

/// `GET /v1/deliveries/{id}`
pub(super) async fn read(call: Call, caller: Caller) -> Result<Response, Problem> {
    let delivery = call.service.delivery(&caller.sight(), call.params.parse("id")?).await?;
    Ok(native::ok(&view(&call, &caller, &delivery)))
}

/// `POST /v1/deliveries/{id}/resend`
pub(super) async fn resend(call: Call, caller: Caller) -> Result<Response, Problem> {
    let (sight, id) = (caller.sight(), call.params.parse("id")?);
    call.service.resend(caller.actor(), &sight, id).await?;
    let delivery = call.service.delivery(&sight, id).await?;
    Ok(Response::json(::http::StatusCode::ACCEPTED, &view(&call, &caller, &delivery)))
}

/// `POST /v1/deliveries/{id}/cancel`
pub(super) async fn cancel(call: Call, caller: Caller) -> Result<Response, Problem> {
    let (sight, id) = (caller.sight(), call.params.parse("id")?);
    call.service.cancel(caller.actor(), &sight, id).await?;
    let delivery = call.service.delivery(&sight, id).await?;
    Ok(native::ok(&view(&call, &caller, &delivery)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::problem::ProblemCode;
    use crate::model::{Outcome, Reason, Trigger};

    /// SX.4: an attempt is shown with its number, time, status or error, reply, duration and next retry.
    #[test]
    fn an_attempt_is_shown_with_all_that_was_seen() {
        let at = Timestamp::from_millis(1_700_000_000_000);
        let attempt = Attempt {
            number: 2,
            due: at,
            started: at,
            duration: Duration::from_micros(12_345),
            trigger: Trigger::Schedule,
            outcome: Outcome::Failed,
            reason: Some(Reason::Status),
            status: Some(503),
            request_headers: [("Authorization", "***")].into_iter().collect(),
            response_headers: [("set-cookie", "a"), ("set-cookie", "b")].into_iter().collect(),
            response_body: b"no\xff".to_vec(),
            error: None,
            address: Some(([10, 0, 0, 1], 443).into()),
            phases: Phases { connect: Some(Duration::from_micros(1_500)), ..Phases::default() },
            reconnected: false,
            next: Some(at),
        };
        let mask = PayloadMask::default();
        let shown = serde_json::to_value(AttemptView::of(&attempt, Replies::Shown(&mask))).unwrap();
        assert_eq!(shown["next_attempt_at"], "2023-11-14T22:13:20.000Z");
        assert_eq!((&shown["number"], &shown["status"]), (&2.into(), &503.into()));
        assert_eq!(shown["due_at"], "2023-11-14T22:13:20.000Z");
        assert_eq!((&shown["outcome"], &shown["reason"]), (&"failed".into(), &"status".into()));
        assert_eq!(shown["duration_ms"], 12);
        assert_eq!(shown["request_headers"]["Authorization"], "***");
        assert_eq!(shown["response_headers"]["set-cookie"], "a, b");
        assert_eq!(shown["response_body"], "no\u{fffd}");
        let hidden = serde_json::to_value(AttemptView::of(&attempt, Replies::Hidden)).unwrap();
        assert!(hidden["response_body"].is_null(), "{hidden}");
        assert_eq!(shown["address"], "10.0.0.1:443");
        assert_eq!(shown["phases"]["connect_ms"], 1.5);
    }

    #[test]
    fn a_filter_reads_its_parameters_strictly() {
        let read = |text| Filter::from_query(&Query::parse_text(text).unwrap());
        assert_eq!(read(""), Ok(Filter::default()));
        let filter = read("state=failed&type=transaction.*&from=2024-01-15T10:30:00Z&status=503").unwrap();
        assert_eq!((filter.state, filter.status), (Some(DeliveryState::Failed), Some(503)));
        for wrong in ["state=done", "destination=x", "type=a*", "from=today", "status=42"] {
            assert_eq!(read(wrong).unwrap_err().code(), ProblemCode::BadQuery, "{wrong}");
        }
    }
}
