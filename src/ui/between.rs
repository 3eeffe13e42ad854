//! What comes between a form and what it does: a question, where that cannot be undone.
//!
//! With script a dialog asks, by the form's `data-confirm`, and sends the form with the answer in it. Without script the form
//! comes without one, and the answer is a page that asks the same and sends the form again, with all that was in it.

use maud::{Markup, html};

use super::act::Visit;
use super::form::Form;
use super::layout::Page;
use crate::http::response::Response;

/// The field that says that the question has been answered.
const AGREED: &str = "agreed";

/// Something that cannot be undone, or not easily.
#[derive(Debug)]
pub(super) struct Question {
    /// What is asked, as the heading of a page.
    pub(super) title: String,
    /// What it would mean.
    pub(super) meaning: String,
    /// The button that does it.
    pub(super) button: &'static str,
    /// The entry of the menu that it belongs to.
    pub(super) place: &'static str,
    /// Where whoever thinks better of it goes.
    pub(super) back: String,
}

impl Question {
    /// The page that asks, unless the form of the visit says that it has been.
    pub(super) fn unless_agreed(&self, visit: &Visit) -> Option<Response> {
        if visit.form.is_ticked(AGREED) {
            return None;
        }
        let body = html! {
            section.card.narrow {
                p { (self.meaning) }
                form method="post" action=(visit.request.path()) {
                    (carried(&visit.form))
                    input type="hidden" name=(AGREED) value="yes";
                    div.buttons {
                        a.button.left href=(self.back) { "Leave it" }
                        button.danger.primary type="submit" { (self.button) }
                    }
                }
            }
        };
        Some(Page { title: &self.title, place: self.place, actions: html! {}, body }.show(visit))
    }
}

/// The fields of a form that is sent once more.
fn carried(form: &Form) -> Markup {
    html! { @for (name, value) in form.pairs() { input type="hidden" name=(name) value=(value); } }
}
