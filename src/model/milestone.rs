//! The course of a delivery, step by step, in the words of source 002's event history (decision D10).

use super::delivery::Ending;
use super::{Attempt, Outcome, Timestamp, Trigger};

/// The type of the events that ask a receiver for its confirmation. No producer may use it.
pub const CONFIRMATION: &str = "webhook.confirmation";

/// A step of a delivery.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Milestone {
    /// Its event was taken.
    Create,
    /// It waits for an attempt.
    Queued,
    /// An attempt succeeded.
    Success,
    /// An attempt failed or its reply was lost, or the delivery was given up without one.
    Failed,
    /// A confirmation request was sent.
    Confirm,
    /// The receiver confirmed.
    Confirmed,
}

impl Milestone {
    /// Every step there is.
    pub const ALL: [Milestone; 6] = [
        Milestone::Create,
        Milestone::Queued,
        Milestone::Success,
        Milestone::Failed,
        Milestone::Confirm,
        Milestone::Confirmed,
    ];

    /// The step's name in the history.
    pub fn as_str(self) -> &'static str {
        match self {
            Milestone::Create => "CREATE",
            Milestone::Queued => "QUEUED",
            Milestone::Success => "SUCCESS",
            Milestone::Failed => "FAILED",
            Milestone::Confirm => "CONFIRM",
            Milestone::Confirmed => "CONFIRMED",
        }
    }
}

/// What is known of a delivery's course.
#[derive(Debug, Clone, Copy)]
pub struct Course<'a> {
    /// When its event was taken.
    pub accepted: Timestamp,
    /// For which moment its first attempt was due by that.
    pub first_due: Timestamp,
    /// Its attempts, oldest first.
    pub attempts: &'a [Attempt],
    /// How and when it ended without success.
    pub ended: Option<(Ending, Timestamp)>,
    /// When its next attempt is due, while it waits.
    pub due: Option<Timestamp>,
}

/// A step that a delivery has taken.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Passed<'a> {
    /// Which.
    pub milestone: Milestone,
    /// When.
    pub at: Timestamp,
    /// The attempt that it came of.
    pub attempt: Option<&'a Attempt>,
    /// How the delivery was given up, where no attempt tells it.
    pub ending: Option<Ending>,
}

impl<'a> Course<'a> {
    /// Every step so far, newest first.
    pub fn passed(&self) -> Vec<Passed<'a>> {
        let step = |milestone, at| Passed { milestone, at, attempt: None, ending: None };
        let mut passed = vec![step(Milestone::Create, self.accepted), step(Milestone::Queued, self.accepted)];
        // What was due for another moment than had been set for it was ordered then: by a resend or a bulk replay.
        let mut set_for = Some(self.first_due);
        for attempt in self.attempts {
            if set_for != Some(attempt.due) {
                passed.push(step(Milestone::Queued, attempt.due));
            }
            let of_attempt = |milestone, at| Passed { attempt: Some(attempt), ..step(milestone, at) };
            // What asks for a confirmation is told by what made it happen: an event of the same type may be a test.
            let asks = attempt.trigger == Trigger::Confirmation;
            let milestone = match (attempt.outcome, asks) {
                (Outcome::Succeeded, false) => Milestone::Success,
                (Outcome::Succeeded, true) => Milestone::Confirmed,
                (Outcome::Failed | Outcome::Unknown, _) => Milestone::Failed,
            };
            if asks {
                passed.push(of_attempt(Milestone::Confirm, attempt.started));
            }
            let ended = attempt.started.after(attempt.duration);
            passed.push(of_attempt(milestone, ended));
            // A retry waits from the end of the attempt before it.
            if attempt.next.is_some() {
                passed.push(step(Milestone::Queued, ended));
            }
            set_for = attempt.next;
        }
        if let Some(due) = self.due.filter(|due| set_for != Some(*due)) {
            passed.push(step(Milestone::Queued, due));
        }
        if let Some((ending, at)) = self.ended {
            match ending {
                // The last attempt has told it.
                Ending::Exhausted if !self.attempts.is_empty() => {}
                Ending::Exhausted | Ending::Expired | Ending::Erased | Ending::Damaged => {
                    passed.push(Passed { ending: Some(ending), ..step(Milestone::Failed, at) });
                }
                // The history has no word for it.
                Ending::Cancelled | Ending::DestinationDeleted => {}
            }
        }
        passed.reverse();
        passed
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::model::delivery::{Headers, Phases};

    fn at(seconds: u64) -> Timestamp {
        Timestamp::from_millis(seconds * 1000)
    }

    fn attempt(number: u32, started: u64, outcome: Outcome, next: Option<u64>) -> Attempt {
        Attempt {
            number,
            due: at(started),
            started: at(started),
            duration: Duration::from_secs(1),
            trigger: Trigger::Schedule,
            outcome,
            reason: None,
            status: None,
            request_headers: Headers::default(),
            response_headers: Headers::default(),
            response_body: vec![],
            error: None,
            address: None,
            phases: Phases::default(),
            reconnected: false,
            next: next.map(at),
        }
    }

    fn course(attempts: &[Attempt]) -> Course<'_> {
        Course { accepted: at(0), first_due: at(0), attempts, ended: None, due: None }
    }

    fn steps(course: Course<'_>) -> Vec<(&'static str, u64)> {
        course.passed().iter().map(|step| (step.milestone.as_str(), step.at.as_secs())).collect()
    }

    /// D10, S2.60: every attempt is a step, and so is every wait for one; newest first.
    #[test]
    fn a_delivery_is_told_step_by_step() {
        use Outcome::{Failed, Succeeded, Unknown};
        assert_eq!(steps(course(&[])), [("QUEUED", 0), ("CREATE", 0)]);
        assert_eq!(
            steps(course(&[attempt(1, 0, Succeeded, None)])),
            [("SUCCESS", 1), ("QUEUED", 0), ("CREATE", 0)],
            "as the source shows it"
        );
        let retried = [attempt(1, 0, Failed, Some(5)), attempt(2, 5, Unknown, Some(305))];
        let waiting = Course { due: Some(at(305)), ..course(&retried) };
        assert_eq!(
            steps(waiting),
            [("QUEUED", 6), ("FAILED", 6), ("QUEUED", 1), ("FAILED", 1), ("QUEUED", 0), ("CREATE", 0)]
        );
        let resent = [attempt(1, 0, Failed, None), attempt(2, 90, Succeeded, None)];
        assert_eq!(
            steps(course(&resent)),
            [("SUCCESS", 91), ("QUEUED", 90), ("FAILED", 1), ("QUEUED", 0), ("CREATE", 0)]
        );
        let exhausted = Course { ended: Some((Ending::Exhausted, at(1))), ..course(&resent[..1]) };
        assert_eq!(steps(exhausted), [("FAILED", 1), ("QUEUED", 0), ("CREATE", 0)]);
        let expired = Course { ended: Some((Ending::Expired, at(9))), ..course(&[]) };
        assert_eq!(steps(expired), [("FAILED", 9), ("QUEUED", 0), ("CREATE", 0)]);
        let cancelled = Course { ended: Some((Ending::Cancelled, at(9))), ..course(&[]) };
        assert_eq!(steps(cancelled), [("QUEUED", 0), ("CREATE", 0)]);
    }

    /// D10, D26: what is resent is queued when the resend is ordered, however long its attempt has to wait; a step that was
    /// told before it stays.
    #[test]
    fn a_resend_is_queued_when_it_is_ordered() {
        use Outcome::{Failed, Succeeded};
        let ordered = |due, attempt| Attempt { due: at(due), trigger: Trigger::Manual, ..attempt };
        let late = [attempt(1, 0, Failed, None), ordered(40, attempt(2, 90, Succeeded, None))];
        assert_eq!(
            steps(course(&late)),
            [("SUCCESS", 91), ("QUEUED", 40), ("FAILED", 1), ("QUEUED", 0), ("CREATE", 0)]
        );
        let waiting = Course { due: Some(at(40)), ..course(&late[..1]) };
        assert_eq!(steps(waiting), [("QUEUED", 40), ("FAILED", 1), ("QUEUED", 0), ("CREATE", 0)]);
        let hastened = [attempt(1, 0, Failed, Some(300)), ordered(40, attempt(2, 90, Succeeded, None))];
        let told = [("QUEUED", 1), ("FAILED", 1), ("QUEUED", 0), ("CREATE", 0)];
        assert_eq!(steps(Course { due: Some(at(300)), ..course(&hastened[..1]) }), told);
        let after: Vec<_> = [("QUEUED", 40)].into_iter().chain(told).collect();
        assert_eq!(steps(Course { due: Some(at(40)), ..course(&hastened[..1]) }), after);
        let after: Vec<_> = [("SUCCESS", 91)].into_iter().chain(after).collect();
        assert_eq!(steps(course(&hastened)), after);
        let cancelled = Course { ended: Some((Ending::Cancelled, at(9))), ..course(&hastened[..1]) };
        assert_eq!(steps(cancelled), told, "it has waited");
        let before_any = [ordered(40, attempt(1, 90, Succeeded, None))];
        assert_eq!(steps(course(&before_any)), [("SUCCESS", 91), ("QUEUED", 40), ("QUEUED", 0), ("CREATE", 0)]);
        let of_later = Course { first_due: at(40), ..course(&before_any) };
        assert_eq!(steps(of_later), [("SUCCESS", 91), ("QUEUED", 0), ("CREATE", 0)], "as its producer asked");
    }

    /// D10: a confirmation request is CONFIRM when it is sent and CONFIRMED when the receiver took it.
    #[test]
    fn a_confirmation_is_told_in_its_own_words() {
        let of = |attempt| Attempt { trigger: Trigger::Confirmation, ..attempt };
        let attempts = [attempt(1, 0, Outcome::Failed, Some(5)), attempt(2, 5, Outcome::Succeeded, None)].map(of);
        assert_eq!(
            steps(course(&attempts)),
            [
                ("CONFIRMED", 6),
                ("CONFIRM", 5),
                ("QUEUED", 1),
                ("FAILED", 1),
                ("CONFIRM", 0),
                ("QUEUED", 0),
                ("CREATE", 0)
            ]
        );
    }
}
