//! What the pages of tenants, keys, signing keys and people share: each is a list with a form beneath it, and a page for
//! each thing where it is changed and deleted.

use ::http::Method;
use maud::{Markup, html};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::Value;

use super::super::act::Visit;
use super::super::parts::{Links, moment, number, pager};
use crate::http::problem::Problem;
use crate::model::Timestamp;

/// Rows on a page.
const ROWS: &str = "25";
/// The same, of a list that is in memory.
const ROWS_IN_MEMORY: usize = 25;

/// The roles of keys, with what each may do.
pub(super) const KEY_ROLES: [(&str, &str); 4] = [
    ("ingest", "ingest: hands events in, sees nothing"),
    ("read", "read: sees everything but payloads"),
    ("operate", "operate: also resends, pauses and changes webhooks"),
    ("admin", "admin: everything"),
];

/// A text of an answer of the API; the empty one when there is none.
pub(super) fn text<'a>(thing: &'a Value, name: &str) -> &'a str {
    thing[name].as_str().unwrap_or_default()
}

/// A moment of an answer of the API.
pub(super) fn when(visit: &Visit, thing: &Value, name: &str) -> Markup {
    match text(thing, name).parse::<Timestamp>() {
        Ok(at) => moment(at, visit.service().now()),
        Err(_) => html! { "–" },
    }
}

/// What is written otherwise in a path; `_` and `-`, which ids hold, stand as they are.
const ESCAPED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'_').remove(b'-');

/// One segment of a path.
pub(super) fn segment(text: &str) -> String {
    utf8_percent_encode(text, ESCAPED).to_string()
}

/// A page of a list of the API, and the link to the next one. What the visit's query says goes along, but for `own`, which
/// are the page's own names.
pub(super) async fn rows(visit: &Visit, path: &str, plural: &str) -> Result<(Vec<Value>, Markup), Problem> {
    let own = ["done", "tenant"];
    let asked = url::form_urlencoded::parse(visit.request.query_text().as_bytes());
    let mut asked: Vec<_> =
        asked.filter(|(name, value)| !value.trim().is_empty() && !own.contains(&name.as_ref())).collect();
    // People write times in more ways than the API reads.
    for (_, value) in asked.iter_mut().filter(|(name, _)| ["from", "to"].contains(&name.as_ref())) {
        if let Ok(at) = Timestamp::parse_in_utc(value.trim()) {
            *value = at.to_string().into();
        }
    }
    let query =
        url::form_urlencoded::Serializer::new(String::new()).extend_pairs(&asked).append_pair("limit", ROWS).finish();
    let tenant = visit.tenant_asked()?;
    let mut answer = visit.ask(Method::GET, &format!("{path}?{query}"), tenant.as_ref(), None).await?;
    let next = answer["next"].as_str().map(|cursor| {
        let mut link = url::form_urlencoded::Serializer::new(String::new());
        link.extend_pairs(asked.iter().filter(|(name, _)| name != "after"));
        if let Some(tenant) = &tenant {
            link.append_pair("tenant", tenant.as_str());
        }
        format!("{}?{}", visit.request.path(), link.append_pair("after", cursor).finish())
    });
    let rows = match answer[plural].take() {
        Value::Array(rows) => rows,
        _ => Vec::new(),
    };
    Ok((rows, pager(next, "Older")))
}

/// The rows of a page of a list that is in memory, and the link to the next one.
pub(super) fn stretch<'a, T>(visit: &Visit, all: &'a [T]) -> Result<(&'a [T], Markup), Problem> {
    let from = visit.asked::<usize>("offset")?.unwrap_or(0).min(all.len());
    let rows = &all[from..all.len().min(from + ROWS_IN_MEMORY)];
    let end = from + rows.len();
    let next = html! {
        @if end < all.len() {
            nav.pager aria-label="Pages" {
                span.muted { (number(from as u64 + 1)) " to " (number(end as u64)) " of " (number(all.len() as u64)) }
                a.button href=(Links::of(visit).with("offset", &end.to_string()).path()) rel="next" { "More" }
            }
        }
    };
    Ok((rows, next))
}

/// How a thing is deleted: what that means, and the button, after which it is asked once more, by the thing's name.
pub(super) fn deletion(path: &str, what: &str, name: &str, meaning: &str) -> Markup {
    grave(&format!("Delete this {what}"), &format!("Delete the {what} {name}?"), meaning, &format!("{path}/delete"))
}

/// What cannot be undone, in a card of its own: what it means, and the button, after which it is asked once more.
pub(super) fn grave(what: &str, question: &str, meaning: &str, action: &str) -> Markup {
    html! {
        section.card.narrow {
            h2 { (what) }
            p.muted { (meaning) }
            form method="post" action=(action) data-confirm={ (question) " " (meaning) } { div.buttons { button.danger type="submit" { (what) } } }
        }
    }
}

/// A secret that is shown this once, with where to go on.
pub(super) fn shown_once(secret: &str, words: Markup, back: &str) -> Markup {
    html! {
        section.card.narrow {
            p { (words) }
            code.secret tabindex="0" { (secret) }
            p.muted { "It is shown this once: keep it where it is safe before you leave this page." }
            div.buttons {
                button type="button" hidden data-copy=(secret) { "Copy" }
                a.button.primary href=(back) { "Done" }
            }
        }
    }
}

/// Tenants that a form offers by name: with more of them every page would be heavy.
const TENANTS_OFFERED_MAX: usize = 100;

/// The choice of a tenant in a form, or a field for its id, where there are many. The label is the form's own.
pub(super) fn tenant_field(visit: &Visit, id: &str, chosen: &str) -> Markup {
    let catalog = visit.service().catalog();
    let tenants: Vec<_> = catalog.tenants().map(|it| it.id.as_str()).take(TENANTS_OFFERED_MAX + 1).collect();
    html! {
        @if tenants.len() > TENANTS_OFFERED_MAX { input #(id) type="text" name="tenant" value=(chosen) autocomplete="off" spellcheck="false"; }
        @else {
            select #(id) name="tenant" {
                @if !tenants.contains(&chosen) { option value=(chosen) selected { (chosen) } }
                @for tenant in tenants { option value=(tenant) selected[tenant == chosen] { (tenant) } }
            }
        }
    }
}

/// Whose a thing is.
pub(super) fn reach(thing: &Value) -> Markup {
    html! { @match thing["tenant"].as_str() { Some(tenant) => (tenant), None => em { "all tenants" } } }
}
