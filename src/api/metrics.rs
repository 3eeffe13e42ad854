//! `GET /metrics`: what is counted, for Prometheus and its kin. Who counts is not this room's business: it is given a way
//! to ask.

use std::pin::Pin;
use std::sync::Arc;

use ::http::StatusCode;
use ::http::header::ACCEPT;
use bytes::Bytes;

use crate::api::Call;
use crate::http::problem::Problem;
use crate::http::response::Response;

/// The two forms of the text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exposition {
    /// OpenMetrics 1.0.
    OpenMetrics,
    /// Prometheus' text format 0.0.4.
    Prometheus,
}

impl Exposition {
    const fn content_type(self) -> &'static str {
        match self {
            Exposition::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
            Exposition::Prometheus => "text/plain; version=0.0.4; charset=utf-8",
        }
    }
}

/// Asks for everything that is counted, as text.
pub type Scrape = dyn Fn(Exposition) -> Pin<Box<dyn Future<Output = String> + Send>> + Send + Sync;

/// Where metrics come from; by default there are none.
#[derive(Clone)]
pub struct Metrics(Arc<Scrape>);

impl Metrics {
    /// Metrics from this source.
    pub fn new(scrape: Arc<Scrape>) -> Self {
        Metrics(scrape)
    }
}

impl Default for Metrics {
    fn default() -> Self {
        Metrics(Arc::new(|_| Box::pin(std::future::ready(String::new()))))
    }
}

/// `GET /metrics`: OpenMetrics where `Accept` names it, Prometheus' own format otherwise.
pub(super) async fn read(call: Call) -> Result<Response, Problem> {
    let accepted = call.request.headers().get_all(ACCEPT).iter().filter_map(|value| value.to_str().ok());
    let open = accepted
        .flat_map(|value| value.split(','))
        .any(|range| range.split(';').next().is_some_and(|range| range.trim() == "application/openmetrics-text"));
    let exposition = if open { Exposition::OpenMetrics } else { Exposition::Prometheus };
    let text = (call.metrics.0)(exposition).await;
    Ok(Response::bytes(StatusCode::OK, exposition.content_type(), Bytes::from(text)))
}
