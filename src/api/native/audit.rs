//! The audit log: its records newest first, each with its text as it was chained, and where the chain begins and ends.

use serde::Serialize;
use serde_json::value::RawValue;

use crate::api::caller::{Caller, forbidden};
use crate::api::page::Page;
use crate::api::{Call, native};
use crate::http::problem::{Problem, ProblemCode};
use crate::http::response::Response;
use crate::model::audit::Action;
use crate::model::{EventType, TenantId, TypePattern};
use crate::service::{Chain, Kept, Link, Sight, Wanted};

/// A record in an answer.
#[derive(Debug, Serialize)]
pub struct RecordView {
    /// Its number: from 1, without a gap.
    pub number: u64,
    /// SHA-256 over the 32 bytes of `previous`, then the text of `record` as it stands here.
    pub hash: String,
    /// The hash of the record before it.
    pub previous: String,
    /// What it tells, byte for byte as it was written.
    pub record: Box<RawValue>,
}

impl RecordView {
    /// How a record is shown; `None` when its text is no JSON.
    pub fn of(place: Link, kept: Kept) -> Option<Self> {
        let record = RawValue::from_string(kept.text).ok()?;
        let (hash, previous) = (place.hash.to_string(), kept.previous.to_string());
        Some(RecordView { number: place.number, hash, previous, record })
    }
}

/// A place of the chain in an answer.
#[derive(Debug, Serialize)]
pub struct LinkView {
    number: u64,
    hash: String,
}

impl LinkView {
    fn of(link: Link) -> Self {
        LinkView { number: link.number, hash: link.hash.to_string() }
    }
}

/// Where the chain begins and ends, in an answer.
#[derive(Debug, Serialize)]
pub struct HeadView {
    /// The newest record.
    head: LinkView,
    /// The last record that retention dropped; number 0 while it dropped none.
    anchor: LinkView,
}

/// The names of the filters of the list.
pub(super) const PARAMETERS: [&str; 6] = ["tenant", "actor", "action", "object", "from", "to"];

/// `GET /v1/audit`
pub(super) async fn list(call: Call, caller: Caller) -> Result<Response, Problem> {
    let query = call.request.query()?;
    let page = Page::from_query(call.request.path(), &query)?;
    let tenant = match (query.parse::<TenantId>("tenant")?, caller.sight()) {
        (Some(tenant), sight) if !sight.takes(&tenant) => {
            return Err(forbidden("?tenant", "is another one than the caller acts for"));
        }
        (Some(tenant), _) => Some(tenant),
        (None, Sight::One(own)) => Some(own),
        (None, Sight::All) => None,
    };
    // Whoever took the id of a deleted tenant does not see what was done to that one.
    let first = match caller.sight() {
        Sight::One(own) => call.service.catalog().tenant(&own).map_or(u64::MAX, |tenant| tenant.audit_from),
        Sight::All => 0,
    };
    let action = query.parse::<TypePattern>("action")?;
    if let Some(pattern) = &action {
        let is_meant = |name: &str| name.parse().is_ok_and(|name: EventType| pattern.matches(&name));
        let known = Action::ALL.iter().map(|action| action.as_str());
        if !known.clone().any(is_meant) {
            let why = format!("names no action; there are {}", known.collect::<Vec<_>>().join(", "));
            return Err(Problem::of_parameter("action", why));
        }
    }
    let text = |name: &str| query.text(name).map(str::to_owned);
    let wanted = Wanted {
        tenant,
        first,
        actor: text("actor"),
        action,
        object: text("object"),
        from: query.parse("from")?,
        to: query.parse("to")?,
    };
    let found = call.service.audit(wanted, page.window()).await?;
    Ok(native::ok(&page.found("records", found, |(place, kept)| RecordView::of(place, kept))?))
}

/// `GET /v1/audit/head`: for whoever administers all tenants, since the chain is one for all of them.
pub(super) async fn head(call: Call, caller: Caller) -> Result<Response, Problem> {
    if !caller.is_house_admin() {
        return Err(Problem::new(ProblemCode::Forbidden, "the chain is for administrators of all tenants"));
    }
    let Chain { anchor, head } = call.service.chain();
    Ok(native::ok(&HeadView { head: LinkView::of(head), anchor: LinkView::of(anchor) }))
}
