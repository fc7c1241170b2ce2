//! The JSON socket for clients (PROTOCOL section 1).

use kurir_protocol::Malformed;
use kurir_protocol::replies;
use kurir_protocol::tracker::{Component, FromClient, Kind, write_components};
use kurir_rpc::v1::{self, ComponentKind};
use kurir_socket::{Flow, Session};
use rand::seq::SliceRandom;
use tokio::time::Instant;

use crate::metrics::Metrics;
use crate::roll::Roll;

/// One client (T1).
pub(crate) struct Client {
    roll: Roll,
    metrics: Metrics,
    /// Until it has asked for the components: when it is closed.
    deadline: Option<Instant>,
    /// It has used Part II.
    part_two: bool,
}

impl Client {
    pub(crate) fn new(roll: Roll, metrics: Metrics, deadline: Instant) -> Self {
        Self { roll, metrics, deadline: Some(deadline), part_two: false }
    }

    fn give_components(&mut self, replies: &mut Vec<u8>) {
        self.deadline = None;
        self.metrics.client_lists.inc();
        let mut components: Vec<Component> = self.roll.active().iter().filter_map(for_clients).collect();
        // Original clients take the first manager.
        components.shuffle(&mut rand::rng());
        write_components(replies, &components);
    }
}

impl Session for Client {
    async fn received(&mut self, value: &str, replies: &mut Vec<u8>) -> Result<Flow, Malformed> {
        match FromClient::parse(value)? {
            // T2: by the first packet, whatever it says it is; a later one fits no row.
            FromClient::Hello { .. } if self.deadline.is_some() => self.give_components(replies),
            FromClient::GetComponents => self.give_components(replies),
            FromClient::Iq(request) => {
                self.part_two = true;
                request.answer(replies);
            }
            FromClient::Hello { .. } | FromClient::Ignored => {}
        }
        Ok(Flow::Continue)
    }

    fn deadline(&self) -> Option<Instant> {
        self.deadline
    }

    fn goodbye(&self) -> String {
        replies::goodbye(self.part_two)
    }
}

/// None: no client is sent there.
fn for_clients(component: &v1::Component) -> Option<Component> {
    if component.draining {
        return None;
    }
    let kind = match component.kind() {
        ComponentKind::Manager => Kind::Manager,
        ComponentKind::Relay => Kind::Relay,
        ComponentKind::Unspecified => return None,
    };
    Some(Component {
        kind,
        host: component.client_host.clone(),
        port: u16::try_from(component.client_port).ok()?,
        is_private: component.private,
    })
}
