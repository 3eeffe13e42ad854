//! Charts: SVG made here, of what attempts came to over a span. Each tells its figures in words as well.

use std::fmt::Write as _;
use std::time::Duration;

use maud::{Markup, html};

use super::parts::{moment, number, stamp, took};
use crate::model::Timestamp;
use crate::service::pulse::{Course, Slice, Span};

const WIDTH: f64 = 480.0;
const HEIGHT: f64 = 150.0;
const LEFT: f64 = 56.0;
const TOP: f64 = 10.0;
const BOTTOM: f64 = 22.0;

/// Two charts of one course: what attempts came to, and how long they took.
pub(super) fn charts(course: &Course, span: Span, now: Timestamp, switch: &Markup) -> Markup {
    let Slice { succeeded, failed, .. } = course.total;
    let begun = html! {
        @if unseen(course, span, now) > 0.0 {
            p.hint { "Counted since the daemon started, " (moment(course.since, now)) " (" (stamp(course.since)) " UTC)." }
        }
    };
    html! {
        div.grid {
            section.card {
                header { h2 { "Attempts" } (switch) }
                (outcomes(course, span, now))
                ul.legend {
                    li { svg viewBox="0 0 20 10" aria-hidden="true" { rect.ok width="20" height="10" rx="2" {} } "succeeded, upwards " b { (number(succeeded)) } }
                    li { svg viewBox="0 0 20 10" aria-hidden="true" { rect.fail width="20" height="10" rx="2" {} } "failed, downwards " b { (number(failed)) } }
                    li { "success rate " b { (rate(&course.total)) } }
                }
                (begun)
            }
            section.card {
                header { h2 { "Time an attempt takes" } (switch) }
                (durations(course, span, now))
                ul.legend {
                    li { svg viewBox="0 0 20 10" aria-hidden="true" { path.p50 d="M0 5h20" {} } "half within (p50) " b { (percentile(&course.total, 50)) } }
                    li { svg viewBox="0 0 20 10" aria-hidden="true" { path.p95 d="M0 5h20" {} } "95 % within (p95) " b { (percentile(&course.total, 95)) } }
                }
                (begun)
            }
        }
    }
}

/// The part of a span that lies before the daemon's start: nothing is known of it.
fn unseen(course: &Course, span: Span, now: Timestamp) -> f64 {
    (1.0 - now.since(course.since).as_secs_f64() / span.duration().as_secs_f64()).max(0.0)
}

/// The same as a place in a chart, where it is wide enough to be seen.
fn unseen_rect(course: &Course, span: Span, now: Timestamp) -> Markup {
    let wide = rounded(unseen(course, span, now) * (WIDTH - LEFT));
    html! { @if wide >= 1.0 { rect.unseen x=(LEFT) y=(TOP) width=(wide) height=(HEIGHT - TOP - BOTTOM) { title { "before the daemon's start" } } } }
}

/// The part that succeeded, in words.
pub(super) fn rate(slice: &Slice) -> String {
    match slice.success_rate() {
        None => "–".to_owned(),
        // What is not all must not be rounded to all.
        Some(rate) if slice.failed > 0 => format!("{:.1} %", (rate * 100.0).min(99.9)),
        Some(_) => "100 %".to_owned(),
    }
}

fn percentile(slice: &Slice, percent: u64) -> String {
    slice.percentile(percent).map_or("–".to_owned(), took)
}

fn axis(span: Span, top: &str, low: &str, zero: f64) -> Markup {
    let (first, middle) = match span {
        Span::Hour => ("1 h ago", "30 min ago"),
        Span::Day => ("24 h ago", "12 h ago"),
    };
    let foot = HEIGHT - 6.0;
    html! {
        line.axis x1=(LEFT) x2=(WIDTH) y1=(zero) y2=(zero) {}
        text x=(LEFT - 6.0) y=(TOP + 8.0) text-anchor="end" { (top) }
        @if !low.is_empty() { text x=(LEFT - 6.0) y=(HEIGHT - BOTTOM) text-anchor="end" { (low) } }
        text x=(LEFT) y=(foot) { (first) }
        text x=((LEFT + WIDTH) / 2.0) y=(foot) text-anchor="middle" { (middle) }
        text x=(WIDTH) y=(foot) text-anchor="end" { "now" }
    }
}

fn outcomes(course: &Course, span: Span, now: Timestamp) -> Markup {
    let most = |count: fn(&Slice) -> u64| course.slices.iter().map(count).max().unwrap_or(0);
    let (up, down) = (most(|slice| slice.succeeded), most(|slice| slice.failed));
    let height = HEIGHT - TOP - BOTTOM;
    if up + down == 0 {
        return nothing(course, span, now);
    }
    let unit = height / (up + down).max(1) as f64;
    // A single failure among thousands must be seen.
    let tall = |count: u64| if count == 0 { 0.0 } else { (count as f64 * unit).max(2.0) };
    let zero = TOP + up as f64 * unit;
    let wide = (WIDTH - LEFT) / course.slices.len().max(1) as f64;
    let words = format!(
        "{} attempts, {} of them failed, success rate {}",
        course.total.attempts(),
        course.total.failed,
        rate(&course.total)
    );
    html! {
        svg.chart viewBox={ "0 0 " (WIDTH) " " (HEIGHT) } role="img" aria-label=(words) {
            (unseen_rect(course, span, now))
            @for (place, slice) in course.slices.iter().enumerate().filter(|(_, slice)| slice.attempts() > 0) {
                @let x = rounded(LEFT + place as f64 * wide + 0.5);
                g {
                    title { (slice.from) ": " (slice.succeeded) " succeeded, " (slice.failed) " failed" }
                    @if slice.succeeded > 0 {
                        rect.ok x=(x) width=(rounded(wide - 1.0)) y=(rounded(zero - tall(slice.succeeded))) height=(rounded(tall(slice.succeeded))) rx="1" {}
                    }
                    @if slice.failed > 0 {
                        rect.fail x=(x) width=(rounded(wide - 1.0)) y=(rounded(zero + 1.0)) height=(rounded(tall(slice.failed))) rx="1" {}
                    }
                }
            }
            (axis(span, &number(up), &if down > 0 { number(down) } else { String::new() }, rounded(zero)))
        }
    }
}

fn durations(course: &Course, span: Span, now: Timestamp) -> Markup {
    if course.total.attempts() == 0 {
        return nothing(course, span, now);
    }
    let of = |slice: &Slice, percent| slice.percentile(percent).unwrap_or_default();
    let most = course.slices.iter().map(|slice| of(slice, 95)).max().unwrap_or_default().max(Duration::from_millis(1));
    let height = HEIGHT - TOP - BOTTOM;
    let wide = (WIDTH - LEFT) / course.slices.len().max(1) as f64;
    let place = |at: usize, took: Duration| {
        let x = LEFT + (at as f64 + 0.5) * wide;
        (rounded(x), rounded(HEIGHT - BOTTOM - took.as_secs_f64() / most.as_secs_f64() * height))
    };
    let line = |percent: u64| {
        let (mut path, mut alone, mut drawing) = (String::new(), Vec::new(), false);
        for (at, slice) in course.slices.iter().enumerate() {
            let has_neighbour = course.slices.get(at + 1).is_some_and(|next| next.attempts() > 0);
            match slice.attempts() {
                0 => drawing = false,
                _ => {
                    let (x, y) = place(at, of(slice, percent));
                    if drawing || has_neighbour {
                        write!(path, "{}{x} {y}", if drawing { "L" } else { "M" }).expect("a String takes every write");
                        drawing = true;
                    } else {
                        alone.push((x, y));
                    }
                }
            }
        }
        (path, alone)
    };
    let words = format!(
        "half of the attempts within {}, 95 % within {}",
        percentile(&course.total, 50),
        percentile(&course.total, 95)
    );
    html! {
        svg.chart viewBox={ "0 0 " (WIDTH) " " (HEIGHT) } role="img" aria-label=(words) {
            (unseen_rect(course, span, now))
            (axis(span, &took(most), "", HEIGHT - BOTTOM))
            @for (percent, class) in [(95, "p95"), (50, "p50")] {
                @let (path, alone) = line(percent);
                @if !path.is_empty() { path class=(class) d=(path) {} }
                @for (x, y) in alone { circle class=(class) cx=(x) cy=(y) r="3.5" {} }
            }
        }
    }
}

/// A chart of a span in which nothing was attempted.
fn nothing(course: &Course, span: Span, now: Timestamp) -> Markup {
    let words = match unseen(course, span, now) > 0.0 {
        true => "No attempts since the daemon started",
        false => "No attempts in this time",
    };
    html! {
        svg.chart viewBox={ "0 0 " (WIDTH) " " (HEIGHT) } role="img" aria-label=(words) {
            (unseen_rect(course, span, now))
            (axis(span, "", "", HEIGHT - BOTTOM))
            text.none x=((LEFT + WIDTH) / 2.0) y=(HEIGHT / 2.0) text-anchor="middle" { (words) }
        }
    }
}

fn rounded(value: f64) -> f64 {
    (value * 10.0).round() / 10.0
}

/// How long each part of an attempt took, side by side.
pub(super) fn phases(parts: &[(&'static str, Option<Duration>)]) -> Markup {
    let all: f64 = parts.iter().filter_map(|(_, span)| *span).map(|span| span.as_secs_f64()).sum();
    if all <= 0.0 {
        return html! {};
    }
    let mut left = 0.0;
    let mut bars = Vec::new();
    for (name, span) in parts {
        if let Some(span) = span {
            let wide = (span.as_secs_f64() / all * 300.0).max(1.5);
            bars.push((*name, *span, rounded(left), rounded(wide)));
            left += wide;
        }
    }
    html! {
        svg.phases viewBox={ "0 0 " (rounded(left.max(300.0))) " 12" } preserveAspectRatio="none" aria-hidden="true" {
            @for (name, span, x, wide) in &bars {
                rect class={ "ph-" (name) } x=(x) y="1" width=(wide) height="10" { title { (name) " " (took(*span)) } }
            }
        }
        ul.legend {
            @for (name, span, ..) in &bars {
                li { svg viewBox="0 0 20 10" aria-hidden="true" { rect class={ "ph-" (name) } width="20" height="10" rx="2" {} } (name) " " b { (took(*span)) } }
            }
        }
    }
}
