//! Keys of the HTTP API.

use ::http::{Method, StatusCode};
use maud::html;
use serde_json::{Value, json};

use super::super::act::Visit;
use super::super::between::Question;
use super::super::fields::Draft;
use super::super::layout::Page;
use super::super::parts::empty;
use super::super::{once, to};
use super::things::{KEY_ROLES, deletion, reach, rows, segment, shown_once, text, when};
use crate::http::problem::Problem;
use crate::http::response::Response;

const PLACE: &str = "/ui/keys";
const API: &str = "/v1/keys";
/// What it means to delete a key.
const DELETED: &str = "Whoever holds the key is refused from then on. It cannot be brought back.";

/// `GET /ui/keys`
pub(super) async fn list(visit: Visit) -> Result<Response, Problem> {
    show(&visit, &Draft::default()).await
}

async fn show(visit: &Visit, draft: &Draft) -> Result<Response, Problem> {
    let (keys, pager) = rows(visit, API, "keys").await?;
    let reaches_all = visit.viewer.caller().reaches_all();
    let body = html! {
        section.card.flush aria-label="Keys" {
            @if keys.is_empty() { (empty("No keys yet", html! { "Whoever calls the HTTP API over TCP shows one. Programs on this machine need none: they open the socket." })) }
            @else {
                div.scroll {
                    table.stack {
                        thead { tr { th scope="col" { "Name" } th scope="col" { "Id" } th scope="col" { "Role" } th scope="col" { "For" } th scope="col" { "Created" } } }
                        tbody {
                            @for key in &keys {
                                tr {
                                    th scope="row" { a href={ (PLACE) "/" (text(key, "id")) } { (name_of(key)) } }
                                    td data-label="Id" { code { (text(key, "id")) } }
                                    td data-label="Role" { (text(key, "role")) }
                                    td data-label="For" { (reach(key)) }
                                    td.nowrap data-label="Created" { (when(visit, key, "created")) }
                                }
                            }
                        }
                    }
                }
                (pager)
            }
        }
        section.card.narrow aria-labelledby="new" {
            h2 #new { "Make a key" }
            (draft.summary())
            form method="post" action=(PLACE) {
                (once::field(visit))
                (draft.line("name", "Name", "", "Who or what will use it.", false))
                (draft.choice("role", "Role", &KEY_ROLES, "read", ""))
                @if reaches_all { (draft.line("tenant", "Tenant", "", "The only tenant that it reaches. Empty: all tenants.", false)) }
                div.buttons { button.primary type="submit" { "Make key" } }
            }
        }
    };
    let status = if draft.was_refused() { StatusCode::BAD_REQUEST } else { StatusCode::OK };
    Ok(Page { title: "Keys", place: PLACE, actions: html! {}, body }.show_as(status, visit))
}

fn name_of(key: &Value) -> &str {
    Some(text(key, "name")).filter(|name| !name.is_empty()).unwrap_or("(no name)")
}

/// `POST /ui/keys`: the one answer that shows the secret.
pub(super) async fn create(visit: Visit) -> Result<Response, Problem> {
    let form = visit.form.clone();
    let mut body = json!({"name": form.text("name"), "role": form.text("role")});
    if visit.viewer.caller().reaches_all() {
        body["tenant"] = form.given("tenant").map_or(Value::Null, Value::from);
    }
    match visit.make(API, None, body).await {
        Ok(key) => {
            let words = html! { "The key " strong { (name_of(&key)) } " was made. Callers send it as " code { "Authorization: Bearer …" } " or " code { "x-api-key" } "." };
            let body = shown_once(text(&key, "secret"), words, PLACE);
            Ok(Page { title: "A new key", place: PLACE, actions: html! {}, body }.show(&visit))
        }
        Err(problem) if once::ends_the_form(&problem) => Err(problem),
        Err(problem) => show(&visit, &Draft::refused(form, problem)).await,
    }
}

fn api_path(visit: &Visit) -> String {
    format!("{API}/{}", segment(visit.params.text("id")))
}

fn own_path(visit: &Visit) -> String {
    format!("{PLACE}/{}", segment(visit.params.text("id")))
}

/// `GET /ui/keys/{id}`
pub(super) async fn read(visit: Visit) -> Result<Response, Problem> {
    show_one(&visit, &Draft::default()).await
}

async fn show_one(visit: &Visit, draft: &Draft) -> Result<Response, Problem> {
    let key = visit.ask(Method::GET, &api_path(visit), None, None).await?;
    let body = html! {
        section.card.narrow {
            dl.facts {
                dt { "Id" } dd { code { (text(&key, "id")) } }
                dt { "For" } dd { (reach(&key)) }
                dt { "Created" } dd { (when(visit, &key, "created")) }
            }
        }
        section.card.narrow aria-labelledby="change" {
            h2 #change { "Change it" }
            (draft.summary())
            form method="post" action=(own_path(visit)) {
                (draft.line("name", "Name", text(&key, "name"), "", false))
                (draft.choice("role", "Role", &KEY_ROLES, text(&key, "role"), "What it may do changes at once, for whoever holds it."))
                div.buttons { a.button href=(PLACE) { "Close" } button.primary type="submit" { "Save changes" } }
            }
        }
        (deletion(&own_path(visit), "key", name_of(&key), DELETED))
    };
    let status = if draft.was_refused() { StatusCode::BAD_REQUEST } else { StatusCode::OK };
    Ok(Page { title: &format!("Key {}", name_of(&key)), place: PLACE, actions: html! {}, body }.show_as(status, visit))
}

/// `POST /ui/keys/{id}`
pub(super) async fn update(visit: Visit) -> Result<Response, Problem> {
    let form = visit.form.clone();
    let body = json!({"name": form.text("name"), "role": form.text("role")});
    match visit.ask(Method::PUT, &api_path(&visit), None, Some(body)).await {
        Ok(_) => Ok(to(&format!("{}?done=saved", own_path(&visit)))),
        Err(problem) => show_one(&visit, &Draft::refused(form, problem)).await,
    }
}

/// `POST /ui/keys/{id}/delete`
pub(super) async fn delete(visit: Visit) -> Result<Response, Problem> {
    let key = visit.ask(Method::GET, &api_path(&visit), None, None).await?;
    let question = Question {
        title: format!("Delete the key {}?", name_of(&key)),
        meaning: DELETED.to_owned(),
        button: "Delete this key",
        place: PLACE,
        back: own_path(&visit),
    };
    if let Some(page) = question.unless_agreed(&visit) {
        return Ok(page);
    }
    visit.ask(Method::DELETE, &api_path(&visit), None, None).await?;
    Ok(to("/ui/keys?done=deleted"))
}
