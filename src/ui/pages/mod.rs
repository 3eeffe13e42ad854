//! The pages: one file for each thing, and the table of routes.

mod account;
mod audit;
mod deliveries;
mod delivery;
mod destinations;
pub(super) mod door;
mod events;
mod keys;
mod overview;
mod people;
mod replays;
mod signing_keys;
mod system;
mod tail;
mod tenants;
mod things;
mod webhooks;

use ::http::Method;

use crate::http::route::Route;
use crate::model::Role::{Admin, Operate, Read};

use super::act::{Act, known, open};

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
        open(GET, "/ui/login", page!(door::login)),
        open(POST, "/ui/login", page!(door::sign_in)),
        open(GET, "/ui/login/totp", page!(door::code)),
        open(POST, "/ui/login/totp", page!(door::show_code)),
        open(GET, "/ui/login/recovery", page!(door::recovery)),
        open(POST, "/ui/login/recovery", page!(door::recover)),
        open(GET, "/ui/enrol", page!(door::enrol)),
        open(POST, "/ui/enrol", page!(door::confirm_enrolment)),
        open(GET, "/ui/password", page!(door::password)),
        open(POST, "/ui/password", page!(door::choose_password)),
        open(POST, "/ui/logout", page!(door::logout)),
        known(GET, "/ui/account", Read, page!(account::show)).asking(&["done"]),
        known(POST, "/ui/account/password", Read, page!(account::change_password)),
        known(GET, "/ui/step-up", Read, page!(account::ask)).asking(&["next"]),
        known(POST, "/ui/step-up", Read, page!(account::prove)).asking(&["next"]),
        known(GET, "/ui/", Read, page!(overview::show)).asking(&["tenant", "span", "done"]),
        known(GET, "/ui/tail", Read, page!(tail::show)).asking(&tail::FILTERS),
        known(GET, "/ui/tail/stream", Read, page!(tail::stream)).asking(&tail::FILTERS),
        known(GET, "/ui/audit", Admin, page!(audit::list)).asking(&audit::FILTERS),
        known(GET, "/ui/keys", Admin, page!(keys::list)).asking(&["tenant", "after", "done"]),
        known(POST, "/ui/keys", Admin, page!(keys::create)),
        known(GET, "/ui/keys/{id}", Admin, page!(keys::read)).asking(&["done"]),
        known(POST, "/ui/keys/{id}", Admin, page!(keys::update)),
        known(POST, "/ui/keys/{id}/delete", Admin, page!(keys::delete)),
        known(GET, "/ui/people", Admin, page!(people::list)).asking(&["tenant", "after", "done"]),
        known(POST, "/ui/people", Admin, page!(people::create)),
        known(GET, "/ui/people/{id}", Admin, page!(people::read)).asking(&["done"]),
        known(POST, "/ui/people/{id}", Admin, page!(people::update)),
        known(POST, "/ui/people/{id}/password", Admin, page!(people::set_password)),
        known(POST, "/ui/people/{id}/unlock", Admin, page!(people::unlock)),
        known(POST, "/ui/people/{id}/reset-totp", Admin, page!(people::reset_totp)),
        known(POST, "/ui/people/{id}/delete", Admin, page!(people::delete)),
        known(GET, "/ui/tenants", Read, page!(tenants::list)).asking(&["tenant", "after", "done"]),
        known(POST, "/ui/tenants", Admin, page!(tenants::create)),
        known(GET, "/ui/tenants/{id}", Read, page!(tenants::read)).asking(&["done"]),
        known(POST, "/ui/tenants/{id}", Admin, page!(tenants::update)),
        known(POST, "/ui/tenants/{id}/delete", Admin, page!(tenants::delete)),
        known(GET, "/ui/deliveries", Read, page!(deliveries::list)).asking(&deliveries::PARAMETERS),
        known(GET, "/ui/deliveries/{id}", Read, page!(deliveries::read)).asking(&["done"]),
        known(POST, "/ui/deliveries/{id}/resend", Operate, page!(deliveries::resend)),
        known(POST, "/ui/deliveries/{id}/cancel", Operate, page!(deliveries::cancel)),
        known(GET, "/ui/events", Read, page!(events::list)).asking(&events::PARAMETERS),
        known(GET, "/ui/events/{id}", Read, page!(events::read)).asking(&["after", "done"]),
        known(POST, "/ui/events/{id}/payload", Operate, page!(events::payload)),
        known(POST, "/ui/events/{id}/erase", Operate, page!(events::erase)),
        known(GET, "/ui/replays", Read, page!(replays::list)).asking(&["tenant", "offset", "done"]),
        known(POST, "/ui/replays", Operate, page!(replays::create)),
        known(GET, "/ui/replays/new", Operate, page!(replays::new)).asking(&replays::PARAMETERS),
        known(POST, "/ui/replays/{id}/cancel", Operate, page!(replays::cancel)),
        known(GET, "/ui/webhooks", Read, page!(webhooks::list)).asking(&["tenant", "search", "offset", "done"]),
        known(POST, "/ui/webhooks", Operate, page!(webhooks::create)),
        known(GET, "/ui/webhooks/new", Operate, page!(webhooks::new)).asking(&["tenant"]),
        known(GET, "/ui/webhooks/{id}", Operate, page!(webhooks::edit)),
        known(POST, "/ui/webhooks/{id}", Operate, page!(webhooks::save)),
        known(GET, "/ui/webhooks/{id}/delete", Operate, page!(webhooks::confirm_delete)),
        known(POST, "/ui/webhooks/{id}/delete", Operate, page!(webhooks::delete)),
        known(GET, "/ui/destinations/{id}", Read, page!(destinations::read)).asking(&["span", "done"]),
        known(POST, "/ui/destinations/{id}/pause", Operate, page!(destinations::pause)),
        known(POST, "/ui/destinations/{id}/resume", Operate, page!(destinations::resume)),
        known(POST, "/ui/destinations/{id}/enable", Operate, page!(destinations::enable)),
        known(POST, "/ui/destinations/{id}/confirm", Operate, page!(destinations::confirm)),
        known(POST, "/ui/destinations/{id}/test", Operate, page!(destinations::test)),
        known(POST, "/ui/destinations/{id}/rotate", Operate, page!(destinations::rotate)),
        known(GET, "/ui/signing-keys", Admin, page!(signing_keys::list)).asking(&["tenant", "offset", "done"]),
        known(POST, "/ui/signing-keys", Admin, page!(signing_keys::create)),
        known(POST, "/ui/signing-keys/{id}/reveal", Admin, page!(signing_keys::reveal)),
        known(POST, "/ui/signing-keys/{id}/rotate", Admin, page!(signing_keys::rotate)),
        known(POST, "/ui/signing-keys/{id}/delete", Admin, page!(signing_keys::delete)),
        known(GET, "/ui/system", Read, page!(system::show)),
    ]
}
