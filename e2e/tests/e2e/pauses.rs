//! Parts that stop (SIGSTOP) past their lease and go on: they must not act on what is no longer theirs.

use std::time::{Duration, Instant};

use kurir_e2e::crowd::BACK_WITHIN;
use kurir_e2e::packets::{message, presence, refusal, relay_less_connection, unavailable};
use kurir_e2e::pattern::ANY;
use kurir_e2e::{PATIENCE, System};
use serde_json::json;

use crate::faults::Town;

kurir_e2e::shows! {
    relay_paused_past_its_lease: "M7 R24 R25";
    manager_paused_past_its_lease: "M30 M31";
    tracker_paused_and_resumed: "T3 T4";
    redis_paused_past_every_lease: "";
}

/// A lease lasts 6 s and is renewed every 2 s; a pause of this length is past it whenever it began. This is the fault
/// itself, not waiting for something.
const PAST_THE_LEASE: Duration = Duration::from_secs(9);

async fn pause(system: &mut System, name: &str) {
    system.pause(name);
    tokio::time::sleep(PAST_THE_LEASE).await;
}

#[tokio::test]
async fn relay_paused_past_its_lease() {
    let mut town = Town::start().await;
    let mut gita = town.system.person("gita").at_relay(2).registers().await;
    town.esa.reaches(&mut gita, "before").await;
    // Acknowledged, so its loss is not answered.
    gita.reaches(&mut town.esa, "before, and back").await;
    pause(&mut town.system, "relay-2").await;
    // It counts as dead everywhere.
    for other in [1, 3] {
        town.system.is_linked(other, 1).await;
    }
    for manager in [1, 2] {
        town.system.knows_relays(manager, 2).await;
    }

    // Fajar goes elsewhere; gita waits. What is sent to her comes back, since her relay counts as dead.
    town.fajar.sends(json!({"type": "get_relay_less_connection"})).await;
    let offer = town.fajar.receives(relay_less_connection()).await[0]["component"][0].clone();
    let paused = town.system.relay(2);
    assert_ne!(kurir_e2e::person::offered(&offer), paused, "a paused relay is not named");
    let mut old = town.fajar.keeps_relay_aside();
    town.fajar.connects_to(kurir_e2e::person::offered(&offer), &offer).await;
    town.esa.reaches(&mut town.fajar, "elsewhere").await;
    town.esa.finds_nobody_at("gita").await;

    town.system.resume("relay-2");
    let resumed = Instant::now();
    town.crowd.everybody_is_back(BACK_WITHIN, resumed, "a relay paused and resumed").await;
    // Fajar's old connection is closed, and delivered nothing; gita's is claimed again.
    old.is_closed_in_the_end(PATIENCE).await;
    town.is_undisturbed().await;
    town.esa.reaches_in_the_end(&mut gita, BACK_WITHIN).await;
    town.is_whole().await;
    town.system.stops().await;
}

#[tokio::test]
async fn manager_paused_past_its_lease() {
    let mut town = Town::start().await;
    let mut gita = town.system.person("gita").at_manager(2).at_relay(3).registers().await;
    gita.befriends(&mut town.esa).await;
    pause(&mut town.system, "manager-2").await;

    // Both of the paused manager's users count as gone; messages go on.
    town.esa.manager.receives_in_any_order(&[unavailable("fajar"), unavailable("gita")]).await;
    town.esa.reaches(&mut gita, "unavailable, but reachable").await;
    let mut fajar = town.system.person("fajar").at_manager(1).at_relay(1).logs_in().await;
    fajar.sends(json!({"stanza": "presence"})).await;
    fajar.receives(kurir_e2e::packets::presence_to("esa", ANY, 1, "fajar")).await;
    town.esa.receives(presence("fajar", ANY, 1)).await;

    town.system.resume("manager-2");
    let resumed = Instant::now();
    town.crowd.everybody_is_back(BACK_WITHIN, resumed, "a manager paused and resumed").await;
    // Fajar's old session is closed and takes nothing with it; gita's is claimed again, and her contact is told.
    town.fajar.manager.is_closed_in_the_end(PATIENCE).await;
    town.esa.manager.receives_in_the_end(presence("gita", ANY, 1), BACK_WITHIN).await;
    let mut second = town.system.at_manager("a second gita", 1).await;
    second.sends(json!({"type": "auth", "username": "gita", "password": "12345"})).await;
    second.receives(refusal(409, "Already logged in")).await;
    town.fajar = fajar;
    town.is_undisturbed().await;
    town.is_whole().await;
    town.esa.receives(kurir_e2e::packets::presence_to("gita", ANY, 1, "esa")).await;
    gita.logs_out().await;
    town.esa.receives(unavailable("gita")).await;
    town.system.stops().await;
}

/// A tracker is for newcomers; nobody else needs it.
#[tokio::test]
async fn tracker_paused_and_resumed() {
    let mut town = Town::start().await;
    pause(&mut town.system, "tracker").await;
    town.is_undisturbed().await;
    town.system.resume("tracker");
    let resumed = Instant::now();
    town.crowd.everybody_is_back(BACK_WITHIN, resumed, "the tracker paused and resumed").await;
    town.system.lists(&["manager-1", "manager-2", "relay-1", "relay-2", "relay-3"]).await;
    town.is_undisturbed().await;
    town.is_whole().await;
    town.system.stops().await;
}

/// Who can't reach the directory declares nobody dead.
#[tokio::test]
async fn redis_paused_past_every_lease() {
    let mut town = Town::start().await;
    town.system.redis().pause();
    tokio::time::sleep(PAST_THE_LEASE).await;
    town.is_undisturbed().await;
    town.system.redis().resume();
    let resumed = Instant::now();
    town.crowd.everybody_is_back(BACK_WITHIN, resumed, "Redis paused and resumed").await;
    town.is_undisturbed().await;
    town.is_whole().await;
    town.esa.relay().sends(message("esa", "esa", "still here")).await;
    town.esa.reads("esa", "still here").await;
    town.system.stops().await;
}
