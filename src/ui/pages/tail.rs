//! The live tail: attempts as they end.

use ::http::Method;
use maud::html;

use super::super::act::Visit;
use super::super::assets;
use super::super::filters::Filters;
use super::super::layout::Page;
use super::super::parts::{Icon, icon, notice};
use super::super::session;
use super::deliveries::{destination_select, tenant_select};
use crate::http::problem::Problem;
use crate::http::response::Response;
use crate::model::{DestinationId, Outcome, TypePattern};

const PLACE: &str = "/ui/tail";
/// What may be filtered, by the API's names.
pub(super) const FILTERS: [&str; 4] = ["destination", "type", "outcome", "tenant"];

/// `GET /ui/tail`: the frame; the script fills it from the stream.
pub(super) async fn show(visit: Visit) -> Result<Response, Problem> {
    let mut filters = Filters::of(&visit);
    let _read = (filters.read::<TypePattern>("type"), filters.read::<DestinationId>("destination"));
    let outcomes: Vec<_> = Outcome::ALL.iter().map(|it| (it.as_str().to_owned(), it.as_str().to_owned())).collect();
    let is_live = !filters.are_wrong();
    let body = html! {
        form.card method="get" action=(PLACE) role="search" {
            div.filters {
                (filters.line("type", "Event type", "transaction.*"))
                (filters.choice("outcome", "Outcome", &outcomes, "any"))
                (destination_select(&filters, &visit.sight()?, &visit.service().catalog(), filters.text("destination").parse().ok()))
                @if visit.viewer.caller().reaches_all() { (tenant_select(&visit, &visit.service().catalog())) }
                div.buttons { button.primary type="submit" { "Filter" } a.button href=(PLACE) { "All" } }
            }
        }
        noscript { (notice(Icon::Alert, "warn", html! { "The live tail needs script. " code { "postrider tail" } " shows the same on the command line, and " a href="/ui/deliveries" { "Deliveries" } " what has been." })) }
        @if is_live { section.card.flush aria-labelledby="attempts" data-tail={ (PLACE) "/stream" } {
            header {
                h2 #attempts { "Attempts" }
                span.live data-live data-state="wait" role="status" { "connecting" }
                button type="button" data-pause hidden aria-pressed="false" { (icon(Icon::Pause)) span { "Pause" } }
            }
            div.scroll {
                table.stack.tail-log {
                    thead { tr { th scope="col" { "Ended" } th scope="col" { "Outcome" } th scope="col" { "Event type" } th scope="col" { "Destination" } th.num scope="col" { "Attempt" } th.num scope="col" { "Status" } th.num scope="col" { "Took" } } }
                    tbody data-rows aria-live="off" {}
                }
            }
            p.muted data-waiting { "Attempts appear here as they end. What has been stands in " a href="/ui/deliveries" { "Deliveries" } "." }
        }
        script src=(assets::TAIL.path()) defer {} }
    };
    Ok(Page { title: "Live tail", place: PLACE, actions: html! {}, body }.show_as(filters.status(), &visit))
}

/// `GET /ui/tail/stream`: the API's stream, for the viewer, for as long as his session goes on.
pub(super) async fn stream(visit: Visit) -> Result<Response, Problem> {
    let asked = url::form_urlencoded::parse(visit.request.query_text().as_bytes());
    let asked = asked.filter(|(name, value)| name != "tenant" && !value.is_empty());
    let query = url::form_urlencoded::Serializer::new(String::new()).extend_pairs(asked).finish();
    let answer = visit.ask_raw(Method::GET, &format!("/v1/tail?{query}"), visit.tenant_asked()?.as_ref(), None).await?;
    let token = session::token(&visit.request, &visit.house.settings).filter(|_| visit.viewer.has_session());
    Ok(match token {
        Some(token) => answer.while_it(move || visit.service().goes_on(token.expose())),
        // Whoever opens the admin socket has no session that could end.
        None => answer,
    })
}
