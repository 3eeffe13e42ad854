//! One attempt: load, render, sign, send, judge. Everything that is seen on the wire ends up in its record.

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use http::header::{AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, USER_AGENT};

use crate::client::{Request, Wire};
use crate::clock::Clock;
use crate::model::delivery::{Ending, Phases};
use crate::model::destination::{BodyRule, Format};
use crate::model::event::EventHead;
use crate::model::{
    Attempt, Auth, ConfirmationMode, ConfirmationRequest, DeliveryId, Destination, Event, Outcome, Reason, Seq,
    Success, Timestamp, Trigger,
};
use crate::render::{Rendered, Tried, render};
use crate::sign;
use crate::store::{DueRow, ReadError, Store};

use super::Settings;
use super::health::{Kind, Signal};
use super::mask::{MASK, Masker};
use super::verdict::{self, Verdict};

/// An attempt that takes this long marks its receiver as slow.
const KEPT_WAITING: Duration = Duration::from_secs(5);
/// Bytes of a reply's body that are stored.
const REPLY_KEPT_MAX: usize = 4096;

/// What became of a lease.
pub(super) enum Done {
    /// An attempt was made.
    Made(Box<Made>),
    /// No attempt is worth making any more.
    GivenUp(Ending),
    /// The attempt could not be made now, for no fault of the receiver; nothing has changed.
    PutBack,
}

/// An attempt that was made.
pub(super) struct Made {
    pub attempt: Attempt,
    pub verdict: Verdict,
    pub destination: Arc<Destination>,
    pub head: Arc<EventHead>,
}

impl Made {
    /// An attempt whose task did not come to its end.
    pub(super) fn interrupted(
        row: DueRow,
        started: Timestamp,
        now: Timestamp,
        destination: Arc<Destination>,
        head: Arc<EventHead>,
        cut_by_us: bool,
    ) -> Self {
        let error = "the attempt was cut off before its reply was read".to_owned();
        let verdict = Verdict {
            outcome: Outcome::Unknown,
            reason: Some(Reason::Interrupted),
            error: Some(error.clone()),
            signal: Signal { kind: Kind::Silent, kept_waiting: false, retry_after: None },
            cut_by_us,
        };
        let attempt = Attempt {
            number: row.plan.number,
            started,
            duration: now.since(started),
            trigger: row.plan.trigger,
            outcome: verdict.outcome,
            reason: verdict.reason,
            status: None,
            request_headers: Vec::new(),
            response_headers: Vec::new(),
            response_body: Vec::new(),
            error: Some(error),
            address: None,
            phases: Phases::default(),
            reconnected: false,
            next: None,
        };
        Made { attempt, verdict, destination, head }
    }
}

/// Makes attempts.
pub(super) struct Attempts<W> {
    shared: Arc<Parts<W>>,
    rng: fastrand::Rng,
}

struct Parts<W> {
    settings: Arc<Settings>,
    store: Store,
    wire: Arc<W>,
    clock: Clock,
    // The heads of events under way, for the record of an attempt that panics. Held for a look or a change.
    heads: Mutex<HashMap<Seq, (Arc<EventHead>, usize)>>,
}

/// Keeps an event's head at hand while an attempt of it is under way, also when that panics.
struct Remembered<W> {
    parts: Arc<Parts<W>>,
    seq: Seq,
}

impl<W: Wire> Attempts<W> {
    pub(super) fn new(settings: Arc<Settings>, store: Store, wire: Arc<W>, clock: Clock, rng: fastrand::Rng) -> Self {
        Attempts { shared: Arc::new(Parts { settings, store, wire, clock, heads: Mutex::default() }), rng }
    }

    /// The attempt that a row asks for.
    pub(super) fn make(&mut self, row: DueRow) -> impl Future<Output = Done> + Send + use<W> {
        let nonce = format!("{:016x}", self.rng.u64(..));
        let parts = Arc::clone(&self.shared);
        async move { make(parts, row, nonce).await }
    }

    /// The head of an event whose attempt has been cut off, where it had been read.
    pub(super) fn head_of(&self, seq: Seq) -> Option<Arc<EventHead>> {
        let mut heads = self.shared.heads.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        let (head, _) = heads.get(&seq)?;
        let head = Arc::clone(head);
        release(&mut heads, seq);
        Some(head)
    }
}

fn release(heads: &mut HashMap<Seq, (Arc<EventHead>, usize)>, seq: Seq) {
    if let Some((_, uses)) = heads.get_mut(&seq) {
        *uses -= 1;
        if *uses == 0 {
            heads.remove(&seq);
        }
    }
}

impl<W> Remembered<W> {
    fn new(parts: &Arc<Parts<W>>, seq: Seq, head: &Arc<EventHead>) -> Self {
        let mut heads = parts.heads.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        heads.entry(seq).or_insert_with(|| (Arc::clone(head), 0)).1 += 1;
        drop(heads);
        Remembered { parts: Arc::clone(parts), seq }
    }

    /// The attempt has come to its end. Without this the head stays for [`Attempts::head_of`].
    fn forget(self) {
        let mut heads = self.parts.heads.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        release(&mut heads, self.seq);
    }
}

async fn make<W: Wire>(parts: Arc<Parts<W>>, row: DueRow, nonce: String) -> Done {
    let event = match parts.store.event(row.seq).await {
        Ok(Some(event)) => event,
        // An unfinished event is never removed; if its row is gone all the same, nothing can be sent.
        Ok(None) => return Done::GivenUp(Ending::Erased),
        Err(error) => {
            tracing::error!(event = "event_unreadable", seq = row.seq.0, %error, "read an event for its attempt");
            return Done::PutBack;
        }
    };
    let started = parts.clock.now();
    if event.head.expires_at.is_some_and(|expires_at| expires_at <= started) {
        return Done::GivenUp(Ending::Expired);
    }
    let Some(body) = event.body.bytes().cloned() else { return Done::GivenUp(Ending::Erased) };
    let Some(destination) = parts.store.catalog().destination(row.destination).map(Arc::clone) else {
        return Done::PutBack;
    };
    let present = Tried { number: row.plan.number, at: started };
    let tried = match destination.format {
        Format::Notification => match tried_before(&parts.store, row).await {
            Ok(mut tried) => {
                tried.push(present);
                tried
            }
            Err(error) => {
                tracing::error!(event = "attempts_unreadable", seq = row.seq.0, %error, "read a delivery's attempts");
                return Done::PutBack;
            }
        },
        Format::Raw | Format::Console | Format::Standard | Format::CloudEvents | Format::CloudEventsBinary => {
            Vec::new()
        }
    };
    let head = Arc::new(event.head.clone());
    let remembered = Remembered::new(&parts, row.seq, &head);
    let rendered = render(destination.format, &event, &body, &tried);
    let made = send(&parts, row, &event, rendered, destination, head, started, nonce).await;
    remembered.forget();
    Done::Made(Box::new(made))
}

/// When the attempts before this one were made, for the one format that tells of them.
async fn tried_before(store: &Store, row: DueRow) -> Result<Vec<Tried>, ReadError> {
    if row.plan.number == 1 {
        return Ok(Vec::new());
    }
    let times = store.read_for_engine(move |snapshot| snapshot.attempt_times(row.key())).await?;
    Ok(times.into_iter().map(|(number, at)| Tried { number, at }).collect())
}

/// What counts as success: what the destination says, and where an echo is asked for (decision D22), the challenge in place of
/// its own word on the body.
fn what_counts<'a>(mode: ConfirmationMode, row: DueRow, own: &'a Success, event: &Event) -> Cow<'a, Success> {
    match mode {
        ConfirmationMode::Echo if row.plan.trigger == Trigger::Confirmation => {
            let request = event.body.bytes().map_or(&[][..], |bytes| bytes);
            match serde_json::from_slice::<ConfirmationRequest>(request) {
                Ok(ConfirmationRequest { challenge, .. }) => {
                    Cow::Owned(Success { status: own.status.clone(), body: Some(BodyRule::Contains(challenge)) })
                }
                // It is not the daemon's own request then.
                Err(_) => Cow::Borrowed(own),
            }
        }
        ConfirmationMode::Ack | ConfirmationMode::Echo | ConfirmationMode::Off => Cow::Borrowed(own),
    }
}

#[expect(clippy::too_many_arguments, reason = "one call, whose parts are all decided above")]
async fn send<W: Wire>(
    parts: &Parts<W>,
    row: DueRow,
    event: &Event,
    rendered: Rendered<'_>,
    destination: Arc<Destination>,
    head: Arc<EventHead>,
    started: Timestamp,
    nonce: String,
) -> Made {
    let begun = tokio::time::Instant::now();
    let delivery = DeliveryId { event: event.id(), destination: row.destination };
    let prepared = prepare(&parts.settings, &destination, event, delivery, row, &rendered, started, &nonce);
    let (headers, exchange) = match prepared {
        Ok(Prepared { headers, shown }) => {
            let request = Request {
                lane: row.destination,
                tenant: destination.tenant.clone(),
                url: destination.url.clone(),
                method: destination.method,
                headers,
                body: rendered.body,
                timeout: destination.timeout.unwrap_or(parts.settings.timeout),
                // A destination that asks for patience gets it for the first byte, too.
                head_timeout: destination.timeout,
                tls: Arc::new(destination.tls.clone()),
                allow_private: destination.allow_private,
                in_flight_max: destination.in_flight_max.unwrap_or(parts.settings.in_flight_max),
            };
            (shown, parts.wire.send(request).await)
        }
        Err(error) => (Vec::new(), crate::client::Exchange::failed(Reason::ProtocolError, error)),
    };
    let duration = begun.elapsed();
    let success = what_counts(parts.settings.confirmation, row, &destination.success, event);
    let mut verdict = verdict::judge(&exchange, &success, parts.clock.now());
    // Whatever it answered in the end: while it took its time, it held a slot.
    verdict.signal.kept_waiting |= duration >= KEPT_WAITING;
    // A receiver may echo what it was sent: its words are kept without our secrets in them.
    let masker = Masker::of(&destination);
    let masked = |(name, value): &(String, String)| (masker.text(name), masker.text(value));
    let attempt = Attempt {
        number: row.plan.number,
        started,
        duration,
        trigger: row.plan.trigger,
        outcome: verdict.outcome,
        reason: verdict.reason,
        status: exchange.status,
        request_headers: headers,
        response_headers: exchange.headers.iter().map(masked).collect(),
        response_body: masker.body(&exchange.body, REPLY_KEPT_MAX),
        error: verdict.error.as_deref().map(|error| masker.text(error)),
        address: exchange.address,
        phases: exchange.phases,
        reconnected: exchange.reconnected,
        next: None,
    };
    Made { attempt, verdict, destination, head }
}

/// A request's headers: as sent, and as shown.
struct Prepared {
    headers: HeaderMap,
    shown: Vec<(String, String)>,
}

/// The headers of a delivery: ours, then the destination's own, its credentials, its signatures.
#[expect(clippy::too_many_arguments, reason = "everything that a signature may cover")]
fn prepare(
    settings: &Settings,
    destination: &Destination,
    event: &Event,
    delivery: DeliveryId,
    row: DueRow,
    rendered: &Rendered<'_>,
    started: Timestamp,
    nonce: &str,
) -> Result<Prepared, String> {
    let id = event.id().to_string();
    let mut outgoing = Outgoing { headers: HeaderMap::with_capacity(16), shown: Vec::with_capacity(16) };
    outgoing.put(USER_AGENT, &settings.user_agent, Shown::Plain)?;
    // A receiver that asks for a content type of its own gets that one, not both.
    if !destination.headers.iter().any(|(name, _)| name.eq_ignore_ascii_case(CONTENT_TYPE.as_str())) {
        outgoing.put(CONTENT_TYPE, rendered.content_type, Shown::Plain)?;
    }
    outgoing.put(&X_WEBHOOK_EVENT, event.head.kind.as_str(), Shown::Plain)?;
    outgoing.put(&X_WEBHOOK_ID, &id, Shown::Plain)?;
    outgoing.put(&X_WEBHOOK_DELIVERY, &delivery.to_string(), Shown::Plain)?;
    outgoing.put(&X_WEBHOOK_ATTEMPT, &row.plan.number.to_string(), Shown::Plain)?;
    outgoing.put(&X_WEBHOOK_TIMESTAMP, &started.as_secs().to_string(), Shown::Plain)?;
    if let Some(traceparent) = &event.head.traceparent {
        outgoing.put(HeaderName::from_static("traceparent"), traceparent, Shown::Plain)?;
    }
    for (name, value) in &rendered.headers {
        outgoing.put_named(name, value, Shown::Plain)?;
    }
    for (name, value) in &destination.headers {
        outgoing.put_named(name, value.expose(), Shown::Masked)?;
    }
    match &destination.auth {
        Auth::None => {}
        Auth::Basic { username, password } => {
            let credentials = BASE64.encode(format!("{username}:{}", password.expose()));
            outgoing.put(AUTHORIZATION, &format!("Basic {credentials}"), Shown::Masked)?;
        }
        Auth::SharedSecret { header, secret } => outgoing.put_named(header, secret.expose(), Shown::Masked)?,
        Auth::Bearer { token } => outgoing.put(AUTHORIZATION, &format!("Bearer {}", token.expose()), Shown::Masked)?,
    }
    let message = sign::Message {
        id: &id,
        timestamp: started,
        nonce,
        url: &destination.url,
        method: destination.method.as_str(),
        body: &rendered.body,
    };
    let signatures = sign::headers(&destination.signatures, &message, started).map_err(|error| error.to_string())?;
    for (name, value) in signatures {
        outgoing.shown.push((name.to_string(), String::from_utf8_lossy(value.as_bytes()).into_owned()));
        outgoing.headers.append(name, value);
    }
    let Outgoing { headers, shown } = outgoing;
    Ok(Prepared { headers, shown })
}

static X_WEBHOOK_EVENT: HeaderName = HeaderName::from_static("x-webhook-event");
static X_WEBHOOK_ID: HeaderName = HeaderName::from_static("x-webhook-id");
static X_WEBHOOK_DELIVERY: HeaderName = HeaderName::from_static("x-webhook-delivery");
static X_WEBHOOK_ATTEMPT: HeaderName = HeaderName::from_static("x-webhook-attempt");
static X_WEBHOOK_TIMESTAMP: HeaderName = HeaderName::from_static("x-webhook-timestamp");

/// Whether a header's value stands in the attempt's record.
enum Shown {
    Plain,
    Masked,
}

struct Outgoing {
    headers: HeaderMap,
    shown: Vec<(String, String)>,
}

impl Outgoing {
    fn put(&mut self, name: impl Into<HeaderName>, value: &str, shown: Shown) -> Result<(), String> {
        let name = name.into();
        let text = match shown {
            Shown::Plain => value,
            Shown::Masked => MASK,
        };
        let sent = HeaderValue::from_str(value).map_err(|_| format!("header {name}: its value cannot be sent"))?;
        self.shown.push((name.to_string(), text.to_owned()));
        self.headers.append(name, sent);
        Ok(())
    }

    fn put_named(&mut self, name: &str, value: &str, shown: Shown) -> Result<(), String> {
        let name: HeaderName = name.parse().map_err(|_| format!("header {name}: not a header's name"))?;
        self.put(name, value, shown)
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::model::event::{Body, EventHead};
    use crate::model::{DestinationId, DestinationNo, Epoch, Secret, TenantId};
    use crate::store::Plan;

    fn destination(headers: &[(&str, &str)]) -> Destination {
        let id = DestinationId(uuid::Uuid::nil());
        let tenant = TenantId::default_tenant();
        let headers = headers.iter().map(|(name, value)| ((*name).to_owned(), Secret::new(*value))).collect();
        let plain = Destination::new(DestinationNo(1), id, tenant, "d", "https://example.com/", Timestamp::ZERO);
        Destination { headers, ..plain }
    }

    fn event() -> Event {
        let head = EventHead {
            epoch: Epoch(1),
            tenant: TenantId::default_tenant(),
            kind: "t".parse().unwrap(),
            producer_id: None,
            occurred: Timestamp::ZERO,
            accepted: Timestamp::ZERO,
            due: Timestamp::ZERO,
            key: None,
            traceparent: None,
            expires_at: None,
            source: None,
            peer: None,
            content_type: None,
            cloud: None,
            targets: vec![],
            skipped: vec![],
        };
        Event { seq: Seq(1), head, body: Body::Kept(Bytes::from_static(b"1")) }
    }

    /// S2.17: a destination's own Content-Type stands in the place of ours, since a request has one.
    #[test]
    fn a_destinations_content_type_replaces_ours() {
        let (event, row) =
            (event(), DueRow { destination: DestinationNo(1), due: Timestamp::ZERO, seq: Seq(1), plan: Plan::FIRST });
        let delivery = DeliveryId { event: event.id(), destination: row.destination };
        for (headers, expected) in [(&[][..], "application/json"), (&[("content-type", "text/plain")], "text/plain")] {
            let destination = destination(headers);
            let body = Bytes::from_static(b"1");
            let rendered = render(destination.format, &event, &body, &[]);
            let prepared =
                prepare(&Settings::default(), &destination, &event, delivery, row, &rendered, Timestamp::ZERO, "n")
                    .unwrap();
            let sent: Vec<_> = prepared.headers.get_all(CONTENT_TYPE).iter().collect();
            assert_eq!(sent, [expected]);
            assert_eq!(prepared.shown.iter().filter(|(name, _)| name == "content-type").count(), 1);
        }
    }
}
