//! Intervals of keys, built from a request's `key` and `range_end` by etcd's
//! rules (contract 1.5).

use bytes::Bytes;

use crate::types::Key;

/// A half-open interval of keys.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bounds {
    start: Bytes,
    end: End,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum End {
    /// The start key alone.
    Single,
    /// Every key from the start on.
    Unbounded,
    /// Keys below this one; an end at or below the start holds nothing.
    Before(Bytes),
}

impl Bounds {
    /// The interval that a request means: an empty `range_end` is the single
    /// key, one zero byte is "from `key` on", an end at or below `key` is empty.
    #[must_use]
    pub fn of_request(key: &Bytes, range_end: &Bytes) -> Self {
        let end = match range_end.as_ref() {
            [] => End::Single,
            [0] => End::Unbounded,
            _ => End::Before(range_end.clone()),
        };
        Bounds {
            start: key.clone(),
            end,
        }
    }

    /// One key.
    #[must_use]
    pub fn single(key: &[u8]) -> Self {
        Bounds {
            start: Bytes::copy_from_slice(key),
            end: End::Single,
        }
    }

    /// Every key.
    #[must_use]
    pub fn everything() -> Self {
        Bounds {
            start: Bytes::new(),
            end: End::Unbounded,
        }
    }

    /// The rest of this interval from `key` on: how a slice goes on where the
    /// last one stopped.
    #[must_use]
    pub fn resume_at(&self, key: &Key) -> Self {
        debug_assert!(self.contains(key), "a slice goes on inside its interval");
        Bounds {
            start: Bytes::copy_from_slice(key),
            end: self.end.clone(),
        }
    }

    /// The first key that can be inside.
    #[must_use]
    pub fn start(&self) -> &[u8] {
        &self.start
    }

    /// The key, when the interval is a single one.
    #[must_use]
    pub fn as_single(&self) -> Option<&[u8]> {
        matches!(self.end, End::Single).then_some(self.start.as_ref())
    }

    /// The first key that is outside, when the interval ends before one.
    pub(super) fn end_before(&self) -> Option<&[u8]> {
        match &self.end {
            End::Before(end) => Some(end),
            End::Single | End::Unbounded => None,
        }
    }

    /// True when the key lies inside.
    #[must_use]
    pub fn contains(&self, key: &[u8]) -> bool {
        key >= self.start.as_ref() && !self.is_past(key)
    }

    /// True when the key lies behind the end; the scan that meets it is done.
    pub(super) fn is_past(&self, key: &[u8]) -> bool {
        match &self.end {
            End::Single => key > self.start.as_ref(),
            End::Unbounded => false,
            End::Before(end) => key >= end.as_ref(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bounds(key: &[u8], range_end: &[u8]) -> Bounds {
        Bounds::of_request(
            &Bytes::copy_from_slice(key),
            &Bytes::copy_from_slice(range_end),
        )
    }

    #[test]
    fn empty_range_end_is_the_single_key() {
        let single = bounds(b"b", b"");
        assert!(single.contains(b"b"));
        assert!(!single.contains(b"b\0") && !single.contains(b"a"));
        assert_eq!(single.as_single(), Some(b"b".as_ref()));
        assert_eq!(single, Bounds::single(b"b"));
    }

    #[test]
    fn one_zero_byte_is_everything_from_the_key_on() {
        let rest = bounds(b"b", b"\0");
        assert!(rest.contains(b"b") && rest.contains(b"\xff\xff"));
        assert!(!rest.contains(b"a"));
        assert!(bounds(b"\0", b"\0").contains(b"\0"));
        assert!(Bounds::everything().contains(b"\0"));
    }

    #[test]
    fn an_end_at_or_below_the_start_holds_nothing() {
        for empty in [
            bounds(b"b", b"b"),
            bounds(b"b", b"a"),
            bounds(b"b", b"\0\0"),
        ] {
            for key in [b"a".as_ref(), b"b", b"c", b"\0\0"] {
                assert!(!empty.contains(key), "{empty:?} {key:?}");
            }
        }
    }

    #[test]
    fn resuming_keeps_the_end() {
        let rest = bounds(b"a", b"d").resume_at(&Key::from(b"c".as_ref()));
        assert!(rest.contains(b"c") && !rest.contains(b"b") && !rest.contains(b"d"));
    }
}
