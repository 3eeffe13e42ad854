//! `GET …/{id}/stats`: how a destination does.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Serialize;

use super::view::LaneView;
use crate::api::caller::Caller;
use crate::api::door::duration_text;
use crate::api::{Call, native};
use crate::http::problem::Problem;
use crate::http::response::Response;
use crate::model::{DestinationId, Timestamp};
use crate::service::stats::{Counts, SPANS, Stats};

#[derive(Debug, Serialize)]
struct StatsView<'a> {
    destination_id: String,
    lane: LaneView,
    deliveries: DeliveriesView,
    oldest_waiting_at: Option<String>,
    oldest_waiting_seconds: Option<u64>,
    last_success_at: Option<String>,
    last_failure_at: Option<String>,
    /// What the attempts below were counted over: the newest deliveries.
    sample: SampleView,
    /// One for each span of time that ends now.
    attempts: Vec<AttemptsView<'a>>,
}

#[derive(Debug, Serialize)]
struct DeliveriesView {
    accepted: u64,
    pending: u64,
    held: u64,
    succeeded: u64,
    failed: u64,
    cancelled: u64,
}

#[derive(Debug, Serialize)]
struct SampleView {
    deliveries: usize,
    /// Whether these are all there are.
    complete: bool,
    /// Otherwise, when the oldest of their events was accepted.
    from: Option<String>,
}

#[derive(Debug, Serialize)]
struct AttemptsView<'a> {
    within: String,
    attempts: u64,
    succeeded: u64,
    failed: u64,
    unknown: u64,
    success_rate: Option<f64>,
    reasons: &'a BTreeMap<&'static str, u64>,
    duration_ms: DurationsView,
}

/// Milliseconds, to the microsecond; `null` while there was no attempt.
#[derive(Debug, Serialize)]
struct DurationsView {
    p50: Option<f64>,
    p90: Option<f64>,
    p99: Option<f64>,
    max: Option<f64>,
}

impl<'a> StatsView<'a> {
    fn of(id: DestinationId, stats: &'a Stats, now: Timestamp) -> Self {
        let text = |at: Option<Timestamp>| at.map(|at| at.to_string());
        let (tally, waiting) = (stats.tally, stats.tally.waiting());
        let (pending, held) = if stats.holds { (0, waiting) } else { (waiting, 0) };
        StatsView {
            destination_id: id.to_string(),
            lane: LaneView::of(stats.lane, now),
            deliveries: DeliveriesView {
                accepted: tally.accepted,
                pending,
                held,
                succeeded: tally.succeeded,
                failed: tally.failed,
                cancelled: tally.cancelled,
            },
            oldest_waiting_at: text(stats.oldest_waiting),
            oldest_waiting_seconds: stats.oldest_waiting.map(|accepted| now.since(accepted).as_secs()),
            last_success_at: text(stats.last_success),
            last_failure_at: text(stats.last_failure),
            sample: SampleView {
                deliveries: stats.sampled,
                complete: stats.sampled_from.is_none(),
                from: text(stats.sampled_from),
            },
            attempts: SPANS.iter().zip(&stats.counts).map(|(span, counts)| AttemptsView::of(*span, counts)).collect(),
        }
    }
}

impl<'a> AttemptsView<'a> {
    fn of(span: Duration, counts: &'a Counts) -> Self {
        let millis = |percent| counts.percentile(percent).map(|took| took.as_micros() as f64 / 1000.0);
        AttemptsView {
            within: duration_text(span),
            attempts: counts.attempts(),
            succeeded: counts.succeeded,
            failed: counts.failed,
            unknown: counts.unknown,
            success_rate: counts.success_rate(),
            reasons: &counts.reasons,
            duration_ms: DurationsView { p50: millis(50), p90: millis(90), p99: millis(99), max: millis(100) },
        }
    }
}

/// `GET /v1/destinations/webhook/{id}/stats`
pub(in crate::api::native) async fn read(call: Call, caller: Caller) -> Result<Response, Problem> {
    let id = call.params.parse("id")?;
    let stats = call.service.stats(&caller.sight(), id).await?;
    Ok(native::ok(&StatsView::of(id, &stats, call.service.now())))
}
