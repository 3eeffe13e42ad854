//! How answers are shown to people: lists as tables, single things as cards of names and values.

use clap::builder::styling::Style;
use comfy_table::{Table, presets};
use serde_json::Value;

/// What a list shows of each thing.
pub(in crate::cli) struct Column {
    pub(in crate::cli) title: &'static str,
    pub(in crate::cli) cell: Cell,
}

/// Where a cell's text comes from.
pub(in crate::cli) enum Cell {
    /// The field of this name.
    Field(&'static str),
    /// Several fields together.
    Made(fn(&Value) -> String),
}

impl Column {
    pub(in crate::cli) const fn field(title: &'static str, name: &'static str) -> Self {
        Column { title, cell: Cell::Field(name) }
    }

    pub(in crate::cli) const fn made(title: &'static str, make: fn(&Value) -> String) -> Self {
        Column { title, cell: Cell::Made(make) }
    }
}

const STRONG: Style = Style::new().bold();

/// Rows under their titles.
pub(super) fn table(columns: &[Column], rows: &[Value]) -> String {
    let mut table = Table::new();
    table.load_style(presets::NOTHING);
    table.set_header(columns.iter().map(|column| column.title));
    for row in rows {
        table.add_row(columns.iter().map(|column| match column.cell {
            Cell::Field(name) => one_line(cell_text(&row[name])),
            Cell::Made(make) => one_line(make(row)),
        }));
    }
    let strong = |(number, line): (usize, String)| match (number, line.strip_suffix('\n')) {
        (0, Some(titles)) => format!("{STRONG}{titles}{STRONG:#}\n"),
        _ => line,
    };
    lines(&table).enumerate().map(strong).collect()
}

/// The fields of one thing, those of `first` before the others. What is not set is left out.
pub(super) fn card(thing: &Value, first: &[&str], null: &[(&str, &str)]) -> String {
    let mut fields = Vec::new();
    let others = thing.as_object().into_iter().flatten();
    let others = others.map(|(name, _)| name.as_str()).filter(|name| !first.contains(name));
    for name in first.iter().copied().chain(others) {
        match null.iter().find(|(field, _)| *field == name && thing[name].is_null()) {
            Some((_, said)) => fields.push((name.to_owned(), (*said).to_owned())),
            None => spread(name, &thing[name], &mut fields),
        }
    }
    let mut table = Table::new();
    table.load_style(presets::NOTHING);
    for (name, text) in fields {
        table.add_row([name, one_line(text)]);
    }
    lines(&table).collect()
}

/// The names and texts of a value, with the names of nested fields behind dots.
fn spread(name: &str, value: &Value, fields: &mut Vec<(String, String)>) {
    match value {
        Value::Object(nested) => {
            nested.iter().for_each(|(inner, value)| spread(&format!("{name}.{inner}"), value, fields))
        }
        Value::Array(list) if list.iter().any(Value::is_object) => {
            for (place, value) in list.iter().enumerate() {
                spread(&format!("{name}[{place}]"), value, fields);
            }
        }
        Value::Null => {}
        Value::Array(list) if list.is_empty() => {}
        value => fields.push((name.to_owned(), cell_text(value))),
    }
}

/// A value in words.
pub(in crate::cli) fn cell_text(value: &Value) -> String {
    match value {
        Value::Null => "-".to_owned(),
        Value::Array(list) if list.is_empty() => "-".to_owned(),
        Value::Bool(true) => "yes".to_owned(),
        Value::Bool(false) => "no".to_owned(),
        Value::String(text) => text.clone(),
        Value::Array(list) => list.iter().map(cell_text).collect::<Vec<_>>().join(", "),
        value @ (Value::Number(_) | Value::Object(_)) => value.to_string(),
    }
}

/// What came from outside neither breaks a table's lines nor steers the terminal.
pub(in crate::cli) fn one_line(text: String) -> String {
    match text.chars().any(char::is_control) {
        true => text.escape_debug().to_string(),
        false => text,
    }
}

/// The table's lines without the space around them.
fn lines(table: &Table) -> impl Iterator<Item = String> {
    table.lines().map(|line| line.strip_prefix(' ').unwrap_or(&line).trim_end().to_owned() + "\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_card_shows_what_is_set_its_first_fields_before_the_others() {
        let thing = json!({
            "b": {"x": 1, "none": null, "deep": {"y": true}},
            "a": [1, 2], "list": [{"p": "q"}, {"p": "r"}], "empty": [], "nothing": null, "id": "i", "text": "one\ntwo",
        });
        let shown = card(&thing, &["id", "text", "absent"], &[("nothing", "all")]);
        let lines: Vec<Vec<&str>> = shown.lines().map(|line| line.splitn(2, ' ').map(str::trim).collect()).collect();
        assert_eq!(
            lines,
            [
                ["id", "i"],
                ["text", r"one\ntwo"],
                ["a", "1, 2"],
                ["b.deep.y", "yes"],
                ["b.x", "1"],
                ["list[0].p", "q"],
                ["list[1].p", "r"],
                ["nothing", "all"],
            ]
        );
    }

    #[test]
    fn a_table_has_a_line_for_each_row_whatever_the_row_says() {
        let columns = [Column::field("A", "a"), Column::made("B", |row| format!("<{}>", cell_text(&row["b"])))];
        let rows = [json!({"a": "\u{1b}[2Jx\n", "b": 1}), json!({"a": null, "b": []})];
        let shown = anstream::adapter::strip_str(&table(&columns, &rows)).to_string();
        let cells: Vec<Vec<&str>> = shown.lines().map(|line| line.split_whitespace().collect()).collect();
        assert_eq!(cells, [["A", "B"], [r"\u{1b}[2Jx\n", "<1>"], ["-", "<->"]]);
    }
}
