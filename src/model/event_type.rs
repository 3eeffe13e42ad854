//! The catalogue of event types: which names are known, what they mean, and which spellings are one type.
//!
//! Names are opaque: none is corrected, and a producer may write one that nobody knows, unless types are strict. What
//! the catalogue adds is a description for people, a sample for tests, and aliases, because documents spell some names in
//! two ways. An event keeps the spelling that its producer wrote, and a subscription the one that it was made with; where
//! it is decided who gets an event, all spellings of one type count as that type. So a subscription to either spelling
//! gets both, and so does a pattern that matches one of them. Lists and filters go by the name as it was written.
//!
//! Three origins: built in (from the pages of the gateways that the product speaks for), configured (`[[events.type]]`),
//! and added through the API, which alone can be changed there.

use std::collections::HashMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::words::is_unreadable;
use super::{EventType, Invalid, Timestamp};

mod built_in;

/// What is known of one event type.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KnownType {
    /// Its name.
    pub name: EventType,
    /// What happened when there is such an event; for people, up to 256 characters.
    pub description: Option<String>,
    /// Its other spellings, up to 16.
    pub aliases: Vec<EventType>,
    /// What a test event of it says: JSON, up to 64 KiB.
    pub sample: Option<String>,
    /// From where it is known.
    pub origin: Origin,
}

/// From where an event type is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Origin {
    /// It comes with the daemon.
    BuiltIn(Source),
    /// The configuration names it.
    Configured,
    /// Somebody added it through the API.
    Added {
        /// When.
        created: Timestamp,
    },
}

impl Origin {
    /// The name in the API.
    pub fn as_str(self) -> &'static str {
        match self {
            Origin::BuiltIn(_) => "built_in",
            Origin::Configured => "configuration",
            Origin::Added { .. } => "api",
        }
    }
}

/// Whose pages name a built-in type.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Source {
    /// Nobody's: the daemon itself sends such events.
    Postrider,
    /// The back-office API (source 000).
    Backoffice,
    /// The merchant console (source 001).
    Console,
    /// The notifications API (source 002).
    Notifications,
    /// The API with one subscription for a tenant (source 003).
    Subscribe,
    /// The gateway's webhook API (source 004).
    Gateway,
}

impl Source {
    /// The name in the API.
    pub fn as_str(self) -> &'static str {
        match self {
            Source::Postrider => "postrider",
            Source::Backoffice => "backoffice",
            Source::Console => "console",
            Source::Notifications => "notifications",
            Source::Subscribe => "subscribe",
            Source::Gateway => "gateway",
        }
    }
}

/// Longest description, in characters.
const DESCRIPTION_CHARS_MAX: usize = 256;
/// Aliases of one type.
const ALIASES_MAX: usize = 16;
/// Longest sample, in bytes.
const SAMPLE_BYTES_MAX: usize = 64 << 10;

impl KnownType {
    /// A type of which only its name is known.
    pub fn new(name: EventType, origin: Origin) -> Self {
        KnownType { name, description: None, aliases: Vec::new(), sample: None, origin }
    }

    /// Its name, then its aliases.
    pub fn spellings(&self) -> impl Iterator<Item = &EventType> {
        std::iter::once(&self.name).chain(&self.aliases)
    }

    /// A description within its bounds.
    pub fn description(text: String) -> Result<Option<String>, Invalid> {
        if (1..=DESCRIPTION_CHARS_MAX).contains(&text.chars().count()) && !text.chars().any(is_unreadable) {
            Ok(Some(text))
        } else {
            let why = "a description is 1 to 256 characters, none of which is a control character or changes the direction of the text";
            Err(Invalid::new(why))
        }
    }

    /// Aliases of the type `name`, within their bounds.
    pub fn aliases(name: &EventType, aliases: Vec<EventType>) -> Result<Vec<EventType>, Invalid> {
        if aliases.len() > ALIASES_MAX {
            return Err(Invalid::new("there are at most 16 aliases"));
        }
        let is_repeated = |(place, alias): (usize, &EventType)| alias == name || aliases[..place].contains(alias);
        match aliases.iter().enumerate().any(is_repeated) {
            true => Err(Invalid::new("an alias differs from the name and from the other aliases")),
            false => Ok(aliases),
        }
    }

    /// A sample within its bounds; it stays as it was written.
    pub fn sample(json: String) -> Result<Option<String>, Invalid> {
        if json.len() > SAMPLE_BYTES_MAX {
            return Err(Invalid::new("a sample has at most 64 KiB"));
        }
        match serde_json::from_str::<serde::de::IgnoredAny>(&json) {
            Ok(_) => Ok(Some(json)),
            Err(_) => Err(Invalid::new("a sample is one JSON value")),
        }
    }
}

/// A spelling that belongs to another type.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{spelling} is already the event type {by} or one of its aliases")]
pub struct Taken {
    /// The spelling.
    pub spelling: EventType,
    /// Whose it is.
    pub by: EventType,
}

/// Every known event type, and whether others are taken as well.
#[derive(Debug, Clone, PartialEq)]
pub struct EventTypes {
    /// Built-in ones as their pages list them, then the configured ones, then the added ones.
    listed: Vec<Arc<KnownType>>,
    by_spelling: HashMap<EventType, Arc<KnownType>>,
    strict: bool,
}

impl Default for EventTypes {
    /// The built-in types; others are taken as well.
    fn default() -> Self {
        let mut types = EventTypes { listed: Vec::new(), by_spelling: HashMap::new(), strict: false };
        for known in built_in::types() {
            types.put(known).expect("no two built-in types share a spelling, as a test says");
        }
        types
    }
}

impl EventTypes {
    /// The same, but whether only known types are taken.
    #[must_use]
    pub fn strict(self, strict: bool) -> Self {
        EventTypes { strict, ..self }
    }

    /// All of them, in their order.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<KnownType>> {
        self.listed.iter()
    }

    /// The type that is spelled so, by its name or by an alias.
    pub fn find(&self, spelling: &EventType) -> Option<&Arc<KnownType>> {
        self.by_spelling.get(spelling)
    }

    /// The type of this name.
    pub fn named(&self, name: &EventType) -> Option<&Arc<KnownType>> {
        self.find(name).filter(|known| known.name == *name)
    }

    /// The type of this name, if it was added: another one is not changed.
    pub fn added(&self, name: &EventType) -> Option<&Arc<KnownType>> {
        self.named(name).filter(|known| matches!(known.origin, Origin::Added { .. }))
    }

    /// Whether events of this type are taken.
    pub fn takes(&self, kind: &EventType) -> bool {
        !self.strict || self.by_spelling.contains_key(kind)
    }

    /// This spelling, then the others of the same type.
    pub fn spellings<'a>(&'a self, kind: &'a EventType) -> Vec<&'a EventType> {
        let others = self.find(kind).into_iter().flat_map(|known| known.spellings());
        std::iter::once(kind).chain(others.filter(|other| *other != kind)).collect()
    }

    /// Puts a type in, in the place of an added one of its name. Nothing has changed when a spelling is another type's.
    pub fn put(&mut self, known: KnownType) -> Result<Arc<KnownType>, Taken> {
        let is_own = |other: &KnownType| other.name == known.name && matches!(other.origin, Origin::Added { .. });
        for spelling in known.spellings() {
            if let Some(other) = self.by_spelling.get(spelling).filter(|other| !is_own(other)) {
                return Err(Taken { spelling: spelling.clone(), by: other.name.clone() });
            }
        }
        let known = Arc::new(known);
        match self.listed.iter_mut().find(|other| other.name == known.name) {
            Some(other) => {
                let before = std::mem::replace(other, Arc::clone(&known));
                before.spellings().for_each(|spelling| drop(self.by_spelling.remove(spelling)));
            }
            None => self.listed.push(Arc::clone(&known)),
        }
        for spelling in known.spellings() {
            self.by_spelling.insert(spelling.clone(), Arc::clone(&known));
        }
        Ok(known)
    }

    /// Takes an added type out; answers whether it was there.
    pub fn remove(&mut self, name: &EventType) -> bool {
        let Some(known) = self.added(name).map(Arc::clone) else { return false };
        self.listed.retain(|other| other.name != known.name);
        known.spellings().for_each(|spelling| drop(self.by_spelling.remove(spelling)));
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kind(name: &str) -> EventType {
        name.parse().unwrap()
    }

    fn added(name: &str, aliases: &[&str]) -> KnownType {
        let aliases = aliases.iter().map(|alias| kind(alias)).collect();
        KnownType { aliases, ..KnownType::new(kind(name), Origin::Added { created: Timestamp::ZERO }) }
    }

    /// Decisions D6, D8, D9: either spelling leads to the other, and a name that nobody knows is its own only spelling.
    #[test]
    fn each_spelling_leads_to_all() {
        let types = EventTypes::default();
        let spelled = |name: &str| {
            let kind = kind(name);
            types.spellings(&kind).iter().map(ToString::to_string).collect::<Vec<_>>()
        };
        assert_eq!(spelled("cau.submitted"), ["cau.submitted", "cardupdate.submitted"]);
        assert_eq!(spelled("cardupdate.submitted"), ["cardupdate.submitted", "cau.submitted"]);
        assert_eq!(spelled("transaction"), ["transaction"]);
        assert_eq!(spelled("nobody.knows"), ["nobody.knows"]);
        assert_eq!(types.find(&kind("cardupdate.created")).unwrap().name, kind("cau.created"));
        assert_eq!(types.named(&kind("cardupdate.created")), None);
    }

    #[test]
    fn a_spelling_belongs_to_one_type() {
        let mut types = EventTypes::default();
        let begin = types.iter().count();
        types.put(added("refund.settled", &["refund.done"])).unwrap();
        for (name, aliases, taken) in [
            ("transaction", &[][..], "transaction"),
            ("cardupdate.created", &[], "cau.created"),
            ("refund.done", &[], "refund.settled"),
            ("refund.other", &["ach.failed"], "ach.failed"),
            ("refund.other", &["refund.settled"], "refund.settled"),
        ] {
            assert_eq!(types.put(added(name, aliases)).unwrap_err().by, kind(taken), "{name} {aliases:?}");
        }
        assert_eq!(types.iter().count(), begin + 1);
        // A change takes its place, and frees what it is no longer called.
        types.put(added("refund.settled", &["refund.paid"])).unwrap();
        assert_eq!(types.find(&kind("refund.done")), None);
        assert_eq!(types.find(&kind("refund.paid")).unwrap().name, kind("refund.settled"));
        assert!(!types.remove(&kind("transaction")) && !types.remove(&kind("refund.paid")));
        assert!(types.remove(&kind("refund.settled")) && !types.remove(&kind("refund.settled")));
        assert_eq!((types.iter().count(), types.find(&kind("refund.paid"))), (begin, None));
    }

    #[test]
    fn strict_types_take_known_spellings_only() {
        let strict = EventTypes::default().strict(true);
        for (name, known) in [("transaction", true), ("cardupdate.created", true), ("webhook.test", true), ("t", false)]
        {
            assert_eq!(strict.takes(&kind(name)), known, "{name}");
            assert!(EventTypes::default().takes(&kind(name)), "{name}");
        }
    }

    #[test]
    fn the_bounds_of_a_known_type_hold() {
        assert!(KnownType::description("x".repeat(256)).is_ok());
        for wrong in [String::new(), "x".repeat(257), "a\nb".into()] {
            assert!(KnownType::description(wrong).is_err());
        }
        let name = kind("a");
        let aliases = |count: usize| (0..count).map(|it| kind(&format!("a.{it}"))).collect::<Vec<_>>();
        assert!(KnownType::aliases(&name, aliases(16)).is_ok());
        for wrong in [aliases(17), vec![kind("a")], vec![kind("b"), kind("b")]] {
            assert!(KnownType::aliases(&name, wrong).is_err());
        }
        assert_eq!(KnownType::sample(r#"{"b" : 1.0}"#.into()).unwrap().as_deref(), Some(r#"{"b" : 1.0}"#));
        for wrong in ["", "{", "1 2", &format!("\"{}\"", "x".repeat(64 << 10))] {
            assert!(KnownType::sample(wrong.into()).is_err(), "{wrong:.9}");
        }
    }
}
