//! The master key: read from a file or a credential, or made beside a new store.
//!
//! A key that is made here is whole and synced before the store that needs it has a name, and is never made again: a store
//! whose key is missing is an error that says so.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD_NO_PAD, URL_SAFE_NO_PAD};
use secrecy::zeroize::Zeroizing;

use crate::config;
use crate::store::{KEY_BYTES, MasterKey, is_there};

use super::chance;

/// A key file is no larger: 32 bytes, or text of them with some white space.
const FILE_BYTES_MAX: u64 = 1024;

/// Why there is no master key. Nothing has been changed.
#[derive(Debug, thiserror::Error)]
pub enum MasterKeyError {
    /// There is a store, and no key for it.
    #[error("the store {store} is there, but its master key {key} is not: without it nothing in the store can be read")]
    Missing {
        /// The key file.
        key: PathBuf,
        /// The store.
        store: PathBuf,
    },
    /// The key is another store's.
    #[error("the master key {key} does not open the store {store}; nothing was changed")]
    Wrong {
        /// The key file.
        key: PathBuf,
        /// The store.
        store: PathBuf,
    },
    /// The file cannot be read, or not be made.
    #[error("{doing} the master key {key}: {cause}")]
    Io {
        /// Read or make.
        doing: &'static str,
        /// The key file.
        key: PathBuf,
        /// What the system said.
        cause: io::Error,
    },
    /// The file holds no key.
    #[error(
        "the master key {key} is {bytes} bytes long and no key: a key is 32 bytes, as they are, in hex or in base64"
    )]
    NoKey {
        /// The key file.
        key: PathBuf,
        /// How long it is.
        bytes: usize,
    },
    /// Everybody may read the file.
    #[error("the master key {key} has mode {mode:03o}: whoever is on this machine may read or change it")]
    Open {
        /// The key file.
        key: PathBuf,
        /// Its mode.
        mode: u32,
    },
    /// A credential is configured, and systemd gave none.
    #[error("store.master_key names the credential {name}, but $CREDENTIALS_DIRECTORY is not set")]
    NoCredentials {
        /// The credential.
        name: String,
    },
}

impl MasterKeyError {
    /// The file, or what else is meant.
    pub fn place(&self) -> String {
        match self {
            MasterKeyError::Missing { key, .. }
            | MasterKeyError::Wrong { key, .. }
            | MasterKeyError::Io { key, .. }
            | MasterKeyError::NoKey { key, .. }
            | MasterKeyError::Open { key, .. } => key.display().to_string(),
            MasterKeyError::NoCredentials { name } => format!("store.master_key = \"credential:{name}\""),
        }
    }

    /// What helps.
    pub fn help(&self) -> String {
        match self {
            MasterKeyError::Missing { store, .. } => format!(
                "bring the key file back from a backup, or name it (store.master_key); or begin anew: move {} away",
                store.display()
            ),
            MasterKeyError::Wrong { .. } => {
                "bring the store's own key file back, or name it (store.master_key)".to_owned()
            }
            MasterKeyError::Io { key, .. } => format!("ls -l {}    # the daemon's user must be able to", key.display()),
            MasterKeyError::NoKey { key, .. } => {
                format!("bring the true file back; for a new store: openssl rand -hex 32 > {}", key.display())
            }
            MasterKeyError::Open { key, .. } => format!("chmod 600 {}", key.display()),
            MasterKeyError::NoCredentials { name } => {
                format!("LoadCredential={name}:/path/of/the/key in the unit's [Service], or name a file")
            }
        }
    }
}

/// Where the master key of a configuration lies.
pub fn place(store: &config::Store) -> Result<PathBuf, MasterKeyError> {
    match &store.master_key {
        config::MasterKey::Beside => Ok(beside(&store.path)),
        config::MasterKey::File(path) => Ok(path.clone()),
        config::MasterKey::Credential(name) => match std::env::var_os("CREDENTIALS_DIRECTORY") {
            Some(folder) if !folder.is_empty() => Ok(Path::new(&folder).join(name)),
            Some(_) | None => Err(MasterKeyError::NoCredentials { name: name.clone() }),
        },
    }
}

/// The master key of a configuration, as it is. For a store that is there.
pub fn read(store: &config::Store) -> Result<MasterKey, MasterKeyError> {
    let key = place(store)?;
    match read_at(&key, &store.master_key)? {
        Some(found) => Ok(found),
        None => Err(MasterKeyError::Missing { key, store: store.path.clone() }),
    }
}

/// The master key of a configuration; made where none is named and there is no store yet.
pub fn read_or_make(store: &config::Store) -> Result<MasterKey, MasterKeyError> {
    let key = place(store)?;
    if let Some(found) = read_at(&key, &store.master_key)? {
        return Ok(found);
    }
    let made_here = store.master_key == config::MasterKey::Beside;
    let is_new = matches!(is_there(&store.path), Ok(false));
    if !made_here && is_new {
        let cause = io::Error::from(io::ErrorKind::NotFound);
        return Err(MasterKeyError::Io { doing: "read", key, cause });
    }
    if made_here && is_new {
        make(&key).map_err(|cause| MasterKeyError::Io { doing: "make", key: key.clone(), cause })?;
    }
    // Whoever came first has made it; when the store was there before, it is still missing.
    match read_at(&key, &store.master_key)? {
        Some(found) => Ok(found),
        None => Err(MasterKeyError::Missing { key, store: store.path.clone() }),
    }
}

/// The key file that is made for a store: its name, and `.key`.
pub fn beside(store: &Path) -> PathBuf {
    with_suffix(store, ".key")
}

fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

/// The key in a file; `None` when there is no file.
fn read_at(key: &Path, source: &config::MasterKey) -> Result<Option<MasterKey>, MasterKeyError> {
    let failed = |cause| MasterKeyError::Io { doing: "read", key: key.to_owned(), cause };
    let file = match File::open(key) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(failed(error)),
    };
    let mode = file.metadata().map_err(failed)?.permissions().mode() & 0o777;
    // systemd decides on the modes of credentials; their folder is the service's own.
    if mode & 0o007 != 0 && !matches!(source, config::MasterKey::Credential(_)) {
        return Err(MasterKeyError::Open { key: key.to_owned(), mode });
    }
    let mut bytes = Zeroizing::new(Vec::with_capacity(FILE_BYTES_MAX as usize));
    file.take(FILE_BYTES_MAX).read_to_end(&mut bytes).map_err(failed)?;
    match parse(&bytes) {
        Some(found) => Ok(Some(found)),
        None => Err(MasterKeyError::NoKey { key: key.to_owned(), bytes: bytes.len() }),
    }
}

/// 32 bytes as they are, or as text: 64 digits of hex, or base64 of either alphabet, with white space around it.
fn parse(bytes: &[u8]) -> Option<MasterKey> {
    if let Ok(raw) = <[u8; KEY_BYTES]>::try_from(bytes) {
        return Some(MasterKey::new(raw));
    }
    let text = bytes.trim_ascii();
    let decoded = Zeroizing::new(if text.len() == 2 * KEY_BYTES {
        let digit = |byte: u8| (byte as char).to_digit(16);
        let pair = |pair: &[u8]| Some((digit(pair[0])? << 4 | digit(pair[1])?) as u8);
        text.chunks(2).map(pair).collect::<Option<Vec<u8>>>()?
    } else {
        let text = text.strip_suffix(b"=").unwrap_or(text);
        STANDARD_NO_PAD.decode(text).or_else(|_| URL_SAFE_NO_PAD.decode(text)).ok()?
    });
    Some(MasterKey::new(decoded.as_slice().try_into().ok()?))
}

/// Makes a key file, unless there is one by then. A power cut leaves a whole one or none.
fn make(key: &Path) -> io::Result<()> {
    let folder = match key.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        Some(_) | None => Path::new("."),
    };
    std::fs::create_dir_all(folder)?;
    let draft = with_suffix(key, ".new");
    let mut file = OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(&draft)?;
    // Held by whoever makes the key; the file that was the draft may be the key when we have it.
    file.lock()?;
    if key.exists() {
        return Ok(());
    }
    let mut bytes = Zeroizing::new([0; KEY_BYTES]);
    chance(&mut bytes[..]);
    let text = Zeroizing::new(crate::model::id::hex(&bytes[..]) + "\n");
    file.set_permissions(std::fs::Permissions::from_mode(0o600))?;
    file.set_len(0)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    std::fs::rename(&draft, key)?;
    File::open(folder)?.sync_all()?;
    tracing::info!(
        event = "master_key_made",
        path = %key.display(),
        "made a master key beside the new store; keep a copy of it elsewhere: without it the store cannot be read"
    );
    Ok(())
}

#[cfg(test)]
mod tests;
