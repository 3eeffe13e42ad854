//! The closed lists of the API in words: why a delivery waits, how it ended, what became of an attempt.
//!
//! A name that this command does not know is told as it is: the daemon may be newer.

use serde_json::Value;

use super::nouns::cell_text;
use crate::model::Timestamp;

/// Why a delivery is in its state. `reason` is the waiting reason of an unfinished one, and the ending of an ended one.
pub(super) fn why(state: &str, reason: &str, is_disabled: bool) -> String {
    let words = match (state, reason) {
        ("succeeded", _) => "the receiver has taken it",
        (_, "exhausted") => "every attempt of its schedule has failed",
        (_, "expired") => "its event expired before it could be delivered",
        (_, "erased") => "its payload was erased before it could be delivered",
        (_, "cancelled") => "an operator gave it up",
        (_, "destination_deleted") => "its destination was deleted",
        (_, "due_later") => "its producer asked for it to be delivered later",
        (_, "retry_later") => "it waits for the next attempt of its schedule",
        (_, "retry_after") => "the receiver asked for time (Retry-After)",
        (_, "lane_full") => "the destination has as many requests under way as it may",
        (_, "lane_shut") => "the destination failed again and again, and is left alone until one attempt succeeds",
        (_, "rate") => "the destination's rate allows no more at this moment",
        (_, "order") => "an earlier event with the same ordering key is not delivered yet",
        (_, "paused") if is_disabled => "the destination is switched off",
        (_, "paused") => "the destination is paused",
        (_, "unconfirmed") => "the destination has not confirmed its URL yet",
        (_, "gone") => "the receiver said that it is gone (410)",
        (_, "in_flight") => "it is being sent at this moment",
        (_, other) => other,
    };
    words.to_owned()
}

/// What keeps a destination from being sent to. One that was confirmed for another URL holds what comes, and one that never
/// was is passed by; `holds_unconfirmed` is whether something is seen to wait for the confirmation.
pub(super) fn standing(destination: &Value, holds_unconfirmed: bool) -> String {
    let lane = &destination["lane"];
    let words = match lane["state"].as_str().unwrap_or_default() {
        _ if destination["disabled"] == true => "it is switched off: events pass it by",
        _ if destination["confirmed"] == false && holds_unconfirmed => {
            "it has not confirmed its new URL: what is to go there is held until it does"
        }
        _ if destination["confirmed"] == false => {
            "it has not been confirmed: events pass it by, or are held if it was confirmed for another URL before"
        }
        "open" => "nothing stands in its way",
        "paused" => "an operator paused it: what is to go there is held",
        "gone" => "it said that it is gone (410): what is to go there is held",
        "held" => "it asked for time (Retry-After)",
        "shut" => "it failed again and again, and is left alone until then; then one attempt tries it out",
        "probing" => "it failed again and again; the next attempt tries it out",
        other => other,
    };
    words.to_owned()
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
        text.push_str(match (reason, attempt["trigger"].as_str()) {
            ("predicate", Some("confirmation")) => {
                "the reply does not repeat the challenge (with confirmation.mode echo), or does not say what counts as success"
            }
            _ => reason_words(reason),
        });
    }
    match (attempt["error"].as_str(), attempt["status"].as_u64()) {
        (Some(error), _) => text.push_str(&format!(" ({error})")),
        (None, Some(status)) => text.push_str(&format!(" (status {status})")),
        (None, None) => {}
    }
    text
}

fn reason_words(reason: &str) -> &str {
    match reason {
        "status" => "the status is none that counts as success",
        "predicate" => "the reply does not say what counts as success",
        "redirect" => "the receiver redirects, which is never followed; give it the final URL",
        "gone" => "the receiver says that it is gone",
        "timeout_connect" => "no connection came about in time",
        "timeout_tls" => "no TLS session came about in time",
        "timeout_head" => "no reply began in time",
        "timeout_total" => "the reply did not end in time",
        "refused" => "the connection was refused, or there is no way there",
        "reset" => "the connection ended before a reply",
        "dns" => "the host's name cannot be resolved",
        "tls_expired" => "the receiver's certificate is out of date",
        "tls_name" => "the receiver's certificate is for another name",
        "tls_untrusted" => "no authority that is trusted vouches for the receiver's certificate (egress.ca, tls.ca)",
        "tls_handshake" => "TLS failed",
        "tls_pin" => "the receiver's certificate is not the pinned one",
        "head_too_large" => "the reply's head is too large",
        "protocol_error" => "what came was no HTTP/1.1 reply",
        "blocked_destination" => "the address guard refuses that address ([egress] in the configuration opens it)",
        "interrupted" => "the daemon stopped in the middle",
        other => other,
    }
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
    use crate::model::delivery::Ending;
    use crate::model::{Reason, WaitingReason};
    use serde_json::json;
    use std::time::Duration;

    #[test]
    fn every_reason_has_its_words() {
        for reason in Reason::ALL {
            assert_ne!(reason_words(reason.as_str()), reason.as_str());
        }
        let waiting = [
            WaitingReason::DueLater,
            WaitingReason::RetryLater,
            WaitingReason::RetryAfter,
            WaitingReason::LaneFull,
            WaitingReason::LaneShut,
            WaitingReason::Rate,
            WaitingReason::Order,
            WaitingReason::Paused,
            WaitingReason::Unconfirmed,
            WaitingReason::Gone,
            WaitingReason::InFlight,
        ];
        for reason in waiting {
            assert_ne!(why("pending", reason.as_str(), false), reason.as_str());
        }
        let endings =
            [Ending::Exhausted, Ending::Expired, Ending::Erased, Ending::Cancelled, Ending::DestinationDeleted];
        for ending in endings {
            assert_ne!(why(ending.state().as_str(), ending.as_str(), false), ending.as_str());
        }
        assert_eq!(why("pending", "of_tomorrow", false), "of_tomorrow");
    }

    #[test]
    fn an_attempt_is_told_with_its_status_or_its_error() {
        let told = attempt(&json!({
            "number": 2, "started_at": "T", "duration_ms": 7, "outcome": "failed", "reason": "status", "status": 503
        }));
        assert_eq!(told, "attempt 2 of T failed after 7 ms: the status is none that counts as success (status 503)");
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

    /// Decisions D14 and D24: what comes is held where there was a confirmation before, and passes by where there was none.
    #[test]
    fn what_happens_to_events_without_a_confirmation_is_told_as_it_is() {
        let destination = json!({"confirmed": false, "lane": {"state": "open"}});
        assert!(standing(&destination, true).contains("is held until it does"));
        assert!(standing(&destination, false).contains("events pass it by"));
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
