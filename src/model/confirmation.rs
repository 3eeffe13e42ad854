//! Confirmation: whether a receiver has shown that it wants deliveries, and how it is asked (decisions D14, D22, D24).

use serde::{Deserialize, Serialize};

use super::EventType;
use super::milestone::CONFIRMATION;

/// Whether a destination's receiver has shown that it wants deliveries.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum Confirmation {
    /// It has, or need not.
    #[default]
    Given,
    /// It never has: nothing but the request for it is queued (decision D24).
    Awaited,
    /// It had, for another URL: what comes waits until it does again (decision D14).
    Lapsed,
}

/// What confirms a destination (decision D22).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ConfirmationMode {
    /// Any success.
    #[default]
    Ack,
    /// A reply that contains the challenge.
    Echo,
    /// Nothing is asked: destinations are confirmed from creation.
    Off,
}

impl ConfirmationMode {
    /// Every mode there is.
    pub const ALL: [ConfirmationMode; 3] = [ConfirmationMode::Ack, ConfirmationMode::Echo, ConfirmationMode::Off];

    /// The mode's name in the configuration.
    pub fn as_str(self) -> &'static str {
        match self {
            ConfirmationMode::Ack => "ack",
            ConfirmationMode::Echo => "echo",
            ConfirmationMode::Off => "off",
        }
    }

    /// The mode of this name.
    pub fn named(name: &str) -> Option<Self> {
        ConfirmationMode::ALL.into_iter().find(|mode| mode.as_str() == name)
    }
}

/// The data of the event that asks a receiver for its confirmation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConfirmationRequest {
    /// Random; letters and digits only.
    pub challenge: String,
    /// Which destination asks, as it is named outside.
    pub destination_id: String,
}

impl ConfirmationRequest {
    /// The type of that event.
    pub fn event_type() -> EventType {
        CONFIRMATION.parse().expect("it is within the bounds of an event's type")
    }
}
