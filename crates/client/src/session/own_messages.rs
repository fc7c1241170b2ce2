//! What follows, after whatever happened, for tracked messages and for what is kept.

use kurir_delivery::queue::Next;
use kurir_protocol::client::ToServer;
use tokio::time::Instant;

use super::{Over, Session};
use crate::error::Failure;
use crate::event::{Event, Socket};
use crate::pending::{Ask, Request};
use crate::state_file::NotWritten;

impl Session {
    pub(super) fn own_messages(&mut self) -> Result<(), Over> {
        self.take();
        self.tracking.keep();
        self.tracking.plan(Instant::now());
        self.send_queued();
        let over =
            self.leaving.as_ref().is_some_and(|leaving| leaving.is_answered() && self.tracking.is_idle());
        if over { self.leave() } else { Ok(()) }
    }

    /// What the application has taken, and the receipts that this calls for.
    pub(super) fn take(&mut self) {
        let taken = self.taken.count();
        if let Some(inbox) = self.tracking.inbox() {
            inbox.took(taken);
        }
        self.tracking.answer(&self.options.username, self.leaving.is_some());
    }

    /// A write to the state file has ended: the servers may know how far this device is.
    pub(super) fn on_written(&mut self, written: Result<(), NotWritten>) {
        let place = self.tracking.written(written);
        if let Some(complaint) = self.tracking.complaint() {
            self.outlet.put(Event::NotKept(complaint));
        }
        if let Some(session) = self.tracking.session_kept() {
            self.account.kept(session);
        }
        let Some(seq) = place.filter(|seq| *seq > 0) else { return };
        if let Some(wire) = self.relay.current() {
            wire.queue(&ToServer::Ack { seq });
        }
    }

    /// Asks the archive, now or at the next login.
    pub(super) fn look_up(&mut self) {
        if let Some(id) = self.looked_up
            && self.manager.is_online()
        {
            self.pending.push(Request { ask: Ask::Sent(id), reply: None });
            self.write_requests();
        }
    }

    fn send_queued(&mut self) {
        let mut stuck = false;
        while let Some(wire) = self.relay.room() {
            match self.tracking.next_to_send() {
                Next::Send { queued, again } => {
                    wire.queue_line(format!("{}\n", queued.stanza).as_bytes());
                    if !again {
                        self.outlet.put(Event::Sent { id: queued.id });
                    }
                }
                Next::Ask(queued) => {
                    self.looked_up = Some(queued.id);
                    self.look_up();
                    break;
                }
                Next::Reconnect => {
                    stuck = true;
                    break;
                }
                Next::Nothing => break,
            }
        }
        if stuck && let Some(address) = self.relay.leave() {
            self.tracking.disconnected();
            let failure = Failure::Stuck { address };
            self.went_offline(Socket::Relay, failure.clone());
            if !self.relay.is_joining() {
                self.retry_relay(&failure);
            }
        }
    }
}
