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
mod db;
mod demo;
mod emit;
mod explain;
mod failure;
mod listen;
mod nouns;
mod pages;
mod receiver;
mod scratch;
mod serve;
mod signature;
mod status;
mod tail;
mod words;

use std::ffi::OsString;
use std::process::ExitCode;

use clap::builder::styling::{AnsiColor, Styles};
use clap::error::ErrorKind;
use clap::{CommandFactory, FromArgMatches, Parser, Subcommand};

use failure::unreadable;
pub use failure::{Details, Exit, Failure, FieldError, Trouble};
use nouns::{delivery, destination, event, event_type, key, replay, signing_key, subscription, tenant, user};

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
    /// Show attempts as they end
    Tail(tail::Arguments),
    /// Say why a delivery, an event or a destination is where it is, and what helps
    Explain(explain::Arguments),
    /// Where webhooks go, and how
    Destination(Box<destination::Arguments>),
    /// Which events go where
    Subscription(subscription::Arguments),
    /// What was accepted
    Event(event::Arguments),
    /// Which types of events there are: the catalogue
    EventType(event_type::Arguments),
    /// One event on its way to one destination, with its attempts
    Delivery(delivery::Arguments),
    /// Many deliveries that have ended, sent again as one job
    Replay(replay::Arguments),
    /// Whose destinations, events and keys they are
    Tenant(tenant::Arguments),
    /// Who may use the admin API, and for what
    Key(key::Arguments),
    /// Secrets of a tenant that several destinations sign with
    SigningKey(signing_key::Arguments),
    /// Who may sign in to the dashboard
    User(user::Arguments),
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
    /// Look at the store of a stopped daemon, and make it smaller
    Db(db::Arguments),
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

/// The whole command line. A verb's help shows those of its noun's examples that begin with it.
fn whole_command() -> clap::Command {
    Arguments::command().mut_subcommands(|noun| {
        let (name, help) = (noun.get_name().to_owned(), noun.get_after_help().map(ToString::to_string));
        let Some(help) = help else { return noun };
        noun.mut_subcommands(|verb| {
            let start = format!("postrider {name} {}", verb.get_name());
            let is_own = |line: &&str| {
                line.trim_start().strip_prefix(&start).is_some_and(|rest| rest.is_empty() || rest.starts_with(' '))
            };
            match help.lines().filter(is_own).collect::<Vec<_>>().as_slice() {
                [] => verb,
                [one] => verb.after_help(format!("Example:\n{one}")),
                several => verb.after_help(format!("Examples:\n{}", several.join("\n"))),
            }
        })
    })
}

/// Runs the command line of this process.
pub fn main() -> ExitCode {
    let parsed = whole_command().try_get_matches().and_then(|matches| Arguments::from_arg_matches(&matches));
    let arguments = match parsed {
        Ok(arguments) => arguments,
        Err(error) => {
            // Help and version come this way too, and they are no failure.
            match usage_failure(&error) {
                Some(failure) if asks_for_json(std::env::args_os()) => failure.print(Form::Json),
                // A closed pipe has nobody left to tell.
                Some(_) | None => drop(error.print()),
            }
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

/// Whether `--json` stands among arguments that could not be understood as a whole.
fn asks_for_json(arguments: impl IntoIterator<Item = OsString>) -> bool {
    arguments.into_iter().take_while(|argument| argument != "--").any(|argument| argument == "--json")
}

/// What is wrong with the arguments, for programs; `None` when what is printed is the help that was asked for, or that stands in
/// the place of a verb.
fn usage_failure(error: &clap::Error) -> Option<Failure> {
    if !error.use_stderr() || error.kind() == ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand {
        return None;
    }
    // The first paragraph says what is wrong; behind it stand the usage and where to read more.
    let text = error.render().to_string();
    let told = text.split("\n\n").next().unwrap_or_default();
    let told = told.strip_prefix("error: ").unwrap_or(told);
    let cause = told.split_whitespace().collect::<Vec<_>>().join(" ");
    let help = "the same command with --help says what it takes".to_owned();
    let trouble = Trouble { what: "the arguments make no sense".to_owned(), place: None, cause, help };
    Some(Failure::new(Exit::Usage, trouble))
}

fn run(command: Command, form: Form) -> Result<Exit, Failure> {
    match command {
        Command::Demo(arguments) => demo::run(&arguments, form),
        Command::Serve(arguments) => serve::run(&arguments, form),
        Command::Check(arguments) => check::run(&arguments, form),
        Command::Status(arguments) => status::run(&arguments, form),
        Command::Emit(arguments) => emit::run(&arguments, form),
        Command::Tail(arguments) => tail::run(&arguments, form),
        Command::Explain(arguments) => explain::run(&arguments, form),
        Command::Destination(arguments) => destination::run(&arguments, form),
        Command::Subscription(arguments) => subscription::run(&arguments, form),
        Command::Event(arguments) => event::run(&arguments, form),
        Command::EventType(arguments) => event_type::run(&arguments, form),
        Command::Delivery(arguments) => delivery::run(&arguments, form),
        Command::Replay(arguments) => replay::run(&arguments, form),
        Command::Tenant(arguments) => tenant::run(&arguments, form),
        Command::Key(arguments) => key::run(&arguments, form),
        Command::SigningKey(arguments) => signing_key::run(&arguments, form),
        Command::User(arguments) => user::run(&arguments, form),
        Command::Listen(arguments) => listen::run(&arguments, form),
        Command::Bench(arguments) => bench::run(&arguments, form),
        Command::Sign(arguments) => signature::sign(&arguments, form),
        Command::Verify(arguments) => signature::verify(&arguments, form),
        Command::Audit { command } => audit::run(&command, form),
        Command::Db(arguments) => db::run(&arguments, form),
        Command::Config { command } => config::run(&command, form),
        Command::Completions(arguments) => pages::completions(&arguments, &mut whole_command()),
        Command::Man(arguments) => pages::man(&arguments, whole_command()),
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

#[cfg(test)]
mod tests {
    use super::*;

    use crate::model::{DeliveryId, DestinationNo, Epoch, EventId, Seq};

    const UUID: &str = "9603F4B2-1874-42FE-A2BC-F7B45C45A9D6";

    /// The words of a line as a shell reads them, up to a pipe, a redirection or a comment.
    fn words(line: &str) -> Vec<String> {
        let mut words = Vec::new();
        let mut parts = line.trim().split('\'').enumerate();
        for (number, part) in parts.by_ref() {
            // Every second part stands in quotes.
            if number % 2 == 1 {
                words.push(part.to_owned());
                continue;
            }
            for word in part.split_whitespace() {
                if ["|", ">", "<", "#"].contains(&word) {
                    return words;
                }
                words.push(match word {
                    "ID" | "DESTINATION" => UUID.to_owned(),
                    "KEY" => "0000000000".to_owned(),
                    "SIGNING_KEY" => "sgk_0000000000".to_owned(),
                    "evt_…" => event_id().to_string(),
                    "dlv_…" => DeliveryId { event: event_id(), destination: DestinationNo(1) }.to_string(),
                    word => word.to_owned(),
                });
            }
        }
        words
    }

    fn event_id() -> EventId {
        EventId::new(Epoch(1), Seq(1))
    }

    /// With `--json` a program need not read prose to learn that it was misunderstood.
    #[test]
    fn arguments_that_make_no_sense_are_told_as_json_too() {
        let failure = |line: &str| usage_failure(&whole_command().try_get_matches_from(line.split(' ')).unwrap_err());
        let cause = |line: &str| failure(line).unwrap().troubles.remove(0).cause;
        assert!(cause("postrider destination show x --json").starts_with("invalid value 'x' for '<ID>': not a UUID"));
        assert_eq!(cause("postrider frob --json"), "unrecognized subcommand 'frob'");
        let missing = cause("postrider destination create --json");
        assert!(missing.contains("not provided: --name <NAME> --endpoint <URL>"), "{missing}");
        assert_eq!(failure("postrider --help"), None);
        assert_eq!(failure("postrider destination"), None);
        let asks = |line: &str| asks_for_json(line.split(' ').map(OsString::from));
        assert!(asks("postrider destination show x --json") && !asks("postrider emit -- --json"));
    }

    #[test]
    fn every_verb_of_a_noun_has_an_example_and_every_example_can_be_said() {
        let command = whole_command();
        command.clone().debug_assert();
        let mut said = 0;
        for noun in command.get_subcommands() {
            let help = noun.get_after_help().map(ToString::to_string).unwrap_or_default();
            // What is wrapped cannot be copied.
            let long = help.lines().find(|line| line.starts_with("  ") && line.chars().count() > 80);
            assert_eq!(long, None);
            let help = help.replace("\\\n", " ");
            for line in help.lines().filter(|line| line.trim_start().starts_with("postrider ")) {
                let words = words(line);
                let parsed = command.clone().try_get_matches_from(&words);
                assert!(parsed.is_ok(), "{line}\n{words:?}\n{}", parsed.unwrap_err());
                // A shell reads a pattern before the program does.
                assert!(!line.contains('*') || line.contains('\''), "{line}");
                said += 1;
            }
            for verb in noun.get_subcommands().filter(|_| !help.is_empty()) {
                assert!(verb.get_after_help().is_some(), "{} {}", noun.get_name(), verb.get_name());
            }
        }
        assert!(said > 40, "{said}");
    }
}
