//! What a run found: figures with their floors, as a table or as one JSON object.

use std::io::Write;

use comfy_table::{CellAlignment, Table, presets};
use serde_json::json;

use super::sink::Tally;
use super::{Arguments, Preload};
use crate::cli::{Failure, Form};

/// What a figure counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Unit {
    PerSecond,
    Millis,
    Micros,
    Mebibytes,
}

impl Unit {
    fn as_str(self) -> &'static str {
        match self {
            Unit::PerSecond => "/s",
            Unit::Millis => "ms",
            Unit::Micros => "us",
            Unit::Mebibytes => "MiB",
        }
    }

    fn decimals(self) -> usize {
        match self {
            Unit::PerSecond => 0,
            Unit::Millis => 2,
            Unit::Micros | Unit::Mebibytes => 1,
        }
    }
}

struct Figure {
    id: &'static str,
    name: String,
    value: f64,
    unit: Unit,
    beside: Beside,
}

/// What was measured in the same run without the daemon.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Beside {
    /// The same client and receiver, or the same socket, without store and scheduler.
    pub(super) floor: Option<f64>,
    /// A client that only signs and posts.
    pub(super) bare: Option<f64>,
    /// The value as a part of the floor, where it is not that of the two that are shown.
    pub(super) ratio: Option<f64>,
}

impl Beside {
    pub(super) fn floor(floor: f64) -> Self {
        Beside { floor: Some(floor), ..Beside::default() }
    }
}

impl Figure {
    /// The value as a part, or a multiple, of its floor.
    fn ratio(&self) -> Option<f64> {
        let Beside { floor, ratio, .. } = self.beside;
        ratio.or_else(|| floor.filter(|floor| *floor > 0.0).map(|floor| self.value / floor))
    }
}

/// The figures of a run, in the order in which they were taken.
#[derive(Default)]
pub(super) struct Report(Vec<Figure>);

impl Report {
    pub(super) fn note(&mut self, id: &'static str, name: &str, value: f64, unit: Unit, beside: Beside) {
        self.0.push(Figure { id, name: name.to_owned(), value, unit, beside });
    }

    pub(super) fn memory(&mut self, id: &'static str, name: &str, bytes: u64) {
        self.note(id, name, bytes as f64 / f64::from(1 << 20), Unit::Mebibytes, Beside::default());
    }

    pub(super) fn print(&self, form: Form, arguments: &Arguments, sync: f64, total: &Tally) -> Result<(), Failure> {
        let cores = std::thread::available_parallelism()?.get();
        let preload = match arguments.preload_as {
            Preload::Finished => "finished",
            Preload::Waiting => "waiting",
        };
        let Arguments { destinations, fanout, payload, preload: rows, tls, .. } = arguments;
        let mut out = anstream::stdout().lock();
        match form {
            Form::Json => {
                let figures = self.0.iter().map(|figure| {
                    let Figure { id, value, unit, beside: Beside { floor, bare, .. }, .. } = figure;
                    let ratio = figure.ratio();
                    json!({
                        "id": id, "value": value, "unit": unit.as_str(), "floor": floor, "ratio": ratio, "bare": bare,
                    })
                });
                let figures: Vec<_> = figures.collect();
                let line = json!({
                    "figures": figures, "cores": cores, "sync_ms": sync, "durable": true, "payload": payload,
                    "destinations": destinations, "fanout": fanout, "preload": rows, "preload_as": preload,
                    "tls": tls,
                    "received": total.received, "lost": total.lost, "repeats": total.repeats, "strays": total.strays,
                    "verified": total.verified, "unverified": total.unverified,
                });
                writeln!(out, "{line}")?;
            }
            Form::Text => {
                writeln!(out, "{}", self.table())?;
                writeln!(
                    out,
                    "{cores} cores for the daemon, the receiver and the load together; every figure is durable: each \
                     acknowledgement stands for a synced commit, and a sync takes {sync:.2} ms here."
                )?;
                let Tally { received, lost, repeats, strays, verified, unverified, .. } = total;
                writeln!(
                    out,
                    "{payload} bytes an event, {} to the receiver, {destinations} destinations, {rows} events ({preload}) in the store \
                     before; {received} received, {lost} lost, {repeats} repeated, {strays} astray; {verified} \
                     signatures verified, {unverified} wrong.",
                    if *tls { "TLS" } else { "plain HTTP" }
                )?;
            }
        }
        Ok(())
    }

    fn table(&self) -> Table {
        let mut table = Table::new();
        table.load_style(presets::NOTHING);
        table.set_header(["figure", "value", "", "floor", "of floor", "bare client"]);
        for figure in &self.0 {
            let Figure { name, value, unit, beside: Beside { floor, bare, .. }, .. } = figure;
            let number = |value: f64| format!("{value:.*}", unit.decimals());
            let absent = || "-".to_owned();
            table.add_row([
                name.clone(),
                number(*value),
                unit.as_str().to_owned(),
                floor.map_or_else(absent, number),
                figure.ratio().map_or_else(absent, |ratio| format!("{ratio:.2}")),
                bare.map_or_else(absent, number),
            ]);
        }
        for column in [1, 3, 4, 5] {
            if let Some(column) = table.column_mut(column) {
                column.set_cell_alignment(CellAlignment::Right);
            }
        }
        table
    }
}
