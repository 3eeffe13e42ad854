//! `/v1/event_history`: source 002's view of deliveries, each a run with the steps that it has taken (decision D10).
//!
//! A run is one delivery: one event for one destination, through all of its attempts and resends. Its `date` is when its
//! event was taken, which is what the list is ordered by and what `date_from` and `date_to` ask for.

use std::collections::BTreeMap;
use std::str::FromStr;

use serde::Serialize;
use sha2::{Digest, Sha256};
use uuid::{Builder, Variant, Version};

use crate::api::caller::Caller;
use crate::api::page::Page;
use crate::api::{Call, native};
use crate::http::problem::Problem;
use crate::http::request::Query;
use crate::http::response::Response;
use crate::model::id::RunId;
use crate::model::milestone::{Milestone, Passed};
use crate::model::{Attempt, DeliveryId, DestinationId, Invalid, SubscriptionId, SubscriptionNo, Timestamp};
use crate::service::{self, Catalog, DeliveriesWanted, EventsWanted, SeenDelivery, Sight};

/// The names of its parameters.
pub(super) const PARAMETERS: [&str; 5] = ["subscription_id", "destination_id", "date_from", "date_to", "event_type"];

/// What the history is filtered by.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
struct Filter {
    subscription: Option<SubscriptionId>,
    destination: Option<DestinationId>,
    from: Option<Timestamp>,
    /// Exclusive.
    to: Option<Timestamp>,
    milestone: Option<Milestone>,
}

impl Filter {
    fn from_query(query: &Query) -> Result<Self, Problem> {
        let milestone = match query.text("event_type") {
            None => None,
            Some(text) => {
                let known = Milestone::ALL.into_iter().find(|milestone| milestone.as_str() == text);
                let names = Milestone::ALL.map(Milestone::as_str).join(", ");
                let bad = || Problem::of_parameter("event_type", format!("must be one of {names}"));
                Some(known.ok_or_else(bad)?)
            }
        };
        Ok(Filter {
            subscription: query.parse("subscription_id")?,
            destination: query.parse("destination_id")?,
            from: query.parse::<Date>("date_from")?.map(|date| date.first),
            to: query.parse::<Date>("date_to")?.map(|date| date.after),
            milestone,
        })
    }
}

/// A moment, or a whole day in UTC: both are taken inclusively.
struct Date {
    first: Timestamp,
    /// The first moment that is no longer meant.
    after: Timestamp,
}

impl FromStr for Date {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        const DAY: std::time::Duration = std::time::Duration::from_secs(24 * 3600);
        const LEAST: std::time::Duration = std::time::Duration::from_millis(1);
        let (moment, span) = match text.contains(['T', 't', ' ']) {
            true => (text.parse::<Timestamp>(), LEAST),
            false => (format!("{text}T00:00:00Z").parse(), DAY),
        };
        let form = |_| Invalid::new("must be a date such as 2026-01-31 or a time such as 2026-01-31T09:30:00Z");
        let first = moment.map_err(form)?;
        Ok(Date { first, after: first.after(span) })
    }
}

/// A run in an answer.
#[derive(Debug, Serialize)]
struct RunView {
    run_id: String,
    delivery_id: String,
    event_id: String,
    r#type: String,
    state: &'static str,
    /// The one that was asked for, or the first that made the delivery; `null` for a confirmation, and once it is deleted.
    subscription_id: Option<String>,
    subscription_name: Option<String>,
    destination_id: String,
    destination_name: Option<String>,
    date: String,
    /// The steps' names, newest first.
    events: Vec<&'static str>,
    /// The same steps with what is known of them.
    data: Vec<StepView>,
}

#[derive(Debug, Serialize)]
struct StepView {
    event_id: String,
    event_type: &'static str,
    date: String,
    data: StepData,
}

/// What is known of a step; empty for those that no attempt made.
#[derive(Debug, Default, Serialize)]
#[serde(rename_all = "PascalCase")]
struct StepData {
    /// Why it failed; empty where it did not.
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
    /// What came back: each header with all of its values.
    #[serde(skip_serializing_if = "Option::is_none")]
    header: Option<BTreeMap<String, Vec<String>>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    status_code: Option<u16>,
    #[serde(skip_serializing_if = "Option::is_none")]
    attempt: Option<u32>,
}

impl StepData {
    fn of(step: &Passed<'_>) -> Self {
        let Some(attempt) = step.attempt else {
            let error = step.ending.map(|ending| ending.as_str().to_owned());
            return StepData { error, ..StepData::default() };
        };
        let number = Some(attempt.number);
        if step.milestone == Milestone::Confirm {
            return StepData { attempt: number, ..StepData::default() };
        }
        let mut header: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for (name, value) in attempt.response_headers.iter() {
            header.entry(name.to_owned()).or_default().push(value.to_owned());
        }
        StepData { error: Some(error_of(attempt)), header: Some(header), status_code: attempt.status, attempt: number }
    }
}

fn error_of(attempt: &Attempt) -> String {
    match (&attempt.error, attempt.reason) {
        (Some(error), _) => error.clone(),
        (None, Some(reason)) => reason.as_str().to_owned(),
        (None, None) => String::new(),
    }
}

impl RunView {
    /// How a delivery is shown, with what the caller sees of its subscriptions; `asked` is the one that the list is about.
    fn of(seen: &SeenDelivery, catalog: &Catalog, sight: &Sight, asked: Option<SubscriptionNo>) -> Self {
        let run = RunId::of(seen.id);
        let target = seen.delivery.head.targets.iter().find(|target| target.destination == seen.id.destination);
        let recorded = target.map_or(&[][..], |target| &target.subscriptions).iter().copied();
        let subscription = asked
            .into_iter()
            .chain(recorded)
            .filter_map(|no| catalog.subscription(no))
            .find(|subscription| sight.takes(&subscription.tenant));
        let passed = seen.delivery.course().passed();
        // Numbered from the oldest, so that a step keeps its id when others follow.
        let steps = passed.iter().zip((0..passed.len()).rev());
        RunView {
            run_id: run.to_string(),
            delivery_id: seen.id.to_string(),
            event_id: seen.id.event.to_string(),
            r#type: seen.delivery.head.kind.to_string(),
            state: seen.state.as_str(),
            subscription_id: subscription.map(|subscription| subscription.id.to_string()),
            subscription_name: subscription.and_then(|subscription| subscription.name.clone()),
            destination_id: seen.destination.to_string(),
            destination_name: catalog.destination_name(seen.id.destination).map(str::to_owned),
            date: seen.delivery.head.accepted.to_string(),
            events: passed.iter().map(|step| step.milestone.as_str()).collect(),
            data: steps.map(|(step, place)| StepView::of(run, place, step)).collect(),
        }
    }
}

impl StepView {
    fn of(run: RunId, place: usize, step: &Passed<'_>) -> Self {
        StepView {
            event_id: step_id(run, place),
            event_type: step.milestone.as_str(),
            date: step.at.to_zoned_text(),
            data: StepData::of(step),
        }
    }
}

/// The id of a step: the same whenever it is shown.
fn step_id(run: RunId, place: usize) -> String {
    let digest = Sha256::new().chain_update(run.as_bytes()).chain_update((place as u64).to_be_bytes()).finalize();
    let bytes = *digest.first_chunk().expect("a SHA-256 has 32 bytes");
    let uuid = Builder::from_bytes(bytes).with_version(Version::Custom).with_variant(Variant::RFC4122).into_uuid();
    DestinationId(uuid).to_string()
}

/// `GET /v1/event_history`
pub(super) async fn list(call: Call, caller: Caller) -> Result<Response, Problem> {
    let query = call.request.query()?;
    let (page, sight) = (Page::from_query(call.request.path(), &query)?, Sight::One(caller.tenant()));
    let Filter { subscription, destination, from, to, milestone } = Filter::from_query(&query)?;
    let catalog = call.service.catalog();
    let subscription = subscription.map(|id| {
        let found = catalog.subscription_by_id(id).filter(|it| sight.takes(&it.tenant));
        found.map(|subscription| (subscription.no, subscription.pattern.clone()))
    });
    let destination = destination.map(|id| catalog.destination_no(id));
    // Nothing has been made by a subscription, or for a destination, that is not there.
    let is_of_nothing = subscription == Some(None) || destination == Some(None);
    let (subscription, kind) = subscription.flatten().unzip();
    let events = EventsWanted { kind, from, to, ..EventsWanted::default() };
    let destination = destination.flatten();
    let wanted = DeliveriesWanted { events, destination, subscription, milestone, ..DeliveriesWanted::default() };
    let found = match is_of_nothing {
        true => service::Page { items: Vec::new(), skipped: 0, next: None },
        false => call.service.deliveries(&sight, wanted, page.window()).await?,
    };
    let show = |seen: SeenDelivery| RunView::of(&seen, &catalog, &sight, subscription);
    Ok(native::ok(&page.found("events", found, show)?))
}

/// What a run may be called.
enum Named {
    Run(RunId),
    Delivery(DeliveryId),
}

impl FromStr for Named {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        match text.starts_with("dlv_") {
            true => text.parse().map(Named::Delivery),
            false => text.parse().map(Named::Run),
        }
    }
}

/// `POST /v1/event_history/{id}/resend`, by `run_id` or by the delivery's id (decision D26).
pub(super) async fn resend(call: Call, caller: Caller) -> Result<Response, Problem> {
    let (service, sight) = (&call.service, caller.sight());
    let id = match call.params.parse("id")? {
        Named::Delivery(id) => id,
        Named::Run(run) => service.delivery_of_run(run).await?,
    };
    service.resend(caller.actor(), &sight, id).await?;
    let delivery = service.delivery(&sight, id).await?;
    let view = RunView::of(&delivery, &service.catalog(), &sight, None);
    Ok(Response::json(::http::StatusCode::ACCEPTED, &view))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::problem::ProblemCode;

    /// Dates are days or moments, both inclusive.
    #[test]
    fn the_filters_of_the_history_are_read_strictly() {
        let read = |text| Filter::from_query(&Query::parse_text(text).unwrap());
        assert_eq!(read(""), Ok(Filter::default()));
        let day = read("date_from=2024-01-15&date_to=2024-01-15&event_type=FAILED").unwrap();
        assert_eq!(day.from, "2024-01-15T00:00:00Z".parse().ok());
        assert_eq!(day.to, "2024-01-16T00:00:00Z".parse().ok());
        assert_eq!(day.milestone, Some(Milestone::Failed));
        let moment = read("date_to=2024-01-15T10:30:00%2B01:00").unwrap();
        assert_eq!(moment.to, "2024-01-15T09:30:00.001Z".parse().ok());
        for wrong in ["event_type=failed", "event_type=SENT", "date_from=x", "date_to=2024-13-01", "subscription_id=x"]
        {
            assert_eq!(read(wrong).unwrap_err().code(), ProblemCode::BadQuery, "{wrong}");
        }
    }
}
