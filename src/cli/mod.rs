//! The command line: reads arguments, does one thing, says what came of it.
//!
//! Standard output is data, standard error is talk. Every failure says what happened, where, the likely cause, and the
//! command or change that helps, and ends with one of a few exit codes that scripts may rely on (`Exit`). With `--json`
//! the data is JSON, one object a line, and so is a failure. The daemon's own log is not this module's matter.

mod admin;
mod audit;
mod bench;
mod check;
mod config;
mod demo;
mod emit;
mod failure;
mod listen;
mod pages;
mod receiver;
mod scratch;
mod serve;
mod signature;
mod status;

use std::process::ExitCode;

use clap::builder::styling::{AnsiColor, Styles};
use clap::{CommandFactory, Parser, Subcommand};

use failure::unreadable;
pub use failure::{Exit, Failure, Trouble};

use crate::config::Places;

/// Webhook delivery daemon for payment gateways: one process, one binary, one file on disk.
#[derive(Debug, Parser)]
#[command(name = "postrider", version, max_term_width = 100, styles = STYLES)]
#[command(after_help = "Exit codes: 0 done, 1 failed, 2 usage, 69 daemon not reachable, 74 the store failed, \
75 try later, 77 not permitted, 78 bad config.")]
struct Arguments {
    /// Write data, and failures, as JSON
    #[arg(long, global = true)]
    json: bool,
    #[command(subcommand)]
    command: Command,
}

const STYLES: Styles = Styles::styled()
    .header(AnsiColor::Green.on_default().bold())
    .usage(AnsiColor::Green.on_default().bold())
    .literal(AnsiColor::Cyan.on_default())
    .placeholder(AnsiColor::Cyan.on_default());

#[derive(Debug, Subcommand)]
enum Command {
    /// See it work: a throw-away daemon, a receiver that fails at first, and a few events
    Demo(demo::Arguments),
    /// Run the daemon until it is told to stop
    Serve(config::ConfigArguments),
    /// Read the configuration, look at what it names, and say what `serve` would do
    Check(config::ConfigArguments),
    /// Show how the daemon fares
    Status(status::Arguments),
    /// Hand an event to the daemon, and wait until it is on disk
    Emit(emit::Arguments),
    /// Receive webhooks on this machine and print them
    Listen(listen::Arguments),
    /// Measure a throw-away daemon on this machine, beside the same load without one
    Bench(bench::Arguments),
    /// Print the signature headers for a body
    Sign(signature::SignArguments),
    /// Say whether a body's signature is right
    Verify(signature::VerifyArguments),
    /// Show who changed what, and prove that nothing was changed since
    Audit {
        #[command(subcommand)]
        command: audit::Command,
    },
    /// Show the configuration
    Config {
        #[command(subcommand)]
        command: config::Command,
    },
    /// Print the completions for a shell
    Completions(pages::CompletionsArguments),
    /// Print the manual page
    Man(pages::ManArguments),
}

/// How a command writes its data.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    /// For people.
    Text,
    /// For programs.
    Json,
}

/// Runs the command line of this process.
pub fn main() -> ExitCode {
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) => {
            // Help and version come this way too, and they are no failure. A closed pipe has nobody left to tell.
            let _ = error.print();
            return ExitCode::from(if error.use_stderr() { Exit::Usage } else { Exit::Done });
        }
    };
    let form = if arguments.json { Form::Json } else { Form::Text };
    match run(arguments.command, form) {
        Ok(exit) => exit.into(),
        Err(failure) => {
            failure.print(form);
            failure.exit.into()
        }
    }
}

fn run(command: Command, form: Form) -> Result<Exit, Failure> {
    match command {
        Command::Demo(arguments) => demo::run(&arguments, form),
        Command::Serve(arguments) => serve::run(&arguments, form),
        Command::Check(arguments) => check::run(&arguments, form),
        Command::Status(arguments) => status::run(&arguments, form),
        Command::Emit(arguments) => emit::run(&arguments, form),
        Command::Listen(arguments) => listen::run(&arguments, form),
        Command::Bench(arguments) => bench::run(&arguments, form),
        Command::Sign(arguments) => signature::sign(&arguments, form),
        Command::Verify(arguments) => signature::verify(&arguments, form),
        Command::Audit { command } => audit::run(&command, form),
        Command::Config { command } => config::run(&command, form),
        Command::Completions(arguments) => pages::completions(&arguments, &mut Arguments::command()),
        Command::Man(arguments) => pages::man(&arguments, Arguments::command()),
    }
}

/// Where this process's files lie by default.
fn places() -> Places {
    Places::of_process(nix::unistd::geteuid().is_root(), |name| std::env::var(name).ok())
}

/// A runtime for commands that talk HTTP.
fn runtime() -> Result<tokio::runtime::Runtime, Failure> {
    Ok(tokio::runtime::Builder::new_current_thread().enable_all().build()?)
}
