//! The tables in Redis. Every script touches keys of one hash slot only.

use std::time::Duration;

use kurir_metrics::Requests;
use kurir_protocol::name::{LoginId, UserKey};
use redis::{Pipeline, Script};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::link::{Link, Replies};
use super::{
    Acquired, Answer, Backend, Bid, Ended, Epoch, Fields, MARKS, MOST_ENDED, Owned, Renewal, Standing, Swap,
};
use crate::{Component, ComponentId, DirectoryError, Generation, Timing};

/// KEYS: user. ARGV: field, expected, new, life of ended logins in ms, field of ended logins, what it must hold, what it is
/// raised to; empty: none; how many ended logins are kept. 1 if it found what was expected. A hash of ended logins only is
/// given that life.
const SWAP: &str = r"
local found = redis.call('HGET', KEYS[1], ARGV[1]) or ''
if found ~= ARGV[2] then return 0 end
local ended = ARGV[5] ~= '' and redis.call('HGET', KEYS[1], ARGV[5]) or ''
if ARGV[7] == '' then
  if ended ~= ARGV[6] then return 0 end
elseif ended == '' or tonumber(ended) < tonumber(ARGV[7]) then redis.call('HSET', KEYS[1], ARGV[5], ARGV[7]) end
if ARGV[3] == '' then redis.call('HDEL', KEYS[1], ARGV[1])
else redis.call('HSET', KEYS[1], ARGV[1], ARGV[3]) end
local over, live = {}, false
for _, field in ipairs(redis.call('HKEYS', KEYS[1])) do
  if string.sub(field, 1, 2) == 'e:' then over[#over + 1] = field else live = true end
end
if #over > tonumber(ARGV[8]) then
  local logins = {}
  for _, field in ipairs(over) do logins[field] = tonumber(redis.call('HGET', KEYS[1], field)) end
  table.sort(over, function(one, other) return logins[one] < logins[other] end)
  for i = 1, #over - tonumber(ARGV[8]) do redis.call('HDEL', KEYS[1], over[i]) end
end
if live then redis.call('PERSIST', KEYS[1]) else redis.call('PEXPIRE', KEYS[1], ARGV[4]) end
return 1";

/// KEYS: lease, mark. ARGV: generation, process, component, lease in ms.
const ACQUIRE: &str = r"
if redis.call('EXISTS', KEYS[2]) == 1 then return {'marked'} end
local held = redis.call('HMGET', KEYS[1], 'process', 'component')
if held[1] and held[1] ~= ARGV[2] then return {'in use', held[2], redis.call('PTTL', KEYS[1])} end
redis.call('HSET', KEYS[1], 'generation', ARGV[1], 'process', ARGV[2], 'component', ARGV[3])
redis.call('PEXPIRE', KEYS[1], ARGV[4])
return {'held'}";

/// KEYS and ARGV as in ACQUIRE. 1 if held.
const RENEW: &str = r"
if redis.call('EXISTS', KEYS[2]) == 1 then return 0 end
local holder = redis.call('HGET', KEYS[1], 'generation')
if holder and holder ~= ARGV[1] then return 0 end
redis.call('HSET', KEYS[1], 'generation', ARGV[1], 'process', ARGV[2], 'component', ARGV[3])
redis.call('PEXPIRE', KEYS[1], ARGV[4])
return 1";

/// KEYS: lease, mark, note. ARGV: generation, epoch, marks in ms. 1 if dead.
const CONFIRM_DEAD: &str = r"
if redis.call('HGET', KEYS[1], 'generation') == ARGV[1] then return 0 end
if redis.call('GET', KEYS[3]) ~= ARGV[2] then return 0 end
redis.call('SET', KEYS[2], '1', 'PX', ARGV[3])
return 1";

/// KEYS: lease, mark. ARGV: generation, marks in ms.
const RESIGN: &str = r"
redis.call('SET', KEYS[2], '1', 'PX', ARGV[2])
if redis.call('HGET', KEYS[1], 'generation') == ARGV[1] then redis.call('DEL', KEYS[1]) end
return 1";

/// KEYS: epoch, recovering. ARGV: new epoch, the server's life with an at sign before it, lease in ms.
const BEGIN_EPOCH: &str = r"
local epoch = redis.call('GET', KEYS[1])
if epoch and string.sub(epoch, -string.len(ARGV[2])) == ARGV[2] then return 0 end
redis.call('SET', KEYS[1], ARGV[1])
redis.call('SET', KEYS[2], ARGV[1], 'PX', ARGV[3])
return 1";

#[derive(Debug)]
pub(crate) struct Redis {
    link: Link,
    prefix: String,
    timing: Timing,
    scripts: Scripts,
}

#[derive(Debug)]
struct Scripts {
    swap: Script,
    acquire: Script,
    renew: Script,
    confirm_dead: Script,
    resign: Script,
    begin_epoch: Script,
}

impl Redis {
    pub(crate) async fn connect(
        url: &str,
        prefix: &str,
        timing: Timing,
        requests: Requests,
    ) -> Result<Self, DirectoryError> {
        let scripts = Scripts {
            swap: Script::new(SWAP),
            acquire: Script::new(ACQUIRE),
            renew: Script::new(RENEW),
            confirm_dead: Script::new(CONFIRM_DEAD),
            resign: Script::new(RESIGN),
            begin_epoch: Script::new(BEGIN_EPOCH),
        };
        let all = [
            &scripts.swap,
            &scripts.acquire,
            &scripts.renew,
            &scripts.confirm_dead,
            &scripts.resign,
            &scripts.begin_epoch,
        ];
        let link = Link::open(url, timing.timeout, all.map(Script::clone).to_vec(), requests).await?;
        Ok(Self { link, prefix: prefix.to_owned(), timing, scripts })
    }

    fn user_key(&self, user: &UserKey) -> String {
        format!("{}u:{{{user}}}", self.prefix)
    }

    fn lease_key(&self, id: &ComponentId) -> String {
        format!("{}c:{{{id}}}:lease", self.prefix)
    }

    fn mark_key(&self, id: &ComponentId, generation: Generation) -> String {
        format!("{}c:{{{id}}}:dead:{generation}", self.prefix)
    }

    fn note_key(&self, id: &ComponentId) -> String {
        format!("{}c:{{{id}}}:judged", self.prefix)
    }

    fn owned_key(&self, id: &ComponentId, generation: Generation) -> String {
        format!("{}c:{{{id}}}:owned:{generation}", self.prefix)
    }

    fn register_key(&self) -> String {
        format!("{}components", self.prefix)
    }

    fn epoch_keys(&self) -> [String; 2] {
        [format!("{}{{epoch}}", self.prefix), format!("{}{{epoch}}:recovering", self.prefix)]
    }

    /// Appends the commands that [`standing`] reads the answers of.
    fn ask_standing(&self, commands: &mut Pipeline, me: Option<&ComponentId>) {
        let [epoch, recovering] = self.epoch_keys();
        commands.cmd("GET").arg(epoch).cmd("EXISTS").arg(recovering);
        if let Some(me) = me {
            commands.cmd("HGET").arg(self.lease_key(me)).arg("generation");
        }
    }

    fn ask_register(&self, commands: &mut Pipeline, component: &Component) -> Result<(), DirectoryError> {
        let name = registered_as(&component.id, component.generation);
        commands.cmd("HSET").arg(self.register_key()).arg(name).arg(json(component)?).ignore();
        Ok(())
    }

    fn ask_bid(&self, commands: &mut Pipeline, script: &Script, bid: &Bid) -> Result<(), DirectoryError> {
        let Component { id, generation, .. } = &bid.component;
        let component = json(&bid.component)?;
        call(commands, script, &[self.lease_key(id), self.mark_key(id, *generation)])
            .arg(generation.to_string())
            .arg(bid.process.to_string())
            .arg(component)
            .arg(millis(self.timing.lease));
        self.ask_standing(commands, Some(id));
        Ok(())
    }
}

impl Backend for Redis {
    fn ping(&self) -> Answer<'_, ()> {
        Box::pin(async move { self.link.run(redis::pipe().cmd("PING")).await.map(drop) })
    }

    fn look<'a>(&'a self, me: &'a ComponentId, user: &'a UserKey) -> Answer<'a, (Fields, Standing)> {
        Box::pin(async move {
            let mut commands = redis::pipe();
            commands.cmd("HGETALL").arg(self.user_key(user));
            self.ask_standing(&mut commands, Some(me));
            let mut replies = self.link.run(&commands).await?;
            Ok((replies.take()?, standing(&mut replies, true)?))
        })
    }

    fn users<'a>(&'a self, users: &'a [UserKey]) -> Answer<'a, (Vec<Fields>, Standing)> {
        Box::pin(async move {
            let mut commands = redis::pipe();
            for user in users {
                commands.cmd("HGETALL").arg(self.user_key(user));
            }
            self.ask_standing(&mut commands, None);
            let mut replies = self.link.run(&commands).await?;
            let fields = users.iter().map(|_| replies.take()).collect::<Result<_, _>>()?;
            Ok((fields, standing(&mut replies, false)?))
        })
    }

    fn swap<'a>(&'a self, me: &'a ComponentId, swaps: &'a [Swap]) -> Answer<'a, (Vec<bool>, Standing)> {
        Box::pin(async move {
            let mut commands = redis::pipe();
            for swap in swaps {
                if let Some((id, generation, owned)) = &swap.owner {
                    commands.cmd("SADD").arg(self.owned_key(id, *generation)).arg(json(owned)?).ignore();
                }
                let text =
                    |login: Option<&LoginId>| login.map(|login| login.0.to_string()).unwrap_or_default();
                let (ended_field, ended, raised) = match &swap.ended {
                    Some((field, Ended::Is(login))) => (field.as_str(), text(login.as_ref()), text(None)),
                    Some((field, Ended::Raise(login))) => (field.as_str(), text(None), text(Some(login))),
                    None => ("", text(None), text(None)),
                };
                call(&mut commands, &self.scripts.swap, &[self.user_key(&swap.user)])
                    .arg(&swap.field)
                    .arg(swap.expected.as_deref().unwrap_or_default())
                    .arg(swap.new.as_deref().unwrap_or_default())
                    .arg(millis(self.timing.ended))
                    .arg(ended_field)
                    .arg(ended)
                    .arg(raised)
                    .arg(MOST_ENDED);
            }
            self.ask_standing(&mut commands, Some(me));
            let mut replies = self.link.run(&commands).await?;
            let done = swaps.iter().map(|_| replies.take()).collect::<Result<_, _>>()?;
            Ok((done, standing(&mut replies, true)?))
        })
    }

    fn leases<'a>(
        &'a self,
        me: Option<&'a ComponentId>,
        ids: &'a [ComponentId],
    ) -> Answer<'a, (Vec<Option<Generation>>, Standing)> {
        Box::pin(async move {
            let mut commands = redis::pipe();
            for id in ids {
                commands.cmd("HGET").arg(self.lease_key(id)).arg("generation");
            }
            self.ask_standing(&mut commands, me);
            let mut replies = self.link.run(&commands).await?;
            let holders = ids.iter().map(|_| generation(&mut replies)).collect::<Result<_, _>>()?;
            Ok((holders, standing(&mut replies, me.is_some())?))
        })
    }

    fn suspect<'a>(
        &'a self,
        me: &'a ComponentId,
        id: &'a ComponentId,
        epoch: &'a Epoch,
    ) -> Answer<'a, (Option<Generation>, Standing)> {
        Box::pin(async move {
            let mut commands = redis::pipe();
            let note = commands.cmd("SET").arg(self.note_key(id)).arg(&epoch.0);
            note.arg("PX").arg(millis(self.timing.lease)).ignore();
            commands.cmd("HGET").arg(self.lease_key(id)).arg("generation");
            self.ask_standing(&mut commands, Some(me));
            let mut replies = self.link.run(&commands).await?;
            Ok((generation(&mut replies)?, standing(&mut replies, true)?))
        })
    }

    fn confirm_dead<'a>(
        &'a self,
        id: &'a ComponentId,
        generation: Generation,
        epoch: &'a Epoch,
    ) -> Answer<'a, bool> {
        Box::pin(async move {
            let keys = [self.lease_key(id), self.mark_key(id, generation), self.note_key(id)];
            let mut commands = redis::pipe();
            call(&mut commands, &self.scripts.confirm_dead, &keys)
                .arg(generation.to_string())
                .arg(&epoch.0)
                .arg(millis(MARKS));
            self.link.run(&commands).await?.take()
        })
    }

    fn acquire<'a>(&'a self, bid: &'a Bid) -> Answer<'a, (Acquired, Standing)> {
        Box::pin(async move {
            let mut commands = redis::pipe();
            self.ask_bid(&mut commands, &self.scripts.acquire, bid)?;
            let mut replies = self.link.run(&commands).await?;
            let answer = (acquired(&mut replies)?, standing(&mut replies, true)?);
            if answer.0 == Acquired::Held {
                let mut commands = redis::pipe();
                self.ask_register(&mut commands, &bid.component)?;
                self.link.run(&commands).await?;
            }
            Ok(answer)
        })
    }

    fn renew<'a>(&'a self, bid: &'a Bid) -> Answer<'a, (Renewal, Standing)> {
        Box::pin(async move {
            let mut commands = redis::pipe();
            self.ask_register(&mut commands, &bid.component)?;
            self.ask_bid(&mut commands, &self.scripts.renew, bid)?;
            let mut replies = self.link.run(&commands).await?;
            let renewal = if replies.take()? { Renewal::Held } else { Renewal::Refused };
            Ok((renewal, standing(&mut replies, true)?))
        })
    }

    fn begin_epoch<'a>(&'a self, me: &'a ComponentId) -> Answer<'a, Standing> {
        Box::pin(async move {
            // Where the server is restarted between the two, the epoch is of its former life, and the next standing has
            // none.
            let server = self.link.server().await?;
            let mut commands = redis::pipe();
            call(&mut commands, &self.scripts.begin_epoch, &self.epoch_keys())
                .arg(Epoch::new(&server).0)
                .arg(format!("@{server}"))
                .arg(millis(self.timing.lease))
                .ignore();
            self.ask_standing(&mut commands, Some(me));
            standing(&mut self.link.run(&commands).await?, true)
        })
    }

    fn registered(&self) -> Answer<'_, Vec<Component>> {
        Box::pin(async move {
            let mut commands = redis::pipe();
            commands.cmd("HVALS").arg(self.register_key());
            let components: Vec<String> = self.link.run(&commands).await?.take()?;
            Ok(readable(&components))
        })
    }

    fn owned<'a>(
        &'a self,
        id: &'a ComponentId,
        generation: Generation,
        limit: usize,
    ) -> Answer<'a, Vec<Owned>> {
        Box::pin(async move {
            let mut commands = redis::pipe();
            commands.cmd("SRANDMEMBER").arg(self.owned_key(id, generation)).arg(limit);
            let owned: Vec<String> = self.link.run(&commands).await?.take()?;
            Ok(readable(&owned))
        })
    }

    fn disown<'a>(
        &'a self,
        id: &'a ComponentId,
        generation: Generation,
        owned: &'a [Owned],
    ) -> Answer<'a, ()> {
        Box::pin(async move {
            if owned.is_empty() {
                return Ok(());
            }
            let members = owned.iter().map(json).collect::<Result<Vec<_>, _>>()?;
            let mut commands = redis::pipe();
            commands.cmd("SREM").arg(self.owned_key(id, generation)).arg(members).ignore();
            self.link.run(&commands).await.map(drop)
        })
    }

    fn forget<'a>(&'a self, id: &'a ComponentId, generation: Generation) -> Answer<'a, ()> {
        Box::pin(async move {
            let mut commands = redis::pipe();
            commands.cmd("DEL").arg(self.owned_key(id, generation)).ignore();
            commands.cmd("HDEL").arg(self.register_key()).arg(registered_as(id, generation)).ignore();
            self.link.run(&commands).await.map(drop)
        })
    }

    fn resign<'a>(&'a self, id: &'a ComponentId, generation: Generation) -> Answer<'a, ()> {
        Box::pin(async move {
            let keys = [self.lease_key(id), self.mark_key(id, generation)];
            let mut commands = redis::pipe();
            call(&mut commands, &self.scripts.resign, &keys)
                .arg(generation.to_string())
                .arg(millis(MARKS))
                .ignore();
            self.link.run(&commands).await.map(drop)
        })
    }
}

fn call<'a>(commands: &'a mut Pipeline, script: &Script, keys: &[String]) -> &'a mut Pipeline {
    commands.cmd("EVALSHA").arg(script.get_hash()).arg(keys.len()).arg(keys)
}

fn registered_as(id: &ComponentId, generation: Generation) -> String {
    format!("{id} {generation}")
}

fn standing(replies: &mut Replies, of_me: bool) -> Result<Standing, DirectoryError> {
    let epoch = replies.take::<Option<String>>()?.map(Epoch).filter(|epoch| epoch.is_of(replies.server()));
    let recovering = replies.take()?;
    let holder = if of_me { generation(replies)? } else { None };
    Ok(Standing { epoch, recovering, holder })
}

fn generation(replies: &mut Replies) -> Result<Option<Generation>, DirectoryError> {
    let Some(text) = replies.take::<Option<String>>()? else { return Ok(None) };
    text.parse().map(Some).map_err(|_| DirectoryError::Garbled(text))
}

fn acquired(replies: &mut Replies) -> Result<Acquired, DirectoryError> {
    let parts: Vec<redis::Value> = replies.take()?;
    let mut parts = parts.into_iter();
    let mut text =
        || parts.next().and_then(|value| redis::from_redis_value::<String>(value).ok()).unwrap_or_default();
    match text().as_str() {
        "held" => Ok(Acquired::Held),
        "marked" => Ok(Acquired::Marked),
        "in use" => {
            let component: Component = from_json(&text())?;

            let left = text().parse().unwrap_or_default();
            Ok(Acquired::InUse { client: component.client, left: Duration::from_millis(left) })
        }
        other => Err(DirectoryError::Garbled(other.to_owned())),
    }
}

/// What another version wrote is left out, not an error: it must not stop this one.
fn readable<T: DeserializeOwned>(texts: &[String]) -> Vec<T> {
    texts.iter().filter_map(|text| from_json(text).ok()).collect()
}

fn from_json<T: DeserializeOwned>(text: &str) -> Result<T, DirectoryError> {
    serde_json::from_str(text).map_err(|e| DirectoryError::Garbled(e.to_string()))
}

fn json(value: &impl Serialize) -> Result<String, DirectoryError> {
    serde_json::to_string(value).map_err(|e| DirectoryError::Garbled(e.to_string()))
}

fn millis(length: Duration) -> u64 {
    u64::try_from(length.as_millis()).unwrap_or(u64::MAX)
}
