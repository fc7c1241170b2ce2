//! What a benchmark found, as a table for people and JSON for programs.

use std::io::Write as _;

use anyhow::ensure;
use hdrhistogram::Histogram;
use serde_json::{Map, Value, json};

use super::check::Findings;

/// Rows of figures that have the same columns, and what follows from them.
#[derive(Debug, Default)]
pub(super) struct Report {
    rows: Vec<Vec<(&'static str, Value)>>,
    ratios: Vec<(&'static str, f64)>,
    findings: Findings,
}

impl Report {
    pub(super) fn row(&mut self, cells: Vec<(&'static str, Value)>) {
        self.rows.push(cells);
    }

    /// The relay's median divided by the forwarder's, of the figure in this column.
    pub(super) fn ratio(&mut self, column: &'static str, relay: Vec<f64>, forwarder: Vec<f64>) {
        self.ratios.push((column, median(relay) / median(forwarder)));
    }

    /// What became of the relay's messages in one run.
    pub(super) fn found(&mut self, findings: Findings) {
        self.findings += findings;
    }

    /// Prints to stdout; the benchmark's progress went to stderr. An error if the relay did not deliver each message
    /// once and in order: its figures are worth nothing then.
    pub(super) fn finish(&self, json: bool) -> anyhow::Result<()> {
        let text = if json { serde_json::to_string_pretty(&self.json())? } else { self.table() };
        writeln!(std::io::stdout(), "{}", text.trim_end())?;
        let Findings { lost, duplicated, reordered } = self.findings;
        ensure!(
            self.findings == Findings::default(),
            "the relay lost {lost}, duplicated {duplicated} and reordered {reordered} messages"
        );
        Ok(())
    }

    fn json(&self) -> Value {
        let row = |row: &Vec<(&'static str, Value)>| {
            row.iter().map(|(key, value)| ((*key).to_owned(), value.clone())).collect::<Map<_, _>>()
        };
        let ratios = self.ratios.iter().map(|(key, ratio)| ((*key).to_owned(), rounded(*ratio)));
        json!({
            "rows": self.rows.iter().map(row).collect::<Vec<_>>(),
            "relay_to_forwarder": ratios.collect::<Map<_, _>>(),
        })
    }

    fn table(&self) -> String {
        let Some(first) = self.rows.first() else { return String::new() };
        let mut lines: Vec<Vec<String>> = vec![first.iter().map(|(key, _)| (*key).to_owned()).collect()];
        lines.extend(self.rows.iter().map(|row| row.iter().map(|(_, value)| shown(value)).collect()));
        let width = |column: usize| {
            lines.iter().filter_map(|line| line.get(column)).map(String::len).max().unwrap_or_default()
        };
        let widths: Vec<usize> = (0..first.len()).map(width).collect();
        let mut table = String::new();
        for line in &lines {
            let cells: Vec<String> =
                line.iter().zip(&widths).map(|(cell, width)| format!("{cell:>width$}")).collect();
            table.push_str(&cells.join("  "));
            table.push('\n');
        }
        let ratio = |(column, ratio): &(&str, f64)| {
            format!("{column}, medians: relay / forwarder = {}\n", rounded(*ratio))
        };
        table.extend(self.ratios.iter().map(ratio));
        table
    }
}

fn shown(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

/// Three significant digits are enough for a noisy machine.
pub(super) fn rounded(value: f64) -> Value {
    if value == 0.0 || !value.is_finite() {
        return Value::from(0);
    }
    let digits = 3 - 1 - value.abs().log10().floor() as i32;
    let factor = 10_f64.powi(digits);
    let value = (value * factor).round() / factor;
    if value.fract() == 0.0 { Value::from(value as i64) } else { Value::from(value) }
}

/// The middle one of some runs' figures.
fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or_default()
}

/// A quantile of a histogram of microseconds, in milliseconds.
pub(super) fn quantile_ms(histogram: &Histogram<u64>, quantile: f64) -> f64 {
    histogram.value_at_quantile(quantile) as f64 / 1000.0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report() -> Report {
        let mut report = Report::default();
        for (target, rate) in [("forwarder", 400), ("relay", 100)] {
            report.row(vec![("target", Value::from(target)), ("rate", Value::from(rate))]);
        }
        report.ratio("rate", vec![100.0], vec![400.0]);
        report
    }

    #[test]
    fn the_ratio_is_in_the_table_and_in_the_json() {
        assert_eq!(
            report().table(),
            "   target  rate\nforwarder   400\n    relay   100\nrate, medians: relay / forwarder = 0.25\n"
        );
        assert_eq!(
            report().json(),
            json!({"rows": [{"target": "forwarder", "rate": 400}, {"target": "relay", "rate": 100}],
                   "relay_to_forwarder": {"rate": 0.25}})
        );
    }

    #[test]
    fn what_the_relay_lost_fails_the_benchmark() {
        let mut report = report();
        report.finish(true).unwrap();
        report.found(Findings { lost: 1, ..Findings::default() });
        let error = report.finish(true).unwrap_err();
        assert_eq!(error.to_string(), "the relay lost 1, duplicated 0 and reordered 0 messages");
    }
}
