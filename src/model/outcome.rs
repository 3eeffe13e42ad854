//! What an attempt came to, and why: closed lists that reach as far as the log and the API.

use serde::{Deserialize, Serialize};

/// What became of one attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Outcome {
    /// The destination's success predicate held.
    Succeeded,
    /// It did not, or no reply came.
    Failed,
    /// The reply was lost, cut by a crash or a reset: the receiver may have taken the event.
    Unknown,
}

impl Outcome {
    /// Every outcome there is.
    pub const ALL: [Outcome; 3] = [Outcome::Succeeded, Outcome::Failed, Outcome::Unknown];

    /// The outcome's name in the API, the log and the metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Outcome::Succeeded => "succeeded",
            Outcome::Failed => "failed",
            Outcome::Unknown => "unknown",
        }
    }
}

macro_rules! reasons {
    ($($(#[$doc:meta])* $variant:ident = $name:literal,)*) => {
        /// Why an attempt did not succeed.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
        pub enum Reason { $($(#[$doc])* $variant,)* }

        impl Reason {
            /// Every reason there is.
            pub const ALL: &[Reason] = &[$(Reason::$variant,)*];

            /// The reason's name in the API, the log and the metrics.
            pub fn as_str(self) -> &'static str {
                match self { $(Reason::$variant => $name,)* }
            }
        }
    };
}

reasons! {
    /// A reply with a status outside the destination's success set.
    Status = "status",
    /// The status was right, but the body did not say what the predicate asks for.
    Predicate = "predicate",
    /// A 3xx: redirects are never followed.
    Redirect = "redirect",
    /// A 410.
    Gone = "gone",
    /// No connection within the limit.
    TimeoutConnect = "timeout_connect",
    /// No TLS session within the limit.
    TimeoutTls = "timeout_tls",
    /// No first byte of a reply within the limit.
    TimeoutHead = "timeout_head",
    /// The whole attempt's deadline passed.
    TimeoutTotal = "timeout_total",
    /// The connection was refused, or the network was unreachable.
    Refused = "refused",
    /// The connection ended before a reply.
    Reset = "reset",
    /// The name could not be resolved.
    Dns = "dns",
    /// The certificate has expired or is not valid yet.
    TlsExpired = "tls_expired",
    /// The certificate is for another name.
    TlsName = "tls_name",
    /// No trusted authority vouches for the certificate.
    TlsUntrusted = "tls_untrusted",
    /// TLS failed in another way.
    TlsHandshake = "tls_handshake",
    /// The certificate is not the pinned one.
    TlsPin = "tls_pin",
    /// The reply's head was over its limit.
    HeadTooLarge = "head_too_large",
    /// What came was not a final HTTP/1.1 reply.
    ProtocolError = "protocol_error",
    /// The address guard refused the destination.
    BlockedDestination = "blocked_destination",
    /// The daemon stopped, or failed, in the middle.
    Interrupted = "interrupted",
}

impl Reason {
    /// Whether the receiver kept us waiting: such destinations share a bounded part of the slots.
    pub fn is_timeout(self) -> bool {
        matches!(self, Reason::TimeoutConnect | Reason::TimeoutTls | Reason::TimeoutHead | Reason::TimeoutTotal)
    }
}
