//! What a benchmark found, as a table for people and JSON for programs.

use std::io::Write as _;

use hdrhistogram::Histogram;
use serde_json::{Map, Value};

/// Rows of figures that have the same columns; the first column names the row.
#[derive(Debug, Default)]
pub(super) struct Report {
    rows: Vec<Vec<(&'static str, Value)>>,
}

impl Report {
    pub(super) fn row(&mut self, cells: Vec<(&'static str, Value)>) {
        self.rows.push(cells);
    }

    /// Prints to stdout; the benchmark's progress went to stderr.
    pub(super) fn print(&self, json: bool) -> anyhow::Result<()> {
        let mut out = std::io::stdout().lock();
        if json {
            let rows: Vec<Map<String, Value>> = self
                .rows
                .iter()
                .map(|row| row.iter().map(|(key, value)| ((*key).to_owned(), value.clone())).collect())
                .collect();
            writeln!(out, "{}", serde_json::to_string_pretty(&rows)?)?;
            return Ok(());
        }
        let Some(first) = self.rows.first() else { return Ok(()) };
        let mut lines: Vec<Vec<String>> = vec![first.iter().map(|(key, _)| (*key).to_owned()).collect()];
        lines.extend(self.rows.iter().map(|row| row.iter().map(|(_, value)| shown(value)).collect()));
        let width = |column: usize| {
            lines.iter().filter_map(|line| line.get(column)).map(String::len).max().unwrap_or_default()
        };
        let widths: Vec<usize> = (0..first.len()).map(width).collect();
        for line in &lines {
            let cells: Vec<String> =
                line.iter().zip(&widths).map(|(cell, width)| format!("{cell:>width$}")).collect();
            writeln!(out, "{}", cells.join("  "))?;
        }
        Ok(())
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
pub(super) fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or_default()
}

/// A quantile of a histogram of microseconds, in milliseconds.
pub(super) fn quantile_ms(histogram: &Histogram<u64>, quantile: f64) -> f64 {
    histogram.value_at_quantile(quantile) as f64 / 1000.0
}
