//! Samples: what a test event says. One for each type of the sources, as far as their pages show its shape, and one that
//! says that it is a test for all others. None holds a card number, not even a masked one.

use crate::model::{EventType, TypePattern};

/// What a test of an unknown type says.
const GENERIC: &str = r#"{"test":true,"message":"A test event. Nothing has happened."}"#;
/// The type of a test that no subscription names.
const GENERIC_TYPE: &str = "webhook.test";

/// A type that a pattern matches, and a sample of it. Of a branch it is the first that is known.
pub(super) fn of_pattern(pattern: &TypePattern) -> (EventType, &'static str) {
    let parsed = |name: &str| name.parse::<EventType>().ok();
    let known = |(name, data): &(&str, &'static str)| parsed(name).map(|kind| (kind, *data));
    match pattern {
        TypePattern::One(kind) => {
            let data = SAMPLES.iter().find(|(name, _)| *name == kind.as_str()).map_or(GENERIC, |(_, data)| data);
            (kind.clone(), data)
        }
        TypePattern::Any => (generic_type(), GENERIC),
        TypePattern::Branch(prefix) => {
            let mut matching = SAMPLES.iter().filter_map(known).filter(|(kind, _)| pattern.matches(kind));
            // A branch is at most one character shorter than what a type may be, so another word may not fit behind it.
            let of_branch = || ["test", "t"].iter().find_map(|word| parsed(&format!("{prefix}{word}")));
            matching.next().unwrap_or_else(|| (of_branch().unwrap_or_else(generic_type), GENERIC))
        }
    }
}

fn generic_type() -> EventType {
    GENERIC_TYPE.parse().expect("it is within the bounds of an event's type")
}

/// By type; of a branch the most telling one first.
const SAMPLES: [(&str, &str); 50] = [
    // Source 002 (NOTES 3.4: the fields that its filters name).
    ("transaction", TRANSACTION),
    ("merchant_ach_funding_item", ACH_FUNDING_ITEM),
    ("merchant_card_funding_item", CARD_FUNDING_ITEM),
    ("merchant_card_funding_group", CARD_FUNDING_GROUP),
    // Source 001: what stands in `event_body` (NOTES 2.5).
    ("transaction.sale.success", SALE),
    ("transaction.sale.failure", SALE_FAILURE),
    ("transaction.sale.voided", SALE_CHANGED),
    ("transaction.sale.captured", SALE_CHANGED),
    ("transaction.sale.adjusted", SALE_CHANGED),
    ("transaction.sale.queued", SALE_CHANGED),
    ("transaction.sale.unvoided", SALE_CHANGED),
    ("transaction.refund.success", SALE),
    ("transaction.refund.voided", SALE_CHANGED),
    (
        "ach.submitted",
        r#"{"merchant":{"merch_key":"test"},"object":{"type":"transaction","key":"test","refnum":"1"},"changes":{"old":{"status":"P"},"new":{"status":"B"}}}"#,
    ),
    (
        "ach.settled",
        r#"{"merchant":{"merch_key":"test"},"object":{"type":"transaction","key":"test","refnum":"1"},"changes":{"old":{"status":"B"},"new":{"status":"S"}}}"#,
    ),
    (
        "ach.returned",
        r#"{"merchant":{"merch_key":"test"},"object":{"type":"transaction","key":"test","refnum":"1"},"changes":{"old":{"status":"S"},"new":{"status":"R","reason":"R01"}}}"#,
    ),
    (
        "ach.voided",
        r#"{"merchant":{"merch_key":"test"},"object":{"type":"transaction","key":"test","refnum":"1"},"changes":{"old":{"status":"P"},"new":{"status":"V"}}}"#,
    ),
    (
        "ach.failed",
        r#"{"merchant":{"merch_key":"test"},"object":{"type":"transaction","key":"test","refnum":"1"},"changes":{"old":{"status":"B"},"new":{"status":"E","reason":"test"}}}"#,
    ),
    (
        "ach.note_added",
        r#"{"merchant":{"merch_key":"test"},"object":{"type":"transaction","key":"test","refnum":"1"},"changes":{"old":{"banknote":""},"new":{"banknote":"test"}}}"#,
    ),
    ("cau.submitted", CARD_UPDATE),
    ("cau.created", CARD_UPDATE),
    ("cau.updated_expiration", CARD_UPDATE),
    ("cau.updated_card", CARD_UPDATE),
    ("cau.contact_customer", CARD_UPDATE),
    ("cau.account_closed", CARD_UPDATE),
    (
        "product.inventory.adjusted",
        r#"{"merchant":{"merch_key":"test"},"object":{"type":"product","key":"test","locationid":"1","qtyonhand":94,"qtyonhand_change":"-6","uri":"products/test"}}"#,
    ),
    (
        "product.inventory.ordered",
        r#"{"merchant":{"merch_key":"test"},"object":{"type":"product","key":"test","locationid":"1","qtyonhand":94,"qtyonhand_change":"-6","uri":"products/test"}}"#,
    ),
    (
        "settlement.batch.success",
        r#"{"merchant":{"merch_key":"test"},"object":{"type":"batch","key":"test","batchnum":"1","response":"A","totalsales":"5.00","numsales":"1","totalcredits":"0.00","uri":"batches/test"}}"#,
    ),
    (
        "settlement.batch.failure",
        r#"{"merchant":{"merch_key":"test"},"object":{"type":"batch","key":"test","batchnum":"1","response":"E","totalsales":"5.00","numsales":"1","reason":"test","uri":"batches/test"}}"#,
    ),
    // Source 003.
    (
        "transaction.status_updated",
        r#"{"transaction_id":"test","status":"PAID","updated_at":"2026-01-31T09:30:00Z","tenant_id":"test"}"#,
    ),
    // Source 000 (NOTES 1.2).
    ("instructional_funding.submitted", r#"{"DepositId":1,"DepositStatus":1}"#),
    ("submerchant_deposit.rejected", r#"{"tenantSlug":"test","fundingDepositId":1}"#),
    ("funding_deposit.funded", r#"{"tenantSlug":"test","fundingDepositId":1,"fundingStatus":2}"#),
    ("funding_deposit.rejected", r#"{"tenantSlug":"test","fundingDepositId":1,"fundingStatus":3}"#),
    ("funding_deposit.partially_rejected", r#"{"tenantSlug":"test","fundingDepositId":1,"fundingStatus":4}"#),
    // Source 004 (NOTES 5: a notification names its event and has `data`).
    ("processing.return-processed", GATEWAY_TRANSACTION),
    ("processing.noc-processed", GATEWAY_TRANSACTION),
    ("processing.chargeback-processed", GATEWAY_TRANSACTION),
    ("processing.reversal-processed", GATEWAY_TRANSACTION),
    ("billing.payment-option-created", GATEWAY_OBJECT),
    ("billing.payment-option-modified", GATEWAY_OBJECT),
    ("billing.subscription-created", GATEWAY_OBJECT),
    ("billing.subscription-modified", GATEWAY_OBJECT),
    ("billing.transaction-created", GATEWAY_OBJECT),
    ("billing.allocation-created", GATEWAY_OBJECT),
    ("management.merchant-created", GATEWAY_OBJECT),
    ("management.merchant-modified", GATEWAY_OBJECT),
    ("management.terminal-created", GATEWAY_OBJECT),
    ("management.terminal-modified", GATEWAY_OBJECT),
    (GENERIC_TYPE, GENERIC),
];

const TRANSACTION: &str = r#"{"status":"Tran approved","type":"Authorization","amount":"5.00","currency_code":"840","card_scheme":"VISA","response_code":"00","initiation_type":"ecommerce","was_voided":false,"was_refunded":false,"was_captured":false,"was_reversed":false,"has_error":false}"#;
const ACH_FUNDING_ITEM: &str = r#"{"transaction_event_type":"test","transaction_movement_type":"CREDIT","transaction_amount":500,"net_transaction_amount":490}"#;
const CARD_FUNDING_ITEM: &str = r#"{"transaction_event_type":"test","transaction_movement_type":"SALE","transaction_amount":500,"net_transaction_amount":490,"card_scheme_type":"VISA"}"#;
const CARD_FUNDING_GROUP: &str =
    r#"{"merchant_account_number_last_four":"0000","merchant_bank_number":"test","net_transaction_total_amount":490}"#;
const SALE: &str = r#"{"merchant":{"merch_key":"test"},"object":{"type":"transaction","key":"test","amount_detail":{"amount":"5.00"},"authcode":"000000"}}"#;
const SALE_FAILURE: &str = r#"{"merchant":{"merch_key":"test"},"object":{"type":"transaction","key":"test","amount_detail":{"amount":"5.00"},"result_code":"D","result":"Declined"}}"#;
const SALE_CHANGED: &str = r#"{"merchant":{"merch_key":"test"},"object":{"type":"transaction","key":"test","amount_detail":{"amount":"5.00","original_amount":"5.00"},"authcode":"000000"}}"#;
const CARD_UPDATE: &str = r#"{"merchant":{"merch_key":"test"},"object":{"type":"cardupdate","key":"test","added":"2026-01-31 09:30:00","status":"submitted"}}"#;
const GATEWAY_TRANSACTION: &str = r#"{"transactionId":1,"amount":500}"#;
const GATEWAY_OBJECT: &str = r#"{"id":1}"#;

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    /// S2.51: there is a sample for each type of the sources, in JSON, without a card number.
    #[test]
    fn every_sample_is_json_of_a_type_and_holds_no_card_number() {
        let mut names = HashSet::new();
        for (name, data) in SAMPLES {
            assert!(names.insert(name), "{name} stands there twice");
            assert_eq!(of_pattern(&name.parse().unwrap()), (name.parse().unwrap(), data));
            assert!(serde_json::from_str::<serde_json::Value>(data).unwrap().is_object(), "{name}");
            let digits = data.split(|c: char| !c.is_ascii_digit()).map(str::len).max();
            assert!(digits < Some(12), "{name}");
        }
    }

    /// S2.50, S2.51: whatever the pattern, the sample is of a type that it matches.
    #[test]
    fn a_sample_is_of_a_type_that_the_pattern_matches() {
        let longest = format!("{}.*", "x".repeat(126));
        for (text, kind) in [
            ("*", "webhook.test"),
            ("transaction.*", "transaction.sale.success"),
            ("transaction.refund.*", "transaction.refund.success"),
            ("merchant_ach_funding_item", "merchant_ach_funding_item"),
            ("own.type", "own.type"),
            ("own.*", "own.test"),
            (longest.as_str(), longest.replace('*', "t").as_str()),
        ] {
            let pattern: TypePattern = text.parse().unwrap();
            let (made, _) = of_pattern(&pattern);
            assert_eq!(made.as_str(), kind, "{text}");
            assert!(pattern.matches(&made), "{text}");
        }
    }
}
