//! `filter` of a subscription on the wire: conditions, or the filter fields that source 002 documents for its own types.
//!
//! A condition is `{"pointer": "/amount", "op": "gt", "value": "100.00"}`; a filter is `{"all": […]}` or `{"any": […]}`.
//! The types of source 002 also take its own form, such as `{"amount_greater_than": "100.00", "card_scheme": "VISA"}`:
//! each field becomes a condition on the member of the same name (`amount` here), and is shown as one.

use serde_json::{Map, Value};

use crate::api::door::Faults;
use crate::model::filter::{Bound, CONDITIONS_MAX, Condition, Filter, Mode, Plain, TEXT_CHARS_MAX, Test, VALUES_MAX};
use crate::model::{Invalid, TypePattern};

/// The filter that a body asks for, for a subscription to `pattern`.
pub(super) fn weigh(filter: Value, pattern: &TypePattern, faults: &mut Faults) -> Option<Filter> {
    let Value::Object(mut members) = filter else {
        faults.note("/filter", "must be an object such as {\"all\": […]}");
        return None;
    };
    if members.contains_key("all") || members.contains_key("any") {
        return match (members.remove("all"), members.remove("any"), members.keys().next()) {
            (Some(all), None, None) => conditions("/filter/all", Mode::All, all, faults),
            (None, Some(any), None) => conditions("/filter/any", Mode::Any, any, faults),
            (_, _, other) => {
                let pointer = other.map_or("/filter".to_owned(), |other| format!("/filter/{other}"));
                faults.note(pointer, "does not go with all or any: a filter is {\"all\": […]} or {\"any\": […]}");
                None
            }
        };
    }
    let fields = match pattern {
        TypePattern::One(kind) => FIELDS.iter().find(|(own, _)| *own == kind.as_str()).map(|(_, fields)| *fields),
        TypePattern::Any | TypePattern::Branch(_) => None,
    };
    match (fields, members.is_empty()) {
        (Some(fields), false) => of_fields(members, fields, faults),
        (Some(_), true) | (None, _) => {
            faults.note(
                "/filter",
                "must be {\"all\": […]} or {\"any\": […]}, with conditions {\"pointer\", \"op\", \"value\"}",
            );
            None
        }
    }
}

fn conditions(pointer: &str, mode: Mode, list: Value, faults: &mut Faults) -> Option<Filter> {
    let list = match list {
        Value::Array(list) if (1..=CONDITIONS_MAX).contains(&list.len()) => list,
        _ => {
            faults.note(pointer, format!("must be a list of 1 to {CONDITIONS_MAX} conditions"));
            return None;
        }
    };
    let read = |(place, value)| condition(&format!("{pointer}/{place}"), value, faults);
    let conditions: Vec<_> = list.into_iter().enumerate().map(read).collect();
    let conditions = conditions.into_iter().collect::<Option<Vec<_>>>()?;
    Some(Filter { mode, conditions })
}

fn condition(at: &str, value: Value, faults: &mut Faults) -> Option<Condition> {
    let Value::Object(mut members) = value else {
        faults.note(at, "must be an object {\"pointer\", \"op\", \"value\"}");
        return None;
    };
    let (pointer, op, value) = (members.remove("pointer"), members.remove("op"), members.remove("value"));
    for other in members.keys() {
        faults.note(format!("{at}/{other}"), "is not a field of a condition");
    }
    let pointer = match pointer {
        Some(Value::String(text)) => text.parse(),
        Some(_) | None => Err(Invalid::new("is required: a JSON pointer such as /amount")),
    };
    let pointer = faults.weigh(&format!("{at}/pointer"), pointer);
    let value_at = format!("{at}/value");
    let test = match op.as_ref().and_then(Value::as_str) {
        Some("eq") => faults.weigh(&value_at, plain(value)).map(Test::Eq),
        Some("ne") => faults.weigh(&value_at, plain(value)).map(Test::Ne),
        Some("in") => plains(&value_at, value, faults).map(Test::In),
        Some("prefix") => faults.weigh(&value_at, text(value, 1, TEXT_CHARS_MAX)).map(Test::Prefix),
        Some("exists") => match value {
            None => Some(Test::Exists(true)),
            Some(Value::Bool(exists)) => Some(Test::Exists(exists)),
            Some(_) => {
                faults.note(value_at, "must be true or false");
                None
            }
        },
        Some("gt") => faults.weigh(&value_at, plain(value).and_then(Bound::try_from)).map(Test::Gt),
        Some("lt") => faults.weigh(&value_at, plain(value).and_then(Bound::try_from)).map(Test::Lt),
        Some(_) | None => {
            faults.note(format!("{at}/op"), "must be one of eq, ne, in, prefix, exists, gt, lt");
            None
        }
    };
    Some(Condition { pointer: pointer?, test: test? })
}

fn plain(value: Option<Value>) -> Result<Plain, Invalid> {
    match value {
        None => Err(Invalid::new("is required")),
        Some(Value::Null) => Ok(Plain::Null),
        Some(Value::Bool(value)) => Ok(Plain::Bool(value)),
        Some(Value::Number(number)) => Ok(Plain::Number(number.to_string())),
        Some(text @ Value::String(_)) => self::text(Some(text), 0, TEXT_CHARS_MAX).map(Plain::Text),
        Some(Value::Array(_) | Value::Object(_)) => {
            Err(Invalid::new("must be a text, a number, true, false or null; a list goes with the op in"))
        }
    }
}

fn plains(at: &str, value: Option<Value>, faults: &mut Faults) -> Option<Vec<Plain>> {
    match value {
        Some(Value::Array(list)) if (1..=VALUES_MAX).contains(&list.len()) => {
            let read = |(place, value)| faults.weigh(&format!("{at}/{place}"), plain(Some(value)));
            let plains: Vec<_> = list.into_iter().enumerate().map(read).collect();
            plains.into_iter().collect()
        }
        _ => {
            faults.note(at, format!("must be a list of 1 to {VALUES_MAX} values"));
            None
        }
    }
}

fn text(value: Option<Value>, min: usize, max: usize) -> Result<String, Invalid> {
    match value {
        Some(Value::String(text)) if (min..=max).contains(&text.chars().count()) => Ok(text),
        _ => Err(Invalid(format!("must be a text of {min} to {max} characters"))),
    }
}

/// What a filter field of source 002 takes.
#[derive(Debug, Clone, Copy)]
enum Takes {
    /// A text, or a list of them.
    Text,
    /// A text of so many characters.
    Exactly(usize),
    /// `true` or `false`.
    Flag,
    /// An amount as a text: above it.
    Above,
    /// An amount as a text: below it.
    Below,
    /// A whole number of minor units: this or more.
    Min,
    /// A whole number of minor units: this or less.
    Max,
}

/// The filter fields of source 002's types, as its pages name them.
const FIELDS: [(&str, &[(&str, Takes)]); 4] = [
    (
        "transaction",
        &[
            ("status", Takes::Text),
            ("amount_greater_than", Takes::Above),
            ("amount_less_than", Takes::Below),
            ("type", Takes::Text),
            ("currency_code", Takes::Exactly(3)),
            ("card_scheme", Takes::Text),
            ("response_code", Takes::Text),
            ("initiation_type", Takes::Text),
            ("was_voided", Takes::Flag),
            ("was_refunded", Takes::Flag),
            ("was_captured", Takes::Flag),
            ("was_reversed", Takes::Flag),
            ("has_error", Takes::Flag),
        ],
    ),
    (
        "merchant_ach_funding_item",
        &[
            ("transaction_event_type", Takes::Text),
            ("transaction_movement_type", Takes::Text),
            ("transaction_amount_min", Takes::Min),
            ("transaction_amount_max", Takes::Max),
            ("net_transaction_amount_min", Takes::Min),
            ("net_transaction_amount_max", Takes::Max),
        ],
    ),
    (
        "merchant_card_funding_item",
        &[
            ("transaction_event_type", Takes::Text),
            ("transaction_movement_type", Takes::Text),
            ("transaction_amount_min", Takes::Min),
            ("transaction_amount_max", Takes::Max),
            ("net_transaction_amount_min", Takes::Min),
            ("net_transaction_amount_max", Takes::Max),
            ("card_scheme_type", Takes::Text),
        ],
    ),
    (
        "merchant_card_funding_group",
        &[
            ("merchant_account_number_last_four", Takes::Exactly(4)),
            ("merchant_bank_number", Takes::Text),
            ("net_transaction_total_amount_min", Takes::Min),
            ("net_transaction_total_amount_max", Takes::Max),
        ],
    ),
];
const FIELD_CHARS_MAX: usize = 64;

fn of_fields(members: Map<String, Value>, fields: &[(&str, Takes)], faults: &mut Faults) -> Option<Filter> {
    let mut conditions = Vec::with_capacity(members.len());
    for (name, value) in members {
        let at = format!("/filter/{name}");
        let Some((_, takes)) = fields.iter().find(|(known, _)| *known == name) else {
            let known: Vec<_> = fields.iter().map(|(known, _)| *known).collect();
            faults.note(at, format!("is none of all, any, {}", known.join(", ")));
            continue;
        };
        let ends = ["_greater_than", "_less_than", "_min", "_max"];
        let member = match takes {
            Takes::Text | Takes::Exactly(_) | Takes::Flag => &name,
            Takes::Above | Takes::Below | Takes::Min | Takes::Max => {
                ends.iter().find_map(|end| name.strip_suffix(end)).unwrap_or(&name)
            }
        };
        let pointer = faults.weigh(&at, format!("/{member}").parse());
        let test = faults.weigh(&at, takes.test(value));
        conditions.extend(pointer.zip(test).map(|(pointer, test)| Condition { pointer, test }));
    }
    (!conditions.is_empty()).then_some(Filter { mode: Mode::All, conditions })
}

impl Takes {
    fn test(self, value: Value) -> Result<Test, Invalid> {
        let words = |value| text(Some(value), 1, FIELD_CHARS_MAX).map(Plain::Text);
        let beside = |value: Value, step: i64| {
            let whole = value.as_i64().and_then(|number| number.checked_add(step));
            let whole = whole.ok_or_else(|| Invalid::new("must be a whole number of minor units"))?;
            Bound::try_from(Plain::Number(whole.to_string()))
        };
        match self {
            Takes::Text => match value {
                Value::Array(list) if (1..=VALUES_MAX).contains(&list.len()) => {
                    list.into_iter().map(words).collect::<Result<_, _>>().map(Test::In)
                }
                value => words(value).map(Test::Eq),
            },
            Takes::Exactly(count) => text(Some(value), count, count).map(Plain::Text).map(Test::Eq),
            Takes::Flag => match value {
                Value::Bool(flag) => Ok(Test::Eq(Plain::Bool(flag))),
                _ => Err(Invalid::new("must be true or false")),
            },
            Takes::Above => plain(Some(value)).and_then(Bound::try_from).map(Test::Gt),
            Takes::Below => plain(Some(value)).and_then(Bound::try_from).map(Test::Lt),
            Takes::Min => beside(value, -1).map(Test::Gt),
            Takes::Max => beside(value, 1).map(Test::Lt),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn read(pattern: &str, filter: Value) -> Result<Filter, Vec<String>> {
        let mut faults = Faults::default();
        let filter = weigh(filter, &pattern.parse().unwrap(), &mut faults);
        match faults.into_result() {
            Ok(()) => Ok(filter.expect("no fault was noted")),
            Err(problem) => Err(problem.errors().iter().map(|error| error.pointer.clone()).collect()),
        }
    }

    #[test]
    fn a_filter_is_shown_as_it_was_written() {
        let filter = json!({"any": [
            {"pointer": "/amount", "op": "gt", "value": "100.00"},
            {"pointer": "/minor", "op": "lt", "value": 500},
            {"pointer": "/card/brand", "op": "in", "value": ["VISA", 1.5, null, true]},
            {"pointer": "/id", "op": "prefix", "value": "T-"},
            {"pointer": "", "op": "exists", "value": false},
            {"pointer": "/a", "op": "eq", "value": null},
            {"pointer": "/a", "op": "ne", "value": ""},
        ]});
        assert_eq!(read("t", filter.clone()).unwrap().view(), filter);
        let short = json!({"all": [{"pointer": "/a", "op": "exists"}]});
        assert_eq!(read("t.*", short).unwrap().view()["all"][0]["value"], true);
    }

    #[test]
    fn every_fault_of_a_filter_is_named_by_its_pointer() {
        let one = |condition: Value| json!({"all": [{"pointer": "/ok", "op": "exists"}, condition]});
        let many = |count: usize| json!({"all": vec![json!({"pointer": "/ok", "op": "exists"}); count]});
        for (filter, pointers) in [
            (json!([]), &["/filter"][..]),
            (json!({}), &["/filter"]),
            (json!({"all": [], "any": []}), &["/filter"]),
            (json!({"all": [], "status": "x"}), &["/filter/status"]),
            (json!({"all": []}), &["/filter/all"]),
            (json!({"any": {}}), &["/filter/any"]),
            (many(33), &["/filter/all"]),
            (one(json!("x")), &["/filter/all/1"]),
            (one(json!({})), &["/filter/all/1/pointer", "/filter/all/1/op"]),
            (one(json!({"pointer": "a", "op": "eq"})), &["/filter/all/1/pointer", "/filter/all/1/value"]),
            (
                one(json!({"pointer": "/a", "op": "eq", "value": [1], "x": 1})),
                &["/filter/all/1/x", "/filter/all/1/value"],
            ),
            (one(json!({"pointer": "/a", "op": "like", "value": 1})), &["/filter/all/1/op"]),
            (one(json!({"pointer": "/a", "op": "in", "value": []})), &["/filter/all/1/value"]),
            (one(json!({"pointer": "/a", "op": "in", "value": vec![1; 101]})), &["/filter/all/1/value"]),
            (one(json!({"pointer": "/a", "op": "in", "value": [1, {}]})), &["/filter/all/1/value/1"]),
            (one(json!({"pointer": "/a", "op": "prefix", "value": 1})), &["/filter/all/1/value"]),
            (one(json!({"pointer": "/a", "op": "exists", "value": 1})), &["/filter/all/1/value"]),
            (one(json!({"pointer": "/a", "op": "gt", "value": "soon"})), &["/filter/all/1/value"]),
            (one(json!({"pointer": "/a", "op": "eq", "value": "x".repeat(257)})), &["/filter/all/1/value"]),
        ] {
            assert_eq!(read("t", filter.clone()).unwrap_err(), pointers, "{filter}");
        }
        assert!(read("t", many(32)).is_ok());
    }

    /// Source 002, subscriptions: each filter field that is documented for a type is a condition on the data.
    #[test]
    fn the_filter_fields_of_the_source_are_conditions() {
        let table = [
            ("transaction", json!({"status": "Tran approved"}), "/status", "eq", json!("Tran approved")),
            ("transaction", json!({"amount_greater_than": "10.00"}), "/amount", "gt", json!("10.00")),
            ("transaction", json!({"amount_less_than": "99"}), "/amount", "lt", json!("99")),
            ("transaction", json!({"type": ["Capture", "Refund"]}), "/type", "in", json!(["Capture", "Refund"])),
            ("transaction", json!({"currency_code": "840"}), "/currency_code", "eq", json!("840")),
            ("transaction", json!({"was_voided": false}), "/was_voided", "eq", json!(false)),
            (
                "merchant_ach_funding_item",
                json!({"transaction_amount_min": 100}),
                "/transaction_amount",
                "gt",
                json!(99),
            ),
            (
                "merchant_card_funding_item",
                json!({"net_transaction_amount_max": 100}),
                "/net_transaction_amount",
                "lt",
                json!(101),
            ),
            (
                "merchant_card_funding_group",
                json!({"merchant_account_number_last_four": "4242"}),
                "/merchant_account_number_last_four",
                "eq",
                json!("4242"),
            ),
        ];
        for (pattern, filter, pointer, op, value) in table {
            let shown = read(pattern, filter.clone()).unwrap().view();
            assert_eq!(shown, json!({"all": [{"pointer": pointer, "op": op, "value": value}]}), "{filter}");
        }
        for (pattern, filter, pointer) in [
            ("transaction", json!({"amount": "1"}), "/filter/amount"),
            ("transaction", json!({"amount_greater_than": "much"}), "/filter/amount_greater_than"),
            ("transaction", json!({"currency_code": "84"}), "/filter/currency_code"),
            ("transaction", json!({"has_error": "no"}), "/filter/has_error"),
            ("transaction", json!({"status": ""}), "/filter/status"),
            ("transaction", json!({"status": []}), "/filter/status"),
            ("merchant_ach_funding_item", json!({"transaction_amount_min": 1.5}), "/filter/transaction_amount_min"),
            (
                "merchant_ach_funding_item",
                json!({"transaction_amount_max": i64::MAX}),
                "/filter/transaction_amount_max",
            ),
            ("merchant_ach_funding_item", json!({"status": "x"}), "/filter/status"),
            ("transaction.*", json!({"status": "x"}), "/filter"),
        ] {
            assert_eq!(read(pattern, filter.clone()).unwrap_err(), [pointer], "{filter}");
        }
    }
}
