//! One invocation in process: the executor's own benchmark, whose lines become a table.

use anyhow::{Context, Result, ensure};
use serde_json::{Map, Value};

use super::{
    Bench,
    report::{Section, Table},
};
use crate::process;

/// Runs `host/executor/benches/invoke.rs`, which prints one JSON object a row.
pub(super) fn measure(bench: &Bench) -> Result<Section> {
    let mut command = process::cargo(&bench.root);
    command.args(["bench", "--locked", "--package", "picloud-executor", "--bench", "invoke"]);
    let output = process::capture(&mut command)?;
    let rows = output.lines().filter(|line| line.starts_with('{'));
    let rows: Vec<Map<String, Value>> =
        rows.map(serde_json::from_str).collect::<Result<_, _>>().context("reading the executor's figures")?;
    ensure!(!rows.is_empty(), "the executor's benchmark printed no figures");
    Ok(Section {
        title: "One invocation in process",
        text: "A fresh instance each time, its teardown included, beside native Rhai in the same process. \
               Microseconds; fuel is the same on every machine."
            .into(),
        tables: vec![table(&rows)],
        ratios: Vec::new(),
    })
}

/// Columns are the fields, in the order in which they first appear.
fn table(rows: &[Map<String, Value>]) -> Table {
    let mut head: Vec<String> = Vec::new();
    for field in rows.iter().flat_map(Map::keys) {
        if !head.contains(field) {
            head.push(field.clone());
        }
    }
    if let Some(at) = head.iter().position(|field| field == "name") {
        let name = head.remove(at);
        head.insert(0, name);
    }
    let cell = |row: &Map<String, Value>, field: &String| match row.get(field) {
        None | Some(Value::Null) => "-".to_owned(),
        Some(Value::String(text)) => text.clone(),
        Some(Value::Number(number)) if number.is_f64() => {
            format!("{:.1}", number.as_f64().unwrap_or(f64::NAN))
        }
        Some(other) => other.to_string(),
    };
    let rows = rows.iter().map(|row| head.iter().map(|field| cell(row, field)).collect()).collect();
    Table { head, rows }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_become_columns() {
        let lines = [r#"{"name":"a","p50_us":1.25,"fuel":3}"#, r#"{"name":"b","faults":0}"#];
        let rows: Vec<Map<String, Value>> =
            lines.iter().map(|line| serde_json::from_str(line).unwrap()).collect();
        let table = table(&rows);
        assert_eq!(table.head[0], "name");
        assert_eq!(table.rows[0].iter().filter(|cell| *cell == "-").count(), 1);
        assert_eq!(table.rows[1].iter().filter(|cell| *cell == "-").count(), 2);
    }
}
