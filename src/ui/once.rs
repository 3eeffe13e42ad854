//! Forms that make something once. A form that is sent twice, by an impatient press or because its answer was loaded anew, must
//! not make a second key or person: it carries a token, with which the API is asked as with any `Idempotency-Key`. So the second
//! time the first answer comes again, for a day.

use maud::{Markup, html};
use uuid::Uuid;

use super::act::Visit;
use super::form::Form;
use crate::http::problem::{Problem, ProblemCode};

/// What the API takes the token by.
pub(super) const HEADER: &str = "idempotency-key";
/// The field of the token.
const FIELD: &str = "once";

/// The token of a form that is shown: a fresh one each time, also when the form is shown again because it was refused.
pub(super) fn field(visit: &Visit) -> Markup {
    html! { input type="hidden" name=(FIELD) value=(visit.service().fresh_uuid()) autocomplete="off"; }
}

/// The token of a form that was sent. What is none counts as a form without one.
pub(super) fn of(form: &Form) -> Option<String> {
    form.given(FIELD)?.parse::<Uuid>().ok().map(|token| format!("form-{token}"))
}

/// What the API says of the token, as it is for whoever sent a form.
pub(super) fn in_words(problem: Problem) -> Problem {
    let words = match problem.code() {
        ProblemCode::IdempotencyKeyReused => {
            "this form was sent before, with something else in it, and that was done. Send it again if this is to be done, too"
        }
        ProblemCode::IdempotencyInProgress => "the form is being worked on already. Load this page again in a moment",
        ProblemCode::IdempotencyUnknown => {
            "whether the form was done is not known, for the daemon failed meanwhile. Look at what is there before you fill it in anew"
        }
        _ => return problem,
    };
    Problem::new(problem.code(), words)
}

/// Whether a form must not be shown again for this, since it would then be done twice.
pub(super) fn ends_the_form(problem: &Problem) -> bool {
    matches!(problem.code(), ProblemCode::IdempotencyInProgress | ProblemCode::IdempotencyUnknown)
}
