//! The naive model: a list of versions per key and the contract's sentences as
//! straight code. It shares nothing with storage but the types of requests.

use std::collections::{BTreeMap, BTreeSet};

use storage::apply::command::{
    Command, Compare, CompareTarget, DeleteRange, KeyRange, Put, Range, RequestOp, SortOrder,
    SortTarget, Txn,
};

use crate::answer::{Answer, Change, Effect, KeyValue};

#[derive(Clone, Debug)]
struct Version {
    deleted: bool,
    key_value: KeyValue,
}

#[derive(Clone, Debug)]
pub struct Model {
    keys: BTreeMap<Vec<u8>, Vec<Version>>,
    /// Keys changed by the request under way, in order.
    changed: Vec<Vec<u8>>,
    current: i64,
    compacted: i64,
    leases: BTreeMap<i64, i64>,
    alarms: BTreeSet<(u64, u8)>,
}

type Refused = &'static str;

impl Model {
    pub fn new() -> Model {
        Model {
            keys: BTreeMap::new(),
            changed: Vec::new(),
            current: 1,
            compacted: -1,
            leases: BTreeMap::new(),
            alarms: BTreeSet::new(),
        }
    }

    /// Current revision, compacted revision, raised alarms.
    #[allow(dead_code, reason = "used by the simulation")]
    pub fn state(&self) -> (i64, i64, Vec<(u64, u8)>) {
        (
            self.current,
            self.compacted,
            self.alarms.iter().copied().collect(),
        )
    }

    /// Leases, time to live, attached keys.
    pub fn leases(&self) -> Vec<(i64, i64, Vec<Vec<u8>>)> {
        let leases = self.leases.iter();
        leases
            .map(|(lease, ttl)| (*lease, *ttl, self.attached(*lease)))
            .collect()
    }

    pub fn command(&mut self, command: &Command) -> Effect {
        let leases = self.leases.clone();
        let answer = self.perform(command).unwrap_or_else(|refusal| {
            self.leases = leases;
            self.take_back();
            Answer::Refused(refusal)
        });
        let changes = self.finish();
        Effect {
            answer,
            revision: self.current,
            changes,
        }
    }

    pub fn stand_alone_range(&self, range: &Range) -> Answer {
        if range.revision > self.current {
            return Answer::Refused("FutureRevision");
        }
        if range.revision > 0 && range.revision < self.compacted {
            return Answer::Refused("Compacted");
        }
        self.range(range)
    }

    pub fn read_txn(&self, txn: &Txn) -> Answer {
        let mut copy = self.clone();
        copy.txn(txn).unwrap_or_else(Answer::Refused)
    }

    fn perform(&mut self, command: &Command) -> Result<Answer, Refused> {
        match command {
            Command::Put(put) => {
                self.check_put(put)?;
                self.put(put)
            }
            Command::DeleteRange(delete) => Ok(self.delete(delete)),
            Command::Txn(txn) => self.txn(txn),
            Command::Compact { revision } if *revision <= self.compacted => Err("Compacted"),
            Command::Compact { revision } if *revision > self.current => Err("FutureRevision"),
            Command::Compact { revision } => {
                self.compacted = *revision;
                Ok(Answer::Compact)
            }
            Command::LeaseGrant { ttl_seconds, .. } if *ttl_seconds > 9_000_000_000 => {
                Err("LeaseTtlTooLarge")
            }
            Command::LeaseGrant { lease, ttl_seconds } => {
                if self.leases.insert(lease.0, *ttl_seconds).is_some() {
                    return Err("LeaseExists");
                }
                Ok(Answer::Grant {
                    lease: lease.0,
                    ttl: *ttl_seconds,
                })
            }
            Command::LeaseRevoke { lease } => {
                for key in self.attached(lease.0) {
                    self.write(key, None);
                }
                self.leases.remove(&lease.0).ok_or("LeaseNotFound")?;
                Ok(Answer::Revoke)
            }
            Command::Alarm {
                activate,
                member,
                alarm,
            } => {
                let entry = (member.0, *alarm as u8);
                let there = if *activate {
                    self.alarms.insert(entry);
                    true
                } else {
                    self.alarms.remove(&entry)
                };
                Ok(Answer::Alarm(if there { vec![entry] } else { Vec::new() }))
            }
        }
    }

    /// A refused request changes nothing.
    fn take_back(&mut self) {
        for key in std::mem::take(&mut self.changed) {
            let versions = self.keys.get_mut(&key).unwrap();
            versions.pop();
            if versions.is_empty() {
                self.keys.remove(&key);
            }
        }
    }

    /// Forgets what no read at `floor` or above can show.
    #[allow(dead_code, reason = "used where histories are judged")]
    pub fn forget(&mut self, floor: i64) {
        for versions in self.keys.values_mut() {
            let below = versions
                .iter()
                .rposition(|v| v.key_value.modified <= floor)
                .unwrap_or(0);
            versions.drain(..below);
        }
        self.keys
            .retain(|_, v| v.len() > 1 || !v[0].deleted || v[0].key_value.modified > floor);
    }

    /// The newest revision that the request under way sees.
    fn revision(&self) -> i64 {
        if self.changed.is_empty() {
            self.current
        } else {
            self.current + 1
        }
    }

    fn finish(&mut self) -> Vec<Change> {
        let revision = self.current + 1;
        let mut changes = Vec::new();
        let mut taken: BTreeMap<Vec<u8>, usize> = BTreeMap::new();
        let changed = std::mem::take(&mut self.changed);
        for (sub, key) in changed.iter().enumerate() {
            let versions = &self.keys[key];
            let old = versions.iter().rev();
            let new = old.take_while(|v| v.key_value.modified == revision);
            let of_this = versions.iter().skip(versions.len() - new.count());
            let nth = taken.entry(key.clone()).or_insert(0);
            let version = of_this.clone().nth(*nth).unwrap();
            *nth += 1;
            let created = version.key_value.create == revision;
            changes.push(Change {
                sub: sub.try_into().unwrap(),
                deletion: version.deleted,
                key_value: version.key_value.clone(),
                previous: if created {
                    None
                } else {
                    self.at(key, revision - 1)
                },
            });
        }
        if !changes.is_empty() {
            self.current = revision;
        }
        changes
    }

    fn at(&self, key: &[u8], revision: i64) -> Option<KeyValue> {
        let versions = self.keys.get(key)?;
        let last = versions
            .iter()
            .rfind(|v| v.key_value.modified <= revision)?;
        (!last.deleted).then(|| last.key_value.clone())
    }

    fn live(&self, range: &KeyRange, revision: i64) -> Vec<KeyValue> {
        let inside = |key: &Vec<u8>| match &range.range_end[..] {
            b"" => *key == range.key,
            b"\0" => key[..] >= range.key[..],
            end => key[..] >= range.key[..] && key[..] < *end,
        };
        let from = self.keys.range(range.key.to_vec()..);
        let keys = from.map(|(key, _)| key);
        // One key or all up to the end; what lies behind it is not looked at.
        let single = range.range_end.is_empty();
        let keys = keys.take(if single { 1 } else { usize::MAX });
        let keys = keys.filter(|key| inside(key));
        keys.filter_map(|key| self.at(key, revision)).collect()
    }

    fn attached(&self, lease: i64) -> Vec<Vec<u8>> {
        let live = self
            .keys
            .keys()
            .filter_map(|key| self.at(key, self.current));
        live.filter(|kv| kv.lease == lease)
            .map(|kv| kv.key)
            .collect()
    }

    /// Adds a version; no value is a deletion.
    fn write(&mut self, key: Vec<u8>, put: Option<(Vec<u8>, i64)>) {
        let modified = self.current + 1;
        let previous = self.at(&key, modified);
        let deleted = put.is_none();
        let mut key_value = KeyValue {
            key: key.clone(),
            modified,
            ..KeyValue::default()
        };
        if let Some((value, lease)) = put {
            key_value.create = previous.as_ref().map_or(modified, |kv| kv.create);
            key_value.version = previous.as_ref().map_or(1, |kv| kv.version + 1);
            key_value.value = value;
            key_value.lease = lease;
        }
        let versions = self.keys.entry(key.clone()).or_default();
        versions.push(Version { deleted, key_value });
        self.changed.push(key);
    }

    fn check_put(&self, put: &Put) -> Result<(), Refused> {
        if put.lease.0 != 0 && !self.leases.contains_key(&put.lease.0) {
            return Err("LeaseNotFound");
        }
        let missing = self.at(&put.key, self.current).is_none();
        if (put.ignore_value || put.ignore_lease) && missing {
            return Err("KeyNotFound");
        }
        Ok(())
    }

    fn put(&mut self, put: &Put) -> Result<Answer, Refused> {
        let previous = self.at(&put.key, self.revision());
        let (mut value, mut lease) = (put.value.to_vec(), put.lease.0);
        if put.ignore_value {
            value = previous.clone().ok_or("KeyNotFound")?.value;
        }
        if put.ignore_lease {
            lease = previous.clone().ok_or("KeyNotFound")?.lease;
        }
        self.write(put.key.to_vec(), Some((value, lease)));
        let previous = if put.prev_kv { previous } else { None };
        Ok(Answer::Put {
            revision: self.revision(),
            previous,
        })
    }

    fn delete(&mut self, delete: &DeleteRange) -> Answer {
        let doomed = self.live(&delete.range, self.revision());
        for kv in &doomed {
            self.write(kv.key.clone(), None);
        }
        Answer::Delete {
            revision: self.revision(),
            deleted: doomed.len().try_into().unwrap(),
            previous: if delete.prev_kv { doomed } else { Vec::new() },
        }
    }

    fn range(&self, range: &Range) -> Answer {
        let revision = self.revision();
        let at = if range.revision > 0 {
            range.revision
        } else {
            revision
        };
        let mut found = self.live(&range.range, at);
        let count = found.len().try_into().unwrap();
        if range.count_only {
            return Answer::Range {
                revision,
                key_values: Vec::new(),
                more: false,
                count,
            };
        }
        let filters = [
            range.min_mod_revision,
            range.max_mod_revision,
            range.min_create_revision,
            range.max_create_revision,
        ];
        let shortcut = filters == [0; 4]
            && (range.sort_order == SortOrder::None
                || (range.sort_order == SortOrder::Ascend && range.sort_target == SortTarget::Key));
        let limit = usize::try_from(range.limit).unwrap_or(0);
        if shortcut && limit > 0 {
            found.truncate(limit + 1);
        }
        let [min_mod, max_mod, min_create, max_create] = filters;
        found.retain(|kv| min_mod == 0 || kv.modified >= min_mod);
        found.retain(|kv| max_mod == 0 || kv.modified <= max_mod);
        found.retain(|kv| min_create == 0 || kv.create >= min_create);
        found.retain(|kv| max_create == 0 || kv.create <= max_create);
        // A stable sort; backwards it must be stable as well.
        let descending = range.sort_order == SortOrder::Descend;
        found.sort_by(|a, b| {
            let (a, b) = if descending { (b, a) } else { (a, b) };
            match range.sort_target {
                SortTarget::Key => a.key.cmp(&b.key),
                SortTarget::Version => a.version.cmp(&b.version),
                SortTarget::Create => a.create.cmp(&b.create),
                SortTarget::Mod => a.modified.cmp(&b.modified),
                SortTarget::Value => a.value.cmp(&b.value),
            }
        });
        let more = limit > 0 && found.len() > limit;
        if limit > 0 {
            found.truncate(limit);
        }
        if range.keys_only {
            for kv in &mut found {
                kv.value.clear();
                if range.sort_target != SortTarget::Value {
                    kv.lease = 0;
                }
            }
        }
        Answer::Range {
            revision,
            key_values: found,
            more,
            count,
        }
    }

    fn holds(&self, compare: &Compare) -> bool {
        let mut found = self.live(&compare.range, self.current);
        if found.is_empty() {
            if matches!(compare.target, CompareTarget::Value(_)) {
                return false;
            }
            found.push(KeyValue::default());
        }
        found.iter().all(|kv| {
            let order = match &compare.target {
                CompareTarget::Version(wanted) => kv.version.cmp(wanted),
                CompareTarget::Create(wanted) => kv.create.cmp(wanted),
                CompareTarget::Mod(wanted) => kv.modified.cmp(wanted),
                CompareTarget::Value(wanted) => kv.value[..].cmp(&wanted[..]),
                CompareTarget::Lease(wanted) => kv.lease.cmp(wanted),
            };
            match compare.result {
                0 => order.is_eq(),
                1 => order.is_gt(),
                2 => order.is_lt(),
                3 => order.is_ne(),
                _ => true,
            }
        })
    }

    fn txn(&mut self, txn: &Txn) -> Result<Answer, Refused> {
        self.check_txn(txn)?;
        match self.execute(txn)? {
            Answer::Txn {
                succeeded, answers, ..
            } => Ok(Answer::Txn {
                revision: self.revision(),
                succeeded,
                answers,
            }),
            other => Ok(other),
        }
    }

    fn taken<'a>(&self, txn: &'a Txn) -> (bool, &'a [RequestOp]) {
        let succeeded = txn.compare.iter().all(|compare| self.holds(compare));
        (
            succeeded,
            if succeeded {
                &txn.success
            } else {
                &txn.failure
            },
        )
    }

    fn check_txn(&self, txn: &Txn) -> Result<(), Refused> {
        for op in self.taken(txn).1 {
            match op {
                RequestOp::Range(range) if range.revision == 0 => {}
                RequestOp::Range(range) if range.revision > self.current => {
                    return Err("FutureRevision");
                }
                RequestOp::Range(range) if range.revision < self.compacted => {
                    return Err("Compacted");
                }
                RequestOp::Range(_) | RequestOp::DeleteRange(_) => {}
                RequestOp::Put(put) => self.check_put(put)?,
                RequestOp::Txn(nested) => self.check_txn(nested)?,
            }
        }
        Ok(())
    }

    /// Compares see the state before the request: `holds` looks at `current`.
    fn execute(&mut self, txn: &Txn) -> Result<Answer, Refused> {
        let (succeeded, ops) = self.taken(txn);
        let mut answers = Vec::new();
        for op in ops {
            answers.push(match op {
                RequestOp::Range(range) => self.range(range),
                RequestOp::Put(put) => self.put(put)?,
                RequestOp::DeleteRange(delete) => self.delete(delete),
                RequestOp::Txn(nested) => self.execute(nested)?,
            });
        }
        Ok(Answer::Txn {
            revision: 0,
            succeeded,
            answers,
        })
    }
}
