//! Pages of lists: `limit`, `offset` and `after` in the query, `next` in the answer.
//!
//! A cursor is opaque: a version, the place as bytes that only its list understands, and a check, in base32. The check is over
//! the list's name as well, which is its path with its filters: it tells a copied half from a whole one, and the cursor of
//! another list from one of this. It is no permission, since each page is read under the caller's own tenant.

use percent_encoding::percent_decode_str;
use serde::Serialize;
use serde::ser::{SerializeMap, Serializer};
use sha2::{Digest, Sha256};

use crate::http::problem::Problem;
use crate::http::request::Query;
use crate::model::id::{base32, unbase32};
use crate::model::{DestinationNo, Invalid, Seq, Timestamp};
use crate::service::{self, Place, Window};

/// The names of a page's own parameters.
pub const PARAMETERS: [&str; 3] = ["limit", "offset", "after"];

const LIMIT_DEFAULT: usize = 10;
const LIMIT_MAX: usize = 1000;
const OFFSET_MAX: usize = 10_000;
const VERSION: u8 = 2;

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

/// A list's name as a hash: its path and its filters. A cursor of another list means nothing in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ListName([u8; 32]);

impl ListName {
    /// The name of the list at this path (as it stands in the request line) with this query.
    fn of(path: &str, query: &Query) -> Self {
        // Ids are matched without regard to case, and the same path may be escaped in more than one way.
        let path = percent_decode_str(path).decode_utf8_lossy().to_ascii_lowercase();
        let mut filters: Vec<_> = query.iter().filter(|(name, _)| !PARAMETERS.contains(name)).collect();
        filters.sort_unstable();
        let mut hasher = Sha256::new();
        for text in std::iter::once(path.as_str()).chain(filters.into_iter().flat_map(|(name, value)| [name, value])) {
            hasher.update((text.len() as u64).to_be_bytes());
            hasher.update(text);
        }
        ListName(hasher.finalize().into())
    }
}

impl Cursor {
    /// The cursor as it is written in this list.
    fn to_text(self, list: ListName) -> String {
        base32(&self.to_bytes(list))
    }

    /// What `text` says in this list.
    fn parse(text: &str, list: ListName) -> Result<Self, Invalid> {
        let foreign = || {
            Invalid::new(
                "is not a cursor of this list with these filters; take \"next\" of the page before, whole, and leave the filters as they are",
            )
        };
        let bytes: [u8; 20] = unbase32(text).ok_or_else(foreign)?;
        let number = |at: usize| bytes[at..at + 8].iter().fold(0u64, |sum, byte| (sum << 8) | u64::from(*byte));
        let cursor = Cursor { place: number(1), second: number(9) };
        if cursor.to_bytes(list) == bytes { Ok(cursor) } else { Err(foreign()) }
    }

    fn to_bytes(self, list: ListName) -> [u8; 20] {
        let mut bytes = [0; 20];
        bytes[0] = VERSION;
        bytes[1..9].copy_from_slice(&self.place.to_be_bytes());
        bytes[9..17].copy_from_slice(&self.second.to_be_bytes());
        let check = Sha256::new().chain_update(list.0).chain_update(&bytes[..17]).finalize();
        bytes[17..].copy_from_slice(&check[..3]);
        bytes
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
    /// Of which list.
    pub list: ListName,
}

impl Page {
    /// The page that a query to this path asks for; a number out of its range, a malformed cursor and one of another list are a 400.
    pub fn from_query(path: &str, query: &Query) -> Result<Self, Problem> {
        let list = ListName::of(path, query);
        let after = query.text("after").map(|text| Cursor::parse(text, list)).transpose();
        Ok(Page {
            limit: number(query, "limit", LIMIT_MAX)?.unwrap_or(LIMIT_DEFAULT),
            offset: number(query, "offset", OFFSET_MAX)?.unwrap_or(0),
            after: after.map_err(|why| Problem::of_parameter("after", why))?,
            list,
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
        list.next = left.next().and(last).filter(|_| self.has_next()).map(|last| last.to_text(self.list));
        list
    }

    /// Whether a page may have a next one. One of no rows has none: whoever follows it would never come to an end.
    fn has_next(self) -> bool {
        self.limit > 0
    }

    /// This page as a window on a list in the store.
    pub fn window(self) -> Window {
        let place = |cursor: Cursor| Place {
            seq: Seq(cursor.place),
            destination: DestinationNo(u32::try_from(cursor.second).unwrap_or(u32::MAX)),
        };
        Window { after: self.after.map(place), skip: self.offset, limit: self.limit }
    }

    /// The cursor, as `after` takes it, of a place where this list goes on.
    pub fn cursor_of(&self, place: Place) -> String {
        Cursor { place: place.seq.0, second: place.destination.0.into() }.to_text(self.list)
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
            let why = "reaches too far for these filters; follow \"next\" with after";
            return Err(Problem::of_parameter("offset", why));
        }
        let next = found.next.filter(|_| self.has_next()).map(|place| self.cursor_of(place));
        Ok(List { plural, rows: found.items.into_iter().map(show).collect(), next })
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
        _ if name == "offset" => {
            Err(Problem::of_parameter(name, format!("must be 0 to {max}; beyond that follow \"next\" with after")))
        }
        _ => Err(Problem::of_parameter(name, format!("must be 0 to {max}"))),
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
    pub next: Option<String>,
}

impl<T: Serialize> Serialize for List<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(2))?;
        map.serialize_entry(self.plural, &self.rows)?;
        map.serialize_entry("next", &self.next)?;
        map.end()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::problem::ProblemCode;
    use proptest::prelude::*;

    fn page(query: &str) -> Result<Page, Problem> {
        Page::from_query("/v1/things", &Query::parse_text(query).unwrap())
    }

    fn list(path: &str, query: &str) -> ListName {
        ListName::of(path, &Query::parse_text(query).unwrap())
    }

    /// S2.6, S2.7, S2.10: limit 0 to 1000 (default 10) and offset from 0; what is outside is a 400.
    #[test]
    fn limit_and_offset_have_their_ranges_and_defaults() {
        let list = list("/v1/things", "");
        assert_eq!(page(""), Ok(Page { limit: 10, offset: 0, after: None, list }));
        assert_eq!(page("limit=0&offset=10000"), Ok(Page { limit: 0, offset: 10_000, after: None, list }));
        assert_eq!(page("limit=1000").map(|page| page.limit), Ok(1000));
        for wrong in
            ["limit=1001", "limit=-1", "limit=", "limit=ten", "limit=1e2", "offset=-1", "offset=10001", "after=x"]
        {
            let problem = page(wrong).unwrap_err();
            assert_eq!((problem.code(), problem.code().status().as_u16()), (ProblemCode::BadQuery, 400), "{wrong}");
            let name = wrong.split_once('=').unwrap().0;
            assert_eq!(problem.errors()[0].pointer, format!("?{name}"));
        }
    }

    /// S2.10: an empty page is the end of a list for whoever follows `next`, also when there is more.
    #[test]
    fn a_page_of_no_rows_has_no_next() {
        let place = Place { seq: Seq(1), destination: DestinationNo(1) };
        let cursor = |row: &u64| Cursor { place: *row, second: 0 };
        let after = cursor(&1).to_text(list("/v1/things", ""));
        for query in ["limit=0".to_owned(), format!("limit=0&after={after}")] {
            let page = page(&query).unwrap();
            let found = service::Page { items: Vec::<u64>::new(), next: Some(place), skipped: 0 };
            assert_eq!(page.found("things", found, |row| row).unwrap().next, None);
            assert_eq!(page.of("things", 1..9, cursor, |row| row).next, None);
        }
        assert!(page("limit=1").unwrap().of("things", 1..9, cursor, |row| row).next.is_some());
    }

    /// S2.8: a list stands under its plural, with the way on beside it.
    #[test]
    fn a_list_stands_under_its_plural() {
        let list = List { plural: "webhook", rows: vec![1, 2], next: Some("way".into()) };
        let json = serde_json::to_value(&list).unwrap();
        assert_eq!(json, serde_json::json!({"webhook": [1, 2], "next": "way"}));
        let last = List { plural: "events", rows: Vec::<u8>::new(), next: None };
        assert_eq!(serde_json::to_string(&last).unwrap(), r#"{"events":[],"next":null}"#);
    }

    /// A place in one list is another place in the next one: whoever mixes them up is told, and not shown the wrong rows.
    #[test]
    fn a_cursor_belongs_to_its_list_and_its_filters() {
        let cursor = Cursor { place: 7, second: 1 };
        let text = cursor.to_text(list("/v1/deliveries", "state=failed&type=a.*&limit=5"));
        let same = [
            ("/v1/deliveries", "type=a.%2A&state=failed&limit=9&offset=3"),
            ("/v1/Deliveries", "state=failed&type=a.*&after=x"),
            ("/v1/%64eliveries", "state=failed&type=a.*"),
        ];
        for (path, query) in same {
            assert_eq!(Cursor::parse(&text, list(path, query)), Ok(cursor), "{path}?{query}");
        }
        let others = [
            ("/v1/events", "state=failed&type=a.*"),
            ("/v1/deliveries", "state=failed"),
            ("/v1/deliveries", "state=succeeded&type=a.*"),
            ("/v1/deliveries", "state=failed&type=a.*&status=500"),
            ("/v1/deliveriesstate", "=failed&type=a.*"),
        ];
        for (path, query) in others {
            let refused = Cursor::parse(&text, list(path, query)).unwrap_err();
            assert!(refused.to_string().contains("take \"next\" of the page before"), "{path}?{query}: {refused}");
        }
    }

    proptest! {
        #[test]
        fn a_cursor_survives_its_text_and_a_changed_one_does_not(place: u64, second: u64, at in 0usize..32, other in 0u8..26) {
            let (cursor, list) = (Cursor { place, second }, list("/v1/things", ""));
            let text = cursor.to_text(list);
            prop_assert_eq!(Cursor::parse(&text, list), Ok(cursor));
            let mut changed = text.clone().into_bytes();
            changed[at] = b'a' + other;
            let changed = String::from_utf8(changed).unwrap();
            prop_assert_eq!(Cursor::parse(&changed, list).is_ok(), changed == text);
            prop_assert!(Cursor::parse(&text[..31], list).is_err());
        }
    }
}
