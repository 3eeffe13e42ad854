//! Tenants: who owns things, and who stands above whom.

use ::http::{Method, StatusCode};
use maud::{Markup, html};
use serde_json::{Value, json};

use super::super::act::Visit;
use super::super::between::Question;
use super::super::fields::Draft;
use super::super::form::Form;
use super::super::layout::Page;
use super::super::to;
use super::things::{deletion, rows, segment, text, when};
use crate::http::problem::Problem;
use crate::http::response::Response;
use crate::model::Role;

const PLACE: &str = "/ui/tenants";
const API: &str = "/v1/tenants";
/// What it means to delete a tenant.
const DELETED: &str =
    "A tenant that still has webhooks, subscriptions, keys or children cannot be deleted: they go first.";

/// `GET /ui/tenants`
pub(super) async fn list(visit: Visit) -> Result<Response, Problem> {
    show(&visit, &Draft::default()).await
}

async fn show(visit: &Visit, draft: &Draft) -> Result<Response, Problem> {
    let (tenants, pager) = rows(visit, API, "tenants").await?;
    let body = html! {
        section.card.flush aria-label="Tenants" {
            div.scroll {
                table.stack {
                    thead { tr { th scope="col" { "Id" } th scope="col" { "Name" } th scope="col" { "Parent" } th scope="col" { "Created" } } }
                    tbody {
                        @for tenant in &tenants {
                            tr {
                                th scope="row" { a href={ (PLACE) "/" (segment(text(tenant, "id"))) } { (text(tenant, "id")) } }
                                td data-label="Name" { (text(tenant, "name")) }
                                td data-label="Parent" { @match tenant["parent"].as_str() { Some(parent) => (parent), None => "–" } }
                                td.nowrap data-label="Created" { (when(visit, tenant, "created")) }
                            }
                        }
                    }
                }
            }
            (pager)
        }
        @if may_change(visit) {
            section.card.narrow aria-labelledby="new" {
                h2 #new { "Add a tenant" }
                (draft.summary())
                form method="post" action=(PLACE) {
                    (draft.line("id", "Id", "", "1 to 64 letters, digits, “_”, “-”, “.”. It stays as it is.", true))
                    (fields(draft, &Value::Null))
                    div.buttons { button.primary type="submit" { "Add tenant" } }
                }
            }
        }
    };
    let status = if draft.was_refused() { StatusCode::BAD_REQUEST } else { StatusCode::OK };
    Ok(Page { title: "Tenants", place: PLACE, actions: html! {}, body }.show_as(status, visit))
}

/// Tenants are for administrators of all of them, as the API says.
fn may_change(visit: &Visit) -> bool {
    visit.viewer.may(Role::Admin) && visit.viewer.caller().reaches_all()
}

fn fields(draft: &Draft, tenant: &Value) -> Markup {
    html! {
        (draft.line("name", "Name", text(tenant, "name"), "For people. Empty: the same as the id.", false))
        (draft.line("parent", "Parent", text(tenant, "parent"), "A tenant above this one, whose rolled-up subscriptions see its events. Empty: none.", false))
    }
}

fn asked(form: &Form) -> Value {
    let mut body = json!({"parent": form.given("parent")});
    if let Some(name) = form.given("name") {
        body["name"] = name.into();
    }
    body
}

/// `POST /ui/tenants`
pub(super) async fn create(visit: Visit) -> Result<Response, Problem> {
    let form = visit.form.clone();
    let mut body = asked(&form);
    body["id"] = form.text("id").into();
    match visit.ask(Method::POST, API, None, Some(body)).await {
        Ok(_) => Ok(to("/ui/tenants?done=created")),
        Err(problem) => show(&visit, &Draft::refused(form, problem)).await,
    }
}

fn api_path(visit: &Visit) -> String {
    format!("{API}/{}", segment(visit.params.text("id")))
}

fn own_path(visit: &Visit) -> String {
    format!("{PLACE}/{}", segment(visit.params.text("id")))
}

/// `GET /ui/tenants/{id}`
pub(super) async fn read(visit: Visit) -> Result<Response, Problem> {
    show_one(&visit, &Draft::default()).await
}

async fn show_one(visit: &Visit, draft: &Draft) -> Result<Response, Problem> {
    let tenant = visit.ask(Method::GET, &api_path(visit), None, None).await?;
    let id = text(&tenant, "id");
    let in_query = url::form_urlencoded::byte_serialize(id.as_bytes()).collect::<String>();
    let body = html! {
        section.card.narrow {
            @if may_change(visit) {
                (draft.summary())
                form method="post" action=(own_path(visit)) {
                    (fields(draft, &tenant))
                    div.buttons { a.button href=(PLACE) { "Close" } button.primary type="submit" { "Save changes" } }
                }
            } @else {
                dl.facts {
                    dt { "Name" } dd { (text(&tenant, "name")) }
                    dt { "Parent" } dd { @match tenant["parent"].as_str() { Some(parent) => (parent), None => "none" } }
                    dt { "Created" } dd { (when(visit, &tenant, "created")) }
                }
            }
            ul {
                li { a href={ "/ui/webhooks?tenant=" (in_query) } { "Its webhooks" } }
                li { a href={ "/ui/deliveries?tenant=" (in_query) } { "Its deliveries" } }
                li { a href={ "/ui/events?tenant=" (in_query) } { "Its events" } }
            }
        }
        @if may_change(visit) {
            (deletion(&own_path(visit), "tenant", id, DELETED))
        }
    };
    let status = if draft.was_refused() { StatusCode::BAD_REQUEST } else { StatusCode::OK };
    Ok(Page { title: &format!("Tenant {id}"), place: PLACE, actions: html! {}, body }.show_as(status, visit))
}

/// `POST /ui/tenants/{id}`
pub(super) async fn update(visit: Visit) -> Result<Response, Problem> {
    let form = visit.form.clone();
    match visit.ask(Method::PUT, &api_path(&visit), None, Some(asked(&form))).await {
        Ok(_) => Ok(to(&format!("{}?done=saved", own_path(&visit)))),
        Err(problem) => show_one(&visit, &Draft::refused(form, problem)).await,
    }
}

/// `POST /ui/tenants/{id}/delete`
pub(super) async fn delete(visit: Visit) -> Result<Response, Problem> {
    let tenant = visit.ask(Method::GET, &api_path(&visit), None, None).await?;
    let question = Question {
        title: format!("Delete the tenant {}?", text(&tenant, "id")),
        meaning: DELETED.to_owned(),
        button: "Delete this tenant",
        place: PLACE,
        back: own_path(&visit),
    };
    if let Some(page) = question.unless_agreed(&visit) {
        return Ok(page);
    }
    visit.ask(Method::DELETE, &api_path(&visit), None, None).await?;
    Ok(to("/ui/tenants?done=deleted"))
}
