//! Ids: how things are numbered inside and named outside.
//!
//! Inside, an event is a [`Seq`] and a destination a [`DestinationNo`], because the store's keys are numbers in time
//! order. Outside, an event has one 128-bit id that holds the store's epoch, the sequence and a check, so that finding
//! its row needs no index and a mistyped id is told from an unknown one. The same 128 bits read as a UUID of version 8.

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::hash::{BuildHasherDefault, Hasher};
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use uuid::Uuid;

use super::Invalid;

/// A map by numbers that we have given out ourselves. Nobody outside chooses them, so it need not hold out against a choice.
pub type NumberMap<K, V> = HashMap<K, V, BuildHasherDefault<NumberHasher>>;
/// A set of such numbers.
pub type NumberSet<K> = HashSet<K, BuildHasherDefault<NumberHasher>>;

/// The hasher of [`NumberMap`]: a few multiplications, where the common one takes longer than the look-up itself.
#[derive(Debug, Clone, Copy, Default)]
pub struct NumberHasher(u64);

impl Hasher for NumberHasher {
    fn write(&mut self, bytes: &[u8]) {
        bytes.iter().for_each(|byte| self.write_u64(u64::from(*byte)));
    }

    fn write_u32(&mut self, number: u32) {
        self.write_u64(u64::from(number));
    }

    fn write_u64(&mut self, number: u64) {
        // The golden ratio's bits: neighbours end far apart.
        self.0 = (self.0.rotate_left(26) ^ number).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    }

    fn finish(&self) -> u64 {
        // A map looks at the lowest bits, and the highest ones depend on all.
        self.0.rotate_left(26)
    }
}

/// Which life of the store an event was written in: drawn at random when the store is created and when it is restored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Epoch(pub u32);

/// The place of an event in the one sequence of its store, given by the writer, never reused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Seq(pub u64);

impl Seq {
    /// Sequences have 50 bits in an id: a thousand events a second for thirty-five thousand years.
    pub const MAX: Seq = Seq((1 << 50) - 1);
}

impl fmt::Display for Seq {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The number of a destination inside this store; never reused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct DestinationNo(pub u32);

impl fmt::Display for DestinationNo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The number of a subscription inside this store; never reused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct SubscriptionNo(pub u32);

/// A destination's name outside: a UUID, written in upper case as source 002 does and read in any case.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct DestinationId(pub Uuid);

/// A subscription's name outside: a UUID, written in upper case and read in any case.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct SubscriptionId(pub Uuid);

macro_rules! upper_case_uuid {
    ($name:ident) => {
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(self.0.hyphenated().encode_upper(&mut Uuid::encode_buffer()))
            }
        }

        impl FromStr for $name {
            type Err = Invalid;

            fn from_str(text: &str) -> Result<Self, Invalid> {
                // Only the hyphenated form: the crate would also take braces and URNs, which no interface shows.
                if text.len() != 36 {
                    return Err(Invalid::new("not a UUID such as 9603F4B2-1874-42FE-A2BC-F7B45C45A9D6"));
                }
                Uuid::try_parse(text)
                    .map($name)
                    .map_err(|_| Invalid::new("not a UUID such as 9603F4B2-1874-42FE-A2BC-F7B45C45A9D6"))
            }
        }
    };
}

upper_case_uuid!(DestinationId);
upper_case_uuid!(SubscriptionId);

/// An event's name outside: 128 bits that are a UUID of version 8.
///
/// Of its 122 free bits the first 32 are the epoch, the next 50 the sequence, and the last 40 a check over both, cut
/// from a SHA-256. The check tells a mistyped id from an old one; it is no secret and proves no permission.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct EventId([u8; 16]);

const EVENT_PREFIX: &str = "evt_";
const DELIVERY_PREFIX: &str = "dlv_";
const CHECK_BITS: u32 = 40;
const SEQ_BITS: u32 = 50;

impl EventId {
    /// The id of the event `seq` that was written in `epoch`.
    pub fn new(epoch: Epoch, seq: Seq) -> Self {
        let check = check(epoch, seq);
        let payload = (u128::from(epoch.0) << (SEQ_BITS + CHECK_BITS))
            | (u128::from(seq.0 & Seq::MAX.0) << CHECK_BITS)
            | u128::from(check);
        EventId(version_8(payload).to_be_bytes())
    }

    /// The epoch and the sequence in it, when the check holds.
    pub fn parts(self) -> Option<(Epoch, Seq)> {
        let bits = u128::from_be_bytes(self.0);
        if (bits >> 76) & 0xf != 0x8 || (bits >> 62) & 0b11 != 0b10 {
            return None;
        }
        let payload = of_version_8(bits);
        let epoch = Epoch((payload >> (SEQ_BITS + CHECK_BITS)) as u32);
        let seq = Seq((payload >> CHECK_BITS) as u64 & Seq::MAX.0);
        (EventId::new(epoch, seq) == self).then_some((epoch, seq))
    }

    /// The sequence in the store. Every `EventId` that exists has passed its check.
    pub fn seq(self) -> Seq {
        self.parts().expect("an EventId is made by new or by a parse that checked it").1
    }

    /// The sixteen bytes.
    pub fn as_bytes(&self) -> &[u8; 16] {
        &self.0
    }

    /// The same 128 bits as a UUID of version 8.
    pub fn as_uuid(self) -> Uuid {
        Uuid::from_bytes(self.0)
    }

    /// The SHA-256 of the sixteen bytes in hex: the 64-character form that source 001 shows.
    pub fn as_hex_64(self) -> String {
        hex(&Sha256::digest(self.0))
    }
}

fn check(epoch: Epoch, seq: Seq) -> u64 {
    let mut hasher = Sha256::new();
    hasher.update(b"postrider event id");
    hasher.update(epoch.0.to_be_bytes());
    hasher.update(seq.0.to_be_bytes());
    let digest = hasher.finalize();
    digest[..5].iter().fold(0, |sum, byte| (sum << 8) | u64::from(*byte))
}

impl fmt::Display for EventId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{EVENT_PREFIX}{}", base32(&self.0))
    }
}

impl FromStr for EventId {
    type Err = Invalid;

    /// Reads the `evt_` form and, without regard to case, the UUID form.
    fn from_str(text: &str) -> Result<Self, Invalid> {
        let malformed = || Invalid::new("not an event id: evt_ and 26 characters, copied whole");
        let bytes: [u8; 16] = match text.strip_prefix(EVENT_PREFIX) {
            Some(rest) => unbase32(rest).ok_or_else(malformed)?,
            None if text.len() == 36 => *Uuid::try_parse(text).map_err(|_| malformed())?.as_bytes(),
            None => return Err(malformed()),
        };
        let id = EventId(bytes);
        id.parts().map(|_| id).ok_or_else(malformed)
    }
}

/// A delivery's name outside: `dlv_`, then the event's sixteen bytes and the destination's number in base32.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct DeliveryId {
    /// The event that is delivered.
    pub event: EventId,
    /// Where it is delivered to.
    pub destination: DestinationNo,
}

impl fmt::Display for DeliveryId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut bytes = [0; 20];
        bytes[..16].copy_from_slice(&self.event.0);
        bytes[16..].copy_from_slice(&self.destination.0.to_be_bytes());
        write!(f, "{DELIVERY_PREFIX}{}", base32(&bytes))
    }
}

impl FromStr for DeliveryId {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        let malformed = || Invalid::new("not a delivery id: dlv_ and 32 characters, copied whole");
        let rest = text.strip_prefix(DELIVERY_PREFIX).ok_or_else(malformed)?;
        let bytes: [u8; 20] = unbase32(rest).ok_or_else(malformed)?;
        let (event, destination) = bytes.split_at(16);
        let event = EventId(event.try_into().expect("split at sixteen"));
        event.parts().ok_or_else(malformed)?;
        let destination = u32::from_be_bytes(destination.try_into().expect("four of twenty remain"));
        Ok(DeliveryId { event, destination: DestinationNo(destination) })
    }
}

/// A delivery's name in the event history of source 002, where it is a UUID (of version 8).
///
/// Of its 122 free bits the first 50 are the event's sequence, the next 32 the destination's number, and the last 40 a check
/// over both and the event's epoch: with the event at hand it is known whether the delivery is meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct RunId(Uuid);

const DESTINATION_BITS: u32 = 32;

/// A command's name: a UUID of version 8 of the command's number, by which it is found, and chance, so that nobody guesses
/// one. Written in lower case.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct CommandId(Uuid);

/// Bits of chance in a command's name, below its number.
const COMMAND_CHANCE_BITS: u32 = 74;

impl CommandId {
    /// Of the command of this number; of the number the lower 48 bits count, and of chance the lower 74.
    pub fn new(number: u64, chance: u128) -> Self {
        let chance = chance & ((1 << COMMAND_CHANCE_BITS) - 1);
        let number = u128::from(number & ((1 << 48) - 1));
        CommandId(Uuid::from_u128(version_8((number << COMMAND_CHANCE_BITS) | chance)))
    }

    /// Which number it may be of: to be compared with the command that is there.
    pub fn number(self) -> u64 {
        (of_version_8(self.0.as_u128()) >> COMMAND_CHANCE_BITS) as u64
    }
}

impl fmt::Display for CommandId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.as_hyphenated().fmt(f)
    }
}

impl FromStr for CommandId {
    type Err = Invalid;

    /// Reads any UUID, without regard to case: whether it is a command's is for the command to say.
    fn from_str(text: &str) -> Result<Self, Invalid> {
        text.parse().map(|DestinationId(uuid)| CommandId(uuid))
    }
}

impl RunId {
    /// Of this delivery.
    pub fn of(delivery: DeliveryId) -> Self {
        let (event, destination) = (delivery.event.0, delivery.destination.0);
        let digest = Sha256::new().chain_update(b"run").chain_update(event).chain_update(destination.to_be_bytes());
        let check = digest.finalize()[..5].iter().fold(0u128, |sum, byte| (sum << 8) | u128::from(*byte));
        let payload = (u128::from(delivery.event.seq().0) << (DESTINATION_BITS + CHECK_BITS))
            | (u128::from(destination) << CHECK_BITS)
            | check;
        RunId(Uuid::from_u128(version_8(payload)))
    }

    /// Which event and which destination it may be of: to be compared with [`RunId::of`] what is there.
    pub fn hint(self) -> (Seq, DestinationNo) {
        let payload = of_version_8(self.0.as_u128());
        let seq = (payload >> (DESTINATION_BITS + CHECK_BITS)) as u64 & Seq::MAX.0;
        (Seq(seq), DestinationNo((payload >> CHECK_BITS) as u32))
    }

    /// The UUID's bytes.
    pub fn as_bytes(&self) -> &[u8; 16] {
        self.0.as_bytes()
    }
}

impl fmt::Display for RunId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        DestinationId(self.0).fmt(f)
    }
}

impl FromStr for RunId {
    type Err = Invalid;

    /// Reads any UUID, without regard to case: whether it is a run's is for its event to say.
    fn from_str(text: &str) -> Result<Self, Invalid> {
        text.parse().map(|DestinationId(uuid)| RunId(uuid))
    }
}

/// 122 bits as a UUID of version 8. RFC 9562: 48 bits, the version, 12 bits, the variant (binary 10), 62 bits.
fn version_8(payload: u128) -> u128 {
    let high = payload >> 74;
    let middle = (payload >> 62) & 0xfff;
    let low = payload & ((1 << 62) - 1);
    (high << 80) | (0x8 << 76) | (middle << 64) | (0b10 << 62) | low
}

/// The 122 bits of such a UUID.
fn of_version_8(bits: u128) -> u128 {
    ((bits >> 80) << 74) | (((bits >> 64) & 0xfff) << 62) | (bits & ((1 << 62) - 1))
}

/// Lower-case hex.
pub fn hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let mut text = String::with_capacity(bytes.len() * 2);
    for byte in bytes {
        text.push(DIGITS[usize::from(byte >> 4)] as char);
        text.push(DIGITS[usize::from(byte & 0xf)] as char);
    }
    text
}

/// Crockford's base32 in lower case: no i, l, o, u, so that an id survives being read aloud.
pub fn base32(bytes: &[u8]) -> String {
    let mut text = String::with_capacity((bytes.len() * 8).div_ceil(5));
    for five in bytes.chunks(5) {
        // Forty bits are eight digits, so nothing is carried from one chunk to the next.
        let mut held = [0; 8];
        held[..five.len()].copy_from_slice(five);
        let held = u64::from_be_bytes(held);
        let digits: [u8; 8] = std::array::from_fn(|place| BASE32[(held >> (59 - 5 * place)) as usize & 31]);
        let filled = (five.len() * 8).div_ceil(5);
        text.push_str(str::from_utf8(&digits[..filled]).expect("the digits are ASCII"));
    }
    text
}

const BASE32: &[u8; 32] = b"0123456789abcdefghjkmnpqrstvwxyz";

/// The bytes that [`base32`] wrote; `None` when the length or a character does not fit. Upper case is read too.
pub fn unbase32<const N: usize>(text: &str) -> Option<[u8; N]> {
    if text.len() != (N * 8).div_ceil(5) {
        return None;
    }
    let mut bytes = [0; N];
    let (mut held, mut bits, mut filled) = (0u32, 0, 0);
    for character in text.bytes() {
        let digit = BASE32.iter().position(|known| *known == character.to_ascii_lowercase())?;
        held = (held << 5) | digit as u32;
        bits += 5;
        if bits >= 8 {
            bits -= 8;
            bytes[filled] = (held >> bits) as u8;
            filled += 1;
            held &= (1 << bits) - 1;
        }
    }
    // Spare bits must be zero: one value has one spelling.
    (held == 0 && filled == N).then_some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn an_event_id_survives_each_of_its_forms(epoch: u32, seq in 0..=Seq::MAX.0, destination: u32) {
            let id = EventId::new(Epoch(epoch), Seq(seq));
            prop_assert_eq!(id.parts(), Some((Epoch(epoch), Seq(seq))));
            prop_assert_eq!(id.to_string().parse(), Ok(id));
            prop_assert_eq!(id.to_string().len(), 4 + 26);
            prop_assert_eq!(id.as_uuid().to_string().to_uppercase().parse(), Ok(id));
            prop_assert_eq!(id.as_uuid().get_version_num(), 8);
            let delivery = DeliveryId { event: id, destination: DestinationNo(destination) };
            prop_assert_eq!(delivery.to_string().parse(), Ok(delivery));
            let run = RunId::of(delivery);
            prop_assert_eq!(run.to_string().to_lowercase().parse(), Ok(run));
            prop_assert_eq!(run.hint(), (Seq(seq), DestinationNo(destination)));
            let elsewhere = DeliveryId { event: EventId::new(Epoch(epoch ^ 1), Seq(seq)), ..delivery };
            prop_assert_ne!(RunId::of(elsewhere), run);
        }

        #[test]
        fn a_command_is_found_by_its_name(number in 0u64..1 << 48, chance: u128) {
            let id = CommandId::new(number, chance);
            prop_assert_eq!(id.number(), number);
            prop_assert_eq!(id.to_string().to_uppercase().parse(), Ok(id));
            prop_assert_ne!(CommandId::new(number, chance ^ 1), id);
        }

        #[test]
        fn a_mistyped_event_id_is_malformed(seq in 0..1u64 << 40, place in 4usize..30, other in 0usize..32) {
            let id = EventId::new(Epoch(7), Seq(seq)).to_string();
            let mut typed = id.clone().into_bytes();
            typed[place] = BASE32[other];
            let typed = String::from_utf8(typed).unwrap();
            prop_assert_eq!(typed.parse::<EventId>().is_ok(), typed == id);
        }
    }

    #[test]
    fn event_ids_of_one_epoch_sort_by_sequence() {
        let texts: Vec<_> = [0, 1, 31, 32, 1 << 20, 1 << 49].map(|n| EventId::new(Epoch(9), Seq(n)).to_string()).into();
        assert!(texts.is_sorted());
    }

    #[test]
    fn the_64_character_form_is_hex_and_stable() {
        let id = EventId::new(Epoch(1), Seq(1));
        assert_eq!(id.as_hex_64().len(), 64);
        assert_eq!(id.as_hex_64(), EventId::new(Epoch(1), Seq(1)).as_hex_64());
    }

    #[test]
    fn a_destination_id_is_written_in_upper_case_and_read_in_any() {
        let text = "9603f4b2-1874-42fe-a2bc-f7b45c45a9d6";
        let id: DestinationId = text.parse().unwrap();
        assert_eq!(id.to_string(), text.to_uppercase());
        for wrong in ["", "9603f4b2187442fea2bcf7b45c45a9d6", "{9603f4b2-1874-42fe-a2bc-f7b45c45a9d6}"] {
            assert!(wrong.parse::<DestinationId>().is_err(), "{wrong}");
        }
    }
}
