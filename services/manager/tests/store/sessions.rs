//! PROTOCOL Part II `session`: tokens, their rotation and their end.

use kurir_manager::store::{
    Account, Store,
    device::{Login, LoginError, LoginSession, NewSession},
    session::{SessionToken, SessionUse},
};
use kurir_protocol::name::{LoginId, Resource};

use crate::{
    database::{TestDatabase, register},
    on_both_databases,
};

on_both_databases!(
    a_token_is_used_up_by_the_use_of_the_next,
    whichever_answer_arrives_is_good,
    of_many_answers_the_last_are_good,
    an_older_one_may_make_all_of_them_worthless,
    a_token_is_good_for_its_account_and_device_and_time_only,
    a_logout_ends_the_tokens_of_its_login_and_no_later_one,
    a_device_that_is_removed_while_it_comes_back_is_not_put_down,
    of_two_uses_at_once_both_are_answered,
);

const LIFE_MS: i64 = 1000;

struct Phone {
    store: Store,
    account: Account,
    device: Resource,
}

impl Phone {
    async fn logged_in(database: &TestDatabase) -> (Phone, SessionToken) {
        let store = database.store().await;
        let account = register(&store, "esa").await.unwrap();
        let phone = Phone { store, account, device: Resource::named("phone").unwrap() };
        let (token, _) = phone.logs_in().await;
        (phone, token)
    }

    async fn logs_in(&self) -> (SessionToken, LoginId) {
        let token = SessionToken::first();
        let session = NewSession { token: token.clone(), expires_ms: LIFE_MS };
        let login = Login { device: &self.device, now_ms: 0, session: LoginSession::New(&session) };
        (token, self.store.record_login(self.account.id, &login, None).await.unwrap())
    }

    async fn uses(&self, token: &SessionToken, now_ms: i64) -> SessionUse {
        self.store.use_session(self.account.id, token, None, now_ms, LIFE_MS).await.unwrap()
    }

    async fn renews(&self, token: &SessionToken) -> SessionToken {
        match self.uses(token, 0).await {
            SessionUse::Renewed { device, next, again: _ } if device == self.device => next,
            other => panic!("{other:?}"),
        }
    }
}

async fn a_token_is_used_up_by_the_use_of_the_next(database: TestDatabase) {
    let (phone, one) = Phone::logged_in(&database).await;
    let lost = phone.renews(&one).await;
    let two = phone.renews(&one).await;
    assert_ne!(lost, two);
    let three = phone.renews(&two).await;
    phone.renews(&three).await;
    // What the answer that was lost brought was never used, and is as good as an older one.
    assert_eq!(phone.uses(&lost, 0).await, SessionUse::Older(phone.device.clone()));
}

/// A device that has no answer from one manager asks another, and then both answer: the first one last, to nobody.
async fn whichever_answer_arrives_is_good(database: TestDatabase) {
    let (phone, mut used) = Phone::logged_in(&database).await;
    for arrives in 0..3 {
        let mut answers = Vec::new();
        for _ in 0..3 {
            answers.push(phone.renews(&used).await);
        }
        let token = answers.swap_remove(arrives);
        // Also where the answer to this use is lost.
        phone.renews(&token).await;
        used = phone.renews(&token).await;
    }
    // Once one is used the others are as good as an older one.
    let [one, other] = [phone.renews(&used).await, phone.renews(&used).await];
    let next = phone.renews(&one).await;
    assert_eq!(phone.uses(&other, 0).await, SessionUse::Older(phone.device.clone()));
    phone.renews(&next).await;
}

async fn of_many_answers_the_last_are_good(database: TestDatabase) {
    let (phone, token) = Phone::logged_in(&database).await;
    let mut answers = Vec::new();
    for _ in 0..10 {
        answers.push(phone.renews(&token).await);
    }
    phone.renews(&answers[5]).await;
    assert_eq!(phone.uses(&answers[4], 0).await, SessionUse::Older(phone.device.clone()));
}

async fn an_older_one_may_make_all_of_them_worthless(database: TestDatabase) {
    let (phone, one) = Phone::logged_in(&database).await;
    let two = phone.renews(&one).await;
    let three = phone.renews(&two).await;
    assert_eq!(phone.uses(&one, 0).await, SessionUse::Older(phone.device.clone()));
    phone.store.revoke_family(phone.account.id, &one).await.unwrap();
    for worthless in [&one, &two, &three] {
        assert_eq!(phone.uses(worthless, 0).await, SessionUse::Refused);
    }
    let (again, _) = phone.logs_in().await;
    assert_eq!(phone.uses(&three, 0).await, SessionUse::Refused, "of a former login");
    phone.renews(&again).await;
}

async fn a_token_is_good_for_its_account_and_device_and_time_only(database: TestDatabase) {
    let (phone, token) = Phone::logged_in(&database).await;
    let fajar = register(&phone.store, "fajar").await.unwrap();
    let stolen = phone.store.use_session(fajar.id, &token, None, 0, LIFE_MS).await.unwrap();
    assert_eq!(stolen, SessionUse::Refused);
    let laptop = Resource::named("laptop").unwrap();
    let other = phone.store.use_session(phone.account.id, &token, Some(&laptop), 0, LIFE_MS).await.unwrap();
    assert_eq!(other, SessionUse::Refused);
    assert_eq!(phone.uses(&SessionToken::first(), 0).await, SessionUse::Refused);
    assert_eq!(phone.uses(&token, LIFE_MS).await, SessionUse::Refused, "too late");
    let next = phone.renews(&token).await;
    phone.store.remove_device(phone.account.id, &phone.device).await.unwrap();
    assert_eq!(phone.uses(&next, 0).await, SessionUse::Refused, "removed");
}

async fn a_device_that_is_removed_while_it_comes_back_is_not_put_down(database: TestDatabase) {
    let (mut phone, _) = Phone::logged_in(&database).await;
    for device in [Resource::named("phone").unwrap(), Resource::default_device()] {
        phone.device = device.clone();
        let (token, _) = phone.logs_in().await;
        let next = phone.renews(&token).await;
        phone.store.remove_device(phone.account.id, &device).await.unwrap();
        let login = Login { device: &device, now_ms: 0, session: LoginSession::Next(&next) };
        let put_down = phone.store.record_login(phone.account.id, &login, None).await;
        assert!(matches!(put_down, Err(LoginError::SessionOver)), "{device}: {put_down:?}");
        assert_eq!(phone.uses(&next, 0).await, SessionUse::Refused);
        let devices = phone.store.devices(phone.account.id).await.unwrap();
        assert!(devices.iter().all(|known| known.resource != device || !device.is_named()), "{devices:?}");
    }
}

async fn a_logout_ends_the_tokens_of_its_login_and_no_later_one(database: TestDatabase) {
    let (phone, _) = Phone::logged_in(&database).await;
    let (former, before) = phone.logs_in().await;
    let (token, login) = phone.logs_in().await;
    // Put down late, as the database was away.
    phone.store.revoke_session(phone.account.id, &phone.device, before).await.unwrap();
    let token = phone.renews(&token).await;
    assert_eq!(phone.uses(&former, 0).await, SessionUse::Refused);
    phone.store.revoke_session(phone.account.id, &phone.device, login).await.unwrap();
    assert_eq!(phone.uses(&token, 0).await, SessionUse::Refused);
}

async fn of_two_uses_at_once_both_are_answered(database: TestDatabase) {
    let (phone, token) = Phone::logged_in(&database).await;
    let (one, other) = tokio::join!(phone.uses(&token, 0), phone.uses(&token, 0));
    for used in [one, other] {
        assert!(matches!(used, SessionUse::Renewed { .. }), "{used:?}");
    }
    // Whichever answer counts as lost, the device has not lost its session by it.
    phone.renews(&token).await;
}
