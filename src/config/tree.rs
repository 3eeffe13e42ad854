//! The layers of a configuration as one tree, in which each value knows where it was written.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

/// Where a value was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// Nowhere: the default holds.
    Default,
    /// A file, and the line in it, from 1.
    File(Arc<Path>, usize),
    /// This environment variable.
    Env(String),
    /// A `--set` on the command line, for this key.
    Flag(String),
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Origin::Default => f.write_str("default"),
            Origin::File(path, line) => write!(f, "{}:{line}", path.display()),
            Origin::Env(name) => write!(f, "environment variable {name}"),
            Origin::Flag(key) => write!(f, "flag --set {key}"),
        }
    }
}

/// A value and its origin.
#[derive(Debug, Clone)]
pub(super) struct Node {
    pub(super) value: Value,
    pub(super) origin: Origin,
}

/// What was written, before anybody asks for a type.
#[derive(Debug, Clone)]
pub(super) enum Value {
    Text(String),
    Integer(i64),
    Float(f64),
    Bool(bool),
    /// TOML has dates; no key takes one.
    Date(String),
    List(Vec<Node>),
    Table(Table),
    /// From the environment or a flag, where everything is text: the key's type decides what it means.
    Untyped(String),
}

impl fmt::Display for Value {
    /// Close to how it was written; long enough to be recognised.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Value::Text(text) | Value::Untyped(text) => write!(f, "{text:?}"),
            Value::Integer(integer) => integer.fmt(f),
            Value::Float(float) => write!(f, "{float:?}"),
            Value::Bool(flag) => flag.fmt(f),
            Value::Date(date) => f.write_str(date),
            Value::Table(_) => f.write_str("{ … }"),
            Value::List(nodes) => {
                f.write_str("[")?;
                for (place, node) in nodes.iter().enumerate() {
                    if place > 0 {
                        f.write_str(", ")?;
                    }
                    node.value.fmt(f)?;
                }
                f.write_str("]")
            }
        }
    }
}

pub(super) type Table = BTreeMap<String, Node>;

/// A file that is not TOML: the parser's words and the line.
#[derive(Debug)]
pub(super) struct SyntaxError {
    pub(super) message: String,
    pub(super) line: usize,
}

/// All layers laid over each other so far; later layers win.
#[derive(Debug, Default)]
pub(super) struct Tree {
    pub(super) sections: Table,
}

impl Tree {
    /// Lays a file over what is there.
    pub(super) fn add_file(&mut self, path: &Path, text: &str) -> Result<(), SyntaxError> {
        let table = DeTable::parse(text).map_err(|error| SyntaxError {
            message: error.message().to_owned(),
            line: error.span().map_or(1, |span| line_of(text, &span)),
        })?;
        let file = File { path: path.into(), text };
        for (name, section) in file.table(table.get_ref()) {
            self.add_section(name, section);
        }
        Ok(())
    }

    /// Lays one `section.key` from outside any file over what is there.
    pub(super) fn add_text(&mut self, path: &[&str], text: &str, origin: &Origin) {
        let value = Value::Untyped(text.to_owned());
        let mut node = Node { value, origin: origin.clone() };
        let Some((section, keys)) = path.split_first() else { return };
        for key in keys.iter().rev() {
            node = Node { value: Value::Table([((*key).to_owned(), node)].into()), origin: origin.clone() };
        }
        self.add_section((*section).to_owned(), node);
    }

    fn add_section(&mut self, name: String, section: Node) {
        lay_over(&mut self.sections, name, section);
    }
}

/// Sections whose keys are sections themselves: these are laid over each other key by key.
const OF_SECTIONS: [&str; 1] = ["dialects"];

/// Lays a section over the one of its name.
fn lay_over(sections: &mut Table, name: String, section: Node) {
    let Value::Table(keys) = section.value else {
        sections.insert(name, section);
        return;
    };
    let of_sections = OF_SECTIONS.contains(&&*name);
    let present = sections
        .entry(name)
        .or_insert_with(|| Node { value: Value::Table(Table::new()), origin: section.origin.clone() });
    let Value::Table(present) = &mut present.value else {
        present.value = Value::Table(keys);
        return;
    };
    for (key, node) in keys {
        if of_sections {
            lay_over(present, key, node);
            continue;
        }
        match (present.get_mut(&key).map(|node| &mut node.value), node) {
            (Some(Value::List(blocks)), Node { value: Value::List(more), .. })
                if blocks.iter().chain(&more).all(|node| matches!(node.value, Value::Table(_))) =>
            {
                blocks.extend(more);
            }
            (_, node) => {
                present.insert(key, node);
            }
        }
    }
}

/// Reads a list that was given as text, the way it would stand in a file.
pub(super) fn list_from_text(text: &str) -> Option<Vec<Value>> {
    let list = DeValue::parse(text).ok()?;
    let file = File { path: PathBuf::new().into(), text };
    match file.value(list.get_ref()) {
        Value::List(nodes) => Some(nodes.into_iter().map(|node| node.value).collect()),
        _ => None,
    }
}

/// Reads a table that was given as text, the way it would stand in a file.
pub(super) fn table_from_text(text: &str) -> Option<Table> {
    let table = DeValue::parse(text).ok()?;
    let file = File { path: PathBuf::new().into(), text };
    match file.value(table.get_ref()) {
        Value::Table(table) => Some(table),
        _ => None,
    }
}

struct File<'a> {
    path: Arc<Path>,
    text: &'a str,
}

impl File<'_> {
    fn origin(&self, span: &Range<usize>) -> Origin {
        Origin::File(self.path.clone(), line_of(self.text, span))
    }

    fn table(&self, table: &DeTable<'_>) -> Table {
        let node = |(key, value): (&Spanned<_>, &Spanned<DeValue<'_>>)| {
            let key: &Spanned<std::borrow::Cow<'_, str>> = key;
            (key.get_ref().to_string(), Node { value: self.value(value.get_ref()), origin: self.origin(&key.span()) })
        };
        table.iter().map(node).collect()
    }

    fn value(&self, value: &DeValue<'_>) -> Value {
        match value {
            DeValue::String(text) => Value::Text(text.to_string()),
            // Larger than an i64 is out of every key's bounds anyway.
            DeValue::Integer(integer) => {
                i64::from_str_radix(integer.as_str(), integer.radix()).map_or(Value::Integer(i64::MAX), Value::Integer)
            }
            DeValue::Float(float) => float.as_str().parse().map_or(Value::Float(f64::NAN), Value::Float),
            DeValue::Boolean(flag) => Value::Bool(*flag),
            DeValue::Datetime(date) => Value::Date(date.to_string()),
            DeValue::Array(list) => Value::List(
                list.iter()
                    .map(|node| Node { value: self.value(node.get_ref()), origin: self.origin(&node.span()) })
                    .collect(),
            ),
            DeValue::Table(table) => Value::Table(self.table(table)),
        }
    }
}

fn line_of(text: &str, span: &Range<usize>) -> usize {
    let before = &text.as_bytes()[..span.start.min(text.len())];
    before.iter().filter(|byte| **byte == b'\n').count() + 1
}
