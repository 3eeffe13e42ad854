//! The log: an event name and ids as fields, to the terminal, as JSON lines, or to the journal.

use std::io::{self, IsTerminal, Stderr, Write};

use tracing::field::{Field, Visit};
use tracing::{Event, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::filter::{LevelFilter, filter_fn};
use tracing_subscriber::layer::{Context, SubscriberExt};
use tracing_subscriber::util::SubscriberInitExt;

use crate::config::{Log, LogFormat, LogLevel};
use crate::model::card::{mask_cards, masked_text};

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

/// A layer that is shown events without card numbers. For the journal, which takes each field by itself.
struct MaskedEvents<L>(L);

impl<S: Subscriber, L: Layer<S>> Layer<S> for MaskedEvents<L> {
    fn on_event(&self, event: &Event<'_>, context: Context<'_, S>) {
        let mut texts = Texts::default();
        event.record(&mut texts);
        let masked: Vec<_> = texts.0.iter().map(|(_, text)| masked_text(text)).collect();
        let fields = event.metadata().fields();
        let Some(none) = fields.iter().next().filter(|_| texts.0.iter().map(|(_, text)| text).ne(&masked)) else {
            return self.0.on_event(event, context);
        };
        let place = |at: usize| match (texts.0.get(at), masked.get(at)) {
            (Some((field, _)), Some(text)) => (field, Some(text as &dyn tracing::Value)),
            // An event has as many fields at most as this has places; what is left over says nothing.
            _ => (&none, None),
        };
        let values: [_; FIELDS_MAX] = std::array::from_fn(place);
        self.0.on_event(&Event::new_child_of(None, event.metadata(), &fields.value_set(&values)), context);
    }
}

/// Fields of an event, at most: a bound of the crate that makes them.
const FIELDS_MAX: usize = 32;

/// An event's fields as texts.
#[derive(Default)]
struct Texts(Vec<(Field, String)>);

impl Visit for Texts {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.0.push((field.clone(), value.to_owned()));
    }

    fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
        self.0.push((field.clone(), format!("{value:?}")));
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
            // Without spans: what stands in one is not an event's to mask.
            Ok(journal) => registry.with(MaskedEvents(journal).with_filter(filter_fn(|it| it.is_event()))).try_init(),
            Err(_) => registry.with(lines.json().flatten_event(true)).try_init(),
        },
        LogFormat::Pretty => registry.with(lines.with_ansi(std::io::stderr().is_terminal())).try_init(),
        LogFormat::Auto | LogFormat::Json => registry.with(lines.json().flatten_event(true)).try_init(),
    };
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;

    /// What a layer is shown.
    #[derive(Clone, Default)]
    struct Seen(Arc<Mutex<Vec<(String, String)>>>);

    impl<S: Subscriber> Layer<S> for Seen {
        fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
            let mut texts = Texts::default();
            event.record(&mut texts);
            let texts = texts.0.into_iter().map(|(field, text)| (field.name().to_owned(), text));
            self.0.lock().unwrap().extend(texts);
        }
    }

    /// P16: the journal gets no card number, in whichever field it stands.
    #[test]
    fn card_numbers_do_not_reach_the_journal() {
        let seen = Seen::default();
        let layers = tracing_subscriber::registry().with(MaskedEvents(seen.clone()));
        tracing::subscriber::with_default(layers, || {
            let (number, text) = (4_111_111_111_111_111_u64, "said 4111 1111 1111 1111");
            tracing::error!(event = "failed", number, text, cause = ?text, attempt = 3, "no 4111111111111111 here");
            tracing::error!(event = "plain", attempt = 4, "as it is");
        });
        let seen = seen.0.lock().unwrap();
        let mut seen: Vec<_> = seen.iter().map(|(name, text)| (name.as_str(), text.as_str())).collect();
        let mut plain = seen.split_off(6);
        seen.sort_unstable();
        plain.sort_unstable();
        let masked = [
            ("attempt", "3"),
            ("cause", "\"said **** **** **** 1111\""),
            ("event", "failed"),
            ("message", "no ************1111 here"),
            ("number", "************1111"),
            ("text", "said **** **** **** 1111"),
        ];
        assert_eq!(seen, masked);
        assert_eq!(plain, [("attempt", "4"), ("event", "plain"), ("message", "as it is")]);
    }
}
