//! What is known of a lane's target before anything is dialled.
//!
//! Owns the URLs that have been parsed and admitted, with all that follows from their text alone: one of each lane, so that
//! this is not worked out anew for every request. Nothing in here is an answer about addresses: those are vetted each time.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use http::HeaderValue;
use rustls::ClientConfig;

use super::Request;
use super::guard::TargetUrl;
use super::tls::Identity;
use crate::model::destination::TlsOptions;
use crate::model::{DestinationNo, NumberMap, TenantId};

/// A URL that the guard has admitted, with what it was admitted for.
pub(super) struct Target {
    text: Arc<str>,
    tenant: TenantId,
    allow_private: bool,
    options: Arc<TlsOptions>,
    /// The URL's parts.
    pub(super) url: TargetUrl,
    /// The Host header.
    pub(super) host: HeaderValue,
    /// How TLS is spoken, where the URL asks for it.
    pub(super) tls: Option<(Identity, Arc<ClientConfig>)>,
}

impl Target {
    pub(super) fn new(request: &Request, url: TargetUrl, tls: Option<(Identity, Arc<ClientConfig>)>) -> Self {
        Target {
            text: Arc::clone(&request.url),
            tenant: request.tenant.clone(),
            allow_private: request.allow_private,
            options: Arc::clone(&request.tls),
            host: url.host_header(),
            url,
            tls,
        }
    }

    /// Whether this is what the guard would say of a request, too.
    fn serves(&self, request: &Request) -> bool {
        self.text == request.url
            && self.tenant == request.tenant
            && self.allow_private == request.allow_private
            && (Arc::ptr_eq(&self.options, &request.tls) || self.options == request.tls)
    }

    /// Whether a connection to the one serves the other as well.
    pub(super) fn shares_connections_with(&self, other: &Target) -> bool {
        let identity = |target: &Target| target.tls.as_ref().map(|(identity, _)| *identity);
        self.url.scheme() == other.url.scheme()
            && self.url.port() == other.url.port()
            && self.url.host() == other.url.host()
            && identity(self) == identity(other)
    }
}

/// More lanes than this are forgotten and asked for again.
const TARGETS_MAX: usize = 4096;

/// The target that each lane had last.
#[derive(Default)]
pub(super) struct Targets {
    // Held for a look or a change.
    known: Mutex<NumberMap<DestinationNo, Arc<Target>>>,
}

impl Targets {
    /// The target of a request, where it is the same as last time.
    pub(super) fn find(&self, request: &Request) -> Option<Arc<Target>> {
        self.known().get(&request.lane).filter(|target| target.serves(request)).map(Arc::clone)
    }

    pub(super) fn put(&self, lane: DestinationNo, target: &Arc<Target>) {
        let mut known = self.known();
        if known.len() >= TARGETS_MAX {
            known.clear();
        }
        known.insert(lane, Arc::clone(target));
    }

    /// Lets go of what one lane had.
    pub(super) fn forget(&self, lane: DestinationNo) {
        self.known().remove(&lane);
    }

    /// Lets go of what all lanes had.
    pub(super) fn forget_all(&self) {
        self.known().clear();
    }

    fn known(&self) -> MutexGuard<'_, NumberMap<DestinationNo, Arc<Target>>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
