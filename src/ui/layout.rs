//! What surrounds every page: head, menu, the place for what has just been done, and pages of failure.

use ::http::StatusCode;
use bytes::Bytes;
use maud::{DOCTYPE, Markup, html};

use super::act::Visit;
use super::parts::{Icon, icon, notice};
use super::viewer::Viewer;
use super::{ROOT, assets};
use crate::http::problem::{Problem, ProblemCode};
use crate::http::response::Response;
use crate::model::Role;
use crate::service::Service;

const HTML: &str = "text/html; charset=utf-8";

/// An entry of the menu: its label, where it leads, its picture, and the role that it asks for.
type Entry = (&'static str, &'static str, Icon, Role);

const SYSTEM: &str = "/ui/system";

const WATCH: [Entry; 5] = [
    ("Overview", ROOT, Icon::Gauge, Role::Read),
    ("Deliveries", "/ui/deliveries", Icon::Send, Role::Read),
    ("Events", "/ui/events", Icon::Bolt, Role::Read),
    ("Live tail", "/ui/tail", Icon::Pulse, Role::Read),
    ("Replays", "/ui/replays", Icon::Replay, Role::Read),
];

const SETTINGS: [Entry; 7] = [
    ("Webhooks", "/ui/webhooks", Icon::Hook, Role::Read),
    ("Tenants", "/ui/tenants", Icon::House, Role::Read),
    ("Keys", "/ui/keys", Icon::Key, Role::Admin),
    ("Signing keys", "/ui/signing-keys", Icon::Pen, Role::Admin),
    ("People", "/ui/people", Icon::People, Role::Admin),
    ("Audit", "/ui/audit", Icon::Book, Role::Admin),
    ("System", SYSTEM, Icon::Chip, Role::Read),
];

/// A page for a viewer: its title is its first heading, too.
pub(super) struct Page<'a> {
    /// What it is called.
    pub(super) title: &'a str,
    /// The entry of the menu that it belongs to, by path.
    pub(super) place: &'a str,
    /// What stands beside the title.
    pub(super) actions: Markup,
    /// What it says.
    pub(super) body: Markup,
}

impl Page<'_> {
    /// The page as the answer to a visit.
    pub(super) fn show(&self, visit: &Visit) -> Response {
        self.show_as(StatusCode::OK, visit)
    }

    /// The same with another status, for a form that was not taken.
    pub(super) fn show_as(&self, status: StatusCode, visit: &Visit) -> Response {
        let done = visit.query.text("done").and_then(done_words);
        self.respond(status, Some((&visit.viewer, visit.service())), done)
    }

    /// The page for a viewer who asked for something else.
    pub(super) fn show_to(&self, viewer: &Viewer, service: &Service) -> Response {
        self.respond(StatusCode::OK, Some((viewer, service)), None)
    }

    fn respond(&self, status: StatusCode, viewer: Option<(&Viewer, &Service)>, done: Option<&'static str>) -> Response {
        let Page { title, place, actions, body } = self;
        let refuses = viewer.and_then(|(_, service)| service.refuses_events());
        let text = html! {
            (DOCTYPE)
            html lang="en" {
                (head(title))
                body class=[viewer.is_none().then_some("door")] {
                    a.skip href="#main" { "Skip to the content" }
                    @if let Some((viewer, _)) = viewer { (top(viewer)) (menu(viewer, place)) }
                    @else { header.brand { (mark()) span { "Postrider" } } }
                    main #main tabindex="-1" {
                        @if let Some(rejection) = refuses {
                            (notice(Icon::Alert, "bad", html! { strong { "No events are taken: " } (rejection.message()) }))
                        }
                        @if let Some(done) = done {
                            div role="status" { (notice(Icon::Check, "good", html! { (done) })) }
                        }
                        header.title { h1 { (title) } div.actions { (actions) } }
                        (body)
                    }
                }
            }
        };
        html_response(status, text)
    }
}

/// A page that needs no viewer: the menu is left out.
pub(super) fn open_page(status: StatusCode, title: &str, body: Markup) -> Response {
    Page { title, place: "", actions: html! {}, body }.respond(status, None, None)
}

/// What went wrong, as a page, with the way back to where a form was.
pub(super) fn failure(viewer: Option<(&Viewer, &Service)>, problem: &Problem, back: Option<&str>) -> Response {
    let title = match problem.code() {
        ProblemCode::Forbidden => "Your role does not allow this",
        code => code.title(),
    };
    let body = html! {
        section.card.narrow {
            p { (problem.detail()) }
            // The detail tells of one alone.
            @if problem.errors().len() > 1 {
                ul { @for error in problem.errors() { li { code { (error.pointer) } " " (error.detail) } } }
            }
            div.actions {
                @if let Some(back) = back { a.button.primary href=(back) { "Back" } }
                a.button href=(ROOT) { "To the overview" }
            }
        }
    };
    Page { title, place: "", actions: html! {}, body }.respond(problem.code().status(), viewer, None)
}

fn html_response(status: StatusCode, text: Markup) -> Response {
    Response::bytes(status, HTML, Bytes::from(text.into_string()))
}

fn head(title: &str) -> Markup {
    html! {
        head {
            meta charset="utf-8";
            meta name="viewport" content="width=device-width, initial-scale=1";
            meta name="color-scheme" content="light dark";
            title { (title) " · Postrider" }
            link rel="icon" href=(assets::ICON.path()) type="image/svg+xml";
            link rel="stylesheet" href=(assets::STYLE.path());
            script src=(assets::SCRIPT.path()) defer {}
        }
    }
}

fn top(viewer: &Viewer) -> Markup {
    let tenant = match viewer.caller().reaches_all() {
        true => "all tenants".to_owned(),
        false => viewer.caller().tenant().to_string(),
    };
    html! {
        header.top {
            button.ghost.menu-button type="button" popovertarget="menu" { (icon(Icon::Menu)) span { "Menu" } }
            a.brand href=(ROOT) { (mark()) span { "Postrider" } }
            div.who {
                span.person { (icon(Icon::Person)) span.name { (viewer.name()) } }
                span.muted { (viewer.role().as_str()) ", " (tenant) }
                @if viewer.has_session() {
                    a href="/ui/account" { "Account" }
                    form method="post" action="/ui/logout" { button.ghost type="submit" { "Log out" } }
                }
            }
        }
    }
}

fn mark() -> Markup {
    html! {
        svg.mark viewBox="0 0 32 32" aria-hidden="true" {
            rect width="32" height="32" rx="8" {}
            path d="M7 11h13l5 5-5 5H7l4-5z" {}
        }
    }
}

fn menu(viewer: &Viewer, place: &str) -> Markup {
    html! {
        nav #menu popover aria-label="Main" {
            ul { @for entry in WATCH { (entry_of(entry, viewer, place)) } }
            details open {
                summary { (icon(Icon::Gear)) "Settings" }
                ul { @for entry in SETTINGS { (entry_of(entry, viewer, place)) } }
            }
        }
    }
}

fn entry_of((label, path, picture, role): Entry, viewer: &Viewer, place: &str) -> Markup {
    // The installation itself is shown to those who see all tenants.
    let is_shown = viewer.may(role) && (path != SYSTEM || viewer.caller().reaches_all());
    html! {
        @if is_shown {
            li { a href=(path) aria-current=[(path == place).then_some("page")] { (icon(picture)) (label) } }
        }
    }
}

/// What a form did, by the word that it leads back with: a closed list, so that nobody's link can say anything else here.
fn done_words(word: &str) -> Option<&'static str> {
    Some(match word {
        "added" => "The webhook was added.",
        "added_unconfirmed" => {
            "The webhook was added. Its receiver is being asked to confirm the URL; until it has, events pass the webhook by."
        }
        "saved" => "The changes were saved.",
        "moved" => {
            "The changes were saved. The receiver is being asked to confirm the new URL; until it has, what is to go there is held."
        }
        "moved_unconfirmed" => {
            "The changes were saved. The receiver is being asked to confirm the new URL; until it has, events pass the webhook by."
        }
        "deleted" => "It was deleted.",
        "paused" => "The destination is paused: what is to go there is held.",
        "resumed" => "The destination takes deliveries again.",
        "enabled" => "The destination is switched on: events are queued for it from now on.",
        "asked" => "The receiver is being asked for its confirmation.",
        "tested" => "A test event is on its way.",
        "resent" => "The delivery is due again: it is sent as soon as its destination takes it.",
        "cancelled" => "The delivery was given up.",
        "replaying" => "The replay has begun.",
        "stopped" => "The replay was stopped. What it had made due stays due.",
        "erased" => "The payload was erased.",
        "created" => "It was created.",
        "unlocked" => "The login is unlocked.",
        "reset" => "The second factor was reset: another one is set up at the next sign-in.",
        "password" => "Your password was changed. You are signed out everywhere else.",
        _ => return None,
    })
}
