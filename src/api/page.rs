//! Pages of lists: `limit`, `offset` and `after` in the query, `next` in the answer.
//!
//! A cursor is opaque: a version, the place as bytes that only its list understands, and a check, in base32. The check
//! tells a copied half from a whole one; it is no permission, since each page is read under the caller's own tenant.

use std::fmt;
use std::str::FromStr;

use serde::Serialize;
use serde::ser::{SerializeMap, Serializer};
use sha2::{Digest, Sha256};

use crate::http::problem::{Problem, ProblemCode};
use crate::http::request::Query;
use crate::model::id::{base32, unbase32};
use crate::model::{DestinationNo, Invalid, Seq, Timestamp};
use crate::service::{self, Place, Window};

/// The names of a page's own parameters.
pub const PARAMETERS: [&str; 3] = ["limit", "offset", "after"];

const LIMIT_DEFAULT: usize = 10;
const LIMIT_MAX: usize = 1000;
const OFFSET_MAX: usize = 10_000;
const VERSION: u8 = 1;

/// Where in its list the next page begins.
///
/// Two numbers are enough for every list: a place in the list's order, and a second one among equals (zero where there are none).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Cursor {
    /// The last row's place in the order of its list.
    pub place: u64,
    /// Its place among rows of the same place.
    pub second: u64,
}

impl fmt::Display for Cursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&base32(&self.to_bytes()))
    }
}

impl Cursor {
    fn to_bytes(self) -> [u8; 20] {
        let mut bytes = [0; 20];
        bytes[0] = VERSION;
        bytes[1..9].copy_from_slice(&self.place.to_be_bytes());
        bytes[9..17].copy_from_slice(&self.second.to_be_bytes());
        let check = Sha256::digest(&bytes[..17]);
        bytes[17..].copy_from_slice(&check[..3]);
        bytes
    }
}

impl FromStr for Cursor {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        let malformed = || Invalid::new("is not a cursor; take \"next\" of the page before, whole");
        let bytes: [u8; 20] = unbase32(text).ok_or_else(malformed)?;
        let number = |at: usize| bytes[at..at + 8].iter().fold(0u64, |sum, byte| (sum << 8) | u64::from(*byte));
        let cursor = Cursor { place: number(1), second: number(9) };
        if cursor.to_bytes() == bytes { Ok(cursor) } else { Err(malformed()) }
    }
}

/// Which page is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Page {
    /// How many rows at most: 0 to 1000, 10 unless the caller says otherwise.
    pub limit: usize,
    /// How many rows to leave out first: 0 to 10,000.
    pub offset: usize,
    /// After which row to begin.
    pub after: Option<Cursor>,
}

impl Page {
    /// The page that a query asks for; a number out of its range and a malformed cursor are a 400.
    pub fn from_query(query: &Query) -> Result<Self, Problem> {
        Ok(Page {
            limit: number(query, "limit", LIMIT_MAX)?.unwrap_or(LIMIT_DEFAULT),
            offset: number(query, "offset", OFFSET_MAX)?.unwrap_or(0),
            after: query.parse("after")?,
        })
    }
}

impl Page {
    /// This page of rows that are at hand, in the order of their cursors.
    pub fn of<R, T>(
        self,
        plural: &'static str,
        rows: impl IntoIterator<Item = R>,
        cursor: impl Fn(&R) -> Cursor,
        show: impl Fn(R) -> T,
    ) -> List<T> {
        let is_after = |row: &R| self.after.is_none_or(|after| cursor(row) > after);
        let mut left = rows.into_iter().filter(is_after).skip(self.offset);
        let mut list = List { plural, rows: Vec::new(), next: None };
        let mut last = self.after;
        for row in left.by_ref().take(self.limit) {
            last = Some(cursor(&row));
            list.rows.push(show(row));
        }
        list.next = left.next().and(last);
        list
    }

    /// This page as a window on a list in the store.
    pub fn window(self) -> Window {
        let place = |cursor: Cursor| Place {
            seq: Seq(cursor.place),
            destination: DestinationNo(u32::try_from(cursor.second).unwrap_or(u32::MAX)),
        };
        Window { after: self.after.map(place), skip: self.offset, limit: self.limit }
    }

    /// A list from what the store found in this page's window.
    ///
    /// A 400 when the store stopped looking before it had left out as many rows as `offset` asks.
    pub fn found<R, T>(
        self,
        plural: &'static str,
        found: service::Page<R>,
        show: impl Fn(R) -> T,
    ) -> Result<List<T>, Problem> {
        if found.skipped < self.offset && found.next.is_some() {
            let detail = "offset: reaches too far for these filters; follow \"next\" with after";
            return Err(Problem::new(ProblemCode::BadQuery, detail));
        }
        let cursor = |place: Place| Cursor { place: place.seq.0, second: place.destination.0.into() };
        Ok(List { plural, rows: found.items.into_iter().map(show).collect(), next: found.next.map(cursor) })
    }
}

/// Where things stand that have no number: by creation, and among equals by a hash of their id.
pub fn by_creation(created: Timestamp, id: &str) -> Cursor {
    let digest = Sha256::digest(id);
    let second = digest[..8].iter().fold(0, |sum, byte| (sum << 8) | u64::from(*byte));
    Cursor { place: created.as_millis(), second }
}

fn number(query: &Query, name: &str, max: usize) -> Result<Option<usize>, Problem> {
    let Some(text) = query.text(name) else { return Ok(None) };
    match text.parse() {
        Ok(number) if number <= max => Ok(Some(number)),
        _ if name == "offset" => Err(Problem::new(
            ProblemCode::BadQuery,
            format!("offset: is 0 to {max}; beyond that follow \"next\" with after"),
        )),
        _ => Err(Problem::new(ProblemCode::BadQuery, format!("{name}: is 0 to {max}"))),
    }
}

/// A list in an answer: `{"<plural>": […], "next": cursor or null}`.
#[derive(Debug, Clone)]
pub struct List<T> {
    /// The plural noun that the rows stand under.
    pub plural: &'static str,
    /// The rows.
    pub rows: Vec<T>,
    /// Where the next page begins; `None` when this is the last.
    pub next: Option<Cursor>,
}

impl<T: Serialize> Serialize for List<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(2))?;
        map.serialize_entry(self.plural, &self.rows)?;
        map.serialize_entry("next", &self.next.map(|next| next.to_string()))?;
        map.end()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn page(query: &str) -> Result<Page, Problem> {
        Page::from_query(&Query::parse_text(query).unwrap())
    }

    /// S2.6, S2.7, S2.10: limit 0 to 1000 (default 10) and offset from 0; what is outside is a 400.
    #[test]
    fn limit_and_offset_have_their_ranges_and_defaults() {
        assert_eq!(page(""), Ok(Page { limit: 10, offset: 0, after: None }));
        assert_eq!(page("limit=0&offset=10000"), Ok(Page { limit: 0, offset: 10_000, after: None }));
        assert_eq!(page("limit=1000").map(|page| page.limit), Ok(1000));
        for wrong in
            ["limit=1001", "limit=-1", "limit=", "limit=ten", "limit=1e2", "offset=-1", "offset=10001", "after=x"]
        {
            let problem = page(wrong).unwrap_err();
            assert_eq!((problem.code(), problem.code().status().as_u16()), (ProblemCode::BadQuery, 400), "{wrong}");
        }
    }

    /// S2.8: a list stands under its plural, with the way on beside it.
    #[test]
    fn a_list_stands_under_its_plural() {
        let cursor = Cursor { place: 7, second: 1 };
        let list = List { plural: "webhook", rows: vec![1, 2], next: Some(cursor) };
        let json = serde_json::to_value(&list).unwrap();
        assert_eq!(json, serde_json::json!({"webhook": [1, 2], "next": cursor.to_string()}));
        let last = List { plural: "events", rows: Vec::<u8>::new(), next: None };
        assert_eq!(serde_json::to_string(&last).unwrap(), r#"{"events":[],"next":null}"#);
    }

    proptest! {
        #[test]
        fn a_cursor_survives_its_text_and_a_changed_one_does_not(place: u64, second: u64, at in 0usize..32, other in 0u8..26) {
            let cursor = Cursor { place, second };
            let text = cursor.to_string();
            prop_assert_eq!(text.parse(), Ok(cursor));
            let mut changed = text.clone().into_bytes();
            changed[at] = b'a' + other;
            let changed = String::from_utf8(changed).unwrap();
            prop_assert_eq!(changed.parse::<Cursor>().is_ok(), changed == text);
            prop_assert!(text[..31].parse::<Cursor>().is_err());
        }
    }
}
