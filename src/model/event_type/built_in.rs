//! The event types of the five sources, as their pages list them. No sample holds a card number, not even a masked one.

use super::{KnownType, Origin, Source};

/// Name, description, aliases, sample.
type Row = (&'static str, &'static str, &'static [&'static str], &'static str);

/// What a test of an unknown type says.
const GENERIC: &str = r#"{"test":true,"message":"A test event. Nothing has happened."}"#;

/// All of them.
pub(super) fn types() -> impl Iterator<Item = KnownType> {
    let sources: [(Source, &[Row]); 6] = [
        (Source::Notifications, &NOTIFICATIONS),
        (Source::Console, &CONSOLE),
        (Source::Subscribe, &SUBSCRIBE),
        (Source::Backoffice, &BACKOFFICE),
        (Source::Gateway, &GATEWAY),
        (Source::Postrider, &POSTRIDER),
    ];
    let rows = sources.into_iter().flat_map(|(source, rows)| rows.iter().map(move |row| (source, row)));
    let parsed = |text: &str| text.parse().expect("a built-in name is within the bounds of an event's type");
    rows.map(move |(source, (name, description, aliases, sample))| KnownType {
        name: parsed(name),
        description: Some((*description).to_owned()),
        aliases: aliases.iter().copied().map(parsed).collect(),
        sample: Some((*sample).to_owned()),
        origin: Origin::BuiltIn(source),
    })
}

/// Source 002; the samples have the fields that its filters name (NOTES 3.4).
const NOTIFICATIONS: [Row; 4] = [
    ("transaction", "A card or ACH transaction was made or has changed", &[], TRANSACTION),
    ("merchant_ach_funding_item", "An ACH movement of a merchant was funded", &[], ACH_FUNDING_ITEM),
    ("merchant_card_funding_item", "A card movement of a merchant was funded", &[], CARD_FUNDING_ITEM),
    ("merchant_card_funding_group", "A merchant was funded for a group of card movements", &[], CARD_FUNDING_GROUP),
];

/// Source 001: the 23 of its page with their words, then the two of its REST pages (NOTES 2.5). Examples there spell `cau.` as
/// `cardupdate.`. A sample is what stands in `event_body`.
const CONSOLE: [Row; 25] = [
    ("cau.submitted", "Card has been submitted to processor for update", &["cardupdate.submitted"], CARD_UPDATE),
    (
        "cau.updated_expiration",
        "An updated expiration data has been received",
        &["cardupdate.updated_expiration"],
        CARD_UPDATE,
    ),
    ("cau.updated_card", "An updated card number has been received", &["cardupdate.updated_card"], CARD_UPDATE),
    (
        "cau.contact_customer",
        "Received message from issuer to contact customer for a new card number",
        &["cardupdate.contact_customer"],
        CARD_UPDATE,
    ),
    ("cau.account_closed", "Received notification of account closure", &["cardupdate.account_closed"], CARD_UPDATE),
    (
        "ach.submitted",
        "ACH status updated to submitted",
        &[],
        r#"{"merchant":{"merch_key":"test"},"object":{"type":"transaction","key":"test","refnum":"1"},"changes":{"old":{"status":"P"},"new":{"status":"B"}}}"#,
    ),
    (
        "ach.settled",
        "ACH status updated to settled",
        &[],
        r#"{"merchant":{"merch_key":"test"},"object":{"type":"transaction","key":"test","refnum":"1"},"changes":{"old":{"status":"B"},"new":{"status":"S"}}}"#,
    ),
    (
        "ach.returned",
        "ACH status updated to returned",
        &[],
        r#"{"merchant":{"merch_key":"test"},"object":{"type":"transaction","key":"test","refnum":"1"},"changes":{"old":{"status":"S"},"new":{"status":"R","reason":"R01"}}}"#,
    ),
    (
        "ach.failed",
        "ACH status updated to failed",
        &[],
        r#"{"merchant":{"merch_key":"test"},"object":{"type":"transaction","key":"test","refnum":"1"},"changes":{"old":{"status":"B"},"new":{"status":"E","reason":"test"}}}"#,
    ),
    (
        "ach.note_added",
        "Note added to ACH transaction",
        &[],
        r#"{"merchant":{"merch_key":"test"},"object":{"type":"transaction","key":"test","refnum":"1"},"changes":{"old":{"banknote":""},"new":{"banknote":"test"}}}"#,
    ),
    (
        "product.inventory.ordered",
        "The inventory has been adjusted after a sale",
        &[],
        r#"{"merchant":{"merch_key":"test"},"object":{"type":"product","key":"test","locationid":"1","qtyonhand":94,"qtyonhand_change":"-6","uri":"products/test"}}"#,
    ),
    (
        "product.inventory.adjusted",
        "The inventory has been adjusted in the Products Database",
        &[],
        r#"{"merchant":{"merch_key":"test"},"object":{"type":"product","key":"test","locationid":"1","qtyonhand":94,"qtyonhand_change":"-6","uri":"products/test"}}"#,
    ),
    ("transaction.sale.success", "A sale transaction has been approved", &[], SALE),
    ("transaction.sale.failure", "A sale transaction failed - includes declines and errors", &[], SALE_FAILURE),
    ("transaction.sale.voided", "A sale transaction was voided", &[], SALE_CHANGED),
    ("transaction.sale.captured", "A sale transaction was captured", &[], SALE_CHANGED),
    ("transaction.sale.adjusted", "A sale transaction was adjusted", &[], SALE_CHANGED),
    ("transaction.sale.queued", "A sale transaction was queued", &[], SALE_CHANGED),
    ("transaction.sale.unvoided", "A voided sale transaction was unvoided", &[], SALE_CHANGED),
    ("transaction.refund.success", "A refund transaction approved", &[], SALE),
    ("transaction.refund.voided", "A refund transaction voided", &[], SALE_CHANGED),
    (
        "settlement.batch.success",
        "A batch settles successfully",
        &[],
        r#"{"merchant":{"merch_key":"test"},"object":{"type":"batch","key":"test","batchnum":"1","response":"A","totalsales":"5.00","numsales":"1","totalcredits":"0.00","uri":"batches/test"}}"#,
    ),
    (
        "settlement.batch.failure",
        "A batch receives an error when attempting to settle",
        &[],
        r#"{"merchant":{"merch_key":"test"},"object":{"type":"batch","key":"test","batchnum":"1","response":"E","totalsales":"5.00","numsales":"1","reason":"test","uri":"batches/test"}}"#,
    ),
    (
        "ach.voided",
        "ACH transaction was voided",
        &[],
        r#"{"merchant":{"merch_key":"test"},"object":{"type":"transaction","key":"test","refnum":"1"},"changes":{"old":{"status":"P"},"new":{"status":"V"}}}"#,
    ),
    ("cau.created", "Card update has been created", &["cardupdate.created"], CARD_UPDATE),
];

/// Source 003.
const SUBSCRIBE: [Row; 1] = [(
    "transaction.status_updated",
    "The status of a transaction has changed",
    &[],
    r#"{"transaction_id":"test","status":"PAID","updated_at":"2026-01-31T09:30:00Z","tenant_id":"test"}"#,
)];

/// Source 000: the meanings of its types 4 to 8 (NOTES 1.2).
const BACKOFFICE: [Row; 5] = [
    (
        "instructional_funding.submitted",
        "Instructional Funding Submitted: funding instructions were submitted, or submitted again",
        &[],
        r#"{"DepositId":1,"DepositStatus":1}"#,
    ),
    (
        "submerchant_deposit.rejected",
        "Submerchant Deposit Rejected: the deposit of one merchant was rejected",
        &[],
        r#"{"tenantSlug":"test","fundingDepositId":1}"#,
    ),
    (
        "funding_deposit.funded",
        "Funding Deposit Funded: a funding deposit was funded as a whole",
        &[],
        r#"{"tenantSlug":"test","fundingDepositId":1,"fundingStatus":2}"#,
    ),
    (
        "funding_deposit.rejected",
        "Funding Deposit Rejected: a funding deposit was rejected as a whole",
        &[],
        r#"{"tenantSlug":"test","fundingDepositId":1,"fundingStatus":3}"#,
    ),
    (
        "funding_deposit.partially_rejected",
        "Funding Deposit Partially Rejected: a part of a funding deposit was rejected",
        &[],
        r#"{"tenantSlug":"test","fundingDepositId":1,"fundingStatus":4}"#,
    ),
];

/// Source 004 (NOTES 5): processing callbacks are about transactions, billing and management callbacks about objects.
const GATEWAY: [Row; 14] = [
    ("processing.return-processed", "A return was processed", &[], GATEWAY_TRANSACTION),
    ("processing.noc-processed", "A notification of change was processed", &[], GATEWAY_TRANSACTION),
    ("processing.chargeback-processed", "A chargeback was processed", &[], GATEWAY_TRANSACTION),
    ("processing.reversal-processed", "A reversal was processed", &[], GATEWAY_TRANSACTION),
    ("billing.payment-option-created", "A payment option was created", &[], GATEWAY_OBJECT),
    ("billing.payment-option-modified", "A payment option was modified", &[], GATEWAY_OBJECT),
    ("billing.subscription-created", "A subscription was created", &[], GATEWAY_OBJECT),
    ("billing.subscription-modified", "A subscription was modified, as when its status changes", &[], GATEWAY_OBJECT),
    ("billing.transaction-created", "A transaction was created by billing", &[], GATEWAY_OBJECT),
    ("billing.allocation-created", "An allocation was created", &[], GATEWAY_OBJECT),
    ("management.merchant-created", "A merchant was created", &[], GATEWAY_OBJECT),
    ("management.merchant-modified", "A merchant was modified", &[], GATEWAY_OBJECT),
    ("management.terminal-created", "A terminal was created", &[], GATEWAY_OBJECT),
    ("management.terminal-modified", "A terminal was modified", &[], GATEWAY_OBJECT),
];

/// What the daemon itself sends.
const POSTRIDER: [Row; 2] = [
    (
        "webhook.confirmation",
        "A destination is asked to confirm that it wants deliveries",
        &[],
        r#"{"challenge":"test","destination_id":"test"}"#,
    ),
    ("webhook.test", "A test: nothing has happened", &[], GENERIC),
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
    use std::collections::HashSet;

    use super::*;
    use crate::model::EventType;

    /// S2.51: there is a sample for each type of the sources, in JSON, without a card number.
    #[test]
    fn every_sample_is_json_and_holds_no_card_number() {
        let mut spellings = HashSet::new();
        for known in types() {
            let name = known.name.as_str();
            assert!(known.spellings().all(|spelling| spellings.insert(spelling.clone())), "{name} stands there twice");
            let sample = known.sample.as_deref().unwrap();
            assert_eq!(KnownType::sample(sample.into()), Ok(known.sample.clone()), "{name}");
            assert!(serde_json::from_str::<serde_json::Value>(sample).unwrap().is_object(), "{name}");
            let digits = sample.split(|c: char| !c.is_ascii_digit()).map(str::len).max();
            assert!(digits < Some(12), "{name}");
            assert_eq!(KnownType::description(known.description.clone().unwrap()), Ok(known.description), "{name}");
        }
    }

    /// S1.14, S1.15, S1.16, S1.17, S1.18, S1.19: the console's 23 events are known, in the order and with the words of its page.
    /// S4.16: so are the gateway's 14.
    #[test]
    fn the_types_of_the_sources_are_known() {
        let of = |source: Source| {
            let own = types().filter(move |known| known.origin == Origin::BuiltIn(source));
            own.map(|known| (known.name, known.description.unwrap())).collect::<Vec<(EventType, String)>>()
        };
        let page = include_str!("../../../tests/vectors/console_events.txt");
        let page: Vec<_> = page.lines().map(|line| line.split_once(" | ").unwrap()).collect();
        let console = of(Source::Console);
        let console: Vec<_> = console.iter().map(|(name, words)| (name.as_str(), words.as_str())).collect();
        assert_eq!((page.len(), &console[..23]), (23, &page[..]));
        let gateway = of(Source::Gateway);
        assert_eq!(gateway.len(), 14);
        for (branch, count) in [("processing.", 4), ("billing.", 6), ("management.", 4)] {
            assert_eq!(gateway.iter().filter(|(name, _)| name.as_str().starts_with(branch)).count(), count, "{branch}");
        }
    }
}
