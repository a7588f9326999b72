//! Which changes a read sees: all up to a revision, or those of a request under way too, up to
//! where the read stands in it. Plain data.

use crate::types::Revision;

/// The state that a read sees. See the head of the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AsOf {
    /// The last change that is seen.
    last: Revision,
}

impl AsOf {
    /// After the first `changes` changes of the request that writes `main`; without any,
    /// this is the state before it.
    #[must_use]
    pub fn within(main: i64, changes: u32) -> AsOf {
        match changes.checked_sub(1) {
            Some(sub) => AsOf {
                last: Revision::new(main, sub),
            },
            None => AsOf::from(main - 1),
        }
    }

    /// The oldest revision that a pin must hold for this read: in the midst of a request a
    /// key's version may be the one before it.
    #[must_use]
    pub fn oldest(self) -> i64 {
        self.last.main - i64::from(!self.is_whole())
    }

    /// The main revision that is read, whole or in part.
    #[must_use]
    pub fn revision(self) -> i64 {
        self.last.main
    }

    /// True when it ends with a revision, not in the midst of one.
    #[must_use]
    pub fn is_whole(self) -> bool {
        self.last.sub == u32::MAX
    }

    /// True when a change of this revision is seen.
    pub(super) fn sees(self, revision: Revision) -> bool {
        revision <= self.last
    }
}

/// All of a main revision.
impl From<i64> for AsOf {
    fn from(revision: i64) -> AsOf {
        AsOf {
            last: Revision::new(revision, u32::MAX),
        }
    }
}
