//! `GET /v1/status`: how much there is of everything.

use serde::Serialize;

/// Counts over the tenants that the caller sees. Deliveries are accepted = pending + held + succeeded + failed + cancelled.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct StatusView {
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
    /// Accepted events.
    pub events: u64,
    /// How long the oldest pending delivery has been due, in whole seconds; `null` when none is.
    pub oldest_pending_seconds: Option<u64>,
}
