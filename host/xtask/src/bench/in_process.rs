//! One invocation in process: the executor's own benchmark, whose lines become tables.

use anyhow::{Context, Result, ensure};
use serde::Deserialize;
use serde_json::{Map, Value};

use super::{
    Bench,
    report::{Section, Table},
};
use crate::process;

/// One way to run one script.
#[derive(Deserialize)]
struct Run {
    name: String,
    script: String,
    bytes: u64,
    p50_us: f64,
    p99_us: f64,
    mean_us: f64,
    fuel: Option<u64>,
    faults: Option<f64>,
}

impl Run {
    fn way(&self) -> &str {
        match self.name.as_str() {
            "image" => "fresh instance of the script's image",
            "parse_each_time" => "fresh instance, parsing each time",
            "native_new_engine" => "native Rhai, a new engine each time",
            "native_warm" => "native Rhai, engine and script kept",
            other => other,
        }
    }
}

/// Runs `host/executor/benches/invoke.rs`, which prints one JSON object a line.
pub(super) fn measure(bench: &Bench) -> Result<Section> {
    let mut command = process::cargo(&bench.root);
    command.args([
        "bench",
        "--locked",
        "--package",
        "picloud-executor",
        "--features",
        "bench",
        "--bench",
        "invoke",
    ]);
    section(&process::capture(&mut command)?)
}

fn section(output: &str) -> Result<Section> {
    let mut runs: Vec<Run> = Vec::new();
    let mut others = Table::new(["what", "figures"]);
    for line in output.lines().filter(|line| line.starts_with('{')) {
        let fields: Map<String, Value> =
            serde_json::from_str(line).context("reading the executor's figures")?;
        if fields.contains_key("script") {
            runs.push(serde_json::from_str(line).context("reading the executor's figures")?);
        } else {
            others.row(others_row(&fields));
        }
    }
    ensure!(!runs.is_empty(), "the executor's benchmark printed no figures");
    Ok(Section {
        title: "One invocation in process",
        text: "A fresh instance each time, its teardown included, beside native Rhai in the same process, in turn. \
               Microseconds; faults are minor page faults of one invocation; fuel is the same on every machine."
            .into(),
        ratios: ratios(&runs),
        tables: vec![table(&runs), others],
    })
}

fn table(runs: &[Run]) -> Table {
    let mut table = Table::new(["script", "way", "p50 us", "p99 us", "mean us", "fuel", "faults"]);
    let or_dash = |value: Option<String>| value.unwrap_or_else(|| "-".into());
    for run in runs {
        table.row([
            format!("{}, {} bytes", run.script, run.bytes),
            run.way().to_owned(),
            format!("{:.1}", run.p50_us),
            format!("{:.1}", run.p99_us),
            format!("{:.1}", run.mean_us),
            or_dash(run.fuel.map(|fuel| fuel.to_string())),
            or_dash(run.faults.map(|faults| format!("{faults:.2}"))),
        ]);
    }
    table
}

fn others_row(fields: &Map<String, Value>) -> [String; 2] {
    let name = fields.get("name").and_then(Value::as_str).unwrap_or_default().replace('_', " ");
    let figures = fields.iter().filter(|(field, _)| *field != "name");
    let figures = figures.map(|(field, value)| match value {
        Value::String(text) => format!("{field} {text}"),
        other => format!("{field} {other}"),
    });
    [name, figures.collect::<Vec<_>>().join(", ")]
}

/// The comparisons that the document opens with, of what was measured of them.
fn ratios(runs: &[Run]) -> Vec<String> {
    let p50 = |script: &str, way: &str| {
        runs.iter().find(|run| run.script == script && run.name == way).map(|run| run.p50_us)
    };
    let ratio = |one: Option<f64>, other: Option<f64>| Some(one? / other?);
    let hello = p50("hello", "image");
    let lines = [
        (
            ratio(hello, p50("hello", "native_new_engine")),
            "The smallest script in a fresh instance",
            "native Rhai with a new engine",
        ),
        (ratio(p50("large", "image"), hello), "A script of 23 KB in a fresh instance", "the smallest script"),
        (ratio(p50("cpu", "image"), p50("cpu", "native_warm")), "A script that only computes", "native Rhai"),
    ];
    let known = lines.into_iter().filter_map(|(ratio, what, other)| Some((ratio?, what, other)));
    known.map(|(ratio, what, other)| format!("{what}: {ratio:.2} times the time of {other} (p50).")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_become_tables_and_ratios() {
        let run = |name: &str, p50: f64| {
            format!(
                r#"{{"name":"{name}","script":"hello","bytes":19,"p50_us":{p50},"p99_us":2.0,"mean_us":1.5,"fuel":null,"faults":null}}"#
            )
        };
        let lines =
            [run("image", 12.0), run("native_new_engine", 120.0), r#"{"name":"start","ms":3}"#.into()];
        let section = section(&lines.join("\nnoise\n")).unwrap();
        assert_eq!(section.tables[0].rows.len(), 2);
        assert_eq!(section.tables[1].rows, [["start", "ms 3"]]);
        assert_eq!(section.ratios.len(), 1);
        assert!(section.ratios[0].contains("0.10 times"), "{:?}", section.ratios);
        assert!(super::section("nothing").is_err());
    }
}
