//! What the separate roles keep their state in.

use std::path::Path;

use crate::containers::Containers;
use crate::ports::{Ports, local};
use crate::postgres::Postgres;
use crate::redis::Redis;

/// Starts both on their ports of the block, beside the scenarios or in containers.
pub(super) async fn start(
    ports: &Ports,
    dir: &Path,
    containers: Option<&Containers>,
) -> (Option<Redis>, Option<Postgres>) {
    let at = |port| match containers {
        Some(containers) => (containers.address(ports.index(port)), port).into(),
        None => local(port),
    };
    let redis = Redis::start(at(ports.redis()), dir, containers).await;
    let postgres = Postgres::start(at(ports.postgres()), dir, containers).await;
    (Some(redis), Some(postgres))
}
