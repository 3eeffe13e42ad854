//! Reads typed values out of the tree of what was written, and keeps book: what holds from where, and what is wrong.
//!
//! Whoever reads a key makes it known. So there is no second list of keys to keep in step: what nobody asked for is
//! unknown, and the known key that is nearest to it is named.

use std::fmt;
use std::ops::RangeInclusive;

use super::tree::{Node, Origin, Table, Value};
use super::value::Setting;

/// What is likely to bring a wrong value right.
const HELP_EXAMPLE: &str = "postrider config example    # every key with its default";

/// One thing that is wrong with the configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// What happened.
    pub what: String,
    /// Where; `None` when it is about no single place.
    pub origin: Option<Origin>,
    /// The likely cause.
    pub cause: String,
    /// The command or the change that helps.
    pub help: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(origin) = &self.origin {
            write!(f, "{origin}: ")?;
        }
        write!(f, "{}: {}", self.what, self.cause)
    }
}

/// Why there is no configuration: everything that is wrong with it, one line each. Nothing was changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigError {
    /// At least one.
    pub problems: Vec<Problem>,
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (place, problem) in self.problems.iter().enumerate() {
            if place > 0 {
                f.write_str("\n")?;
            }
            problem.fmt(f)?;
        }
        Ok(())
    }
}

impl std::error::Error for ConfigError {}

impl From<Problem> for ConfigError {
    fn from(problem: Problem) -> Self {
        ConfigError { problems: vec![problem] }
    }
}

/// One effective value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// The heading it stands under in a file: `[store]` or `[[egress.rule]]`.
    pub heading: String,
    /// Which of several blocks of that heading, from 0; 0 for a section.
    pub block: usize,
    /// The key under the heading.
    pub key: String,
    /// The value as it would stand in a file.
    pub value: String,
    /// Where it comes from.
    pub origin: Origin,
}

/// The book: what was asked for, what holds, what is wrong.
#[derive(Debug, Default)]
pub(super) struct Report {
    problems: Vec<Problem>,
    entries: Vec<Entry>,
    known: Vec<(String, &'static str)>,
    unknown: Vec<(String, String, Origin)>,
}

impl Report {
    /// Notes what is wrong with values that are each right by themselves.
    pub(super) fn problem(&mut self, origin: Option<Origin>, what: String, cause: &str, help: &str) {
        let (cause, help) = (cause.to_owned(), help.to_owned());
        self.problems.push(Problem { what, origin, cause, help });
    }

    /// Where the value of `key` in `[section]` was written.
    pub(super) fn origin(&self, section: &str, key: &str) -> Option<Origin> {
        let heading = format!("[{section}]");
        let entry = self.entries.iter().find(|entry| entry.heading == heading && entry.key == key);
        entry.map(|entry| entry.origin.clone())
    }

    /// Whatever section is left was asked for by nobody.
    pub(super) fn unknown_sections(&mut self, sections: Table) {
        self.unknown.extend(sections.into_iter().map(|(name, node)| (String::new(), name, node.origin)));
    }

    /// Closes the book: the effective values, or everything that is wrong.
    pub(super) fn finish(mut self) -> Result<Vec<Entry>, ConfigError> {
        for (section, key, origin) in std::mem::take(&mut self.unknown) {
            let cause = self.likely_meaning(&section, &key);
            let what = match section.as_str() {
                "" => format!("there is no section [{key}]"),
                section => format!("[{section}] has no key \"{key}\""),
            };
            self.problem(Some(origin), what, &cause, HELP_EXAMPLE);
        }
        // A reader goes through the file from top to bottom.
        self.problems.sort_by_key(|problem| match &problem.origin {
            Some(Origin::File(path, line)) => (Some(path.clone()), *line),
            _ => (None, 0),
        });
        if self.problems.is_empty() { Ok(self.entries) } else { Err(ConfigError { problems: self.problems }) }
    }

    fn likely_meaning(&self, section: &str, key: &str) -> String {
        let near = |(of, known): &&(String, &'static str)| {
            let near_enough = key.len().max(known.len()).div_ceil(3);
            (of == section && strsim::damerau_levenshtein(key, known) <= near_enough)
                .then(|| strsim::damerau_levenshtein(key, known))
        };
        let nearest = self.known.iter().filter_map(|known| Some((near(&known)?, known.1))).min();
        if let Some((_, nearest)) = nearest {
            return format!("the nearest known name is \"{nearest}\"");
        }
        let elsewhere = self.known.iter().find(|(of, known)| *known == key && !of.is_empty());
        if let Some((of, known)) = elsewhere {
            return format!("\"{known}\" stands in [{of}]");
        }
        let known = self.known.iter().filter(|(of, _)| of == section).map(|(_, known)| *known);
        format!("no known name is near; there are {}", known.collect::<Vec<_>>().join(", "))
    }
}

/// Reads the keys of one section or block.
pub(super) struct Reader<'r> {
    /// The name without brackets: `store`, `egress.rule`.
    section: &'static str,
    heading: String,
    block: usize,
    table: Table,
    report: &'r mut Report,
}

impl<'r> Reader<'r> {
    /// The section `name` of the whole tree; one that nobody wrote is empty.
    pub(super) fn of_section(sections: &mut Table, name: &'static str, report: &'r mut Report) -> Self {
        report.known.push((String::new(), name));
        let table = match sections.remove(name) {
            None => Table::new(),
            Some(Node { value: Value::Table(table), .. }) => table,
            Some(Node { value, origin }) => {
                let what = format!("{name} = {value} is not a section");
                report.problem(Some(origin), what, &format!("its keys stand under [{name}]"), HELP_EXAMPLE);
                Table::new()
            }
        };
        Reader { section: name, heading: format!("[{name}]"), block: 0, table, report }
    }

    /// A section within this one, whose name is `section` in full; one that nobody wrote is empty.
    pub(super) fn section(&mut self, key: &'static str, section: &'static str) -> Reader<'_> {
        self.report.known.push((self.section.to_owned(), key));
        let table = match self.table.remove(key) {
            None => Table::new(),
            Some(Node { value: Value::Table(table), .. }) => table,
            Some(Node { value, origin }) => {
                let what = format!("{section} = {value} is not a section");
                self.report.problem(Some(origin), what, &format!("its keys stand under [{section}]"), HELP_EXAMPLE);
                Table::new()
            }
        };
        Reader { section, heading: format!("[{section}]"), block: 0, table, report: self.report }
    }

    /// The value of a key, or its default.
    pub(super) fn value<T: Setting>(&mut self, key: &'static str, default: T) -> T {
        let (value, origin) = match self.take::<T>(key) {
            Taken::Absent => (default, Origin::Default),
            Taken::Refused => return default,
            Taken::Value(value, origin) => (value, origin),
        };
        self.enter(key, &value, origin);
        value
    }

    /// The value of a key, or its default; a value outside `bounds` is a problem.
    pub(super) fn within<T>(&mut self, key: &'static str, default: T, bounds: RangeInclusive<T>) -> T
    where
        T: Setting + PartialOrd + Clone,
    {
        let value = self.value(key, default.clone());
        if bounds.contains(&value) {
            return value;
        }
        let origin = self.report.entries.last().map(|entry| entry.origin.clone());
        let what = format!("{}.{key} = {} is out of bounds", self.section, value.to_toml());
        let cause = format!("it lies between {} and {}", bounds.start().to_toml(), bounds.end().to_toml());
        self.report.problem(origin, what, &cause, HELP_EXAMPLE);
        default
    }

    /// The value of a key that may be left out.
    pub(super) fn optional<T: Setting>(&mut self, key: &'static str) -> Option<T> {
        match self.take::<T>(key) {
            Taken::Absent | Taken::Refused => None,
            Taken::Value(value, origin) => {
                self.enter(key, &value, origin);
                Some(value)
            }
        }
    }

    /// Each `[[section.key]]` through `read`, which answers a complaint (what, cause, help) where a block makes no sense.
    pub(super) fn blocks<T>(
        &mut self,
        key: &'static str,
        section: &'static str,
        mut read: impl FnMut(&mut Reader<'_>) -> Result<T, (&'static str, &'static str)>,
    ) -> Vec<T> {
        self.report.known.push((self.section.to_owned(), key));
        let help = format!("[[{section}]] blocks in a file; postrider config example shows one");
        let nodes = match self.table.remove(key) {
            None => return Vec::new(),
            Some(Node { value: Value::List(nodes), .. }) => nodes,
            Some(Node { value, origin }) => {
                let what = format!("{section} = {value} is not a list of blocks");
                self.report.problem(Some(origin), what, "it is written as blocks, each with its own keys", &help);
                return Vec::new();
            }
        };
        let mut all = Vec::with_capacity(nodes.len());
        for (block, Node { value, origin }) in nodes.into_iter().enumerate() {
            let Value::Table(table) = value else {
                let what = format!("{section} holds {value}, which is not a block");
                self.report.problem(Some(origin), what, "each member is a block with its own keys", &help);
                continue;
            };
            let mut reader = Reader { section, heading: format!("[[{section}]]"), block, table, report: self.report };
            let already_wrong = reader.report.problems.len();
            let one = read(&mut reader);
            reader.finish();
            match one {
                Ok(one) => all.push(one),
                // A value that could not be read explains more than the block that lacks it.
                Err(_) if self.report.problems.len() > already_wrong => {}
                Err((cause, help)) => {
                    self.report.problem(Some(origin), format!("a [[{section}]] is incomplete"), cause, help);
                }
            }
        }
        all
    }

    /// Each key of a section whose keys are names of the operator's choice, with a reader for the table it holds.
    pub(super) fn named_tables(mut self, section: &'static str, mut read: impl FnMut(&str, Origin, &mut Reader<'_>)) {
        for (name, Node { value, origin }) in std::mem::take(&mut self.table) {
            let Value::Table(table) = value else {
                let what = format!("{}.{name} = {value} is not a table", self.section);
                self.report.problem(Some(origin), what, "it is written { … } in a file", HELP_EXAMPLE);
                continue;
            };
            let heading = format!("[{}.{name}]", self.section);
            let mut reader = Reader { section, heading, block: 0, table, report: self.report };
            read(&name, origin, &mut reader);
            reader.finish();
        }
    }

    /// Notes a problem with what this reader reads.
    pub(super) fn problem(&mut self, origin: Origin, what: String, cause: &str, help: &str) {
        self.report.problem(Some(origin), what, cause, help);
    }

    /// What nobody asked for is unknown.
    pub(super) fn finish(self) {
        for (key, node) in self.table {
            self.report.unknown.push((self.section.to_owned(), key, node.origin));
        }
    }

    fn take<T: Setting>(&mut self, key: &'static str) -> Taken<T> {
        self.report.known.push((self.section.to_owned(), key));
        let Some(Node { value, origin }) = self.table.remove(key) else { return Taken::Absent };
        if let Some(value) = T::from_value(&value) {
            return Taken::Value(value, origin);
        }
        let what = format!("{}.{key} = {value} is not valid", self.section);
        self.report.problem(Some(origin), what, &format!("expected {}", T::EXPECTED), HELP_EXAMPLE);
        Taken::Refused
    }

    fn enter<T: Setting>(&mut self, key: &str, value: &T, origin: Origin) {
        let (heading, key) = (self.heading.clone(), key.to_owned());
        self.report.entries.push(Entry { heading, block: self.block, key, value: value.to_toml(), origin });
    }
}

enum Taken<T> {
    Absent,
    Refused,
    Value(T, Origin),
}
