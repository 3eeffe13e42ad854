//! `GET /v1/tail`: attempts as they end, as server-sent events. Who makes them is not this room's business: it is given a
//! place where they are told.
//!
//! An event without a name is an attempt. One named `missed` says that the client was too slow: what it did not take in time
//! is not kept for it. Nothing here can be resumed: events have no ids, `Last-Event-ID` is not looked at, and what passed
//! while nobody watched stands in `GET /v1/deliveries`.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use ::http::header::{HeaderName, HeaderValue};
use bytes::Bytes;
use serde::Serialize;
use tokio::sync::broadcast::error::{RecvError, TryRecvError};
use tokio::sync::broadcast::{Receiver, WeakSender};
use tokio::time::{Instant, timeout_at};

use crate::api::Call;
use crate::api::caller::Caller;
use crate::api::native::delivery::BareAttemptView;
use crate::http::problem::{Problem, ProblemCode};
use crate::http::request::Query;
use crate::http::response::{Pieces, Response};
use crate::model::{DestinationId, Ended, Outcome, TenantId, TypePattern};
use crate::service::{Service, Sight};

/// How long a client hears nothing at most: by then it gets a line that says nothing, which keeps what lies between awake,
/// and finds out a client that vanished without closing the connection.
const HEARTBEAT: Duration = Duration::from_secs(15);
/// What has been told already when this many bytes are together is handed in, though more could be.
const PIECE_BYTES: usize = 16 << 10;
/// What a stream begins with. The pause is for browsers, which come back by themselves.
const OPENING: &str =
    ": attempts from now on; what passed before, or while nobody watched, is in /v1/deliveries\nretry: 3000\n\n";

/// Streams that may be open at a time of what one tenant sees: no tenant takes all the places that the server has. Whoever sees
/// all tenants is bounded by those only.
const STREAMS_PER_TENANT_MAX: usize = 8;

/// Where attempts are told as they end; by default there is nothing to hear. Clones share it.
#[derive(Debug, Clone, Default)]
pub struct Tail {
    attempts: Option<WeakSender<Arc<Ended>>>,
    streams: Arc<Streams>,
}

/// How many streams are open of what each tenant sees.
// Held for a look or a change.
#[derive(Debug, Default)]
struct Streams(Mutex<HashMap<TenantId, usize>>);

/// One of a tenant's streams, for as long as it is there.
struct Place {
    streams: Arc<Streams>,
    tenant: TenantId,
}

impl Streams {
    fn open(&self) -> MutexGuard<'_, HashMap<TenantId, usize>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut open = self.streams.open();
        if let Some(count) = open.get_mut(&self.tenant) {
            *count -= 1;
            if *count == 0 {
                open.remove(&self.tenant);
            }
        }
    }
}

impl Tail {
    /// Attempts that are told here. It is not kept open by those who listen.
    pub fn new(attempts: WeakSender<Arc<Ended>>) -> Self {
        Tail { attempts: Some(attempts), streams: Arc::default() }
    }

    fn watch(&self) -> Option<Receiver<Arc<Ended>>> {
        Some(self.attempts.as_ref()?.upgrade()?.subscribe())
    }

    /// A place for one more stream of what this tenant sees.
    fn place(&self, tenant: TenantId) -> Result<Place, Problem> {
        let mut open = self.streams.open();
        let count = open.entry(tenant.clone()).or_default();
        if *count >= STREAMS_PER_TENANT_MAX {
            let detail = format!("{STREAMS_PER_TENANT_MAX} streams of the tenant {tenant} are open; close one");
            return Err(Problem::new(ProblemCode::TooManyStreams, detail));
        }
        *count += 1;
        Ok(Place { streams: Arc::clone(&self.streams), tenant })
    }
}

/// Which attempts are wanted.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Filter {
    /// Only to this destination.
    pub destination: Option<DestinationId>,
    /// Only of events that match.
    pub kind: Option<TypePattern>,
    /// Only those that came to this.
    pub outcome: Option<Outcome>,
}

impl Filter {
    /// The names of the filter's parameters.
    pub const PARAMETERS: [&str; 3] = ["destination", "type", "outcome"];

    /// The filter that a query asks for; a value that cannot be read is a 400.
    pub fn from_query(query: &Query) -> Result<Self, Problem> {
        let outcome = match query.text("outcome") {
            None => None,
            Some(text) => {
                let outcome = Outcome::ALL.into_iter().find(|outcome| outcome.as_str() == text);
                let bad = || Problem::of_parameter("outcome", "must be one of succeeded, failed, unknown");
                Some(outcome.ok_or_else(bad)?)
            }
        };
        Ok(Filter { destination: query.parse("destination")?, kind: query.parse("type")?, outcome })
    }

    fn takes(&self, ended: &Ended) -> bool {
        self.destination.is_none_or(|id| id == ended.destination.id)
            && self.kind.as_ref().is_none_or(|pattern| pattern.matches(&ended.kind))
            && self.outcome.is_none_or(|outcome| outcome == ended.attempt.outcome)
    }
}

/// An attempt that has ended.
#[derive(Debug, Serialize)]
pub struct EndedView {
    /// Of which delivery.
    pub delivery_id: String,
    /// Of which event.
    pub event_id: String,
    /// The event's type.
    pub r#type: String,
    /// Whose destination it went to.
    pub tenant: String,
    /// Where it went.
    pub destination_id: String,
    /// What that is called.
    pub destination_name: String,
    /// What happened.
    pub attempt: BareAttemptView,
    /// When the next try is due; `null` when there will be none.
    pub next_attempt_at: Option<String>,
}

impl EndedView {
    fn of(ended: &Ended) -> Self {
        let Ended { delivery, destination, kind, attempt } = ended;
        EndedView {
            delivery_id: delivery.to_string(),
            event_id: delivery.event.to_string(),
            r#type: kind.to_string(),
            tenant: destination.tenant.to_string(),
            destination_id: destination.id.to_string(),
            destination_name: destination.name.clone(),
            attempt: BareAttemptView::of(attempt),
            next_attempt_at: attempt.next.map(|at| at.to_string()),
        }
    }
}

/// What a client that was too slow did not get.
#[derive(Debug, Serialize)]
pub struct MissedView {
    /// How many attempts ended meanwhile, of all there were; `null` for who sees one tenant, since the others' are none of
    /// its business.
    pub missed: Option<u64>,
}

/// `GET /v1/tail`
pub(super) async fn read(call: Call, caller: Caller) -> Result<Response, Problem> {
    let query = call.request.query()?;
    let filter = Filter::from_query(&query)?;
    let sight = caller.sight();
    if let Some(id) = filter.destination {
        // Whoever mistypes it would wait in vain.
        call.service.destination(&sight, id)?;
    }
    let attempts = call.tail.watch();
    let attempts = attempts.ok_or_else(|| Problem::new(ProblemCode::Draining, "no more attempts are made here"))?;
    let place = match &sight {
        Sight::All => None,
        Sight::One(tenant) => Some(call.tail.place(tenant.clone())?),
    };
    let watch = Watch { attempts, sight, filter, caller, service: call.service, _place: place };
    let response = Response::stream("text/event-stream", |pieces| watch.tell(pieces));
    // A proxy that collects answers would keep them back.
    Ok(response.with_header(HeaderName::from_static("x-accel-buffering"), HeaderValue::from_static("no")))
}

/// One client's view of the attempts.
struct Watch {
    attempts: Receiver<Arc<Ended>>,
    sight: Sight,
    filter: Filter,
    caller: Caller,
    service: Service,
    _place: Option<Place>,
}

impl Watch {
    /// Tells until no more attempts are made, or the caller is no longer let in.
    async fn tell(mut self, mut pieces: Pieces) {
        let mut text = OPENING.to_owned();
        loop {
            pieces.send(Bytes::from(text)).await;
            text = match self.next().await {
                Some(text) if self.caller.still_stands(&self.service) => text,
                Some(_) | None => return,
            };
        }
    }

    /// What is to be told next: as much as has happened by then, or that nothing has.
    async fn next(&mut self) -> Option<String> {
        let silent_until = Instant::now() + HEARTBEAT;
        let mut text = String::new();
        while text.is_empty() {
            match timeout_at(silent_until, self.attempts.recv()).await {
                Ok(Ok(ended)) => self.note(&ended, &mut text),
                Ok(Err(RecvError::Lagged(missed))) => self.note_missed(missed, &mut text),
                Ok(Err(RecvError::Closed)) => return None,
                Err(_) => text.push_str(":\n\n"),
            }
        }
        while text.len() < PIECE_BYTES {
            match self.attempts.try_recv() {
                Ok(ended) => self.note(&ended, &mut text),
                Err(TryRecvError::Lagged(missed)) => self.note_missed(missed, &mut text),
                Err(TryRecvError::Empty | TryRecvError::Closed) => break,
            }
        }
        Some(text)
    }

    fn note(&self, ended: &Ended, text: &mut String) {
        if self.sight.takes(&ended.destination.tenant) && self.filter.takes(ended) {
            write_event(text, &EndedView::of(ended));
        }
    }

    fn note_missed(&self, missed: u64, text: &mut String) {
        text.push_str("event: missed\n");
        let missed = match self.sight {
            Sight::All => Some(missed),
            Sight::One(_) => None,
        };
        write_event(text, &MissedView { missed });
    }
}

/// JSON has no line ends outside its texts, and inside they are escaped: one line holds it.
fn write_event(text: &mut String, view: &impl Serialize) {
    let json = serde_json::to_string(view).expect("views are plain data with text keys");
    write!(text, "data: {json}\n\n").expect("a String takes every write");
}
