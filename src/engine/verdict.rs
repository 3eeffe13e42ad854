//! What a reply means: the outcome, its reason, and when to try again. No clock, no task, no wire.

use std::time::Duration;

use crate::client::Exchange;
use crate::model::delivery::Ending;
use crate::model::{Outcome, Reason, Schedule, Success, Timestamp};
use crate::store::op::Next;

use super::health::{Kind, RETRY_AFTER_MAX, Signal};

/// What one exchange came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verdict {
    /// The outcome.
    pub outcome: Outcome,
    /// Why it was not success.
    pub reason: Option<Reason>,
    /// The same in words.
    pub error: Option<String>,
    /// What it tells about the receiver.
    pub signal: Signal,
    /// Whether we cut the attempt off: it does not count on the schedule.
    pub cut_by_us: bool,
}

/// Weighs an exchange against the destination's success predicate.
///
/// The status line decides; the body is best effort and counts only where the predicate asks for it. A redirect is a failure
/// whatever the predicate says (SX.13).
pub fn judge(exchange: &Exchange, success: &Success, now: Timestamp) -> Verdict {
    let Some(status) = exchange.status else {
        return without_reply(exchange);
    };
    let verdict = |kind, outcome, reason: Option<Reason>, error: Option<String>| {
        let retry_after = if matches!(status, 429 | 503) { retry_after(exchange, now) } else { None };
        let signal = Signal { kind, kept_waiting: false, retry_after };
        Verdict { outcome, reason, error, signal, cut_by_us: false }
    };
    let failed = |kind, reason, error| verdict(kind, Outcome::Failed, Some(reason), Some(error));
    match status {
        300..=399 => {
            let place = exchange.headers.find("location").unwrap_or("no Location");
            failed(Kind::Refused, Reason::Redirect, format!("status {status} to {place}; redirects are not followed"))
        }
        _ if success.takes_status(status) => {
            if success.takes_body(&exchange.body) {
                verdict(Kind::Succeeded, Outcome::Succeeded, None, None)
            } else {
                let error = format!("status {status}, but the body does not say what the success predicate asks for");
                failed(Kind::Refused, Reason::Predicate, error)
            }
        }
        410 => failed(Kind::Gone, Reason::Gone, "status 410: the receiver says that it is gone".into()),
        408 | 429 | 500..=599 => failed(Kind::Failing, Reason::Status, format!("status {status}")),
        _ => failed(Kind::Refused, Reason::Status, format!("status {status}")),
    }
}

fn without_reply(exchange: &Exchange) -> Verdict {
    let (reason, error) = match &exchange.failure {
        Some(failure) => (failure.reason, failure.message.clone()),
        None => (Reason::ProtocolError, "the exchange ended without a reply".to_owned()),
    };
    let outcome = match reason {
        // The request may have been taken: the next attempt carries the same id.
        Reason::Reset | Reason::Interrupted => Outcome::Unknown,
        _ => Outcome::Failed,
    };
    let kind = match reason {
        Reason::Interrupted => Kind::Silent,
        _ => Kind::Failing,
    };
    let signal = Signal { kind, kept_waiting: reason.is_timeout(), retry_after: None };
    Verdict { outcome, reason: Some(reason), error: Some(error), signal, cut_by_us: false }
}

/// The moment that a Retry-After names: seconds, or one of HTTP's three date forms (RFC 9110, 10.2.3). What cannot be read, or
/// lies in the past, is ignored.
fn retry_after(exchange: &Exchange, now: Timestamp) -> Option<Timestamp> {
    let value = exchange.headers.find("retry-after")?.trim();
    let moment = match value.parse::<u64>() {
        Ok(seconds) => now.after(Duration::from_secs(seconds.min(RETRY_AFTER_MAX.as_secs()))),
        Err(_) => {
            let date = httpdate::parse_http_date(value).ok()?;
            Timestamp::ZERO.after(date.duration_since(std::time::UNIX_EPOCH).ok()?)
        }
    };
    (moment > now).then(|| moment.min(now.after(RETRY_AFTER_MAX)))
}

/// The wait after an attempt that we cut off.
const INTERRUPTED_DELAY: Duration = Duration::from_secs(5);

/// What an outcome means for the delivery, `tried` attempts into its schedule, which is asked for only when it failed.
pub fn next(
    verdict: &Verdict,
    schedule: impl FnOnce() -> Schedule,
    tried: u32,
    expires_at: Option<Timestamp>,
    now: Timestamp,
    rng: &mut fastrand::Rng,
) -> Next {
    if verdict.outcome == Outcome::Succeeded {
        return Next::Succeeded;
    }
    let schedule = schedule();
    let (due, next): (_, fn(Timestamp) -> Next) = match schedule.base_delay(tried) {
        // We cut it off: that is no failure of the delivery.
        _ if verdict.cut_by_us => (now.after(schedule.jittered(INTERRUPTED_DELAY, rng)), Next::Again),
        Some(base) => (now.after(schedule.jittered(base, rng)), Next::Retry),
        None => return Next::GivenUp(Ending::Exhausted),
    };
    let due = verdict.signal.retry_after.map_or(due, |wish| wish.max(due));
    match expires_at {
        Some(expires_at) if due >= expires_at => Next::GivenUp(Ending::Expired),
        Some(_) | None => next(due),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::Failure;
    use crate::model::destination::BodyRule;

    const NOW: Timestamp = Timestamp::from_millis(1_700_000_000_000);

    fn replied(status: u16, headers: &[(&str, &str)], body: &'static [u8]) -> Exchange {
        let headers = headers.iter().copied().collect();
        Exchange { status: Some(status), headers, body: body.into(), ..Exchange::default() }
    }

    /// S0.12, S0.13, S2.58, S2.59, SX.13: 2xx succeeds; everything else is a failed delivery, a redirect too.
    #[test]
    fn the_status_decides() {
        use Kind::*;
        let table = [
            (200, Outcome::Succeeded, None, Succeeded),
            (204, Outcome::Succeeded, None, Succeeded),
            (301, Outcome::Failed, Some(Reason::Redirect), Refused),
            (308, Outcome::Failed, Some(Reason::Redirect), Refused),
            (400, Outcome::Failed, Some(Reason::Status), Refused),
            (404, Outcome::Failed, Some(Reason::Status), Refused),
            (410, Outcome::Failed, Some(Reason::Gone), Gone),
            (429, Outcome::Failed, Some(Reason::Status), Failing),
            (500, Outcome::Failed, Some(Reason::Status), Failing),
            (599, Outcome::Failed, Some(Reason::Status), Failing),
        ];
        for (status, outcome, reason, kind) in table {
            let verdict = judge(&replied(status, &[], b""), &Success::default(), NOW);
            assert_eq!((verdict.outcome, verdict.reason, verdict.signal.kind), (outcome, reason, kind), "{status}");
        }
    }

    /// S4.14, D18: what counts as confirmed processing is the destination's predicate.
    #[test]
    fn a_body_predicate_decides_after_the_status() {
        let success = Success { status: vec![(200, 200)], body: Some(BodyRule::Equals("OK".into())) };
        assert_eq!(judge(&replied(200, &[], b"OK"), &success, NOW).outcome, Outcome::Succeeded);
        assert_eq!(judge(&replied(200, &[], b"no"), &success, NOW).reason, Some(Reason::Predicate));
        assert_eq!(judge(&replied(201, &[], b"OK"), &success, NOW).reason, Some(Reason::Status));
    }

    #[test]
    fn a_lost_reply_is_unknown_and_any_other_failure_is_failed() {
        for reason in Reason::ALL {
            let failure = Some(Failure { reason: *reason, message: "x".into() });
            let verdict = judge(&Exchange { failure, ..Exchange::default() }, &Success::default(), NOW);
            let unknown = matches!(reason, Reason::Reset | Reason::Interrupted);
            assert_eq!(verdict.outcome == Outcome::Unknown, unknown, "{reason:?}");
            assert_eq!(verdict.signal.kept_waiting, reason.is_timeout(), "{reason:?}");
        }
    }

    #[test]
    fn retry_after_is_read_in_all_its_forms_and_garbage_is_ignored() {
        let seconds = |n: u64| Some(NOW.after(Duration::from_secs(n)));
        let table = [
            (429, "120", seconds(120)),
            (503, " 7 ", seconds(7)),
            (503, "Tue, 14 Nov 2023 22:14:20 GMT", seconds(60)),
            (503, "Tuesday, 14-Nov-23 22:14:20 GMT", seconds(60)),
            (503, "Tue Nov 14 22:14:20 2023", seconds(60)),
            (503, "999999999999", seconds(24 * 3600)),
            (503, "Fri, 31 Dec 2038 23:59:59 GMT", seconds(24 * 3600)),
            (503, "0", None),
            (503, "-5", None),
            (503, "soon", None),
            (503, "Tue, 14 Nov 2023 22:13:19 GMT", None),
            (500, "120", None),
            (200, "120", None),
        ];
        for (status, value, expected) in table {
            let verdict = judge(&replied(status, &[("retry-after", value)], b""), &Success::default(), NOW);
            assert_eq!(verdict.signal.retry_after, expected, "{status} {value}");
        }
    }

    #[test]
    fn the_next_attempt_waits_for_the_schedule_or_the_receiver_whichever_is_later() {
        let schedule = Schedule::new(vec![Duration::from_secs(10)], Some(3), 0.0).unwrap();
        let mut rng = fastrand::Rng::with_seed(1);
        let mut next_of = |headers: &[(&str, &str)], tried, expires_at: Option<u64>| {
            let verdict = judge(&replied(503, headers, b""), &Success::default(), NOW);
            let expires_at = expires_at.map(|seconds| NOW.after(Duration::from_secs(seconds)));
            next(&verdict, || schedule.clone(), tried, expires_at, NOW, &mut rng)
        };
        let seconds = |n| Next::Retry(NOW.after(Duration::from_secs(n)));
        assert_eq!(next_of(&[], 1, None), seconds(10));
        assert_eq!(next_of(&[("retry-after", "60")], 1, None), seconds(60));
        assert_eq!(next_of(&[("retry-after", "3")], 1, None), seconds(10));
        assert_eq!(next_of(&[], 3, None), Next::GivenUp(Ending::Exhausted));
        assert_eq!(next_of(&[], 1, Some(10)), Next::GivenUp(Ending::Expired));
        assert_eq!(next_of(&[], 1, Some(11)), seconds(10));
    }

    #[test]
    fn an_attempt_that_we_cut_off_never_ends_its_delivery() {
        let schedule = Schedule::new(vec![], Some(1), 0.0).unwrap();
        let panicked = judge(&Exchange::failed(Reason::Interrupted, "cut"), &Success::default(), NOW);
        let cut = Verdict { cut_by_us: true, ..panicked.clone() };
        let mut rng = fastrand::Rng::with_seed(1);
        assert_eq!(next(&cut, || schedule.clone(), 1, None, NOW, &mut rng), Next::Again(NOW.after(INTERRUPTED_DELAY)));
        // One that fails in our own code would otherwise be repeated for ever.
        assert_eq!(next(&panicked, || schedule.clone(), 1, None, NOW, &mut rng), Next::GivenUp(Ending::Exhausted));
    }
}
