//! Events: taken, looked up, their payloads erased. What a producer may write is the ingest protocol's business, over HTTP
//! as well; here is who may, and how events are shown.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::Serialize;
use serde_json::value::RawValue;

use super::delivery;
use crate::api::caller::{Caller, forbidden};
use crate::api::page::{Cursor, Page};
use crate::api::{Call, native};
use crate::http::problem::Problem;
use crate::http::request::Query;
use crate::http::response::Response;
use crate::model::event::{Body, Event, OrderingKey, ProducerId};
use crate::model::mask::{Masked, PayloadMask};
use crate::model::{DestinationId, DestinationNo, SubscriptionId, SubscriptionNo};
use crate::mouth::{self, Parsed};
use crate::service::{Catalog, Code, EventsWanted, Receipt, Rejection, Sight};

/// Whether a view shows what the event carries; only keys that may operate see it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Payload {
    /// With the producer's data, card data and what the configuration names masked; that somebody is shown it stands in the audit log already.
    Shown(Receipt),
    /// Without it.
    Hidden,
}

/// An event in an answer.
#[derive(Debug, Serialize)]
pub struct EventView {
    id: String,
    r#type: String,
    tenant: String,
    producer_id: Option<String>,
    key: Option<String>,
    time: String,
    accepted_at: String,
    deliver_at: String,
    expires_at: Option<String>,
    traceparent: Option<String>,
    source: Option<String>,
    peer: Option<PeerView>,
    content_type: String,
    /// The body in bytes; absent when it has been erased.
    size: Option<usize>,
    erased: bool,
    targets: Vec<TargetView>,
    skipped: Vec<SkippedView>,
    #[serde(skip_serializing_if = "Option::is_none")]
    data: Option<Box<RawValue>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    data_base64: Option<String>,
}

#[derive(Debug, Serialize)]
struct PeerView {
    uid: u32,
    gid: u32,
    pid: Option<i32>,
}

#[derive(Debug, Serialize)]
struct TargetView {
    destination_id: String,
    subscription_ids: Vec<String>,
}

#[derive(Debug, Serialize)]
struct SkippedView {
    destination_id: String,
    reason: &'static str,
}

/// The names outside of what the store numbers; `None` for what the caller does not see, which is then left out, and for
/// subscriptions that have been deleted since.
pub trait Names {
    /// The destination's.
    fn destination(&self, no: DestinationNo) -> Option<DestinationId>;
    /// The subscription's.
    fn subscription(&self, no: SubscriptionNo) -> Option<SubscriptionId>;
}

/// The names of what a caller sees.
struct Seen<'a> {
    catalog: &'a Catalog,
    sight: Sight,
}

impl Names for Seen<'_> {
    fn destination(&self, no: DestinationNo) -> Option<DestinationId> {
        self.catalog.owner(no).filter(|owner| self.sight.takes(owner)).and_then(|_| self.catalog.destination_id(no))
    }

    fn subscription(&self, no: SubscriptionNo) -> Option<SubscriptionId> {
        let subscription = self.catalog.subscription(no)?;
        self.sight.takes(&subscription.tenant).then_some(subscription.id)
    }
}

impl EventView {
    /// How the event is shown.
    pub fn of(event: &Event, payload: Payload, mask: &PayloadMask, names: &dyn Names) -> Self {
        let head = &event.head;
        let destination = |no| names.destination(no).map(|id| id.to_string());
        let (mut data, mut data_base64) = (None, None);
        if let (Payload::Shown(_), Body::Kept(bytes)) = (payload, &event.body) {
            // JSON is shown as the producer wrote it, what is masked aside; anything else cannot stand in JSON as it is.
            let masked = || mask.show(bytes, head.content_type.as_deref());
            match masked() {
                Masked::Json(text) => match RawValue::from_string(text) {
                    Ok(raw) => data = Some(raw),
                    // What was accepted as JSON is JSON. So it is masked anew here, and not copied each time for the case.
                    Err(_) => {
                        if let Masked::Json(text) = masked() {
                            data_base64 = Some(STANDARD.encode(text));
                        }
                    }
                },
                Masked::Other(bytes) => data_base64 = Some(STANDARD.encode(bytes)),
            }
        }
        EventView {
            id: event.id().to_string(),
            r#type: head.kind.to_string(),
            tenant: head.tenant.to_string(),
            producer_id: head.producer_id.as_ref().map(|id| id.as_str().to_owned()),
            key: head.key.as_ref().map(|key| key.as_str().to_owned()),
            time: head.occurred.to_string(),
            accepted_at: head.accepted.to_string(),
            deliver_at: head.due.to_string(),
            expires_at: head.expires_at.map(|at| at.to_string()),
            traceparent: head.traceparent.clone(),
            source: head.source.clone(),
            peer: head.peer.map(|peer| PeerView { uid: peer.uid, gid: peer.gid, pid: peer.pid }),
            content_type: head.content_type.clone().unwrap_or_else(|| "application/json".to_owned()),
            size: event.body.bytes().map(|bytes| bytes.len()),
            erased: event.body == Body::Erased,
            targets: head
                .targets
                .iter()
                .filter_map(|target| {
                    let subscriptions = target.subscriptions.iter().filter_map(|&no| names.subscription(no));
                    Some(TargetView {
                        destination_id: destination(target.destination)?,
                        subscription_ids: subscriptions.map(|id| id.to_string()).collect(),
                    })
                })
                .collect(),
            skipped: head
                .skipped
                .iter()
                .filter_map(|&(no, skip)| Some(SkippedView { destination_id: destination(no)?, reason: skip.as_str() }))
                .collect(),
            data,
            data_base64,
        }
    }
}

/// `POST /v1/events`
pub(super) async fn post(call: Call, caller: Caller) -> Result<Response, Problem> {
    let sight = caller.sight();
    let admit = |event: Parsed| {
        let event = event?;
        if sight.takes(&event.tenant) {
            Ok(event)
        } else {
            Err(Rejection::of_member(Code::NotAllowed, "tenant", "is another one than the caller acts for"))
        }
    };
    mouth::post_events(&call.service, call.request, call.settings.events_bytes_max, &caller.tenant(), admit).await
}

/// The names of the filters of the list, and what asks for payloads beside them.
pub(super) const PARAMETERS: [&str; 6] = ["producer_id", "key", "type", "from", "to", PAYLOAD];
/// Whether payloads are shown, `true` or `false`. A list does not unless it is asked to, since each time somebody is shown some stands
/// in the audit log; of one event the payload is shown to those who may see it, unless they ask for it without.
pub(super) const PAYLOAD: &str = "payload";

/// What the query asks for; a caller who asks for payloads and may not see them is refused.
fn asked_payload(query: &Query, caller: &Caller) -> Result<Option<bool>, Problem> {
    let asked = query.parse::<bool>(PAYLOAD).map_err(|_| Problem::of_parameter(PAYLOAD, "must be true or false"))?;
    if asked == Some(true) && !caller.sees_payloads() {
        return Err(forbidden("?payload", "payloads are shown from the role operate on"));
    }
    Ok(asked)
}

/// `GET /v1/events`
pub(super) async fn list(call: Call, caller: Caller) -> Result<Response, Problem> {
    let query = call.request.query()?;
    let page = Page::from_query(call.request.path(), &query)?;
    let wanted = EventsWanted {
        tenant: Some(caller.tenant()),
        kind: query.parse("type")?,
        key: query.parse::<OrderingKey>("key")?.map(|key| key.as_str().to_owned()),
        from: query.parse("from")?,
        to: query.parse("to")?,
    };
    let producer_id = query.parse::<ProducerId>("producer_id")?;
    let asked = asked_payload(&query, &caller)?.unwrap_or(false);
    let list = match producer_id {
        // A producer's id names one event of a tenant, so that there is nothing to walk.
        Some(id) => {
            let found = call.service.event_by_producer_id(caller.tenant(), id).await?;
            let found = found.filter(|event| wanted.takes(&event.head));
            let payload = if asked { payload(&call, &caller, found.as_slice()).await? } else { Payload::Hidden };
            page.of("events", found, cursor, |event| view(&call, &caller, &event, payload))
        }
        None => {
            let found = call.service.events(wanted, page.window()).await?;
            let payload = if asked { payload(&call, &caller, &found.items).await? } else { Payload::Hidden };
            page.found("events", found, |event| view(&call, &caller, &event, payload))?
        }
    };
    Ok(native::ok(&list))
}

// Events are listed newest first, the others oldest first; the one list that this serves has one row.
fn cursor(event: &Event) -> Cursor {
    Cursor { place: event.seq.0, second: 0 }
}

fn view(call: &Call, caller: &Caller, event: &Event, payload: Payload) -> EventView {
    let names = Seen { catalog: &call.service.catalog(), sight: caller.sight() };
    EventView::of(event, payload, call.service.mask(), &names)
}

/// What the caller sees of these events' payloads: it is noted before anything is shown. They are one tenant's.
async fn payload(call: &Call, caller: &Caller, events: &[Event]) -> Result<Payload, Problem> {
    let kept: Vec<_> = events.iter().filter(|event| event.body != Body::Erased).collect();
    match kept.first() {
        Some(first) if caller.sees_payloads() => {
            let (tenant, ids) = (first.head.tenant.clone(), kept.iter().map(|event| event.id()).collect());
            Ok(Payload::Shown(call.service.note_read(caller.actor(), tenant, ids).await?))
        }
        Some(_) | None => Ok(Payload::Hidden),
    }
}

/// `GET /v1/events/{id}`
pub(super) async fn read(call: Call, caller: Caller) -> Result<Response, Problem> {
    let asked = asked_payload(&call.request.query()?, &caller)?.unwrap_or(true);
    let event = call.service.event(&caller.sight(), call.params.parse("id")?).await?;
    let payload = if asked { payload(&call, &caller, std::slice::from_ref(&event)).await? } else { Payload::Hidden };
    Ok(native::ok(&view(&call, &caller, &event, payload)))
}

/// `GET /v1/events/{id}/deliveries`
pub(super) async fn deliveries(call: Call, caller: Caller) -> Result<Response, Problem> {
    let id = call.params.parse("id")?;
    let query = call.request.query()?;
    let page = Page::from_query(call.request.path(), &query)?;
    let found = call.service.deliveries_of(&caller.sight(), id, page.window()).await?;
    Ok(native::ok(&page.found("deliveries", found, |seen| delivery::view(&call, &caller, &seen))?))
}

/// `DELETE /v1/events/{id}/payload`
pub(super) async fn erase(call: Call, caller: Caller) -> Result<Response, Problem> {
    call.service.erase_payload(caller.actor(), &caller.sight(), call.params.parse("id")?).await?;
    Ok(native::no_content())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::event::{EventHead, Skip, Target};
    use crate::model::{Epoch, Seq, Timestamp};
    use bytes::Bytes;
    use uuid::Uuid;

    struct Fixed;

    impl Names for Fixed {
        fn destination(&self, no: DestinationNo) -> Option<DestinationId> {
            (no.0 < 10).then(|| DestinationId(Uuid::from_u128(no.0.into())))
        }

        fn subscription(&self, no: SubscriptionNo) -> Option<SubscriptionId> {
            Some(SubscriptionId(Uuid::from_u128(no.0.into())))
        }
    }

    fn event(content_type: Option<&str>, body: Body) -> Event {
        let at = Timestamp::from_millis(1_700_000_000_000);
        Event {
            seq: Seq(1),
            head: EventHead {
                epoch: Epoch(1),
                tenant: "m1".parse().unwrap(),
                kind: "transaction.sale.success".parse().unwrap(),
                producer_id: Some("T1".parse().unwrap()),
                occurred: at,
                accepted: at,
                due: at,
                key: None,
                traceparent: None,
                expires_at: None,
                source: None,
                peer: None,
                content_type: content_type.map(str::to_owned),
                cloud: None,
                targets: vec![Target { destination: DestinationNo(1), subscriptions: vec![SubscriptionNo(2)] }],
                skipped: vec![(DestinationNo(3), Skip::Disabled), (DestinationNo(11), Skip::Disabled)],
            },
            body,
        }
    }

    fn show(event: &Event, payload: Payload) -> String {
        serde_json::to_string(&EventView::of(event, payload, &PayloadMask::default(), &Fixed)).unwrap()
    }

    fn shown() -> Payload {
        Payload::Shown(Receipt::of_nothing())
    }

    /// P16: whoever may see a payload sees no card number in it; what is delivered is another matter.
    #[test]
    fn card_data_is_masked_in_what_is_shown() {
        let body = Body::Kept(Bytes::from_static(br#"{"cvv":123, "amount": 1.10}"#));
        assert!(show(&event(None, body), shown()).contains(r#""data":{"cvv":"***", "amount": 1.10}"#));
        let body = Body::Kept(Bytes::from_static(b"cvc=123"));
        assert!(
            show(&event(Some("application/x-www-form-urlencoded"), body), shown())
                .contains(&STANDARD.encode("cvc=***"))
        );
        let body = Body::Kept(Bytes::from_static(br#"{"pan":4111111111111111}"#));
        assert!(show(&event(None, body), shown()).contains(r#""data":{"pan":"************1111"}"#));
        let body = Body::Kept(Bytes::from_static(b"pan=4111111111111111"));
        let masked = STANDARD.encode("pan=************1111");
        assert!(show(&event(Some("text/plain"), body), shown()).contains(&masked));
    }

    /// SX.1: what is shown of a JSON payload is the producer's own text.
    #[test]
    fn a_json_payload_is_shown_byte_for_byte_and_only_to_those_who_may() {
        let text = r#"{"amount": 1.10,  "b":[ ]}"#;
        let kept = event(None, Body::Kept(Bytes::from_static(text.as_bytes())));
        assert!(show(&kept, shown()).contains(&format!("\"data\":{text}")));
        let hidden = show(&kept, Payload::Hidden);
        assert!(!hidden.contains("amount") && hidden.contains("\"size\":26"), "{hidden}");
    }

    #[test]
    fn other_bytes_are_shown_in_base64_and_erased_ones_not_at_all() {
        let bytes = event(Some("text/plain"), Body::Kept(Bytes::from_static(b"1")));
        assert!(show(&bytes, shown()).contains("\"data_base64\":\"MQ==\""));
        let erased = show(&event(None, Body::Erased), shown());
        assert!(erased.contains("\"erased\":true") && erased.contains("\"size\":null"), "{erased}");
    }

    #[test]
    fn where_it_goes_and_does_not_go_is_told() {
        let json: serde_json::Value = serde_json::from_str(&show(&event(None, Body::Erased), Payload::Hidden)).unwrap();
        assert_eq!(json["targets"][0]["destination_id"], "00000000-0000-0000-0000-000000000001");
        assert_eq!(json["targets"][0]["subscription_ids"][0], "00000000-0000-0000-0000-000000000002");
        assert_eq!(
            json["skipped"][0],
            serde_json::json!({"destination_id": "00000000-0000-0000-0000-000000000003", "reason": "disabled"})
        );
        assert_eq!(json["skipped"].as_array().unwrap().len(), 1, "what the caller does not see is left out");
    }
}
