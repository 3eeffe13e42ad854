//! Forms as browsers send them, `application/x-www-form-urlencoded`. A name may stand there several times.

use ::http::header::CONTENT_TYPE;

use crate::http::problem::{Problem, ProblemCode};
use crate::http::request::Request;

/// The fields of a form, in order.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Form(Vec<(String, String)>);

impl Form {
    /// Reads a request's body: a 415 when it is none of a form, and the problems of [`Request::body`].
    pub(super) async fn read(request: &mut Request, limit: usize) -> Result<Self, Problem> {
        let content_type = request.header(CONTENT_TYPE.as_str())?.unwrap_or_default();
        let essence = content_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
        let body = request.body(limit).await?;
        if !body.is_empty() && essence != "application/x-www-form-urlencoded" {
            let detail = "send application/x-www-form-urlencoded";
            return Err(Problem::new(ProblemCode::UnsupportedMediaType, detail));
        }
        let pairs = url::form_urlencoded::parse(&body);
        Ok(Form(pairs.map(|(name, value)| (name.into_owned(), value.into_owned())).collect()))
    }

    /// The field of this name without white space at its ends; the empty text when there is none.
    pub(super) fn text(&self, name: &str) -> &str {
        self.raw(name).trim()
    }

    /// The same as it was sent, for secrets.
    pub(super) fn raw(&self, name: &str) -> &str {
        self.0.iter().find(|(known, _)| known == name).map_or("", |(_, value)| value.as_str())
    }

    /// The field, when there is something in it.
    pub(super) fn given(&self, name: &str) -> Option<&str> {
        Some(self.text(name)).filter(|text| !text.is_empty())
    }

    /// Whether a box is ticked.
    pub(super) fn is_ticked(&self, name: &str) -> bool {
        self.0.iter().any(|(known, _)| known == name)
    }

    /// Every field, in order.
    pub(super) fn pairs(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(name, value)| (name.as_str(), value.as_str()))
    }

    /// Every value of this name that is not empty.
    pub(super) fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> + 'a {
        self.0.iter().filter(move |(known, value)| known == name && !value.trim().is_empty()).map(|(_, it)| it.trim())
    }
}
