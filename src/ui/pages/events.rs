//! Events: what happened, and where it went.

use ::http::Method;
use maud::{Markup, html};

use super::super::act::Visit;
use super::super::between::Question;
use super::super::filters::Filters;
use super::super::layout::Page;
use super::super::parts::{Icon, Links, bytes, copied, empty, icon, moment_cell, moment_told, pager};
use super::super::to;
use super::deliveries;
use crate::http::problem::Problem;
use crate::http::response::Response;
use crate::model::event::{Body, Event, OrderingKey, Skip};
use crate::model::mask::{Masked, PayloadMask};
use crate::model::{DestinationNo, EventId, Role, words};
use crate::service::{Catalog, EventsWanted, Sight};

const PLACE: &str = "/ui/events";
/// The names that the list's query may have.
pub(super) const PARAMETERS: [&str; 6] = ["type", "key", "from", "to", "tenant", "after"];
/// Those that filter.
const FILTERS: [&str; 5] = ["type", "key", "from", "to", "tenant"];
/// What it means to erase a payload.
const ERASED: &str = "The payload is erased for good. What has not been delivered yet is given up.";
const ROWS: usize = 25;
/// Destinations that are told to have been passed by.
const PASSED_BY_SHOWN_MAX: usize = 25;
/// Bytes of a payload that are shown.
const PAYLOAD_SHOWN_MAX: usize = 64 << 10;

/// `GET /ui/events`
pub(super) async fn list(visit: Visit) -> Result<Response, Problem> {
    let service = visit.service();
    let mut filters = Filters::of(&visit);
    let wanted = EventsWanted {
        tenant: match visit.sight()? {
            Sight::All => None,
            Sight::One(one) => Some(one),
        },
        kind: filters.read("type"),
        key: filters.read::<OrderingKey>("key").map(|key| key.as_str().to_owned()),
        from: filters.moment("from"),
        to: filters.moment("to"),
    };
    let page = Links::of(&visit).page(ROWS)?;
    let is_filtered = FILTERS.iter().any(|name| !filters.text(name).is_empty());
    let found = match filters.are_wrong() {
        true => None,
        false => Some(service.events(wanted, page.window()).await?),
    };
    let next = found.as_ref().and_then(|found| found.next);
    let next = next.map(|place| Links::of(&visit).with("after", &page.cursor_of(place)).path());
    let now = service.now();
    let body = html! {
        form.card method="get" action=(PLACE) role="search" aria-label="Filter events" {
            div.filters {
                (filters.line("type", "Type or pattern", "transaction.*"))
                (filters.line("key", "Ordering key", ""))
                (filters.time("from", "Accepted from (UTC)"))
                (filters.time("to", "Accepted before (UTC)"))
                @if visit.viewer.caller().reaches_all() { (deliveries::tenant_select(&visit, &service.catalog())) }
                div.buttons { button.primary type="submit" { "Filter" } a.button href=(PLACE) { "Clear" } }
            }
        }
        @if let Some(found) = &found { section.card.flush {
            @if found.items.is_empty() {
                (empty("No events here", html! {
                    @if next.is_some() { "None among the newest; older ones may match." }
                    @else if is_filtered { "None match these filters. " a href=(PLACE) { "Show all" } }
                    @else { "Events come from your own programs, over the ingest socket. Try one: " code { "postrider emit transaction.sale.success --data '{}'" } }
                }))
            } @else {
                div.scroll { table.stack {
                    thead { tr {
                        th scope="col" { "Type" } th scope="col" { "Producer's id" } th scope="col" { "Key" }
                        th.num scope="col" { "Goes to" } th scope="col" { "Accepted (UTC)" }
                    } }
                    tbody { @for event in &found.items {
                        tr {
                            th scope="row" { div { a href={ (PLACE) "/" (event.id()) } { (event.head.kind) }
                                @if visit.viewer.caller().reaches_all() { span.sub.muted.small { (event.head.tenant) } } } }
                            td.clip data-label="Producer's id" { (event.head.producer_id.as_ref().map_or("–", |id| id.as_str())) }
                            td.clip data-label="Key" { (event.head.key.as_ref().map_or("–", |key| key.as_str())) }
                            td.num data-label="Goes to" { (event.head.targets.len()) }
                            td.nowrap data-label="Accepted" { (moment_cell(event.head.accepted, now)) }
                        }
                    } }
                } }
            }
            (pager(next, "Older"))
        } }
    };
    Ok(Page { title: "Events", place: PLACE, actions: html! {}, body }.show_as(filters.status(), &visit))
}

/// `GET /ui/events/{id}`, and `POST /ui/events/{id}/payload`, which shows what the event carries: that is noted first.
pub(super) async fn read(visit: Visit) -> Result<Response, Problem> {
    show(visit, false).await
}

/// `POST /ui/events/{id}/payload`
pub(super) async fn payload(visit: Visit) -> Result<Response, Problem> {
    show(visit, true).await
}

async fn show(visit: Visit, with_payload: bool) -> Result<Response, Problem> {
    let id: EventId = visit.params.parse("id")?;
    let (sight, service) = (visit.sight()?, visit.service());
    let event = service.event(&sight, id).await?;
    let links = Links::of(&visit).at(&format!("{PLACE}/{id}"));
    let page = links.page(ROWS)?;
    let found = service.deliveries_of(&sight, id, page.window()).await?;
    let next = found.next.map(|place| links.with("after", &page.cursor_of(place)).path());
    let shown = match &event.body {
        Body::Kept(_) if with_payload => {
            let tenant = event.head.tenant.clone();
            // What is shown has been noted: the receipt is the proof.
            let _receipt = service.note_read(visit.viewer.caller().actor(), tenant, vec![id]).await?;
            Some(payload_text(&event, service.mask()))
        }
        Body::Kept(_) | Body::Erased => None,
    };
    let (head, now) = (&event.head, service.now());
    let catalog = service.catalog();
    let passed_by: Vec<_> =
        head.skipped.iter().filter_map(|(no, skip)| passed_by(&catalog, &sight, *no, *skip)).collect();
    let is_erased = event.body == Body::Erased;
    let title = head.kind.to_string();
    let body = html! {
        section.card {
            dl.facts {
                dt { "Event" } dd { (copied(&id.to_string())) }
                @if let Some(id) = &head.producer_id { dt { "Producer's id" } dd { (copied(id.as_str())) } }
                @if let Some(key) = &head.key { dt { "Ordering key" } dd { (key.as_str()) } }
                dt { "Tenant" } dd { (head.tenant) }
                dt { "Happened" } dd { (moment_told(head.occurred, now)) }
                dt { "Accepted" } dd { (moment_told(head.accepted, now)) }
                @if head.due > head.accepted { dt { "Not before" } dd { (moment_told(head.due, now)) } }
                @if let Some(at) = head.expires_at { dt { "Expires" } dd { (moment_told(at, now)) } }
                @if let Some(source) = &head.source { dt { "Source" } dd { (source) } }
                @if let Some(peer) = head.peer { dt { "From" } dd { "uid " (peer.uid) @if let Some(pid) = peer.pid { ", pid " (pid) } } }
            }
        }
        section.card.flush {
            h2 { "Deliveries" }
            @if found.items.is_empty() && passed_by.is_empty() { (empty("It goes nowhere", html! { "No webhook had chosen this type when it came. " a href="/ui/webhooks" { "To the webhooks" } })) }
            @else if found.items.is_empty() { (empty("It goes nowhere", html! { "Every webhook that had chosen this type was passed by." })) }
            @else { (deliveries::table(&visit, &found.items, true)) }
            (pager(next, "More"))
        }
        (skipped(&passed_by))
        (payload_card(&visit, &event, shown.as_deref(), is_erased))
    };
    Ok(Page { title: &title, place: PLACE, actions: html! {}, body }.show(&visit))
}

/// Who was passed by, and why.
struct PassedBy {
    name: String,
    /// Its page, as long as it is there.
    page: Option<String>,
    why: &'static str,
}

fn passed_by(catalog: &Catalog, sight: &Sight, no: DestinationNo, skip: Skip) -> Option<PassedBy> {
    // Of others' destinations nothing is told.
    catalog.owner(no).filter(|owner| sight.takes(owner))?;
    Some(PassedBy {
        name: catalog.destination_name(no)?.to_owned(),
        page: catalog.destination(no).map(|it| format!("/ui/destinations/{}", it.id)),
        why: words::skipped(skip.as_str()),
    })
}

fn skipped(passed_by: &[PassedBy]) -> Markup {
    html! {
        @if !passed_by.is_empty() {
            section.card {
                h2 { "Passed by" }
                p.muted { "They had chosen this type, and got no delivery: what came while they could take nothing is not sent later." }
                ul {
                    @for it in passed_by.iter().take(PASSED_BY_SHOWN_MAX) {
                        li { @match &it.page { Some(page) => a href=(page) { (it.name) }, None => { (it.name) " (deleted)" } } ": " (it.why) }
                    }
                    @if passed_by.len() > PASSED_BY_SHOWN_MAX { li { "and " (passed_by.len() - PASSED_BY_SHOWN_MAX) " more" } }
                }
            }
        }
    }
}

fn payload_card(visit: &Visit, event: &Event, shown: Option<&str>, is_erased: bool) -> Markup {
    let id = event.id();
    html! {
        section.card {
            header {
                h2 { "Payload" }
                span.muted { @match event.body.bytes() { Some(body) => { (bytes(body.len() as u64)) ", " (event.head.content_type.as_deref().unwrap_or("application/json")) }, None => "erased" } }
            }
            @if is_erased { p.muted { "It has been erased. Nothing can be sent any more." } }
            @else if let Some(text) = shown { pre tabindex="0" { (text) } p.hint { "Card data, and what the configuration names, is masked here. That you have seen it stands in the audit log." } }
            @else if visit.viewer.may(Role::Operate) { p.muted { "Hidden until it is asked for: each look is noted in the audit log." } }
            @else { p.muted { "Shown to the roles operate and admin only." } }
            @if !is_erased && visit.viewer.may(Role::Operate) {
                div.buttons {
                    form.left method="post" action={ (PLACE) "/" (id) "/erase" } data-confirm=(ERASED) { button.danger type="submit" { "Erase payload" } }
                    @if shown.is_none() { form method="post" action={ (PLACE) "/" (id) "/payload" } { button type="submit" { (icon(Icon::Book)) "Show payload" } } }
                }
            }
        }
    }
}

/// The payload as text, masked as over the API, cut where a page would become too long.
fn payload_text(event: &Event, mask: &PayloadMask) -> String {
    let Body::Kept(body) = &event.body else { return String::new() };
    let mut text = match mask.show(body, event.head.content_type.as_deref()) {
        Masked::Json(text) => text,
        Masked::Other(bytes) => String::from_utf8_lossy(&bytes).into_owned(),
    };
    if text.len() > PAYLOAD_SHOWN_MAX {
        let end = (0..=PAYLOAD_SHOWN_MAX).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
        text.truncate(end);
        text.push_str("\n… cut here");
    }
    text
}

/// `POST /ui/events/{id}/erase`
pub(super) async fn erase(visit: Visit) -> Result<Response, Problem> {
    let id: EventId = visit.params.parse("id")?;
    let event = visit.service().event(&visit.sight()?, id).await?;
    let question = Question {
        title: format!("Erase the payload of {}?", event.head.kind),
        meaning: ERASED.to_owned(),
        button: "Erase payload",
        place: PLACE,
        back: format!("{PLACE}/{id}"),
    };
    if let Some(page) = question.unless_agreed(&visit) {
        return Ok(page);
    }
    visit.ask(Method::DELETE, &format!("/v1/events/{id}/payload"), None, None).await?;
    Ok(to(&format!("{PLACE}/{id}?done=erased")))
}
