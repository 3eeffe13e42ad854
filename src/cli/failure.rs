//! How a command fails: in four lines for people, in one JSON object for programs, and with an exit code.

use std::io::{self, Write};
use std::path::Path;
use std::process::ExitCode;

use clap::builder::styling::{AnsiColor, Style};

use super::Form;
use crate::config::{ConfigError, Problem};

/// Exit codes, a closed list (the numbers above 63 are those of `sysexits.h`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Exit {
    /// It is done.
    Done = 0,
    /// It failed, and trying again will not help by itself.
    Failed = 1,
    /// The arguments make no sense.
    Usage = 2,
    /// The daemon cannot be reached.
    Unreachable = 69,
    /// The daemon's store failed: nothing was acknowledged since, and a new start is needed.
    StoreFailed = 74,
    /// The daemon cannot do it now; the same call may succeed later.
    TryLater = 75,
    /// This user, key or file mode does not allow it.
    NotPermitted = 77,
    /// The configuration is wrong.
    BadConfig = 78,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        ExitCode::from(exit as u8)
    }
}

/// One thing that went wrong.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Trouble {
    /// What happened.
    pub what: String,
    /// Where: a file and line, a socket, a route.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub place: Option<String>,
    /// The likely cause.
    pub cause: String,
    /// The command or the change that helps.
    pub help: String,
}

impl Trouble {
    /// A trouble with all four parts.
    pub fn new(
        what: impl Into<String>,
        place: impl Into<String>,
        cause: impl Into<String>,
        help: impl Into<String>,
    ) -> Self {
        Trouble { what: what.into(), place: Some(place.into()), cause: cause.into(), help: help.into() }
    }
}

impl From<Problem> for Trouble {
    fn from(problem: Problem) -> Self {
        let Problem { what, origin, cause, help } = problem;
        Trouble { what, place: origin.map(|origin| origin.to_string()), cause, help }
    }
}

/// What the admin API names when it refuses, for programs (members of its problem documents, RFC 9457).
#[derive(Debug, Clone, PartialEq, Eq, Default, serde::Serialize, serde::Deserialize)]
pub struct Details {
    /// Which of the API's closed list of codes it is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub code: Option<String>,
    /// The request, as the daemon's log names it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub request_id: Option<String>,
    /// The fields that are wrong.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub errors: Vec<FieldError>,
}

/// A field that is wrong.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct FieldError {
    /// A JSON pointer (RFC 6901) to it.
    pub pointer: String,
    /// What is wrong with it.
    pub detail: String,
}

/// Why a command failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// What the process ends with.
    pub exit: Exit,
    /// What to tell, in order; empty when there is nobody to tell.
    pub troubles: Vec<Trouble>,
    /// What the admin API named, where it was the one that refused.
    pub details: Details,
}

impl Failure {
    /// A failure of one trouble.
    pub fn new(exit: Exit, trouble: Trouble) -> Self {
        Failure { exit, troubles: vec![trouble], details: Details::default() }
    }

    /// Tells it on standard error. What cannot be written there is lost; the exit code remains.
    pub(super) fn print(&self, form: Form) {
        let mut out = anstream::stderr().lock();
        for trouble in &self.troubles {
            let _ = match form {
                Form::Text => write_text(&mut out, trouble),
                Form::Json => {
                    let (code, error) = (self.exit as u8, Told { trouble, details: &self.details });
                    writeln!(out, "{}", serde_json::json!({ "error": error, "exit_code": code }))
                }
            };
        }
    }
}

/// A trouble as a program reads it.
#[derive(serde::Serialize)]
struct Told<'a> {
    #[serde(flatten)]
    trouble: &'a Trouble,
    #[serde(flatten)]
    details: &'a Details,
}

fn write_text(out: &mut impl Write, trouble: &Trouble) -> io::Result<()> {
    const BAD: Style = AnsiColor::Red.on_default().bold();
    const LABEL: Style = Style::new().bold();
    let Trouble { what, place, cause, help } = trouble;
    writeln!(out, "{BAD}error:{BAD:#} {what}")?;
    if let Some(place) = place {
        writeln!(out, "  {LABEL}where:{LABEL:#} {place}")?;
    }
    writeln!(out, "  {LABEL}cause:{LABEL:#} {cause}")?;
    writeln!(out, "   {LABEL}help:{LABEL:#} {help}")
}

impl From<ConfigError> for Failure {
    fn from(error: ConfigError) -> Self {
        let troubles = error.problems.into_iter().map(Trouble::from).collect();
        Failure { exit: Exit::BadConfig, troubles, details: Details::default() }
    }
}

/// Reading standard input or writing standard output failed, or a runtime could not be had.
impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        // Whoever read the data has seen enough, as in `postrider listen | head`.
        if error.kind() == io::ErrorKind::BrokenPipe {
            return Failure { exit: Exit::Done, troubles: Vec::new(), details: Details::default() };
        }
        let trouble = Trouble {
            what: "cannot read or write".to_owned(),
            place: None,
            cause: error.to_string(),
            help: "look at where standard input and output lead".to_owned(),
        };
        Failure::new(Exit::Failed, trouble)
    }
}

/// A file that the arguments name cannot be read.
pub(super) fn unreadable(what: &str, path: &Path, error: &io::Error) -> Failure {
    let exit = match error.kind() {
        io::ErrorKind::PermissionDenied => Exit::NotPermitted,
        _ => Exit::Usage,
    };
    let help = format!("ls -l {}", path.display());
    Failure::new(exit, Trouble::new(format!("cannot read {what}"), path.display().to_string(), error.to_string(), help))
}
