//! `kurir status`: components, load, users.

/// Arguments of `kurir status`.
#[derive(Debug, clap::Args)]
pub struct Args {}

/// Asks a tracker and prints its answer.
pub async fn run(args: Args) -> anyhow::Result<()> {
    todo!("{args:?}")
}
