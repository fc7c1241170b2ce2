//! One suite for both stores: every test runs in process and on a real redis-server, with several members that each have
//! a connection of their own. What only Redis can do (be away, restart) is in [`outage`].

mod outage;
mod world;

use std::time::Duration;

use kurir_protocol::name::LoginId;

use self::world::{Puppet, TIMING, World, default_device, displacing, login, named, user};
use crate::backend::{Ended, MOST_ENDED, Swap};
use crate::{DirectoryError, Event, Fenced, Kind, Reclaimed, RouteClaim, SessionClaim, SessionEnd, Timing};

macro_rules! on_both_stores {
    ($($name:ident)*) => {
        mod in_process {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $name() { super::$name(super::World::in_process()).await })*
        }
        mod on_redis {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $name() { super::$name(super::World::on_redis().await).await })*
        }
    };
}

on_both_stores! {
    who_joins_and_who_leaves_is_announced
    a_component_that_stops_renewing_is_dead_and_its_entries_absent
    m12_a_second_login_is_refused_until_the_first_has_ended
    a_named_device_goes_to_its_newer_login
    a_second_hello_replaces_the_first_and_is_told_which
    a_route_of_an_older_login_is_stale
    an_ended_login_gets_no_route_at_any_relay
    an_ended_login_gets_no_session_at_any_manager
    an_entry_judged_before_a_login_was_ended_is_not_written_after_it
    an_ended_login_is_forgotten_after_its_tickets
    of_many_ended_logins_the_oldest_are_forgotten
    releasing_takes_off_record_only_what_is_ones_own
    what_ends_while_it_is_claimed_again_leaves_nothing
    a_presence_counter_is_kept_only_for_the_session_on_record
    many_users_are_read_in_their_order
    a_paused_component_is_fenced_and_loses_what_was_claimed_meanwhile
    a_paused_component_takes_back_what_nobody_claimed
    entries_of_the_dead_are_swept
    a_second_component_of_one_id_is_refused
    a_restarted_component_gets_its_id_when_the_old_lease_has_run_out
    after_a_loss_owners_write_again_and_newcomers_wait
}

async fn who_joins_and_who_leaves_is_announced(world: World) {
    let (_m1, mut seen) = world.join(Kind::Manager, "m1").await;
    let (m2, _) = world.join(Kind::Manager, "m2").await;
    let joined = m2.component();
    assert_eq!(seen.next().await, Event::Joined(joined.clone()));
    assert_eq!(world.directory().await.components().await.unwrap().len(), 2);
    m2.leave().await;
    assert_eq!(seen.next().await, Event::Died(joined));
    assert_eq!(m2.check(), Err(Fenced));
}

async fn a_component_that_stops_renewing_is_dead_and_its_entries_absent(world: World) {
    let (m1, mut seen) = world.join(Kind::Manager, "m1").await;
    let (m2, _) = world.join(Kind::Manager, "m2").await;
    let component = m2.component();
    seen.until(&Event::Joined(component.clone())).await;
    m2.claim_session(&user("esa"), &default_device(), login(1)).await.unwrap();
    assert_eq!(m1.directory().user(&user("esa")).await.unwrap().sessions.len(), 1);
    drop(m2);
    seen.until(&Event::Died(component)).await;
    assert!(m1.directory().user(&user("esa")).await.unwrap().sessions.is_empty());
    let claim = m1.claim_session(&user("esa"), &default_device(), login(2)).await.unwrap();
    assert_eq!(claim, SessionClaim::Granted { generation: m1.generation(), displaced: Vec::new() });
}

async fn m12_a_second_login_is_refused_until_the_first_has_ended(world: World) {
    let (m1, _e1) = world.join(Kind::Manager, "m1").await;
    let (m2, _e2) = world.join(Kind::Manager, "m2").await;
    let (esa, device) = (user("esa"), default_device());
    assert!(matches!(m1.claim_session(&esa, &device, login(1)).await.unwrap(), SessionClaim::Granted { .. }));
    for member in [&m1, &m2] {
        assert_eq!(
            member.claim_session(&esa, &device, login(2)).await.unwrap(),
            SessionClaim::AlreadyLoggedIn
        );
    }
    m1.release_session(&esa, &device, LoginId(1), SessionEnd::Lost).await.unwrap();
    assert!(matches!(m2.claim_session(&esa, &device, login(3)).await.unwrap(), SessionClaim::Granted { .. }));
}

async fn a_named_device_goes_to_its_newer_login(world: World) {
    let (m1, _e1) = world.join(Kind::Manager, "m1").await;
    let (m2, _e2) = world.join(Kind::Manager, "m2").await;
    let (esa, device) = (user("esa"), named("phone"));
    m1.claim_session(&esa, &device, login(1)).await.unwrap();
    let SessionClaim::Granted { displaced, .. } =
        m2.claim_session(&esa, &device, displacing(2)).await.unwrap()
    else {
        panic!("the newer login must be granted")
    };
    let displaced: Vec<_> = displaced.into_iter().map(|it| (it.manager, it.login)).collect();
    assert_eq!(displaced, [(m1.id().clone(), LoginId(1))]);
    assert_eq!(m1.claim_session(&esa, &device, displacing(1)).await.unwrap(), SessionClaim::AlreadyLoggedIn);
}

async fn a_second_hello_replaces_the_first_and_is_told_which(world: World) {
    let (r1, _e1) = world.join(Kind::Relay, "r1").await;
    let (r2, _e2) = world.join(Kind::Relay, "r2").await;
    let (esa, device) = (user("esa"), default_device());
    let first = r1.claim_route(&esa, &device, LoginId(1), 7).await.unwrap();
    assert_eq!(first, RouteClaim::Granted { generation: r1.generation(), replaced: Vec::new() });
    let RouteClaim::Granted { replaced, .. } = r2.claim_route(&esa, &device, LoginId(1), 1).await.unwrap()
    else {
        panic!("the second hello must be granted")
    };
    let replaced: Vec<_> = replaced.into_iter().map(|it| (it.relay, it.connection)).collect();
    assert_eq!(replaced, [(r1.id().clone(), 7)]);
    let routes = r1.directory().user(&esa).await.unwrap().routes;
    assert_eq!(routes.len(), 1);
    assert_eq!((&routes[0].1.relay, routes[0].1.connection), (r2.id(), 1));
}

async fn a_route_of_an_older_login_is_stale(world: World) {
    let (m1, _em) = world.join(Kind::Manager, "m1").await;
    let (r1, _e1) = world.join(Kind::Relay, "r1").await;
    let (r2, _e2) = world.join(Kind::Relay, "r2").await;
    let (esa, device) = (user("esa"), default_device());
    r1.claim_route(&esa, &device, LoginId(2), 1).await.unwrap();
    assert_eq!(r2.claim_route(&esa, &device, LoginId(1), 1).await.unwrap(), RouteClaim::Stale);
    r1.release_route(&esa, &device, 1).await.unwrap();
    m1.claim_session(&esa, &device, login(2)).await.unwrap();
    assert_eq!(r2.claim_route(&esa, &device, LoginId(1), 1).await.unwrap(), RouteClaim::Stale);
}

async fn an_ended_login_gets_no_route_at_any_relay(world: World) {
    let (m1, _em) = world.join(Kind::Manager, "m1").await;
    let (r1, _e1) = world.join(Kind::Relay, "r1").await;
    let (esa, device) = (user("esa"), default_device());
    m1.claim_session(&esa, &device, login(1)).await.unwrap();
    m1.release_session(&esa, &device, LoginId(1), SessionEnd::Ended).await.unwrap();
    assert_eq!(r1.claim_route(&esa, &device, LoginId(1), 1).await.unwrap(), RouteClaim::Stale);
    m1.claim_session(&esa, &device, login(2)).await.unwrap();
    m1.release_session(&esa, &device, LoginId(2), SessionEnd::Lost).await.unwrap();
    assert_eq!(r1.claim_route(&esa, &device, LoginId(1), 1).await.unwrap(), RouteClaim::Stale);
    assert!(matches!(
        r1.claim_route(&esa, &device, LoginId(2), 1).await.unwrap(),
        RouteClaim::Granted { .. }
    ));
}

/// Its device was removed while it was under way.
async fn an_ended_login_gets_no_session_at_any_manager(world: World) {
    let (m1, _e1) = world.join(Kind::Manager, "m1").await;
    let (m2, _e2) = world.join(Kind::Manager, "m2").await;
    let (esa, device) = (user("esa"), named("phone"));
    m2.claim_session(&esa, &device, displacing(1)).await.unwrap();
    m1.end_logins(&esa, &device, LoginId(3)).await.unwrap();
    for member in [&m1, &m2] {
        let claim = member.claim_session(&esa, &device, displacing(2)).await.unwrap();
        assert_eq!(claim, SessionClaim::Ended);
        let route = member.claim_route(&esa, &device, LoginId(1), 1).await.unwrap();
        assert_eq!(route, RouteClaim::Stale);
    }
    // Who is on record is found, and told.
    assert_eq!(m1.directory().user(&esa).await.unwrap().sessions[0].1.login, LoginId(1));
    let again = m2.reclaim_session(&esa, &device, displacing(1), m2.generation(), || true).await.unwrap();
    assert_eq!(again, Reclaimed::Lost);
    m2.release_session(&esa, &device, LoginId(1), SessionEnd::Ended).await.unwrap();
    assert_eq!(
        m2.claim_session(&esa, &device, displacing(3)).await.unwrap(),
        SessionClaim::Ended,
        "it is not lowered"
    );
    let claim = m2.claim_session(&esa, &device, displacing(4)).await.unwrap();
    assert!(matches!(claim, SessionClaim::Granted { .. }), "{claim:?}");
}

async fn an_entry_judged_before_a_login_was_ended_is_not_written_after_it(world: World) {
    let (m1, _em) = world.join(Kind::Manager, "m1").await;
    let (esa, device) = (user("esa"), default_device());
    m1.claim_session(&esa, &device, login(1)).await.unwrap();
    m1.release_session(&esa, &device, LoginId(1), SessionEnd::Ended).await.unwrap();
    let judged = |ended| Swap {
        user: esa.clone(),
        field: "r:default".to_owned(),
        expected: None,
        new: Some("a route".to_owned()),
        ended: Some(("e:default".to_owned(), Ended::Is(ended))),
        owner: None,
    };
    let swaps = [judged(None), judged(Some(LoginId(1)))];
    let (written, _) = m1.directory().backend.swap(m1.id(), &swaps).await.unwrap();
    assert_eq!(written, [false, true]);
}

async fn an_ended_login_is_forgotten_after_its_tickets(world: World) {
    let world = world.with_timing(Timing { ended: Duration::from_millis(400), ..TIMING });
    let (m1, _em) = world.join(Kind::Manager, "m1").await;
    let (esa, device) = (user("esa"), default_device());
    m1.claim_session(&esa, &device, login(1)).await.unwrap();
    m1.release_session(&esa, &device, LoginId(1), SessionEnd::Ended).await.unwrap();
    world.wait_until("nothing is left", async || world.fields(&esa).await.is_empty()).await;
}

/// While a device stays there, nothing of its user expires.
async fn of_many_ended_logins_the_oldest_are_forgotten(world: World) {
    let (m1, _em) = world.join(Kind::Manager, "m1").await;
    let (r1, _er) = world.join(Kind::Relay, "r1").await;
    let esa = user("esa");
    let device = |number: u64| named(&format!("device {number}"));
    m1.claim_session(&esa, &default_device(), login(1)).await.unwrap();
    let last = 2 + MOST_ENDED as u64;
    for number in 2..=last {
        m1.claim_session(&esa, &device(number), login(number)).await.unwrap();
        m1.release_session(&esa, &device(number), LoginId(number), SessionEnd::Ended).await.unwrap();
    }
    assert_eq!(world.fields(&esa).await.len(), 1 + MOST_ENDED, "the session, and those that have ended");
    for (number, expected) in [(3, RouteClaim::Stale), (last, RouteClaim::Stale)] {
        let claim = r1.claim_route(&esa, &device(number), LoginId(number), number).await;
        assert_eq!(claim.unwrap(), expected, "{number}");
    }
    let forgotten = r1.claim_route(&esa, &device(2), LoginId(2), 2).await;
    assert!(matches!(forgotten.unwrap(), RouteClaim::Granted { .. }));
}

async fn releasing_takes_off_record_only_what_is_ones_own(world: World) {
    let (r1, _e1) = world.join(Kind::Relay, "r1").await;
    let (r2, _e2) = world.join(Kind::Relay, "r2").await;
    let (esa, device) = (user("esa"), default_device());
    r1.claim_route(&esa, &device, LoginId(1), 1).await.unwrap();
    r2.claim_route(&esa, &device, LoginId(1), 1).await.unwrap();
    r1.release_route(&esa, &device, 1).await.unwrap();
    assert_eq!(r1.directory().user(&esa).await.unwrap().routes.len(), 1);
    r2.claim_route(&esa, &device, LoginId(1), 2).await.unwrap();
    r2.release_route(&esa, &device, 1).await.unwrap();
    assert_eq!(r1.directory().user(&esa).await.unwrap().routes.len(), 1);
    r2.release_route(&esa, &device, 2).await.unwrap();
    assert!(world.fields(&esa).await.is_empty());
    let backend = &r2.directory().backend;
    assert_eq!(backend.owned(r2.id(), r2.generation(), 9).await.unwrap(), []);
}

async fn what_ends_while_it_is_claimed_again_leaves_nothing(world: World) {
    let (m1, _em) = world.join(Kind::Manager, "m1").await;
    let (r1, _er) = world.join(Kind::Relay, "r1").await;
    let (esa, device) = (user("esa"), default_device());
    // Released just before: the claims below are the rest of two that looked while there was a connection.
    m1.reclaim_session(&esa, &device, login(1), m1.generation(), || false).await.unwrap();
    r1.reclaim_route(&esa, &device, LoginId(1), 1, || false).await.unwrap();
    assert_eq!(world.fields(&esa).await, []);
    for member in [&m1, &r1] {
        let backend = &member.directory().backend;
        assert_eq!(backend.owned(member.id(), member.generation(), 9).await.unwrap(), []);
    }
}

async fn a_presence_counter_is_kept_only_for_the_session_on_record(world: World) {
    let (m1, _e1) = world.join(Kind::Manager, "m1").await;
    let (esa, device) = (user("esa"), default_device());
    m1.claim_session(&esa, &device, login(1)).await.unwrap();
    assert!(m1.update_session(&esa, &device, LoginId(1), 4).await.unwrap());
    assert!(!m1.update_session(&esa, &device, LoginId(2), 5).await.unwrap());
    assert_eq!(m1.directory().user(&esa).await.unwrap().sessions[0].1.presence_counter, 4);
    m1.release_session(&esa, &device, LoginId(1), SessionEnd::Lost).await.unwrap();
    assert!(!m1.update_session(&esa, &device, LoginId(1), 5).await.unwrap());
}

async fn many_users_are_read_in_their_order(world: World) {
    let (m1, _e1) = world.join(Kind::Manager, "m1").await;
    let users = ["esa", "fajar", "putri"].map(user);
    m1.claim_session(&users[0], &default_device(), login(1)).await.unwrap();
    m1.claim_session(&users[2], &default_device(), login(3)).await.unwrap();
    let read = world.directory().await.users(&users).await.unwrap();
    let logins: Vec<_> =
        read.iter().map(|user| user.sessions.first().map(|(_, session)| session.login.0)).collect();
    assert_eq!(logins, [Some(1), None, Some(3)]);
}

async fn a_paused_component_is_fenced_and_loses_what_was_claimed_meanwhile(world: World) {
    let (m1, mut seen) = world.join(Kind::Manager, "m1").await;
    let mut puppet = Puppet::join(&world, Kind::Manager, "m2").await;
    let (esa, device) = (user("esa"), default_device());
    let m2 = puppet.member.clone();
    let before = m2.component();
    seen.until(&Event::Joined(before.clone())).await;
    m2.claim_session(&esa, &device, login(1)).await.unwrap();

    let pause = puppet.pause();
    seen.until(&Event::Died(before.clone())).await;
    assert_eq!(m2.check(), Err(Fenced));
    assert!(matches!(m1.claim_session(&esa, &device, login(2)).await.unwrap(), SessionClaim::Granted { .. }));
    pause.end();

    let Event::Renewed { old, new } = puppet.events.until_renewed().await else { unreachable!() };
    assert_eq!((old, Ok(new)), (before.generation, m2.check()));
    let again = m2.reclaim_session(&esa, &device, login(1), old, || true).await.unwrap();
    assert_eq!(again, Reclaimed::Lost);
    assert!(m1.update_session(&esa, &device, LoginId(2), 1).await.unwrap());
}

async fn a_paused_component_takes_back_what_nobody_claimed(world: World) {
    let mut puppet = Puppet::join(&world, Kind::Relay, "r1").await;
    let (esa, device) = (user("esa"), default_device());
    let member = puppet.member.clone();
    member.claim_route(&esa, &device, LoginId(1), 1).await.unwrap();
    let pause = puppet.pause();
    world
        .wait_until("the lease has run out", async || {
            world.directory().await.components().await.unwrap().is_empty()
        })
        .await;
    pause.end();
    puppet.events.until_renewed().await;
    let again = member.reclaim_route(&esa, &device, LoginId(1), 1, || true).await.unwrap();
    assert_eq!(again, Reclaimed::Kept { generation: member.generation(), displaced: Vec::new() });
    assert_eq!(member.directory().user(&esa).await.unwrap().routes[0].1.generation, member.generation());
}

async fn entries_of_the_dead_are_swept(world: World) {
    let (_m1, _seen) = world.join(Kind::Manager, "m1").await;
    let (r1, _e1) = world.join(Kind::Relay, "r1").await;
    let users: Vec<_> = (0..300).map(|n| user(&format!("user{n}"))).collect();
    for user in &users {
        r1.claim_route(user, &default_device(), LoginId(1), 1).await.unwrap();
    }
    drop(r1);
    world
        .wait_until("all entries are swept", async || {
            let backend = world.directory().await.backend;
            backend.users(&users).await.unwrap().0.iter().all(Vec::is_empty)
                && backend.registered().await.unwrap().len() == 1
        })
        .await;
}

async fn a_second_component_of_one_id_is_refused(world: World) {
    let (m1, _e1) = world.join(Kind::Manager, "m1").await;
    let error = world.try_join(Kind::Manager, "m1").await.unwrap_err();
    assert!(matches!(error, DirectoryError::IdInUse { .. }), "{error}");
    assert!(m1.check().is_ok());
}

async fn a_restarted_component_gets_its_id_when_the_old_lease_has_run_out(world: World) {
    let (before, events) = world.join(Kind::Manager, "m1").await;
    let (esa, device) = (user("esa"), default_device());
    before.claim_session(&esa, &device, login(1)).await.unwrap();
    drop((before, events));
    let (after, _e1) = world.join(Kind::Manager, "m1").await;
    assert!(matches!(
        after.claim_session(&esa, &device, login(2)).await.unwrap(),
        SessionClaim::Granted { .. }
    ));
}

async fn after_a_loss_owners_write_again_and_newcomers_wait(world: World) {
    let (m1, mut e1) = world.join(Kind::Manager, "m1").await;
    let (m2, mut e2) = world.join(Kind::Manager, "m2").await;
    let (esa, fajar, device) = (user("esa"), user("fajar"), default_device());
    m1.claim_session(&esa, &device, login(1)).await.unwrap();
    let generations = (m1.check(), m2.check());

    world.lose().await;
    assert!(!m2.directory().user(&esa).await.unwrap().complete, "lost, whether or not anybody has noticed");
    e1.until(&Event::Epoch).await;
    e2.until(&Event::Epoch).await;
    assert!(!m2.directory().user(&fajar).await.unwrap().complete);
    let early = m2.claim_session(&fajar, &device, login(1)).await;
    assert!(matches!(early, Err(DirectoryError::Recovering)), "{early:?}");
    let again = m1.reclaim_session(&esa, &device, login(1), m1.generation(), || true).await.unwrap();
    assert!(matches!(again, Reclaimed::Kept { displaced, .. } if displaced.is_empty()));

    e2.until(&Event::Recovered).await;
    assert!(m2.directory().user(&fajar).await.unwrap().complete);
    assert_eq!(m2.claim_session(&esa, &device, login(2)).await.unwrap(), SessionClaim::AlreadyLoggedIn);
    assert!(matches!(
        m2.claim_session(&fajar, &device, login(2)).await.unwrap(),
        SessionClaim::Granted { .. }
    ));
    // Who is late takes its device back, for it was there first.
    let late = m1.reclaim_session(&fajar, &device, login(1), m1.generation(), || true).await.unwrap();
    assert!(matches!(late, Reclaimed::Kept { ref displaced, .. } if displaced.len() == 1), "{late:?}");
    assert_eq!((m1.check(), m2.check()), generations);
    e1.nobody_died();
    e2.nobody_died();
}
