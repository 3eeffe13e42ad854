//! How things stand: `GET /v1/status`, and what supervisors ask without a key.

use serde::Serialize;

use crate::api::caller::Caller;
use crate::api::{Call, native};
use crate::http::problem::Problem;
use crate::http::response::Response;
use crate::service::{Sight, Status};

/// Counts over one tenant, for a key that is bound to it and where `X-Tenant` names it, or else over all. Deliveries are accepted = pending + held + succeeded + failed + cancelled.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct StatusView {
    /// Which tenant they are about; `null` for all of them.
    pub tenant: Option<String>,
    /// Deliveries that accepted events have caused.
    pub accepted: u64,
    /// Those that will be tried when their time comes.
    pub pending: u64,
    /// Those that wait for their lane.
    pub held: u64,
    /// Those that succeeded.
    pub succeeded: u64,
    /// Those that were given up.
    pub failed: u64,
    /// Those that an operator ended.
    pub cancelled: u64,
    /// Accepted events; `null` for who sees one tenant, since events are not counted by tenant.
    pub events: Option<u64>,
    /// How long ago the oldest event with an unfinished delivery was accepted, in whole seconds; `null` when there is none, and
    /// for who sees one tenant.
    pub oldest_pending_seconds: Option<u64>,
    /// Damaged records that have been met since the start, each counted once; `null` for who sees one tenant.
    pub damaged_records: Option<u64>,
}

impl StatusView {
    fn of(status: Status, sight: &Sight) -> Self {
        let tenant = match sight {
            Sight::All => None,
            Sight::One(tenant) => Some(tenant.to_string()),
        };
        let Status { events, accepted, pending, held, succeeded, failed, cancelled, .. } = status;
        let Status { oldest_pending_seconds, damaged_records, .. } = status;
        StatusView {
            tenant,
            accepted,
            pending,
            held,
            succeeded,
            failed,
            cancelled,
            events,
            oldest_pending_seconds,
            damaged_records,
        }
    }
}

/// `GET /v1/status`
pub(super) async fn read(call: Call, caller: Caller) -> Result<Response, Problem> {
    let sight = caller.sight();
    Ok(native::ok(&StatusView::of(call.service.status(&sight).await?, &sight)))
}

/// The answer while all is well.
#[derive(Debug, Serialize)]
struct Well {
    status: &'static str,
}

/// `GET /healthz`: the process lives.
pub(super) async fn healthz(_: Call) -> Result<Response, Problem> {
    Ok(native::ok(&Well { status: "ok" }))
}

/// `GET /readyz`: events would be taken at this moment; if not, a 503 that says why.
pub(super) async fn readyz(call: Call) -> Result<Response, Problem> {
    match call.service.refuses_events() {
        None => Ok(native::ok(&Well { status: "ok" })),
        Some(rejection) => Err(rejection.into()),
    }
}
