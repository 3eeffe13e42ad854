//! One destination: how it is set, how it does, what an operator can do about it.

use std::time::Duration;

use ::http::Method;
use maud::{Markup, html};
use serde_json::{Map, Value, json};

use super::super::act::Visit;
use super::super::between::Question;
use super::super::chart;
use super::super::layout::Page;
use super::super::parts::{
    Icon, copied, empty, icon, moment, moment_cell, notice, number, span_words, standing_badge, took,
};
use super::super::to;
use super::overview::{span_asked, switch, why};
use super::{deliveries, webhooks};
use crate::http::problem::{Problem, ProblemCode};
use crate::http::response::Response;
use crate::model::schedule::{Plan, Schedule};
use crate::model::time::duration_text;
use crate::model::{Destination, DestinationId, Role, Timestamp, words};
use crate::service::stats::{Counts, SPANS, Stats};
use crate::service::{DeliveriesWanted, DestinationHealth, LaneState, Window};

const API: &str = "/v1/destinations/webhook";
/// What it means to rotate a secret.
const ROTATED: &str = "The secret is replaced now. The receiver must be given the new one.";
/// Deliveries that are shown.
const RECENT: usize = 10;

fn path(id: DestinationId) -> String {
    format!("/ui/destinations/{id}")
}

/// `GET /ui/destinations/{id}`
pub(super) async fn read(visit: Visit) -> Result<Response, Problem> {
    let id: DestinationId = visit.params.parse("id")?;
    let (sight, span, service) = (visit.sight()?, span_asked(&visit)?, visit.service());
    let destination = service.destination(&sight, id)?;
    service.recall(&sight).await?;
    let health = service.healths(&sight).into_iter().find(|it| it.destination.id == id);
    let health = health.ok_or_else(|| Problem::new(ProblemCode::NotFound, "there is no such destination"))?;
    let stats = service.stats(&sight, id).await?;
    let wanted = DeliveriesWanted { destination: Some(destination.no), ..DeliveriesWanted::default() };
    let recent = service.deliveries(&sight, wanted, Window { after: None, skip: 0, limit: RECENT }).await?;
    let now = service.now();
    let course = service.pulse().of_destinations(|no| no == destination.no, span, now);
    let path = path(id);
    let body = html! {
        p.crumbs { a href="/ui/webhooks" { "Webhooks" } " · " code { (destination.url) } }
        (standing(&health, &stats, now))
        (chart::charts(&course, span, now, &switch(&path, span)))
        div.grid { (figures(&stats, now)) (configuration(&visit, &destination)) }
        (attempts(&stats, now))
        section.card.flush.late {
            header { h2 { "Recent deliveries" } a href={ "/ui/deliveries?destination=" (id) } { "All of them" } }
            @if recent.items.is_empty() { (empty("Nothing has been sent yet", html! { "Send a test event to see whether the receiver takes it." })) }
            @else { (deliveries::table(&visit, &recent.items, false)) }
        }
        @if visit.viewer.may(Role::Operate) && destination.signatures.iter().any(|it| it.own().is_some()) { (rotation(&destination)) }
    };
    let actions = actions(&visit, &health);
    Ok(Page { title: &destination.name, place: webhooks::PLACE, actions, body }.show(&visit))
}

fn actions(visit: &Visit, health: &DestinationHealth) -> Markup {
    let (it, path) = (&health.destination, path(health.destination.id));
    let is_held = !matches!(health.state, LaneState::Open | LaneState::Unconfirmed);
    let post = |verb: &str, words: Markup| html! { form method="post" action={ (path) "/" (verb) } { button type="submit" { (words) } } };
    html! {
        @if visit.viewer.may(Role::Operate) {
            @if is_held && !it.disabled { (post("resume", html! { (icon(Icon::Send)) @if health.state == LaneState::Paused { "Resume" } @else { "Try now" } })) }
            @if it.disabled { (post("enable", html! { (icon(Icon::Send)) "Switch on" })) }
            @if health.state != LaneState::Paused { (post("pause", html! { (icon(Icon::Pause)) "Pause" })) }
            @if !it.is_confirmed() && !it.disabled { (post("confirm", html! { "Ask for confirmation" })) }
            @if it.is_confirmed() && !it.disabled { (post("test", html! { (icon(Icon::Bolt)) "Send a test" })) }
            a.button href={ "/ui/replays/new?destination=" (it.id) "&state=failed" } { (icon(Icon::Replay)) "Resend in bulk…" }
            a.button.primary href={ "/ui/webhooks/" (it.id) } data-dialog="" { (icon(Icon::Pen)) "Edit" }
        }
    }
}

fn standing(health: &DestinationHealth, stats: &Stats, now: Timestamp) -> Markup {
    let next = match health.state {
        LaneState::Shut => health.lane.health.shut_until,
        LaneState::Held => health.lane.health.hold_until,
        _ => None,
    };
    let waiting = health.tally.waiting();
    html! {
        section.card {
            header { h2 { "Health" } (standing_badge(health)) }
            (why(health, now))
            @if let Some(at) = next { p { strong { @if health.state == LaneState::Shut { "Next probe " } @else { "Takes deliveries again " } } (moment(at, now)) } }
            p.muted {
                (number(waiting)) @if waiting == 1 { " delivery waits" } @else { " deliveries wait" }
                @if let Some(at) = stats.oldest_waiting { "; the oldest was accepted " (moment(at, now)) }
                @if let Some(at) = stats.last_success { ". Last success " (moment(at, now)) }
                @if let Some(at) = stats.last_failure { ". Last failure " (moment(at, now)) }
            }
        }
    }
}

fn figures(stats: &Stats, now: Timestamp) -> Markup {
    let percentile = |counts: &Counts, percent| counts.percentile(percent).map_or("–".to_owned(), took);
    let rate = |counts: &Counts| match counts.success_rate() {
        None => "–".to_owned(),
        Some(rate) if rate < 1.0 => format!("{:.1} %", (rate * 100.0).min(99.9)),
        Some(_) => "100 %".to_owned(),
    };
    let day = &stats.counts[1];
    html! {
        section.card.flush {
            header { h2 { "Figures" } span.muted.small { "of the newest " @if stats.sampled == 1 { "delivery" } @else { (number(stats.sampled as u64)) " deliveries" } @if let Some(from) = stats.sampled_from { ", accepted since " (moment(from, now)) } } }
            div.scroll tabindex="0" role="region" aria-label="Figures" { table.figures {
                thead { tr { th scope="col" { "Within" } th.num scope="col" { "Attempts" } th.num scope="col" { "Success" } th.num scope="col" { "p50" } th.num scope="col" { "p95" } } }
                tbody { @for (span, counts) in SPANS.iter().zip(&stats.counts) {
                    tr { th scope="row" { (span_words(*span)) } td.num { (number(counts.attempts())) } td.num { (rate(counts)) } td.num { (percentile(counts, 50)) } td.num { (percentile(counts, 95)) } }
                } }
            } }
            p.hint { "Counted from the deliveries in the store, whenever the daemon started." }
            @if !day.reasons.is_empty() {
                p { strong { "Why attempts failed, 24 h" } }
                div.scroll { table { tbody { @for (reason, count) in &day.reasons { tr { td { (words::reason(reason, "")) } td.num { (number(*count)) } } } } } }
            }
        }
    }
}

/// The newest attempts, whatever delivery they were of.
fn attempts(stats: &Stats, now: Timestamp) -> Markup {
    html! {
        @if !stats.newest.is_empty() {
            section.card.flush.late {
                h2 { "Recent attempts" }
                div.scroll { table.stack {
                    thead { tr { th scope="col" { "Event" } th scope="col" { "Outcome" } th scope="col" { "Why" } th.num scope="col" { "Took" } th scope="col" { "Began (UTC)" } } }
                    tbody { @for it in &stats.newest {
                        tr {
                            th scope="row" { div {
                                a href={ (deliveries::PLACE) "/" (it.delivery) "#attempt-" (it.attempt.number) } { (it.kind) }
                                span.sub.muted.small { "no. " (it.attempt.number) }
                            } }
                            td data-label="Outcome" { div { (deliveries::outcome(&it.attempt)) } }
                            td data-label="Why" { @match it.attempt.reason { Some(reason) => { (words::reason(reason.as_str(), it.attempt.trigger.as_str())) }, None => "–" } }
                            td.num data-label="Took" { (took(it.attempt.duration)) }
                            td.nowrap data-label="Began" { (moment_cell(it.attempt.started, now)) }
                        }
                    } }
                } }
            }
        }
    }
}

fn configuration(visit: &Visit, it: &Destination) -> Markup {
    let subscriptions = webhooks::subscriptions(visit.service(), it);
    let schedule = visit.service().schedule_of(it);
    let (name, schedule) = schedule.map_or((None, None), |(name, schedule)| (name, Some(schedule)));
    html! {
        section.card {
            header { h2 { "Configuration" } span.muted.small { "secrets are never shown" } }
            dl.facts {
                dt { "Hook URL" } dd { (it.method.as_str()) " " code { (it.url) } }
                dt { "Events" } dd {
                    @if subscriptions.is_empty() { span.muted { "none" } }
                    @for (place, one) in subscriptions.iter().enumerate() { @if place > 0 { ", " } code { (one.pattern) } @if one.filter.is_some() { " (filtered)" } @if one.roll_up { " (with child tenants)" } }
                }
                dt { "Authentication" } dd { @match &it.auth {
                    crate::model::Auth::None => "None",
                    crate::model::Auth::Basic { username, .. } => { "Basic, username " (username) },
                    crate::model::Auth::SharedSecret { header, .. } => { "Shared secret in " code { (header) } },
                    crate::model::Auth::Bearer { .. } => "Bearer token",
                } }
                dt { "Signature" } dd { (webhooks::signature_words(visit.service(), it)) }
                @if !it.headers.is_empty() { dt { "Headers" } dd { @for (name, _) in &it.headers { code { (name) ": ***" } " " } } }
                dt { "Format" } dd { (it.format.as_str()) }
                dt { "Retries" } dd {
                    @match (&it.retry.plan, name) {
                        (Plan::Default, name) => { "the installation's default" @if let Some(name) = name { ", " code { (name) } } ": " },
                        (Plan::Named(name), _) => { code { (name) } ": " },
                        (Plan::Delays(_), _) => {},
                    }
                    @match &schedule {
                        Some(schedule) => (delays_words(schedule)),
                        None => "a schedule that the configuration does not have",
                    }
                }
                @if let Some(rate) = it.rate { dt { "Rate" } dd { (rate.events) " each " (duration_text(rate.per)) } }
                @if let Some(most) = it.in_flight_max { dt { "At once" } dd { (most) " at most" } }
                @if it.ordered { dt { "Order" } dd { "one at a time, in the order of acceptance" } }
                @if let Some(limit) = it.timeout { dt { "Time limit" } dd { (duration_text(limit)) } }
                @if it.allow_private { dt { "Addresses" } dd { "private ones are allowed" } }
                @if let Some(text) = &it.description { dt { "Description" } dd { (text) } }
                dt { "Tenant" } dd { (it.tenant) }
                dt { "Id" } dd { (copied(&it.id.to_string())) }
            }
        }
    }
}

/// The delays of a schedule, those that repeat told once, and how many attempts there are.
fn delays_words(schedule: &Schedule) -> String {
    let most = schedule.attempts_max();
    let mut runs: Vec<(Duration, u32)> = Vec::new();
    for delay in (1..most).map_while(|tried| schedule.base_delay(tried)) {
        match runs.last_mut() {
            Some((last, times)) if *last == delay => *times += 1,
            _ => runs.push((delay, 1)),
        }
    }
    let told = |(delay, times): &(Duration, u32)| match times {
        1 => duration_text(*delay),
        times => format!("{times} × {}", duration_text(*delay)),
    };
    match runs.as_slice() {
        [] => "none, one attempt in all".to_owned(),
        runs => format!("after {}; {most} attempts in all", runs.iter().map(told).collect::<Vec<_>>().join(", ")),
    }
}

fn rotation(it: &Destination) -> Markup {
    html! {
        section.card.narrow {
            h2 { "Rotate the secret" }
            p.muted { "A new secret is made and shown once. The one before it goes on counting for a while, so that the receiver can change over." }
            form method="post" action={ (path(it.id)) "/rotate" } data-confirm=(ROTATED) {
                div.row {
                    div.field { label for="r-overlap" { "The old one counts for" }
                        select #r-overlap name="overlap" { option value="24h" { "24 hours" } option value="7d" { "7 days" } option value="1h" { "1 hour" } option value="0s" { "no longer" } } }
                    @if it.signatures.len() > 1 { div.field { label for="r-signature" { "Which signature" } input #r-signature type="text" name="signature" placeholder="all that share one secret" autocomplete="off"; } }
                }
                div.buttons { button type="submit" { (icon(Icon::Key)) "Rotate" } }
            }
        }
    }
}

/// The destination of the path, and a path of the API below it.
fn asked(visit: &Visit, verb: &str) -> Result<(DestinationId, String), Problem> {
    let id: DestinationId = visit.params.parse("id")?;
    visit.service().destination(&visit.sight()?, id)?;
    Ok((id, format!("{API}/{id}/{verb}")))
}

async fn steer(visit: Visit, verb: &str, done: &str) -> Result<Response, Problem> {
    let (id, api) = asked(&visit, verb)?;
    visit.ask(Method::POST, &api, None, None).await?;
    Ok(to(&format!("{}?done={done}", path(id))))
}

/// `POST /ui/destinations/{id}/pause`
pub(super) async fn pause(visit: Visit) -> Result<Response, Problem> {
    steer(visit, "pause", "paused").await
}

/// `POST /ui/destinations/{id}/resume`
pub(super) async fn resume(visit: Visit) -> Result<Response, Problem> {
    steer(visit, "resume", "resumed").await
}

/// `POST /ui/destinations/{id}/enable`: switches on what was switched off.
pub(super) async fn enable(visit: Visit) -> Result<Response, Problem> {
    let id: DestinationId = visit.params.parse("id")?;
    let tenant = visit.service().destination(&visit.sight()?, id)?.tenant.clone();
    visit.ask(Method::PUT, &format!("{API}/{id}"), Some(&tenant), Some(json!({"disabled": false}))).await?;
    Ok(to(&format!("{}?done=enabled", path(id))))
}

/// `POST /ui/destinations/{id}/confirm`
pub(super) async fn confirm(visit: Visit) -> Result<Response, Problem> {
    steer(visit, "confirm", "asked").await
}

/// `POST /ui/destinations/{id}/test`
pub(super) async fn test(visit: Visit) -> Result<Response, Problem> {
    let (id, api) = asked(&visit, "test")?;
    visit.ask(Method::POST, &api, None, Some(json!({}))).await?;
    Ok(to(&format!("{}?done=tested", path(id))))
}

/// `POST /ui/destinations/{id}/rotate`: the new secret, this once.
pub(super) async fn rotate(visit: Visit) -> Result<Response, Problem> {
    let (id, api) = asked(&visit, "secret/rotate")?;
    let question = Question {
        title: "Rotate the secret?".to_owned(),
        meaning: ROTATED.to_owned(),
        button: "Rotate",
        place: webhooks::PLACE,
        back: path(id),
    };
    if let Some(page) = question.unless_agreed(&visit) {
        return Ok(page);
    }
    let mut body = Map::new();
    for field in ["overlap", "signature"] {
        if let Some(text) = visit.form.given(field) {
            body.insert(field.to_owned(), Value::from(text));
        }
    }
    let rotated = visit.ask(Method::POST, &api, None, Some(Value::Object(body))).await?;
    let text = |name: &str| rotated[name].as_str().unwrap_or_default().to_owned();
    let until = text("previous_expires_at").parse::<Timestamp>().ok();
    let now = visit.service().now();
    let body = html! {
        section.card.narrow {
            (notice(Icon::Alert, "warn", html! { "This is the only time that the secret is shown. Give it to the receiver now." }))
            p.label { "The new secret" }
            code.secret { (text("secret")) }
            p { button type="button" hidden data-copy=(text("secret")) { (icon(Icon::Copy)) "Copy" } }
            @if let Some(until) = until.filter(|until| until.since(now) > Duration::ZERO) { p.muted { "The one before it counts until " (moment(until, now)) "." } }
            p { a.button href=(path(id)) { "Back to the destination" } }
        }
    };
    Ok(Page { title: "The secret was rotated", place: webhooks::PLACE, actions: html! {}, body }.show(&visit))
}
