//! `completions` and `man`: what a package installs beside the binary.

use std::io::Write;

use clap::Args;
use clap_complete::Shell;

use super::{Exit, Failure};

#[derive(Debug, Args)]
pub(super) struct CompletionsArguments {
    /// For which shell
    shell: Shell,
}

#[derive(Debug, Args)]
pub(super) struct ManArguments {
    /// The page of one command, such as `emit` or `config show`, instead of the whole program's
    command: Vec<String>,
}

pub(super) fn completions(arguments: &CompletionsArguments, command: &mut clap::Command) -> Result<Exit, Failure> {
    let mut text = Vec::new();
    clap_complete::generate(arguments.shell, command, "postrider", &mut text);
    std::io::stdout().lock().write_all(&text)?;
    Ok(Exit::Done)
}

pub(super) fn man(arguments: &ManArguments, mut command: clap::Command) -> Result<Exit, Failure> {
    command.build();
    for name in &arguments.command {
        command = match command.find_subcommand(name) {
            Some(found) => found.clone(),
            None => {
                let trouble = super::Trouble {
                    what: format!("there is no page for \"{name}\""),
                    place: None,
                    cause: "it is not a command".to_owned(),
                    help: "postrider --help    # lists the commands".to_owned(),
                };
                return Err(Failure::new(Exit::Usage, trouble));
            }
        };
    }
    let mut text = Vec::new();
    clap_mangen::Man::new(command).render(&mut text)?;
    std::io::stdout().lock().write_all(&text)?;
    Ok(Exit::Done)
}
