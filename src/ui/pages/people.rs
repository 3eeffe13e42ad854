//! People who sign in to the dashboard: added, changed, helped back in, and deleted.

use ::http::{Method, StatusCode};
use maud::{Markup, html};
use serde_json::{Value, json};

use super::super::act::Visit;
use super::super::between::Question;
use super::super::fields::Draft;
use super::super::layout::Page;
use super::super::parts::{Icon, badge, empty};
use super::super::{once, to};
use super::things::{KEY_ROLES, deletion, grave, reach, rows, segment, shown_once, text, when};
use crate::http::problem::Problem;
use crate::http::response::Response;
use crate::model::user::PASSWORD_CHARS_MIN;

const PLACE: &str = "/ui/people";
const API: &str = "/v1/users";
/// What it means to delete a person.
const DELETED: &str = "The login ends at once, on every device. What the person did stays in the audit log.";
/// What it means to reset a second factor.
const RESET: &str = "For somebody who has lost the app and the recovery codes. The person is signed out, and sets up another \
                     app at the next sign-in; until then the password alone is the login.";

/// What a person may be: whatever a key may be, but for handing events in only.
fn roles() -> &'static [(&'static str, &'static str)] {
    &KEY_ROLES[1..]
}

/// `GET /ui/people`
pub(super) async fn list(visit: Visit) -> Result<Response, Problem> {
    show(&visit, &Draft::default()).await
}

async fn show(visit: &Visit, draft: &Draft) -> Result<Response, Problem> {
    let (people, pager) = rows(visit, API, "users").await?;
    let body = html! {
        section.card.flush aria-label="People" {
            @if people.is_empty() { (empty("Nobody yet", html! { "Whoever is to use the dashboard over the network needs a login. Whoever opens the admin socket needs none." })) }
            @else {
                div.scroll {
                    table.stack {
                        thead { tr { th scope="col" { "Login name" } th scope="col" { "Role" } th scope="col" { "For" } th scope="col" { "State" } th scope="col" { "Created" } } }
                        tbody {
                            @for person in &people {
                                tr {
                                    th scope="row" { a href={ (PLACE) "/" (segment(text(person, "id"))) } { (text(person, "name")) } }
                                    td data-label="Role" { (text(person, "role")) }
                                    td data-label="For" { (reach(person)) }
                                    td data-label="State" { (state(person)) }
                                    td.nowrap data-label="Created" { (when(visit, person, "created")) }
                                }
                            }
                        }
                    }
                }
                (pager)
            }
        }
        section.card.narrow aria-labelledby="new" {
            h2 #new { "Add a person" }
            (draft.summary())
            form method="post" action=(PLACE) {
                (once::field(visit))
                (draft.line("name", "Login name", "", "What the person signs in with: an address, say.", true))
                (draft.choice("role", "Role", roles(), "read", ""))
                @if visit.viewer.caller().reaches_all() { (draft.line("tenant", "Tenant", "", "The only tenant that the person sees. Empty: all tenants.", false)) }
                (password_field(draft))
                div.buttons { button.primary type="submit" { "Add person" } }
            }
        }
    };
    let status = if draft.was_refused() { StatusCode::BAD_REQUEST } else { StatusCode::OK };
    Ok(Page { title: "People", place: PLACE, actions: html! {}, body }.show_as(status, visit))
}

fn password_field(draft: &Draft) -> Markup {
    let hint = format!(
        "At least {PASSWORD_CHARS_MIN} characters. Empty: one is made, shown once, and replaced at the next sign-in."
    );
    draft.secret("password", "Password", &hint)
}

/// How far a person's login goes.
fn state(person: &Value) -> Markup {
    let is = |name: &str| person[name].as_bool().unwrap_or(false);
    match (is("locked"), is("totp")) {
        (true, _) => badge("bad", Icon::Cross, "locked"),
        (false, true) => badge("good", Icon::Check, "enrolled"),
        (false, false) => badge("flat", Icon::Clock, "not yet enrolled"),
    }
}

/// `POST /ui/people`: when no password was typed, the one answer that shows the one that was made.
pub(super) async fn create(visit: Visit) -> Result<Response, Problem> {
    let form = visit.form.clone();
    let mut body = json!({"name": form.text("name"), "role": form.text("role")});
    if visit.viewer.caller().reaches_all() {
        body["tenant"] = form.given("tenant").map_or(Value::Null, Value::from);
    }
    if !form.raw("password").is_empty() {
        body["password"] = form.raw("password").into();
    }
    match visit.make(API, None, body).await {
        Ok(person) => Ok(password_shown(&visit, "A new person", &person, PLACE)
            .unwrap_or_else(|| to(&format!("{PLACE}/{}?done=created", segment(text(&person, "id")))))),
        Err(problem) if once::ends_the_form(&problem) => Err(problem),
        Err(problem) => show(&visit, &Draft::refused(form, problem)).await,
    }
}

/// The password that the daemon made, if it made one.
fn password_shown(visit: &Visit, title: &str, person: &Value, back: &str) -> Option<Response> {
    let password = person["password"].as_str()?;
    let words =
        html! { strong { (text(person, "name")) } " signs in with this password, and chooses another one then." };
    Some(Page { title, place: PLACE, actions: html! {}, body: shown_once(password, words, back) }.show(visit))
}

fn api_path(visit: &Visit) -> String {
    format!("{API}/{}", segment(visit.params.text("id")))
}

fn own_path(visit: &Visit) -> String {
    format!("{PLACE}/{}", segment(visit.params.text("id")))
}

/// `GET /ui/people/{id}`
pub(super) async fn read(visit: Visit) -> Result<Response, Problem> {
    show_one(&visit, &Draft::default(), &Draft::default()).await
}

/// A person's page. Each of its two forms may have been refused.
async fn show_one(visit: &Visit, draft: &Draft, password: &Draft) -> Result<Response, Problem> {
    let person = visit.ask(Method::GET, &api_path(visit), None, None).await?;
    let (own, name) = (own_path(visit), text(&person, "name"));
    let body = html! {
        section.card.narrow {
            dl.facts {
                dt { "Id" } dd { code { (text(&person, "id")) } }
                dt { "For" } dd { (reach(&person)) }
                dt { "State" } dd { (state(&person)) }
                dt { "Recovery codes left" } dd { (person["recovery_codes"].as_u64().unwrap_or_default()) }
                dt { "Password" } dd { @if person["one_time_password"] == true { "made by the daemon, to be replaced at the next sign-in" } @else { "chosen" } }
                dt { "Created" } dd { (when(visit, &person, "created")) }
            }
            @if person["locked"] == true {
                p { "Too many wrong passwords or codes were typed. Nobody is let in with this login until it is unlocked." }
                form method="post" action={ (own) "/unlock" } { div.buttons { button.primary type="submit" { "Unlock" } } }
            }
        }
        section.card.narrow aria-labelledby="change" {
            h2 #change { "Change it" }
            (draft.summary())
            form method="post" action=(own) {
                (draft.line("name", "Login name", name, "", true))
                (draft.choice("role", "Role", roles(), text(&person, "role"), "Another role signs the person out everywhere."))
                div.buttons { a.button href=(PLACE) { "Close" } button.primary type="submit" { "Save changes" } }
            }
        }
        section.card.narrow aria-labelledby="new-password" {
            h2 #new-password { "New password" }
            (password.summary())
            form method="post" action={ (own) "/password" } {
                (password_field(password))
                p.hint { "The person is signed out everywhere. The second factor stays." }
                div.buttons { button type="submit" { "Set new password" } }
            }
        }
        @if person["totp"] == true {
            (grave("Reset second factor", &format!("Reset the second factor of {name}?"), RESET, &format!("{own}/reset-totp")))
        }
        (deletion(&own, "person", name, DELETED))
    };
    let was_refused = draft.was_refused() || password.was_refused();
    let status = if was_refused { StatusCode::BAD_REQUEST } else { StatusCode::OK };
    Ok(Page { title: &format!("Person {name}"), place: PLACE, actions: html! {}, body }.show_as(status, visit))
}

/// `POST /ui/people/{id}`
pub(super) async fn update(visit: Visit) -> Result<Response, Problem> {
    let form = visit.form.clone();
    let body = json!({"name": form.text("name"), "role": form.text("role")});
    match visit.ask(Method::PUT, &api_path(&visit), None, Some(body)).await {
        Ok(_) => Ok(to(&format!("{}?done=saved", own_path(&visit)))),
        Err(problem) => show_one(&visit, &Draft::refused(form, problem), &Draft::default()).await,
    }
}

/// `POST /ui/people/{id}/password`
pub(super) async fn set_password(visit: Visit) -> Result<Response, Problem> {
    let form = visit.form.clone();
    let password = Some(form.raw("password")).filter(|typed| !typed.is_empty());
    match visit.ask(Method::PUT, &api_path(&visit), None, Some(json!({"password": password}))).await {
        Ok(person) => Ok(password_shown(&visit, "A new password", &person, &own_path(&visit))
            .unwrap_or_else(|| to(&format!("{}?done=saved", own_path(&visit))))),
        Err(problem) => show_one(&visit, &Draft::default(), &Draft::refused(form, problem)).await,
    }
}

/// `POST /ui/people/{id}/unlock`
pub(super) async fn unlock(visit: Visit) -> Result<Response, Problem> {
    visit.ask(Method::POST, &format!("{}/unlock", api_path(&visit)), None, None).await?;
    Ok(to(&format!("{}?done=unlocked", own_path(&visit))))
}

/// The page that asks before something is done to a person, unless it has been.
async fn asks_first(
    visit: &Visit,
    what: &str,
    meaning: &str,
    button: &'static str,
) -> Result<Option<Response>, Problem> {
    let person = visit.ask(Method::GET, &api_path(visit), None, None).await?;
    let (title, back) = (format!("{what} {}?", text(&person, "name")), own_path(visit));
    Ok(Question { title, meaning: meaning.to_owned(), button, place: PLACE, back }.unless_agreed(visit))
}

/// `POST /ui/people/{id}/reset-totp`
pub(super) async fn reset_totp(visit: Visit) -> Result<Response, Problem> {
    if let Some(page) = asks_first(&visit, "Reset the second factor of", RESET, "Reset second factor").await? {
        return Ok(page);
    }
    visit.ask(Method::POST, &format!("{}/reset-totp", api_path(&visit)), None, None).await?;
    Ok(to(&format!("{}?done=reset", own_path(&visit))))
}

/// `POST /ui/people/{id}/delete`
pub(super) async fn delete(visit: Visit) -> Result<Response, Problem> {
    if let Some(page) = asks_first(&visit, "Delete", DELETED, "Delete this person").await? {
        return Ok(page);
    }
    visit.ask(Method::DELETE, &api_path(&visit), None, None).await?;
    Ok(to("/ui/people?done=deleted"))
}
