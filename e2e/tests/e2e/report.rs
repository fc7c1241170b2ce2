//! Which test shows which row.

use std::process::Command;

use kurir_e2e::rows::{Report, Shown};

const TABLES: &[&[Shown]] = &[
    crate::acceptance::SHOWN,
    crate::original::SHOWN,
    crate::accounts::SHOWN,
    crate::contacts::SHOWN,
    crate::any_packet::SHOWN,
    crate::framing::SHOWN,
    crate::relays::SHOWN,
    crate::tickets::SHOWN,
    crate::devices::SHOWN,
    crate::sessions::SHOWN,
    crate::tracked::SHOWN,
    crate::archive::SHOWN,
    crate::explain::SHOWN,
    crate::client::SHOWN,
    crate::chat::SHOWN,
    crate::faults::SHOWN,
    crate::pauses::SHOWN,
    crate::drain::SHOWN,
    crate::load::SHOWN,
    crate::bench::SHOWN,
    crate::hostile::SHOWN,
    crate::operations::SHOWN,
    crate::signals::SHOWN,
    crate::soak::SHOWN,
    SHOWN,
];

kurir_e2e::shows! {
    every_row_of_the_protocol_is_shown_by_a_test: "";
}

/// Prints row → tests, and fails where a row has none. `./test` shows it with `--nocapture`.
#[test]
fn every_row_of_the_protocol_is_shown_by_a_test() {
    let report = Report::of(TABLES, &tests_of_this_binary());
    println!("{}", report.table());
    assert!(report.complaints().is_empty(), "{:#?}", report.complaints());
}

/// As the binary itself lists them: a test that is only named in a table does not count.
fn tests_of_this_binary() -> Vec<String> {
    let this = std::env::current_exe().expect("this test's own path");
    let listed =
        Command::new(this).args(["--list", "--format", "terse"]).output().expect("the list of tests");
    let listed = String::from_utf8(listed.stdout).expect("names in UTF-8");
    listed.lines().filter_map(|line| line.strip_suffix(": test")).map(String::from).collect()
}
