//! The pages: one file for each thing, and the table of routes.

mod audit;
mod keys;
mod overview;
mod tail;
mod tenants;
mod things;

use ::http::Method;

use crate::http::route::Route;
use crate::model::Role::{Admin, Read};

use super::act::{Act, known};

/// Every route of the dashboard, with the role that it asks for.
pub(super) fn routes() -> Vec<Route<Act>> {
    const GET: Method = Method::GET;
    const POST: Method = Method::POST;
    /// A plain function that boxes the future of an async one.
    macro_rules! page {
        ($act:path) => {
            |visit| Box::pin($act(visit))
        };
    }
    vec![
        known(GET, "/ui/", Read, page!(overview::show)).asking(&["tenant", "span", "done"]),
        known(GET, "/ui/tail", Read, page!(tail::show)).asking(&tail::FILTERS),
        known(GET, "/ui/tail/stream", Read, page!(tail::stream)).asking(&tail::FILTERS),
        known(GET, "/ui/audit", Admin, page!(audit::list)).asking(&audit::FILTERS),
        known(GET, "/ui/keys", Admin, page!(keys::list)).asking(&["tenant", "after", "done"]),
        known(POST, "/ui/keys", Admin, page!(keys::create)),
        known(GET, "/ui/keys/{id}", Admin, page!(keys::read)).asking(&["done"]),
        known(POST, "/ui/keys/{id}", Admin, page!(keys::update)),
        known(POST, "/ui/keys/{id}/delete", Admin, page!(keys::delete)),
        known(GET, "/ui/tenants", Read, page!(tenants::list)).asking(&["tenant", "after", "done"]),
        known(POST, "/ui/tenants", Admin, page!(tenants::create)),
        known(GET, "/ui/tenants/{id}", Read, page!(tenants::read)).asking(&["done"]),
        known(POST, "/ui/tenants/{id}", Admin, page!(tenants::update)),
        known(POST, "/ui/tenants/{id}/delete", Admin, page!(tenants::delete)),
    ]
}
