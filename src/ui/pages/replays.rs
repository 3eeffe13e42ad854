//! Replays, which send again in bulk: counted first, then begun; and those that run or ran.

use ::http::{Method, StatusCode};
use maud::{Markup, html};
use serde_json::{Map, Value, json};

use super::super::act::Visit;
use super::super::between::Question;
use super::super::fields::Draft;
use super::super::filters::Filters;
use super::super::layout::Page;
use super::super::parts::{Icon, Links, badge, empty, icon, moment, notice, number};
use super::super::{once, to};
use super::deliveries::{Filter, destination_select, tenant_choice, tenant_select};
use super::things::stretch;
use crate::http::problem::{FieldError, Problem, ProblemCode};
use crate::http::response::Response;
use crate::model::{DeliveryState, ReplayId, ReplayState, ReplayWanted, Role, TenantId};
use crate::service::Sight;
use crate::service::replays::SeenReplay;

const PLACE: &str = "/ui/replays";
const API: &str = "/v1/replays";
/// What it means to stop a replay.
const STOPPED: &str = "The replay does not go on, and cannot be taken up again: the rest takes another one. What it has made \
                       due already is sent.";
/// The names that the form's query may have: those of the list of deliveries that it comes from.
pub(super) const PARAMETERS: [&str; 11] =
    ["state", "destination", "type", "status", "from", "to", "key", "id", "tenant", "rate", "count"];

/// Other tenants whose deliveries are counted at a glance beside the chosen one's.
const OTHERS_COUNTED_MAX: usize = 20;

fn tenant_of(visit: &Visit) -> Result<Option<TenantId>, Problem> {
    visit.tenant_asked()
}

/// `GET /ui/replays`
pub(super) async fn list(visit: Visit) -> Result<Response, Problem> {
    show(&visit, None).await
}

async fn show(visit: &Visit, refused: Option<Problem>) -> Result<Response, Problem> {
    let (service, now) = (visit.service(), visit.service().now());
    let replays = service.replays(&visit.sight()?).await?;
    let (rows, pager) = stretch(visit, &replays)?;
    let body = html! {
        @if let Some(problem) = &refused { div role="alert" { (notice(Icon::Alert, "bad", html! { (problem.detail()) })) } }
        @if visit.viewer.caller().reaches_all() {
            form.card method="get" action=(PLACE) { div.filters { (tenant_select(visit, &service.catalog())) div.buttons { button type="submit" { "Show" } } } }
        }
        section.card.flush {
            @if replays.is_empty() { (empty("No replays yet", html! { "What has failed can be sent again in bulk, once its receiver is well." })) }
            @else { div.scroll { table.stack {
                thead { tr { th scope="col" { "Replay" } th scope="col" { "State" } th scope="col" { "Of" } th.num scope="col" { "Resent" } th.num scope="col" { "Matched" } th scope="col" { "Begun" } th scope="col" { span.hidden { "Actions" } } } }
                tbody { @for seen in rows { (row(visit, seen, now)) } }
            } } (pager) }
        }
    };
    let actions = html! { @if visit.viewer.may(Role::Operate) { a.button.primary href="/ui/replays/new?state=failed" { (icon(Icon::Replay)) "New replay…" } } };
    let status = refused.map_or(StatusCode::OK, |problem| problem.code().status());
    Ok(Page { title: "Replays", place: PLACE, actions, body }.show_as(status, visit))
}

fn row(visit: &Visit, seen: &SeenReplay, now: crate::model::Timestamp) -> Markup {
    let replay = &seen.replay;
    let catalog = visit.service().catalog();
    let name = replay.wanted.destination.and_then(|no| catalog.destination_name(no)).unwrap_or("every destination");
    let (tone, picture) = match replay.state {
        ReplayState::Running => ("calm", Icon::Clock),
        ReplayState::Done => ("good", Icon::Check),
        ReplayState::Cancelled => ("flat", Icon::Slash),
        ReplayState::Failed => ("bad", Icon::Cross),
    };
    html! {
        tr {
            th scope="row" { (replay.id) }
            td data-label="State" { (badge(tone, picture, replay.state.as_str())) }
            td data-label="Of" { (replay.wanted.state.as_str()) " to " (name) @if visit.viewer.caller().reaches_all() { " of " (replay.wanted.tenant) } @if let Some(kind) = &replay.wanted.kind { ", " code { (kind) } } }
            td.num data-label="Resent" { (number(replay.done)) }
            td.num data-label="Matched" { @if !replay.exact { "at least " } (number(replay.matched)) }
            td data-label="Begun" { (moment(replay.created, now)) }
            td { @if replay.state == ReplayState::Running && visit.viewer.may(Role::Operate) {
                form method="post" action={ (PLACE) "/" (replay.id) "/cancel" } data-confirm={ "Stop the replay " (replay.id) "? " (STOPPED) } { button type="submit" { "Stop" } }
            } }
        }
    }
}

/// What a form or a link asks for, as the API takes it.
fn wanted(get: impl Fn(&str) -> Option<String>, dry_run: bool) -> Value {
    let mut body = Map::new();
    for name in ["destination", "type", "from", "to", "state"] {
        if let Some(text) = get(name) {
            body.insert(name.to_owned(), Value::from(text));
        }
    }
    if let Some(rate) = get("rate") {
        let events = rate.parse::<u64>().map_or_else(|_| json!(rate), |rate| json!(rate));
        body.insert("rate".to_owned(), json!({"events": events, "per": "1s"}));
    }
    if dry_run {
        body.insert("dry_run".to_owned(), json!(true));
    }
    Value::Object(body)
}

/// `GET /ui/replays/new`: what would be sent again.
pub(super) async fn new(visit: Visit) -> Result<Response, Problem> {
    let mut filters = Filters::of(&visit);
    let filter = Filter::read(&mut filters);
    filters.checked()?;
    let (catalog, tenant) = (visit.service().catalog(), tenant_of(&visit)?);
    let destination =
        filter.destination.map(|id| visit.service().destination(&visit.sight()?, id).map_err(Problem::from));
    let destination = destination.transpose()?;
    let tenant = destination.as_ref().map(|it| it.tenant.clone()).or(tenant);
    let state = match filter.state {
        Some(state @ (DeliveryState::Failed | DeliveryState::Cancelled | DeliveryState::Succeeded)) => state,
        _ => DeliveryState::Failed,
    };
    let get = |name: &str| match name {
        "destination" => filter.destination.map(|id| id.to_string()),
        "type" => filter.kind.as_ref().map(|kind| kind.to_string()),
        "from" => filter.from.map(|at| at.to_string()),
        "to" => filter.to.map(|at| at.to_string()),
        "state" => Some(state.as_str().to_owned()),
        _ => None,
    };
    let whose = visit.viewer.caller().clone().naming(tenant.clone(), visit.service())?.tenant();
    let (matched, at_least) = match visit.query.text("count") {
        Some("all") => {
            let count = visit.ask(Method::POST, API, tenant.as_ref(), Some(wanted(get, true))).await?;
            (count["matched"].as_u64().unwrap_or_default(), count["matched_at_least"] == true)
        }
        // A page must not take longer the more there is.
        _ => {
            let wanted = ReplayWanted {
                tenant: whose.clone(),
                destination: destination.as_ref().map(|it| it.no),
                kind: filter.kind.clone(),
                from: filter.from,
                to: filter.to,
                state,
            };
            let count = visit.service().glance_at_replayable(&wanted).await?;
            (count.matched, !count.exact)
        }
    };
    // Who did not ask for one tenant may think that this is about all of them.
    let mut others = Vec::new();
    let (mut left_out, sight) = (0, visit.sight()?);
    if sight == Sight::All && tenant.is_none() {
        let tenants: Vec<_> = catalog.tenants().filter(|it| it.id != whose).map(|it| it.id.clone()).collect();
        left_out = tenants.len().saturating_sub(OTHERS_COUNTED_MAX);
        for other in tenants.into_iter().take(OTHERS_COUNTED_MAX) {
            let (kind, from, to) = (filter.kind.clone(), filter.from, filter.to);
            let wanted = ReplayWanted { tenant: other.clone(), destination: None, kind, from, to, state };
            let count = visit.service().glance_at_replayable(&wanted).await?;
            if count.matched > 0 || !count.exact {
                others.push((other, count));
            }
        }
    }
    let has_deleted = destination.is_none() && catalog.tombstones().any(|it| sight.takes(&it.tenant));
    let is_glance = visit.query.text("count") != Some("all");
    let what = html! {
        @if at_least { "at least " } strong { (number(matched)) } " " (state.as_str()) @if matched == 1 { " delivery" } @else { " deliveries" }
        " of the tenant " strong { (whose) }
        @if let Some(it) = &destination { " to " strong { (it.name) } }
        @if let Some(kind) = &filter.kind { ", of the type " code { (kind) } }
        @if let Some(from) = filter.from { ", accepted from " (from) }
        @if let Some(to) = filter.to { ", accepted before " (to) }
    };
    let states: Vec<_> =
        ["failed", "cancelled", "succeeded"].iter().map(|state| ((*state).to_owned(), (*state).to_owned())).collect();
    let body = html! {
        section.card.narrow {
            h2 { "1. Which deliveries" }
            form method="get" action={ (PLACE) "/new" } {
                div.filters {
                    (super::super::parts::select("state", "State", &states, state.as_str(), "failed", None))
                    (destination_select(&filters, &sight, &catalog, filter.destination))
                    (filters.line("type", "Type or pattern", "transaction.*"))
                    (filters.time("from", "Accepted from (UTC)"))
                    (filters.time("to", "Accepted before (UTC)"))
                    @if visit.viewer.caller().reaches_all() { (tenant_choice(&catalog, whose.as_str(), "default")) }
                    div.buttons { button type="submit" { "Count" } }
                }
            }
        }
        section.card.narrow {
            h2 { "2. Resend them" }
            p role="status" { "This matches " (what) "." }
            @if at_least && is_glance { p { a href=(Links::of(&visit).with("count", "all").path()) { "Count them all" } } }
            @if !others.is_empty() {
                p { "A replay is of one tenant. The same of others, each by itself:" }
                ul { @for (other, count) in &others { li {
                    a href=(Links::of(&visit).without("count").with("tenant", other.as_str()).path()) { (other) }
                    ": " @if !count.exact { "at least " } (number(count.matched)) " " (state.as_str())
                } } }
            }
            @if left_out > 0 { p.muted { (number(left_out as u64)) " further tenants were not looked at: choose one above." } }
            @if has_deleted { p.muted { "Deliveries of deleted webhooks are left out: there is nowhere to send them." } }
            @if state == DeliveryState::Succeeded { (notice(Icon::Alert, "warn", html! { "These were taken already. Receivers get them a second time." })) }
            @if matched == 0 && !at_least { p.muted { "There is nothing to send." } }
            @else {
                (start(&visit, &Draft::default(), |name| if name == "tenant" { Some(whose.to_string()) } else { get(name) }, html! { "Resend " @if at_least { "them all" } @else { (number(matched)) } }))
            }
        }
    };
    Ok(Page { title: "New replay", place: PLACE, actions: html! {}, body }.show(&visit))
}

/// What a replay is about, in fields of the form that begins it.
const ABOUT: [(&str, &str); 6] = [
    ("tenant", "Tenant"),
    ("state", "State"),
    ("destination", "Destination"),
    ("type", "Type or pattern"),
    ("from", "Accepted from"),
    ("to", "Accepted before"),
];

/// The form that begins a replay.
fn start(visit: &Visit, draft: &Draft, get: impl Fn(&str) -> Option<String>, button: Markup) -> Markup {
    html! {
        (draft.summary())
        form method="post" action=(PLACE) {
            @for (name, _) in ABOUT { @if let Some(value) = get(name) { input type="hidden" name=(name) value=(value); } }
            (once::field(visit))
            (draft.line("rate", "Deliveries a second", "100", "Slower is kinder to a receiver that has just come back.", true))
            div.buttons { a.button.left href="/ui/deliveries" { "Leave it" } button.primary type="submit" { (icon(Icon::Replay)) (button) } }
        }
    }
}

/// `POST /ui/replays`
pub(super) async fn create(visit: Visit) -> Result<Response, Problem> {
    let form = visit.form.clone();
    let tenant: Option<TenantId> = form.given("tenant").and_then(|tenant| tenant.parse().ok());
    let body = wanted(|name| form.given(name).map(str::to_owned), false);
    let made = match body["rate"]["events"].as_str() {
        Some(_) => {
            let (pointer, detail) = ("/rate".to_owned(), "is not a whole number".to_owned());
            Err(Problem::of_fields(ProblemCode::BadField, vec![FieldError { pointer, detail }]))
        }
        None => visit.make(API, tenant.as_ref(), body).await,
    };
    if let Err(problem) = made {
        return if once::ends_the_form(&problem) { Err(problem) } else { again(&visit, problem) };
    }
    let whose =
        if visit.viewer.caller().reaches_all() { tenant.map(|tenant| format!("&tenant={tenant}")) } else { None };
    Ok(to(&format!("{PLACE}?done=replaying{}", whose.unwrap_or_default())))
}

/// The form that begins a replay once more, with what is wrong with it.
fn again(visit: &Visit, problem: Problem) -> Result<Response, Problem> {
    let (status, form) = (problem.code().status(), visit.form.clone());
    let get = |name: &str| form.given(name).map(str::to_owned);
    let name =
        |id: &str| visit.service().destination(&visit.sight().ok()?, id.parse().ok()?).ok().map(|it| it.name.clone());
    let mut back = url::form_urlencoded::Serializer::new(String::new());
    back.extend_pairs(ABOUT.iter().filter_map(|(name, _)| Some((*name, get(name)?))));
    let draft = Draft::refused(form.clone(), problem);
    let body = html! {
        section.card.narrow {
            dl.facts {
                @for (field, label) in ABOUT { @if let Some(value) = get(field) {
                    dt { (label) } dd { (name(&value).filter(|_| field == "destination").unwrap_or(value)) }
                } }
            }
            p { a href={ (PLACE) "/new?" (back.finish()) } { "Count again, or choose others" } }
            (start(visit, &draft, get, html! { "Resend them" }))
        }
    };
    Ok(Page { title: "New replay", place: PLACE, actions: html! {}, body }.show_as(status, visit))
}

/// `POST /ui/replays/{id}/cancel`
pub(super) async fn cancel(visit: Visit) -> Result<Response, Problem> {
    let id: ReplayId = visit.params.parse("id")?;
    visit.ask(Method::GET, &format!("{API}/{id}"), None, None).await?;
    let question = Question {
        title: format!("Stop the replay {id}?"),
        meaning: STOPPED.to_owned(),
        button: "Stop",
        place: PLACE,
        back: PLACE.to_owned(),
    };
    if let Some(page) = question.unless_agreed(&visit) {
        return Ok(page);
    }
    match visit.ask(Method::POST, &format!("{API}/{id}/cancel"), None, None).await {
        Ok(_) => Ok(to(&format!("{PLACE}?done=stopped"))),
        // It has ended by itself meanwhile, or somebody else has stopped it.
        Err(problem) if problem.code() == ProblemCode::Conflict => show(&visit, Some(problem)).await,
        Err(problem) => Err(problem),
    }
}
