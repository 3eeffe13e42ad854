//! Forms that can be refused: what was typed stays, and what is wrong stands beside its field.

use maud::{Markup, html};

use super::form::Form;
use super::parts::{Icon, icon, notice};
use crate::http::problem::Problem;

/// A form on its way to the reader: as it is at first, or as it was sent with what the API said of it.
#[derive(Debug, Default)]
pub(super) struct Draft {
    form: Option<Form>,
    problem: Option<Problem>,
}

impl Draft {
    /// A form that was sent and refused.
    pub(super) fn refused(form: Form, problem: Problem) -> Self {
        Draft { form: Some(form), problem: Some(problem) }
    }

    /// What stands in a field: what was typed, or how it is at first.
    pub(super) fn value<'a>(&'a self, name: &str, first: &'a str) -> &'a str {
        self.form.as_ref().map_or(first, |form| form.raw(name))
    }

    /// Whether something was sent and refused.
    pub(super) fn was_refused(&self) -> bool {
        self.problem.is_some()
    }

    /// What is wrong with the form as a whole, to be told before its fields.
    pub(super) fn summary(&self) -> Markup {
        html! {
            @if let Some(problem) = &self.problem {
                div role="alert" {
                    (notice(Icon::Alert, "bad", html! {
                        @if problem.errors().is_empty() { (problem.detail()) } @else {
                            strong { "Not taken." }
                            ul { @for error in problem.errors() { li { (field_words(&error.pointer)) " " (error.detail) } } }
                        }
                    }))
                }
            }
        }
    }

    fn error(&self, name: &str) -> Option<&str> {
        let errors = self.problem.as_ref()?.errors();
        let of_field = |pointer: &str| pointer.strip_prefix('/').is_some_and(|it| it.split('/').next() == Some(name));
        errors.iter().find(|error| of_field(&error.pointer)).map(|error| error.detail.as_str())
    }

    /// A line of text.
    pub(super) fn line(&self, name: &str, label: &str, first: &str, hint: &str, is_required: bool) -> Markup {
        let error = self.error(name);
        html! {
            div.field {
                label for={ "f-" (name) } { (label) }
                input #{ "f-" (name) } type="text" name=(name) value=(self.value(name, first)) required[is_required]
                    autocomplete="off" spellcheck="false" aria-describedby={ "h-" (name) } aria-invalid=[error.map(|_| "true")];
                (beneath(name, hint, error))
            }
        }
    }

    /// A secret: what was typed is not written back.
    pub(super) fn secret(&self, name: &str, label: &str, hint: &str) -> Markup {
        let error = self.error(name);
        html! {
            div.field {
                label for={ "f-" (name) } { (label) }
                input #{ "f-" (name) } type="password" name=(name) autocomplete="new-password"
                    aria-describedby={ "h-" (name) } aria-invalid=[error.map(|_| "true")];
                (beneath(name, hint, error))
            }
        }
    }

    /// A choice of one: each with its value and its words.
    pub(super) fn choice(&self, name: &str, label: &str, choices: &[(&str, &str)], first: &str, hint: &str) -> Markup {
        let (error, chosen) = (self.error(name), self.value(name, first));
        html! {
            div.field {
                label for={ "f-" (name) } { (label) }
                select #{ "f-" (name) } name=(name) aria-describedby={ "h-" (name) } aria-invalid=[error.map(|_| "true")] {
                    @for (value, words) in choices { option value=(value) selected[*value == chosen] { (words) } }
                }
                (beneath(name, hint, error))
            }
        }
    }
}

fn beneath(name: &str, hint: &str, error: Option<&str>) -> Markup {
    html! {
        div #{ "h-" (name) } {
            @if let Some(error) = error { p.error { (icon(Icon::Alert)) span { (error) } } }
            @if !hint.is_empty() { p.hint { (hint) } }
        }
    }
}

/// The field that a pointer names, as its label would say it.
fn field_words(pointer: &str) -> String {
    pointer.trim_start_matches('/').replace(['/', '_'], " ")
}
