//! The shape of bolt pages: constants, headers, meta pages, and the rendering
//! of leaf and branch pages. All numbers are little-endian, as bbolt writes
//! them on every machine that etcd supports.

/// Page size of every file we write, bytes.
pub(super) const PAGE_BYTES: usize = 4096;
/// Page header: number u64, kind u16, count u16, overflow u32.
pub(super) const PAGE_HEADER_BYTES: usize = 16;
/// An element of a leaf (flags, position, key and value length, u32 each) and
/// of a branch (position and key length u32, page u64) take the same room.
pub(super) const ELEMENT_BYTES: usize = 16;
/// A bucket's value starts so: root page u64 (0: inline), sequence u64.
pub(super) const BUCKET_HEADER_BYTES: usize = 16;
/// The meta record behind the page header; the last 8 are its checksum.
pub(super) const META_BYTES: usize = 64;

pub(super) const MAGIC: u32 = 0xED0C_DAED;
pub(super) const VERSION: u32 = 2;
pub(super) const KIND_BRANCH: u16 = 0x01;
pub(super) const KIND_LEAF: u16 = 0x02;
pub(super) const KIND_META: u16 = 0x04;
pub(super) const KIND_FREELIST: u16 = 0x10;
/// Leaf element flag: the value is a bucket.
pub(super) const ELEMENT_BUCKET: u32 = 0x01;

/// FNV-64a, the checksum of meta pages.
pub(super) fn fnv64a(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |sum, byte| {
        (sum ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3)
    })
}

/// Number of pages that `bytes` take.
pub(super) fn pages_of(bytes: u64) -> u64 {
    bytes.div_ceil(PAGE_BYTES as u64)
}

/// Appends a page header.
pub(super) fn put_header(out: &mut Vec<u8>, page: u64, kind: u16, count: usize, pages: u64) {
    assert!(pages >= 1, "a page is at least one page long");
    let count = u16::try_from(count).expect("packing bounds the elements of a page");
    let overflow = u32::try_from(pages - 1).expect("a page is bounded by one record of 4 GiB");
    out.extend_from_slice(&page.to_le_bytes());
    out.extend_from_slice(&kind.to_le_bytes());
    out.extend_from_slice(&count.to_le_bytes());
    out.extend_from_slice(&overflow.to_le_bytes());
}

/// Appends zeros up to the next page boundary, counted from `start`.
pub(super) fn pad(out: &mut Vec<u8>, start: usize) {
    let length = (out.len() - start).next_multiple_of(PAGE_BYTES);
    out.resize(start + length, 0);
}

/// The head of a file: both meta pages and an empty freelist page. Meta 0 has
/// the higher transaction number, so that bolt's next commit goes to meta 1.
pub(super) fn put_head(out: &mut Vec<u8>, root: u64, high_water: u64) {
    assert!(root < high_water, "the root lies inside the file");
    for (page, transaction) in [(0u64, 2u64), (1, 1)] {
        let start = out.len();
        put_header(out, page, KIND_META, 0, 1);
        let meta = out.len();
        for word in [MAGIC, VERSION, 4096, 0] {
            out.extend_from_slice(&word.to_le_bytes());
        }
        for long in [root, 0, FREELIST_PAGE, high_water, transaction] {
            out.extend_from_slice(&long.to_le_bytes());
        }
        let checksum = fnv64a(out.get(meta..).expect("the meta record was just written"));
        out.extend_from_slice(&checksum.to_le_bytes());
        pad(out, start);
    }
    let start = out.len();
    put_header(out, FREELIST_PAGE, KIND_FREELIST, 0, 1);
    pad(out, start);
}

/// The freelist page, always empty: a file without one costs every bolt that
/// opens it for writing a walk over all pages.
pub(super) const FREELIST_PAGE: u64 = 2;
/// The first page of the `key` bucket.
pub(super) const FIRST_DATA_PAGE: u64 = 3;

/// Collects the elements of one leaf, then renders it.
#[derive(Debug, Default)]
pub(super) struct LeafPage {
    /// Flags, key length, value length.
    elements: Vec<(u32, u32, u32)>,
    data: Vec<u8>,
}

impl LeafPage {
    pub(super) fn is_empty(&self) -> bool {
        self.elements.is_empty()
    }

    /// Length so far without padding, bytes.
    pub(super) fn bytes(&self) -> u64 {
        (PAGE_HEADER_BYTES + self.elements.len() * ELEMENT_BYTES + self.data.len()) as u64
    }

    /// Appends an element; `put_key` writes its key.
    pub(super) fn push(&mut self, flags: u32, put_key: impl FnOnce(&mut Vec<u8>), value: &[u8]) {
        let start = self.data.len();
        put_key(&mut self.data);
        let key = u32::try_from(self.data.len() - start).expect("keys are bounded by requests");
        let length = u32::try_from(value.len()).expect("values are bounded by requests");
        self.data.extend_from_slice(value);
        self.elements.push((flags, key, length));
    }

    /// Appends the page, unpadded, and empties the collection.
    pub(super) fn render(&mut self, out: &mut Vec<u8>, page: u64, pages: u64) {
        put_header(out, page, KIND_LEAF, self.elements.len(), pages);
        let mut position = self.elements.len() * ELEMENT_BYTES;
        for (flags, key, value) in self.elements.drain(..) {
            let relative = u32::try_from(position).expect("one page holds less than 4 GiB");
            for word in [flags, relative, key, value] {
                out.extend_from_slice(&word.to_le_bytes());
            }
            // Positions count from the element itself, and the next element starts 16 later.
            position = position + key as usize + value as usize - ELEMENT_BYTES;
        }
        out.append(&mut self.data);
        // One huge value must not hold its memory for the rest of the file.
        self.data.shrink_to(PAGE_BYTES);
    }
}

/// Appends a branch page, unpadded: children as (first key, page).
pub(super) fn put_branch(out: &mut Vec<u8>, page: u64, pages: u64, children: &[(Vec<u8>, u64)]) {
    put_header(out, page, KIND_BRANCH, children.len(), pages);
    let mut position = children.len() * ELEMENT_BYTES;
    for (key, child) in children {
        let relative = u32::try_from(position).expect("one page holds less than 4 GiB");
        let length = u32::try_from(key.len()).expect("keys are bounded by requests");
        out.extend_from_slice(&relative.to_le_bytes());
        out.extend_from_slice(&length.to_le_bytes());
        out.extend_from_slice(&child.to_le_bytes());
        position = position + key.len() - ELEMENT_BYTES;
    }
    for (key, _) in children {
        out.extend_from_slice(key);
    }
}
