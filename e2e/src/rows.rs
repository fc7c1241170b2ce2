//! Which test shows which row of the protocol.
//!
//! Each module of scenarios begins with a [`shows!`](crate::shows) table. A table names tests that exist, or it does not compile; the
//! report compares the tables with what the test binary itself lists, so that no test is left out either.

use std::collections::BTreeMap;

/// How many rows each part of the original's list of functions has (PROTOCOL section 6).
const ROWS: [(char, u8); 4] = [('T', 7), ('M', 32), ('R', 26), ('U', 15)];

/// One test and the rows that it shows, with blanks between them; none for what is beyond the original.
#[derive(Clone, Copy, Debug)]
pub struct Shown {
    /// As the test binary lists it, behind the crate's name.
    pub test: &'static str,
    /// Such as `M8 M9`.
    pub rows: &'static str,
}

/// The table of one module: `shows! { test: "M8 M9"; other_test: ""; }`.
#[macro_export]
macro_rules! shows {
    ($($test:ident: $rows:literal;)*) => {
        pub(crate) const SHOWN: &[$crate::rows::Shown] =
            &[$($crate::rows::Shown { test: concat!(module_path!(), "::", stringify!($test)), rows: $rows }),*];
        /// Every test named above exists.
        const _: &[fn()] = &[$($test),*];
    };
}

/// Row → tests, in PROTOCOL's order.
#[derive(Debug)]
pub struct Report {
    rows: Vec<(String, Vec<String>)>,
    complaints: Vec<String>,
}

impl Report {
    /// Puts the tables together and compares them with the tests that `listed` says there are.
    pub fn of(tables: &[&[Shown]], listed: &[String]) -> Report {
        let mut complaints = Vec::new();
        let mut by_row: BTreeMap<String, Vec<String>> = BTreeMap::new();
        let mut named = Vec::new();
        for shown in tables.iter().copied().flatten() {
            let (_, test) = shown.test.split_once("::").expect("a crate's name in front");
            named.push(test);
            if !listed.iter().any(|listed| listed == test) {
                complaints.push(format!("{test} is in a table, but is no test"));
            }
            for row in shown.rows.split_whitespace() {
                by_row.entry(row.to_string()).or_default().push(test.to_string());
            }
        }
        let unnamed = listed.iter().filter(|test| !named.contains(&test.as_str()));
        complaints.extend(unnamed.map(|test| format!("{test} is in no table")));

        let mut rows = Vec::new();
        for row in all_rows() {
            let tests = by_row.remove(&row).unwrap_or_default();
            if tests.is_empty() {
                complaints.push(format!("no test shows {row}"));
            }
            rows.push((row, tests));
        }
        complaints.extend(by_row.keys().map(|row| format!("{row} is no row of the protocol")));
        Report { rows, complaints }
    }

    /// One line a row.
    pub fn table(&self) -> String {
        let lines = self.rows.iter().map(|(row, tests)| format!("{row:<4} {}", tests.join(", ")));
        lines.collect::<Vec<_>>().join("\n")
    }

    /// What is wrong; nothing where every row is shown.
    pub fn complaints(&self) -> &[String] {
        &self.complaints
    }
}

fn all_rows() -> impl Iterator<Item = String> {
    ROWS.into_iter().flat_map(|(part, count)| (1..=count).map(move |number| format!("{part}{number}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_without_a_test_and_a_test_without_a_table_are_complained_about() {
        let table = [Shown { test: "e2e::a::b", rows: "T1 X9" }, Shown { test: "e2e::a::gone", rows: "" }];
        let report = Report::of(&[&table], &["a::b".into(), "a::c".into()]);
        let complaints = report.complaints().join("\n");
        assert!(!complaints.contains("shows T1\n"));
        for complaint in ["no test shows T2", "X9 is no row", "a::gone is in a table", "a::c is in no table"]
        {
            assert!(complaints.contains(complaint), "{complaints}");
        }
        assert!(report.table().starts_with("T1   a::b\nT2"));
    }
}
