//! The first page: whether anything is stuck, and where.

use std::time::Duration;

use maud::{Markup, html};

use super::super::act::Visit;
use super::super::layout::Page;
use super::super::parts::{Icon, empty, icon, lane_badge, number, span_words};
use crate::http::problem::Problem;
use crate::http::response::Response;
use crate::model::{Role, Timestamp, words};
use crate::service::{DestinationHealth, LaneState, Status};

/// Destinations that are shown, the ones in trouble first.
const SHOWN_MAX: usize = 50;

/// `GET /ui/`
pub(super) async fn show(visit: Visit) -> Result<Response, Problem> {
    let sight = visit.sight()?;
    let service = visit.service();
    let (status, now) = (service.status(&sight).await?, service.now());
    let mut healths = service.healths(&sight);
    healths.sort_by(|a, b| trouble(b).cmp(&trouble(a)).then_with(|| a.destination.name.cmp(&b.destination.name)));
    let body = html! {
        (tiles(&status))
        (destinations(&visit, &healths, now))
    };
    Ok(Page { title: "Overview", place: super::super::ROOT, actions: html! {}, body }.show(&visit))
}

fn tiles(status: &Status) -> Markup {
    let oldest = status.oldest_pending_seconds.map(Duration::from_secs);
    let stuck = oldest.is_some_and(|oldest| oldest >= Duration::from_secs(3600));
    html! {
        section.tiles aria-label="Figures" {
            div.tile.bad[stuck] {
                span.label { (icon(Icon::Clock)) "Oldest undelivered" }
                span.value { @match oldest { Some(oldest) => (span_words(oldest)), None => "–" } }
                span.note { @if oldest.is_none() { "nothing waits" } @else { "since it was accepted" } }
            }
            (tile("/ui/deliveries?state=pending", Icon::Clock, "Pending", status.pending, "will be tried", ""))
            (tile("/ui/deliveries?state=held", Icon::Pause, "Held", status.held, "wait for somebody", if status.held > 0 { "warn" } else { "" }))
            (tile("/ui/deliveries?state=failed", Icon::Cross, "Failed", status.failed, "were given up", if status.failed > 0 { "bad" } else { "" }))
            (tile("/ui/deliveries?state=succeeded", Icon::Check, "Succeeded", status.succeeded, "since the store was made", ""))
            (tile("/ui/deliveries?state=cancelled", Icon::Slash, "Cancelled", status.cancelled, "by an operator", ""))
        }
    }
}

fn tile(path: &str, picture: Icon, label: &str, count: u64, note: &str, tone: &str) -> Markup {
    html! {
        a class={ "tile " (tone) } href=(path) {
            span.label { (icon(picture)) (label) }
            span.value { (number(count)) }
            span.note { (note) }
        }
    }
}

/// How much a destination asks for attention: by its state first, then by what waits for it.
fn trouble(health: &DestinationHealth) -> (u8, u64) {
    let waiting = health.tally.waiting();
    let rank = match health.state {
        LaneState::Shut => 7,
        LaneState::Gone => 6,
        LaneState::Probing => 5,
        LaneState::Held => 4,
        LaneState::Paused => 3,
        LaneState::Unconfirmed => 2,
        LaneState::Open if health.lane.health.failures > 0 => 1,
        LaneState::Open => 0,
    };
    (rank, waiting)
}

fn destinations(visit: &Visit, healths: &[DestinationHealth], now: Timestamp) -> Markup {
    if healths.is_empty() {
        let words = html! {
            "A webhook is where events go. "
            @if visit.viewer.may(Role::Operate) { a href="/ui/webhooks/new" { "Add the first one" } "." }
        };
        return html! { section.card { (empty("No destinations yet", words)) } };
    }
    html! {
        section.card.flush aria-labelledby="destinations" {
            header { h2 #destinations { "Destinations, the ones in trouble first" } a href="/ui/webhooks" { "All webhooks" } }
            div.scroll {
                table.stack {
                    thead { tr { th scope="col" { "Destination" } th scope="col" { "State" } th scope="col" { "Why" } th.num scope="col" { "Waiting" } th.num scope="col" { "Failed" } } }
                    tbody {
                        @for health in healths.iter().take(SHOWN_MAX) { (row(visit, health, now)) }
                    }
                }
            }
            @if healths.len() > SHOWN_MAX { p.muted { (healths.len() - SHOWN_MAX) " more are not in trouble." } }
        }
    }
}

fn row(visit: &Visit, health: &DestinationHealth, now: Timestamp) -> Markup {
    let it = &health.destination;
    html! {
        tr {
            th scope="row" {
                div {
                    a href={ "/ui/destinations/" (it.id) } { (it.name) }
                    @if visit.viewer.caller().reaches_all() { span.sub.muted.small { " " (it.tenant) } }
                }
            }
            td data-label="State" { (lane_badge(health.state)) }
            td data-label="Why" { (why(health, now)) }
            td.num data-label="Waiting" { (number(health.tally.waiting())) }
            td.num data-label="Failed" { (number(health.tally.failed)) }
        }
    }
}

/// What keeps a destination, in words.
pub(super) fn why(health: &DestinationHealth, now: Timestamp) -> Markup {
    let it = &health.destination;
    let said = words::standing(it.disabled, it.is_confirmed(), health.state.as_str(), health.tally.waiting() > 0);
    let until = match health.state {
        LaneState::Held => health.lane.health.hold_until,
        LaneState::Shut => health.lane.health.shut_until,
        _ => None,
    };
    let failures = health.lane.health.failures;
    html! {
        div {
            (said)
            @if let Some(until) = until { " (" (super::super::parts::moment(until, now)) ")" }
            @if health.state == LaneState::Open && failures > 0 {
                span.sub.muted { (failures) @if failures == 1 { " failure" } @else { " failures" } " in a row" }
            }
        }
    }
}
