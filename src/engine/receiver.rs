//! What of a destination is the same for every attempt: worked out when the first one is made, and again when it changes.

use std::sync::{Arc, Mutex};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use http::header::{AUTHORIZATION, CONTENT_TYPE, HeaderName, HeaderValue};

use crate::model::{Auth, Destination, DestinationNo, Headers, NumberMap, SigningKey, TlsOptions};
use crate::sign::Signer;
use crate::store::Catalog;

use super::mask::{MASK, Masker};

/// A destination as attempts see it.
pub(super) struct Receiver {
    pub destination: Arc<Destination>,
    pub url: Arc<str>,
    pub tls: Arc<TlsOptions>,
    /// For what comes back.
    pub masker: Masker,
    /// Whether it asks for a content type of its own: then it gets that one, not both.
    pub has_content_type: bool,
    /// Its own headers and its credentials, or why they cannot be sent.
    pub fixed: Result<Fixed, String>,
    /// Its signatures, or why they cannot be made.
    pub signer: Result<Signer, String>,
    /// The signing keys that it names, as far as they are there: another one in the place of one of them makes it anew.
    keys: Vec<Arc<SigningKey>>,
}

/// Headers that are the same in each request.
#[derive(Default)]
pub(super) struct Fixed {
    /// As sent.
    pub headers: Vec<(HeaderName, HeaderValue)>,
    /// As shown: without their values.
    pub shown: Headers,
}

impl Receiver {
    fn new(destination: Arc<Destination>, catalog: &Catalog) -> Self {
        let is_content_type = |name: &str| name.eq_ignore_ascii_case(CONTENT_TYPE.as_str());
        // No key is deleted that a destination names.
        let signatures = catalog.signatures_of(&destination).map_err(|key| format!("no signing key {key} is there"));
        Receiver {
            url: destination.url.as_str().into(),
            tls: Arc::new(destination.tls.clone()),
            masker: Masker::of(&destination, signatures.as_deref().unwrap_or_default()),
            has_content_type: destination.headers.iter().any(|(name, _)| is_content_type(name)),
            fixed: Fixed::of(&destination),
            signer: signatures.and_then(|them| Signer::new(&them).map_err(|error| error.to_string())),
            keys: keys_of(&destination, catalog).map(Arc::clone).collect(),
            destination,
        }
    }

    /// Whether nobody has changed the destination, nor a key that it signs with. A change makes another allocation: one that
    /// we hold cannot be used for it.
    fn is_of(&self, destination: &Arc<Destination>, catalog: &Catalog) -> bool {
        Arc::ptr_eq(&self.destination, destination)
            && keys_of(destination, catalog).map(Arc::as_ptr).eq(self.keys.iter().map(Arc::as_ptr))
    }
}

fn keys_of<'a>(destination: &'a Destination, catalog: &'a Catalog) -> impl Iterator<Item = &'a Arc<SigningKey>> {
    destination.signatures.iter().filter_map(|it| catalog.signing_key(it.key()?))
}

impl Fixed {
    fn of(destination: &Destination) -> Result<Self, String> {
        let mut fixed = Fixed::default();
        for (name, value) in &destination.headers {
            fixed.put_named(name, value.expose())?;
        }
        match &destination.auth {
            Auth::None => {}
            Auth::Basic { username, password } => {
                let credentials = BASE64.encode(format!("{username}:{}", password.expose()));
                fixed.put(AUTHORIZATION, &format!("Basic {credentials}"))?;
            }
            Auth::SharedSecret { header, secret } => fixed.put_named(header, secret.expose())?,
            Auth::Bearer { token } => fixed.put(AUTHORIZATION, &format!("Bearer {}", token.expose()))?,
        }
        Ok(fixed)
    }

    fn put(&mut self, name: HeaderName, value: &str) -> Result<(), String> {
        let sent = HeaderValue::from_str(value).map_err(|_| format!("header {name}: its value cannot be sent"))?;
        self.shown.push(name.as_str(), MASK);
        self.headers.push((name, sent));
        Ok(())
    }

    fn put_named(&mut self, name: &str, value: &str) -> Result<(), String> {
        let name: HeaderName = name.parse().map_err(|_| format!("header {name}: not a header's name"))?;
        self.put(name, value)
    }
}

/// More destinations than this are forgotten and worked out again.
const RECEIVERS_MAX: usize = 1024;

/// The receivers of attempts made lately.
#[derive(Default)]
pub(super) struct Receivers {
    // Held for a look or a change.
    known: Mutex<NumberMap<DestinationNo, Arc<Receiver>>>,
}

impl Receivers {
    /// A destination as attempts see it: the one at hand, as long as nobody has changed it.
    pub(super) fn of(&self, destination: &Arc<Destination>, catalog: &Catalog) -> Arc<Receiver> {
        let mut known = self.known.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        if let Some(receiver) = known.get(&destination.no).filter(|it| it.is_of(destination, catalog)) {
            return Arc::clone(receiver);
        }
        if known.len() >= RECEIVERS_MAX {
            known.clear();
        }
        let receiver = Arc::new(Receiver::new(Arc::clone(destination), catalog));
        known.insert(destination.no, Arc::clone(&receiver));
        receiver
    }

    /// Lets go of a destination's secrets, unless it still is as the catalog says. Answers whether one is at hand that is.
    pub(super) fn changed(&self, no: DestinationNo, catalog: &Catalog) -> bool {
        let present = catalog.destination(no);
        let mut known = self.known.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        let Some(it) = known.get(&no) else { return false };
        let is_fresh = present.is_some_and(|present| it.is_of(present, catalog));
        if !is_fresh {
            known.remove(&no);
        }
        is_fresh
    }

    /// Lets go of all of them.
    pub(super) fn forget(&self) {
        self.known.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).clear();
    }
}
