//! A device that is removed while it logs in: the test decides how far the login is by then.

use kurir_directory::SessionEnd;
use kurir_protocol::manager::FromClient;
use serde_json::json;

use super::*;
use crate::{
    sessions::Over,
    store::session::SessionToken,
    tests::{esa_and_fajar, manager, registered},
};

/// Esa's phone, whose login is put down and not on record yet.
struct Phone {
    account: Account,
    device: Resource,
    token: SessionToken,
    login: LoginId,
}

impl Phone {
    async fn logs_in(manager: &Manager, esa: &Online) -> Phone {
        let account = manager.account_of(esa).await.unwrap();
        let device = Resource::named("phone").unwrap();
        let session = manager.new_session();
        let login = Login { device: &device, now_ms: now_ms(), session: LoginSession::New(&session) };
        let login = manager.store.record_login(account.id, &login, None).await.unwrap();
        Phone { account, device, token: session.token, login }
    }

    async fn claim<'a>(&self, manager: &'a Manager) -> Result<Claimed<'a>, Refusal> {
        let device = (&self.device, Older::GivesWay);
        manager.claim(&self.account.username, device, self.login, client().address).await
    }

    async fn goes_online(&self, manager: &Manager, claimed: Claimed<'_>) -> Arc<Online> {
        manager.go_online(&self.account, claimed, &self.token, client()).await.online
    }

    async fn is_not_there(&self, manager: &Manager) {
        assert!(manager.sessions.get(&self.account.key, &self.device).is_none());
        let entries = manager.member.directory().user(&self.account.key).await.unwrap();
        let mut devices = entries.sessions.iter().map(|(device, _)| device);
        assert!(devices.all(|device| *device != self.device), "{entries:?}");
        let auth = Auth {
            username: Some(self.account.username.to_string()),
            password: None,
            register: false,
            device: Some(self.device.clone()),
            session: Some(Token::new(self.token.expose())),
        };
        let again = manager.authenticate(&auth, client()).await;
        assert!(matches!(again, Err(Refusal::Unauthorized)), "{again:?}");
    }
}

fn client() -> Client {
    Client { address: std::net::Ipv4Addr::LOCALHOST.into(), outbox: Outbox::new(1024 * 1024) }
}

/// Esa removes her phone, and is answered.
async fn removes_the_phone(manager: &Manager, esa: &Arc<Online>) {
    let iq = json!({"stanza": "iq", "namespace": "account", "type": "set", "query": {"remove": "phone"}});
    let Ok(FromClient::Account(request)) = FromClient::parse(&iq.to_string()) else { unreachable!() };
    let mut replies = Vec::new();
    manager.account(esa, &request, &mut replies).await;
    let reply: serde_json::Value = serde_json::from_slice(&replies).unwrap();
    assert_eq!(reply["type"], "result", "{reply}");
}

#[tokio::test]
async fn a_device_that_is_removed_before_its_login_is_on_record_does_not_come_online() {
    let manager = manager().await;
    let esa = registered(&manager, "esa").await;
    let phone = Phone::logs_in(&manager, &esa).await;
    removes_the_phone(&manager, &esa).await;
    assert!(phone.claim(&manager).await.is_err());
    phone.is_not_there(&manager).await;
    let again = Phone::logs_in(&manager, &esa).await;
    assert!(again.claim(&manager).await.is_ok(), "with the password, after that");
}

#[tokio::test]
async fn a_device_that_is_removed_before_its_login_is_served_does_not_stay_online() {
    let manager = manager().await;
    let esa = registered(&manager, "esa").await;
    let phone = Phone::logs_in(&manager, &esa).await;
    let claimed = phone.claim(&manager).await.unwrap();
    removes_the_phone(&manager, &esa).await;
    let online = phone.goes_online(&manager, claimed).await;
    assert!(online.is_closed());
    phone.is_not_there(&manager).await;
}

/// The word of it comes from the manager where the device was removed.
#[tokio::test]
async fn a_device_that_is_removed_elsewhere_before_its_login_is_served_does_not_stay_online() {
    let manager = manager().await;
    let esa = registered(&manager, "esa").await;
    let phone = Phone::logs_in(&manager, &esa).await;
    let claimed = phone.claim(&manager).await.unwrap();
    assert!(manager.store.remove_device(phone.account.id, &phone.device).await.unwrap());
    manager.session_over(&phone.account.key, &phone.device, phone.login, Over::Removed).await;
    let online = phone.goes_online(&manager, claimed).await;
    assert!(online.is_closed());
    phone.is_not_there(&manager).await;
}

/// They were shown its older connection, which goes without a word as the newer one takes its place.
#[tokio::test]
async fn contacts_hear_of_a_device_that_is_removed_while_it_comes_back() {
    let manager = manager().await;
    let (esa, fajar) = esa_and_fajar(&manager).await;
    let older = Phone::logs_in(&manager, &esa).await;
    let claimed = older.claim(&manager).await.unwrap();
    let older = older.goes_online(&manager, claimed).await;
    manager.announce(&older).await.unwrap();
    manager.depart(&esa, SessionEnd::Lost).await;
    assert!(!fajar.shown(&esa.user).is_empty());

    let newer = Phone::logs_in(&manager, &esa).await;
    let claimed = newer.claim(&manager).await.unwrap();
    manager.session_over(&esa.user, &older.device, older.login, Over::Displaced).await;
    assert!(manager.store.remove_device(newer.account.id, &newer.device).await.unwrap());
    manager.session_over(&esa.user, &newer.device, newer.login, Over::Removed).await;
    newer.goes_online(&manager, claimed).await;
    newer.is_not_there(&manager).await;
    assert!(fajar.shown(&esa.user).is_empty(), "she is gone");
}

/// The manager was killed, or its database went, when only the row of the table was gone.
#[tokio::test]
async fn a_removal_that_was_broken_off_can_be_asked_for_again() {
    let manager = manager().await;
    let esa = registered(&manager, "esa").await;
    let phone = Phone::logs_in(&manager, &esa).await;
    let claimed = phone.claim(&manager).await.unwrap();
    let online = phone.goes_online(&manager, claimed).await;
    assert!(manager.store.remove_device(phone.account.id, &phone.device).await.unwrap());
    removes_the_phone(&manager, &esa).await;
    assert!(online.is_closed());
    phone.is_not_there(&manager).await;
}
