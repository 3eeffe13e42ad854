//! The pages: one file for each thing, and the table of routes.

mod overview;

use ::http::Method;

use crate::http::route::Route;
use crate::model::Role::Read;

use super::act::{Act, known};

/// Every route of the dashboard, with the role that it asks for.
pub(super) fn routes() -> Vec<Route<Act>> {
    const GET: Method = Method::GET;
    /// A plain function that boxes the future of an async one.
    macro_rules! page {
        ($act:path) => {
            |visit| Box::pin($act(visit))
        };
    }
    vec![known(GET, "/ui/", Read, page!(overview::show)).asking(&["tenant", "span", "done"])]
}
