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

/// `GET /metrics`: OpenMetrics where `Accept` names it and does not prefer plain text, Prometheus' own format otherwise.
pub(super) async fn read(call: Call) -> Result<Response, Problem> {
    let accepted = call.request.headers().get_all(ACCEPT).iter().filter_map(|value| value.to_str().ok());
    let ranges: Vec<&str> = accepted.flat_map(|value| value.split(',')).collect();
    let open = weight(&ranges, "application/openmetrics-text");
    let is_open = open > 0.0 && open >= weight(&ranges, "text/plain");
    let exposition = if is_open { Exposition::OpenMetrics } else { Exposition::Prometheus };
    let text = (call.metrics.0)(exposition).await;
    Ok(Response::bytes(StatusCode::OK, exposition.content_type(), Bytes::from(text)))
}

/// How much these ranges of an `Accept` want the type that they name (RFC 9110, 12.4.2): 0 to 1, and 0 when none names it.
fn weight(ranges: &[&str], name: &str) -> f32 {
    let named = ranges.iter().filter_map(|range| {
        let mut parts = range.split(';').map(str::trim);
        parts.next().filter(|named| named.eq_ignore_ascii_case(name))?;
        let weight = parts.find_map(|parameter| {
            let (name, weight) = parameter.split_once('=')?;
            name.eq_ignore_ascii_case("q").then_some(weight)
        });
        Some(weight.map_or(1.0, |weight| weight.parse().unwrap_or(0.0)))
    });
    named.fold(0.0, f32::max)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_weight_of_a_type_is_the_highest_that_it_is_named_with() {
        let prometheus = "application/openmetrics-text;version=1.0.0;q=0.5,application/openmetrics-text;version=0.0.1;q=0.4,\
                          text/plain;version=0.0.4; q=0.2,*/*;q=0.1";
        let ranges: Vec<&str> = prometheus.split(',').collect();
        assert_eq!(weight(&ranges, "application/openmetrics-text"), 0.5);
        assert_eq!(weight(&ranges, "text/plain"), 0.2);
        assert_eq!(weight(&["Text/Plain"], "text/plain"), 1.0);
        assert_eq!(weight(&["text/plain;Q=0.1"], "text/plain"), 0.1);
        assert_eq!(weight(&["text/plain;q=0"], "text/plain"), 0.0);
        assert_eq!(weight(&["text/plain;q=much"], "text/plain"), 0.0);
        assert_eq!(weight(&["*/*"], "text/plain"), 0.0);
    }
}
