//! `kurir chat`: the terminal client, line mode.

/// Arguments of `kurir chat`.
#[derive(Debug, clap::Args)]
pub struct Args {}

/// Runs until `/quit` or the end of stdin.
pub async fn run(args: Args) -> anyhow::Result<()> {
    todo!("{args:?}")
}
