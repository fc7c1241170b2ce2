//! Finding managers: any one of the trackers will do (U1).

use kurir_protocol::client::{FromServer, ToServer};
use kurir_protocol::tracker::Kind;
use rand::seq::SliceRandom;
use tokio::time::timeout;

use crate::error::Failure;
use crate::event::Socket;
use crate::options::Timing;
use crate::wire::Wire;

/// The addresses of the active managers, in random order, from the first tracker that answers. What trackers sent is
/// added to `values`.
pub(crate) async fn managers(
    trackers: &[String],
    timing: &Timing,
    values: &mut Vec<(Socket, String)>,
) -> Result<Vec<String>, Failure> {
    let mut order: Vec<&String> = trackers.iter().collect();
    order.shuffle(&mut rand::rng());
    let mut failure = Failure::NoManager;
    for tracker in order {
        match ask(tracker, timing, values).await {
            Ok(mut managers) if !managers.is_empty() => {
                managers.shuffle(&mut rand::rng());
                return Ok(managers);
            }
            // One that has just started may not know anybody yet: ask the next.
            Ok(_) => failure = Failure::NoManager,
            Err(error) => failure = Failure::NoTracker(Box::new(error)),
        }
    }
    Err(failure)
}

async fn ask(
    tracker: &str,
    timing: &Timing,
    values: &mut Vec<(Socket, String)>,
) -> Result<Vec<String>, Failure> {
    let mut wire = Wire::dial(tracker, timing).await?;
    wire.hello();
    let received = timeout(timing.dial, wire.value())
        .await
        .map_err(|_| Failure::Silent { address: tracker.to_owned() })??;
    values.push((Socket::Tracker, received.value));
    let FromServer::Components(components) = received.packet else {
        return Err(Failure::Protocol { address: tracker.to_owned() });
    };
    let managers = components.iter().filter(|component| component.kind == Kind::Manager);
    Ok(managers.map(|manager| address(&manager.host, manager.port)).collect())
}

/// `host:port`, with the brackets that an IPv6 address needs.
pub(crate) fn address(host: &str, port: u16) -> String {
    if host.contains(':') && !host.starts_with('[') {
        format!("[{host}]:{port}")
    } else {
        format!("{host}:{port}")
    }
}

impl Wire {
    /// The first packet to a tracker or manager.
    pub(crate) fn hello(&mut self) {
        let (host, port) = self.local();
        self.queue(&ToServer::Hello { host: &host, port });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_ipv6_address_gets_its_brackets() {
        assert_eq!(address("::1", 5001), "[::1]:5001");
        assert_eq!(address("chat.example", 5001), "chat.example:5001");
    }
}
