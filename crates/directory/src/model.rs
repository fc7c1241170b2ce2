//! The rules under every interleaving: several processes run the members' own steps over tables in memory, on a clock
//! and a network that the test moves. It pauses, cuts off, kills and restarts processes, lets requests arrive late or
//! never, and empties or rewinds the store, between any two requests of a claim.
//!
//! Invariant: a device never has two owners that both act, an owner being a live process that has the connection, was
//! granted it under generation g, and whose `check()` says g. Exactly these may act beside another:
//!
//! 1. who was cut off (had noticed that the store is away before its lease could run out) until it has an answer again;
//! 2. who has not claimed again since the store lost its tables; another may have been granted the device by a new claim
//!    only after a lease's time of recovering;
//! 3. whose entry was displaced by a live process's claim, until that one's word to close has come; where that claim came
//!    to nothing after all (its process was killed, fenced, or got no answer), until the owner next compares what it has
//!    with what is on record.
//!
//! Besides, a process that was never paused, cut off or slow never is fenced, whatever befalls the others and the store.
//! Nothing comes on record of a login that was ended before.
//! In the end, when everything is healed, every process acts, every connection is on record and the only one, and every
//! entry on record is noted for sweeping.

mod process;
mod wire;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use kurir_protocol::name::{LoginId, UserKey};
use proptest::prelude::*;

use self::process::{At, Connection, Device, Displaced, Process, Table};
use self::wire::{Wire, now};
use crate::backend::memory::{Memory, Tables};
use crate::backend::{Backend, Owned};
use crate::clock::Clock;
use crate::membership::Membership;
use crate::record::{self, Entry, Record};
use crate::{Address, Generation, Kind, NewComponent, Route, Session, SessionEnd, Timing};

const PROCESSES: usize = 3;
const DEVICES: usize = 3;
const STEP_MS: u64 = 100;

#[derive(Debug, Clone, Copy)]
enum Action {
    /// With or without claims taking steps meanwhile.
    Advance {
        ms: u64,
        claims: bool,
    },
    Pause {
        process: usize,
    },
    Resume {
        process: usize,
    },
    CutOff {
        process: usize,
    },
    Reconnect {
        process: usize,
        lose_requests: bool,
    },
    Slow {
        process: usize,
    },
    Fast {
        process: usize,
    },
    Deliver {
        process: usize,
    },
    /// The next request to arrive is carried out twice.
    Repeat {
        process: usize,
    },
    Restart {
        process: usize,
    },
    Login {
        process: usize,
        device: usize,
    },
    Hello {
        process: usize,
        device: usize,
        age: u64,
    },
    Step {
        process: usize,
        claim: usize,
    },
    Close {
        process: usize,
        device: usize,
        table: Table,
        end: SessionEnd,
    },
    /// The device is removed, and with it all its logins until now.
    Remove {
        process: usize,
        device: usize,
    },
    Tell,
    Lose,
    Snapshot,
    Rewind,
}

fn action() -> impl Strategy<Value = Action> {
    let process = || 0..PROCESSES;
    // Mostly one: what they do to each other's connections is what matters.
    let device = || prop_oneof![4 => Just(0), 1 => 0..DEVICES];
    let table = prop_oneof![Just(Table::Sessions), Just(Table::Routes)];
    let end = prop_oneof![Just(SessionEnd::Lost), Just(SessionEnd::Ended)];
    prop_oneof![
        8 => (1..80u64, any::<bool>()).prop_map(|(steps, claims)| Action::Advance { ms: steps * STEP_MS, claims }),
        4 => (1..5u64, any::<bool>()).prop_map(|(steps, claims)| Action::Advance { ms: steps * STEP_MS, claims }),
        2 => process().prop_map(|process| Action::Pause { process }),
        2 => process().prop_map(|process| Action::Resume { process }),
        1 => process().prop_map(|process| Action::CutOff { process }),
        2 => (process(), any::<bool>())
            .prop_map(|(process, lose_requests)| Action::Reconnect { process, lose_requests }),
        1 => process().prop_map(|process| Action::Slow { process }),
        1 => process().prop_map(|process| Action::Fast { process }),
        6 => process().prop_map(|process| Action::Deliver { process }),
        2 => process().prop_map(|process| Action::Repeat { process }),
        1 => process().prop_map(|process| Action::Restart { process }),
        6 => (process(), device()).prop_map(|(process, device)| Action::Login { process, device }),
        5 => (process(), device(), 0..3u64).prop_map(|(process, device, age)| Action::Hello { process, device, age }),
        24 => (process(), 0..4usize).prop_map(|(process, claim)| Action::Step { process, claim }),
        2 => (process(), device(), table, end)
            .prop_map(|(process, device, table, end)| Action::Close { process, device, table, end }),
        1 => (process(), device()).prop_map(|(process, device)| Action::Remove { process, device }),
        3 => Just(Action::Tell),
        1 => Just(Action::Lose),
        1 => Just(Action::Snapshot),
        1 => Just(Action::Rewind),
    ]
}

struct Model {
    timing: Timing,
    clock_ms: Arc<AtomicU64>,
    memory: Arc<Memory>,
    processes: Vec<Process>,
    devices: Vec<Device>,
    logins: Vec<u64>,
    connections: u64,
    losses: u64,
    /// When that was last.
    lost_ms: Option<u64>,
    snapshot: Option<Tables>,
    tellings: Vec<Displaced>,
    /// By device the newest ended login and what was on record when last looked at.
    on_record: Vec<OnRecord>,
}

/// What the tables say of a device.
#[derive(Debug, Clone, Copy, Default)]
struct OnRecord {
    ended: Option<LoginId>,
    session: Option<Claimed>,
    route: Option<Claimed>,
}

/// Whose an entry is.
#[derive(Debug, Clone, Copy)]
struct Claimed {
    login: LoginId,
    unique: u64,
}

impl Claimed {
    fn of(entry: &impl Entry) -> Self {
        Self { login: entry.login(), unique: entry.unique() }
    }
}

impl Model {
    fn new() -> Self {
        let timing = Timing::default();
        // Any time but zero, at which "never" and "just now" look alike.
        let clock_ms = Arc::new(AtomicU64::new(1_000_000));
        let memory = Arc::new(Memory::new(Clock::Set(Arc::clone(&clock_ms)), timing));
        let mut model = Self {
            timing,
            clock_ms,
            memory,
            processes: Vec::new(),
            devices: [("esa", "default"), ("esa", "phone"), ("fajar", "default")]
                .map(|(name, resource)| Device { user: UserKey::of(name).unwrap(), resource })
                .to_vec(),
            logins: vec![0; DEVICES],
            connections: 0,
            losses: 0,
            lost_ms: None,
            snapshot: None,
            tellings: Vec::new(),
            on_record: vec![OnRecord::default(); DEVICES],
        };
        for number in 0..PROCESSES {
            let process = model.started(number);
            model.processes.push(process);
        }
        model.advance(8_000, false);
        for process in &mut model.processes {
            process.undisturbed = process.membership.check().ok();
        }
        model
    }

    fn started(&self, number: usize) -> Process {
        let wire = Wire::new(Arc::clone(&self.memory), Arc::clone(&self.clock_ms), self.timing.timeout);
        let component = NewComponent {
            kind: Kind::Manager,
            id: format!("p{number}").parse().unwrap(),
            client: Address { host: "localhost".to_owned(), port: 1 },
            grpc: String::new(),
        };
        let clock = Clock::Set(Arc::clone(&self.clock_ms));
        let membership = Membership::new(Arc::clone(&wire) as _, component, self.timing, clock);
        Process::new(Arc::new(membership), wire)
    }

    fn now_ms(&self) -> u64 {
        self.clock_ms.load(Ordering::SeqCst)
    }

    fn act(&mut self, action: Action) {
        match action {
            Action::Advance { ms, claims } => self.advance(ms, claims),
            Action::Pause { process } => self.disturb(process).paused = true,
            Action::Resume { process } => self.processes[process].paused = false,
            Action::CutOff { process } => self.disturb(process).cut = true,
            Action::Reconnect { process, lose_requests } => {
                self.processes[process].cut = false;
                if lose_requests {
                    self.processes[process].wire.reset();
                }
            }
            Action::Slow { process } => self.disturb(process).slow = true,
            Action::Fast { process } => self.processes[process].slow = false,
            Action::Deliver { process } => {
                let process = &self.processes[process];
                if !process.cut {
                    process.wire.deliver();
                }
            }
            Action::Repeat { process } => self.processes[process].wire.repeat_next(),
            Action::Restart { process } => {
                // What the old process had sent may still arrive.
                while !self.processes[process].cut && self.processes[process].wire.deliver() {}
                let started = self.started(process);
                let killed = std::mem::replace(&mut self.processes[process], started);
                self.note_untold(killed.killed());
            }
            Action::Remove { process, device } => {
                let up_to = LoginId(self.logins[device]);
                self.processes[process].end_logins(&self.devices[device], up_to);
            }
            Action::Login { process, device } => {
                self.logins[device] += 1;
                let login = LoginId(self.logins[device]);
                self.claim(process, Table::Sessions, device, login, login.0);
            }
            Action::Hello { process, device, age } => {
                self.connections += 1;
                let login = LoginId(self.logins[device].saturating_sub(age).max(1));
                self.claim(process, Table::Routes, device, login, self.connections);
            }
            Action::Step { process, claim } => {
                let (losses, running) = (self.losses, !self.processes[process].paused);
                let claims = self.processes[process].claims();
                if running && claims > 0 {
                    let told = self.processes[process].step(claim % claims, losses);
                    self.tell(told);
                }
            }
            Action::Close { process, device, table, end } => {
                if !self.processes[process].paused {
                    let device = self.devices[device].clone();
                    self.processes[process].close(table, &device, None, end);
                }
            }
            Action::Tell => self.deliver_tellings(),
            Action::Lose => self.lose(None),
            Action::Snapshot => self.snapshot = Some(self.memory.snapshot()),
            Action::Rewind => {
                if let Some(snapshot) = self.snapshot.take() {
                    self.lose(Some(snapshot));
                }
            }
        }
    }

    fn claim(&mut self, process: usize, table: Table, device: usize, login: LoginId, number: u64) {
        let connection = Connection::new(table, self.devices[device].clone(), login, number);
        let at = At { ms: self.now_ms(), losses: self.losses };
        if !self.processes[process].paused {
            self.processes[process].claim(connection, at);
        }
    }

    fn lose(&mut self, snapshot: Option<Tables>) {
        self.losses += 1;
        self.lost_ms = Some(self.now_ms());
        match snapshot {
            None => self.memory.lose(),
            Some(snapshot) => self.memory.restore(snapshot),
        }
        self.note_records();
    }

    fn tell(&mut self, displaced: impl IntoIterator<Item = Displaced>) {
        for displaced in displaced {
            for process in self.processes.iter_mut().filter(|process| process.membership.me == displaced.0) {
                process.mark_closing(&displaced);
            }
            self.tellings.push(displaced);
        }
    }

    fn disturb(&mut self, process: usize) -> &mut Process {
        self.processes[process].undisturbed = None;
        &mut self.processes[process]
    }

    fn step_all(&mut self, process: usize) {
        let claims = if self.processes[process].paused { 0 } else { self.processes[process].claims() };
        for claim in (0..claims).rev() {
            let told = self.processes[process].step(claim, self.losses);
            self.tell(told);
        }
    }

    /// Claims for these devices have come to nothing after they may have replaced others.
    fn note_untold(&mut self, devices: Vec<(Table, Device)>) {
        for (table, device) in devices {
            for process in &mut self.processes {
                process.mark_untold(table, &device);
            }
        }
    }

    fn deliver_tellings(&mut self) {
        for displaced in std::mem::take(&mut self.tellings) {
            let owner = self.processes.iter_mut().find(|process| process.membership.me == displaced.0);
            match owner {
                Some(process) if process.paused => self.tellings.push(displaced),
                Some(process) => {
                    process.close(displaced.1, &displaced.2, Some(displaced.3), SessionEnd::Lost);
                }
                None => {}
            }
        }
    }

    fn advance(&mut self, ms: u64, claims: bool) {
        for _ in 0..ms / STEP_MS {
            self.clock_ms.fetch_add(STEP_MS, Ordering::SeqCst);
            // Several exchanges fit into one step.
            for _ in 0..6 {
                for number in 0..self.processes.len() {
                    let at = At { ms: self.now_ms(), losses: self.losses };
                    let told = self.processes[number].run(at);
                    self.tell(told);
                    if claims {
                        self.step_all(number);
                    }
                    let process = &self.processes[number];
                    while !process.cut && !process.slow && process.wire.deliver() {}
                }
                self.assert_no_two_owners();
            }
        }
    }

    fn assert_no_two_owners(&mut self) {
        let failed =
            self.processes.iter_mut().flat_map(|process| std::mem::take(&mut process.failed)).collect();
        self.note_untold(failed);
        self.assert_owners();
        self.assert_not_ended();
    }

    fn assert_owners(&self) {
        for process in self.processes.iter().filter(|process| process.undisturbed.is_some()) {
            assert_eq!(process.membership.check().ok(), process.undisturbed, "{}", process.membership.me);
        }
        let mut owners: BTreeMap<(Table, &Device), Vec<(&Process, &Connection)>> = BTreeMap::new();
        for process in &self.processes {
            for connection in process.acting().filter(|connection| !self.may_act_beside(process, connection))
            {
                owners.entry((connection.table, &connection.device)).or_default().push((process, connection));
            }
        }
        for ((table, device), owners) in owners {
            let whole: Vec<_> = owners.iter().filter(|(_, it)| it.losses == self.losses).collect();
            assert!(
                whole.len() <= 1,
                "{table:?} of {device:?}: {:?}",
                whole.iter().map(|it| it.1).collect::<Vec<_>>()
            );
            if let (Some((_, new)), Some(lost_ms)) = (whole.first(), self.lost_ms)
                && owners.len() > 1
                && new.since_ms > lost_ms
            {
                let recovered_ms = lost_ms + u64::try_from(self.timing.lease.as_millis()).unwrap();
                assert!(
                    self.now_ms() >= recovered_ms,
                    "{table:?} of {device:?} granted while recovering: {new:?}"
                );
            }
        }
    }

    /// Exceptions 1 and 3; exception 2 is looked at by pairs.
    fn may_act_beside(&self, process: &Process, connection: &Connection) -> bool {
        let now = Clock::Set(Arc::clone(&self.clock_ms)).now();
        let replaced = connection.untold || self.is_being_replaced(connection);
        connection.closing
            || process.membership.lease().is_cut_off(now)
            || (replaced && !self.is_on_record(connection))
    }

    fn is_being_replaced(&self, connection: &Connection) -> bool {
        let Connection { table, device, .. } = connection;
        self.processes.iter().any(|process| process.may_be_replacing(*table, device))
    }

    fn is_on_record(&self, connection: &Connection) -> bool {
        self.on_record(connection.table, &connection.device)
            == Some((connection.generation, connection.number))
    }

    /// The entry that counts: of this life of the tables, by an owner that holds its lease.
    fn on_record(&self, table: Table, device: &Device) -> Option<(Generation, u64)> {
        match table {
            Table::Sessions => self.entry::<Session>(device).map(|it| (it.generation, it.unique())),
            Table::Routes => self.entry::<Route>(device).map(|it| (it.generation, it.unique())),
        }
    }

    fn entry<E: Entry>(&self, device: &Device) -> Option<E> {
        let tables = self.memory.tables();
        let epoch = tables.standing(None).epoch;
        let entry =
            Record::new(tables.fields(&device.user)).entry::<E>(&device.resource(), epoch.as_ref())?;
        let (id, generation) = entry.owner();
        (tables.holder(id) == Some(generation)).then_some(entry)
    }

    /// Nobody sweeps an entry that is not.
    fn assert_noted<E: Entry>(&self, device: &Device) {
        let Some(entry) = self.entry::<E>(device) else { return };
        let field = record::field::<E>(&device.resource());
        let noted = Owned { user: device.user.clone(), field, unique: entry.unique() };
        let (id, generation) = entry.owner();
        let owned = now(self.memory.owned(id, generation, usize::MAX)).unwrap();
        assert!(owned.contains(&noted), "{noted:?} is not among {owned:?}");
    }

    /// What comes on record is of a login that was not ended before.
    fn assert_not_ended(&mut self) {
        for (device, before) in self.devices.iter().zip(&self.on_record) {
            let now = self.now_on_record(device);
            let Some(ended) = before.ended.min(now.ended) else { continue };
            for (old, new) in [(before.session, now.session), (before.route, now.route)] {
                let new = new.filter(|new| old.is_none_or(|old| old.unique != new.unique));
                assert!(
                    new.is_none_or(|new| new.login > ended),
                    "{new:?} of {device:?}, of which {ended:?} was ended"
                );
            }
        }
        self.note_records();
    }

    fn note_records(&mut self) {
        self.on_record = self.devices.iter().map(|device| self.now_on_record(device)).collect();
    }

    fn now_on_record(&self, device: &Device) -> OnRecord {
        let record = Record::new(self.memory.tables().fields(&device.user));
        let resource = device.resource();
        OnRecord {
            ended: record.ended(&resource),
            session: record.entry_of_any_epoch::<Session>(&resource).as_ref().map(Claimed::of),
            route: record.entry_of_any_epoch::<Route>(&resource).as_ref().map(Claimed::of),
        }
    }

    fn heal(&mut self) {
        for process in &mut self.processes {
            (process.paused, process.cut, process.slow) = (false, false, false);
        }
        // Long enough for leases to be lost, trust to come back, and everything to be claimed again.
        for _ in 0..60 {
            self.advance(1_000, true);
            self.deliver_tellings();
        }
    }

    fn assert_all_on_record(&self) {
        let mut seen = BTreeMap::new();
        for process in &self.processes {
            let generation = process.membership.check().expect("every process acts again");
            for connection in &process.connections {
                assert_eq!(connection.generation, generation, "{connection:?}");
                assert!(self.is_on_record(connection), "{connection:?}");
                let before = seen.insert((connection.table, connection.device.clone()), connection);
                assert!(before.is_none(), "{before:?} beside {connection:?}");
            }
        }
        for device in &self.devices {
            for table in [Table::Sessions, Table::Routes] {
                let on_record = self.on_record(table, device);
                assert_eq!(
                    on_record.is_some(),
                    seen.contains_key(&(table, device.clone())),
                    "{device:?}: {on_record:?}"
                );
            }
            self.assert_noted::<Session>(device);
            self.assert_noted::<Route>(device);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { max_shrink_iters: 20_000, ..ProptestConfig::default() })]

    #[test]
    fn no_interleaving_gives_a_device_two_owners_that_both_act(actions in prop::collection::vec(action(), 1..160)) {
        let mut model = Model::new();
        for action in actions {
            model.act(action);
            model.assert_no_two_owners();
        }
        model.heal();
        model.assert_all_on_record();
    }
}
