//! Signing keys: the tenant's own, and source keys with names, as source 001 tells of them.

use std::sync::Arc;

use ::http::{Method, StatusCode};
use maud::html;
use serde_json::json;

use super::super::act::Visit;
use super::super::between::{AGREED, Question};
use super::super::fields::Draft;
use super::super::layout::Page;
use super::super::parts::{Icon, empty, icon, moment, notice};
use super::super::{once, to};
use super::things::{stretch, tenant_field, text};
use crate::http::problem::{Problem, ProblemCode};
use crate::http::response::Response;
use crate::model::{SigningKey, SigningKeyKind, TenantId, Timestamp};
use crate::service::Sight;

const SIGNING_KEYS: &str = "/ui/signing-keys";
const API: &str = "/v1/signing-keys";
/// The field of a rotation that says how long the secret before it counts, and that it does not.
const OVERLAP: &str = "overlap";
const NO_OVERLAP: &str = "0s";
/// Webhooks that are named, at most, where a key cannot be deleted.
const NAMED_MAX: usize = 25;
/// What it means to rotate a key.
const ROTATED: &str =
    "The key is replaced now. Every receiver that checks with it must be given the new one within 24 hours.";
/// What it means to delete a key.
const DELETED: &str = "The key is gone for good. One that a webhook still signs with is not deleted.";

/// `GET /ui/signing-keys`
pub(super) async fn list(visit: Visit) -> Result<Response, Problem> {
    show(&visit, &Draft::default())
}

fn show(visit: &Visit, draft: &Draft) -> Result<Response, Problem> {
    let (service, sight, now) = (visit.service(), visit.sight()?, visit.service().now());
    let (catalog, reaches_all) = (service.catalog(), visit.viewer.caller().reaches_all());
    let mut keys = service.signing_keys(&sight);
    keys.sort_by_cached_key(|key| (key.tenant.clone(), key.created, key.id.to_string()));
    let (rows, pager) = stretch(visit, &keys)?;
    let one = match &sight {
        Sight::One(tenant) => tenant.clone(),
        Sight::All => visit.viewer.caller().tenant(),
    };
    let whose = draft.value("tenant", one.as_str());
    // Where the tenant can still be chosen, nobody knows yet.
    let has_own = sight != Sight::All && keys.iter().any(|key| key.kind == SigningKeyKind::Signature);
    let kind = draft.value("kind", "source");
    let body = html! {
        p.lead { "Secrets that several webhooks sign with: the tenant's own signature key, and source keys, each with a name. A rotation reaches every webhook that uses it." }
        @if reaches_all {
            form.card method="get" action=(SIGNING_KEYS) { div.filters { (super::deliveries::tenant_select(visit, &catalog)) div.buttons { button type="submit" { "Show" } } } }
        }
        section.card.flush {
            @if keys.is_empty() { (empty("No signing keys yet", html! { "A webhook whose signature is Source Key or Signature Key needs one." })) }
            @else { div.scroll { table.stack {
                thead { tr { th scope="col" { "Name" } th scope="col" { "Kind" } th.num scope="col" { "Webhooks" } th scope="col" { "Created" } th scope="col" { span.hidden { "Actions" } } } }
                tbody { @for key in rows { tr {
                    th scope="row" { div { (key.name) span.sub.muted.small { @if reaches_all { (key.tenant) " · " } code { (key.id) } } } }
                    td data-label="Kind" { @if key.kind == SigningKeyKind::Signature { "Signature Key" } @else { "Source Key" } }
                    td.num data-label="Webhooks" { (catalog.signed_with(key.id).count()) }
                    td data-label="Created" { (moment(key.created, now)) }
                    td { div.actions {
                        form method="post" action={ (SIGNING_KEYS) "/" (key.id) "/reveal" } { button type="submit" { "Show" span.hidden { " " (key.name) } } }
                        form method="post" action={ (SIGNING_KEYS) "/" (key.id) "/rotate" } data-confirm={ "Rotate the signing key " (key.name) "? " (ROTATED) } { (once::field(visit)) button type="submit" { "Rotate" span.hidden { " " (key.name) } } }
                        form method="post" action={ (SIGNING_KEYS) "/" (key.id) "/delete" } data-confirm={ "Delete the signing key " (key.name) "? " (DELETED) } { button.danger type="submit" { "Delete" span.hidden { " " (key.name) } } }
                    } }
                } } }
            } } (pager) }
        }
        section.card.narrow {
            h2 { "Add a signing key" }
            (draft.summary())
            form method="post" action=(SIGNING_KEYS) {
                (once::field(visit))
                @if sight == Sight::All { div.field { label for="k-tenant" { "Tenant" } (tenant_field(visit, "k-tenant", whose)) } }
                @else { input type="hidden" name="tenant" value=(one); }
                fieldset.field { legend { "Kind" @if sight != Sight::All { ", for the tenant " (one) } }
                    label.choice { input type="radio" name="kind" value="source" checked[kind != "signature" || has_own]; span { "Source Key" span.sub { "One of several, known by its name." } } }
                    label.choice { input type="radio" name="kind" value="signature" checked[kind == "signature" && !has_own] disabled[has_own]; span { "Signature Key" span.sub { @if has_own { "The tenant has it already." } @else { "Unique to the tenant." } } } }
                }
                (draft.line("name", "Name", "", "A source key is known by it: point of sale, say.", false))
                div.buttons { button.primary type="submit" { "Add signing key" } }
            }
        }
    };
    let status = if draft.was_refused() { StatusCode::BAD_REQUEST } else { StatusCode::OK };
    Ok(Page { title: "Signing keys", place: SIGNING_KEYS, actions: html! {}, body }.show_as(status, visit))
}

/// `POST /ui/signing-keys`
pub(super) async fn create(visit: Visit) -> Result<Response, Problem> {
    let form = visit.form.clone();
    let tenant = match form.given("tenant").map(str::parse::<TenantId>).transpose() {
        Ok(tenant) => tenant,
        Err(why) => {
            let problem = Problem::new(ProblemCode::BadField, format!("tenant: {why}"));
            return show(&visit, &Draft::refused(form, problem));
        }
    };
    let mut body = json!({"kind": form.text("kind")});
    if let Some(name) = form.given("name") {
        body["name"] = name.into();
    }
    let made = match visit.make(API, tenant.as_ref(), body).await {
        Ok(made) => made,
        Err(problem) if once::ends_the_form(&problem) => return Err(problem),
        Err(problem) => return show(&visit, &Draft::refused(form, problem)),
    };
    let words = "Receivers check signatures with it. An administrator can have it shown again.";
    Ok(secret_page(&visit, "The signing key was made", SIGNING_KEYS, words, text(&made, "secret")))
}

/// The key that the path names.
fn named(visit: &Visit) -> Result<Arc<SigningKey>, Problem> {
    Ok(visit.service().signing_key(&visit.sight()?, visit.params.parse("id")?)?)
}

/// `POST /ui/signing-keys/{id}/reveal`
pub(super) async fn reveal(visit: Visit) -> Result<Response, Problem> {
    let shown = visit.ask(Method::POST, &format!("{API}/{}/reveal", named(&visit)?.id), None, None).await?;
    let body = html! {
        section.card.narrow {
            p { "That you have seen it stands in the audit log." }
            code.secret { (text(&shown, "secret")) }
            p { button type="button" hidden data-copy=(text(&shown, "secret")) { (icon(Icon::Copy)) "Copy" } " " a.button href=(SIGNING_KEYS) { "Done" } }
        }
    };
    Ok(Page { title: "Signing key", place: SIGNING_KEYS, actions: html! {}, body }.show(&visit))
}

/// The page that asks before something is done to a key, unless it has been.
fn asks_first(visit: &Visit, key: &SigningKey, what: &str, meaning: &str) -> Option<Response> {
    let button = if what == "Rotate" { "Rotate" } else { "Delete" };
    let (title, back) = (format!("{what} the signing key {}?", key.name), SIGNING_KEYS.to_owned());
    Question { title, meaning: meaning.to_owned(), button, place: SIGNING_KEYS, back }.unless_agreed(visit)
}

/// `POST /ui/signing-keys/{id}/rotate`
pub(super) async fn rotate(visit: Visit) -> Result<Response, Problem> {
    let key = named(&visit)?;
    // A second rotation would break the promise of the first, unless it is meant to.
    let ends_overlap = visit.form.text(OVERLAP) == NO_OVERLAP;
    let lasting =
        |key: &SigningKey| key.previous.as_ref().map(|(_, until)| *until).filter(|it| *it > visit.service().now());
    if !ends_overlap
        && !visit.form.is_ticked(AGREED)
        && let Some(until) = lasting(&key)
    {
        return Ok(rotated_lately(&visit, &key, until));
    }
    if !ends_overlap && let Some(page) = asks_first(&visit, &key, "Rotate", ROTATED) {
        return Ok(page);
    }
    let body = if ends_overlap { json!({OVERLAP: NO_OVERLAP}) } else { json!({}) };
    let rotated = match visit.make(&format!("{API}/{}/rotate", key.id), None, body).await {
        Ok(rotated) => rotated,
        Err(problem) => match lasting(&key).filter(|_| problem.code() == ProblemCode::Conflict) {
            Some(until) => return Ok(rotated_lately(&visit, &key, until)),
            None => return Err(problem),
        },
    };
    let count = match rotated["destinations"].as_array().map_or(0, Vec::len) {
        1 => "One webhook signs".to_owned(),
        count => format!("{count} webhooks sign"),
    };
    let until = text(&rotated, "previous_expires_at");
    let words = match ends_overlap {
        true => format!("{count} with it. The secret before it counts no more."),
        false => format!("{count} with it. The secret before it counts until {until}."),
    };
    Ok(secret_page(&visit, "The signing key was rotated", SIGNING_KEYS, &words, text(&rotated, "secret")))
}

/// The page that says why a key is not rotated now, and offers what can be done instead.
fn rotated_lately(visit: &Visit, key: &SigningKey, until: Timestamp) -> Response {
    let body = html! {
        section.card.narrow {
            p { "The secret before the last rotation still counts, until " (until) " (" (moment(until, visit.service().now())) "). "
                "Receivers may still check with it, so nothing was changed." }
            p { "Rotate again after that. If a secret has leaked, rotate now: then neither the secret before the last rotation nor the present "
                "one counts any more, and receivers refuse deliveries until they are given the new one." }
            form method="post" action={ (SIGNING_KEYS) "/" (key.id) "/rotate" } {
                (once::field(visit))
                input type="hidden" name=(OVERLAP) value=(NO_OVERLAP);
                div.buttons { a.button.left href=(SIGNING_KEYS) { "Leave it" } button.danger.primary type="submit" { "Rotate now" } }
            }
        }
    };
    let title = format!("The signing key {} was rotated lately", key.name);
    Page { title: &title, place: SIGNING_KEYS, actions: html! {}, body }.show_as(StatusCode::CONFLICT, visit)
}

/// `POST /ui/signing-keys/{id}/delete`
pub(super) async fn delete(visit: Visit) -> Result<Response, Problem> {
    let (key, catalog) = (named(&visit)?, visit.service().catalog());
    let mut signed: Vec<_> = catalog.signed_with(key.id).collect();
    if !signed.is_empty() {
        signed.sort_by_cached_key(|it| it.name.to_lowercase());
        let further = signed.len().saturating_sub(NAMED_MAX);
        let body = html! {
            section.card.narrow {
                p { "It was not deleted, for these webhooks sign with it. Give them another signature first." }
                ul {
                    @for it in signed.iter().take(NAMED_MAX) { li { a href={ "/ui/webhooks/" (it.id) } { (it.name) } } }
                    @if further > 0 { li { (further) " more" } }
                }
                div.buttons { a.button.left href=(SIGNING_KEYS) { "To the signing keys" } }
            }
        };
        let title = format!("The signing key {} is in use", key.name);
        let page = Page { title: &title, place: SIGNING_KEYS, actions: html! {}, body };
        return Ok(page.show_as(StatusCode::CONFLICT, &visit));
    }
    if let Some(page) = asks_first(&visit, &key, "Delete", DELETED) {
        return Ok(page);
    }
    visit.ask(Method::DELETE, &format!("{API}/{}", key.id), None, None).await?;
    Ok(to("/ui/signing-keys?done=deleted"))
}

/// A secret that is shown this once.
fn secret_page(visit: &Visit, title: &str, place: &str, words: &str, secret: &str) -> Response {
    let body = html! {
        section.card.narrow {
            (notice(Icon::Alert, "warn", html! { "This is the only time that it is shown. Keep it where it is safe." }))
            p { (words) }
            code.secret { (secret) }
            p { button type="button" hidden data-copy=(secret) { (icon(Icon::Copy)) "Copy" } " " a.button href=(place) { "Done" } }
        }
    };
    Page { title, place, actions: html! {}, body }.show(visit)
}
