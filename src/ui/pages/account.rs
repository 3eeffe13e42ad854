//! What a person does with his own login: another password, another authenticator app, and a fresh proof of the second factor.

use ::http::StatusCode;
use ::http::header::SET_COOKIE;
use maud::{Markup, html};

use super::door::{code_field, new_password_fields, password_field, trouble, words};
use crate::http::problem::Problem;
use crate::http::response::Response;
use crate::model::Secret;
use crate::service::people::{DoorError, Seen};
use crate::ui::act::Visit;
use crate::ui::between::{PROOF_TITLE, proof_words};
use crate::ui::layout::Page;
use crate::ui::parts::span_words;
use crate::ui::{session, to};

/// Where this is.
const PLACE: &str = "/ui/account";

/// `GET /ui/account`
pub(in crate::ui) async fn show(visit: Visit) -> Result<Response, Problem> {
    Ok(account(&visit, StatusCode::OK, None))
}

fn account(visit: &Visit, status: StatusCode, why: Option<&str>) -> Response {
    let body = match seen(visit) {
        Some(Seen { user, fresh_for, .. }) => html! {
            section.card.narrow {
                h2 { "Who you are" }
                dl.facts {
                    dt { "Login name" } dd { (user.name) }
                    dt { "Role" } dd { (user.role.as_str()) }
                    dt { "Tenant" } dd { (user.tenant.as_ref().map_or("all tenants", |tenant| tenant.as_str())) }
                    dt { "Proof of your second factor" } dd {
                        @match fresh_for { Some(left) => { "counts for " (span_words(left)) " more" }, None => "none: what is grave asks for a code" }
                    }
                    dt { "Recovery codes left" } dd { (user.recovery.len()) }
                }
            }
            section.card.narrow {
                h2 { "Change your password" }
                (trouble(why))
                form method="post" action="/ui/account/password" {
                    (password_field("present", "Present password", "current-password"))
                    (new_password_fields())
                    p.muted { "You stay signed in here, and are signed out everywhere else." }
                    div.buttons { button.primary type="submit" { "Change the password" } }
                }
            }
            section.card.narrow {
                h2 { "Second factor" }
                p { "Set up another authenticator app. The present one and the recovery codes that are left are worth nothing then." }
                div.buttons { a.button href=(session::ENROL) { "Set up another app" } }
            }
        },
        None => {
            html! { section.card.narrow { p { "Whoever comes over the admin socket needs no login." } } }
        }
    };
    Page { title: "Your account", place: PLACE, actions: html! {}, body }.show_as(status, visit)
}

/// `POST /ui/account/password`
pub(in crate::ui) async fn change_password(visit: Visit) -> Result<Response, Problem> {
    let form = visit.form.clone();
    let Some(token) = token(&visit) else { return Ok(to(PLACE)) };
    if form.raw("new") != form.raw("again") {
        return Ok(account(&visit, StatusCode::FORBIDDEN, Some("The two new ones are not the same.")));
    }
    let knock = session::knock(&visit.request);
    let (present, new) = (Secret::new(form.raw("present")), Secret::new(form.raw("new")));
    match visit.service().choose_password(&knock, token.expose(), Some(present), new).await {
        Ok(step) => {
            let cookie = session::cookie(&visit.request, &visit.house.settings, &step.token);
            Ok(to("/ui/account?done=password").with_header(SET_COOKIE, cookie))
        }
        Err(DoorError::Refused) => {
            Ok(account(&visit, StatusCode::FORBIDDEN, Some("The present password is wrong, or the login is locked.")))
        }
        Err(error) => Ok(account(&visit, StatusCode::FORBIDDEN, Some(&words(error)?))),
    }
}

/// `GET /ui/step-up`
pub(in crate::ui) async fn ask(visit: Visit) -> Result<Response, Problem> {
    Ok(step_up(&visit, StatusCode::OK, None))
}

fn step_up(visit: &Visit, status: StatusCode, why: Option<&str>) -> Response {
    let next = session::next_proved(&visit.request);
    let body: Markup = html! {
        section.card.narrow {
            (trouble(why))
            (proof_words(&visit.house))
            form method="post" action=(session::with_next(session::STEP_UP, &next)) {
                (code_field("code", "Code of your authenticator app, or a recovery code"))
                div.buttons { a.button.left href=(PLACE) { "Leave it" } button.primary type="submit" { "Go on" } }
            }
        }
    };
    Page { title: PROOF_TITLE, place: PLACE, actions: html! {}, body }.show_as(status, visit)
}

/// `POST /ui/step-up`
pub(in crate::ui) async fn prove(visit: Visit) -> Result<Response, Problem> {
    let form = visit.form.clone();
    let next = session::next_proved(&visit.request);
    let Some(token) = token(&visit) else { return Ok(to(&next)) };
    let knock = session::knock(&visit.request);
    match visit.service().step_up(&knock, token.expose(), form.text("code")).await {
        Ok(()) => Ok(to(&next)),
        Err(DoorError::Ended) => Ok(to(crate::ui::LOGIN)),
        Err(error) => Ok(step_up(&visit, StatusCode::FORBIDDEN, Some(&words(error)?))),
    }
}

fn token(visit: &Visit) -> Option<Secret> {
    session::token(&visit.request, &visit.house.settings).filter(|_| visit.viewer.has_session())
}

fn seen(visit: &Visit) -> Option<Seen> {
    visit.service().seen(token(visit)?.expose())
}
