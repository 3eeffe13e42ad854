//! The filters of a list: read from the address, so that they can be passed on, and shown again with what is wrong beside its field.

use std::fmt::Display;
use std::str::FromStr;

use ::http::StatusCode;
use maud::{Markup, html};

use super::act::Visit;
use super::parts::{described, marked, select, text_field, told};
use crate::http::problem::{Problem, ProblemCode};
use crate::model::Timestamp;

/// How a moment may be written, as a pattern of HTML.
const TIME_PATTERN: &str = r"\d{4}-\d{2}-\d{2}([Tt ]\d{2}:\d{2}(:\d{2}(\.\d+)?)?([Zz]|[+\-]\d{2}:\d{2})?)?";

/// What a visit filters a list by. A field that was left alone, which a form sends empty, is none.
pub(super) struct Filters<'a> {
    visit: &'a Visit,
    faults: Vec<(&'static str, String)>,
}

impl<'a> Filters<'a> {
    /// The filters of a visit, of which nothing has been read yet.
    pub(super) fn of(visit: &'a Visit) -> Self {
        Filters { visit, faults: Vec::new() }
    }

    /// What stands in a field.
    pub(super) fn text(&self, name: &str) -> &'a str {
        self.visit.query.text(name).unwrap_or_default().trim()
    }

    /// The value of a field. What is none becomes a fault of the field.
    pub(super) fn read<T: FromStr<Err: Display>>(&mut self, name: &'static str) -> Option<T> {
        self.read_with(name, |text| text.parse().map_err(|why: T::Err| why.to_string()))
    }

    /// The value of a field that is read in a way of its own.
    pub(super) fn read_with<T>(
        &mut self,
        name: &'static str,
        read: impl FnOnce(&str) -> Result<T, String>,
    ) -> Option<T> {
        let text = self.text(name);
        if text.is_empty() {
            return None;
        }
        read(text).map_err(|why| self.faults.push((name, why))).ok()
    }

    /// A moment, taken for UTC if it does not say otherwise.
    pub(super) fn moment(&mut self, name: &'static str) -> Option<Timestamp> {
        self.read_with(name, |text| Timestamp::parse_in_utc(text).map_err(|why| why.to_string()))
    }

    /// Whether something that was read is wrong: the list is not asked for then.
    pub(super) fn are_wrong(&self) -> bool {
        !self.faults.is_empty()
    }

    /// The status of the page.
    pub(super) fn status(&self) -> StatusCode {
        if self.are_wrong() { StatusCode::BAD_REQUEST } else { StatusCode::OK }
    }

    /// The same for a page that shows no field.
    pub(super) fn checked(&self) -> Result<(), Problem> {
        match self.faults.first() {
            None => Ok(()),
            Some((name, why)) => Err(Problem::new(ProblemCode::BadQuery, format!("{name}: {why}"))),
        }
    }

    /// A field for a text.
    pub(super) fn line(&self, name: &str, label: &str, placeholder: &str) -> Markup {
        text_field(name, label, self.text(name), placeholder, self.fault(name))
    }

    /// A field for a moment. A browser's own field would take no zone, nothing that was copied, and a good part of a page's first
    /// paint.
    pub(super) fn time(&self, name: &str, label: &str) -> Markup {
        let fault = self.fault(name);
        html! {
            div.wide {
                label for={ "f-" (name) } { (label) }
                input #{ "f-" (name) } type="text" name=(name) value=(self.text(name)) placeholder="2026-01-31 09:30" pattern=(TIME_PATTERN)
                    title="A time such as 2026-01-31 09:30" autocomplete="off" spellcheck="false" aria-invalid=[marked(fault)]
                    aria-describedby=[described(name, fault)];
                (told(name, fault))
            }
        }
    }

    /// A choice of one; the first entry stands for none of them.
    pub(super) fn choice(&self, name: &str, label: &str, choices: &[(String, String)], none: &str) -> Markup {
        select(name, label, choices, self.text(name), none, self.fault(name))
    }

    /// What is wrong with a field.
    pub(super) fn fault(&self, name: &str) -> Option<&str> {
        self.faults.iter().find(|(faulty, _)| *faulty == name).map(|(_, why)| why.as_str())
    }
}
