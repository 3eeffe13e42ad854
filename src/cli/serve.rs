//! `serve`: runs the daemon until it is told to stop.
//!
//! SIGTERM and SIGINT drain: no new events, what is under way ends. A second one ends the process at once. SIGHUP checks the
//! configuration and says what is wrong with it.

use std::path::PathBuf;

use sd_notify::NotifyState;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;

use super::config::ConfigArguments;
use super::{Exit, Failure, Form, Trouble};
use crate::daemon::{self, Daemon, MasterKeyError, StartError, Stopped};
use crate::store::OpenError;

pub(super) fn run(arguments: &ConfigArguments, form: Form) -> Result<Exit, Failure> {
    let loaded = arguments.load()?;
    let config = &loaded.config;
    daemon::start_log(&config.log);
    let stopped = super::runtime()?.block_on(async {
        let signals = Signals::hear()?;
        let daemon = Daemon::start(&loaded).await.map_err(failure)?;
        tracing::info!(
            event = "ready",
            version = env!("CARGO_PKG_VERSION"),
            store = %config.store.path.display(),
            ingest = %config.ingest.socket.display(),
            admin = %config.admin.socket.display(),
            listen = daemon.admin_address().map(|address| address.to_string()),
            "the store is open and the sockets listen"
        );
        if form == Form::Json {
            // For whoever starts the daemon and asked for port 0.
            let address = daemon.admin_address().map(|address| address.to_string());
            println!("{}", serde_json::json!({ "ready": true, "listen": address }));
        }
        notify(NotifyState::Ready);
        let stop = CancellationToken::new();
        let signals = tokio::spawn(heed(signals, stop.clone(), arguments.config.clone()));
        let stopped = daemon.run_until(stop).await;
        signals.abort();
        Ok::<_, Failure>(stopped)
    })?;
    match stopped {
        Stopped::Drained => {
            tracing::info!(event = "stopped", "everything that was begun is on disk");
            Ok(Exit::Done)
        }
        Stopped::StoreFailed(why) => {
            let path = config.store.path.display();
            let trouble = Trouble::new(
                "the store has failed; nothing was acknowledged since",
                path.to_string(),
                why,
                "look at the disk (dmesg, df), then start the daemon again: what was acknowledged is there",
            );
            Err(Failure::new(Exit::StoreFailed, trouble))
        }
    }
}

/// The signals that the daemon heeds, from the moment this is made.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hangup: Signal,
}

impl Signals {
    fn hear() -> std::io::Result<Self> {
        let (terminate, interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
        Ok(Signals { terminate, interrupt, hangup: signal(SignalKind::hangup())? })
    }
}

/// Heeds signals until the daemon has stopped.
async fn heed(mut signals: Signals, stop: CancellationToken, config: Option<PathBuf>) {
    loop {
        tokio::select! {
            _ = signals.terminate.recv() => {}
            _ = signals.interrupt.recv() => {}
            _ = signals.hangup.recv() => {
                check_again(config.clone());
                continue;
            }
        }
        if stop.is_cancelled() {
            tracing::warn!(event = "stopped_at_once", "a second signal: attempts under way will be repeated");
            std::process::exit(Exit::Failed as i32);
        }
        tracing::info!(event = "stopping", "draining; a second signal ends the daemon at once");
        notify(NotifyState::Stopping);
        stop.cancel();
    }
}

/// SIGHUP: the configuration is read and checked whole. It comes into force with the next start.
fn check_again(config: Option<PathBuf>) {
    match (ConfigArguments { config, set: Vec::new() }).load() {
        Ok(_) => tracing::info!(event = "config_checked", "the configuration is right; restart to bring it into force"),
        Err(failure) => {
            for trouble in failure.troubles {
                let Trouble { what, place, cause, help } = trouble;
                tracing::error!(
                    event = "config_wrong",
                    what,
                    place,
                    cause,
                    help,
                    "the configuration is wrong; the daemon goes on"
                );
            }
        }
    }
}

/// Tells systemd, where it listens.
fn notify(state: NotifyState<'_>) {
    if let Err(error) = sd_notify::notify(&[state]) {
        tracing::warn!(event = "notify_failed", %error, "tell systemd");
    }
}

/// What helps where the system could not read or write, at a start and at anything else.
const LOOK_AT_THE_DISK: &str = "look at the disk (dmesg, df), then try again: the store is as it was";

/// There is no master key, or not the right one, or it could not be read.
pub(super) fn master_key_failure(what: &str, error: &MasterKeyError) -> Failure {
    let (exit, help) = match error {
        MasterKeyError::Io { cause, .. } if is_the_disk(cause) => (Exit::StoreFailed, LOOK_AT_THE_DISK.to_owned()),
        MasterKeyError::Io { .. }
        | MasterKeyError::Missing { .. }
        | MasterKeyError::Wrong { .. }
        | MasterKeyError::NoKey { .. }
        | MasterKeyError::Open { .. }
        | MasterKeyError::NoCredentials { .. } => (Exit::BadConfig, error.help()),
    };
    Failure::new(exit, Trouble::new(what, error.place(), error.to_string(), help))
}

/// A start that failed, with what helps.
pub(super) fn failure(error: StartError) -> Failure {
    open_failure("cannot start", error)
}

/// Whether the system could not read or write, which may pass; all else is a matter of paths and rights, which somebody has
/// to set right. The service's unit starts the daemon again after the former only.
fn is_the_disk(error: &std::io::Error) -> bool {
    use std::io::ErrorKind;
    !matches!(
        error.kind(),
        ErrorKind::NotFound
            | ErrorKind::PermissionDenied
            | ErrorKind::AlreadyExists
            | ErrorKind::NotADirectory
            | ErrorKind::IsADirectory
            | ErrorKind::InvalidFilename
            | ErrorKind::ReadOnlyFilesystem
            | ErrorKind::InvalidInput
    )
}

/// What `what` says could not be done, for a reason for which a start fails too.
pub(super) fn open_failure(what: &str, error: StartError) -> Failure {
    let (place, help) = match &error {
        StartError::Store(OpenError::Locked { path }) => {
            (path.display().to_string(), "stop the other daemon, or give this one a store of its own (store.path)")
        }
        StartError::Store(OpenError::Io { path, source }) if is_the_disk(source) => {
            (path.display().to_string(), LOOK_AT_THE_DISK)
        }
        StartError::Store(OpenError::Io { path, .. }) => {
            (path.display().to_string(), "give this user the folder, or choose another one (store.path)")
        }
        StartError::Store(OpenError::Damaged { path, .. }) => (
            path.display().to_string(),
            "see what is damaged with `postrider db check`; move the file away and put back its last copy, or choose another one (store.path)",
        ),
        StartError::Store(OpenError::Dangling { path, .. }) => {
            (path.display().to_string(), "mount what it lies on, or set the link right; a new store is not made there")
        }
        StartError::Store(OpenError::WrongKey { path }) => {
            (path.display().to_string(), "bring the store's own key file back, or name it (store.master_key)")
        }
        StartError::MasterKey(error) => return master_key_failure(what, error),
        StartError::Socket(error) => {
            (error.path.display().to_string(), "choose another path (ingest.socket, admin.socket), or make way there")
        }
        StartError::Listen { address, .. } => {
            (address.to_string(), "choose another address (admin.listen), or \"\" for none")
        }
        StartError::Tls(_) => ("admin.tls_cert, admin.tls_key".to_owned(), "give a PEM certificate chain and its key"),
        StartError::Client(_) => ("[egress]".to_owned(), "mend the rule or the file that is named"),
        StartError::Proxy(_) => ("delivery.proxy".to_owned(), "mend the address, or leave it empty"),
        StartError::Group { .. } => {
            ("ingest.socket_group, [[ingest.allow]]".to_owned(), "create the group, or name another one")
        }
        StartError::Chance(_) => ("getrandom".to_owned(), "look at the system's log"),
    };
    let exit = match &error {
        StartError::Chance(_) => Exit::Failed,
        StartError::Store(OpenError::Io { source, .. }) if is_the_disk(source) => Exit::StoreFailed,
        StartError::Store(_)
        | StartError::MasterKey(_)
        | StartError::Socket(_)
        | StartError::Listen { .. }
        | StartError::Tls(_)
        | StartError::Client(_)
        | StartError::Proxy(_)
        | StartError::Group { .. } => Exit::BadConfig,
    };
    Failure::new(exit, Trouble::new(what, place, error.to_string(), help))
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::*;

    /// P10: a disk that fails for a while must not end in a service that has given up; a wrong path must. The same of the store's
    /// file and of the master key's.
    #[test]
    fn a_disk_that_fails_is_tried_again_and_a_wrong_path_is_not() {
        let of_store = |source: io::Error| StartError::Store(OpenError::Io { path: "store".into(), source });
        let of_key =
            |cause: io::Error| StartError::MasterKey(MasterKeyError::Io { doing: "read", key: "key".into(), cause });
        let failures = |errno: nix::errno::Errno| {
            [of_store(errno.into()), of_key(errno.into())].map(|error| open_failure("cannot open the store", error))
        };
        for transient in [nix::errno::Errno::EIO, nix::errno::Errno::ENOSPC, nix::errno::Errno::EMFILE] {
            for failure in failures(transient) {
                assert_eq!(failure.exit, Exit::StoreFailed, "{transient}");
                assert_eq!(failure.troubles[0].help, LOOK_AT_THE_DISK, "it may be no daemon that is started");
            }
        }
        for lasting in [nix::errno::Errno::ENOENT, nix::errno::Errno::EACCES, nix::errno::Errno::EROFS] {
            for failure in failures(lasting) {
                assert_eq!(failure.exit, Exit::BadConfig, "{lasting}");
                assert_ne!(failure.troubles[0].help, LOOK_AT_THE_DISK, "{lasting}");
            }
        }
    }
}
