//! The queue and its past: found by what one knows of it. A filter stands in the address, so that it can be passed on.

use ::http::Method;
use maud::{Markup, html};

use super::super::act::Visit;
use super::super::between::Question;
use super::super::layout::Page;
use super::super::parts::{
    Icon, Links, delivery_badge, empty, icon, moment, outcome_badge, pager, select, text_field, time_asked, took,
};
use super::super::to;
use crate::http::problem::{Problem, ProblemCode};
use crate::http::response::Response;
use crate::model::event::{OrderingKey, ProducerId};
use crate::model::{DeliveryId, DeliveryState, DestinationId, EventId, Role, Timestamp, TypePattern, words};
use crate::service::{self, Catalog, DeliveriesWanted, EventsWanted, SeenDelivery, Service, Sight};

/// The place in the menu.
pub(super) const PLACE: &str = "/ui/deliveries";
/// The names that the list's query may have.
pub(super) const PARAMETERS: [&str; 11] =
    ["state", "destination", "type", "status", "from", "to", "key", "id", "tenant", "after", "done"];
/// What it means to cancel a delivery.
const GIVEN_UP: &str = "The delivery is given up: it is not sent any more, unless somebody resends it.";
/// Destinations that a filter offers by name: with more of them every page would be heavy.
const DESTINATIONS_OFFERED_MAX: usize = 200;
/// Tenants that a filter offers.
const TENANTS_OFFERED_MAX: usize = 100;
/// Rows of one page.
const ROWS: usize = 25;

/// What a list is filtered by.
#[derive(Debug, Clone, Default)]
pub(super) struct Filter {
    pub(super) state: Option<DeliveryState>,
    pub(super) destination: Option<DestinationId>,
    pub(super) kind: Option<TypePattern>,
    status: Option<u16>,
    pub(super) from: Option<Timestamp>,
    pub(super) to: Option<Timestamp>,
    key: Option<OrderingKey>,
}

impl Filter {
    /// The filter that the query asks for.
    pub(super) fn asked(visit: &Visit) -> Result<Self, Problem> {
        let state = match visit.asked::<String>("state")? {
            None => None,
            Some(text) => {
                let state = DeliveryState::ALL.into_iter().find(|state| state.as_str() == text);
                Some(state.ok_or_else(|| Problem::new(ProblemCode::BadQuery, "state: there is none of this name"))?)
            }
        };
        Ok(Filter {
            state,
            destination: visit.asked("destination")?,
            kind: visit.asked("type")?,
            status: visit.asked("status")?,
            from: time_asked(visit, "from")?,
            to: time_asked(visit, "to")?,
            key: visit.asked("key")?,
        })
    }

    fn is_empty(&self) -> bool {
        let Filter { state, destination, kind, status, from, to, key } = self;
        state.is_none()
            && destination.is_none()
            && kind.is_none()
            && status.is_none()
            && from.is_none()
            && to.is_none()
            && key.is_none()
    }
}

/// `GET /ui/deliveries`
pub(super) async fn list(visit: Visit) -> Result<Response, Problem> {
    let sight = visit.sight()?;
    if let Some(id) = visit.asked::<String>("id")? {
        return by_id(&visit, &sight, id.trim()).await;
    }
    let (filter, page) = (Filter::asked(&visit)?, Links::of(&visit).page(ROWS)?);
    let service = visit.service();
    let catalog = service.catalog();
    let nowhere = service::Page { items: Vec::new(), skipped: 0, next: None };
    let found = match filter.destination.map(|id| catalog.destination_no(id)) {
        // Nothing goes to a destination that never was.
        Some(None) => nowhere,
        destination => {
            let events = EventsWanted {
                tenant: None,
                kind: filter.kind.clone(),
                key: filter.key.as_ref().map(|key| key.as_str().to_owned()),
                from: filter.from,
                to: filter.to,
            };
            let wanted = DeliveriesWanted {
                events,
                destination: destination.flatten(),
                state: filter.state,
                status: filter.status,
                ..DeliveriesWanted::default()
            };
            service.deliveries(&sight, wanted, page.window()).await?
        }
    };
    let next = found.next.map(|place| Links::of(&visit).with("after", &page.cursor_of(place)).path());
    let body = html! {
        (form(&visit, &sight, &catalog, &filter))
        section.card.flush {
            @if found.items.is_empty() {
                (empty("No deliveries here", html! {
                    @if next.is_some() { "None among the newest; older ones may match." }
                    @else if filter.is_empty() { "A delivery is made when an event comes that a webhook has chosen. " a href="/ui/webhooks" { "To the webhooks" } }
                    @else { "None match these filters. " a href=(PLACE) { "Show all" } }
                }))
            } @else {
                (table(&visit, &found.items))
            }
            (pager(next, "Older"))
        }
    };
    let actions = html! { @if can_be_replayed(&visit, &filter) { (replay_link(&visit)) } };
    Ok(Page { title: "Deliveries", place: PLACE, actions, body }.show(&visit))
}

/// Whether a bulk replay knows the same filters.
fn can_be_replayed(visit: &Visit, filter: &Filter) -> bool {
    let has_ended = !matches!(filter.state, Some(DeliveryState::Pending | DeliveryState::Held));
    visit.viewer.may(Role::Operate) && filter.status.is_none() && filter.key.is_none() && has_ended
}

fn replay_link(visit: &Visit) -> Markup {
    let path = Links::of(visit).at("/ui/replays/new").without("after").without("done").path();
    html! { a.button href=(path) { (icon(Icon::Replay)) "Resend in bulk…" } }
}

/// Whatever somebody has copied: a delivery's id, an event's, a producer's.
async fn by_id(visit: &Visit, sight: &Sight, id: &str) -> Result<Response, Problem> {
    if id.parse::<DeliveryId>().is_ok() {
        return Ok(to(&format!("{PLACE}/{id}")));
    }
    if id.parse::<EventId>().is_ok() {
        return Ok(to(&format!("/ui/events/{id}")));
    }
    let parsed = id.parse::<ProducerId>().map_err(|why| Problem::new(ProblemCode::BadQuery, format!("id: {why}")))?;
    let tenants: Vec<_> = match sight {
        Sight::One(one) => vec![one.clone()],
        Sight::All => visit.service().catalog().tenants().map(|tenant| tenant.id.clone()).collect(),
    };
    for tenant in tenants {
        if let Some(event) = visit.service().event_by_producer_id(tenant, parsed.clone()).await? {
            return Ok(to(&format!("/ui/events/{}", event.id())));
        }
    }
    Err(Problem::new(ProblemCode::NotFound, "no delivery and no event has this id, or retention has removed it"))
}

fn form(visit: &Visit, sight: &Sight, catalog: &Catalog, filter: &Filter) -> Markup {
    let asked = |name: &str| visit.query.text(name).unwrap_or_default().to_owned();
    let states: Vec<_> =
        DeliveryState::ALL.iter().map(|state| (state.as_str().to_owned(), state.as_str().to_owned())).collect();
    html! {
        form.card method="get" action=(PLACE) role="search" aria-label="Filter deliveries" {
            div.filters {
                (select("state", "State", &states, &asked("state"), "any"))
                (destination_select(sight, catalog, filter.destination))
                (text_field("type", "Type or pattern", &asked("type"), "transaction.*"))
                (text_field("status", "Last status", &asked("status"), "503"))
                (super::super::parts::time_field("from", "Accepted from (UTC)", &asked("from")))
                (super::super::parts::time_field("to", "Accepted before (UTC)", &asked("to")))
                (text_field("key", "Ordering key", &asked("key"), ""))
                (text_field("id", "Id of a delivery or event", "", "dlv_…, evt_… or the producer's"))
                @if visit.viewer.caller().reaches_all() { (tenant_select(visit, catalog)) }
                div.buttons { button.primary type="submit" { "Filter" } a.button href=(PLACE) { "Clear" } }
            }
        }
    }
}

/// The choice of a tenant, for those who see all.
pub(super) fn tenant_select(visit: &Visit, catalog: &Catalog) -> Markup {
    let chosen = visit.query.text("tenant").unwrap_or_default();
    tenant_choice(catalog, chosen, "all")
}

/// The choice of a tenant, or a field for its id, where there are many.
pub(super) fn tenant_choice(catalog: &Catalog, chosen: &str, none: &str) -> Markup {
    let tenants: Vec<_> =
        catalog.tenants().map(|it| (it.id.to_string(), it.id.to_string())).take(TENANTS_OFFERED_MAX + 1).collect();
    match tenants.len() > TENANTS_OFFERED_MAX {
        true => text_field("tenant", "Tenant", chosen, none),
        false => select("tenant", "Tenant", &tenants, chosen, none),
    }
}

/// The choice of a destination, or a field for its id, where there are many.
pub(super) fn destination_select(sight: &Sight, catalog: &Catalog, chosen: Option<DestinationId>) -> Markup {
    let all = catalog.destinations().filter(|it| sight.takes(&it.tenant));
    let mut all: Vec<_> =
        all.take(DESTINATIONS_OFFERED_MAX + 1).map(|it| (it.id.to_string(), it.name.clone())).collect();
    let chosen = chosen.map(|id| id.to_string()).unwrap_or_default();
    if all.len() > DESTINATIONS_OFFERED_MAX {
        return text_field("destination", "Destination's id", &chosen, "any");
    }
    all.sort_by(|a, b| a.1.cmp(&b.1));
    // A deleted one is still what the list is about.
    if !chosen.is_empty() && !all.iter().any(|(id, _)| *id == chosen) {
        all.push((chosen.clone(), chosen.clone()));
    }
    select("destination", "Destination", &all, &chosen, "any")
}

/// Deliveries as rows.
pub(super) fn table(visit: &Visit, deliveries: &[SeenDelivery]) -> Markup {
    let (catalog, now) = (visit.service().catalog(), visit.service().now());
    html! {
        div.scroll {
            table.stack {
                thead { tr {
                    th scope="col" { "State" } th scope="col" { "Event" } th scope="col" { "Destination" }
                    th scope="col" { "Last attempt" } th scope="col" { "Accepted" }
                } }
                tbody { @for seen in deliveries { (row(&catalog, seen, now)) } }
            }
        }
    }
}

fn row(catalog: &Catalog, seen: &SeenDelivery, now: Timestamp) -> Markup {
    let delivery = &seen.delivery;
    let name = catalog.destination_name(delivery.key.destination).unwrap_or("deleted");
    html! {
        tr {
            td data-label="State" { div { (delivery_badge(seen.state)) @if let Some(why) = short_why(seen) { span.sub { (why) } } } }
            th scope="row" {
                div {
                    a href={ (PLACE) "/" (seen.id) } { (delivery.head.kind) }
                    @if let Some(id) = &delivery.head.producer_id { span.sub.muted.small { (id.as_str()) } }
                }
            }
            td.clip data-label="Destination" { a href={ "/ui/destinations/" (seen.destination) } { (name) } }
            td data-label="Last attempt" {
                @match delivery.attempts.last() {
                    None => span.muted { "none yet" },
                    Some(last) => div {
                        @match last.status { Some(status) => { (status) }, None => { (last.reason.map_or("no reply", |reason| reason.as_str())) } }
                        " in " (took(last.duration))
                        span.sub { "no. " (last.number) ", " (moment(last.started, now)) }
                    },
                }
            }
            td.nowrap data-label="Accepted" { (moment(delivery.head.accepted, now)) }
        }
    }
}

fn short_why(seen: &SeenDelivery) -> Option<String> {
    let reason = seen.waiting.map(|reason| reason.as_str());
    let ending = seen.delivery.ended.map(|ended| ended.ending.as_str());
    reason.or(ending).map(|reason| words::why(seen.state.as_str(), reason, false))
}

/// `POST /ui/deliveries/{id}/resend`
pub(super) async fn resend(visit: Visit) -> Result<Response, Problem> {
    steer(visit, "resend", "resent").await
}

/// `POST /ui/deliveries/{id}/cancel`
pub(super) async fn cancel(visit: Visit) -> Result<Response, Problem> {
    let id: DeliveryId = visit.params.parse("id")?;
    let seen = visit.service().delivery(&visit.sight()?, id).await?;
    let question = Question {
        title: format!("Cancel the delivery of {}?", seen.delivery.head.kind),
        meaning: GIVEN_UP.to_owned(),
        button: "Cancel delivery",
        place: PLACE,
        back: format!("{PLACE}/{id}"),
    };
    if let Some(page) = question.unless_agreed(&visit) {
        return Ok(page);
    }
    steer(visit, "cancel", "cancelled").await
}

async fn steer(visit: Visit, verb: &str, done: &str) -> Result<Response, Problem> {
    let id: DeliveryId = visit.params.parse("id")?;
    visit.ask(Method::POST, &format!("/v1/deliveries/{id}/{verb}"), None, None).await?;
    Ok(to(&format!("{PLACE}/{id}?done={done}")))
}

/// `GET /ui/deliveries/{id}`
pub(super) async fn read(visit: Visit) -> Result<Response, Problem> {
    let id: DeliveryId = visit.params.parse("id")?;
    let (sight, service) = (visit.sight()?, visit.service());
    let seen = service.delivery(&sight, id).await?;
    let body = super::delivery::body(&visit, &seen);
    let title = seen.delivery.head.kind.to_string();
    let actions = html! {
        @if visit.viewer.may(Role::Operate) {
            @if can_be_sent(service, &seen) {
                form method="post" action={ (PLACE) "/" (id) "/resend" } {
                    button.primary type="submit" { (icon(Icon::Replay)) @if seen.delivery.row.is_some() { "Send now" } @else { "Resend" } }
                }
            }
            @if seen.delivery.row.is_some() {
                form method="post" action={ (PLACE) "/" (id) "/cancel" } data-confirm=(GIVEN_UP) {
                    button.danger type="submit" { "Cancel delivery" }
                }
            }
        }
    };
    Ok(Page { title: &title, place: PLACE, actions, body }.show(&visit))
}

fn can_be_sent(service: &Service, seen: &SeenDelivery) -> bool {
    let is_there = service.catalog().destination(seen.delivery.key.destination).is_some();
    is_there && seen.waiting != Some(crate::model::WaitingReason::InFlight)
}

/// What an attempt came to, in a few words.
pub(super) fn outcome(attempt: &crate::model::Attempt) -> Markup {
    html! { (outcome_badge(attempt.outcome)) @if let Some(status) = attempt.status { " " span.nums { (status) } } }
}
