//! Parts that die or lose everything.
//!
//! After each: the right users are told, and everybody can log in and exchange messages again within 10 s of the fault's
//! end. Passwords cost what they cost by default.

use std::time::Instant;

use kurir_e2e::crowd::BACK_WITHIN;
use kurir_e2e::packets::{add_contact, message, presence, presence_to, refusal, unavailable};
use kurir_e2e::pattern::{ANY, TEXT};
use kurir_e2e::{Crowd, PATIENCE, Person, System, Topology};
use serde_json::json;

kurir_e2e::shows! {
    users_connection_cut: "M30 M31 R12 R15";
    relay_killed: "M7 R15 R24 R25";
    manager_killed: "M30 M31 R2";
    tracker_restarted: "T3 T4 M1 R1";
    redis_emptied: "";
    redis_restarted_empty: "";
    redis_restarted_with_its_data: "";
    postgres_restarted: "";
}

/// Two contacts at different managers and relays, and a crowd of which a part logs in only after the fault.
pub(crate) struct Town {
    pub(crate) system: System,
    pub(crate) esa: Person,
    pub(crate) fajar: Person,
    pub(crate) crowd: Crowd,
}

impl Town {
    pub(crate) async fn start() -> Town {
        let system = System::start(Topology::Separate).await;
        let mut esa = system.person("esa").at_manager(1).at_relay(1).registers().await;
        let mut fajar = system.person("fajar").at_manager(2).at_relay(2).registers().await;
        esa.befriends(&mut fajar).await;
        esa.reaches(&mut fajar, "before").await;
        fajar.reaches(&mut esa, "before").await;
        let mut crowd = Crowd::gather(&system, 28).await;
        crowd.goes_partly(5).await;
        Town { system, esa, fajar, crowd }
    }

    /// Nobody who was connected has noticed: no connection lost, no presence told, messages go on.
    pub(crate) async fn is_undisturbed(&mut self) {
        self.esa.hears_nothing_else().await;
        self.fajar.hears_nothing_else().await;
        self.esa.reaches(&mut self.fajar, "undisturbed").await;
        self.fajar.reaches(&mut self.esa, "undisturbed too").await;
    }

    /// Presence works both ways, and who is online cannot log in a second time: every entry is where it should be.
    pub(crate) async fn is_whole(&mut self) {
        for manager in [1, 2] {
            let mut second = self.system.at_manager("a second esa", manager).await;
            second.sends(json!({"type": "auth", "username": "esa", "password": "12345"})).await;
            second.receives(refusal(409, "Already logged in")).await;
        }
        self.esa.sends(json!({"stanza": "presence"})).await;
        self.esa.receives(presence_to("fajar", ANY, 1, "esa")).await;
        self.fajar.receives(presence("esa", ANY, 1)).await;
    }
}

/// Logins that can't be decided are told so, never that the user is to blame.
async fn nobody_is_blamed(system: &System, logins: &[(&str, &str)]) {
    for (name, password) in logins {
        let mut raw = system.at_manager(name, 1).await;
        raw.sends(json!({"type": "auth", "username": name, "password": password})).await;
        raw.receives(refusal(503, "Temporary failure")).await;
        raw.hears_nothing_else().await;
    }
}

#[tokio::test]
async fn users_connection_cut() {
    let mut town = Town::start().await;
    let cut = Instant::now();
    town.system.cuts_relay_connection(&mut town.fajar).await;
    town.fajar.loses_manager();
    town.esa.receives(unavailable("fajar")).await;
    town.esa.finds_nobody_at("fajar").await;
    town.esa.hears_nothing_else().await;
    town.crowd.hears_nothing().await;
    town.fajar = town.system.person("fajar").at_manager(1).logs_in().await;
    town.esa.reaches(&mut town.fajar, "back").await;
    assert!(cut.elapsed() < BACK_WITHIN, "fajar was back only after {:?}", cut.elapsed());
    town.fajar.sends(json!({"stanza": "presence"})).await;
    town.fajar.receives(presence_to("esa", ANY, 1, "fajar")).await;
    town.esa.receives(presence("fajar", ANY, 1)).await;

    let cut = Instant::now();
    town.crowd.loses_partners(4).await;
    town.crowd.everybody_is_back(BACK_WITHIN, cut, "users' connections cut").await;
    town.is_undisturbed().await;
    town.is_whole().await;
    town.system.stops().await;
}

#[tokio::test]
async fn relay_killed() {
    let mut town = Town::start().await;
    town.system.kill("relay-2");
    let killed = Instant::now();
    town.crowd.everybody_is_back(BACK_WITHIN, killed, "a relay killed").await;
    town.fajar.relay().is_closed_in_the_end(PATIENCE).await;
    town.esa.finds_nobody_at("fajar").await;
    let gone = town.system.relay(2);
    town.fajar.moves_to_another_relay(|relay| relay != gone).await;
    // A lost relay changes nobody's presence.
    town.is_undisturbed().await;
    town.is_whole().await;
    town.system.stops().await;
}

#[tokio::test]
async fn manager_killed() {
    let mut town = Town::start().await;
    town.system.kill("manager-2");
    let killed = Instant::now();
    // Fajar's messages go on all the same.
    let mut left = town.fajar.loses_manager().expect("a relay connection");
    town.esa.writes("fajar", "still there?").await;
    left.receives(message("esa", "fajar", "still there?")).await;
    left.sends(message("fajar", "esa", "still here")).await;
    town.esa.reads("fajar", "still here").await;

    town.crowd.everybody_is_back(BACK_WITHIN, killed, "a manager killed").await;
    town.esa.receives(unavailable("fajar")).await;
    let mut fajar = town.system.person("fajar").at_manager(1).at_relay(3).logs_in().await;
    left.is_closed_in_the_end(PATIENCE).await;
    fajar.sends(json!({"stanza": "presence"})).await;
    fajar.receives(presence_to("esa", ANY, 1, "fajar")).await;
    town.esa.receives(presence("fajar", ANY, 1)).await;
    town.esa.reaches(&mut fajar, "welcome back").await;

    // The manager comes again, and serves.
    town.system.start_again("manager-2").await;
    town.system.lists(&["manager-1", "manager-2", "relay-1", "relay-2", "relay-3"]).await;
    town.system.knows_relays(2, 3).await;
    fajar.logs_out().await;
    town.esa.receives(unavailable("fajar")).await;
    town.fajar = town.system.person("fajar").at_manager(2).logs_in().await;
    town.fajar.sends(json!({"stanza": "presence"})).await;
    town.fajar.receives(presence_to("esa", ANY, 1, "fajar")).await;
    town.esa.receives(presence("fajar", ANY, 1)).await;
    town.is_undisturbed().await;
    town.is_whole().await;
    town.system.stops().await;
}

#[tokio::test]
async fn tracker_restarted() {
    let mut town = Town::start().await;
    town.system.kill("tracker");
    town.is_undisturbed().await;
    assert_eq!(town.system.listed().await, None, "newcomers can't discover");
    town.system.start_again("tracker").await;
    let again = Instant::now();
    town.crowd.everybody_is_back(BACK_WITHIN, again, "the tracker restarted").await;
    town.system.lists(&["manager-1", "manager-2", "relay-1", "relay-2", "relay-3"]).await;
    town.is_undisturbed().await;
    town.is_whole().await;
    town.system.stops().await;
}

#[tokio::test]
async fn redis_emptied() {
    let mut town = Town::start().await;
    town.system.redis().flush_all().await;
    let emptied = Instant::now();
    town.is_undisturbed().await;
    town.crowd.everybody_is_back(BACK_WITHIN, emptied, "Redis emptied").await;
    town.is_undisturbed().await;
    town.is_whole().await;
    town.system.stops().await;
}

#[tokio::test]
async fn redis_restarted_empty() {
    let mut town = Town::start().await;
    town.system.redis().kill();
    town.is_undisturbed().await;
    nobody_is_blamed(&town.system, &[("orang27", "12345")]).await;
    town.system.redis().start_again().await;
    let again = Instant::now();
    town.crowd.everybody_is_back(BACK_WITHIN, again, "Redis restarted, empty").await;
    town.is_undisturbed().await;
    town.is_whole().await;
    town.system.stops().await;
}

#[tokio::test]
async fn redis_restarted_with_its_data() {
    let mut town = Town::start().await;
    town.system.redis().shut_down_saving().await;
    town.is_undisturbed().await;
    town.system.redis().start_again().await;
    let again = Instant::now();
    town.crowd.everybody_is_back(BACK_WITHIN, again, "Redis restarted with its data").await;
    town.is_undisturbed().await;
    town.is_whole().await;
    town.system.stops().await;
}

#[tokio::test]
async fn postgres_restarted() {
    let mut town = Town::start().await;
    town.system.postgres().stop().await;
    town.is_undisturbed().await;
    let logins = [("orang27", "12345"), ("orang26", "54321"), ("siapa", "12345")];
    nobody_is_blamed(&town.system, &logins).await;
    // A roster change is refused for now, as one to try again.
    town.esa.sends(add_contact("esa", "fajar", "later")).await;
    let error = json!({"type": "wait", "condition": TEXT});
    town.esa
        .receives(
            json!({"stanza": "iq", "namespace": "roster", "type": "error", "error": error, "to": "esa"}),
        )
        .await;
    town.system.postgres().start_again().await;
    let again = Instant::now();
    town.crowd.everybody_is_back(BACK_WITHIN, again, "PostgreSQL restarted").await;
    town.is_undisturbed().await;
    town.is_whole().await;
    town.system.stops().await;
}
