//! What only a real Redis does: be away, come back empty, come back with what it had a while ago.

use std::time::{Duration, Instant};

use kurir_protocol::name::LoginId;
use rustix::process::Signal;

use super::world::{
    PATIENCE, RedisServer, TIMING, World, default_device, join_through, login, poll_times, user,
};
use crate::{Directory, DirectoryError, Event, Kind, Reclaimed, SessionClaim, SessionEnd, Timing};

fn server(world: &mut World) -> &mut RedisServer {
    match world {
        World::OnRedis(server) => server,
        World::InProcess(_) => unreachable!("these tests are about Redis"),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_outage_longer_than_the_lease_is_nobodys_death() {
    let mut world = World::on_redis().await;
    let (m1, mut e1) = world.join(Kind::Manager, "m1").await;
    let (m2, mut e2) = world.join(Kind::Manager, "m2").await;
    e1.until(&Event::Joined(m2.component())).await;
    let generations = (m1.check(), m2.check());
    let (esa, fajar, device) = (user("esa"), user("fajar"), default_device());
    m1.claim_session(&esa, &device, login(1)).await.unwrap();
    m1.claim_session(&fajar, &device, login(1)).await.unwrap();

    server(&mut world).signal(Signal::STOP);
    e1.until(&Event::Away).await;
    e2.until(&Event::Away).await;
    assert!(matches!(m1.claim_session(&esa, &device, login(2)).await, Err(DirectoryError::Away { .. })));
    let later = m1.release_session(&fajar, &device, LoginId(1), SessionEnd::Lost).await;
    assert!(matches!(later, Err(DirectoryError::Away { .. })));
    let since = Instant::now();
    world.wait_until("two leases have passed", async || since.elapsed() > TIMING.lease * 2).await;
    assert_eq!((m1.check(), m2.check()), generations, "who is cut off goes on with what it has");

    server(&mut world).signal(Signal::CONT);
    e1.until(&Event::Back).await;
    e2.until(&Event::Back).await;
    let components = m1.directory().components().await.unwrap();
    assert!(components.contains(&m2.component()), "nobody may be judged yet: {components:?}");
    assert_eq!(m2.claim_session(&esa, &device, login(3)).await.unwrap(), SessionClaim::AlreadyLoggedIn);
    world
        .wait_until("the session is gone that was released meanwhile", async || {
            matches!(m2.claim_session(&fajar, &device, login(2)).await.unwrap(), SessionClaim::Granted { .. })
        })
        .await;
    let since = Instant::now();
    world.wait_until("everybody is trusted again", async || since.elapsed() > TIMING.lease * 2).await;
    assert_eq!((m1.check(), m2.check()), generations);
    e1.nobody_died();
    e2.nobody_died();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restart_shorter_than_the_lease_is_a_loss_and_nobodys_death() {
    // However long the server takes to start on a busy machine.
    let timing = Timing { lease: Duration::from_secs(10), ..TIMING };
    let mut world = World::on_redis().await.with_timing(timing);
    let (m1, mut e1) = world.join(Kind::Manager, "m1").await;
    let (m2, mut e2) = world.join(Kind::Manager, "m2").await;
    let generations = (m1.check(), m2.check());
    let (esa, device) = (user("esa"), default_device());
    m1.claim_session(&esa, &device, login(1)).await.unwrap();
    server(&mut world).kill();
    server(&mut world).start_again();
    e1.until(&Event::Epoch).await;
    e2.until(&Event::Epoch).await;
    let again = m1.reclaim_session(&esa, &device, login(1), m1.generation(), || true).await.unwrap();
    assert!(matches!(again, Reclaimed::Kept { displaced, .. } if displaced.is_empty()));
    e2.until(&Event::Recovered).await;
    assert_eq!(m2.claim_session(&esa, &device, login(2)).await.unwrap(), SessionClaim::AlreadyLoggedIn);
    assert_eq!((m1.check(), m2.check()), generations);
    e1.nobody_died();
    e2.nobody_died();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_was_away_past_its_lease_when_the_tables_were_lost_begins_a_new_life() {
    let mut world = World::on_redis().await;
    let (m1, mut e1) = world.join(Kind::Manager, "m1").await;
    let (m2, mut e2) = world.join(Kind::Manager, "m2").await;
    let (esa, device) = (user("esa"), default_device());
    m1.claim_session(&esa, &device, login(1)).await.unwrap();
    server(&mut world).kill();
    e1.until(&Event::Away).await;
    e2.until(&Event::Away).await;
    let since = Instant::now();
    world.wait_until("the leases have run out", async || since.elapsed() > TIMING.lease).await;
    server(&mut world).start_again();
    let Event::Renewed { old, .. } = e1.until_renewed().await else { unreachable!() };
    let again = m1.reclaim_session(&esa, &device, login(1), old, || true).await.unwrap();
    assert_eq!(again, Reclaimed::Kept { generation: m1.generation(), displaced: Vec::new() });
    e2.until(&Event::Recovered).await;
    assert_eq!(m2.claim_session(&esa, &device, login(2)).await.unwrap(), SessionClaim::AlreadyLoggedIn);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_released_during_an_outage_is_gone_after_it() {
    let mut world = World::on_redis().await;
    let (m1, mut e1) = world.join(Kind::Manager, "m1").await;
    let (esa, device) = (user("esa"), default_device());
    m1.claim_session(&esa, &device, login(1)).await.unwrap();
    server(&mut world).command(redis::cmd("CONFIG").arg("SET").arg("save").arg("3600 1")).await;
    server(&mut world).command(&redis::cmd("SAVE")).await;
    server(&mut world).kill();
    e1.until(&Event::Away).await;
    m1.release_session(&esa, &device, LoginId(1), SessionEnd::Lost).await.unwrap_err();
    server(&mut world).start_again();
    e1.until(&Event::Back).await;
    world.wait_until("the session is gone", async || world.fields(&esa).await.is_empty()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_comes_back_with_what_it_had_earlier_has_lost_its_tables() {
    let mut world = World::on_redis().await;
    let (m1, mut e1) = world.join(Kind::Manager, "m1").await;
    let (m2, mut e2) = world.join(Kind::Manager, "m2").await;
    let (esa, device) = (user("esa"), default_device());
    server(&mut world).command(&redis::cmd("SAVE")).await;
    m1.claim_session(&esa, &device, login(1)).await.unwrap();
    server(&mut world).kill();
    e1.until(&Event::Away).await;
    e2.until(&Event::Away).await;
    server(&mut world).start_again();
    e1.until(&Event::Epoch).await;
    let again = m1.reclaim_session(&esa, &device, login(1), m1.generation(), || true).await.unwrap();
    assert!(matches!(again, Reclaimed::Kept { .. }));
    e2.until(&Event::Epoch).await;
    e2.until(&Event::Recovered).await;
    assert_eq!(m2.claim_session(&esa, &device, login(2)).await.unwrap(), SessionClaim::AlreadyLoggedIn);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_claimed_again_after_a_failed_attempt_stays_noted() {
    let world = World::on_redis().await;
    let (m1, _e1) = world.join(Kind::Manager, "m1").await;
    let (esa, device) = (user("esa"), default_device());
    for polls in 0..6 {
        poll_times(polls, m1.reclaim_session(&esa, &device, login(1), m1.generation(), || true)).await;
        let again = m1.reclaim_session(&esa, &device, login(1), m1.generation(), || true).await.unwrap();
        assert!(matches!(again, Reclaimed::Kept { .. }));
    }
    let since = Instant::now();
    world.wait_until("attempts are taken back", async || since.elapsed() > TIMING.poll * 3).await;
    assert_eq!(world.fields(&esa).await.len(), 1);
    let backend = &m1.directory().backend;
    assert_eq!(backend.owned(m1.id(), m1.generation(), 9).await.unwrap().len(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_claim_that_nobody_waits_for_leaves_nothing() {
    let world = World::on_redis().await;
    let (m1, _e1) = world.join(Kind::Manager, "m1").await;
    let (esa, device) = (user("esa"), default_device());
    for polls in 0..6 {
        if poll_times(polls, m1.claim_session(&esa, &device, login(1))).await.is_some() {
            m1.release_session(&esa, &device, LoginId(1), SessionEnd::Lost).await.unwrap();
        }
    }
    world
        .wait_until("the device is free again", async || {
            let claim = m1.claim_session(&esa, &device, login(2)).await.unwrap();
            matches!(claim, SessionClaim::Granted { .. })
        })
        .await;
}

#[tokio::test]
async fn the_first_component_ever_waits_for_owners_that_there_may_be() {
    let world = World::OnRedis(RedisServer::start(&["--save", ""]));
    let (m1, mut events) = world.join(Kind::Manager, "m1").await;
    let early = m1.claim_session(&user("esa"), &default_device(), login(1)).await;
    assert!(matches!(early, Err(DirectoryError::Recovering)), "{early:?}");
    assert_eq!(events.next().await, Event::Recovered);
    let claim = m1.claim_session(&user("esa"), &default_device(), login(1)).await.unwrap();
    assert!(matches!(claim, SessionClaim::Granted { .. }));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_outage_while_a_component_joins_is_waited_for() {
    let mut world = World::on_redis().await;
    let (before, events) = world.join(Kind::Manager, "m1").await;
    let old = before.generation();
    // As where it is killed: nothing is given back.
    drop((before, events));
    let directory = world.directory().await.patient(PATIENCE);
    server(&mut world).signal(Signal::STOP);
    let joining = tokio::spawn(join_through(directory, Kind::Manager, "m1"));
    let since = Instant::now();
    world.wait_until("two requests were in vain", async || since.elapsed() > TIMING.timeout * 3).await;
    assert!(!joining.is_finished(), "given up: {:?}", joining.await.unwrap().map(drop));

    server(&mut world).signal(Signal::CONT);
    let (m1, mut events) = joining.await.unwrap().unwrap();
    events.until(&Event::Back).await;
    assert_ne!(m1.check().unwrap(), old);
    let claim = m1.claim_session(&user("esa"), &default_device(), login(1)).await.unwrap();
    assert!(
        matches!(claim, SessionClaim::Granted { .. }),
        "the tables are known, not only the lease: {claim:?}"
    );
    let error = world.try_join(Kind::Manager, "m1").await.unwrap_err();
    assert!(matches!(error, DirectoryError::IdInUse { .. }), "patience is for outages only: {error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_outage_that_outlasts_the_patience_of_who_joins_is_an_error() {
    let mut world = World::on_redis().await;
    let patience = TIMING.timeout * 2;
    let directory = world.directory().await.patient(patience);
    server(&mut world).signal(Signal::STOP);
    let since = Instant::now();
    let error = join_through(directory, Kind::Manager, "m1").await.unwrap_err();
    assert!(matches!(error, DirectoryError::Away { .. }), "{error}");
    assert!(since.elapsed() >= patience, "after {:?}", since.elapsed());
}

#[tokio::test]
async fn an_unreachable_redis_at_start_is_named_without_its_password() {
    let mut server = RedisServer::start(&["--save", ""]);
    server.kill();
    let url = server.url().replace("redis://", "redis://:s3cret@");
    let error = Directory::connect(&url, "test:", TIMING).await.unwrap_err();
    assert!(matches!(error, DirectoryError::Away { .. }));
    assert_eq!(error.to_string(), format!("directory at {} is away", url.replace(":s3cret", "…")));
    let error = Directory::connect("http://example.com", "test:", TIMING).await.unwrap_err();
    assert!(matches!(error, DirectoryError::BadUrl { .. }), "{error}");
}
