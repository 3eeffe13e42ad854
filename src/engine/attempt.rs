//! One attempt: load, render, sign, send, judge. Everything that is seen on the wire ends up in its record.

use std::borrow::Cow;
use std::fmt::Display;
use std::ops::Range;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use http::header::{CONTENT_TYPE, HeaderName, HeaderValue, USER_AGENT};

use crate::client::{Request, Wire};
use crate::clock::Clock;
use crate::model::delivery::{Ending, Phases};
use crate::model::destination::{BodyRule, Format};
use crate::model::{
    Attempt, ConfirmationMode, ConfirmationRequest, DeliveryId, Destination, DestinationNo, Event, Headers, NumberMap,
    Outcome, Reason, Seq, Success, Timestamp, Trigger,
};
use crate::render::{Rendered, Tried, render};
use crate::sign;
use crate::store::{DueRow, ReadError, Store};

use super::Settings;
use super::health::{Kind, Signal};
use super::receiver::{Fixed, Receiver, Receivers};
use super::spread::Lead;
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
    pub event: Arc<Event>,
}

impl Made {
    /// An attempt whose task did not come to its end.
    pub(super) fn interrupted(
        row: DueRow,
        started: Timestamp,
        now: Timestamp,
        destination: Arc<Destination>,
        event: Arc<Event>,
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
            due: row.due,
            started,
            duration: now.since(started),
            trigger: row.plan.trigger,
            outcome: verdict.outcome,
            reason: verdict.reason,
            status: None,
            request_headers: Headers::default(),
            response_headers: Headers::default(),
            response_body: Vec::new(),
            error: Some(error),
            address: None,
            phases: Phases::default(),
            reconnected: false,
            next: None,
        };
        Made { attempt, verdict, destination, event }
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
    receivers: Receivers,
    lead: Lead,
    // The events under way, for the record of an attempt that panics. Held for a look or a change.
    events: Mutex<NumberMap<Seq, (Arc<Event>, usize)>>,
}

/// Keeps an event at hand while an attempt of it is under way, also when that panics.
struct Remembered<W> {
    parts: Arc<Parts<W>>,
    seq: Seq,
}

impl<W: Wire> Attempts<W> {
    pub(super) fn new(settings: Arc<Settings>, store: Store, wire: Arc<W>, clock: Clock, rng: fastrand::Rng) -> Self {
        let (receivers, lead, events) = (Receivers::default(), Lead::default(), Mutex::default());
        Attempts { shared: Arc::new(Parts { settings, store, wire, clock, receivers, lead, events }), rng }
    }

    /// How far the clock may run ahead.
    pub(super) fn lead(&self) -> &Lead {
        &self.shared.lead
    }

    /// The attempt that a row asks for.
    pub(super) fn make(&mut self, row: DueRow) -> impl Future<Output = Done> + Send + use<W> {
        let nonce = format!("{:016x}", self.rng.u64(..));
        let parts = Arc::clone(&self.shared);
        async move { make(parts, row, nonce).await }
    }

    /// A destination has been changed or deleted: its old secrets are not kept until its next attempt, which may never come.
    pub(super) fn destination_changed(&self, no: DestinationNo) {
        if !self.shared.receivers.changed(no, &self.shared.store.catalog()) {
            self.shared.wire.forget(no);
        }
    }

    /// Some destinations may have been changed or deleted.
    pub(super) fn destinations_changed(&self) {
        self.shared.receivers.forget();
        self.shared.wire.forget_all();
    }

    /// An event whose attempt has been cut off, where it had been read.
    pub(super) fn event_of(&self, seq: Seq) -> Option<Arc<Event>> {
        let mut events = self.shared.events.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        let (event, _) = events.get(&seq)?;
        let event = Arc::clone(event);
        release(&mut events, seq);
        Some(event)
    }
}

fn release(events: &mut NumberMap<Seq, (Arc<Event>, usize)>, seq: Seq) {
    if let Some((_, uses)) = events.get_mut(&seq) {
        *uses -= 1;
        if *uses == 0 {
            events.remove(&seq);
        }
    }
}

impl<W> Remembered<W> {
    fn new(parts: &Arc<Parts<W>>, event: &Arc<Event>) -> Self {
        let seq = event.seq;
        let mut events = parts.events.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        events.entry(seq).or_insert_with(|| (Arc::clone(event), 0)).1 += 1;
        drop(events);
        Remembered { parts: Arc::clone(parts), seq }
    }

    /// The attempt has come to its end. Without this the event stays for [`Attempts::event_of`].
    fn forget(self) {
        let mut events = self.parts.events.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        release(&mut events, self.seq);
    }
}

async fn make<W: Wire>(parts: Arc<Parts<W>>, row: DueRow, nonce: String) -> Done {
    let event = match parts.store.event(row.seq).await {
        Ok(Some(event)) => event,
        // An unfinished event is never removed; if its row is gone all the same, nothing can be sent.
        Ok(None) => return Done::GivenUp(Ending::Erased),
        // It has been told where it was read. There is nothing to send, and those behind it need not wait.
        Err(ReadError::Damaged(_)) => return Done::GivenUp(Ending::Damaged),
        Err(error) => {
            tracing::error!(event = "event_unreadable", seq = row.seq.0, %error, "read an event for its attempt");
            return Done::PutBack;
        }
    };
    let started = parts.clock.now();
    if event.head.expires_at.is_some_and(|expires_at| expires_at.after(parts.lead.now()) <= started) {
        return Done::GivenUp(Ending::Expired);
    }
    let Some(body) = event.body.bytes().cloned() else { return Done::GivenUp(Ending::Erased) };
    let catalog = parts.store.catalog();
    let receiver = match catalog.destination(row.destination) {
        Some(destination) => parts.receivers.of(destination, &catalog),
        None => return Done::PutBack,
    };
    let present = Tried { number: row.plan.number, at: started };
    let tried = match receiver.destination.format {
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
    let remembered = Remembered::new(&parts, &event);
    let rendered = render(receiver.destination.format, &event, &body, &tried);
    let made = send(&parts, row, &event, rendered, &receiver, started, nonce).await;
    remembered.forget();
    // What was changed or deleted meanwhile is kept again by now, for the attempt used it.
    if !parts.store.catalog().destination(row.destination).is_some_and(|now| Arc::ptr_eq(now, &receiver.destination)) {
        parts.wire.forget(row.destination);
    }
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

async fn send<W: Wire>(
    parts: &Parts<W>,
    row: DueRow,
    event: &Arc<Event>,
    rendered: Rendered<'_>,
    receiver: &Receiver,
    started: Timestamp,
    nonce: String,
) -> Made {
    let destination = &receiver.destination;
    let begun = tokio::time::Instant::now();
    let (shown, exchange) = match prepare(&parts.settings, receiver, event, row, &rendered, started, &nonce) {
        Ok(Outgoing { headers, shown }) => {
            let request = Request {
                lane: row.destination,
                tenant: destination.tenant.clone(),
                url: Arc::clone(&receiver.url),
                method: destination.method,
                headers,
                body: rendered.body,
                timeout: destination.timeout.unwrap_or(parts.settings.timeout),
                // A destination that asks for patience gets it for the first byte, too.
                head_timeout: destination.timeout,
                tls: Arc::clone(&receiver.tls),
                allow_private: destination.allow_private,
                in_flight_max: destination.in_flight_max.unwrap_or(parts.settings.in_flight_max),
            };
            (shown, parts.wire.send(request).await)
        }
        Err(error) => (Headers::default(), crate::client::Exchange::failed(Reason::ProtocolError, error)),
    };
    let duration = begun.elapsed();
    let success = what_counts(parts.settings.confirmation, row, &destination.success, event);
    let mut verdict = verdict::judge(&exchange, &success, parts.clock.now());
    // Whatever it answered in the end: while it took its time, it held a slot.
    verdict.signal.kept_waiting |= duration >= KEPT_WAITING;
    // A receiver may echo what it was sent: its words are kept without our secrets in them.
    let masker = &receiver.masker;
    let attempt = Attempt {
        number: row.plan.number,
        due: row.due,
        started,
        duration,
        trigger: row.plan.trigger,
        outcome: verdict.outcome,
        reason: verdict.reason,
        status: exchange.status,
        request_headers: shown,
        response_headers: masker.headers(&exchange.headers),
        response_body: masker.body(&exchange.body, REPLY_KEPT_MAX),
        error: verdict.error.as_deref().map(|error| masker.text(error).into_owned()),
        address: exchange.address,
        phases: exchange.phases,
        reconnected: exchange.reconnected,
        next: None,
    };
    Made { attempt, verdict, destination: Arc::clone(destination), event: Arc::clone(event) }
}

/// The headers of a delivery: ours, then the destination's own, its credentials, its signatures.
fn prepare(
    settings: &Settings,
    receiver: &Receiver,
    event: &Event,
    row: DueRow,
    rendered: &Rendered<'_>,
    started: Timestamp,
    nonce: &str,
) -> Result<Outgoing, String> {
    let fixed = receiver.fixed.as_ref().map_err(String::clone)?;
    let (event_id, destination) = (event.id(), &receiver.destination);
    let id = event_id.to_string();
    let mut draft = Draft::new();
    draft.put(USER_AGENT, &settings.user_agent);
    if !receiver.has_content_type {
        draft.put(CONTENT_TYPE, rendered.content_type);
    }
    draft.put(X_WEBHOOK_EVENT, event.head.kind.as_str());
    draft.put(X_WEBHOOK_ID, &id);
    draft.put(X_WEBHOOK_DELIVERY, DeliveryId { event: event_id, destination: row.destination });
    draft.put(X_WEBHOOK_ATTEMPT, row.plan.number);
    draft.put(X_WEBHOOK_TIMESTAMP, started.as_secs());
    if let Some(traceparent) = &event.head.traceparent {
        draft.put(TRACEPARENT, traceparent);
    }
    for (name, value) in &rendered.headers {
        let name: HeaderName = name.parse().map_err(|_| format!("header {name}: not a header's name"))?;
        draft.put(name, value);
    }
    draft.put_fixed(fixed);
    let message = sign::Message {
        id: &id,
        timestamp: started,
        nonce,
        url: &destination.url,
        method: destination.method.as_str(),
        body: &rendered.body,
    };
    let signer = receiver.signer.as_ref().map_err(String::clone)?;
    signer.sign(&message, started, |name, value| draft.put(name, value)).map_err(|error| error.to_string())?;
    draft.finish(fixed)
}

const X_WEBHOOK_EVENT: HeaderName = HeaderName::from_static("x-webhook-event");
const X_WEBHOOK_ID: HeaderName = HeaderName::from_static("x-webhook-id");
const X_WEBHOOK_DELIVERY: HeaderName = HeaderName::from_static("x-webhook-delivery");
const X_WEBHOOK_ATTEMPT: HeaderName = HeaderName::from_static("x-webhook-attempt");
const X_WEBHOOK_TIMESTAMP: HeaderName = HeaderName::from_static("x-webhook-timestamp");
const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");

/// A request's headers: as sent, and as shown.
struct Outgoing {
    headers: Vec<(HeaderName, HeaderValue)>,
    shown: Headers,
}

/// A request's headers while they are written. What is shown is written first; the values that are sent are parts of the same
/// text, for there are a dozen of them in every request.
struct Draft {
    shown: Headers,
    places: Vec<(HeaderName, Range<usize>)>,
    /// How many stand before the destination's own.
    before_fixed: usize,
}

impl Draft {
    fn new() -> Self {
        Draft { shown: Headers::with_capacity(1024), places: Vec::with_capacity(16), before_fixed: 0 }
    }

    fn put(&mut self, name: HeaderName, value: impl Display) {
        let place = self.shown.push(name.as_str(), value);
        self.places.push((name, place));
    }

    fn put_fixed(&mut self, fixed: &Fixed) {
        self.shown.extend(&fixed.shown);
        self.before_fixed = self.places.len();
    }

    fn finish(self, fixed: &Fixed) -> Result<Outgoing, String> {
        let Draft { shown, places, before_fixed } = self;
        let text = Bytes::copy_from_slice(shown.as_str().as_bytes());
        let mut headers = Vec::with_capacity(places.len() + fixed.headers.len());
        for (count, (name, place)) in places.into_iter().enumerate() {
            if count == before_fixed {
                headers.extend_from_slice(&fixed.headers);
            }
            let value = HeaderValue::from_maybe_shared(text.slice(place))
                .map_err(|_| format!("header {name}: its value cannot be sent"))?;
            headers.push((name, value));
        }
        if headers.len() == before_fixed {
            headers.extend_from_slice(&fixed.headers);
        }
        Ok(Outgoing { headers, shown })
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;
    use crate::model::audit::Action;
    use crate::model::destination::{Preset, Scheme, Signature, SignedWith};
    use crate::model::event::{Body, EventHead};
    use crate::model::{
        Actor, Auth, DestinationId, Epoch, Secret, SigningKey, SigningKeyId, SigningKeyKind, Tenant, TenantId,
    };
    use crate::store::op::{
        CreateDestination, CreateSigningKey, CreateTenant, DeleteDestination, UpdateDestination, UpdateSigningKey,
    };
    use crate::store::{self, Catalog, InMemoryBackend, KEY_BYTES, Keys, MasterKey, Plan, WriterRuns};

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
        for (headers, expected) in [(&[][..], "application/json"), (&[("content-type", "text/plain")], "text/plain")] {
            let receiver = Receivers::default().of(&Arc::new(destination(headers)), &Catalog::default());
            let body = Bytes::from_static(b"1");
            let rendered = render(Format::Raw, &event, &body, &[]);
            let prepared =
                prepare(&Settings::default(), &receiver, &event, row, &rendered, Timestamp::ZERO, "n").unwrap();
            let sent: Vec<_> = prepared.headers.iter().filter(|(name, _)| name == CONTENT_TYPE).collect();
            assert_eq!(sent, [&(CONTENT_TYPE, HeaderValue::from_static(expected))]);
            assert_eq!(prepared.shown.iter().filter(|(name, _)| *name == "content-type").count(), 1);
        }
    }

    /// Invariant 11: what is shown is what is sent, line by line, but for the destination's own values.
    #[test]
    fn what_is_shown_is_what_is_sent_without_the_destinations_values() {
        let row = DueRow { destination: DestinationNo(1), due: Timestamp::ZERO, seq: Seq(1), plan: Plan::FIRST };
        let secret = Secret::new("whsec_MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=");
        let scheme = Scheme::Preset(Preset::Standard);
        let signed = vec![SignedWith::Own(Signature { scheme, secret, previous: None })];
        for signatures in [vec![], signed] {
            let auth = Auth::Bearer { token: Secret::new("token") };
            let destination = Destination { auth, signatures, ..destination(&[("x-own", "own"), ("x-own", "too")]) };
            let receiver = Receivers::default().of(&Arc::new(destination), &Catalog::default());
            let (event, body) = (event(), Bytes::from_static(b"1"));
            let rendered = render(Format::Raw, &event, &body, &[]);
            let prepared =
                prepare(&Settings::default(), &receiver, &event, row, &rendered, Timestamp::ZERO, "n").unwrap();
            let masked = ["x-own", "authorization"];
            let sent = prepared.headers.iter().map(|(name, value)| {
                let value = if masked.contains(&name.as_str()) { "***" } else { value.to_str().unwrap() };
                (name.as_str(), value)
            });
            assert_eq!(prepared.shown.iter().collect::<Vec<_>>(), sent.collect::<Vec<_>>());
            let own = prepared.headers.iter().filter(|(name, _)| name == "x-own").map(|(_, value)| value.as_bytes());
            assert_eq!(own.collect::<Vec<_>>(), [b"own", b"too"]);
        }
    }

    /// A change makes a new value of a destination; what was worked out for the old one does not outlive it.
    #[test]
    fn a_changed_destination_is_worked_out_anew() {
        let (receivers, catalog) = (Receivers::default(), Catalog::default());
        let old = Arc::new(destination(&[("x-own", "old")]));
        assert!(Arc::ptr_eq(&receivers.of(&old, &catalog), &receivers.of(&old, &catalog)));
        let new = Arc::new(destination(&[("x-own", "new")]));
        let fixed = &receivers.of(&new, &catalog).fixed;
        assert_eq!(fixed.as_ref().unwrap().headers[0].1, "new");
    }

    /// The secrets of what was changed or deleted leave the memory with it, not when its number is asked for again.
    #[tokio::test]
    async fn a_destination_that_is_gone_leaves_nothing_behind() {
        let (store, receivers) = (memory(), Receivers::default());
        let key = signing_key("whsec_MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=");
        let key = store.steer(&Actor::SYSTEM, CreateSigningKey { key }).await.unwrap().answer.unwrap();
        let by_key = SignedWith::Key { scheme: Scheme::Preset(Preset::XSignature), key: key.id };
        let signed = Destination { signatures: vec![by_key], ..destination(&[("x-own", "secret")]) };
        let made =
            store.steer(&Actor::SYSTEM, CreateDestination { destination: signed }).await.unwrap().answer.unwrap();
        let held = || Arc::downgrade(&receivers.of(store.catalog().destination(made.no).unwrap(), &store.catalog()));
        let changed = || receivers.changed(made.no, &store.catalog());
        let wire = Arc::new(Forgetful::default());
        let parts = Parts {
            settings: Arc::new(Settings::default()),
            store: store.clone(),
            wire: Arc::clone(&wire),
            clock: Clock::of_runtime(Timestamp::ZERO),
            receivers: Receivers::default(),
            lead: Lead::default(),
            events: Mutex::default(),
        };
        let attempts = Attempts { shared: Arc::new(parts), rng: fastrand::Rng::with_seed(1) };
        let at_hand = || {
            let (of, catalog) = (&attempts.shared.receivers, store.catalog());
            of.of(catalog.destination(made.no).unwrap(), &catalog);
        };
        // How often the wire has been told, at all.
        let told = || {
            attempts.destination_changed(made.no);
            wire.0.load(Ordering::Relaxed)
        };

        at_hand();
        let receiver = held();
        store.steer(&Actor::SYSTEM, CreateTenant { tenant: other_tenant() }).await.unwrap().answer.unwrap();
        changed();
        assert!(receiver.upgrade().is_some(), "it is as it was");
        assert_eq!(told(), 0, "its connections are kept");
        let after = SigningKey { secret: Secret::new("other"), ..SigningKey::clone(&key) };
        let rotation = UpdateSigningKey { before: key, after, action: Action::SigningKeyRotate };
        store.steer(&Actor::SYSTEM, rotation).await.unwrap().answer.unwrap();
        changed();
        assert!(receiver.upgrade().is_none(), "the key that it signs with was rotated");
        assert_eq!(told(), 1);
        at_hand();

        let receiver = held();
        let after = Destination { url: "https://b.example/".into(), ..Destination::clone(&made) };
        let change = UpdateDestination { before: Arc::clone(&made), after, action: Action::DestinationUpdate };
        store.steer(&Actor::SYSTEM, change).await.unwrap().answer.unwrap();
        changed();
        assert!(receiver.upgrade().is_none(), "it was changed");
        assert_eq!(told(), 2);
        at_hand();
        let receiver = held();
        store.steer(&Actor::SYSTEM, DeleteDestination { no: made.no }).await.unwrap().answer.unwrap();
        changed();
        assert!(receiver.upgrade().is_none(), "it was deleted");
        assert_eq!(told(), 3);

        let other = Arc::new(destination(&[]));
        let receiver = Arc::downgrade(&receivers.of(&other, &store.catalog()));
        receivers.forget();
        assert!(receiver.upgrade().is_none(), "more has happened than was heard");
        attempts.destinations_changed();
        assert_eq!(wire.0.load(Ordering::Relaxed), 1003, "everything is let go of");
    }

    /// Counts what it is told to forget: one for a lane, a thousand for all.
    #[derive(Default)]
    struct Forgetful(AtomicU32);

    impl Wire for Forgetful {
        async fn send(&self, _: Request) -> crate::client::Exchange {
            crate::client::Exchange::default()
        }

        fn forget(&self, _: DestinationNo) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }

        fn forget_all(&self) {
            self.0.fetch_add(1000, Ordering::Relaxed);
        }
    }

    fn memory() -> Store {
        let keys = Keys::new(MasterKey::new([7; KEY_BYTES]), [9; Keys::CHANCE_BYTES]);
        let at = store::Settings { cache_bytes: 1 << 20, ..store::Settings::at("memory", keys) };
        let clock = Clock::of_runtime(Timestamp::from_millis(1_700_000_000_000));
        Store::open_on(InMemoryBackend::new(), &at, clock, 7, WriterRuns::Inline).unwrap()
    }

    fn signing_key(secret: &str) -> SigningKey {
        SigningKey {
            id: SigningKeyId::from_chance([1; 6]),
            tenant: TenantId::default_tenant(),
            kind: SigningKeyKind::Source,
            name: "till".into(),
            secret: Secret::new(secret),
            previous: None,
            created: Timestamp::ZERO,
        }
    }

    fn other_tenant() -> Tenant {
        let id = "other".parse().unwrap();
        Tenant { id, name: "other".into(), parent: None, created: Timestamp::ZERO, audit_from: 0 }
    }
}
