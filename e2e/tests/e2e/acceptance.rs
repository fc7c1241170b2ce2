//! The original's acceptance run, in its order (PROTOCOL section 6, last paragraph): in one process, and in separate ones.

use kurir_e2e::packets::{
    FIRST_BIO, add_contact, directed, get_roster, item, message, presence, presence_to,
    relay_less_connection, remove_contact, roster, roster_error, roster_removed, roster_set, subscribed,
    unavailable,
};
use kurir_e2e::pattern::{ANY, TEXT};
use kurir_e2e::{PATIENCE, Person, Plan, System, Topology};
use serde_json::{Value, json};

use crate::accounts;

kurir_e2e::shows! {
    acceptance_run_on_separate_processes:
        "T1 T2 T3 T4 T5 T6 M1 M2 M3 M4 M5 M7 M8 M9 M10 M11 M12 M14 M15 M17 M18 M19 M20 M22 M23 M24 M25 M26 M27 M28 M29 M30 M31 \
         R1 R2 R4 R5 R6 R8 R9 R11 R12 R13 R14 R15 R16 R17 R18 R19 R21 R22 R24 R25";
    acceptance_run_in_one_process:
        "T1 T2 T3 T4 T5 M2 M3 M8 M9 M10 M11 M12 M13 M14 M15 M17 M18 M19 M20 M22 M23 M24 M25 M26 M27 M28 M29 M30 M31 \
         R5 R6 R9 R12 R13 R14 R15 R16 R19";
}

/// What the original's components and users begin with at the tracker.
fn first_packet() -> Value {
    json!({"ip_local": "192.168.1.6", "port": 62998, "type": "client", "is_private": true})
}

#[tokio::test]
async fn acceptance_run_on_separate_processes() {
    let mut system = Plan::new(Topology::Separate).start_nothing_but_stores().await;

    // The tracker alone.
    system.starts("tracker").await;
    let mut anybody = system.at_tracker("anybody").await;
    anybody.sends(first_packet()).await;
    anybody.receives(json!([])).await;

    // A manager joins. It has no relay to name yet, and the account is created all the same.
    system.starts("manager-1").await;
    system.lists(&["manager-1"]).await;
    anybody.sends(json!({"message": "get components"})).await;
    assert_eq!(system.names(&anybody.receives(json!([ANY])).await), ["manager-1"]);
    let mut early = system.at_manager("dini", 1).await;
    early.sends(json!({"type": "auth", "username": "dini", "password": "12345", "register": true})).await;
    early
        .receives(
            json!({"error": false, "msg": "Account created", "code": 201, "component": [], "session": TEXT}),
        )
        .await;

    // The first relay joins, and the manager names it.
    system.starts("relay-1").await;
    system.lists(&["manager-1", "relay-1"]).await;
    system.knows_relays(1, 1).await;
    let mut esa = system.person("esa").registers().await;
    assert_eq!(esa.at_relay(), system.relay(1), "the only relay");

    // The second relay learns the first one's users, and the first one the second's.
    system.starts("relay-2").await;
    system.lists(&["manager-1", "relay-1", "relay-2"]).await;
    system.knows_relays(1, 2).await;
    system.is_linked(1, 1).await;
    system.is_linked(2, 1).await;
    let mut fajar = system.person("fajar").at_relay(2).registers().await;
    fajar.reaches(&mut esa, "from a new relay to who was there before it").await;
    esa.reaches(&mut fajar, "and back").await;

    system.starts("manager-2").await;
    system.starts("relay-3").await;
    system.lists(&["manager-1", "manager-2", "relay-1", "relay-2", "relay-3"]).await;
    system.is_joined().await;
    anybody.sends(json!({"message": "get components"})).await;
    let listed = anybody.receives(json!([ANY, ANY, ANY, ANY, ANY])).await;
    assert_eq!(system.names(&listed), ["manager-1", "manager-2", "relay-1", "relay-2", "relay-3"]);

    accounts::each_bad_input_once(&system).await;
    contacts(&mut esa, &mut fajar).await;

    // The same again with the two at different managers.
    let mut gita = system.person("gita").at_manager(2).at_relay(3).registers().await;
    contacts(&mut gita, &mut fajar).await;
    messages(&system, &mut esa, &mut fajar).await;
    let mut fajar = connection_cut(&system, &mut gita, fajar).await;

    // A relay killed: its users are told by the closed connection, those who write to them by R15's packet, and
    // nobody goes offline. The manager does not name it any more, nor does the tracker.
    system.kill("relay-2");
    fajar.relay().is_closed_in_the_end(PATIENCE).await;
    esa.finds_nobody_at("fajar").await;
    gita.hears_nothing_else().await;
    system.lists(&["manager-1", "manager-2", "relay-1", "relay-3"]).await;
    // It is kept with its status all the same.
    assert_eq!(
        system.status().await,
        [("manager-1", true), ("manager-2", true), ("relay-1", true), ("relay-2", false), ("relay-3", true)]
            .map(|(id, active)| (id.to_string(), active))
    );
    let killed = system.relay(2);
    fajar.moves_to_another_relay(|relay| relay != killed).await;
    esa.reaches(&mut fajar, "on another relay").await;
    fajar.reaches(&mut esa, "yes").await;

    logout(&mut gita, fajar, &mut esa).await;
    system.stops().await;
}

#[tokio::test]
async fn acceptance_run_in_one_process() {
    let system = System::start(Topology::OneProcess).await;
    let mut anybody = system.at_tracker("anybody").await;
    anybody.sends(first_packet()).await;
    assert_eq!(
        system.names(&anybody.receives(json!([ANY, ANY, ANY])).await),
        ["manager-1", "relay-1", "relay-2"]
    );
    anybody.sends(json!({"message": "Get Components"})).await;
    assert_eq!(
        system.names(&anybody.receives(json!([ANY, ANY, ANY])).await),
        ["manager-1", "relay-1", "relay-2"]
    );

    accounts::each_bad_input_once(&system).await;
    let mut esa = system.person("esa").at_relay(1).registers().await;
    let mut fajar = system.person("fajar").at_relay(2).registers().await;
    contacts(&mut esa, &mut fajar).await;
    messages(&system, &mut esa, &mut fajar).await;
    let mut gita = system.person("gita").at_relay(1).registers().await;
    let fajar = connection_cut(&system, &mut gita, fajar).await;
    logout(&mut gita, fajar, &mut esa).await;
    system.stops().await;
}

/// Presence, roster add, mutual add, rename, bio, directed presence, remove. Leaves no contacts behind.
async fn contacts(esa: &mut Person, fajar: &mut Person) {
    let (e, f) = (esa.name.clone(), fajar.name.clone());
    let (e, f) = (e.as_str(), f.as_str());

    // Nobody's roster has anybody.
    fajar.sends(get_roster(f)).await;
    fajar.receives(roster(f, &[])).await;

    // Fajar adds esa, who is online; esa is told nothing.
    fajar.sends(add_contact(f, e, "ini esa")).await;
    fajar.receives(subscribed(e, f, &item(e, "ini esa", "to"))).await;
    fajar.receives(presence_to(e, FIRST_BIO, 1, f)).await;
    fajar.receives(roster_set(f)).await;
    esa.hears_nothing_else().await;
    esa.sends(get_roster(e)).await;
    esa.receives(roster(e, &[json!({"jid": f, "name": null, "subscription": "from"})])).await;

    // Esa's initial presence goes to fajar, who follows her; fajar's would not go to esa.
    esa.sends(json!({"stanza": "presence"})).await;
    fajar.receives(presence(e, FIRST_BIO, 1)).await;
    esa.hears_nothing_else().await;

    // Esa adds fajar: mutual, and fajar is told so.
    esa.sends(add_contact(e, f, "Fajar")).await;
    esa.receives(subscribed(f, e, &item(f, "Fajar", "both"))).await;
    esa.receives(presence_to(f, FIRST_BIO, 1, e)).await;
    esa.receives(roster_set(e)).await;
    fajar.receives(subscribed(e, f, &item(e, "ini esa", "both"))).await;

    // A rename.
    fajar.sends(add_contact(f, e, "author")).await;
    fajar.receives(subscribed(e, f, &item(e, "author", "both"))).await;
    fajar.receives(presence_to(e, FIRST_BIO, 1, f)).await;
    fajar.receives(roster_set(f)).await;
    esa.receives(subscribed(f, e, &item(f, "Fajar", "both"))).await;
    fajar.sends(get_roster(f)).await;
    fajar.receives(roster(f, &[item(e, "author", "both")])).await;

    // A bio.
    esa.sends(json!({"stanza": "presence", "from": e, "bio": "lagi makan kebab"})).await;
    fajar.receives(presence(e, "lagi makan kebab", 1)).await;
    esa.hears_nothing_else().await;

    // Initial presence, both ways.
    fajar.sends(json!({"stanza": "presence"})).await;
    esa.receives(presence(f, FIRST_BIO, 1)).await;
    fajar.receives(presence_to(e, "lagi makan kebab", 1, f)).await;

    // Directed presence, and that of an unknown user.
    fajar.sends(json!({"stanza": "presence", "to": e})).await;
    fajar.receives(directed(e, "lagi makan kebab", 1, f)).await;
    esa.receives(directed(f, FIRST_BIO, 1, e)).await;
    fajar.sends(json!({"stanza": "presence", "to": "siapa"})).await;
    fajar.receives(json!({"stanza": "presence", "type": "error", "to": f, "target": "siapa"})).await;

    // Fajar removes esa, and esa is told nothing.
    fajar.sends(remove_contact(f, e)).await;
    fajar.receives(json!({"stanza": "presence", "from": e, "to": f, "type": "unsubscribed"})).await;
    fajar.receives(roster_removed(f)).await;
    esa.hears_nothing_else().await;
    fajar.sends(get_roster(f)).await;
    fajar.receives(roster(f, &[json!({"jid": e, "name": ANY, "subscription": "from"})])).await;
    esa.sends(get_roster(e)).await;
    esa.receives(roster(e, &[item(f, "Fajar", "to")])).await;

    // What esa made is not fajar's to remove; when she removes it, both rows go.
    fajar.sends(remove_contact(f, e)).await;
    fajar.receives(roster_error("cancel", "not-allowed", f)).await;
    esa.sends(remove_contact(e, f)).await;
    esa.receives(json!({"stanza": "presence", "from": f, "to": e, "type": "unsubscribed"})).await;
    esa.receives(roster_removed(e)).await;
    fajar.sends(get_roster(f)).await;
    fajar.receives(roster(f, &[])).await;
}

/// A message on one relay, across two, to an unknown and to an offline user. Esa is at relay 1, fajar at relay 2.
async fn messages(system: &System, esa: &mut Person, fajar: &mut Person) {
    let mut budi = system.person("budi").at_relay(1).registers().await;
    esa.reaches(&mut budi, "halo budi").await;
    budi.reaches(esa, "halo esa").await;
    esa.reaches(fajar, "halo fajar").await;
    fajar.reaches(esa, "halo dari relay 2").await;
    esa.relay().sends(message("esa", "esa", "to myself")).await;
    esa.reads("esa", "to myself").await;

    // What we don't know travels along, and `from` is what the relay knows.
    let forged = json!({"stanza": "Message", "from": "presiden", "to": "fajar", "body": "x", "warna": {"latar": ["merah", 1.50]}});
    esa.relay().sends(forged).await;
    let delivered = json!({"stanza": "Message", "from": "esa", "to": "fajar", "body": "x", "warna": {"latar": ["merah", 1.5]}});
    fajar.relay().receives(delivered).await;

    esa.writes("siapa", "an unknown user").await;
    esa.is_told_nobody_is_there().await;
    esa.relay().sends(json!({"stanza": "message", "from": "esa", "body": "to nobody"})).await;
    esa.is_told_nobody_is_there().await;
    esa.relay().sends(json!({"stanza": "message", "to": 7, "body": "to a number"})).await;
    esa.is_told_nobody_is_there().await;
    budi.logs_out().await;
    esa.writes("budi", "an offline user").await;
    esa.is_told_nobody_is_there().await;
    fajar.writes("budi", "offline from another relay too").await;
    fajar.is_told_nobody_is_there().await;
}

/// Each of fajar's two connections is cut. Only the manager's matters to his contact gita; only the relay's to messages.
async fn connection_cut(system: &System, gita: &mut Person, mut fajar: Person) -> Person {
    gita.befriends(&mut fajar).await;
    gita.sends(json!({"stanza": "presence"})).await;
    gita.receives(presence_to("fajar", ANY, 1, "gita")).await;
    fajar.receives(presence("gita", ANY, 1)).await;

    system.cuts_relay_connection(&mut fajar).await;
    gita.finds_nobody_at("fajar").await;
    gita.hears_nothing_else().await;
    fajar.sends(json!({"type": "get_relay_less_connection"})).await;
    let offer = fajar.receives(relay_less_connection()).await;
    let relay = system.relay(2);
    fajar.connects_to(relay, &offer[0]["component"][0]).await;
    gita.reaches(&mut fajar, "there you are").await;

    // The manager connection: offline for the contacts, reachable still.
    let mut left = fajar.loses_manager().expect("a relay connection");
    gita.receives(unavailable("fajar")).await;
    gita.writes("fajar", "still there?").await;
    left.receives(message("gita", "fajar", "still there?")).await;

    // He comes back; the relay connection of his older login gives way.
    let mut fajar = system.person("fajar").at_relay(2).logs_in().await;
    left.is_closed_in_the_end(PATIENCE).await;
    fajar.sends(json!({"stanza": "presence"})).await;
    fajar.receives(presence_to("gita", ANY, 1, "fajar")).await;
    gita.receives(presence("fajar", ANY, 1)).await;
    gita.reaches(&mut fajar, "welcome back").await;
    fajar.reaches(gita, "here again").await;
    fajar
}

/// Fajar says goodbye: his contact is told, both of his connections are closed, nothing reaches him.
async fn logout(gita: &mut Person, mut fajar: Person, esa: &mut Person) {
    fajar.sends(unavailable("fajar")).await;
    gita.receives(unavailable("fajar")).await;
    fajar.manager.is_closed().await;
    fajar.relay().is_closed_in_the_end(PATIENCE).await;
    esa.writes("fajar", "gone").await;
    esa.is_told_nobody_is_there().await;
    gita.writes("fajar", "gone").await;
    gita.is_told_nobody_is_there().await;
    // His roster is still there, and says that he is offline now.
    gita.sends(json!({"stanza": "presence"})).await;
    gita.receives(presence_to("fajar", ANY, 0, "gita")).await;
}
