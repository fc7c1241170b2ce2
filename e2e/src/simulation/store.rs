//! The database: the rules of `manager::store` over plain data. A transaction is one moment.

use std::collections::{BTreeMap, HashMap};

use kurir_delivery::storing::Message;

/// An account, by its number.
pub type Account = usize;

/// One entry of an account's log; its place is its index and one.
#[derive(Clone, Debug)]
pub struct Entry {
    /// What the message is called in every log.
    pub stanza_id: u64,
    /// What was sent.
    pub stanza: String,
    /// The account that it is for.
    pub to: Account,
    /// The account's own device that sent it.
    pub sent_by: Option<String>,
}

/// What became of a message.
#[derive(Clone, Debug)]
pub enum Appended {
    /// Stored now, or the same one before.
    Stored {
        /// What it is called.
        stanza_id: u64,
        /// Its place in the sender's log.
        sent: u64,
    },
    /// The device has used the id for other content.
    Conflict,
    /// There is no account of the receiver's name.
    NoAccount,
}

/// What a message is found again by: its sender's account and device, and its id.
type SentKey = (Account, String, String);

/// The tables.
#[derive(Debug, Default)]
pub struct Store {
    /// Each account's log.
    pub logs: Vec<Vec<Entry>>,
    sent: HashMap<SentKey, (String, u64, u64)>,
    /// How far each device that is there has read.
    cursors: BTreeMap<(Account, String), u64>,
    last_stanza_id: u64,
}

/// What an account is called.
pub fn name_of(account: Account) -> String {
    format!("orang{account}")
}

impl Store {
    /// So many accounts, whose logs are empty.
    pub fn new(accounts: usize) -> Self {
        Self { logs: vec![Vec::new(); accounts], ..Self::default() }
    }

    /// One transaction. Also where the logs end now that have grown.
    pub fn append(&mut self, messages: &[Message]) -> (Vec<Appended>, BTreeMap<Account, u64>) {
        let mut grown = BTreeMap::new();
        let appended = messages.iter().map(|message| self.append_one(message, &mut grown)).collect();
        (appended, grown)
    }

    fn append_one(&mut self, message: &Message, grown: &mut BTreeMap<Account, u64>) -> Appended {
        let (Some(from), Some(to)) = (self.account(&message.from), self.account(&message.to)) else {
            return Appended::NoAccount;
        };
        let key = (from, message.device.clone(), message.id.clone());
        if let Some((content, stanza_id, sent)) = self.sent.get(&key) {
            let same = *content == message.stanza;
            let known = Appended::Stored { stanza_id: *stanza_id, sent: *sent };
            return if same { known } else { Appended::Conflict };
        }
        self.last_stanza_id += 1;
        let stanza_id = self.last_stanza_id;
        let entry = Entry { stanza_id, stanza: message.stanza.clone(), to, sent_by: None };
        let sent = self.put(from, Entry { sent_by: Some(message.device.clone()), ..entry.clone() }, grown);
        if from != to {
            self.put(to, entry, grown);
        }
        self.sent.insert(key, (message.stanza.clone(), stanza_id, sent));
        Appended::Stored { stanza_id, sent }
    }

    fn put(&mut self, account: Account, entry: Entry, grown: &mut BTreeMap<Account, u64>) -> u64 {
        self.logs[account].push(entry);
        let head = self.head(account);
        grown.insert(account, head);
        head
    }

    /// Where a log ends.
    pub fn head(&self, account: Account) -> u64 {
        self.logs[account].len() as u64
    }

    /// At most `most` entries after `after`, with their places.
    pub fn page(&self, account: Account, after: u64, most: usize) -> Vec<(u64, Entry)> {
        let entries = (1..).zip(&self.logs[account]).skip_while(|(seq, _)| *seq <= after);
        entries.take(most).map(|(seq, entry)| (seq, entry.clone())).collect()
    }

    /// The place and the name of a message that is stored.
    pub fn sent(&self, account: Account, device: &str, id: &str) -> Option<(u64, u64)> {
        let key = (account, device.to_string(), id.to_string());
        self.sent.get(&key).map(|(_, stanza_id, sent)| (*stanza_id, *sent))
    }

    /// How far a device has read. One with a name that is not there gets nothing of what was written before.
    pub fn cursor(&self, account: Account, device: &str, named: bool) -> u64 {
        let cursor = self.cursors.get(&(account, device.to_string())).copied();
        cursor.unwrap_or_else(|| if named { self.head(account) } else { 0 })
    }

    /// A device logs in. True: it was not there, and begins.
    pub fn logs_in(&mut self, account: Account, device: &str, named: bool) -> bool {
        let (key, new) = ((account, device.to_string()), self.cursor(account, device, named));
        let there = self.cursors.contains_key(&key);
        self.cursors.entry(key).or_insert(new);
        !there
    }

    /// Whether a device is there.
    pub fn has(&self, account: Account, device: &str) -> bool {
        self.cursors.contains_key(&(account, device.to_string()))
    }

    /// Forgets a device that has a name.
    pub fn remove_device(&mut self, account: Account, device: &str) {
        self.cursors.remove(&(account, device.to_string()));
    }

    /// Forward only, never beyond the end, and only for a device that is there.
    pub fn move_cursor(&mut self, account: Account, device: &str, seq: u64) {
        let seq = seq.min(self.head(account));
        if let Some(cursor) = self.cursors.get_mut(&(account, device.to_string())) {
            *cursor = seq.max(*cursor);
        }
    }

    fn account(&self, name: &str) -> Option<Account> {
        let account = name.strip_prefix("orang")?.parse().ok()?;
        (account < self.logs.len()).then_some(account)
    }
}
