//! The queue and its past: found by what one knows of it. A filter stands in the address, so that it can be passed on.

use ::http::Method;
use maud::{Markup, html};

use super::super::act::Visit;
use super::super::between::Question;
use super::super::filters::Filters;
use super::super::layout::Page;
use super::super::parts::{
    Icon, Links, delivery_badge, empty, icon, moment_cell, moment_short, outcome_badge, pager, select, text_field, took,
};
use super::super::to;
use crate::http::problem::Problem;
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
/// Events of one producer's id that are shown: each tenant may have one.
const SOUGHT_MAX: usize = 20;
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
    pub(super) fn read(filters: &mut Filters<'_>) -> Self {
        let state = |text: &str| {
            let state = DeliveryState::ALL.into_iter().find(|state| state.as_str() == text);
            state.ok_or_else(|| "there is none of this name".to_owned())
        };
        let status = |text: &str| {
            let status = text.parse().ok().filter(|status| (100..1000).contains(status));
            status.ok_or_else(|| "must be a status of HTTP, such as 503".to_owned())
        };
        Filter {
            state: filters.read_with("state", state),
            destination: filters.read("destination"),
            kind: filters.read("type"),
            status: filters.read_with("status", status),
            from: filters.moment("from"),
            to: filters.moment("to"),
            key: filters.read("key"),
        }
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
    let mut filters = Filters::of(&visit);
    let sought = match filters.text("id") {
        "" => Sought::default(),
        id => sought(&visit, &sight, id).await?,
    };
    if let [(_, path)] = &sought.found[..] {
        return Ok(to(path));
    }
    let filter = Filter::read(&mut filters);
    let _nothing: Option<()> = filters.read_with("id", |_| sought.why());
    let page = Links::of(&visit).page(ROWS)?;
    let service = visit.service();
    let catalog = service.catalog();
    let nowhere = service::Page { items: Vec::new(), skipped: 0, next: None };
    let found = match filter.destination.map(|id| catalog.destination_no(id)) {
        _ if filters.are_wrong() => nowhere,
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
        (form(&filters, &visit, &sight, &catalog, &filter))
        @if !sought.found.is_empty() {
            section.card { h2 { "Events of this id" } ul { @for (tenant, path) in &sought.found { li { a href=(path) { (filters.text("id")) } " of the tenant " (tenant) } } } }
        } @else if !filters.are_wrong() {
            section.card.flush {
                @if found.items.is_empty() {
                    (empty("No deliveries here", html! {
                        @if next.is_some() { "None among the newest; older ones may match." }
                        @else if filter.is_empty() { "A delivery is made when an event comes that a webhook has chosen. " a href="/ui/webhooks" { "To the webhooks" } }
                        @else { "None match these filters. " a href=(PLACE) { "Show all" } }
                    }))
                } @else {
                    (table(&visit, &found.items, true))
                }
                (pager(next, "Older"))
            }
        }
    };
    let actions = html! { @if !filters.are_wrong() && can_be_replayed(&visit, &filter) { (replay_link(&visit)) } };
    Ok(Page { title: "Deliveries", place: PLACE, actions, body }.show_as(filters.status(), &visit))
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

/// What an id leads to: pages, each with the tenant that it belongs to.
#[derive(Debug, Default)]
struct Sought {
    found: Vec<(String, String)>,
}

impl Sought {
    /// That there is something, or why there is not.
    fn why(&self) -> Result<(), String> {
        match self.found.is_empty() {
            true => Err("no delivery and no event has this id, or retention has removed it".to_owned()),
            false => Ok(()),
        }
    }
}

/// Whatever somebody has copied: a delivery's id, an event's, a producer's, which several tenants may have.
async fn sought(visit: &Visit, sight: &Sight, id: &str) -> Result<Sought, Problem> {
    let page = |path: String| Sought { found: vec![(String::new(), path)] };
    if id.parse::<DeliveryId>().is_ok() {
        return Ok(page(format!("{PLACE}/{id}")));
    }
    if id.parse::<EventId>().is_ok() {
        return Ok(page(format!("/ui/events/{id}")));
    }
    let Ok(id) = id.parse::<ProducerId>() else { return Ok(Sought::default()) };
    let tenants: Vec<_> = match sight {
        Sight::One(one) => vec![one.clone()],
        Sight::All => visit.service().catalog().tenants().map(|tenant| tenant.id.clone()).collect(),
    };
    let mut found = Vec::new();
    for tenant in tenants {
        if let Some(event) = visit.service().event_by_producer_id(tenant.clone(), id.clone()).await? {
            found.push((tenant.to_string(), format!("/ui/events/{}", event.id())));
        }
        if found.len() == SOUGHT_MAX {
            break;
        }
    }
    Ok(Sought { found })
}

fn form(filters: &Filters<'_>, visit: &Visit, sight: &Sight, catalog: &Catalog, filter: &Filter) -> Markup {
    let states: Vec<_> =
        DeliveryState::ALL.iter().map(|state| (state.as_str().to_owned(), state.as_str().to_owned())).collect();
    html! {
        form.card method="get" action=(PLACE) role="search" aria-label="Filter deliveries" {
            div.filters {
                (filters.choice("state", "State", &states, "any"))
                (destination_select(filters, sight, catalog, filter.destination))
                (filters.line("type", "Type or pattern", "transaction.*"))
                (filters.line("status", "Last status", "503"))
                (filters.time("from", "Accepted from (UTC)"))
                (filters.time("to", "Accepted before (UTC)"))
                (filters.line("key", "Ordering key", ""))
                (filters.line("id", "Id of a delivery or event", "dlv_…, evt_… or the producer's"))
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
        true => text_field("tenant", "Tenant", chosen, none, None),
        false => select("tenant", "Tenant", &tenants, chosen, none, None),
    }
}

/// The choice of a destination, or a field for its id, where there are many.
pub(super) fn destination_select(
    filters: &Filters<'_>,
    sight: &Sight,
    catalog: &Catalog,
    chosen: Option<DestinationId>,
) -> Markup {
    let all = catalog.destinations().filter(|it| sight.takes(&it.tenant));
    let mut all: Vec<_> =
        all.take(DESTINATIONS_OFFERED_MAX + 1).map(|it| (it.id.to_string(), it.name.clone())).collect();
    let asked = chosen;
    let chosen = chosen.map(|id| id.to_string()).unwrap_or_default();
    if all.len() > DESTINATIONS_OFFERED_MAX {
        return filters.line("destination", "Destination's id", "any");
    }
    all.sort_by(|a, b| a.1.cmp(&b.1));
    // A deleted one is still what the list is about.
    if let Some(id) = asked
        && !all.iter().any(|(id, _)| *id == chosen)
    {
        let name = catalog.destination_no(id).filter(|no| catalog.owner(*no).is_some_and(|it| sight.takes(it)));
        let name = name.and_then(|no| catalog.destination_name(no)).map(|name| format!("{name} (deleted)"));
        all.push((id.to_string(), name.unwrap_or_else(|| id.to_string())));
    }
    select("destination", "Destination", &all, &chosen, "any", filters.fault("destination"))
}

/// Deliveries as rows; on a destination's own page its name is left out.
pub(super) fn table(visit: &Visit, deliveries: &[SeenDelivery], names_destination: bool) -> Markup {
    let (catalog, now) = (visit.service().catalog(), visit.service().now());
    html! {
        div.scroll {
            table.stack {
                thead { tr {
                    th scope="col" { "State" } th scope="col" { "Event" } @if names_destination { th scope="col" { "Destination" } }
                    th scope="col" { "Last attempt" } th scope="col" { "Accepted (UTC)" }
                } }
                tbody { @for seen in deliveries { (row(&catalog, seen, names_destination, now)) } }
            }
        }
    }
}

fn row(catalog: &Catalog, seen: &SeenDelivery, names_destination: bool, now: Timestamp) -> Markup {
    let delivery = &seen.delivery;
    html! {
        tr {
            td data-label="State" { div { (delivery_badge(seen.state)) @if let Some(why) = short_why(seen) { span.sub { (why) } } } }
            th scope="row" {
                div {
                    a href={ (PLACE) "/" (seen.id) } { (delivery.head.kind) }
                    @if let Some(id) = &delivery.head.producer_id { span.sub.muted.small { (id.as_str()) } }
                }
            }
            @if names_destination { td.clip data-label="Destination" { (destination_link(catalog, seen)) } }
            td data-label="Last attempt" {
                @match delivery.attempts.last() {
                    None => span.muted { "none yet" },
                    Some(last) => div {
                        @match last.status { Some(status) => { (status) }, None => { (last.reason.map_or("no reply", |reason| reason.as_str())) } }
                        " in " (took(last.duration)) @if last.number > 1 { ", no. " (last.number) }
                        span.sub { (moment_short(last.started, now)) }
                    },
                }
            }
            td.nowrap data-label="Accepted" { (moment_cell(delivery.head.accepted, now)) }
        }
    }
}

/// Where a delivery goes: a link, as long as there is a page to go to.
pub(super) fn destination_link(catalog: &Catalog, seen: &SeenDelivery) -> Markup {
    let no = seen.delivery.key.destination;
    let name = catalog.destination_name(no).unwrap_or("unknown");
    html! {
        @if catalog.destination(no).is_some() { a href={ "/ui/destinations/" (seen.destination) } { (name) } }
        @else { (name) " " span.muted { "(deleted)" } }
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
            @if seen.state == DeliveryState::Held { a.button href={ "/ui/destinations/" (seen.destination) } { "To the destination" } }
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
    // What is due and has not been tried goes as soon as its destination takes it.
    let is_due = seen.delivery.row.is_some_and(|row| row.due <= service.now() && row.plan.tried == 0);
    is_there && !is_due && seen.waiting != Some(crate::model::WaitingReason::InFlight)
}

/// What an attempt came to, in a few words.
pub(super) fn outcome(attempt: &crate::model::Attempt) -> Markup {
    html! { (outcome_badge(attempt.outcome)) @if let Some(status) = attempt.status { " " span.nums { (status) } } }
}
