//! What the API answers, in words: what keeps a destination, what became of an attempt.

use serde_json::Value;

use super::nouns::cell_text;
use crate::model::{Timestamp, words};

/// What keeps a destination from being sent to.
pub(super) fn standing(destination: &Value, holds_unconfirmed: bool) -> String {
    let lane = destination["lane"]["state"].as_str().unwrap_or_default();
    let (is_disabled, is_confirmed) = (destination["disabled"] == true, destination["confirmed"] != false);
    words::standing(is_disabled, is_confirmed, lane, holds_unconfirmed).to_owned()
}

/// One attempt: when, what came of it, and why.
pub(super) fn attempt(attempt: &Value) -> String {
    let outcome = match attempt["outcome"].as_str().unwrap_or_default() {
        "unknown" => "had an unknown end",
        other => other,
    };
    let (number, started, took) = (&attempt["number"], cell_text(&attempt["started_at"]), &attempt["duration_ms"]);
    let mut text = format!("attempt {number} of {started} {outcome} after {took} ms");
    if let Some(reason) = attempt["reason"].as_str() {
        text.push_str(": ");
        text.push_str(words::reason(reason, attempt["trigger"].as_str().unwrap_or_default()));
    }
    match (attempt["error"].as_str(), attempt["status"].as_u64()) {
        (Some(error), _) => text.push_str(&format!(" ({error})")),
        (None, Some(status)) => text.push_str(&format!(" (status {status})")),
        (None, None) => {}
    }
    text
}

/// How far ahead a moment lies, in brackets.
pub(super) fn until(moment: Timestamp, now: Timestamp) -> String {
    match moment.since(now).as_secs() {
        0 => " (now)".to_owned(),
        seconds @ 1..120 => format!(" (in {seconds} s)"),
        seconds @ 120..7_200 => format!(" (in {} min)", seconds / 60),
        seconds @ 7_200..172_800 => format!(" (in {} h)", seconds / 3600),
        seconds => format!(" (in {} days)", seconds / 86_400),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;
    use std::time::Duration;

    #[test]
    fn an_attempt_is_told_with_its_status_or_its_error() {
        let told = attempt(&json!({
            "number": 2, "started_at": "T", "duration_ms": 7, "outcome": "failed", "reason": "status", "status": 503
        }));
        assert_eq!(told, "attempt 2 of T failed after 7 ms: the reply was not a success (status 503)");
        let told = attempt(&json!({
            "number": 1, "started_at": "T", "duration_ms": 0, "outcome": "unknown", "reason": "reset", "error": "eof"
        }));
        assert_eq!(told, "attempt 1 of T had an unknown end after 0 ms: the connection ended before a reply (eof)");
    }

    /// Whoever is asked to echo learns that it is the challenge that was missed.
    #[test]
    fn a_confirmation_without_the_challenge_is_told_as_such() {
        let told = |trigger: &str| {
            attempt(&json!({
                "number": 1, "started_at": "T", "duration_ms": 7, "outcome": "failed", "reason": "predicate", "status": 200,
                "trigger": trigger,
            }))
        };
        assert!(told("confirmation").contains("the reply does not repeat the challenge"), "{}", told("confirmation"));
        assert!(!told("schedule").contains("challenge"), "{}", told("schedule"));
    }

    #[test]
    fn what_lies_ahead_is_told_in_the_unit_that_fits() {
        let now = Timestamp::from_millis(1_700_000_000_000);
        let table = [(0, "now"), (90, "in 90 s"), (600, "in 10 min"), (14_400, "in 4 h"), (864_000, "in 10 days")];
        for (seconds, words) in table {
            assert_eq!(until(now.after(Duration::from_secs(seconds)), now), format!(" ({words})"));
        }
        assert_eq!(until(Timestamp::ZERO, now), " (now)", "what is overdue is due");
    }
}
