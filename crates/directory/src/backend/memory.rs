//! The tables in this process: what Redis and its scripts do, on maps.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};

use kurir_protocol::name::{LoginId, UserKey};

use super::{
    Acquired, Answer, Backend, Bid, Ended, Epoch, Fields, MARKS, MOST_ENDED, Owned, Renewal, Standing, Swap,
};
use crate::clock::{Clock, Moment};
use crate::{Component, ComponentId, DirectoryError, Generation, Timing};

#[derive(Debug)]
pub(crate) struct Memory {
    clock: Clock,
    timing: Timing,
    tables: Mutex<Tables>,
}

#[derive(Debug, Default, Clone)]
pub(crate) struct Tables {
    users: HashMap<UserKey, User>,
    /// Users of whom only ended logins are left, in the order in which those are forgotten.
    leaving: VecDeque<(Moment, UserKey)>,
    leases: HashMap<ComponentId, (Bid, Moment)>,

    marks: HashMap<Generation, Moment>,
    judged: HashMap<ComponentId, (Epoch, Moment)>,
    registered: Vec<Component>,
    owned: HashMap<Generation, HashSet<Owned>>,
    epoch: Option<Epoch>,
    /// Which life of the server: always the first, but in tests.
    server: String,
    recovering_until: Option<Moment>,
}

#[derive(Debug, Default, Clone)]
struct User {
    fields: HashMap<String, String>,
    expires: Option<Moment>,
}

impl User {
    fn forget_oldest_ended(&mut self) {
        let ended = || self.fields.iter().filter(|(field, _)| field.starts_with("e:"));
        let oldest =
            ended().min_by_key(|(_, login)| login.parse::<u64>().ok()).map(|(field, _)| field.clone());
        if let Some(oldest) = oldest.filter(|_| ended().count() > MOST_ENDED) {
            self.fields.remove(&oldest);
        }
    }
}

impl Memory {
    /// New tables. Nobody can have lost the former ones, so they are not recovering.
    pub(crate) fn new(clock: Clock, timing: Timing) -> Self {
        let tables = Tables { epoch: Some(Epoch::new("")), ..Tables::default() };
        Self { clock, timing, tables: Mutex::new(tables) }
    }

    /// The tables as they are now, what has expired removed.
    pub(crate) fn tables(&self) -> MutexGuard<'_, Tables> {
        let mut tables = self.tables.lock().unwrap_or_else(PoisonError::into_inner);
        tables.expire(self.clock.now());
        tables
    }
}

impl Tables {
    fn expire(&mut self, now: Moment) {
        self.leases.retain(|_, (_, until)| *until > now);
        self.judged.retain(|_, (_, until)| *until > now);
        self.recovering_until = self.recovering_until.filter(|until| *until > now);
        while self.leaving.front().is_some_and(|(when, _)| *when <= now) {
            let Some((_, user)) = self.leaving.pop_front() else { break };
            if self.users.get(&user).is_some_and(|entries| entries.expires.is_some_and(|when| when <= now)) {
                self.users.remove(&user);
            }
        }
    }

    pub(crate) fn fields(&self, user: &UserKey) -> Fields {
        let fields = self.users.get(user).map(|user| &user.fields);
        fields.into_iter().flatten().map(|(field, value)| (field.clone(), value.clone())).collect()
    }

    pub(crate) fn holder(&self, id: &ComponentId) -> Option<Generation> {
        self.leases.get(id).map(|(bid, _)| bid.component.generation)
    }

    pub(crate) fn standing(&self, me: Option<&ComponentId>) -> Standing {
        Standing {
            epoch: self.epoch.clone().filter(|epoch| epoch.is_of(&self.server)),
            recovering: self.recovering_until.is_some(),
            holder: me.and_then(|me| self.holder(me)),
        }
    }

    fn swap(&mut self, swap: &Swap, now: Moment, timing: Timing) -> bool {
        if let Some((_, generation, owned)) = &swap.owner {
            self.owned.entry(*generation).or_default().insert(owned.clone());
        }
        let user = self.users.entry(swap.user.clone()).or_default();
        let ended = swap.ended.as_ref().map(|(field, ended)| {
            let login = user.fields.get(field).and_then(|login| login.parse().ok()).map(LoginId);
            (field, login, ended)
        });
        let matches = user.fields.get(&swap.field) == swap.expected.as_ref()
            && !matches!(ended, Some((_, login, Ended::Is(expected))) if login != *expected);
        if matches {
            match &swap.new {
                Some(new) => user.fields.insert(swap.field.clone(), new.clone()),
                None => user.fields.remove(&swap.field),
            };
            if let Some((field, before, Ended::Raise(login))) = ended {
                user.fields.insert(field.clone(), before.max(Some(*login)).unwrap_or(*login).0.to_string());
                user.forget_oldest_ended();
            }
            let ended_only =
                !user.fields.is_empty() && user.fields.keys().all(|field| field.starts_with("e:"));
            user.expires = ended_only.then(|| now + timing.ended);
            if let Some(when) = user.expires {
                self.leaving.push_back((when, swap.user.clone()));
            }
        }
        if user.fields.is_empty() {
            self.users.remove(&swap.user);
        }
        matches
    }

    fn acquire(&mut self, bid: &Bid, now: Moment, timing: Timing) -> Acquired {
        let Component { id, generation, .. } = &bid.component;
        if self.marks.contains_key(generation) {
            return Acquired::Marked;
        }
        if let Some((held, until)) = self.leases.get(id)
            && held.process != bid.process
        {
            return Acquired::InUse { client: held.component.client.clone(), left: until.since(now) };
        }
        self.register(&bid.component);
        self.hold(bid, now, timing);
        Acquired::Held
    }

    fn renew(&mut self, bid: &Bid, now: Moment, timing: Timing) -> Renewal {
        self.register(&bid.component);
        let Component { id, generation, .. } = &bid.component;
        if self.marks.contains_key(generation) || self.holder(id).is_some_and(|holder| holder != *generation)
        {
            return Renewal::Refused;
        }
        self.hold(bid, now, timing);
        Renewal::Held
    }

    fn register(&mut self, component: &Component) {
        if !self.registered.contains(component) {
            self.registered.push(component.clone());
        }
    }

    fn hold(&mut self, bid: &Bid, now: Moment, timing: Timing) {
        self.leases.insert(bid.component.id.clone(), (bid.clone(), now + timing.lease));
    }

    fn mark(&mut self, generation: Generation, now: Moment) {
        self.marks.retain(|_, until| *until > now);

        self.marks.insert(generation, now + MARKS);
    }

    fn confirm_dead(&mut self, id: &ComponentId, generation: Generation, epoch: &Epoch, now: Moment) -> bool {
        let is_noted = self.judged.get(id).is_some_and(|(noted, _)| noted == epoch);
        if self.holder(id) == Some(generation) || !is_noted {
            return false;
        }
        self.mark(generation, now);
        true
    }

    fn begin_epoch(&mut self, now: Moment, timing: Timing) {
        if !self.epoch.as_ref().is_some_and(|epoch| epoch.is_of(&self.server)) {
            self.epoch = Some(Epoch::new(&self.server));
            self.recovering_until = Some(now + timing.lease);
        }
    }

    fn forget(&mut self, generation: Generation) {
        self.owned.remove(&generation);
        self.registered.retain(|component| component.generation != generation);
    }

    fn resign(&mut self, id: &ComponentId, generation: Generation, now: Moment) {
        self.mark(generation, now);
        if self.holder(id) == Some(generation) {
            self.leases.remove(id);
        }
    }
}

impl Backend for Memory {
    fn ping(&self) -> Answer<'_, ()> {
        ready(())
    }

    fn look<'a>(&'a self, me: &'a ComponentId, user: &'a UserKey) -> Answer<'a, (Fields, Standing)> {
        let tables = self.tables();
        ready((tables.fields(user), tables.standing(Some(me))))
    }

    fn users<'a>(&'a self, users: &'a [UserKey]) -> Answer<'a, (Vec<Fields>, Standing)> {
        let tables = self.tables();
        ready((users.iter().map(|user| tables.fields(user)).collect(), tables.standing(None)))
    }

    fn swap<'a>(&'a self, me: &'a ComponentId, swaps: &'a [Swap]) -> Answer<'a, (Vec<bool>, Standing)> {
        let mut tables = self.tables();
        let now = self.clock.now();
        let done = swaps.iter().map(|swap| tables.swap(swap, now, self.timing)).collect();
        ready((done, tables.standing(Some(me))))
    }

    fn leases<'a>(
        &'a self,
        me: Option<&'a ComponentId>,
        ids: &'a [ComponentId],
    ) -> Answer<'a, (Vec<Option<Generation>>, Standing)> {
        let tables = self.tables();
        ready((ids.iter().map(|id| tables.holder(id)).collect(), tables.standing(me)))
    }

    fn suspect<'a>(
        &'a self,
        me: &'a ComponentId,
        id: &'a ComponentId,
        epoch: &'a Epoch,
    ) -> Answer<'a, (Option<Generation>, Standing)> {
        let mut tables = self.tables();
        tables.judged.insert(id.clone(), (epoch.clone(), self.clock.now() + self.timing.lease));
        ready((tables.holder(id), tables.standing(Some(me))))
    }

    fn confirm_dead<'a>(
        &'a self,
        id: &'a ComponentId,
        generation: Generation,
        epoch: &'a Epoch,
    ) -> Answer<'a, bool> {
        ready(self.tables().confirm_dead(id, generation, epoch, self.clock.now()))
    }

    fn acquire<'a>(&'a self, bid: &'a Bid) -> Answer<'a, (Acquired, Standing)> {
        let mut tables = self.tables();
        let acquired = tables.acquire(bid, self.clock.now(), self.timing);
        ready((acquired, tables.standing(Some(&bid.component.id))))
    }

    fn renew<'a>(&'a self, bid: &'a Bid) -> Answer<'a, (Renewal, Standing)> {
        let mut tables = self.tables();
        let renewal = tables.renew(bid, self.clock.now(), self.timing);
        ready((renewal, tables.standing(Some(&bid.component.id))))
    }

    fn begin_epoch<'a>(&'a self, me: &'a ComponentId) -> Answer<'a, Standing> {
        let mut tables = self.tables();
        tables.begin_epoch(self.clock.now(), self.timing);
        ready(tables.standing(Some(me)))
    }

    fn registered(&self) -> Answer<'_, Vec<Component>> {
        ready(self.tables().registered.clone())
    }

    fn owned<'a>(
        &'a self,
        _: &'a ComponentId,
        generation: Generation,
        limit: usize,
    ) -> Answer<'a, Vec<Owned>> {
        ready(self.tables().owned.get(&generation).into_iter().flatten().take(limit).cloned().collect())
    }

    fn disown<'a>(
        &'a self,
        _: &'a ComponentId,
        generation: Generation,
        owned: &'a [Owned],
    ) -> Answer<'a, ()> {
        if let Some(all) = self.tables().owned.get_mut(&generation) {
            for entry in owned {
                all.remove(entry);
            }
        }
        ready(())
    }

    fn forget<'a>(&'a self, _: &'a ComponentId, generation: Generation) -> Answer<'a, ()> {
        self.tables().forget(generation);
        ready(())
    }

    fn resign<'a>(&'a self, id: &'a ComponentId, generation: Generation) -> Answer<'a, ()> {
        self.tables().resign(id, generation, self.clock.now());
        ready(())
    }
}

fn ready<'a, T: Send + 'a>(answer: T) -> Answer<'a, T> {
    Box::pin(std::future::ready(Ok::<T, DirectoryError>(answer)))
}

#[cfg(test)]
impl Memory {
    /// Empties the tables, as FLUSHALL does.
    pub(crate) fn lose(&self) {
        let mut tables = self.tables();
        *tables = Tables { server: std::mem::take(&mut tables.server), ..Tables::default() };
    }

    /// What a snapshot on disk would hold.
    pub(crate) fn snapshot(&self) -> Tables {
        self.tables().clone()
    }

    /// Starts again from a snapshot.
    pub(crate) fn restore(&self, snapshot: Tables) {
        *self.tables() = Tables { server: uuid::Uuid::now_v7().to_string(), ..snapshot };
    }
}
