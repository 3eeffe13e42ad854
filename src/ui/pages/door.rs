//! The door: sign in, the second factor, enrolment, a first password of one's own, and out again (S1.4, S1.5, decision D20).
//!
//! These pages stand in front of everything, so they are open: each looks for the session itself, and a form is taken from the
//! dashboard's own pages only, as everywhere. Nothing that was typed is written back.

use ::http::StatusCode;
use ::http::header::{HeaderValue, SET_COOKIE};
use maud::{Markup, PreEscaped, html};

use crate::http::problem::{Problem, ProblemCode};
use crate::http::response::Response;
use crate::model::Secret;
use crate::model::user::PASSWORD_CHARS_MIN;
use crate::service::people::{DoorError, Stage, Step};
use crate::ui::act::Door;
use crate::ui::form::Form;
use crate::ui::layout::open_page;
use crate::ui::parts::{Icon, notice};
use crate::ui::{ROOT, session, to};

/// Bytes of a form at the door, at most.
const FORM_BYTES_MAX: usize = 8 * 1024;
/// Where somebody comes in who is locked out.
const RECOVERY: &str = "/ui/login/recovery";

/// `GET /ui/login`
pub(in crate::ui) async fn login(door: Door) -> Result<Response, Problem> {
    if let Some(place) = belongs(&door) {
        return Ok(to(&place));
    }
    // A link from another site brings no cookie along, also for whoever is signed in. Loaded anew from here, the page does.
    let from_elsewhere = door.request.header("sec-fetch-site")? == Some("cross-site");
    let reload = from_elsewhere.then(|| session::with_next(crate::ui::LOGIN, &session::next_of(&door.request)));
    let is_undone = door.request.query()?.text(session::UNDONE).is_some();
    let why =
        is_undone.then_some("You were signed out before this was done: nothing has changed. Sign in, and do it again.");
    Ok(open_page(StatusCode::OK, "Sign in", login_form(&door, why, reload.as_deref())))
}

fn login_form(door: &Door, why: Option<&str>, reload: Option<&str>) -> Markup {
    html! {
        @if let Some(path) = reload { meta http-equiv="refresh" content={ "0; url=" (path) }; }
        section.card.narrow {
            (trouble(why))
            form method="post" action=(onward(door, crate::ui::LOGIN)) {
                (name_field())
                (password_field("password", "Password", "current-password"))
                div.actions { button.primary type="submit" { "Sign in" } }
            }
            p.muted {
                "Ten wrong passwords or codes lock a login. An administrator unlocks it, or "
                a href=(onward(door, RECOVERY)) { "a recovery code of yours" } "."
            }
        }
    }
}

/// `POST /ui/login`
pub(in crate::ui) async fn sign_in(mut door: Door) -> Result<Response, Problem> {
    let form = form(&mut door).await?;
    let (knock, password) = (session::knock(&door.request), Secret::new(form.raw("password")));
    match door.house.service.sign_in(&knock, form.text("name"), password).await {
        Ok(step) => Ok(stepped(&door, &step)),
        Err(error) => {
            let why = words(error)?;
            Ok(open_page(StatusCode::FORBIDDEN, "Sign in", login_form(&door, Some(&why), None)))
        }
    }
}

/// `GET /ui/login/totp`
pub(in crate::ui) async fn code(door: Door) -> Result<Response, Problem> {
    Ok(match stage(&door) {
        Some(Stage::Code) => open_page(StatusCode::OK, "Second factor", code_form(&door, None)),
        _ => elsewhere(&door),
    })
}

fn code_form(door: &Door, why: Option<&str>) -> Markup {
    html! {
        section.card.narrow {
            (trouble(why))
            form method="post" action=(onward(door, session::CODE)) {
                (code_field("code", "Code of your authenticator app, or a recovery code"))
                div.actions { button.primary type="submit" { "Go on" } }
            }
            form method="post" action="/ui/logout" { button.ghost type="submit" { "Start over" } }
        }
    }
}

/// `POST /ui/login/totp`
pub(in crate::ui) async fn show_code(mut door: Door) -> Result<Response, Problem> {
    let form = form(&mut door).await?;
    let Some(token) = token(&door) else { return Ok(elsewhere(&door)) };
    let knock = session::knock(&door.request);
    match door.house.service.show_code(&knock, token.expose(), form.text("code")).await {
        Ok(step) => Ok(stepped(&door, &step)),
        Err(DoorError::Ended) => Ok(elsewhere(&door)),
        Err(DoorError::Locked) => {
            let why = words(DoorError::Locked)?;
            let page = open_page(StatusCode::FORBIDDEN, "Sign in", login_form(&door, Some(&why), None));
            Ok(forgetting(&door, page))
        }
        Err(error) => {
            let why = words(error)?;
            Ok(open_page(StatusCode::FORBIDDEN, "Second factor", code_form(&door, Some(&why))))
        }
    }
}

/// `GET /ui/login/recovery`
pub(in crate::ui) async fn recovery(door: Door) -> Result<Response, Problem> {
    Ok(match belongs(&door) {
        Some(place) => to(&place),
        None => open_page(StatusCode::OK, "Use a recovery code", recovery_form(&door, None)),
    })
}

fn recovery_form(door: &Door, why: Option<&str>) -> Markup {
    html! {
        section.card.narrow {
            (trouble(why))
            form method="post" action=(onward(door, RECOVERY)) {
                (name_field())
                (password_field("password", "Password", "current-password"))
                (code_field("code", "Recovery code"))
                div.actions {
                    button.primary type="submit" { "Unlock and sign in" }
                    a.button href=(onward(door, crate::ui::LOGIN)) { "Back" }
                }
            }
            p.muted { "The code is used up. It unlocks a login that is locked, and stands for a code of a lost app." }
        }
    }
}

/// `POST /ui/login/recovery`
pub(in crate::ui) async fn recover(mut door: Door) -> Result<Response, Problem> {
    let form = form(&mut door).await?;
    let (knock, password) = (session::knock(&door.request), Secret::new(form.raw("password")));
    match door.house.service.recover(&knock, form.text("name"), password, form.text("code")).await {
        Ok(step) => Ok(stepped(&door, &step)),
        Err(error) => {
            let why = words(error)?;
            Ok(open_page(StatusCode::FORBIDDEN, "Use a recovery code", recovery_form(&door, Some(&why))))
        }
    }
}

/// `GET /ui/enrol`
pub(in crate::ui) async fn enrol(door: Door) -> Result<Response, Problem> {
    enrol_page(&door, StatusCode::OK, None)
}

fn enrol_page(door: &Door, status: StatusCode, why: Option<&str>) -> Result<Response, Problem> {
    let Some(token) = token(door) else { return Ok(elsewhere(door)) };
    let shown = match door.house.service.enrolment(token.expose()) {
        Ok(shown) => shown,
        Err(DoorError::StepUp) => return Ok(to(&session::with_next(session::STEP_UP, session::ENROL))),
        Err(_) => return Ok(elsewhere(door)),
    };
    let body = html! {
        section.card.narrow {
            (trouble(why))
            p { "Every person here has a second factor. Scan this with an authenticator app, then type the code that it shows." }
            div.qr { (qr(shown.url.expose())?) }
            p.typed { "Or type this key into the app: " code { (spaced(shown.key.expose())) } }
            form method="post" action=(onward(door, session::ENROL)) {
                (code_field("code", "Code of the app"))
                div.actions { button.primary type="submit" { "Go on" } }
            }
            form method="post" action="/ui/logout" { button.ghost type="submit" { "Log out" } }
        }
    };
    Ok(open_page(status, "Set up your second factor", body))
}

/// `POST /ui/enrol`
pub(in crate::ui) async fn confirm_enrolment(mut door: Door) -> Result<Response, Problem> {
    let form = form(&mut door).await?;
    let Some(token) = token(&door) else { return Ok(elsewhere(&door)) };
    let knock = session::knock(&door.request);
    match door.house.service.confirm_enrolment(&knock, token.expose(), form.text("code")).await {
        Ok((step, codes)) => {
            let next = session::place_of(step.stage)
                .map_or_else(|| session::next_of(&door.request), |place| onward(&door, place));
            let body = html! {
                section.card.narrow {
                    (notice(Icon::Alert, "warn", html! { "These codes are shown this once. Keep them where you keep what matters." }))
                    p { "Each stands once for a code of your app, when that is lost, and unlocks your login." }
                    ul.codes { @for code in &codes { li { code { (code.expose()) } } } }
                    div.actions { a.button.primary href=(next) { "I have put them away" } }
                }
            };
            let page = open_page(StatusCode::OK, "Your recovery codes", body);
            Ok(page.with_header(SET_COOKIE, session::cookie(&door.request, &door.house.settings, &step.token)))
        }
        Err(DoorError::Ended) => Ok(elsewhere(&door)),
        Err(error) => {
            let why = words(error)?;
            enrol_page(&door, StatusCode::FORBIDDEN, Some(&why))
        }
    }
}

/// `GET /ui/password`
pub(in crate::ui) async fn password(door: Door) -> Result<Response, Problem> {
    Ok(match stage(&door) {
        Some(Stage::NewPassword) => open_page(StatusCode::OK, "Choose a password", password_form(&door, None)),
        _ => elsewhere(&door),
    })
}

fn password_form(door: &Door, why: Option<&str>) -> Markup {
    html! {
        section.card.narrow {
            (trouble(why))
            p { "The password that you were given was for the first time only. Choose your own." }
            form method="post" action=(onward(door, session::PASSWORD)) {
                (new_password_fields())
                div.actions { button.primary type="submit" { "Go on" } }
            }
        }
    }
}

/// `POST /ui/password`
pub(in crate::ui) async fn choose_password(mut door: Door) -> Result<Response, Problem> {
    let form = form(&mut door).await?;
    let Some(token) = token(&door) else { return Ok(elsewhere(&door)) };
    let refuse = |why: &str| open_page(StatusCode::FORBIDDEN, "Choose a password", password_form(&door, Some(why)));
    if form.raw("new") != form.raw("again") {
        return Ok(refuse("The two are not the same."));
    }
    let knock = session::knock(&door.request);
    let new = Secret::new(form.raw("new"));
    match door.house.service.choose_password(&knock, token.expose(), None, new).await {
        Ok(step) => Ok(stepped(&door, &step)),
        // Whoever is inside has the account page for it, which asks for the present one.
        Err(DoorError::Ended | DoorError::Refused) => Ok(elsewhere(&door)),
        Err(error) => Ok(refuse(&words(error)?)),
    }
}

/// `POST /ui/logout`
pub(in crate::ui) async fn logout(mut door: Door) -> Result<Response, Problem> {
    form(&mut door).await?;
    if let Some(token) = token(&door) {
        door.house.service.sign_out(&session::knock(&door.request), token.expose()).await?;
    }
    Ok(forgetting(&door, to(crate::ui::LOGIN)))
}

/// The form, if it was sent from a page of the dashboard.
async fn form(door: &mut Door) -> Result<Form, Problem> {
    session::from_own_page(&door.request)?;
    Form::read(&mut door.request, FORM_BYTES_MAX).await
}

fn token(door: &Door) -> Option<Secret> {
    session::token(&door.request, &door.house.settings)
}

fn stage(door: &Door) -> Option<Stage> {
    door.house.service.seen(token(door)?.expose()).map(|seen| seen.stage)
}

/// Where somebody belongs who has a session already.
fn belongs(door: &Door) -> Option<String> {
    let stage = stage(door)?;
    Some(session::place_of(stage).map_or_else(|| session::next_of(&door.request), |place| onward(door, place)))
}

/// To where somebody belongs, with a session or without.
fn elsewhere(door: &Door) -> Response {
    to(&belongs(door).unwrap_or_else(|| onward(door, crate::ui::LOGIN)))
}

/// A page of the door, which leads on to the page that was asked for.
fn onward(door: &Door, path: &str) -> String {
    match session::next_of(&door.request) {
        next if next == ROOT => path.to_owned(),
        next => session::with_next(path, &next),
    }
}

/// The next page, with the session's new token.
fn stepped(door: &Door, step: &Step) -> Response {
    let place =
        session::place_of(step.stage).map_or_else(|| session::next_of(&door.request), |place| onward(door, place));
    to(&place).with_header(SET_COOKIE, session::cookie(&door.request, &door.house.settings, &step.token))
}

fn forgetting(door: &Door, response: Response) -> Response {
    let none: HeaderValue = session::no_cookie(&door.request, &door.house.settings);
    response.with_header(SET_COOKIE, none)
}

/// What to say to whoever was refused.
pub(in crate::ui) fn words(error: DoorError) -> Result<String, Problem> {
    Ok(match error {
        DoorError::NotNow(error) => return Err(error.into()),
        DoorError::Refused => "The name or the password is wrong, or the login is locked.".to_owned(),
        DoorError::WrongCode => "The code is wrong, or has been used already. Wait for the next one.".to_owned(),
        DoorError::Locked => {
            "The login is locked now. An administrator unlocks it, or a recovery code of yours.".to_owned()
        }
        DoorError::Ended => "The session has ended. Sign in again.".to_owned(),
        DoorError::StepUp => "Show a code of your authenticator app first.".to_owned(),
        DoorError::BadPassword(why) => {
            let mut words = why.chars();
            words.next().map(|first| first.to_uppercase().chain(words).chain(['.']).collect()).unwrap_or_default()
        }
    })
}

/// What went wrong, so that it is read out at once.
pub(in crate::ui) fn trouble(why: Option<&str>) -> Markup {
    html! { @if let Some(why) = why { div role="alert" { (notice(Icon::Alert, "bad", html! { (why) })) } } }
}

fn name_field() -> Markup {
    html! {
        div.field {
            label for="name" { "Login name" }
            input #name type="text" name="name" autocomplete="username" autocapitalize="none" spellcheck="false" required autofocus;
        }
    }
}

pub(in crate::ui) fn password_field(name: &str, label: &str, kind: &str) -> Markup {
    html! {
        div.field {
            label for=(name) { (label) }
            input #(name) type="password" name=(name) autocomplete=(kind) required;
        }
    }
}

pub(in crate::ui) fn new_password_fields() -> Markup {
    html! {
        p.muted { "At least " (PASSWORD_CHARS_MIN) " characters. A few words that go together badly are good ones." }
        (password_field("new", "New password", "new-password"))
        (password_field("again", "The same once more", "new-password"))
    }
}

pub(in crate::ui) fn code_field(name: &str, label: &str) -> Markup {
    html! {
        div.field {
            label for=(name) { (label) }
            input #(name) type="text" name=(name) autocomplete="one-time-code" autocapitalize="none" spellcheck="false" required autofocus;
        }
    }
}

/// A QR code as a picture; the words beside it say the same.
fn qr(text: &str) -> Result<Markup, Problem> {
    let too_long = |_| Problem::new(ProblemCode::Internal, "the key does not fit a QR code; type it instead");
    let code = qrcode::QrCode::new(text).map_err(too_long)?;
    let picture = code.render::<qrcode::render::svg::Color<'_>>().min_dimensions(220, 220).build();
    // The head of a document of its own has no place in a page.
    let picture = picture.find("<svg").map_or("", |start| &picture[start..]);
    Ok(html! { span role="img" aria-label="QR code of the key" { (PreEscaped(picture)) } })
}

/// A key in groups of four, for whoever types it.
fn spaced(key: &str) -> String {
    let groups: Vec<_> = key.as_bytes().chunks(4).map(String::from_utf8_lossy).collect();
    groups.join(" ")
}
