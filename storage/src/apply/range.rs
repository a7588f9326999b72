//! How a read is answered: what to fetch, filter, sort and cut (contract 1.5).
//!
//! Pure functions. [`Plan`] is all that a server needs that collects key-values
//! slice by slice; the state machine itself uses the same plan for reads inside
//! transactions. Limits: the request's own; sorting needs all that it sorts.

use std::cmp::{Ordering, Reverse};

use super::command::{Range, SortOrder, SortTarget};
use super::outcome::Projection;
use crate::mvcc::key_value::Fields;
use crate::types::KeyValueRef;

/// What a [`Range`] asks for, with etcd's quirks resolved.
///
/// A caller fetches in key order, at most [`fetch_limit`](Plan::fetch_limit)
/// key-values, and drops what [`keeps`](Plan::keeps) does not hold. When
/// [`in_key_order`](Plan::in_key_order), the first [`limit`](Plan::limit) kept
/// ones are the answer and one more means `more`, so slices can go out as they
/// come. Else [`arrange`](Plan::arrange) needs the whole.
#[derive(Clone, Debug)]
pub struct Plan {
    limit: Option<usize>,
    fetch_limit: Option<usize>,
    filter: RevisionFilter,
    order: Option<Order>,
    projection: Projection,
    count_only: bool,
}

#[derive(Clone, Copy, Debug)]
struct Order {
    target: SortTarget,
    descending: bool,
}

/// Inclusive bounds; 0 is off, any other number (negative ones too) is on.
#[derive(Clone, Copy, Debug)]
struct RevisionFilter {
    min_mod: i64,
    max_mod: i64,
    min_create: i64,
    max_create: i64,
}

impl Plan {
    /// The plan for `range`.
    #[must_use]
    pub fn new(range: &Range) -> Plan {
        let filter = RevisionFilter {
            min_mod: range.min_mod_revision,
            max_mod: range.max_mod_revision,
            min_create: range.min_create_revision,
            max_create: range.max_create_revision,
        };
        let limit = usize::try_from(range.limit).ok().filter(|limit| *limit > 0);
        let by_key = range.sort_target == SortTarget::Key;
        // Quirk: whether the limit shortcut is taken depends on the order as
        // asked for, whether it is sorted on the order as amended: "no order"
        // by version fetches limit + 1 in key order and sorts only those.
        let default_order = match range.sort_order {
            SortOrder::None => true,
            SortOrder::Ascend => by_key,
            SortOrder::Descend => false,
        };
        let fetch_limit = limit
            .filter(|_| default_order && !filter.is_on())
            .map(|limit| limit.saturating_add(1));
        let order = match range.sort_order {
            SortOrder::None | SortOrder::Ascend if by_key => None,
            SortOrder::None | SortOrder::Ascend => Some(Order {
                target: range.sort_target,
                descending: false,
            }),
            SortOrder::Descend => Some(Order {
                target: range.sort_target,
                descending: true,
            }),
        };
        // etcd answers keys_only from its index, which knows neither value nor
        // lease, unless it must sort by value (whatever the sort order).
        let projection = match (range.keys_only, range.sort_target) {
            (false, _) => Projection::Whole,
            (true, SortTarget::Value) => Projection::WithoutValue,
            (true, _) => Projection::WithoutValueAndLease,
        };
        Plan {
            limit,
            fetch_limit,
            filter,
            order,
            projection,
            count_only: range.count_only,
        }
    }

    /// Most key-values to answer with; None is no limit.
    #[must_use]
    pub fn limit(&self) -> Option<usize> {
        self.limit
    }

    /// Most key-values that have to be fetched, in key order; None is all.
    #[must_use]
    pub fn fetch_limit(&self) -> Option<usize> {
        self.fetch_limit
    }

    /// True when nothing is sorted: slices can go out as they come.
    #[must_use]
    pub fn in_key_order(&self) -> bool {
        self.order.is_none()
    }

    /// True when the answer is the count alone.
    #[must_use]
    pub fn count_only(&self) -> bool {
        self.count_only
    }

    /// True when the values are looked at, so that [`arrange`](Plan::arrange)
    /// needs them resident.
    #[must_use]
    pub fn sorts_by_value(&self) -> bool {
        let by_value = |order: Order| order.target == SortTarget::Value;
        !self.count_only && self.order.is_some_and(by_value)
    }

    /// True when a revision filter is on, so that what is kept can be less than
    /// what was fetched.
    #[must_use]
    pub fn is_filtered(&self) -> bool {
        self.filter.is_on()
    }

    /// What of each key-value goes out.
    #[must_use]
    pub fn projection(&self) -> Projection {
        self.projection
    }

    /// True when the revision filters let a key-value through.
    #[must_use]
    pub fn keeps(&self, key_value: &KeyValueRef) -> bool {
        !self.filter.is_on() || self.filter.keeps(&key_value.fields())
    }

    /// Filters, sorts and cuts all that was fetched, in key order; also tells
    /// whether the limit cut something off. Equal ones stay in key order.
    ///
    /// # Panics
    /// When values are to be compared and one is not resident
    /// ([`sorts_by_value`](Plan::sorts_by_value)).
    #[must_use]
    pub fn arrange(&self, mut fetched: Vec<KeyValueRef>) -> (Vec<KeyValueRef>, bool) {
        if self.filter.is_on() {
            fetched.retain(|key_value| self.keeps(key_value));
        }
        if let Some(order) = self.order {
            order.sort(&mut fetched);
        }
        let more = self.limit.is_some_and(|limit| fetched.len() > limit);
        if let Some(limit) = self.limit {
            fetched.truncate(limit);
        }
        (fetched, more)
    }
}

impl RevisionFilter {
    fn is_on(self) -> bool {
        [self.min_mod, self.max_mod, self.min_create, self.max_create] != [0; 4]
    }

    fn keeps(self, fields: &Fields<'_>) -> bool {
        let (modified, created) = (fields.mod_revision, fields.create_revision);
        (self.max_mod == 0 || modified <= self.max_mod)
            && (self.min_mod == 0 || modified >= self.min_mod)
            && (self.max_create == 0 || created <= self.max_create)
            && (self.min_create == 0 || created >= self.min_create)
    }
}

impl Order {
    /// Stable, so that equal ones keep the order of their keys, descending too.
    fn sort(self, key_values: &mut [KeyValueRef]) {
        match self.target {
            SortTarget::Key => self.sort_by(key_values, |a, b| a.key().cmp(b.key())),
            SortTarget::Version => self.sort_by_number(key_values, |fields| fields.version),
            SortTarget::Create => self.sort_by_number(key_values, |fields| fields.create_revision),
            SortTarget::Mod => self.sort_by_number(key_values, |fields| fields.mod_revision),
            SortTarget::Value => {
                self.sort_by(key_values, |a, b| resident_value(a).cmp(resident_value(b)))
            }
        }
    }

    fn sort_by(
        self,
        key_values: &mut [KeyValueRef],
        compare: impl Fn(&KeyValueRef, &KeyValueRef) -> Ordering,
    ) {
        if self.descending {
            key_values.sort_by(|a, b| compare(b, a));
        } else {
            key_values.sort_by(compare);
        }
    }

    fn sort_by_number(self, key_values: &mut [KeyValueRef], number: impl Fn(&Fields<'_>) -> i64) {
        if self.descending {
            key_values.sort_by_cached_key(|key_value| Reverse(number(&key_value.fields())));
        } else {
            key_values.sort_by_cached_key(|key_value| number(&key_value.fields()));
        }
    }
}

/// The value of what is resident.
///
/// # Panics
/// When it is not: the caller fetches what `needs` names before.
pub(super) fn resident_value(key_value: &KeyValueRef) -> &[u8] {
    match key_value {
        KeyValueRef::Resident(encoded) => encoded.value(),
        KeyValueRef::Stored(meta) => {
            assert_eq!(
                meta.place.length, 0,
                "the value at {:?} was to be fetched before it is looked at",
                meta.revision
            );
            &[]
        }
    }
}
