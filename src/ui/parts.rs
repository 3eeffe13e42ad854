//! What pages are made of: pictures, states, times, ids, fields of forms, empty places.

use std::time::Duration;

use maud::{Markup, PreEscaped, html};

use super::act::Visit;
use crate::http::problem::Problem;
use crate::http::request::Query;
use crate::model::{DeliveryState, Outcome, Timestamp};
use crate::mouth::page::Page;
use crate::service::{DestinationHealth, LaneState};

macro_rules! icons {
    ($($name:ident = $path:literal,)*) => {
        /// A picture; each is one path of a 16 by 16 square, drawn with a line.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub(super) enum Icon { $($name,)* }

        impl Icon {
            fn path(self) -> &'static str {
                match self { $(Icon::$name => $path,)* }
            }
        }
    };
}

icons! {
    Alert = "M8 2.2 14.6 13.6H1.4zM8 6.4v3.4M8 11.6v.2",
    Bolt = "M9 1.5 3.5 9H8l-1 5.5L12.5 7H8z",
    Book = "M3 2.5h8.5a1.5 1.5 0 0 1 1.5 1.5v9.5H4.5A1.5 1.5 0 0 1 3 12zM5.5 6h5M5.5 9h5",
    Check = "M2.5 8.5 6.5 12.5 13.5 4",
    Chip = "M4.5 4.5h7v7h-7zM6.5 2v2.5M9.5 2v2.5M6.5 11.5V14M9.5 11.5V14M2 6.5h2.5M2 9.5h2.5M11.5 6.5H14M11.5 9.5H14",
    Clock = "M8 2a6 6 0 1 0 0 12A6 6 0 0 0 8 2zM8 4.8V8l2.4 1.6",
    Copy = "M5.5 5.5h8v8h-8zM10.5 5.5v-3h-8v8h3",
    Cross = "M4 4l8 8M12 4l-8 8",
    Gauge = "M2.2 12a6.5 6.5 0 1 1 11.6 0M8 10.5l3-4",
    Gear = "M8 5.8a2.2 2.2 0 1 0 0 4.4 2.2 2.2 0 0 0 0-4.4zM8 1.8v2M8 12.2v2M1.8 8h2M12.2 8h2M3.6 3.6 5 5M11 11l1.4 1.4M3.6 12.4 5 11M11 5l1.4-1.4",
    Hook = "M8 2v7.5a3 3 0 1 1-6 0M8 2 5.5 4.5M8 2l2.5 2.5M11.5 9.5v4M9.5 11.5h4",
    House = "M2.5 14V6L8 2l5.5 4v8zM6.5 14v-4h3v4",
    Key = "M5.5 7.5a3 3 0 1 0 0 6 3 3 0 0 0 0-6zM7.8 8.2 13.5 2.5M11 5l2 2",
    Menu = "M2.5 4h11M2.5 8h11M2.5 12h11",
    Pause = "M5.5 3v10M10.5 3v10",
    Pen = "M2.5 13.5 3.5 10 11 2.5 13.5 5 6 12.5z",
    People = "M6 3a2.3 2.3 0 1 0 0 4.6A2.3 2.3 0 0 0 6 3zM1.5 13.5c0-3 2-4.5 4.5-4.5s4.5 1.5 4.5 4.5M10.5 3.5a2 2 0 0 1 0 4M12 9.5c1.5.6 2.5 2 2.5 4",
    Person = "M8 2.5a2.7 2.7 0 1 0 0 5.4 2.7 2.7 0 0 0 0-5.4zM2.8 14c0-3.3 2.2-5 5.2-5s5.2 1.7 5.2 5",
    Plus = "M8 3v10M3 8h10",
    Pulse = "M1.5 8.5h3L6.5 3l3 10.5 2-5h3",
    Replay = "M3 8a5 5 0 1 1 1.5 3.6M3 13v-2.5h2.5",
    Ring = "M8 3a5 5 0 1 0 0 10A5 5 0 0 0 8 3z",
    Send = "M2 8 14 2.5 10.5 14 7.5 9zM7.5 9 14 2.5",
    Slash = "M8 2.5a5.5 5.5 0 1 0 0 11 5.5 5.5 0 0 0 0-11zM4.2 4.2l7.6 7.6",
    Unknown = "M5.8 6a2.2 2.2 0 1 1 3.3 1.9c-.8.5-1.1.9-1.1 1.8M8 12v.2",
}

/// A picture beside words that say the same.
pub(super) fn icon(icon: Icon) -> Markup {
    html! { svg.icon viewBox="0 0 16 16" aria-hidden="true" { path d=(PreEscaped(icon.path())) {} } }
}

/// A state: a picture and a word in a tone. The tone alone tells nothing.
pub(super) fn badge(tone: &str, picture: Icon, word: &str) -> Markup {
    html! { span class={ "badge " (tone) } { (icon(picture)) (word) } }
}

/// The state of a delivery.
pub(super) fn delivery_badge(state: DeliveryState) -> Markup {
    let (tone, picture) = match state {
        DeliveryState::Pending => ("calm", Icon::Clock),
        DeliveryState::Held => ("warn", Icon::Pause),
        DeliveryState::Succeeded => ("good", Icon::Check),
        DeliveryState::Failed => ("bad", Icon::Cross),
        DeliveryState::Cancelled => ("flat", Icon::Slash),
    };
    badge(tone, picture, state.as_str())
}

/// What an attempt came to.
pub(super) fn outcome_badge(outcome: Outcome) -> Markup {
    let (tone, picture) = match outcome {
        Outcome::Succeeded => ("good", Icon::Check),
        Outcome::Failed => ("bad", Icon::Cross),
        Outcome::Unknown => ("warn", Icon::Unknown),
    };
    badge(tone, picture, outcome.as_str())
}

/// The state of a lane.
fn lane_badge(state: LaneState) -> Markup {
    let (tone, picture) = match state {
        LaneState::Open => ("good", Icon::Check),
        LaneState::Paused => ("warn", Icon::Pause),
        LaneState::Unconfirmed => ("warn", Icon::Unknown),
        LaneState::Gone => ("bad", Icon::Slash),
        LaneState::Held => ("warn", Icon::Clock),
        LaneState::Shut => ("bad", Icon::Cross),
        LaneState::Probing => ("warn", Icon::Ring),
    };
    badge(tone, picture, state.as_str())
}

/// How a destination stands: its lane, and that nothing gets through though the lane is open.
pub(super) fn standing_badge(health: &DestinationHealth) -> Markup {
    let lately = health.lately.unwrap_or_default();
    match health.state {
        LaneState::Paused if health.destination.disabled => badge("flat", Icon::Slash, "disabled"),
        LaneState::Open if lately.gave_up => badge("bad", Icon::Alert, "open, failing"),
        LaneState::Open if lately.failures > 0 || health.lane.health.failures > 0 => {
            badge("warn", Icon::Alert, "open, failing")
        }
        state => lane_badge(state),
    }
}

/// A message in a box.
pub(super) fn notice(picture: Icon, tone: &str, words: Markup) -> Markup {
    html! { div class={ "notice " (tone) } { (icon(picture)) div { (words) } } }
}

/// A place where nothing is, with the next useful step.
pub(super) fn empty(title: &str, words: Markup) -> Markup {
    html! { div.empty { (icon(Icon::Ring)) h2 { (title) } p { (words) } } }
}

/// How long ago, or in how long, as people say it.
fn distance(at: Timestamp, now: Timestamp) -> String {
    match at > now {
        true => format!("in {}", span_words(at.since(now))),
        false if now.since(at) < Duration::from_secs(1) => "now".to_owned(),
        false => format!("{} ago", span_words(now.since(at))),
    }
}

/// A moment, as people say it; the exact one stands behind it.
pub(super) fn moment(at: Timestamp, now: Timestamp) -> Markup {
    let exact = at.to_string();
    html! { time datetime=(exact) title=(exact) { (distance(at, now)) } }
}

/// A moment as a date and a time of UTC, to the second.
pub(super) fn stamp(at: Timestamp) -> String {
    at.to_string().get(..19).unwrap_or_default().replace('T', " ")
}

/// A moment in a cell of a table whose head says that it is UTC: as people say it, and exactly beneath.
pub(super) fn moment_cell(at: Timestamp, now: Timestamp) -> Markup {
    html! { div { (moment(at, now)) span.sub { (stamp(at)) } } }
}

/// A moment where there is room for all of it.
pub(super) fn moment_told(at: Timestamp, now: Timestamp) -> Markup {
    html! { (moment(at, now)) span.muted { " · " (stamp(at)) " UTC" } }
}

/// A moment where there is no room for both: the exact one, and the distance behind it.
pub(super) fn moment_short(at: Timestamp, now: Timestamp) -> Markup {
    html! { time datetime=(at) title=(distance(at, now)) { (stamp(at)) } }
}

/// A span of time in its largest unit.
pub(super) fn span_words(span: Duration) -> String {
    match span.as_secs() {
        0 => format!("{} ms", span.as_millis()),
        seconds @ 1..120 => format!("{seconds} s"),
        seconds @ 120..7_200 => format!("{} min", seconds / 60),
        seconds @ 7_200..172_800 => format!("{} h", seconds / 3600),
        seconds => format!("{} days", seconds / 86_400),
    }
}

/// How long an attempt took, to the millisecond below ten seconds.
pub(super) fn took(span: Duration) -> String {
    match span.as_millis() {
        0 => format!("{:.1} ms", span.as_secs_f64() * 1000.0),
        millis @ 1..10_000 => format!("{millis} ms"),
        _ => format!("{:.1} s", span.as_secs_f64()),
    }
}

/// A number with thin spaces between its thousands.
pub(super) fn number(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            text.push('\u{202f}');
        }
        text.push(digit);
    }
    text
}

/// Bytes in the unit that suits them.
pub(super) fn bytes(bytes: u64) -> String {
    const UNITS: [&str; 5] = ["B", "KiB", "MiB", "GiB", "TiB"];
    let mut value = bytes as f64;
    let mut unit = 0;
    while value >= 1024.0 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    match unit {
        0 => format!("{bytes} B"),
        _ if value < 10.0 => format!("{value:.1} {}", UNITS[unit]),
        _ => format!("{value:.0} {}", UNITS[unit]),
    }
}

/// Something that is copied as it is: an id, a command. With script it has a button that does.
pub(super) fn copied(text: &str) -> Markup {
    html! { span.copy { code { (text) } button.ghost.icon-only type="button" hidden data-copy=(text) { (icon(Icon::Copy)) span.hidden { "Copy" } } } }
}

/// Where a list goes on, and what it goes on with.
pub(super) fn pager(next: Option<String>, words: &str) -> Markup {
    html! { @if let Some(next) = next { nav.pager aria-label="Pages" { a.button href=(next) rel="next" { (words) } } } }
}

/// A field of a filter or a form, on one line, with what is wrong with it.
pub(super) fn text_field(name: &str, label: &str, value: &str, placeholder: &str, fault: Option<&str>) -> Markup {
    html! {
        div {
            label for={ "f-" (name) } { (label) }
            input #{ "f-" (name) } type="text" name=(name) value=(value) placeholder=[(!placeholder.is_empty()).then_some(placeholder)]
                autocomplete="off" spellcheck="false" aria-invalid=[marked(fault)] aria-describedby=[described(name, fault)];
            (told(name, fault))
        }
    }
}

/// A choice of one, with what is wrong with it; the first entry stands for none of them.
pub(super) fn select(
    name: &str,
    label: &str,
    choices: &[(String, String)],
    chosen: &str,
    none: &str,
    fault: Option<&str>,
) -> Markup {
    html! {
        div {
            label for={ "f-" (name) } { (label) }
            select #{ "f-" (name) } name=(name) aria-invalid=[marked(fault)] aria-describedby=[described(name, fault)] {
                option value="" { (none) }
                @for (value, words) in choices { option value=(value) selected[value == chosen] { (words) } }
            }
            (told(name, fault))
        }
    }
}

/// The mark of a field that something is wrong with.
pub(super) fn marked(fault: Option<&str>) -> Option<&'static str> {
    fault.map(|_| "true")
}

/// Where it is told what is wrong with a field.
pub(super) fn described(name: &str, fault: Option<&str>) -> Option<String> {
    fault.map(|_| format!("e-{name}"))
}

/// What is wrong with a field, beneath it.
pub(super) fn told(name: &str, fault: Option<&str>) -> Markup {
    html! { @if let Some(why) = fault { p.error #{ "e-" (name) } role="alert" { (icon(Icon::Alert)) span { (why) } } } }
}

/// A path with the query of a visit, to be changed.
pub(super) struct Links {
    path: String,
    pairs: Vec<(String, String)>,
}

impl Links {
    /// The visit's own.
    pub(super) fn of(visit: &Visit) -> Self {
        let pairs = url::form_urlencoded::parse(visit.request.query_text().as_bytes());
        let pairs = pairs.filter(|(name, value)| !value.is_empty() && name != "done");
        let pairs = pairs.map(|(name, value)| (name.into_owned(), value.into_owned())).collect();
        Links { path: visit.request.path().to_owned(), pairs }
    }

    /// At another path.
    pub(super) fn at(self, path: &str) -> Self {
        Links { path: path.to_owned(), ..self }
    }

    /// Without this parameter.
    pub(super) fn without(mut self, name: &str) -> Self {
        self.pairs.retain(|(known, _)| known != name);
        self
    }

    /// With this parameter.
    pub(super) fn with(self, name: &str, value: &str) -> Self {
        let mut links = self.without(name);
        links.pairs.push((name.to_owned(), value.to_owned()));
        links
    }

    /// As it stands in a link.
    pub(super) fn path(&self) -> String {
        match self.pairs.is_empty() {
            true => self.path.clone(),
            false => format!("{}?{}", self.path, self.query()),
        }
    }

    /// The page of a list in the store that is asked for: rows behind its cursor, in the list that its filters make.
    pub(super) fn page(&self, rows: usize) -> Result<Page, Problem> {
        // A filter that was left alone, and what a form has just done, are none of the list's name.
        let query = Query::parse_text(&self.query())?;
        Ok(Page { limit: rows, offset: 0, ..Page::from_query(&self.path, &query)? })
    }

    fn query(&self) -> String {
        url::form_urlencoded::Serializer::new(String::new()).extend_pairs(&self.pairs).finish()
    }
}
