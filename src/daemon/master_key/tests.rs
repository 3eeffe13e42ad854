//! Key files: what is one, what is none, and that none is ever made twice.

use std::os::unix::fs::PermissionsExt;

use super::*;
use crate::config::ByteSize;

struct Home(tempfile::TempDir);

impl Home {
    fn new() -> Self {
        Home(tempfile::tempdir().unwrap())
    }

    fn at(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn put(&self, name: &str, bytes: &[u8], mode: u32) -> PathBuf {
        let path = self.at(name);
        std::fs::write(&path, bytes).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
        path
    }

    fn config(&self, master_key: config::MasterKey) -> config::Store {
        config::Store { path: self.at("sub/postrider.redb"), master_key, cache: ByteSize::mib(1) }
    }
}

fn is_key(bytes: &[u8]) -> bool {
    parse(bytes).is_some()
}

#[test]
fn a_key_is_32_bytes_raw_or_in_hex_or_in_base64() {
    assert!(is_key(&[0xff; 32]));
    assert!(is_key(&[b'\n'; 32]), "raw bytes are taken as they are");
    let hex = "0f".repeat(32);
    for text in [hex.clone(), format!("  {}\r\n", hex.to_uppercase())] {
        assert!(is_key(text.as_bytes()), "{text}");
    }
    let plain = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";
    for text in [plain, plain.trim_end_matches('='), &format!("{plain}\n")] {
        assert!(is_key(text.as_bytes()), "{text}");
    }
    assert!(is_key("-_-_-_-_-_-_-_-_-_-_-_-_-_-_-_-_-_-_-_-_-_8=".as_bytes()), "the alphabet of URLs");
    let short = [&b""[..], b"\n", &[1; 31], &[1; 33], &hex.as_bytes()[..62], b"not a key", &[b'g'; 64]];
    for bytes in short {
        assert!(!is_key(bytes), "{bytes:?}");
    }
}

#[test]
fn a_key_is_made_once_for_its_owner_only_and_kept() {
    let home = Home::new();
    let config = home.config(config::MasterKey::Beside);
    read_or_make(&config).unwrap();
    let key = home.at("sub/postrider.redb.key");
    let made = std::fs::read(&key).unwrap();
    assert!(is_key(&made));
    assert_eq!(std::fs::metadata(&key).unwrap().permissions().mode() & 0o777, 0o600);
    assert!(!home.at("sub/postrider.redb.key.new").exists());
    // A start that was killed between the key and the store goes on with that key, and so does every later one.
    read_or_make(&config).unwrap();
    std::fs::write(&config.path, b"a store").unwrap();
    read_or_make(&config).unwrap();
    make(&key).unwrap();
    assert_eq!(std::fs::read(&key).unwrap(), made);
}

/// Killed while the key was being written: what lies there is no key yet, and is begun anew.
#[test]
fn a_key_that_was_cut_short_in_the_making_is_made_anew() {
    let home = Home::new();
    std::fs::create_dir(home.at("sub")).unwrap();
    home.put("sub/postrider.redb.key.new", &[b'7'; 100], 0o600);
    read_or_make(&home.config(config::MasterKey::Beside)).unwrap();
    assert_eq!(std::fs::read(home.at("sub/postrider.redb.key")).unwrap().len(), 65);
}

/// Two daemons that start on nothing at the same moment come out with one key.
#[test]
fn two_starts_at_once_make_one_key() {
    let home = Home::new();
    let config = home.config(config::MasterKey::Beside);
    let keys: Vec<Vec<u8>> = std::thread::scope(|scope| {
        let start = || {
            read_or_make(&config).unwrap();
            std::fs::read(home.at("sub/postrider.redb.key")).unwrap()
        };
        let starts: Vec<_> = (0..8).map(|_| scope.spawn(start)).collect();
        starts.into_iter().map(|start| start.join().unwrap()).collect()
    });
    assert!(keys.iter().all(|key| *key == keys[0]));
}

#[test]
fn a_store_without_its_key_is_an_error_that_makes_nothing() {
    let home = Home::new();
    std::fs::create_dir(home.at("sub")).unwrap();
    home.put("sub/postrider.redb", b"a store", 0o600);
    for source in [config::MasterKey::Beside, config::MasterKey::File(home.at("key"))] {
        let config = home.config(source);
        for error in [read_or_make(&config).unwrap_err(), read(&config).unwrap_err()] {
            let MasterKeyError::Missing { key, store } = &error else { panic!("{error}") };
            assert_eq!((key, store), (&place(&config).unwrap(), &config.path));
            assert!(error.help().contains("backup"), "{}", error.help());
        }
    }
    assert_eq!(std::fs::read_dir(home.at("sub")).unwrap().count(), 1, "nothing was made");
}

#[test]
fn a_named_key_is_never_made() {
    let home = Home::new();
    let error = read_or_make(&home.config(config::MasterKey::File(home.at("key")))).unwrap_err();
    assert!(matches!(error, MasterKeyError::Io { doing: "read", .. }), "{error}");
    assert!(!home.at("key").exists());
}

#[test]
fn a_truncated_key_and_one_that_everybody_reads_are_refused_with_the_remedy() {
    let home = Home::new();
    let config = home.config(config::MasterKey::File(home.put("key", &[b'0'; 63], 0o600)));
    let error = read_or_make(&config).unwrap_err();
    assert!(matches!(error, MasterKeyError::NoKey { bytes: 63, .. }), "{error}");
    for (mode, allowed) in [(0o644, false), (0o602, false), (0o640, true), (0o400, true)] {
        home.put("key", &[7; 32], 0o600);
        std::fs::set_permissions(home.at("key"), std::fs::Permissions::from_mode(mode)).unwrap();
        match read_or_make(&config) {
            Ok(_) => assert!(allowed, "{mode:o}"),
            Err(error) => {
                assert!(matches!(error, MasterKeyError::Open { mode: found, .. } if found == mode), "{error}");
                assert_eq!(error.help(), format!("chmod 600 {}", home.at("key").display()));
            }
        }
        std::fs::set_permissions(home.at("key"), std::fs::Permissions::from_mode(0o600)).unwrap();
    }
}
