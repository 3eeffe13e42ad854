//! One delivery: its way so far, attempt by attempt, and what comes next.
//!
//! Secrets and card data were masked before anything was stored; what a receiver wrote is shown as text, and only to whoever sees
//! payloads: it may echo what it was sent.

use maud::{Markup, html};

use super::super::act::Visit;
use super::super::chart;
use super::super::parts::{Icon, copied, delivery_badge, icon, moment_told, took};
use super::deliveries::{destination_link, outcome};
use crate::model::delivery::Phases;
use crate::model::destination::Format;
use crate::model::mask::PayloadMask;
use crate::model::{Attempt, DeliveryState, Destination, EventId, Headers, Timestamp, WaitingReason, words};
use crate::mouth::caller::Caller;
use crate::service::{Lane, SeenDelivery};

/// When the next attempt will be made, as far as that can be told: what is due waits for its destination.
fn next_words(seen: &SeenDelivery, next: Timestamp, lane: Lane, now: Timestamp) -> Markup {
    let opens = lane.health.shut_until.max(lane.health.hold_until).filter(|until| *until > now);
    html! {
        @if seen.state == DeliveryState::Held { "once the destination takes deliveries again" }
        @else if seen.waiting == Some(WaitingReason::InFlight) { "at this moment" }
        @else if seen.waiting == Some(WaitingReason::Order) { "when its turn comes" }
        @else if let Some(opens) = opens.filter(|opens| *opens > next) { "when the destination is tried again, " (moment_told(opens, now)) }
        @else if next <= now { "as soon as the destination takes more" }
        @else { (moment_told(next, now)) }
    }
}

/// What the page says below its title.
pub(super) fn body(visit: &Visit, seen: &SeenDelivery) -> Markup {
    let (service, delivery) = (visit.service(), &seen.delivery);
    let (catalog, now) = (service.catalog(), service.now());
    let destination = catalog.destination(delivery.key.destination).map(|it| &**it);
    let head = &delivery.head;
    let lane = service.lane(delivery.key.destination);
    let ending = delivery.ended.map(|ended| ended.ending.as_str());
    let reason = seen.waiting.map(|reason| reason.as_str()).or(ending).unwrap_or_default();
    let why = words::why(seen.state.as_str(), reason, destination.is_some_and(|it| it.disabled));
    html! {
        p.crumbs { "Delivery of " a href={ "/ui/events/" (seen.id.event) } { "event" } " to " (destination_link(&catalog, seen)) }
        section.card {
            dl.facts {
                dt { "State" } dd { (delivery_badge(seen.state)) " " (why)
                    @if destination.is_none() { ". Its destination was deleted: it cannot be sent again" } }
                @if let Some(next) = seen.next_attempt_at {
                    dt { "Next attempt" } dd { (next_words(seen, next, lane, now)) }
                }
                @if let Some(before) = &seen.waits_for { dt { "Waits for" } dd { a href={ "/ui/deliveries/" (before) } { "the one before it" } } }
                @if let Some(ended) = delivery.ended { dt { "Ended" } dd { (moment_told(ended.at, now)) } }
                dt { "Delivery" } dd { (copied(&seen.id.to_string())) }
                dt { "Event" } dd { (copied(&seen.id.event.to_string())) }
                @if let Some(id) = &head.producer_id { dt { "Producer's id" } dd { (copied(id.as_str())) } }
                @if let Some(key) = &head.key {
                    dt { "Ordering key" } dd { a href={ "/ui/deliveries?" (url::form_urlencoded::Serializer::new(String::new()).append_pair("key", key.as_str()).finish()) } { (key.as_str()) } }
                }
                dt { "Tenant" } dd { (head.tenant) }
                dt { "Accepted" } dd { (moment_told(head.accepted, now)) }
            }
        }
        section.card {
            h2 { "Attempts" }
            @if delivery.attempts.is_empty() { p.muted { "None yet." } }
            ol.timeline {
                @for attempt in &delivery.attempts { (attempt_row(seen.id.event, attempt, destination, visit.viewer.caller(), service.mask(), now)) }
                @if let Some(next) = seen.next_attempt_at {
                    li { span.dot.warn {} header { strong { "Next" } span { (next_words(seen, next, lane, now)) } span.muted { (why) } } }
                }
            }
        }
    }
}

fn attempt_row(
    event: EventId,
    attempt: &Attempt,
    destination: Option<&Destination>,
    caller: &Caller,
    mask: &PayloadMask,
    now: Timestamp,
) -> Markup {
    let tone = match attempt.outcome {
        crate::model::Outcome::Succeeded => "good",
        crate::model::Outcome::Failed => "bad",
        crate::model::Outcome::Unknown => "warn",
    };
    let Phases { dns, connect, tls, head, body } = attempt.phases;
    let reason = attempt.reason.map(|reason| words::reason(reason.as_str(), attempt.trigger.as_str()));
    // What says no more than the status and the reason do is left out.
    let said = attempt.status.map(|status| format!("status {status}"));
    let says_more = |error: &&String| {
        let rest = said.as_ref().and_then(|said| error.strip_prefix(said.as_str())).unwrap_or(error);
        !rest.is_empty() && rest.strip_prefix(": ") != reason
    };
    let error = attempt.error.as_ref().filter(says_more);
    let parts = [("dns", dns), ("connect", connect), ("tls", tls), ("head", head), ("body", body)];
    html! {
        li #{ "attempt-" (attempt.number) } {
            span class={ "dot " (tone) } {}
            header {
                strong { "Attempt " (attempt.number) }
                (outcome(attempt))
                span { (moment_told(attempt.started, now)) ", took " (took(attempt.duration)) }
                span.muted { (trigger_words(attempt.trigger.as_str())) }
            }
            @if let Some(reason) = reason { p { (reason) } }
            @if let Some(error) = error { p.muted { (error) } }
            p.small.muted {
                @if let Some(address) = attempt.address { "to " code { (address) } ", " }
                @if tls.is_some() { "over TLS, on a new connection" }
                @else if connect.is_some() { "on a new connection" }
                @else { "on a connection that was open" }
                @if attempt.reconnected { ", dialled anew once because the open one had been closed" }
            }
            (chart::phases(&parts))
            details {
                summary { "Request and reply" }
                (headers("Request", &attempt.request_headers))
                @if let Some(destination) = destination {
                    h3 { "As a command" }
                    (copied_block(&curl(destination, &attempt.request_headers)))
                    p.small.muted { (body_words(destination.format)) " The payload is on the " a href={ "/ui/events/" (event) } { "event's page" } "." }
                }
                (headers("Reply", &attempt.response_headers))
                h3 { "Reply's body" }
                @if !caller.sees_payloads() { p.muted { "Shown to the roles operate and admin only." } }
                @else if attempt.response_body.is_empty() { p.muted { "Empty, or none came." } }
                @else { pre tabindex="0" { (mask.show_reply(&attempt.response_body)) } }
            }
        }
    }
}

fn trigger_words(trigger: &str) -> &str {
    match trigger {
        "schedule" => "by its schedule",
        "manual" => "resent by hand",
        "replay" => "resent in bulk",
        "test" => "a test",
        "confirmation" => "a request for confirmation",
        other => other,
    }
}

fn headers(title: &str, headers: &Headers) -> Markup {
    html! {
        h3 { (title) }
        @if headers.as_str().is_empty() { p.muted { "None came." } }
        @else { pre tabindex="0" { (headers.as_str()) } }
    }
}

fn copied_block(text: &str) -> Markup {
    html! { pre.command tabindex="0" { (text) } p { button type="button" hidden data-copy=(text) { (icon(Icon::Copy)) "Copy as curl" } } }
}

/// What stands in the file that the command sends: bodies are made for each attempt, and not kept.
fn body_words(format: Format) -> &'static str {
    match format {
        Format::Raw | Format::CloudEventsBinary => "The body was the event's payload: save it as the file payload.",
        Format::Console | Format::Notification | Format::Standard | Format::CloudEvents => {
            "The body was made of the event's payload for this attempt, in the destination's format, and is not kept: the file \
             payload has to hold one like it."
        }
    }
}

/// The request as a command for a shell. What was masked stays masked; the body is put in by hand.
fn curl(destination: &Destination, headers: &Headers) -> String {
    let quoted = |text: &str| format!("'{}'", text.replace('\'', r"'\''"));
    let mut text = format!("curl -X {} {}", destination.method.as_str(), quoted(&destination.url));
    for (name, value) in headers.iter() {
        // What belongs to the connection is curl's own.
        if !["host", "content-length", "connection"].contains(&name.to_ascii_lowercase().as_str()) {
            text.push_str(&format!(" \\\n  -H {}", quoted(&format!("{name}: {value}"))));
        }
    }
    text.push_str(" \\\n  --data-binary @payload");
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{DestinationId, DestinationNo, TenantId};
    use uuid::Uuid;

    /// What receivers and operators chose cannot leave its quotes in a shell.
    #[test]
    fn a_command_is_quoted() {
        let (no, id) = (DestinationNo(1), DestinationId(Uuid::nil()));
        let url = "https://a.example/'; rm -rf /";
        let destination = Destination::new(no, id, TenantId::default_tenant(), "d", url, Timestamp::ZERO);
        let headers: Headers = [("Authorization", "***"), ("X-A", "it's"), ("Host", "a")].into_iter().collect();
        assert_eq!(
            curl(&destination, &headers),
            "curl -X POST 'https://a.example/'\\''; rm -rf /' \\\n  -H 'Authorization: ***' \\\n  -H 'X-A: it'\\''s' \\\n  --data-binary @payload"
        );
    }
}
