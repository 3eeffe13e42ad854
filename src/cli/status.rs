//! `status`: how the daemon fares, in one small table.

use std::io::Write;

use clap::Args;
use comfy_table::{CellAlignment, Table, presets};
use http::Method;
use serde::Deserialize;

use super::admin::{Admin, DaemonArguments};
use super::{Exit, Failure, Form, Trouble};

#[derive(Debug, Args)]
pub(super) struct Arguments {
    #[command(flatten)]
    daemon: DaemonArguments,
}

/// The figures of `GET /v1/status` that the table shows.
#[derive(Debug, Deserialize)]
struct Status {
    accepted: u64,
    events: Option<u64>,
    pending: u64,
    held: u64,
    succeeded: u64,
    failed: u64,
    cancelled: u64,
    oldest_pending_seconds: Option<f64>,
    #[serde(default)]
    damaged_records: Option<u64>,
}

pub(super) fn run(arguments: &Arguments, form: Form) -> Result<Exit, Failure> {
    let answer = Admin::new(&arguments.daemon)?.call(Method::GET, "/v1/status", None)?;
    let value = answer.value()?;
    let mut out = anstream::stdout().lock();
    match form {
        Form::Json => answer.write_to(&mut out)?,
        Form::Text => {
            let status: Status = serde_json::from_value(value).map_err(|error| {
                let help = "the command and the daemon may be of different versions; --json shows the answer as it is";
                let cause = error.to_string();
                Failure::new(Exit::Failed, Trouble::new("the answer lacks a figure", "GET /v1/status", cause, help))
            })?;
            writeln!(out, "{}", table(&status))?;
        }
    }
    Ok(Exit::Done)
}

fn table(status: &Status) -> Table {
    let mut table = Table::new();
    table.load_style(presets::NOTHING);
    let oldest = status.oldest_pending_seconds.map_or_else(|| "-".to_owned(), |seconds| format!("{seconds:.0} s"));
    let damaged = status.damaged_records.filter(|damaged| *damaged > 0);
    let rows = [
        ("events", status.events.map_or_else(|| "-".to_owned(), |events| events.to_string())),
        ("deliveries", status.accepted.to_string()),
        ("  pending", status.pending.to_string()),
        ("  held", status.held.to_string()),
        ("  succeeded", status.succeeded.to_string()),
        ("  failed", status.failed.to_string()),
        ("  cancelled", status.cancelled.to_string()),
        ("oldest pending", oldest),
    ];
    // Nothing anybody wants to see each day: told when there is something to tell.
    let damaged = damaged.map(|damaged| ("damaged records", damaged.to_string()));
    for (name, value) in rows.into_iter().chain(damaged) {
        table.add_row([name.to_owned(), value]);
    }
    if let Some(values) = table.column_mut(1) {
        values.set_cell_alignment(CellAlignment::Right);
    }
    table
}
