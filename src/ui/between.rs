//! What comes between a form and what it does: a question, where that cannot be undone, and a fresh proof of the second factor,
//! where it shows or replaces a secret or lets somebody in. After both the form goes on to what was asked with it.
//!
//! With script a dialog asks, by the form's `data-confirm`, and sends the form with the answer in it. Without script the form
//! comes without one, and the answer is a page that asks the same and sends the form again, with all that was in it.

use maud::{Markup, html};

use super::act::{House, Visit};
use super::form::Form;
use super::layout::Page;
use super::pages::door::{code_field, password_field, trouble, words};
use super::parts::span_words;
use super::viewer::Viewer;
use super::{LOGIN, session, to};
use crate::http::request::Request;
use crate::http::response::Response;
use crate::service::people::DoorError;

/// The field that says that the question has been answered.
pub(super) const AGREED: &str = "agreed";
/// The field of the code that proves the second factor.
const PROOF: &str = "proof";
/// The field that says where whoever thinks better of it goes.
const BACK: &str = "back";
/// Fields that are not written back: they are typed once more.
const SECRET: &str = "password";

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
                    input type="hidden" name=(BACK) value=(self.back);
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

/// A form on its way to what it does, as long as a fresh proof may have to come first.
pub(super) struct Proving {
    house: House,
    path: String,
    back: String,
    form: Form,
}

impl Proving {
    /// The form of a request.
    pub(super) fn of(house: &House, request: &Request, form: &Form) -> Self {
        let back = form.given(BACK).filter(|back| session::is_page(back)).map(str::to_owned);
        let back = back.unwrap_or_else(|| session::page_of(request));
        Proving { house: house.clone(), path: request.path().to_owned(), back, form: form.clone() }
    }

    /// Weighs the code that the form brings, if it brings one and the viewer needs it: who he is then, or the page to show.
    pub(super) async fn weigh(&self, viewer: Viewer, request: &Request) -> Result<Viewer, Response> {
        let Some(code) = self.form.given(PROOF).filter(|_| viewer.has_session() && !viewer.is_proved()) else {
            return Ok(viewer);
        };
        let Some(token) = session::token(request, &self.house.settings) else { return Err(to(LOGIN)) };
        match self.house.service.step_up(&session::knock(request), token.expose(), code).await {
            Ok(()) => Ok(viewer.proved()),
            Err(DoorError::Ended) => Err(to(&session::with_next(LOGIN, &self.back))),
            Err(error) => Err(match words(error) {
                Ok(why) => self.page(&viewer, Some(&why)),
                Err(problem) => {
                    super::layout::failure(Some((&viewer, &self.house.service)), &problem, Some(&self.back))
                }
            }),
        }
    }

    /// The page that asks for a code, and sends the form again with it.
    pub(super) fn page(&self, viewer: &Viewer, why: Option<&str>) -> Response {
        let Proving { house, path, back, form } = self;
        let body = html! {
            section.card.narrow {
                (trouble(why))
                (proof_words(house))
                form method="post" action=(path) {
                    (carried(form))
                    input type="hidden" name=(BACK) value=(back);
                    @if form.given(SECRET).is_some() { (password_field(SECRET, "The password that you typed, once more", "new-password")) }
                    (code_field(PROOF, "Code of your authenticator app, or a recovery code"))
                    div.buttons { a.button.left href=(back) { "Leave it" } button.primary type="submit" { "Go on" } }
                }
            }
        };
        Page { title: PROOF_TITLE, place: "", actions: html! {}, body }.show_to(viewer, &house.service)
    }
}

/// The title of a page that asks for a fresh proof.
pub(super) const PROOF_TITLE: &str = "Is it you?";

/// Why a fresh proof is asked for.
pub(super) fn proof_words(house: &House) -> Markup {
    let lasts = span_words(house.service.proof_lasts());
    html! { p { "What you are about to do asks for a fresh proof of your second factor. It then counts for " (lasts) "." } }
}

/// The fields of a form that is sent once more, without those that stand there anew.
fn carried(form: &Form) -> Markup {
    let is_anew = |name: &str, value: &str| [PROOF, BACK].contains(&name) || (name == SECRET && !value.is_empty());
    html! { @for (name, value) in form.pairs() { @if !is_anew(name, value) { input type="hidden" name=(name) value=(value); } } }
}
