//! The daemon under measurement: a process of its own on a scratch store, and what the kernel says of it.
//!
//! It is this very program with `serve` and a file of our own; nothing of this machine's configuration or environment
//! reaches in, but for what steers the loader and the allocator: those one may want to compare. It ends when this is dropped: asked first, then made to.

use std::io::{self, BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::cli::{Exit, Failure, Trouble};
use crate::clock::Stopwatch;

/// How long the daemon may take to get ready, also over a large store.
const READY_MAX: Duration = Duration::from_secs(120);
/// How long it may take to end when it is asked to.
const END_MAX: Duration = Duration::from_secs(30);
/// The environment that the daemon is given.
const KEPT: [&str; 3] = ["LD_PRELOAD", "GLIBC_TUNABLES", "MALLOC_ARENA_MAX"];
/// Ticks of the kernel's clock in `/proc/PID/stat` per second: part of Linux's interface, the same on every machine that
/// the daemon runs on.
const TICKS_PER_SECOND: u64 = 100;

/// A daemon that runs, in a folder.
pub(super) struct Process {
    child: Child,
    folder: PathBuf,
    /// An authority that it trusts besides the system's.
    ca: Option<PathBuf>,
    /// From its start until it said that it is ready.
    pub(super) ready_in: Duration,
}

/// What a process holds in memory, in bytes.
#[derive(Debug, Clone, Copy)]
pub(super) struct Memory {
    pub(super) resident: u64,
    /// The most that it ever held.
    pub(super) peak: u64,
}

impl Process {
    /// Starts a daemon whose files lie in `folder`, and waits until it is ready. It trusts the authority in `ca`.
    pub(super) fn start(folder: &Path, ca: Option<&Path>) -> Result<Process, Failure> {
        let config = folder.join("bench.toml");
        std::fs::write(&config, configuration(folder, ca))?;
        let watch = Stopwatch::start();
        let mut child = Command::new(std::env::current_exe()?)
            .args(["serve", "--json", "--config"])
            .arg(&config)
            .env_clear()
            .envs(std::env::vars_os().filter(|(name, _)| KEPT.iter().any(|kept| name == kept)))
            .current_dir(folder)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()?;
        let said = child.stdout.take();
        let mut process =
            Process { child, folder: folder.to_owned(), ca: ca.map(Path::to_owned), ready_in: Duration::ZERO };
        let (tell, told) = mpsc::channel();
        // The thread ends with the daemon, whose standard output it reads: nothing may ever wait in the pipe.
        std::thread::spawn(move || {
            for line in said.map(BufReader::new).into_iter().flat_map(BufRead::lines).map_while(Result::ok) {
                let _ = tell.send(line);
            }
        });
        match told.recv_timeout(READY_MAX) {
            Ok(line) if line.contains("\"ready\":true") => {
                process.ready_in = watch.elapsed();
                Ok(process)
            }
            Ok(line) => Err(not_ready(folder, line)),
            Err(_) => Err(not_ready(folder, "it ended, or said nothing for two minutes".to_owned())),
        }
    }

    /// Ends it in order, and starts it again over the same store.
    pub(super) fn restart(&mut self) -> Result<(), Failure> {
        // Two daemons cannot hold one store, so the old one has ended before the new one begins.
        self.end();
        *self = Process::start(&self.folder, self.ca.as_deref())?;
        Ok(())
    }

    /// The socket that takes events.
    pub(super) fn ingest_socket(&self) -> PathBuf {
        self.folder.join("ingest.sock")
    }

    /// The operator's socket.
    pub(super) fn admin_socket(&self) -> PathBuf {
        self.folder.join("admin.sock")
    }

    /// User and system time of all its threads so far, to a hundredth of a second.
    pub(super) fn cpu(&self) -> io::Result<Duration> {
        cpu_of(&self.place("stat"))
    }

    pub(super) fn memory(&self) -> io::Result<Memory> {
        let status = std::fs::read_to_string(self.place("status"))?;
        let bytes = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name));
            let kib =
                line.and_then(|rest| rest.trim().strip_suffix("kB")).and_then(|kib| kib.trim().parse::<u64>().ok());
            kib.map(|kib| kib * 1024).ok_or_else(|| io::Error::other(format!("/proc tells no {name}")))
        };
        Ok(Memory { resident: bytes("VmRSS:")?, peak: bytes("VmHWM:")? })
    }

    fn place(&self, file: &str) -> PathBuf {
        PathBuf::from(format!("/proc/{}/{file}", self.child.id()))
    }
}

/// User and system time of the thread that asks.
pub(super) fn cpu_of_thread() -> io::Result<Duration> {
    cpu_of(Path::new("/proc/thread-self/stat"))
}

fn cpu_of(stat: &Path) -> io::Result<Duration> {
    let text = std::fs::read_to_string(stat)?;
    // The second field is the program's name in parentheses and may hold anything; user and system time are 14 and 15.
    let fields = text.rsplit_once(')').map(|(_, rest)| rest.split_ascii_whitespace().collect::<Vec<_>>());
    let ticks = fields.and_then(|fields| {
        let field = |at: usize| fields.get(at)?.parse::<u64>().ok();
        Some(field(11)? + field(12)?)
    });
    let ticks = ticks.ok_or_else(|| io::Error::other(format!("{} reads otherwise than expected", stat.display())))?;
    Ok(Duration::from_millis(ticks * 1000 / TICKS_PER_SECOND))
}

impl Process {
    /// Ends it, once or twice.
    fn end(&mut self) {
        if !matches!(self.child.try_wait(), Ok(None)) {
            return;
        }
        let asked = i32::try_from(self.child.id()).map(|pid| kill(Pid::from_raw(pid), Signal::SIGTERM));
        if let Ok(Ok(())) = asked {
            let watch = Stopwatch::start();
            while watch.elapsed() < END_MAX {
                match self.child.try_wait() {
                    Ok(None) => std::thread::sleep(Duration::from_millis(10)),
                    Ok(Some(_)) | Err(_) => return,
                }
            }
        }
        // It has had its time; its store is a scratch one.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.end();
    }
}

fn not_ready(folder: &Path, said: String) -> Failure {
    let help = "what it says on standard error stands above";
    Failure::new(Exit::Failed, Trouble::new("the daemon did not start", folder.display().to_string(), said, help))
}

fn configuration(folder: &Path, ca: Option<&Path>) -> String {
    let text = |path: &Path| toml::Value::String(path.display().to_string()).to_string();
    let quoted = |name: &str| text(&folder.join(name));
    let ca = ca.map(|ca| format!("ca = {}\n", text(ca))).unwrap_or_default();
    let (store, ingest, admin) = (quoted("postrider.redb"), quoted("ingest.sock"), quoted("admin.sock"));
    format!(
        "[store]\npath = {store}\n[ingest]\nsocket = {ingest}\n[admin]\nsocket = {admin}\nlisten = \"\"\n\
         [egress]\nallow_loopback = true\nallow_http = true\n{ca}[limits]\ndisk_reserve = \"0B\"\n[log]\nlevel = \"error\"\n"
    )
}
