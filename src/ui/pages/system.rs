//! The installation itself: what it says of itself, and what it is set to.

use maud::{Markup, html};

use super::super::act::Visit;
use super::super::facts::Facts;
use super::super::layout::Page;
use super::super::parts::{Icon, badge, bytes, copied, moment, number};
use super::overview::warnings;
use crate::http::problem::{Problem, ProblemCode};
use crate::http::response::Response;
use crate::model::{Role, Timestamp};

/// `GET /ui/system`
pub(super) async fn show(visit: Visit) -> Result<Response, Problem> {
    if !visit.viewer.caller().reaches_all() {
        return Err(Problem::new(
            ProblemCode::Forbidden,
            "the installation itself is shown to those who see all tenants",
        ));
    }
    let facts = (visit.house.facts)().await;
    let service = visit.service();
    let now = service.now();
    let chain = service.chain();
    let body = html! {
        (warnings(&facts, now))
        div.grid {
            div {
                (checks(&visit, &facts, now))
                section.card {
                    h2 { "Daemon" }
                    dl.facts {
                        dt { "Version" } dd { (facts.version) }
                        dt { "Started" } dd { (moment(facts.started, now)) }
                        dt { "Own certificate" } dd { @match facts.certificate_expires { Some(at) => { "expires " (moment(at, now)) }, None => "none: no TLS on the admin listener" } }
                        dt { "Receivers' certificates" } dd { @match facts.receivers_expire { Some(at) => { "the first expires " (moment(at, now)) }, None => "none seen since the start" } }
                    }
                }
            }
            section.card {
                h2 { "Store" }
                dl.facts {
                    dt { "File" } dd { code { (facts.store) } }
                    dt { "Length" } dd { (facts.store_bytes.map_or("–".to_owned(), bytes)) }
                    dt { "On the disk" } dd { (facts.store_disk_bytes.map_or("–".to_owned(), bytes)) }
                    dt { "Left on that disk" } dd { (facts.disk_free.map_or("–".to_owned(), bytes)) }
                    dt { "Audit log" } dd { "records " (number(chain.anchor.number + 1)) " to " (number(chain.head.number)) }
                    dt { "Head of its chain" } dd { (copied(&chain.head.to_string())) }
                }
            }
        }
        @if visit.viewer.may(Role::Admin) { (configuration(&facts)) }
    };
    Ok(Page { title: "System", place: "/ui/system", actions: html! {}, body }.show(&visit))
}

fn checks(visit: &Visit, facts: &Facts, now: Timestamp) -> Markup {
    let service = visit.service();
    let day = std::time::Duration::from_secs(24 * 3600);
    let lasts = |at: Option<Timestamp>| at.is_none_or(|at| at.since(now) > 14 * day);
    let rows = [
        (service.refuses_events().is_none(), "Events are taken", "see the message above"),
        (
            facts.disk_free.is_none_or(|free| free > facts.disk_reserve.saturating_mul(4)),
            "There is room on the disk",
            "free some space, or shorten [retention]",
        ),
        (lasts(facts.certificate_expires), "The own certificate lasts two weeks and more", "replace admin.tls_cert"),
        (lasts(facts.receivers_expire), "Receivers' certificates last two weeks and more", "tell the receiver"),
        (service.catalog().destinations().next().is_some(), "There is a destination", "add a webhook"),
    ];
    html! {
        section.card {
            h2 { "Checks" }
            ul.checks { @for (is_well, words, remedy) in rows { li {
                @if is_well { (badge("good", Icon::Check, "well")) " " (words) }
                @else { (badge("bad", Icon::Cross, "look")) " " (words) ": not so; " (remedy) }
            } } }
            p.hint { "On the machine itself " code { "postrider check" } " also looks at files, rights and addresses." }
        }
    }
}

fn configuration(facts: &Facts) -> Markup {
    html! {
        section.card.flush.late {
            header { h2 { "Effective configuration" } span.muted.small { "what is not a default stands out" } }
            div.scroll { table.stack {
                thead { tr { th scope="col" { "Section" } th scope="col" { "Key" } th scope="col" { "Value" } th scope="col" { "From" } } }
                tbody { @for it in facts.configuration.iter() { tr {
                    td data-label="Section" { code { (it.heading) } }
                    th scope="row" { code { (it.key) } }
                    td data-label="Value" { code { @if it.is_default { span.muted { (it.value) } } @else { strong { (it.value) } } } }
                    td data-label="From" { (it.origin) }
                } } }
            } }
        }
    }
}
