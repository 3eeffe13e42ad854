//! The audit log: who changed what, newest first.

use maud::{Markup, html};
use serde_json::Value;

use super::super::act::Visit;
use super::super::filters::Filters;
use super::super::layout::Page;
use super::super::parts::{empty, moment_cell};
use super::things::{rows, text};
use crate::http::problem::Problem;
use crate::http::response::Response;
use crate::model::Timestamp;
use crate::model::audit::Action;

const PLACE: &str = "/ui/audit";
/// Characters of what was before or after, of each record.
const HALF_CHARS_MAX: usize = 800;
/// The names of the filters, as the API has them.
pub(super) const FILTERS: [&str; 8] = ["tenant", "actor", "action", "object", "from", "to", "after", "done"];

/// `GET /ui/audit`
pub(super) async fn list(visit: Visit) -> Result<Response, Problem> {
    let mut filters = Filters::of(&visit);
    let _read = (filters.moment("from"), filters.moment("to"));
    let (records, pager) = match filters.are_wrong() {
        true => (Vec::new(), html! {}),
        false => rows(&visit, "/v1/audit", "records").await?,
    };
    let is_filtered = FILTERS[..6].iter().any(|name| !filters.text(name).is_empty());
    let actions: Vec<_> = Action::ALL.iter().map(|it| (it.as_str().to_owned(), it.as_str().to_owned())).collect();
    let body = html! {
        form.card method="get" action=(PLACE) role="search" {
            div.filters {
                (filters.line("actor", "Who", "a key's id, uid:1000, a person's id"))
                (filters.choice("action", "What", &actions, "anything"))
                (filters.line("object", "To what", "an id"))
                @if visit.viewer.caller().reaches_all() { (filters.line("tenant", "Tenant", "")) }
                (filters.time("from", "From (UTC)"))
                (filters.time("to", "Before (UTC)"))
                div.buttons { button.primary type="submit" { "Show" } a.button href=(PLACE) { "All" } }
            }
        }
        @if !filters.are_wrong() { section.card.flush aria-label="Records" {
            @if records.is_empty() {
                (empty("No records", html! {
                    @if is_filtered { "None match these filters. " a href=(PLACE) { "Show all" } }
                    @else { "Every change of configuration, and every look at a payload, leaves one." }
                }))
            }
            @else {
                div.scroll {
                    table.stack {
                        thead { tr { th.num scope="col" { "No." } th scope="col" { "When (UTC)" } th scope="col" { "Who" } th scope="col" { "What" } th scope="col" { "To what" } th scope="col" { "How" } } }
                        tbody { @for row in &records { (record(&visit, row)) } }
                    }
                }
                (pager)
            }
        } }
        p.muted.small {
            "Each record carries the hash of the one before it. " code { "postrider audit verify" }
            " follows the chain and shows whether one is missing or altered."
        }
    };
    Ok(Page { title: "Audit", place: PLACE, actions: html! {}, body }.show_as(filters.status(), &visit))
}

fn record(visit: &Visit, row: &Value) -> Markup {
    let record = &row["record"];
    let (who, object) = (&record["actor"], &record["object"]);
    let from = match (&record["from"]["address"], &record["from"]["uid"]) {
        (Value::String(address), _) => format!("from {address}"),
        (_, Value::Number(uid)) => format!("on the socket, as uid {uid}"),
        _ => String::new(),
    };
    html! {
        tr {
            td.num data-label="No." { (row["number"]) }
            td.nowrap data-label="When" {
                @match text(record, "at").parse::<Timestamp>() { Ok(at) => (moment_cell(at, visit.service().now())), Err(_) => { (text(record, "at")) } }
            }
            td data-label="Who" { div { code { (text(who, "id")) } span.sub { (text(who, "type")) @if let Some(role) = who["role"].as_str() { ", " (role) } @if !from.is_empty() { ", " (from) } } } }
            td data-label="What" { (text(record, "action")) }
            td data-label="To what" { div { @if let Some(id) = object["id"].as_str() { code { (id) } } @if let Some(tenant) = record["tenant"].as_str() { span.sub { (tenant) } } } }
            td data-label="How" { div {
                @if !record["before"].is_null() || !record["after"].is_null() {
                    @let id = format!("r-{}", row["number"]);
                    button.ghost.small type="button" popovertarget=(id) { "Show" span.hidden { " what record " (row["number"]) " changed" } }
                    div.card.pop popover #(id) {
                        h2 { (text(record, "action")) }
                        (half("Before", &record["before"])) (half("After", &record["after"]))
                        div.buttons { button type="button" popovertarget=(id) popovertargetaction="hide" { "Close" } }
                    }
                }
            } }
        }
    }
}

/// A record's half as text, cut where fifty of them would make a page heavy.
fn shown(value: &Value) -> String {
    let mut text = serde_json::to_string_pretty(value).unwrap_or_default();
    if let Some((end, _)) = text.char_indices().nth(HALF_CHARS_MAX) {
        text.truncate(end);
        text.push_str("\n… cut here; `postrider audit list --json` has all of it");
    }
    text
}

fn half(label: &str, value: &Value) -> Markup {
    html! { @if !value.is_null() { h3 { (label) } pre tabindex="0" { (shown(value)) } } }
}
