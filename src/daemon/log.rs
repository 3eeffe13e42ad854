//! The log: an event name and ids as fields, to the terminal, as JSON lines, or to the journal.

use std::io::{self, IsTerminal, Stderr, Write};

use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

use crate::config::{Log, LogFormat, LogLevel};
use crate::model::card::mask_cards;

/// Standard error, without card numbers. Nothing that is logged should hold one; a failure's own words might.
struct Masked(Stderr);

impl Write for Masked {
    /// Takes the whole of `line`: the formatter writes an event in one piece.
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        let mut masked = line.to_vec();
        mask_cards(&mut masked);
        self.0.write_all(&masked)?;
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

/// Starts logging, once in a process; a second call changes nothing.
///
/// `auto` is the journal under systemd, text on a terminal, and JSON lines otherwise. The log goes to standard error, so that
/// standard output stays data.
pub fn start(log: &Log) {
    let level = match log.level {
        LogLevel::Error => LevelFilter::ERROR,
        LogLevel::Warn => LevelFilter::WARN,
        LogLevel::Info => LevelFilter::INFO,
        LogLevel::Debug => LevelFilter::DEBUG,
        LogLevel::Trace => LevelFilter::TRACE,
    };
    let registry = tracing_subscriber::registry().with(level);
    let format = match log.format {
        LogFormat::Auto if std::env::var_os("JOURNAL_STREAM").is_some() => LogFormat::Journald,
        LogFormat::Auto if std::io::stderr().is_terminal() => LogFormat::Pretty,
        LogFormat::Auto => LogFormat::Json,
        chosen => chosen,
    };
    let lines = tracing_subscriber::fmt::layer().with_writer(|| Masked(io::stderr())).with_target(false);
    // A subscriber that is there already, as in tests that start several daemons, stays.
    let _ = match format {
        LogFormat::Journald => match tracing_journald::layer() {
            Ok(journal) => registry.with(journal).try_init(),
            Err(_) => registry.with(lines.json().flatten_event(true)).try_init(),
        },
        LogFormat::Pretty => registry.with(lines.with_ansi(std::io::stderr().is_terminal())).try_init(),
        LogFormat::Auto | LogFormat::Json => registry.with(lines.json().flatten_event(true)).try_init(),
    };
}
