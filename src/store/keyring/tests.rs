//! Keys and counters: none is ever used twice, and only the right master key opens anything.

use std::collections::HashSet;

use super::*;

fn keys(master: u8, chance: u8) -> Keys {
    Keys::new(MasterKey::new([master; KEY_BYTES]), [chance; Keys::CHANCE_BYTES])
}

fn row(keyring: &Keyring) -> (u32, Vec<u8>) {
    let (id, wrapped) = keyring.row();
    (id, wrapped.to_vec())
}

/// Each start seals with a key of its own number, and each seal with a counter of its own: no nonce comes twice, not even
/// when chance gives the same key again.
#[test]
fn no_nonce_comes_twice_in_one_start_or_the_next() {
    let mut rows = Vec::new();
    let mut nonces = HashSet::new();
    for _ in 0..5 {
        let keyring = Keyring::open(&keys(1, 2), rows.iter().cloned()).unwrap();
        rows.push(row(&keyring));
        for bytes in [0, 1, 15, 16, 17, 4096, 1 << 20, 0, 0] {
            let (id, counter) = keyring.take(bytes);
            assert!(nonces.insert(nonce(id, counter)), "the first part");
            assert!(nonces.insert(nonce(id, counter + 1)), "the second part");
        }
    }
}

#[test]
fn what_an_earlier_start_sealed_opens_in_a_later_one() {
    let first = Keyring::open(&keys(1, 2), std::iter::empty()).unwrap();
    let (id, counter) = first.take(4);
    let mut bytes = b"text".to_vec();
    let tag = first.seal(counter, b"here", &mut bytes);
    assert_ne!(bytes, b"text");
    bytes.extend_from_slice(&tag);
    let second = Keyring::open(&keys(1, 3), [row(&first)].into_iter()).unwrap();
    assert_eq!(second.row().0, id + 1);
    assert_eq!(second.open_record(id, counter, b"here", &bytes), Some(Ok(b"text".to_vec())));
    assert_eq!(second.open_record(id, counter, b"there", &bytes), Some(Err(Broken)));
    assert_eq!(second.open_record(id, counter + 1, b"here", &bytes), Some(Err(Broken)));
    assert_eq!(second.open_record(id + 1, counter, b"here", &bytes), Some(Err(Broken)));
    assert_eq!(second.open_record(id + 2, counter, b"here", &bytes), None, "there is no such key");
}

#[test]
fn another_master_key_opens_nothing() {
    let first = Keyring::open(&keys(1, 2), std::iter::empty()).unwrap();
    assert_eq!(Keyring::open(&keys(9, 2), [row(&first)].into_iter()).err(), Some(WrongKey));
}

/// One damaged row makes its own records unreadable, and is no reason to doubt the master key.
#[test]
fn a_damaged_key_row_costs_its_own_records_only() {
    let first = Keyring::open(&keys(1, 2), std::iter::empty()).unwrap();
    let second = Keyring::open(&keys(1, 3), [row(&first)].into_iter()).unwrap();
    let (id, mut wrapped) = row(&second);
    wrapped[20] ^= 1;
    let third = Keyring::open(&keys(1, 4), [row(&first), (id, wrapped)].into_iter()).unwrap();
    assert_eq!(third.row().0, id + 1);
    assert_eq!(third.open_record(id, 0, b"here", &[0; 32]), None);
    assert_eq!(third.open_record(1, 0, b"here", &[0; 32]), Some(Err(Broken)));
}

/// A wrapped key stands for its own number: two rows cannot be swapped.
#[test]
fn a_key_row_under_another_number_does_not_open() {
    let first = Keyring::open(&keys(1, 2), std::iter::empty()).unwrap();
    let (id, wrapped) = row(&first);
    assert_eq!(Keyring::open(&keys(1, 3), [(id + 1, wrapped)].into_iter()).err(), Some(WrongKey));
}

/// NIST SP 800-38D bounds what one key may seal: long before that the store asks for a new start.
#[test]
fn a_key_says_when_it_has_sealed_enough() {
    let keyring = Keyring::open(&keys(1, 2), std::iter::empty()).unwrap();
    keyring.blocks.store(BLOCKS_MAX - 1, Ordering::Relaxed);
    assert!(!keyring.is_spent());
    keyring.take(0);
    assert!(keyring.is_spent());
}
