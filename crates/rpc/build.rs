//! Compiles `proto/kurir/v1` with protox, so that no protoc has to be installed.

use std::path::Path;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../proto");
    let files = ["drain", "explain", "tracker", "manager", "relay"];
    let files = files.map(|name| root.join(format!("kurir/v1/{name}.proto")));
    println!("cargo::rerun-if-changed={}", root.display());
    let descriptors = protox::compile(&files, [&root])?;
    tonic_prost_build::configure().bytes(".kurir.v1.Delivery").compile_fds(descriptors)?;
    Ok(())
}
