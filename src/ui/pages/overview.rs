//! The first page: whether anything is stuck, and where.

use std::time::Duration;

use maud::{Markup, html};

use super::super::act::Visit;
use super::super::chart;
use super::super::facts::Facts;
use super::super::layout::Page;
use super::super::parts::{Icon, bytes, empty, icon, moment, notice, number, span_words, standing_badge};
use crate::http::problem::{Problem, ProblemCode};
use crate::http::response::Response;
use crate::model::{Confirmation, Reason, Role, Timestamp, words};
use crate::service::pulse::{LastFailure, Span};
use crate::service::{DestinationHealth, LaneState, Status};

/// Destinations that are shown, the ones in trouble first.
const SHOWN_MAX: usize = 20;
/// What has waited for so long is told as trouble.
const LONG: Duration = Duration::from_secs(3600);
/// For so long a delivery that was given up is told as trouble of its destination, if others succeed.
const LATELY: Duration = Duration::from_secs(24 * 3600);
/// A certificate that expires sooner is told of.
const SOON: Duration = Duration::from_secs(14 * 24 * 3600);

/// The span that a page's charts are asked for.
pub(super) fn span_asked(visit: &Visit) -> Result<Span, Problem> {
    match visit.query.text("span") {
        None | Some("" | "1h") => Ok(Span::Hour),
        Some("24h") => Ok(Span::Day),
        Some(_) => Err(Problem::new(ProblemCode::BadQuery, "span: is 1h or 24h")),
    }
}

/// The links between the spans.
pub(super) fn switch(path: &str, span: Span) -> Markup {
    html! {
        nav.segments aria-label="Span of time" {
            @for (name, of) in [("1h", Span::Hour), ("24h", Span::Day)] {
                a href={ (path) "?span=" (name) } aria-current=[(of == span).then_some("true")] { (name) }
            }
        }
    }
}

/// `GET /ui/`
pub(super) async fn show(visit: Visit) -> Result<Response, Problem> {
    let (sight, span) = (visit.sight()?, span_asked(&visit)?);
    let service = visit.service();
    let (status, now) = (service.status(&sight).await?, service.now());
    let course = service.course(&sight, span);
    service.recall(&sight).await?;
    let mut healths = service.healths(&sight);
    healths.sort_by(|a, b| {
        trouble(b, now).cmp(&trouble(a, now)).then_with(|| a.destination.name.cmp(&b.destination.name))
    });
    // The installation's own troubles are for who sees all of it.
    let facts = match visit.viewer.caller().reaches_all() {
        true => Some((visit.house.facts)().await),
        false => None,
    };
    let body = html! {
        @if let Some(facts) = &facts { (warnings(facts, now)) }
        (tiles(&status, &healths, now))
        (chart::charts(&course, span, now, &switch("/ui/", span)))
        (destinations(&visit, &healths, now))
    };
    Ok(Page { title: "Overview", place: super::super::ROOT, actions: html! {}, body }.show(&visit))
}

/// What is, or will soon be, wrong with the installation itself.
pub(super) fn warnings(facts: &Facts, now: Timestamp) -> Markup {
    let low = facts.disk_free.filter(|free| *free < facts.disk_reserve.saturating_mul(4));
    let expires = |at: Option<Timestamp>| at.filter(|at| at.since(now) < SOON);
    html! {
        @if let Some(free) = low {
            (notice(Icon::Alert, "warn", html! {
                strong { "The disk is getting full. " } (bytes(free)) " are left; below " (bytes(facts.disk_reserve))
                " no events are taken (" code { "limits.disk_reserve" } "). Free some space, or shorten " code { "[retention]" } "."
            }))
        }
        @if let Some(at) = expires(facts.certificate_expires) {
            (notice(Icon::Alert, "bad", html! {
                strong { "This daemon's certificate expires " (moment(at, now)) ". " } "Replace " code { "admin.tls_cert" } " and restart."
            }))
        }
        @if let Some(at) = expires(facts.receivers_expire) {
            (notice(Icon::Alert, "warn", html! {
                strong { "A receiver's certificate expires " (moment(at, now)) ". " } "After that its deliveries fail with " code { "tls_expired" } "."
            }))
        }
    }
}

fn tiles(status: &Status, healths: &[DestinationHealth], now: Timestamp) -> Markup {
    let oldest = status.oldest_pending_seconds.map(Duration::from_secs);
    let is_old = oldest.is_some_and(|oldest| oldest >= LONG);
    let troubled = healths.iter().filter(|health| trouble(health, now).0 > 1).count();
    let told = html! {
        span.label { (icon(Icon::Clock)) "Oldest" }
        span.value { @match oldest { Some(oldest) => (span_words(oldest)), None => "–" } }
        span.note {
            @match oldest {
                Some(_) => "undelivered",
                None if status.pending + status.held > 0 => "is told for all tenants together",
                None => "nothing waits",
            }
        }
    };
    let given_up = match status.failed_of_deleted {
        0 => "were given up".to_owned(),
        deleted => format!("were given up, {} of deleted destinations", number(deleted)),
    };
    html! {
        section.tiles aria-label="Figures" {
            @match status.oldest_pending {
                Some(event) => a.tile.bad[is_old] href={ "/ui/events/" (event) } { (told) },
                None => div.tile.bad[is_old] { (told) },
            }
            (tile("#destinations", Icon::Alert, "In trouble", troubled as u64, "destinations", if troubled > 0 { "bad" } else { "" }))
            (tile("/ui/deliveries?state=pending", Icon::Clock, "Pending", status.pending, "will be tried", ""))
            (tile("/ui/deliveries?state=held", Icon::Pause, "Held", status.held, "wait for somebody", if status.held > 0 { "warn" } else { "" }))
            (tile("/ui/deliveries?state=failed", Icon::Cross, "Failed", status.failed, &given_up, if status.failed > 0 { "bad" } else { "" }))
            (tile("/ui/deliveries?state=succeeded", Icon::Check, "Succeeded", status.succeeded, "in all", ""))
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

/// How much a destination asks for attention: by its state and how it did lately first, then by what waits for it.
fn trouble(health: &DestinationHealth, now: Timestamp) -> (u8, u64) {
    let waiting = health.tally.waiting();
    let gave_up = health.lately.is_some_and(|lately| lately.gave_up);
    let rank = match health.state {
        LaneState::Shut => 9,
        LaneState::Gone => 8,
        LaneState::Probing => 7,
        LaneState::Open if gave_up => 6,
        LaneState::Held => 5,
        // Its receiver was asked and has refused, or what waits goes on waiting until somebody sees to it.
        LaneState::Unconfirmed if failures(health) > 0 || holds_unconfirmed(health) => 4,
        // What is switched off, and has nothing left to do, is as somebody wants it.
        LaneState::Paused if health.destination.disabled && waiting == 0 => 1,
        LaneState::Paused => 3,
        LaneState::Open if failures(health) > 0 || given_up_lately(health, now).is_some() => 2,
        LaneState::Unconfirmed => 1,
        LaneState::Open => 0,
    };
    (rank, waiting)
}

/// Whether something waits for a destination that had confirmed another URL. Of one that never has nothing waits but the
/// request for it.
fn holds_unconfirmed(health: &DestinationHealth) -> bool {
    health.destination.confirmation == Confirmation::Lapsed && health.tally.waiting() > 0
}

/// Attempts that failed since one succeeded, whatever the receiver answered.
fn failures(health: &DestinationHealth) -> u32 {
    health.lately.map_or(0, |lately| lately.failures).max(health.lane.health.failures)
}

/// The last delivery that was given up a short while ago, unless all have been sent again since.
fn given_up_lately(health: &DestinationHealth, now: Timestamp) -> Option<LastFailure> {
    let last = health.lately?.last_given_up?;
    (now.since(last.at) < LATELY && health.tally.failed > 0).then_some(last)
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
                    thead { tr {
                        th scope="col" { "Destination" } th scope="col" { "State" } th scope="col" { "Why" }
                        th.num scope="col" { "Waiting" } th.num scope="col" { "Failed" }
                    } }
                    tbody { @for health in healths.iter().take(SHOWN_MAX) { (row(visit, health, now)) } }
                }
            }
            @if healths.len() > SHOWN_MAX { p.muted { (healths.len() - SHOWN_MAX) " more are less in trouble." } }
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
            td data-label="State" { (standing_badge(health)) }
            td data-label="Why" { (why(health, now)) }
            td.num data-label="Waiting" {
                a href={ "/ui/deliveries?destination=" (it.id) "&state=" (waiting_state(health)) } { (number(health.tally.waiting())) }
            }
            td.num data-label="Failed" {
                a href={ "/ui/deliveries?destination=" (it.id) "&state=failed" } { (number(health.tally.failed)) }
            }
        }
    }
}

/// The state that those have that wait for it.
pub(super) fn waiting_state(health: &DestinationHealth) -> &'static str {
    match health.state {
        LaneState::Paused | LaneState::Gone | LaneState::Unconfirmed => "held",
        LaneState::Open | LaneState::Held | LaneState::Shut | LaneState::Probing => "pending",
    }
}

/// What keeps a destination, in words, and how it last failed while it is in trouble.
pub(super) fn why(health: &DestinationHealth, now: Timestamp) -> Markup {
    let it = &health.destination;
    let until = match health.state {
        LaneState::Held => health.lane.health.hold_until,
        LaneState::Shut => health.lane.health.shut_until,
        _ => None,
    };
    let (failures, lately) = (failures(health), health.lately.unwrap_or_default());
    let failing = words::failing(failures, lately.gave_up).filter(|_| health.state == LaneState::Open);
    let given_up = given_up_lately(health, now).filter(|_| health.state == LaneState::Open && failures == 0);
    let last = lately.last_failure.filter(|_| failures > 0 || health.state == LaneState::Gone);
    html! {
        div.why {
            @if let Some(failing) = &failing { (failing) }
            @else if given_up.is_some() { "it takes what is sent to it, but not all of it: some was given up" }
            @else if health.state == LaneState::Unconfirmed { (words::unconfirmed(it.confirmation)) }
            @else if it.disabled {
                "it is switched off: events pass it by"
                @if health.tally.waiting() > 0 { ", and what waits for it is held until it is switched on" }
            }
            @else { (words::standing(false, true, health.state.as_str(), false)) }
            @if let Some(until) = until { " (" (moment(until, now)) ")" }
            @if failing.is_none() && failures > 0 {
                span.sub.muted {
                    (failures) @if failures == 1 { " failure" } @else { " failures" } " in a row"
                    @if let Some(last) = &last { "; last " (failure(last, now)) }
                }
            } @else if let Some(last) = last.or(given_up) {
                span.sub.muted { "last " (failure(&last, now)) }
            }
        }
    }
}

fn failure(last: &LastFailure, now: Timestamp) -> Markup {
    html! {
        (moment(last.at, now))
        @match (last.reason, last.status) {
            (Some(Reason::Status), Some(status)) => { ": status " (status) ", not a success" }
            (Some(reason), status) => { ": " (words::reason(reason.as_str(), "")) @if let Some(status) = status { " (status " (status) ")" } }
            (None, status) => { @if let Some(status) = status { ": status " (status) } }
        }
    }
}
