//! The multi-version store: keys, revisions, generations, compaction.
