//! What a create or an update sends: the fields of the arguments over those of a JSON document; and secrets out of files.

use std::io::Read;
use std::path::{Path, PathBuf};

use clap::Args;
use serde_json::{Map, Value};

use crate::cli::{Exit, Failure, Trouble, unreadable};

/// Where a body begins that the options do not say all of.
#[derive(Debug, Args)]
pub(in crate::cli) struct FromJson {
    /// Take the fields of this JSON object as well; - reads standard input. The other options win over it
    #[arg(long, value_name = "FILE")]
    from_json: Option<PathBuf>,
}

/// A body that is being put together.
#[derive(Debug, Default)]
pub(in crate::cli) struct Body(Map<String, Value>);

impl FromJson {
    /// The object that the file holds, or an empty one.
    pub(super) fn body(&self) -> Result<Body, Failure> {
        let Some(path) = &self.from_json else { return Ok(Body::default()) };
        let help = "the file holds one JSON object, with the fields as `show --json` has them";
        object_of("the JSON document", path, help).map(Body)
    }
}

/// The JSON object in a file.
pub(super) fn object_of(what: &str, path: &Path, help: &str) -> Result<Map<String, Value>, Failure> {
    let text = text_of(what, path)?;
    let refuse = |cause: String| {
        Failure::new(Exit::Usage, Trouble::new(format!("cannot use {what}"), path.display().to_string(), cause, help))
    };
    match serde_json::from_str(&text) {
        Ok(Value::Object(fields)) => Ok(fields),
        Ok(_) => Err(refuse("it is no object".to_owned())),
        Err(error) => Err(refuse(error.to_string())),
    }
}

impl Body {
    /// Sets a field that was given.
    pub(super) fn set(&mut self, name: &str, value: Option<impl Into<Value>>) {
        if let Some(value) = value {
            self.0.insert(name.to_owned(), value.into());
        }
    }

    /// Whether a field is there.
    pub(super) fn has(&self, name: &str) -> bool {
        self.0.contains_key(name)
    }

    /// Takes these fields out; the names of those that were there.
    pub(super) fn leave_out(&mut self, names: &[&'static str]) -> Vec<&'static str> {
        names.iter().copied().filter(|name| self.0.remove(*name).is_some()).collect()
    }

    /// The body of a create.
    pub(super) fn into_value(self) -> Value {
        Value::Object(self.0)
    }

    /// The body of an update; one without a field is a slip of the hand.
    pub(super) fn into_change(self) -> Result<Value, Failure> {
        if self.0.is_empty() {
            let trouble = Trouble {
                what: "there is nothing to change".to_owned(),
                place: None,
                cause: "no option names a field".to_owned(),
                help: "add the fields to change; --help lists them".to_owned(),
            };
            return Err(Failure::new(Exit::Usage, trouble));
        }
        Ok(self.into_value())
    }
}

/// The secret in a file, without the line's end. It is never an argument: those can be seen by everybody on the machine.
pub(super) fn secret_of(path: &Path) -> Result<String, Failure> {
    let text = text_of("the secret", path)?;
    let secret = text.strip_suffix('\n').unwrap_or(&text);
    let secret = secret.strip_suffix('\r').unwrap_or(secret);
    if secret.is_empty() {
        let help = "the file holds the secret on one line";
        let place = path.display().to_string();
        return Err(Failure::new(Exit::Usage, Trouble::new("there is no secret", place, "the file is empty", help)));
    }
    Ok(secret.to_owned())
}

/// The text in a file; - is standard input.
pub(super) fn text_of(what: &str, path: &Path) -> Result<String, Failure> {
    if path.as_os_str() == "-" {
        let mut text = String::new();
        std::io::stdin().read_to_string(&mut text)?;
        return Ok(text);
    }
    std::fs::read_to_string(path).map_err(|error| unreadable(what, path, &error))
}
