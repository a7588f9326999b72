//! The requests, drawn from the seed: kube-shaped guarded transactions, plain
//! writes, pairs of keys that are written together, leases, compactions.

use bytes::Bytes;
use storage::apply::command::{
    Alarm, Command, Compare, CompareTarget, DeleteRange, KeyRange, Put, Range, RequestOp, Txn,
};
use storage::types::{LeaseId, MemberId};
use storage::vfs::sim::SplitMix64;

use crate::answer::Answer;
use crate::history::atomic::PAIR_PREFIX;
use crate::model::Model;
use crate::settings::Settings;

const PAIRS: u64 = 3;
const LEASES: u64 = 4;

pub struct Clients<'a> {
    pub random: &'a mut SplitMix64,
    pub settings: &'a Settings,
    pub model: &'a Model,
}

impl Clients<'_> {
    pub fn write(&mut self) -> Command {
        let (_, _, alarms) = self.model.state();
        if !alarms.is_empty() && self.random.chance(1, 3) {
            return self.alarm(false);
        }
        match self.random.below(100) {
            0..20 => Command::Txn(self.guarded(true)),
            20..30 => Command::Txn(self.guarded(false)),
            30..55 => Command::Put(self.put()),
            55..62 => Command::DeleteRange(self.delete()),
            62..76 => Command::Txn(self.pair()),
            76..84 => Command::LeaseGrant {
                lease: self.lease(),
                ttl_seconds: 1 + i64::try_from(self.random.below(20)).unwrap(),
            },
            84..87 => Command::LeaseRevoke {
                lease: self.lease(),
            },
            87..98 => Command::Compact {
                revision: self.revision(),
            },
            _ => self.alarm(true),
        }
    }

    /// Raised as the memory guard raises it, disarmed as an administrator does.
    fn alarm(&self, activate: bool) -> Command {
        Command::Alarm {
            activate,
            member: MemberId(7),
            alarm: Alarm::NoSpace,
        }
    }

    /// What kube-apiserver sends: if the key is as last seen, put or delete it,
    /// else read it.
    fn guarded(&mut self, put: bool) -> Txn {
        let key = self.key();
        let seen = match self.random.below(4) {
            0 => 0,
            1 => i64::try_from(self.random.below(20)).unwrap(),
            _ => self.mod_revision(&key),
        };
        let range = KeyRange {
            key: key.clone(),
            range_end: Bytes::new(),
        };
        let change = if put {
            RequestOp::Put(Put {
                key,
                value: self.value(),
                lease: self.lease_or_none(),
                ..Put::default()
            })
        } else {
            RequestOp::DeleteRange(DeleteRange {
                range: range.clone(),
                prev_kv: self.random.chance(1, 2),
            })
        };
        Txn {
            compare: vec![Compare {
                result: 0,
                target: CompareTarget::Mod(seen),
                range: range.clone(),
            }],
            success: vec![change],
            failure: vec![RequestOp::Range(Range {
                range,
                ..Range::default()
            })],
        }
    }

    /// Both keys of a pair get one value, or both go.
    fn pair(&mut self) -> Txn {
        let pair = [
            PAIR_PREFIX,
            self.random.below(PAIRS).to_string().as_bytes(),
            b"/",
        ]
        .concat();
        let key = |name: &[u8]| Bytes::from([&pair, name].concat());
        if self.random.chance(1, 5) {
            let range = KeyRange {
                key: key(b"a"),
                range_end: key(b"c"),
            };
            let delete = DeleteRange {
                range,
                prev_kv: false,
            };
            let plain = self.plain_put();
            return Txn {
                compare: Vec::new(),
                success: vec![RequestOp::DeleteRange(delete), RequestOp::Put(plain)],
                failure: Vec::new(),
            };
        }
        let value = self.value();
        let put = |name: &[u8]| {
            RequestOp::Put(Put {
                key: key(name),
                value: value.clone(),
                ..Put::default()
            })
        };
        Txn {
            compare: Vec::new(),
            success: vec![put(b"a"), put(b"b")],
            failure: Vec::new(),
        }
    }

    fn plain_put(&mut self) -> Put {
        Put {
            key: self.key(),
            value: self.value(),
            ..Put::default()
        }
    }

    fn put(&mut self) -> Put {
        let ignore_value = self.random.chance(1, 5);
        let ignore_lease = self.random.chance(1, 10);
        Put {
            key: self.key(),
            value: if ignore_value {
                Bytes::new()
            } else {
                self.value()
            },
            lease: if ignore_lease {
                LeaseId::NONE
            } else {
                self.lease_or_none()
            },
            prev_kv: self.random.chance(1, 2),
            ignore_value,
            ignore_lease,
        }
    }

    fn delete(&mut self) -> DeleteRange {
        let key = self.key();
        let range_end = match self.random.below(4) {
            0 => self.key(),
            _ => Bytes::new(),
        };
        DeleteRange {
            range: KeyRange { key, range_end },
            prev_kv: self.random.chance(1, 2),
        }
    }

    /// A read now or at an older revision.
    pub fn range(&mut self) -> Range {
        let key = self.key();
        let range_end = match self.random.below(3) {
            0 => Bytes::new(),
            1 => self.key(),
            _ => Bytes::from_static(b"\0"),
        };
        let revision = match self.random.below(3) {
            0 => 0,
            _ => self.revision(),
        };
        Range {
            range: KeyRange { key, range_end },
            revision,
            limit: i64::try_from(self.random.below(4)).unwrap(),
            keys_only: self.random.chance(1, 6),
            count_only: self.random.chance(1, 6),
            ..Range::default()
        }
    }

    /// Mostly a recent one; rarely compacted or in the future.
    pub fn revision(&mut self) -> i64 {
        let (current, compacted, _) = self.model.state();
        let oldest = compacted.max(1) - 1;
        let span = u64::try_from(current + 2 - oldest).unwrap();
        oldest + i64::try_from(self.random.below(span)).unwrap()
    }

    fn mod_revision(&self, key: &Bytes) -> i64 {
        let range = Range {
            range: KeyRange {
                key: key.clone(),
                range_end: Bytes::new(),
            },
            ..Range::default()
        };
        match self.model.stand_alone_range(&range) {
            Answer::Range { key_values, .. } => key_values.first().map_or(0, |kv| kv.modified),
            _ => 0,
        }
    }

    fn key(&mut self) -> Bytes {
        Bytes::from(format!(
            "/registry/{:02}",
            self.random.below(self.settings.keys)
        ))
    }

    fn value(&mut self) -> Bytes {
        let length = match self.random.below(5) {
            0 => 0,
            _ => self.random.below(self.settings.value_bytes_max),
        };
        let mut bytes = self.random.next_u64();
        let value: Vec<u8> = (0..length)
            .map(|_| {
                bytes = bytes.rotate_left(7).wrapping_mul(0x9E37_79B9_7F4A_7C15);
                (bytes >> 56) as u8
            })
            .collect();
        Bytes::from(value)
    }

    pub fn lease(&mut self) -> LeaseId {
        LeaseId(1 + i64::try_from(self.random.below(LEASES)).unwrap())
    }

    fn lease_or_none(&mut self) -> LeaseId {
        if self.random.chance(1, 4) {
            self.lease()
        } else {
            LeaseId::NONE
        }
    }
}
