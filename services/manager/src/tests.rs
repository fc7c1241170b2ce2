//! Rules that need a whole manager and none of its sockets: here a test decides what comes between two steps.

use std::{
    net::{IpAddr, Ipv4Addr},
    sync::{Arc, atomic::Ordering},
};

use kurir_directory::{Directory, Member, SessionEnd, Timing};
use kurir_protocol::manager::{Auth, FromClient, PresenceRequest};
use kurir_service::{Shell, config::Secret};
use kurir_socket::Outbox;
use serde_json::json;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    Bound, Config,
    accounts::{Client, Refusal},
    manager::Manager,
    online::Online,
    password::Passwords,
    store::{DatabaseConfig, Store},
};

/// A manager whose background tasks run only where a test calls them.
pub(crate) async fn manager() -> Manager {
    let config = Config {
        listen: "127.0.0.1:0".to_owned(),
        grpc_listen: "127.0.0.1:0".to_owned(),
        argon2_memory_kib: 8,
        argon2_iterations: 1,
        argon2_threads: 1,
        ..Config::default()
    };
    let database = DatabaseConfig {
        url: Secret::new("sqlite::memory:"),
        timeout_seconds: 20.0,
        ..DatabaseConfig::default()
    };
    let store = Store::connect(&database).await.unwrap();
    let passwords = Passwords::new(&config.passwords()).unwrap();
    let bound = Bound::bind(config, Shell::new(100)).await.unwrap();
    let (tasks, stop) = (TaskTracker::new(), CancellationToken::new());
    let directory = Directory::in_process(Timing::default());
    let (member, _events) = Member::join(directory, bound.component().unwrap(), stop.clone()).await.unwrap();
    bound.manager(store, passwords, member, &tasks, &stop).unwrap()
}

fn registration(username: &str) -> Auth {
    auth(&json!({"type": "auth", "username": username, "password": "12345", "register": true}))
}

fn auth(packet: &serde_json::Value) -> Auth {
    let FromClient::Auth(auth) = FromClient::parse(&packet.to_string()).unwrap() else { unreachable!() };
    auth
}

fn client() -> Client {
    Client { address: IpAddr::V4(Ipv4Addr::LOCALHOST), outbox: Outbox::new(1024 * 1024) }
}

pub(crate) async fn registered(manager: &Manager, username: &str) -> Arc<Online> {
    registered_on(manager, username, client().outbox).await
}

pub(crate) async fn registered_on(manager: &Manager, username: &str, outbox: Arc<Outbox>) -> Arc<Online> {
    let client = Client { outbox, ..client() };
    manager.authenticate(&registration(username), client).await.unwrap().online
}

/// Esa, and fajar who sees her and was told that she is online.
pub(crate) async fn esa_and_fajar(manager: &Manager) -> (Arc<Online>, Arc<Online>) {
    let (esa, fajar) = (registered(manager, "esa").await, registered(manager, "fajar").await);
    manager.store.add_contact(fajar.account, &esa.user, None).await.unwrap();
    manager.announce(&esa).await.unwrap();
    assert!(!fajar.shown(&esa.user).is_empty());
    (esa, fajar)
}

/// Whoever tells what a session owes has a list of sessions that was made before.
#[tokio::test]
async fn nobody_is_told_online_after_unavailable_m30() {
    let manager = manager().await;
    let (esa, fajar) = esa_and_fajar(&manager).await;
    manager.depart(&esa, SessionEnd::Lost).await;
    assert!(fajar.shown(&esa.user).is_empty());
    manager.announce(&esa).await.unwrap();
    assert!(fajar.shown(&esa.user).is_empty(), "she is gone");
}

/// A name that is stored is taken when its owner tries again.
#[tokio::test]
async fn nothing_is_stored_for_whom_the_directory_does_not_take_after_the_password_was_hashed_m8() {
    let manager = manager().await;
    let still = manager.passwords.stand_still().await;
    let registration = registration("esa");
    let mut registering = Box::pin(manager.authenticate(&registration, client()));
    tokio::select! {
        biased;
        _ = &mut registering => panic!("not hashed yet"),
        () = manager.passwords.somebody_waits() => {}
    }
    manager.member.leave().await;
    drop(still);
    assert!(matches!(registering.await, Err(Refusal::Temporary(_))));
    let key = kurir_protocol::name::UserKey::of("esa").unwrap();
    assert_eq!(manager.store.account(&key).await.unwrap(), None);
}

/// For the directory both claims are the same manager's of the same login.
#[tokio::test]
async fn of_two_registrations_of_a_name_the_later_does_not_take_the_first_ones_place_m9() {
    let manager = manager().await;
    let still = manager.passwords.stand_still().await;
    let (first, second) = (registration("esa"), registration("Esa"));
    let both = async {
        tokio::join!(manager.authenticate(&first, client()), manager.authenticate(&second, client()))
    };
    let let_go = async {
        manager.passwords.somebody_waits().await;
        drop(still);
    };
    let ((one, other), ()) = tokio::join!(both, let_go);
    assert_eq!([&one, &other].iter().filter(|result| result.is_ok()).count(), 1, "{one:?} {other:?}");
    let key = kurir_protocol::name::UserKey::of("esa").unwrap();
    let entries = manager.member.directory().user(&key).await.unwrap();
    assert_eq!(entries.sessions.len(), 1, "she is on record");
}

#[tokio::test]
async fn whose_former_session_is_not_off_record_yet_is_not_told_to_be_logged_in() {
    let manager = manager().await;
    let esa = registered(&manager, "esa").await;
    // As after a logout while the directory was away.
    assert!(manager.sessions.remove(&esa));
    let login = auth(&json!({"type": "auth", "username": "esa", "password": "12345"}));
    assert!(matches!(manager.authenticate(&login, client()).await, Err(Refusal::Temporary(_))));
}

#[tokio::test]
async fn who_cannot_be_found_is_not_said_to_be_offline_m27() {
    let manager = manager().await;
    let (esa, fajar) = esa_and_fajar(&manager).await;
    manager.depart(&esa, SessionEnd::Lost).await;
    manager.blind.store(true, Ordering::Relaxed);
    let mut replies = Vec::new();
    let to_esa = PresenceRequest::Directed { to: "esa".to_owned() };
    assert!(manager.presence(&fajar, to_esa, &mut replies).await.is_err());
    assert!(replies.is_empty());
}
