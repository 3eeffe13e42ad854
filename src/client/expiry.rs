//! When the certificates that receivers show expire: the last one seen in each lane.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use rustls::pki_types::CertificateDer;

use crate::model::DestinationNo;

/// Lanes that are kept in mind; beyond it, those whose certificates last longest are not.
const LANES_MAX: usize = 16_384;

/// What has been seen, in Unix seconds.
// Locked for a look or a change.
#[derive(Default)]
pub(super) struct Expiries(Mutex<HashMap<DestinationNo, i64>>);

impl Expiries {
    /// A receiver of this lane has shown a certificate that lasts until then.
    pub(super) fn note(&self, lane: DestinationNo, expires: i64) {
        let mut seen = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if seen.len() >= LANES_MAX && !seen.contains_key(&lane) {
            let Some((last, lasts)) = seen.iter().map(|(lane, at)| (*lane, *at)).max_by_key(|(_, at)| *at) else {
                return;
            };
            if lasts <= expires {
                return;
            }
            seen.remove(&last);
        }
        seen.insert(lane, expires);
    }

    /// The soonest of those in lanes that there still are; the others are forgotten.
    pub(super) fn soonest(&self, is_there: impl Fn(DestinationNo) -> bool) -> Option<i64> {
        let mut seen = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        seen.retain(|lane, _| is_there(*lane));
        seen.values().min().copied()
    }
}

/// When a certificate expires, in Unix seconds; `None` when it cannot be read, which its own verification has to judge.
pub(super) fn of(certificate: &CertificateDer<'_>) -> Option<i64> {
    let (_, certificate) = x509_parser::parse_x509_certificate(certificate).ok()?;
    Some(certificate.validity().not_after.timestamp())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_soonest_counts_and_memory_is_bounded() {
        let expiries = Expiries::default();
        assert_eq!(expiries.soonest(|_| true), None);
        for lane in 0..LANES_MAX as u32 {
            expiries.note(DestinationNo(lane), 1_000_000 + i64::from(lane));
        }
        let beyond = DestinationNo(LANES_MAX as u32);
        expiries.note(beyond, 9_000_000);
        assert_eq!(expiries.soonest(|lane| lane == beyond || lane.0 < 2), Some(1_000_000));
        assert_eq!(expiries.soonest(|lane| lane == beyond), None, "a full house keeps those that expire soon");
        for (lane, expires) in [(1, 30), (2, 20), (2, 40)] {
            expiries.note(DestinationNo(lane), expires);
        }
        assert_eq!(expiries.soonest(|_| true), Some(30), "a certificate replaces the one before it");
    }

    #[test]
    fn a_full_house_lets_the_longest_go_for_one_that_expires_sooner() {
        let expiries = Expiries::default();
        for lane in 0..LANES_MAX as u32 {
            expiries.note(DestinationNo(lane), 1_000 + i64::from(lane));
        }
        let beyond = DestinationNo(LANES_MAX as u32);
        expiries.note(beyond, 7);
        assert_eq!(expiries.soonest(|_| true), Some(7));
        assert_eq!(expiries.soonest(|lane| lane.0 == LANES_MAX as u32 - 1), None);
    }
}
