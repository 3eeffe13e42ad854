//! `Idempotency-Key`: a POST that bears one is done once, however often it is sent, for a day.
//!
//! The guide is the IETF's draft-ietf-httpapi-idempotency-key-header. A key is 1 to 255 printable ASCII characters, taken as they
//! stand. It stands for one request of one caller (his key, or his uid on the socket) for one tenant, by one method to one path;
//! the same key of another caller, or to another path, is another one.
//!
//! That a request is begun is on disk before it is done, and its answer is on disk before it is sent. So a repeat gets
//!
//! - the answer of the first one, with `Idempotency-Replayed: true`: status, content type, `Location` and body;
//! - 422 `idempotency_key_reused` where its query or body differs from the first one's;
//! - 409 `idempotency_in_progress` with `Retry-After` while the first one is under way;
//! - 409 `idempotency_unknown` where nobody knows whether the first one was done, because the daemon or its store failed in
//!   between. It is not done again: at most once, never twice. Look at what is there, then use a new key;
//! - 409 `idempotency_not_kept` where the first one was done and its answer was larger than 256 KiB.
//!
//! What was refused has changed nothing and is not kept: the same key may be used once the request has been set right. A request
//! goes on when its caller has hung up: that is when he needs the repeat. A batch of events whose answer is 202 is done, also
//! when some of its events were refused: send those with a new key.
//!
//! An answer that shows a new secret is kept whole for its day, sealed as every record is.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use ::http::header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, LOCATION};
use ::http::{Method, StatusCode};
use bytes::Bytes;
use sha2::{Digest, Sha256};

use crate::http::problem::{Problem, ProblemCode};
use crate::http::request::Request;
use crate::http::response::{Body, Response};
use crate::service::{Begun, Fingerprint, KeptAnswer, RequestScope, Service, Sight};

use super::Answering;
use super::caller::Caller;

/// The header that bears the key.
pub const IDEMPOTENCY_KEY: &str = "idempotency-key";
/// The header that tells a repeat's answer from the first one's.
pub const IDEMPOTENCY_REPLAYED: HeaderName = HeaderName::from_static("idempotency-replayed");
/// A key's characters, at most.
const KEY_CHARS_MAX: usize = 255;
/// Bytes of an answer that is kept, at most.
const ANSWER_BYTES_MAX: usize = 256 * 1024;

/// The requests that are under way. Clones share them.
#[derive(Debug, Clone, Default)]
pub(super) struct UnderWay(Arc<Mutex<HashMap<RequestScope, Fingerprint>>>);

impl UnderWay {
    // Held for a look or an entry.
    fn lock(&self) -> MutexGuard<'_, HashMap<RequestScope, Fingerprint>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn enter(&self, scope: RequestScope, fingerprint: Fingerprint) -> Result<Entered, Problem> {
        match self.lock().entry(scope) {
            Entry::Occupied(other) if *other.get() != fingerprint => Err(reused()),
            Entry::Occupied(_) => {
                let detail = "the first request with this Idempotency-Key is under way; ask again in a moment";
                Err(Problem::new(ProblemCode::IdempotencyInProgress, detail))
            }
            Entry::Vacant(place) => {
                place.insert(fingerprint);
                Ok(Entered { under_way: self.clone(), scope })
            }
        }
    }
}

/// A place among the requests that are under way, given up when it is dropped.
struct Entered {
    under_way: UnderWay,
    scope: RequestScope,
}

impl Drop for Entered {
    fn drop(&mut self) {
        self.under_way.lock().remove(&self.scope);
    }
}

/// What is done under a key.
pub(super) struct Keyed {
    pub(super) scope: RequestScope,
    pub(super) fingerprint: Fingerprint,
}

impl Keyed {
    /// What a request with a key is, after its body has been read; `None` when it bears none, or is no POST.
    ///
    /// `body_bytes_max` is what any route takes at most; the route's own bound is its own business.
    pub(super) async fn of(
        request: &mut Request,
        caller: &Caller,
        body_bytes_max: usize,
    ) -> Result<Option<Self>, Problem> {
        if request.method() != Method::POST {
            return Ok(None);
        }
        let Some(key) = request.header(IDEMPOTENCY_KEY)?.map(str::to_owned) else { return Ok(None) };
        if !(1..=KEY_CHARS_MAX).contains(&key.len()) || !key.bytes().all(|byte| matches!(byte, b' '..=b'~')) {
            let detail = format!("Idempotency-Key must be 1 to {KEY_CHARS_MAX} printable ASCII characters");
            return Err(Problem::new(ProblemCode::BadHeader, detail));
        }
        let body = request.hold_body(body_bytes_max).await?;
        let who = caller.actor().who.to_string();
        let tenant = match caller.sight() {
            Sight::One(tenant) => format!("={tenant}"),
            Sight::All => String::new(),
        };
        let path = request.path();
        let parts = [who.as_str(), &tenant, request.method().as_str(), path, &key].map(str::as_bytes);
        let scope = digest(&parts);
        let fingerprint = digest(&[request.query_text().as_bytes(), &body]);
        Ok(Some(Keyed { scope, fingerprint }))
    }

    /// Does the request, unless its key stands for one already.
    pub(super) async fn answer(
        self,
        under_way: &UnderWay,
        service: Service,
        act: impl FnOnce() -> Answering + Send + 'static,
    ) -> Result<Response, Problem> {
        let Keyed { scope, fingerprint } = self;
        let entered = under_way.enter(scope, fingerprint)?;
        // A task of its own: it goes on when the caller has hung up.
        let done = tokio::spawn(async move {
            let _entered = entered;
            match service.begin_request(scope, fingerprint).await? {
                Begun::New => {}
                Begun::Other => return Err(reused()),
                Begun::Answered(answer) => return repeat(answer),
                Begun::Unanswered => {
                    let detail = "whether the first request with this Idempotency-Key took effect is not known, for \
                                  the daemon or its store failed meanwhile; look at what is there, then use a new key";
                    return Err(Problem::new(ProblemCode::IdempotencyUnknown, detail));
                }
            }
            let answer = act().await;
            match &answer {
                Ok(response) => service.end_request(scope, Some(kept(response))).await?,
                // Whether these came before or after a change is not known.
                Err(problem) if matches!(problem.code(), ProblemCode::StoreFailed | ProblemCode::Internal) => {}
                Err(_) => service.end_request(scope, None).await?,
            }
            answer
        });
        done.await.unwrap_or_else(|_| Err(Problem::new(ProblemCode::Internal, "the request ended early")))
    }
}

fn reused() -> Problem {
    let detail = "this Idempotency-Key was used for a request with another query or body; use a new key";
    Problem::new(ProblemCode::IdempotencyKeyReused, detail)
}

/// A hash over texts, none of which can be taken for a part of another.
fn digest(parts: &[&[u8]]) -> [u8; 32] {
    let mut hasher = Sha256::new();
    for part in parts {
        hasher.update((part.len() as u64).to_be_bytes());
        hasher.update(part);
    }
    hasher.finalize().into()
}

fn kept(response: &Response) -> KeptAnswer {
    let text = |name| response.header(&name).and_then(|value| value.to_str().ok()).map(str::to_owned);
    let body = match response.body() {
        Body::Whole(body) if body.len() <= ANSWER_BYTES_MAX => Some(body.to_vec()),
        Body::Whole(_) | Body::Stream(_) => None,
    };
    KeptAnswer { status: response.status().as_u16(), content_type: text(CONTENT_TYPE), location: text(LOCATION), body }
}

fn repeat(answer: KeptAnswer) -> Result<Response, Problem> {
    let KeptAnswer { status, content_type, location, body } = answer;
    let Some(body) = body else {
        let detail = format!(
            "the first request with this Idempotency-Key was done, with status {status}; its answer was over \
             {ANSWER_BYTES_MAX} bytes and was not kept"
        );
        return Err(Problem::new(ProblemCode::IdempotencyNotKept, detail));
    };
    let damaged = || Problem::new(ProblemCode::Internal, "the answer that was kept cannot be read");
    let mut headers = HeaderMap::new();
    for (name, text) in [(CONTENT_TYPE, content_type), (LOCATION, location)] {
        if let Some(text) = text {
            headers.insert(name, HeaderValue::try_from(text).map_err(|_| damaged())?);
        }
    }
    headers.insert(IDEMPOTENCY_REPLAYED, HeaderValue::from_static("true"));
    let status = StatusCode::from_u16(status).map_err(|_| damaged())?;
    Ok(Response::of_parts(status, headers, Bytes::from(body)))
}
