//! The relay's connections and the directory's entries, brought together: all at once after either side was lost,
//! and a few at a time for ever, in case something was missed.

use std::{collections::HashMap, sync::Arc, time::Duration};

use kurir_directory::{DirectoryError, Generation, Reclaimed, UserEntries};
use kurir_protocol::name::UserKey;
use tokio::{
    task::JoinSet,
    time::{Instant, sleep},
};

use crate::{connection::Connection, relay::Relay};

/// Claims under way at once: enough to fill the directory's pipeline.
const AT_ONCE: usize = 64;

/// Before a claim that the directory could not take is tried again.
const AGAIN: Duration = Duration::from_millis(200);

/// Steps of a whole audit, one for each shard of the table.
const STEPS: u32 = 64;

/// Why every connection is claimed again.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Cause {
    /// The directory has lost its entries. Connections go on meanwhile.
    Lost,
    /// This relay has a new life. Nobody acts until all are on record under it.
    NewLife(Generation),
}

/// Claims every connection again, and closes those that others have by now. Ends when all is settled, or when a yet newer
/// life has begun, which claims them itself.
pub(crate) async fn claim_all(relay: &Arc<Relay>, cause: Cause) {
    let mut left: Vec<Arc<Connection>> = relay.router.table.connections().flatten().collect();
    tracing::info!(connections = left.len(), "claiming every connection again");
    while !left.is_empty() {
        let mut claims = JoinSet::new();
        let mut failed = Vec::new();
        for connection in left {
            if claims.len() >= AT_ONCE
                && let Some(Ok(Some(again))) = claims.join_next().await
            {
                failed.push(again);
            }
            let relay = Arc::clone(relay);
            claims.spawn(async move { claim(&relay, &connection).await.is_err().then_some(connection) });
        }
        failed.extend(claims.join_all().await.into_iter().flatten());
        left = failed;
        if !left.is_empty() {
            sleep(AGAIN).await;
        }
    }
    if let Cause::NewLife(generation) = cause {
        relay.fence.claimed(generation);
        tracing::info!("every connection is claimed again");
    }
}

/// Audits for as long as it is polled: everybody once in [`crate::Config::audit_seconds`], a shard at a time.
pub(crate) async fn keep(relay: &Arc<Relay>) {
    let period = relay.settings.audit_every;
    // Connections whose device had no session, since when.
    let mut alone: HashMap<u64, Instant> = HashMap::new();
    loop {
        let mut seen_alone = HashMap::new();
        for connections in relay.router.table.connections() {
            sleep(period / STEPS).await;
            judge(relay, &connections, period, &alone, &mut seen_alone).await;
        }
        alone = seen_alone;
    }
}

async fn judge(
    relay: &Arc<Relay>,
    connections: &[Arc<Connection>],
    period: Duration,
    alone: &HashMap<u64, Instant>,
    seen_alone: &mut HashMap<u64, Instant>,
) {
    if connections.is_empty() || !relay.fence.may_act() {
        return;
    }
    let users: Result<Vec<_>, _> =
        connections.iter().map(|connection| UserKey::of(&connection.user)).collect();
    let Ok(users) = users else { return };
    let entries = relay.directory.users(&users).await.unwrap_or_default();
    if !entries.iter().all(|entries| entries.complete) || entries.is_empty() {
        // Away, or being written again: nobody is judged, and who was alone before keeps that time.
        let since = |connection: &Arc<Connection>| Some((connection.number, *alone.get(&connection.number)?));
        seen_alone.extend(connections.iter().filter_map(since));
        return;
    }
    for (connection, entries) in connections.iter().zip(&entries) {
        // Only added: what was read may be older than what that relay has said since. A copy that finds nobody takes it away.
        for link in relay.elsewhere(entries) {
            relay.router.sibling(&connection.user, &link, true);
        }
        if !is_routed(relay, connection, entries)
            && let Err(error) = claim(relay, connection).await
        {
            tracing::debug!(
                user = &*connection.user,
                error = kurir_rpc::chain(&error),
                "route not claimed yet"
            );
        }
        if entries.sessions.iter().any(|(resource, _)| *resource == connection.resource) {
            continue;
        }
        let since = *alone.get(&connection.number).unwrap_or(&Instant::now());
        if since.elapsed() >= period {
            tracing::debug!(user = &*connection.user, session = connection.number, "no session any more");
            connection.outbox.close("");
        } else {
            seen_alone.insert(connection.number, since);
        }
    }
}

fn is_routed(relay: &Relay, connection: &Connection, entries: &UserEntries) -> bool {
    entries.routes.iter().any(|(resource, route)| {
        *resource == connection.resource
            && route.connection == connection.number
            && route.relay == *relay.member.id()
    })
}

/// Puts one connection on record again, or closes it if it has lost its device.
async fn claim(relay: &Relay, connection: &Connection) -> Result<(), DirectoryError> {
    let Ok(user) = UserKey::of(&connection.user) else { return Ok(()) };
    // Closed before it is dismissed.
    let is_open = || !connection.outbox.is_closed();
    if !is_open() {
        return Ok(());
    }
    let (resource, login) = (&connection.resource, connection.login);
    match relay.member.reclaim_route(&user, resource, login, connection.number, is_open).await? {
        Reclaimed::Kept { displaced, .. } => {
            for displaced in &displaced {
                relay.displace(&user, displaced, login);
            }
            // Links that began again have forgotten them.
            relay.meet_siblings(&user).await;
        }
        Reclaimed::Lost => {
            tracing::debug!(user = &*connection.user, session = connection.number, "device is elsewhere");
            connection.lost_its_device(true);
        }
    }
    Ok(())
}
