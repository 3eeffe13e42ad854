//! The closed lists in words: why a delivery waits, how it ended, what keeps a destination, why an attempt failed.
//!
//! They are asked by name, so that the command line can use them for what a daemon tells it. A name that is not known is
//! told as it is: the daemon may be newer.

use super::Confirmation;

/// Whether a character has no place in what is read by people: it is a control character, or one that overrides the direction of
/// the text around it, so that a name reads as another one (U+202A to U+202E, U+2066 to U+2069).
pub fn is_unreadable(character: char) -> bool {
    character.is_control() || matches!(character, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// Why a delivery is in its state. `reason` is the waiting reason of an unfinished one, and the ending of an ended one.
pub fn why(state: &str, reason: &str, is_disabled: bool) -> String {
    let words = match (state, reason) {
        ("succeeded", _) => "the receiver has taken it",
        (_, "exhausted") => "every attempt of its schedule has failed",
        (_, "expired") => "its event expired before it could be delivered",
        (_, "erased") => "its payload was erased before it could be delivered",
        (_, "cancelled") => "an operator gave it up",
        (_, "destination_deleted") => "its destination was deleted",
        (_, "damaged") => "a record that it needs is damaged on disk",
        (_, "due_later") => "its producer asked for it to be delivered later",
        (_, "retry_later") => "it waits for the next attempt of its schedule",
        (_, "retry_after") => "the receiver asked for time (Retry-After)",
        (_, "lane_full") => "the destination has as many requests under way as it may",
        (_, "lane_shut") => "the destination failed again and again, and is left alone until one attempt succeeds",
        (_, "rate") => "the destination's rate allows no more at this moment",
        (_, "order") => "the destination takes one delivery after the other, in order, and it is not its turn yet",
        (_, "paused") if is_disabled => "the destination is switched off",
        (_, "paused") => "the destination is paused",
        (_, "unconfirmed") => "the destination has not confirmed its URL yet",
        (_, "gone") => "the receiver said that it is gone (410)",
        (_, "in_flight") => "it is being sent at this moment",
        (_, other) => other,
    };
    words.to_owned()
}

/// What keeps a destination from being sent to, by the state of its lane. One that was confirmed for another URL holds what
/// comes, and one that never was is passed by; `holds_unconfirmed` is whether something is seen to wait for the confirmation.
pub fn standing(is_disabled: bool, is_confirmed: bool, lane: &str, holds_unconfirmed: bool) -> &str {
    match lane {
        _ if is_disabled => "it is switched off: events pass it by",
        _ if !is_confirmed && holds_unconfirmed => unconfirmed(Confirmation::Lapsed),
        _ if !is_confirmed => {
            "it has not been confirmed: events pass it by, or are held if it was confirmed for another URL before"
        }
        "open" => "nothing stands in its way",
        "paused" => "an operator paused it: what is to go there is held",
        "gone" => "it said that it is gone (410): what is to go there is held",
        "held" => "it asked for time (Retry-After)",
        "shut" => "it failed again and again, and is left alone for a while; then one attempt tries it out",
        "probing" => "it failed again and again; the next attempt tries it out",
        other => other,
    }
}

/// What happens to events for a destination that has not confirmed its URL.
pub fn unconfirmed(confirmation: Confirmation) -> &'static str {
    match confirmation {
        Confirmation::Given => "it has confirmed its URL",
        Confirmation::Awaited => "it has never confirmed its URL: events pass it by until it does",
        Confirmation::Lapsed => "it has not confirmed its new URL: what is to go there is held until it does",
    }
}

/// Why an event that a destination had chosen was not given to it.
pub fn skipped(reason: &str) -> &str {
    match reason {
        "disabled" => "it was switched off",
        "unconfirmed" => "it had never confirmed its URL",
        "filtered" => "its filter did not let the event pass",
        other => other,
    }
}

/// What is wrong with a destination that nothing keeps from being sent to: so many attempts have failed since one succeeded, and
/// whether one of these was the last of its delivery. `None` when nothing is.
pub fn failing(failures: u32, gave_up: bool) -> Option<String> {
    let attempts = match failures {
        0 => return None,
        1 => "the last attempt failed".to_owned(),
        failures => format!("the last {failures} attempts failed"),
    };
    Some(if gave_up { attempts + ", and what was to go there was given up" } else { attempts })
}

/// Why an attempt did not succeed. `trigger` is what it was made for: a request for confirmation asks for more than others.
pub fn reason<'a>(reason: &'a str, trigger: &str) -> &'a str {
    match reason {
        "predicate" if trigger == "confirmation" => {
            "the reply does not repeat the challenge (with confirmation.mode echo), or does not say what counts as success"
        }
        "status" => "the reply was not a success",
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::delivery::Ending;
    use crate::model::event::Skip;
    use crate::model::{Reason, WaitingReason};

    #[test]
    fn every_reason_has_its_words() {
        for it in Reason::ALL {
            assert_ne!(reason(it.as_str(), "schedule"), it.as_str());
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
        let endings = [
            Ending::Exhausted,
            Ending::Expired,
            Ending::Erased,
            Ending::Cancelled,
            Ending::DestinationDeleted,
            Ending::Damaged,
        ];
        for ending in endings {
            assert_ne!(why(ending.state().as_str(), ending.as_str(), false), ending.as_str());
        }
        assert_eq!(why("pending", "of_tomorrow", false), "of_tomorrow");
    }

    #[test]
    fn what_turns_a_text_around_is_unreadable_and_what_is_written_from_right_to_left_is_not() {
        let turning = [
            '\u{202a}', '\u{202b}', '\u{202c}', '\u{202d}', '\u{202e}', '\u{2066}', '\u{2067}', '\u{2068}', '\u{2069}',
        ];
        assert!(turning.into_iter().chain(['\n', '\u{7f}', '\u{85}']).all(is_unreadable));
        assert!(!"\u{5e9}\u{5dc} \u{645} \u{200f}\u{200d} \u{e9} \u{6f22} \u{2013}".chars().any(is_unreadable));
    }

    /// Decisions D14 and D24: what comes is held where there was a confirmation before, and passes by where there was none.
    #[test]
    fn what_happens_to_events_without_a_confirmation_is_told_as_it_is() {
        assert!(standing(false, false, "open", true).contains("is held until it does"));
        assert!(standing(false, false, "open", false).contains("events pass it by"));
    }

    #[test]
    fn every_reason_to_pass_a_destination_by_has_its_words() {
        for skip in [Skip::Disabled, Skip::Unconfirmed, Skip::Filtered] {
            assert_ne!(skipped(skip.as_str()), skip.as_str());
        }
    }

    #[test]
    fn a_destination_that_takes_nothing_is_told_of_though_it_answers() {
        assert_eq!(failing(0, false), None);
        assert_eq!(failing(1, false).unwrap(), "the last attempt failed");
        assert_eq!(failing(20, true).unwrap(), "the last 20 attempts failed, and what was to go there was given up");
    }
}
