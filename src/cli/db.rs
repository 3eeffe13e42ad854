//! `db`: looks at the store of a stopped daemon, and makes it smaller.

use std::fmt::Write as _;
use std::io::Write;

use clap::{Args, Subcommand};
use comfy_table::{CellAlignment, Table, presets};

use super::config::ConfigArguments;
use super::{Exit, Failure, Form, Trouble, serve};
use crate::config::Config;
use crate::daemon::offline::{self, Compacted, FileSize, Finding, OfflineError, Stat};

#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
postrider db check\n  \
postrider db check --json | jq -r 'select(.table) | [.table, .key] | @tsv'\n  \
postrider db stat --config /etc/postrider/config.toml\n  \
postrider db compact\n\n\
These work on a stopped daemon: while one runs they say so and end with 75. The store's path and its master key\n\
are those that `serve` would take.")]
pub(super) struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Read every record, and tell each that is damaged or contradicts others; changes nothing
    Check(ConfigArguments),
    /// Count what the store holds and takes; changes nothing
    Stat(ConfigArguments),
    /// Give free space back to the disk, and drop data keys that no record needs
    Compact(ConfigArguments),
}

pub(super) fn run(arguments: &Arguments, form: Form) -> Result<Exit, Failure> {
    match &arguments.command {
        Command::Check(config) => check(&config.load()?.config, form),
        Command::Stat(config) => stat(&config.load()?.config, form),
        Command::Compact(config) => compact(&config.load()?.config, form),
    }
}

fn check(config: &Config, form: Form) -> Result<Exit, Failure> {
    // A damaged page may end the walk over a table in a panic, which is caught and told as a finding.
    std::panic::set_hook(Box::new(|_| {}));
    let mut out = anstream::stdout().lock();
    let mut written = Ok(());
    let checked = offline::check(&config.store, &mut |finding| {
        if written.is_ok() {
            written = write_finding(&mut out, &finding, form);
        }
    });
    let _ = std::panic::take_hook();
    let checked = checked.map_err(failure)?;
    written?;
    let path = config.store.path.display();
    match form {
        Form::Json => {
            let ok = checked.findings == 0;
            writeln!(
                out,
                "{}",
                serde_json::json!({"ok": ok, "records": checked.records, "findings": checked.findings})
            )?;
        }
        Form::Text if checked.findings == 0 => writeln!(out, "{path}: {} records, all is well", checked.records)?,
        Form::Text => {}
    }
    if checked.findings == 0 {
        return Ok(Exit::Done);
    }
    let cause = match checked.findings {
        1 => format!("1 thing is wrong, among {} records", checked.records),
        several => format!("{several} things are wrong, among {} records", checked.records),
    };
    let help = "keep a copy of the file as it is, look at the disk (dmesg, smartctl), and put back the last copy that was whole";
    Err(Failure::new(Exit::Failed, Trouble::new("the store is damaged", path.to_string(), cause, help)))
}

fn write_finding(out: &mut impl Write, finding: &Finding, form: Form) -> std::io::Result<()> {
    let Finding { table, key, reason } = finding;
    match form {
        Form::Json => writeln!(out, "{}", serde_json::json!({"table": table, "key": key, "reason": reason})),
        Form::Text if key.is_empty() => writeln!(out, "{table}: {reason}"),
        Form::Text => writeln!(out, "{table} {key}: {reason}"),
    }
}

fn stat(config: &Config, form: Form) -> Result<Exit, Failure> {
    let stat = offline::stat(&config.store).map_err(failure)?;
    let mut out = anstream::stdout().lock();
    if form == Form::Json {
        writeln!(out, "{}", serde_json::json!(stat))?;
        return Ok(Exit::Done);
    }
    let Stat { tables, file, data_keys, epoch, next_seq } = stat;
    let mut table = Table::new();
    table.load_style(presets::NOTHING);
    table.set_header(["TABLE", "ROWS", "BYTES", "IN PAGES"]);
    for of_table in tables {
        let numbers = [of_table.rows, of_table.bytes, of_table.page_bytes].map(|number| number.to_string());
        table.add_row(std::iter::once(of_table.table.to_owned()).chain(numbers));
    }
    (1..4)
        .filter_map(|place| table.column_mut(place).map(|column| column.set_cell_alignment(CellAlignment::Right)))
        .count();
    writeln!(out, "{table}\n")?;
    writeln!(out, "file       {}", shown(file))?;
    writeln!(out, "data keys  {data_keys}\nepoch      {epoch:08x}\nnext seq   {next_seq}")?;
    writeln!(anstream::stderr().lock(), "much more on disk than in pages: postrider db compact")?;
    Ok(Exit::Done)
}

fn compact(config: &Config, form: Form) -> Result<Exit, Failure> {
    let compacted = offline::compact(&config.store).map_err(failure)?;
    let mut out = anstream::stdout().lock();
    if form == Form::Json {
        writeln!(out, "{}", serde_json::json!(compacted))?;
        return Ok(Exit::Done);
    }
    let Compacted { before, after, data_keys_dropped, findings } = compacted;
    let mut text = format!("before  {}\nafter   {}\n", shown(before), shown(after));
    let _ = match (data_keys_dropped, findings) {
        (_, 1..) => writeln!(text, "data keys: all kept, for {findings} records are damaged"),
        (dropped, 0) => writeln!(text, "data keys: {dropped} dropped"),
    };
    out.write_all(text.as_bytes())?;
    if findings > 0 {
        writeln!(anstream::stderr().lock(), "see which records are damaged: postrider db check")?;
    }
    Ok(Exit::Done)
}

fn shown(file: FileSize) -> String {
    format!("{} bytes long, {} bytes on disk", file.length, file.on_disk)
}

fn failure(error: OfflineError) -> Failure {
    let what = "cannot open the store";
    let trouble =
        |path: &std::path::Path, cause: String, help: &str| Trouble::new(what, path.display().to_string(), cause, help);
    let cause = error.to_string();
    match error {
        OfflineError::Held { path } => {
            let help = "stop the daemon first: systemctl stop postrider, or look who it is: fuser FILE";
            Failure::new(Exit::TryLater, trouble(&path, cause, help))
        }
        OfflineError::NoStore { path } => {
            let help = "name the daemon's configuration (--config), or set store.path; serve makes a new store";
            Failure::new(Exit::BadConfig, trouble(&path, cause, help))
        }
        OfflineError::Damaged { path, .. } => {
            let help = "postrider db check    # names what is damaged; then restore a backup";
            Failure::new(Exit::Failed, trouble(&path, cause, help))
        }
        OfflineError::Start(error) => serve::open_failure(what, error),
    }
}
