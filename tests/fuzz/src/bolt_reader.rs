//! The reader of bolt files: bytes as they are, and a snapshot of etcd 3.7.3 with edits.
//! A walk ends, its keys rise, and what is wrong is an error within the file.

use bytes::Bytes;
use storage::snapshot::{BoltFile, ReadError, RecordKey, check_trailer};

use crate::source::Source;

const ETCD_SNAPSHOT: &[u8] =
    include_bytes!("../../../storage/src/snapshot/testdata/etcd-3.7.3.snapshot");
const PAGE_HEADER_BYTES: usize = 16;
/// Bytes of a meta before its checksum.
const META_SUM_AT: usize = 56;

pub fn check(data: &[u8]) -> bool {
    let mut source = Source::new(data);
    let bytes = if source.byte().is_multiple_of(8) {
        source.rest().to_vec()
    } else {
        let mut bytes = ETCD_SNAPSHOT.to_vec();
        source.edit(&mut bytes);
        for page in [0, 4096] {
            seal_meta(&mut bytes, page);
        }
        bytes
    };
    let file = Bytes::from(bytes);
    if let Err(error) = check_trailer(&file) {
        within(&error, &file);
    }
    match walk(&file) {
        Ok(()) => true,
        Err(error) => {
            within(&error, &file);
            false
        }
    }
}

fn walk(file: &Bytes) -> Result<(), ReadError> {
    let bolt = BoltFile::open(file.clone())?;
    for name in bolt.buckets()? {
        let pairs = bolt.pairs(&name)?.expect("a listed bucket is found");
        let mut last: Option<Bytes> = None;
        for pair in pairs {
            let (key, _) = pair?;
            assert!(last.as_ref().is_none_or(|last| *last < key), "keys rise");
            if let Some(record) = RecordKey::decode(&key) {
                let mut again = Vec::new();
                record.encode(&mut again);
                assert_eq!(key, again);
            }
            last = Some(key);
        }
    }
    Ok(())
}

fn within(error: &ReadError, file: &Bytes) {
    match error {
        ReadError::Corrupt { detail, .. } => assert!(!detail.is_empty()),
        ReadError::Io(source) => {
            let end = source.kind() == std::io::ErrorKind::UnexpectedEof;
            assert!(end, "{source} in a file of {} bytes", file.len());
        }
    }
}

/// Gives a meta page the checksum that belongs to it (FNV-1a, 64 bits).
fn seal_meta(bytes: &mut [u8], page: usize) {
    let start = page + PAGE_HEADER_BYTES;
    let Some(meta) = bytes.get_mut(start..start + META_SUM_AT + 8) else {
        return;
    };
    let mut sum = 0xcbf2_9ce4_8422_2325_u64;
    for byte in &meta[..META_SUM_AT] {
        sum = (sum ^ u64::from(*byte)).wrapping_mul(0x100_0000_01b3);
    }
    meta[META_SUM_AT..].copy_from_slice(&sum.to_le_bytes());
}
