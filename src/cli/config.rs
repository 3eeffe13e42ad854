//! `config show` and `config example`, and how every command that needs the configuration finds it.

use std::io::Write;
use std::path::PathBuf;

use clap::builder::styling::Style;
use clap::{Args, Subcommand};

use super::{Exit, Failure, Form};
use crate::config::{EXAMPLE, Entry, Loaded, Origin, Sources};

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Print every value that holds, and where it comes from
    Show(ConfigArguments),
    /// Print a file with every key, its default and what it means
    Example,
}

/// Where the configuration is.
#[derive(Debug, Args)]
pub(super) struct ConfigArguments {
    /// The configuration file; conf.d/*.toml beside it is read too
    #[arg(long, value_name = "FILE")]
    pub(super) config: Option<PathBuf>,
    /// Set one key, above all files and the environment: delivery.timeout=10s
    #[arg(long, value_name = "KEY=VALUE", value_parser = assignment)]
    pub(super) set: Vec<(String, String)>,
}

fn assignment(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if key.contains('.') => Ok((key.trim().to_owned(), value.to_owned())),
        _ => Err("it is section.key=value, such as delivery.timeout=10s".to_owned()),
    }
}

impl ConfigArguments {
    /// Reads the configuration that these arguments, the environment and the files make.
    pub(super) fn load(&self) -> Result<Loaded, Failure> {
        // What is not UTF-8 in the environment cannot be the value of any key.
        let env = std::env::vars_os()
            .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
            .collect();
        let sources = Sources { file: self.config.clone(), env, flags: self.set.clone(), places: super::places() };
        Ok(Loaded::load(&sources)?)
    }
}

pub(super) fn run(command: &Command, form: Form) -> Result<Exit, Failure> {
    let mut out = anstream::stdout().lock();
    match command {
        Command::Example => out.write_all(EXAMPLE.as_bytes())?,
        Command::Show(arguments) => {
            let loaded = arguments.load()?;
            match form {
                Form::Json => {
                    for entry in &loaded.entries {
                        writeln!(out, "{}", as_json(entry))?;
                    }
                }
                Form::Text => show(&mut out, &loaded.entries)?,
            }
        }
    }
    Ok(Exit::Done)
}

fn as_json(entry: &Entry) -> serde_json::Value {
    let section = entry.heading.trim_matches(['[', ']']);
    let Entry { key, value, origin, block, .. } = entry;
    serde_json::json!({ "section": section, "block": block, "key": key, "value": value, "origin": origin.to_string() })
}

/// A file that would say the same, with the origin of each value behind it.
fn show(out: &mut impl Write, entries: &[Entry]) -> std::io::Result<()> {
    const FAINT: Style = Style::new().dimmed();
    let mut under: Option<(&str, usize)> = None;
    let width = entries.iter().map(|entry| entry.key.len() + entry.value.len() + 3).max().unwrap_or(0).min(60);
    // A section's own keys come before its blocks, or a reader would take them for the last block's.
    let is_block = |entry: &&Entry| entry.heading.starts_with("[[");
    let section = |entry: &Entry| entry.heading.trim_matches(['[', ']']).split('.').next().map(str::to_owned);
    let mut ordered: Vec<&Entry> = Vec::with_capacity(entries.len());
    for chunk in entries.chunk_by(|a, b| section(a) == section(b)) {
        ordered.extend(chunk.iter().filter(|entry| !is_block(entry)));
        ordered.extend(chunk.iter().filter(is_block));
    }
    for entry in ordered {
        let heading = (entry.heading.as_str(), entry.block);
        if under != Some(heading) {
            let gap = if under.is_some() { "\n" } else { "" };
            writeln!(out, "{gap}{}", entry.heading)?;
            under = Some(heading);
        }
        let line = format!("{} = {}", entry.key, entry.value);
        let style = if entry.origin == Origin::Default { FAINT } else { Style::new() };
        writeln!(out, "{style}{line:width$}  # {}{style:#}", entry.origin)?;
    }
    Ok(())
}
