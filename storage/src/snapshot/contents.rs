//! What the small buckets of etcd's file hold, byte for byte as etcd 3.7
//! writes it (contract 1.14, docs/format.md).

use std::fmt::Write as _;

use bytes::Bytes;

use super::record_key::RecordKey;
use super::tree::Bucket;
use crate::types::{LeaseId, LogIndex, MemberId, Revision, Term};

/// The storage version of the files we write.
const STORAGE_VERSION: &[u8] = b"3.7.0";

/// Everything of an etcd file besides the records. Lists need not be sorted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Contents {
    /// The applied index; 0 is left out, as etcd does.
    pub consistent_index: LogIndex,
    /// The term of that entry; 0 is left out.
    pub term: Term,
    /// Voters and learners.
    pub conf_state: ConfState,
    /// The revision of the last compaction asked for, if any.
    pub scheduled_compaction: Option<i64>,
    /// The revision of the last compaction whose records are all gone. An etcd
    /// that starts with it below the scheduled one compacts again.
    pub finished_compaction: Option<i64>,
    /// Leases.
    pub leases: Vec<LeaseEntry>,
    /// Active alarms.
    pub alarms: Vec<AlarmEntry>,
    /// `3.7.0`; empty before the cluster has decided.
    pub cluster_version: String,
    /// The downgrade job, if one was ever set.
    pub downgrade: Option<Downgrade>,
    /// Members.
    pub members: Vec<MemberEntry>,
    /// Members that were removed; their identities are never used again.
    pub members_removed: Vec<MemberId>,
    /// None until authentication was first switched on or off.
    pub auth_enabled: Option<bool>,
    /// Starts at 1; 0 is left out.
    pub auth_revision: u64,
    /// User name to encoded `authpb.User`.
    pub auth_users: Vec<(Bytes, Bytes)>,
    /// Role name to encoded `authpb.Role`.
    pub auth_roles: Vec<(Bytes, Bytes)>,
}

/// Raft membership.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ConfState {
    /// Voters of the incoming configuration.
    pub voters: Vec<MemberId>,
    /// Learners.
    pub learners: Vec<MemberId>,
    /// Voters of the outgoing configuration while the membership is joint.
    pub voters_outgoing: Vec<MemberId>,
    /// Voters that become learners when the joint state is left.
    pub learners_next: Vec<MemberId>,
    /// The joint state is left by itself.
    pub auto_leave: bool,
}

/// One lease.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LeaseEntry {
    /// Its identity.
    pub id: LeaseId,
    /// Granted seconds.
    pub ttl: i64,
    /// Checkpointed remaining seconds; 0 when there is no checkpoint.
    pub remaining_ttl: i64,
}

/// One alarm.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AlarmEntry {
    /// The member that raised it.
    pub member: MemberId,
    /// `AlarmType`: 1 NOSPACE, 2 CORRUPT.
    pub alarm: u32,
}

/// The downgrade job.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Downgrade {
    /// `3.6.0`; empty when cancelled.
    pub target_version: String,
    /// The job runs.
    pub enabled: bool,
}

/// One member.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MemberEntry {
    /// Its identity.
    pub id: MemberId,
    /// Peer URLs.
    pub peer_urls: Vec<String>,
    /// A learner does not vote.
    pub is_learner: bool,
    /// Empty until it has started.
    pub name: String,
    /// Empty until it has started.
    pub client_urls: Vec<String>,
}

impl Contents {
    /// The nine buckets besides `key`, empty ones included.
    #[must_use]
    pub fn buckets(&self) -> Vec<Bucket> {
        let bucket = |name, mut pairs: Vec<(Bytes, Bytes)>| {
            pairs.sort();
            Bucket { name, pairs }
        };
        let members = self.members.iter().map(|m| (hex(m.id), member_json(m)));
        let removed = self.members_removed.iter();
        let removed = removed.map(|id| (hex(*id), Bytes::from_static(b"removed")));
        let leases = self.leases.iter().map(|lease| {
            let key = lease.id.0.to_be_bytes().to_vec().into();
            (key, encode_lease(lease))
        });
        let alarms = self
            .alarms
            .iter()
            .map(|alarm| (encode_alarm(*alarm), Bytes::new()));
        vec![
            bucket("alarm", alarms.collect()),
            bucket("auth", self.auth()),
            bucket("authRoles", self.auth_roles.clone()),
            bucket("authUsers", self.auth_users.clone()),
            bucket("cluster", self.cluster()),
            bucket("lease", leases.collect()),
            bucket("members", members.collect()),
            bucket("members_removed", removed.collect()),
            bucket("meta", self.meta()),
        ]
    }

    fn meta(&self) -> Vec<(Bytes, Bytes)> {
        let mut pairs = vec![
            pair("confState", self.conf_state.json().into_bytes()),
            pair("storageVersion", STORAGE_VERSION.to_vec()),
        ];
        if self.consistent_index.0 > 0 {
            pairs.push(pair(
                "consistent_index",
                self.consistent_index.0.to_be_bytes().to_vec(),
            ));
        }
        if self.term.0 > 0 {
            pairs.push(pair("term", self.term.0.to_be_bytes().to_vec()));
        }
        let compactions = [
            ("scheduledCompactRev", self.scheduled_compaction),
            ("finishedCompactRev", self.finished_compaction),
        ];
        for (name, revision) in compactions {
            if let Some(main) = revision {
                assert!(main >= 0, "a compacted revision is not negative");
                let mut value = Vec::new();
                RecordKey::new(Revision::new(main, 0), false).encode(&mut value);
                pairs.push(pair(name, value));
            }
        }
        pairs
    }

    fn cluster(&self) -> Vec<(Bytes, Bytes)> {
        let mut pairs = Vec::new();
        if !self.cluster_version.is_empty() {
            pairs.push(pair(
                "clusterVersion",
                self.cluster_version.clone().into_bytes(),
            ));
        }
        if let Some(job) = &self.downgrade {
            let mut json = String::from("{\"target-version\":");
            put_string(&mut json, &job.target_version);
            put(&mut json, format_args!(",\"enabled\":{}}}", job.enabled));
            pairs.push(pair("downgrade", json.into_bytes()));
        }
        pairs
    }

    fn auth(&self) -> Vec<(Bytes, Bytes)> {
        let mut pairs = Vec::new();
        if let Some(enabled) = self.auth_enabled {
            pairs.push(pair("authEnabled", vec![u8::from(enabled)]));
        }
        if self.auth_revision > 0 {
            pairs.push(pair(
                "authRevision",
                self.auth_revision.to_be_bytes().to_vec(),
            ));
        }
        pairs
    }
}

impl ConfState {
    /// As Go's encoding/json writes `raftpb.ConfState`: empty lists left out,
    /// `auto_leave` always there.
    fn json(&self) -> String {
        let lists = [
            ("voters", &self.voters),
            ("learners", &self.learners),
            ("voters_outgoing", &self.voters_outgoing),
            ("learners_next", &self.learners_next),
        ];
        let mut json = String::from("{");
        for (name, ids) in lists {
            if !ids.is_empty() {
                let ids: Vec<String> = ids.iter().map(|id| id.0.to_string()).collect();
                put(&mut json, format_args!("\"{name}\":[{}],", ids.join(",")));
            }
        }
        put(
            &mut json,
            format_args!("\"auto_leave\":{}}}", self.auto_leave),
        );
        json
    }
}

fn pair(key: &'static str, value: Vec<u8>) -> (Bytes, Bytes) {
    (Bytes::from_static(key.as_bytes()), value.into())
}

/// Lowercase, without leading zeros.
fn hex(id: MemberId) -> Bytes {
    format!("{:x}", id.0).into()
}

fn member_json(member: &MemberEntry) -> Bytes {
    let mut json = String::new();
    put(
        &mut json,
        format_args!("{{\"id\":{},\"peerURLs\":", member.id.0),
    );
    put_strings(&mut json, &member.peer_urls);
    if member.is_learner {
        json.push_str(",\"isLearner\":true");
    }
    if !member.name.is_empty() {
        json.push_str(",\"name\":");
        put_string(&mut json, &member.name);
    }
    if !member.client_urls.is_empty() {
        json.push_str(",\"clientURLs\":");
        put_strings(&mut json, &member.client_urls);
    }
    json.push('}');
    json.into()
}

fn put(out: &mut String, text: std::fmt::Arguments<'_>) {
    out.write_fmt(text)
        .expect("writing to a string cannot fail");
}

fn put_strings(out: &mut String, values: &[String]) {
    out.push('[');
    for (position, value) in values.iter().enumerate() {
        if position > 0 {
            out.push(',');
        }
        put_string(out, value);
    }
    out.push(']');
}

/// A JSON string as Go escapes it: also `<`, `>`, `&` and the two line
/// separators, so that the bytes equal etcd's.
fn put_string(out: &mut String, value: &str) {
    out.push('"');
    for letter in value.chars() {
        match letter {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\u{8}' => out.push_str("\\b"),
            '\u{c}' => out.push_str("\\f"),
            '<' | '>' | '&' | '\u{2028}' | '\u{2029}' | '\0'..='\u{1f}' => {
                put(out, format_args!("\\u{:04x}", u32::from(letter)));
            }
            other => out.push(other),
        }
    }
    out.push('"');
}

fn encode_lease(lease: &LeaseEntry) -> Bytes {
    let mut out = Vec::new();
    put_field(&mut out, 1, lease.id.0.cast_unsigned());
    put_field(&mut out, 2, lease.ttl.cast_unsigned());
    put_field(&mut out, 3, lease.remaining_ttl.cast_unsigned());
    out.into()
}

fn encode_alarm(alarm: AlarmEntry) -> Bytes {
    let mut out = Vec::new();
    put_field(&mut out, 1, alarm.member.0);
    put_field(&mut out, 2, u64::from(alarm.alarm));
    out.into()
}

/// A protobuf integer field; zero is left out.
fn put_field(out: &mut Vec<u8>, number: u8, mut value: u64) {
    if value == 0 {
        return;
    }
    out.push(number << 3);
    loop {
        let low = u8::try_from(value & 0x7f).expect("seven bits fit a byte");
        value >>= 7;
        if value == 0 {
            out.push(low);
            return;
        }
        out.push(low | 0x80);
    }
}
