//! A thousand users.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use kurir_e2e::packets::{message, ping, unavailable};
use kurir_e2e::person::{PASSWORD, offered};
use kurir_e2e::{PATIENCE, Plan, Raw, Speaks, System, Topology, within};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use serde_json::{Value, json};
use tokio::sync::{Barrier, Semaphore};
use tokio::task::JoinSet;

kurir_e2e::shows! {
    thousand_users_spread_evenly_and_exchange_a_hundred_messages_each: "M2 M6 M13 R5 R13 R16 R19";
}

const USERS: usize = 1_000;
const MESSAGES: usize = 100;

/// So many log in at once; a thousand at once would only wait in the passwords' queue.
const AT_ONCE: usize = 100;

/// For everything that the whole thousand does together.
const LONG: Duration = Duration::from_mins(2);

struct User {
    number: usize,
    manager: Raw,
    relay: Raw,
    at: SocketAddr,
}

fn name(number: usize) -> String {
    format!("user{number}")
}

/// Each writes to two others, in turn.
fn receivers(number: usize) -> [usize; 2] {
    [(number + 1) % USERS, (number + 337) % USERS]
}

/// A test that opens two thousand sockets needs more of them than a shell grants.
fn raise_open_file_limit() {
    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    // Two sockets a user, and a little.
    let needed = 2 * USERS as u64 + 100;
    assert!(
        maximum.is_none_or(|maximum| maximum >= needed),
        "{needed} open files are needed, and the hard limit is {maximum:?}: raise it (ulimit -Hn)"
    );
    setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum }).expect("the hard limit of open files");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn thousand_users_spread_evenly_and_exchange_a_hundred_messages_each() {
    raise_open_file_limit();
    let system = Plan::new(Topology::Separate).cheap_passwords().start().await;

    let users = everybody_enters(&system, true).await;
    assert_even(&system, &users, "registrations").await;
    // Managers show their gauges once a second: one that shows nobody must have shown everybody before.
    are_counted(&system, &users).await;
    everybody_leaves(users).await;
    // The next wave is to find what the first one found.
    are_counted(&system, &[]).await;
    let users = everybody_enters(&system, false).await;
    assert_even(&system, &users, "logins").await;

    let began = Instant::now();
    let mut tasks = JoinSet::new();
    let all_sent_and_read = Arc::new(Barrier::new(USERS));
    for user in users {
        tasks.spawn(exchange(user, Arc::clone(&all_sent_and_read)));
    }
    let users: Vec<User> = within(LONG, "every message", tasks.join_all()).await;
    let took = began.elapsed();
    println!("{USERS} users × {MESSAGES} messages across 3 relays in {:.1} s", took.as_secs_f64());
    everybody_leaves(users).await;
    system.stops().await;
}

/// No relay more than 5 % above the mean.
async fn assert_even(system: &System, users: &[User], what: &str) {
    let mut counts: BTreeMap<SocketAddr, usize> = BTreeMap::new();
    for user in users {
        *counts.entry(user.at).or_default() += 1;
    }
    println!("{what}: {counts:?}");
    let most = counts.values().max().copied().unwrap_or(0);
    if counts.len() != 3 || most * 3 * 100 > USERS * 105 {
        for manager in ["manager-1", "manager-2"] {
            println!("---- metrics of {manager} ----\n{}", system.metrics(manager).await);
        }
        panic!("{what}: {counts:?}");
    }
}

/// Waits until every relay has exactly these users, and every manager knows it.
async fn are_counted(system: &System, users: &[User]) {
    for relay in 1..=system.relays() {
        let at = system.relay(relay);
        let count = users.iter().filter(|user| user.at == at).count();
        let count = i64::try_from(count).expect("not so many");
        system.shows(&format!("relay-{relay}"), "kurir_relay_users", count).await;
        let load = format!(r#"kurir_manager_relay_load{{relay="relay-{relay}"}}"#);
        for manager in 1..=system.managers() {
            system.shows(&format!("manager-{manager}"), &load, count).await;
        }
    }
}

async fn everybody_enters(system: &System, register: bool) -> Vec<User> {
    let places = Arc::new(Semaphore::new(AT_ONCE));
    let mut tasks = JoinSet::new();
    for number in 0..USERS {
        let manager = system.manager(if number % 2 == 0 { 1 } else { 2 });
        let places = Arc::clone(&places);
        tasks.spawn(async move {
            let _place = places.acquire_owned().await.expect("never closed");
            enter(number, manager, register).await
        });
    }
    within(LONG, "everybody enters", tasks.join_all()).await
}

async fn enter(number: usize, manager: SocketAddr, register: bool) -> User {
    let name = name(number);
    let mut manager = Raw::connect(&name, manager, Speaks::Lines).await;
    let auth = json!({"type": "auth", "username": name, "password": PASSWORD, "register": register});
    let offer = loop {
        manager.sends(auth.clone()).await;
        let reply = within(LONG, "an answer to auth", manager.next_packet()).await.expect("an answer");
        // Busy: try again.
        if reply["code"] != 503 {
            assert_eq!(reply["error"], false, "{name} got {reply}");
            break reply["component"][0].clone();
        }
    };
    let at = offered(&offer);
    let mut relay = Raw::connect(&name, at, Speaks::Lines).await;
    relay.sends(json!({"username": name, "message": "hello!", "token": offer["token"]})).await;
    relay.hears_nothing_else().await;
    User { number, manager, relay, at }
}

async fn everybody_leaves(users: Vec<User>) {
    let mut tasks = JoinSet::new();
    for mut user in users {
        tasks.spawn(async move {
            user.manager.sends(unavailable(&name(user.number))).await;
            user.manager.is_closed_in_the_end(PATIENCE).await;
            user.relay.is_closed_in_the_end(PATIENCE).await;
        });
    }
    within(LONG, "everybody leaves", tasks.join_all()).await;
}

/// Writes 100 messages and reads the 100 written to it: per sender none lost, none twice, in order.
async fn exchange(mut user: User, all_sent_and_read: Arc<Barrier>) -> User {
    let from = name(user.number);
    let mut lines = Vec::new();
    for number in 0..MESSAGES / 2 {
        for receiver in receivers(user.number) {
            lines.extend_from_slice(
                message(&from, &name(receiver), &number.to_string()).to_string().as_bytes(),
            );
            lines.push(b'\n');
        }
    }
    user.relay.sends_bytes(&lines).await;

    let mut next: BTreeMap<String, usize> = BTreeMap::new();
    for _ in 0..MESSAGES {
        let packet = within(LONG, "a message", user.relay.next_packet()).await.expect("an open connection");
        let sender = packet["from"].as_str().unwrap_or_default().to_string();
        let expected = next.entry(sender).or_default();
        assert_eq!(packet["body"], Value::String(expected.to_string()), "{from} got {packet}");
        *expected += 1;
    }
    let senders: Vec<usize> = next.into_values().collect();
    assert_eq!(senders, [MESSAGES / 2; 2], "{from} heard from two");

    // When everybody has everything, nothing more may come.
    within(LONG, "everybody else", all_sent_and_read.wait()).await;
    user.relay.sends(ping("last")).await;
    let last =
        within(PATIENCE, "a ping's answer", user.relay.next_packet()).await.expect("an open connection");
    assert_eq!(last["id"], "last", "{from} got {last} once more");
    user
}
