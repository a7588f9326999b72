//! The lives of leases as their clients saw them: none ends before its time to live has passed
//! since the grant or the last successful keep-alive was asked for, unless somebody revoked
//! it; none is renewed or used after its end.

use std::collections::BTreeMap;
use std::time::Duration;

use storage::apply::command::Command;

use crate::answer::Answer;

use super::Verdict;
use super::record::{Answered, Call, History, Request};

/// A lease that ended by itself: where a watch saw its keys go, and when.
#[derive(Clone, Debug)]
pub struct EndedLease {
    pub lease: i64,
    pub at: Duration,
    pub revision: i64,
}

#[derive(Clone, Debug)]
pub struct Life {
    pub ttl_seconds: i64,
    pub granted: bool,
    pub not_before: Duration,
    pub revoke_invoked: Option<Duration>,
    pub revoke_answered: Option<Duration>,
    pub ended: Option<EndedLease>,
}

/// Every lease, over all lives of the member.
#[derive(Clone, Debug, Default)]
pub struct Lives(pub BTreeMap<i64, Life>);

fn seconds(ttl: i64) -> Duration {
    Duration::from_secs(u64::try_from(ttl).unwrap_or(0))
}

impl Lives {
    /// Judges one stretch.
    pub fn check(&mut self, history: &History, ended: &[EndedLease]) -> Verdict {
        let mut calls: Vec<&Call> = history.calls.iter().collect();
        calls.sort_by_key(|call| call.invoked);
        for call in &calls {
            self.note(call);
        }
        for ended in ended {
            let life = self.0.get_mut(&ended.lease);
            let life = life.ok_or_else(|| format!("an unknown lease ends: {ended:?}"))?;
            if life.revoke_invoked.is_none() && ended.at < life.not_before {
                return Err(format!("a lease ends early: {ended:?}, {life:?}"));
            }
            life.ended = Some(ended.clone());
        }
        calls.into_iter().try_for_each(|call| self.one(call))
    }

    fn note(&mut self, call: &Call) {
        match (&call.request, &call.answered) {
            (Request::Write(Command::LeaseGrant { lease, ttl_seconds }), answered) => {
                let life = Life {
                    ttl_seconds: *ttl_seconds,
                    granted: answered
                        .as_ref()
                        .is_some_and(|answered| !matches!(answered.answer, Answer::Refused(_))),
                    not_before: call.invoked + seconds(*ttl_seconds),
                    revoke_invoked: None,
                    revoke_answered: None,
                    ended: None,
                };
                self.0.insert(lease.0, life);
            }
            (Request::Write(Command::LeaseRevoke { lease }), answered) => {
                if let Some(life) = self.0.get_mut(&lease.0) {
                    life.revoke_invoked.get_or_insert(call.invoked);
                    if answered.as_ref().is_some_and(|a| a.revision > 0) {
                        life.revoke_answered = answered.as_ref().map(|a| a.at);
                    }
                }
            }
            (Request::KeepAlive(lease), Some(answered)) if renewed(answered) => {
                if let Some(life) = self.0.get_mut(lease) {
                    let lives = call.invoked + seconds(life.ttl_seconds);
                    life.not_before = life.not_before.max(lives);
                }
            }
            _ => {}
        }
    }

    fn one(&self, call: &Call) -> Verdict {
        let Some(answered) = &call.answered else {
            return Ok(());
        };
        let lease = match &call.request {
            Request::KeepAlive(lease) => *lease,
            Request::Write(Command::Put(put)) if put.lease.0 != 0 => put.lease.0,
            Request::Write(Command::LeaseRevoke { lease }) => lease.0,
            _ => return Ok(()),
        };
        let Some(life) = self.0.get(&lease) else {
            return Err(format!("nobody granted the lease of {call:?}"));
        };
        if matches!(call.request, Request::KeepAlive(_)) && renewed(answered) {
            let gone = life.revoke_answered.is_some_and(|at| at < call.invoked);
            let over = life
                .ended
                .as_ref()
                .is_some_and(|ended| ended.at < call.invoked);
            let ttl = matches!(answered.answer,
                Answer::Grant { ttl, .. } if ttl == life.ttl_seconds);
            if gone || over || !ttl {
                return Err(format!(
                    "renewed after its end, or wrongly: {call:?}, {life:?}"
                ));
            }
        }
        let not_found = matches!(answered.answer, Answer::Refused("LeaseNotFound"))
            || matches!(answered.answer, Answer::Grant { ttl, .. } if ttl <= 0);
        let revoked = life.revoke_invoked.is_some_and(|at| at <= answered.at);
        if not_found && life.granted && !revoked && answered.at < life.not_before {
            return Err(format!("a lease is gone early: {call:?}, {life:?}"));
        }
        Ok(())
    }
}

fn renewed(answered: &Answered) -> bool {
    matches!(answered.answer, Answer::Grant { ttl, .. } if ttl > 0)
}
