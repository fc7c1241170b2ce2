//! ARCHITECTURE's table of what each crate may not depend on, directly or through others. `deny.toml` says what
//! cargo-deny can express; this says the rest.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::{collections::BTreeSet, process::Command};

/// Crate, and what it may not depend on.
const FORBIDDEN: &[(&str, &[&str])] = &[
    // No IO, no runtime, no clock, no randomness.
    (
        "kurir-protocol",
        &["tokio", "tonic", "tracing", "redis", "chrono", "time", "rand", "getrandom", "uuid"],
    ),
    (
        "kurir-delivery",
        &["tokio", "tonic", "tracing", "redis", "chrono", "time", "rand", "getrandom", "uuid"],
    ),
    ("kurir-socket", &["kurir-service", "kurir-rpc", "kurir-directory", "sea-orm", "tonic"]),
    ("kurir-rpc", &["kurir-service", "kurir-directory", "sea-orm", "figment"]),
    ("kurir-trail", &["kurir-service", "kurir-directory", "sea-orm", "figment"]),
    ("kurir-metrics", &["tokio", "tonic", "tracing"]),
    // The collector is the process' business.
    ("kurir-trace", &["tokio", "tonic", "opentelemetry-otlp"]),
    ("kurir-service", &["kurir-protocol", "kurir-rpc", "kurir-directory"]),
    ("kurir-directory", &["sea-orm", "kurir-rpc"]),
    ("kurir-relay", &["sea-orm", "kurir-tracker", "kurir-manager"]),
    ("kurir-tracker", &["sea-orm", "kurir-relay", "kurir-manager", "kurir-directory"]),
    ("kurir-client", &["kurir-rpc", "kurir-service", "kurir-directory"]),
    // With two providers in the tree rustls panics at first use.
    ("kurir", &["ring"]),
];

#[test]
fn no_crate_depends_on_what_the_architecture_forbids_it() {
    let mut found = Vec::new();
    for (package, forbidden) in FORBIDDEN {
        let dependencies = dependencies(package);
        assert!(dependencies.contains(*package), "{package} is not what cargo tree was asked about");
        for name in *forbidden {
            if dependencies.contains(*name) {
                found.push(format!(
                    "{package} depends on {name}: cargo tree -e normal -p {package} -i {name}"
                ));
            }
        }
    }
    assert!(found.is_empty(), "{}", found.join("\n"));
}

/// Names of `package` and of all that it is built from, with only the features that it asks for itself.
fn dependencies(package: &str) -> BTreeSet<String> {
    let output = Command::new(env!("CARGO"))
        .args([
            "tree",
            "--offline",
            "--locked",
            "--edges",
            "normal",
            "--prefix",
            "none",
            "--package",
            package,
        ])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let tree = String::from_utf8(output.stdout).unwrap();
    tree.lines().filter_map(|line| line.split(' ').next()).map(str::to_owned).collect()
}
