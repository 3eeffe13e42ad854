//! Samples: what a test event says. The catalogue of event types has them; a type that nobody knows is tested with one that
//! says that it is a test.

use bytes::Bytes;

use crate::model::{EventType, EventTypes, TypePattern};

/// The type of a test that no subscription names.
const GENERIC_TYPE: &str = "webhook.test";

/// A type that a pattern matches, and a sample of it. Of a branch it is the first that is known.
pub(super) fn of_pattern(types: &EventTypes, pattern: &TypePattern) -> (EventType, Bytes) {
    let kind = match pattern {
        TypePattern::One(kind) => kind.clone(),
        TypePattern::Any => generic_type(),
        TypePattern::Branch(prefix) => {
            let known = types.iter().find(|known| pattern.matches(&known.name)).map(|known| known.name.clone());
            // A branch is at most one character shorter than what a type may be, so another word may not fit behind it.
            let of_branch = || ["test", "t"].iter().find_map(|word| format!("{prefix}{word}").parse().ok());
            known.or_else(of_branch).unwrap_or_else(generic_type)
        }
    };
    let sample = |kind: &EventType| types.find(kind).and_then(|known| known.sample.clone());
    let data = sample(&kind).or_else(|| sample(&generic_type()));
    (kind, data.unwrap_or_else(|| "{}".to_owned()).into())
}

fn generic_type() -> EventType {
    GENERIC_TYPE.parse().expect("it is within the bounds of an event's type")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::event_type::Origin;
    use crate::model::{KnownType, Timestamp};

    /// S2.50, S2.51: whatever the pattern, the sample is of a type that it matches; the catalogue's own where there is one.
    #[test]
    fn a_sample_is_of_a_type_that_the_pattern_matches() {
        let mut types = EventTypes::default();
        let added = KnownType::new("refund.settled".parse().unwrap(), Origin::Added { created: Timestamp::ZERO });
        types.put(KnownType { sample: Some(r#"{"refund": 1}"#.into()), ..added }).unwrap();
        let longest = format!("{}.*", "x".repeat(126));
        for (text, kind, part) in [
            ("*", "webhook.test", "Nothing has happened"),
            ("transaction.*", "transaction.sale.success", "5.00"),
            ("transaction.refund.*", "transaction.refund.success", "5.00"),
            ("merchant_ach_funding_item", "merchant_ach_funding_item", "CREDIT"),
            ("cardupdate.submitted", "cardupdate.submitted", "cardupdate"),
            ("refund.*", "refund.settled", r#"{"refund": 1}"#),
            ("own.type", "own.type", "Nothing has happened"),
            ("own.*", "own.test", "Nothing has happened"),
            (longest.as_str(), longest.replace('*', "t").as_str(), "Nothing has happened"),
        ] {
            let pattern: TypePattern = text.parse().unwrap();
            let (made, data) = of_pattern(&types, &pattern);
            assert_eq!(made.as_str(), kind, "{text}");
            assert!(pattern.matches(&made), "{text}");
            assert!(std::str::from_utf8(&data).unwrap().contains(part), "{text}: {data:?}");
        }
    }
}
