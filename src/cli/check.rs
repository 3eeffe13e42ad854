//! `check`: what `serve` would find, without serving.
//!
//! Reads the configuration and looks at what it names: folders, groups, certificates, the store's lock, the listeners'
//! addresses. A daemon that already runs on this very configuration is no fault: `check` is what one runs before a
//! reload.

use std::io::{self, Write};
use std::os::unix::fs::FileTypeExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use nix::fcntl::FcntlArg;
use nix::unistd::AccessFlags;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

use super::config::ConfigArguments;
use super::{Details, Exit, Failure, Form, Trouble};
use crate::config::{Config, Group, Loaded, MasterKey, Who};
use crate::daemon::{MasterKeyError, StartError, master_key};

/// What lies where the store shall be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum StoreState {
    /// Nothing yet: `serve` makes it.
    New,
    /// A file that nobody holds.
    Free,
    /// A file that the daemon of this configuration holds.
    Running,
}

impl StoreState {
    fn as_str(self) -> &'static str {
        match self {
            StoreState::New => "new",
            StoreState::Free => "free",
            StoreState::Running => "running",
        }
    }
}

pub(super) fn run(arguments: &ConfigArguments, form: Form) -> Result<Exit, Failure> {
    let Loaded { config, files, .. } = arguments.load()?;
    let is_running = UnixStream::connect(&config.admin.socket).is_ok();
    let mut troubles = Vec::new();
    let store = check_store(&config, is_running, &mut troubles);
    let key = check_master_key(&config, store, &mut troubles);
    check_sockets(&config, is_running, &mut troubles);
    check_listener(&config, is_running, &mut troubles);
    check_groups(&config, &mut troubles);
    check_certificates(&config, &mut troubles);
    check_source_address(&config, &mut troubles);
    match crate::daemon::Settings::of(&config) {
        // Groups have been looked at above.
        Ok(_) | Err(StartError::Group { .. }) => {}
        Err(error) => troubles.extend(super::serve::failure(error).troubles),
    }
    if !troubles.is_empty() {
        return Err(Failure { exit: Exit::BadConfig, troubles, details: Details::default() });
    }
    report(&config, &files, store, key.as_ref(), form)?;
    Ok(Exit::Done)
}

fn report(config: &Config, files: &[PathBuf], store: StoreState, key: Option<&Key>, form: Form) -> io::Result<()> {
    let mut out = anstream::stdout().lock();
    let mut listens =
        vec![format!("unix:{}", config.ingest.socket.display()), format!("unix:{}", config.admin.socket.display())];
    if let Some(address) = config.admin.listen {
        let scheme = if config.admin.tls.is_some() { "https" } else { "http" };
        listens.push(format!("{scheme}://{address}"));
    }
    match form {
        Form::Json => {
            let store = serde_json::json!({ "path": config.store.path, "state": store.as_str() });
            let key = key.map(|key| serde_json::json!({ "path": key.path, "state": key.state() }));
            let all = serde_json::json!({ "ok": true, "files": files, "store": store, "master_key": key, "listens": listens });
            writeln!(out, "{all}")
        }
        Form::Text => {
            if files.is_empty() {
                writeln!(out, "reads    no file: the defaults hold")?;
            }
            for file in files {
                writeln!(out, "reads    {}", file.display())?;
            }
            let state = match store {
                StoreState::New => "does not exist yet, will be made",
                StoreState::Free => "exists, nobody holds it",
                StoreState::Running => "held by the daemon that runs on this configuration",
            };
            writeln!(out, "store    {} ({state})", config.store.path.display())?;
            if let Some(key) = key {
                let state = if key.is_there {
                    "a whole key, for nobody else to read"
                } else {
                    "does not exist yet, will be made"
                };
                writeln!(out, "key      {} ({state})", key.path.display())?;
            }
            for address in listens {
                writeln!(out, "listens  {address}")?;
            }
            writeln!(out, "the configuration is right")
        }
    }
}

fn check_store(config: &Config, is_running: bool, troubles: &mut Vec<Trouble>) -> StoreState {
    let path = &config.store.path;
    let place = || format!("store.path = {}", path.display());
    let file = match std::fs::OpenOptions::new().read(true).write(true).open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => match crate::daemon::is_store_there(path) {
            Ok(_) => {
                check_folder("the store", path, place(), troubles);
                return StoreState::New;
            }
            Err(error) => {
                troubles.extend(super::serve::open_failure("the store cannot be opened", error.into()).troubles);
                return StoreState::Free;
            }
        },
        Err(error) => {
            let help = format!("ls -l {}    # the daemon's user reads and writes it", path.display());
            troubles.push(Trouble::new("the store cannot be opened", place(), error.to_string(), help));
            return StoreState::Free;
        }
    };
    match is_locked(&file) {
        Ok(false) => StoreState::Free,
        Ok(true) if is_running => StoreState::Running,
        Ok(true) => {
            let cause = "another process holds it: a daemon with another configuration, or one that is stopping";
            let help =
                format!("fuser {}    # names the process; stop it, or choose another store.path", path.display());
            troubles.push(Trouble::new("the store is locked", place(), cause, help));
            StoreState::Free
        }
        Err(error) => {
            let help = "a local file system such as ext4 or xfs can lock files";
            troubles.push(Trouble::new("the store cannot be locked", place(), error.to_string(), help));
            StoreState::Free
        }
    }
}

/// The master key's file.
struct Key {
    path: PathBuf,
    is_there: bool,
}

impl Key {
    fn state(&self) -> &'static str {
        if self.is_there { "there" } else { "new" }
    }
}

/// Looks at the master key as a start does, and makes none. Whether it is this store's only `serve` and `db` find out: asking the
/// store takes its lock.
fn check_master_key(config: &Config, store: StoreState, troubles: &mut Vec<Trouble>) -> Option<Key> {
    let what = "the master key cannot be used";
    let path = match master_key::place(&config.store) {
        Ok(path) => path,
        Err(error) => {
            troubles.extend(super::serve::master_key_failure(what, &error).troubles);
            return None;
        }
    };
    match master_key::read(&config.store) {
        Ok(_) => Some(Key { path, is_there: true }),
        // The first start makes it.
        Err(MasterKeyError::Missing { .. })
            if store == StoreState::New && config.store.master_key == MasterKey::Beside =>
        {
            Some(Key { path, is_there: false })
        }
        Err(error) => {
            let error = match error {
                // There is no store that could not be read; a file that is named is never made.
                MasterKeyError::Missing { key, .. } if store == StoreState::New => {
                    MasterKeyError::Io { doing: "read", key, cause: io::ErrorKind::NotFound.into() }
                }
                other => other,
            };
            troubles.extend(super::serve::master_key_failure(what, &error).troubles);
            None
        }
    }
}

/// Whether anybody holds a lock on any byte of the file. Asks, and takes none where that is possible: a daemon that
/// starts at this moment must not stumble over the question.
fn is_locked(file: &std::fs::File) -> io::Result<bool> {
    let unlocked = nix::libc::F_UNLCK as nix::libc::c_short;
    let whole_file = |kind: nix::libc::c_int| nix::libc::flock {
        l_type: kind as nix::libc::c_short,
        l_whence: nix::libc::SEEK_SET as nix::libc::c_short,
        l_start: 0,
        l_len: 0,
        l_pid: 0,
    };
    let mut in_the_way = whole_file(nix::libc::F_WRLCK);
    if nix::fcntl::fcntl(file, FcntlArg::F_OFD_GETLK(&mut in_the_way)).is_ok() {
        return Ok(in_the_way.l_type != unlocked);
    }
    // A file system without locks on ranges: there the store's holder locks the file as a whole, which cannot be asked.
    match file.try_lock_shared() {
        Ok(()) => Ok(false),
        Err(std::fs::TryLockError::WouldBlock) => Ok(true),
        Err(std::fs::TryLockError::Error(error)) => Err(error),
    }
}

fn check_sockets(config: &Config, is_running: bool, troubles: &mut Vec<Trouble>) {
    for (key, socket) in [("ingest.socket", &config.ingest.socket), ("admin.socket", &config.admin.socket)] {
        let place = format!("{key} = {}", socket.display());
        match std::fs::symlink_metadata(socket) {
            Ok(found) if !found.file_type().is_socket() => {
                let what = "what lies at a socket's path is no socket";
                let help = "move it away, or choose another path";
                troubles.push(Trouble::new(what, place, "the path names something else", help));
            }
            Ok(_) if is_running => {}
            Ok(_) | Err(_) => check_folder("the socket", socket, place, troubles),
        }
    }
}

/// A file can be made at `path`: the nearest folder that exists can be written to, and the missing ones are made in it.
fn check_folder(what: &str, path: &Path, place: String, troubles: &mut Vec<Trouble>) {
    let mut folder = path.parent().unwrap_or(Path::new(""));
    while !folder.as_os_str().is_empty() && !folder.exists() {
        folder = folder.parent().unwrap_or(Path::new("/"));
    }
    let folder = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
    if let Err(error) = nix::unistd::access(folder, AccessFlags::W_OK | AccessFlags::X_OK) {
        let what = format!("{what} cannot be made");
        let cause = format!("this user may not write to {}: {}", folder.display(), error.desc());
        let help = format!("ls -ld {}    # run as the daemon's user, or choose another path", folder.display());
        troubles.push(Trouble::new(what, place, cause, help));
    }
}

fn check_listener(config: &Config, is_running: bool, troubles: &mut Vec<Trouble>) {
    let Some(address) = config.admin.listen else { return };
    match std::net::TcpListener::bind(address) {
        Ok(_) => {}
        Err(error) if error.kind() == io::ErrorKind::AddrInUse && is_running => {}
        Err(error) => {
            let help =
                format!("ss -ltnp 'sport = :{}'    # names who listens; admin.listen chooses another", address.port());
            let place = format!("admin.listen = \"{address}\"");
            troubles.push(Trouble::new("the admin API cannot listen there", place, error.to_string(), help));
        }
    }
}

fn check_groups(config: &Config, troubles: &mut Vec<Trouble>) {
    let of_rules = config.ingest.allow.iter().filter_map(|rule| match &rule.who {
        Who::Group(group) => Some(("[[ingest.allow]] group", group)),
        Who::Uid(_) => None,
    });
    for (key, group) in config.ingest.socket_group.iter().map(|group| ("ingest.socket_group", group)).chain(of_rules) {
        let Group::Name(name) = group else { continue };
        let cause = match nix::unistd::Group::from_name(name) {
            Ok(Some(_)) => continue,
            Ok(None) => "the system knows no such group".to_owned(),
            Err(error) => error.desc().to_owned(),
        };
        let what = format!("there is no group \"{name}\"");
        troubles.push(Trouble::new(what, key, cause, format!("groupadd --system {name}")));
    }
}

fn check_certificates(config: &Config, troubles: &mut Vec<Trouble>) {
    let mut trouble = |key: &str, path: &Path, what: &str, cause: String| {
        let help = format!("openssl x509 -in {0} -noout -subject, or ls -l {0}", path.display());
        troubles.push(Trouble::new(what, format!("{key} = {}", path.display()), cause, help));
    };
    let certificates =
        [("admin.tls_cert", config.admin.tls.as_ref().map(|tls| &tls.cert)), ("egress.ca", config.egress.ca.as_ref())];
    for (key, path) in certificates {
        let Some(path) = path else { continue };
        let found = CertificateDer::pem_file_iter(path).and_then(|found| found.collect::<Result<Vec<_>, _>>());
        match found {
            Ok(found) if found.is_empty() => {
                trouble(key, path, "the file holds no certificate", "there is no CERTIFICATE block in it".to_owned());
            }
            Ok(_) => {}
            Err(error) => trouble(key, path, "the certificates cannot be read", error.to_string()),
        }
    }
    if let Some(tls) = &config.admin.tls
        && let Err(error) = PrivateKeyDer::from_pem_file(&tls.key)
    {
        trouble("admin.tls_key", &tls.key, "the private key cannot be read", error.to_string());
    }
}

fn check_source_address(config: &Config, troubles: &mut Vec<Trouble>) {
    if let Some(address) = config.delivery.source_address
        && let Err(error) = std::net::UdpSocket::bind((address, 0))
    {
        let place = format!("delivery.source_address = \"{address}\"");
        let what = "deliveries cannot come from that address";
        troubles.push(Trouble::new(what, place, error.to_string(), "ip address    # lists those of this machine"));
    }
}
