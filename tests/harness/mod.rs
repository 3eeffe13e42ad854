//! A daemon in a process of its own and what stands around it, for tests of the real binary: a home with a
//! configuration, the process, its admin API, and a receiver in this process that does as it is told.
//!
//! Everything is on loopback and in a scratch folder; only processes that were started here are ended, also when a test
//! panics. Waiting is for a condition with a deadline, never for a time.

#![allow(dead_code, reason = "each test file uses its part")]

use std::collections::BTreeMap;
use std::io::{self, BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::sys::socket::{setsockopt, sockopt};
use nix::unistd::Pid;
use postrider::clock::Stopwatch;
use serde_json::Value;

/// For whatever a test waits for. A machine under load is slow, not wrong.
pub const PATIENCE: Duration = Duration::from_secs(60);
/// Between two looks at a condition that gives no signal.
const LOOK_EVERY: Duration = Duration::from_millis(2);

/// Looks until there is something to see.
///
/// # Panics
///
/// When there is nothing after [`PATIENCE`].
pub fn wait_for<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let waited = Stopwatch::start();
    loop {
        if let Some(seen) = look() {
            return seen;
        }
        assert!(waited.elapsed() < PATIENCE, "waited {} s for {what}", PATIENCE.as_secs());
        std::thread::sleep(LOOK_EVERY);
    }
}

/// A scratch folder with a configuration, a store and sockets.
pub struct Home {
    folder: tempfile::TempDir,
}

impl Home {
    /// A home whose daemon may deliver to this machine. `further` is added to the configuration.
    pub fn new(further: &str) -> Home {
        let home = Home { folder: tempfile::tempdir().unwrap() };
        let path = |name: &str| home.folder.path().join(name).display().to_string();
        let text = format!(
            "[store]\npath = {:?}\n[ingest]\nsocket = {:?}\n[admin]\nsocket = {:?}\nlisten = \"\"\n\
             [egress]\nallow_loopback = true\nallow_http = true\n\
             [log]\nlevel = \"warn\"\nformat = \"json\"\n{further}",
            path("postrider.redb"),
            path("ingest.sock"),
            path("admin.sock"),
        );
        std::fs::write(home.folder.path().join("config.toml"), text).unwrap();
        home
    }

    /// The folder that holds it all.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Where producers write.
    pub fn ingest_socket(&self) -> PathBuf {
        self.folder.path().join("ingest.sock")
    }

    /// The admin API.
    pub fn admin(&self) -> Admin {
        Admin { socket: self.folder.path().join("admin.sock") }
    }

    /// Starts the daemon and does not wait for it.
    pub fn spawn(&self) -> Daemon {
        self.spawn_in(&[])
    }

    /// The same, with these variables in its environment.
    pub fn spawn_in(&self, environment: &[(&str, &str)]) -> Daemon {
        let log = std::fs::File::options().create(true).append(true).open(self.log_path()).unwrap();
        let child = Command::new(env!("CARGO_BIN_EXE_postrider"))
            .args(["serve", "--config"])
            .arg(self.folder.path().join("config.toml"))
            .env_clear()
            .env("RUST_BACKTRACE", "1")
            .envs(environment.iter().copied())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .unwrap();
        Daemon { child }
    }

    /// Starts the daemon on a disk that fails once a file grows beyond so many blocks (of 512 or 1024 bytes, as the shell counts).
    pub fn spawn_on_small_disk(&self, blocks: u32) -> Daemon {
        let log = std::fs::File::options().create(true).append(true).open(self.log_path()).unwrap();
        // A write beyond the limit is answered with an error, as long as its signal is ignored.
        let child = Command::new("sh")
            .args(["-c", "trap '' XFSZ; ulimit -f \"$0\"; exec \"$@\"", &blocks.to_string()])
            .args([env!("CARGO_BIN_EXE_postrider"), "serve", "--config"])
            .arg(self.folder.path().join("config.toml"))
            .env_clear()
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .unwrap();
        Daemon { child }
    }

    /// Starts the daemon, and returns when it is ready.
    pub fn start(&self) -> Daemon {
        let mut daemon = self.spawn();
        self.wait_until_ready(&mut daemon);
        daemon
    }

    /// Waits until the daemon says that it is ready.
    pub fn wait_until_ready(&self, daemon: &mut Daemon) {
        wait_for("the daemon to be ready", || {
            if let Some(ended) = daemon.child.try_wait().unwrap() {
                panic!("the daemon ended with {ended} instead of being ready; its log ends:\n{}", self.log_end());
            }
            matches!(self.admin().call("GET", "/readyz", None), Ok((200, _))).then_some(())
        });
    }

    /// Kills a daemon with SIGKILL, and waits until it is gone.
    ///
    /// # Panics
    ///
    /// When it had ended by itself.
    pub fn kill(&self, mut daemon: Daemon) {
        daemon.child.kill().unwrap();
        let ended = daemon.child.wait().unwrap();
        let killed = ended.signal() == Some(Signal::SIGKILL as i32);
        assert!(killed, "the daemon ended by itself with {ended}; its log ends:\n{}", self.log_end());
    }

    /// The last lines of what its daemons have logged.
    pub fn log_end(&self) -> String {
        let log = self.log();
        let lines: Vec<&str> = log.lines().collect();
        lines[lines.len().saturating_sub(30)..].join("\n")
    }

    /// What all its daemons have logged.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.log_path()).unwrap_or_default()
    }

    fn log_path(&self) -> PathBuf {
        self.folder.path().join("log")
    }
}

/// A daemon's process. It is killed when dropped.
pub struct Daemon {
    child: Child,
}

impl Daemon {
    /// Asks it to stop with SIGTERM, and waits until it is gone.
    pub fn stop(self) -> ExitStatus {
        self.signal(Signal::SIGTERM);
        self.ended()
    }

    /// Sends it a signal.
    pub fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(i32::try_from(self.id()).unwrap()), signal).unwrap();
    }

    /// The process's id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Waits until it is gone by itself.
    pub fn ended(mut self) -> ExitStatus {
        wait_for("the daemon to end", || self.child.try_wait().unwrap())
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        // Both fail only when it is gone already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Hands lines to an ingest socket as they are; the replies, which must all say that the events are on disk.
pub fn emit(socket: &Path, lines: &[String]) -> Vec<Value> {
    let mut stream = UnixStream::connect(socket).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    lines.iter().for_each(|line| writeln!(stream, "{line}").unwrap());
    stream.shutdown(std::net::Shutdown::Write).unwrap();
    let replies = BufReader::new(stream).lines().map(|line| serde_json::from_str(&line.unwrap()).unwrap());
    let replies: Vec<Value> = replies.collect();
    assert!(replies.len() == lines.len() && replies.iter().all(|reply| reply["ok"] == true), "{replies:?}");
    replies
}

/// The admin API on its socket.
#[derive(Clone)]
pub struct Admin {
    socket: PathBuf,
}

impl Admin {
    /// One call on a connection of its own. An answer that is not JSON is null.
    pub fn call(&self, method: &str, path: &str, body: Option<&Value>) -> io::Result<(u16, Value)> {
        let message = self.exchange(&[], method, path, body)?;
        Ok((message.status(), serde_json::from_slice(&message.body).unwrap_or(Value::Null)))
    }

    /// The same with these headers, and the answer as it came.
    pub fn exchange(
        &self,
        headers: &[(&str, &str)],
        method: &str,
        path: &str,
        body: Option<&Value>,
    ) -> io::Result<Message> {
        let mut stream = UnixStream::connect(&self.socket)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        let body = body.map(Value::to_string).unwrap_or_default();
        let further: String = headers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
        let request = format!(
            "{method} {path} HTTP/1.1\r\nhost: postrider\r\ncontent-type: application/json\r\n\
             content-length: {}\r\nconnection: close\r\n{further}\r\n{body}",
            body.len()
        );
        stream.write_all(request.as_bytes())?;
        Message::read(&mut BufReader::new(stream))?.ok_or_else(|| io::ErrorKind::UnexpectedEof.into())
    }

    /// A call that must succeed.
    pub fn must(&self, method: &str, path: &str, body: Option<&Value>) -> Value {
        let (status, answer) = self.call(method, path, body).unwrap();
        assert!((200..300).contains(&status), "{method} {path}: {status} {answer}");
        answer
    }

    /// A whole list, page by page.
    pub fn list(&self, path: &str, noun: &str) -> Vec<Value> {
        let mut rows = Vec::new();
        let mut after = String::new();
        loop {
            let mut page = self.must("GET", &format!("{path}?limit=1000{after}"), None);
            let Value::Array(more) = page[noun].take() else { panic!("{path} lists no {noun}: {page}") };
            rows.extend(more);
            match page["next"].as_str() {
                Some(next) => after = format!("&after={next}"),
                None => return rows,
            }
        }
    }
}

/// An HTTP/1.1 message as it was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// The request line or the status line.
    pub start: String,
    /// By lower-case name; a repeated header's last value.
    pub headers: BTreeMap<String, String>,
    pub body: Vec<u8>,
}

impl Message {
    /// The next message, or `None` at a clean end.
    pub fn read(reader: &mut impl BufRead) -> io::Result<Option<Message>> {
        let mut start = String::new();
        if reader.read_line(&mut start)? == 0 {
            return Ok(None);
        }
        let mut headers = BTreeMap::new();
        loop {
            let mut line = String::new();
            if reader.read_line(&mut line)? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            let line = line.trim_end();
            if line.is_empty() {
                break;
            }
            let (name, value) = line.split_once(':').ok_or(io::ErrorKind::InvalidData)?;
            headers.insert(name.to_ascii_lowercase(), value.trim().to_owned());
        }
        let length = headers.get("content-length").and_then(|length| length.parse().ok()).unwrap_or(0);
        let mut body = vec![0; length];
        reader.read_exact(&mut body)?;
        Ok(Some(Message { start: start.trim_end().to_owned(), headers, body }))
    }

    /// A header's value; empty when there is none.
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", String::as_str)
    }

    /// A reply's status.
    pub fn status(&self) -> u16 {
        let status = self.start.split(' ').nth(1).and_then(|status| status.parse().ok());
        status.unwrap_or_else(|| panic!("no status line: {}", self.start))
    }

    /// The body as JSON; null when it is none.
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or(Value::Null)
    }

    /// A request's path and query.
    pub fn path(&self) -> &str {
        self.start.split(' ').nth(1).unwrap_or_default()
    }
}

/// What a receiver does with a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reaction {
    /// Answers with this status.
    Answer(u16),
    /// Answers with this status and this body.
    Say(u16, &'static str),
    /// Answers with 200 and the request's own body.
    Echo,
    /// Closes the connection without an answer.
    HangUp,
    /// Resets the connection.
    Reset,
}

/// A receiver on a port of its own, with a thread for each connection. It ends when dropped.
pub struct Receiver {
    address: SocketAddr,
    ended: Arc<AtomicBool>,
}

impl Receiver {
    /// Takes requests from now on, each with a reaction.
    pub fn start(react: impl Fn(&Message) -> Reaction + Send + Sync + 'static) -> Receiver {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let ended = Arc::new(AtomicBool::new(false));
        let (react, over) = (Arc::new(react), Arc::clone(&ended));
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                if over.load(Ordering::Relaxed) {
                    return;
                }
                let Ok(stream) = stream else { continue };
                let react = Arc::clone(&react);
                // A connection that breaks is the sender's matter.
                std::thread::spawn(move || converse(&stream, &*react));
            }
        });
        Receiver { address, ended }
    }

    /// A URL of it; the path begins with a slash.
    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        self.ended.store(true, Ordering::Relaxed);
        // Wakes the acceptor; when that fails nobody listens any more.
        let _ = TcpStream::connect(self.address);
    }
}

fn say(mut writer: &TcpStream, status: u16, body: &str) -> io::Result<()> {
    write!(writer, "HTTP/1.1 {status} Said So\r\ncontent-length: {}\r\n\r\n{body}", body.len())
}

fn converse(stream: &TcpStream, react: &impl Fn(&Message) -> Reaction) -> io::Result<()> {
    let mut reader = BufReader::new(stream);
    let mut writer = stream;
    while let Some(message) = Message::read(&mut reader)? {
        match react(&message) {
            Reaction::Answer(status) => say(writer, status, "ok")?,
            Reaction::Say(status, body) => say(writer, status, body)?,
            Reaction::Echo => {
                write!(writer, "HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n", message.body.len())?;
                writer.write_all(&message.body)?;
            }
            Reaction::HangUp => return Ok(()),
            Reaction::Reset => {
                let at_once = nix::libc::linger { l_onoff: 1, l_linger: 0 };
                return Ok(setsockopt(stream, sockopt::Linger, &at_once)?);
            }
        }
    }
    Ok(())
}
