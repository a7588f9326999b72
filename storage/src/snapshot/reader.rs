//! A read-only walk over a bolt file: etcd's own databases, saved snapshots,
//! and what [`super::Emitter`] wrote.
//!
//! Nothing in the file is trusted: every position is checked against the page,
//! every page against the file, a walk never reads more pages than the file
//! has (so a cycle ends) nor goes deeper than `limits::BOLT_DEPTH_MAX`, and
//! keys must rise. What is wrong is an error with its offset, never a panic.
//! Pages on the freelist are not looked at. Memory: one page per level.

use bytes::Bytes;

use super::page::{
    BUCKET_HEADER_BYTES, ELEMENT_BUCKET, ELEMENT_BYTES, KIND_BRANCH, KIND_LEAF, KIND_META, MAGIC,
    META_BYTES, PAGE_HEADER_BYTES, VERSION, fnv64a,
};
use super::source::{ReadAt, ReadError};
use crate::limits::{BOLT_DEPTH_MAX, BOLT_PAGE_BYTES_MAX};

/// Page sizes that bolt files come in, bytes.
const PAGE_SIZES: [u32; 8] = [512, 1024, 2048, 4096, 8192, 16384, 32768, 65536];

/// An open bolt file.
#[derive(Debug)]
pub struct BoltFile<S> {
    source: S,
    page_bytes: u64,
    root: u64,
    /// Pages below this one belong to the file.
    high_water: u64,
    length: u64,
}

#[derive(Clone, Copy)]
struct Meta {
    page_bytes: u64,
    root: u64,
    high_water: u64,
    transaction: u64,
}

impl<S: ReadAt> BoltFile<S> {
    /// Finds the newest meta page whose checksum holds.
    ///
    /// # Errors
    /// When neither does, or the source fails.
    pub fn open(source: S) -> Result<BoltFile<S>, ReadError> {
        let length = source.length()?;
        let first = read_meta(&source, length, 0)?;
        let newest = match first {
            Some(meta) => {
                let second = read_meta(&source, length, meta.page_bytes)?;
                let second = second.filter(|other| other.page_bytes == meta.page_bytes);
                match second {
                    Some(other) if other.transaction > meta.transaction => Some(other),
                    _ => first,
                }
            }
            None => {
                let mut found = None;
                for size in PAGE_SIZES {
                    let meta = read_meta(&source, length, u64::from(size))?;
                    found = found.or(meta.filter(|meta| meta.page_bytes == u64::from(size)));
                }
                found
            }
        };
        let meta = newest.ok_or_else(|| {
            ReadError::corrupt(
                0,
                "no valid meta page (not a bolt file, or both are damaged)",
            )
        })?;
        Ok(BoltFile {
            source,
            page_bytes: meta.page_bytes,
            root: meta.root,
            high_water: meta.high_water,
            length,
        })
    }

    /// Page size of the file, bytes.
    #[must_use]
    pub fn page_bytes(&self) -> u64 {
        self.page_bytes
    }

    /// Names of the buckets, in order.
    ///
    /// # Errors
    /// When the root cannot be walked.
    pub fn buckets(&self) -> Result<Vec<Bytes>, ReadError> {
        let mut walk = Walk::of_page(self, self.root)?;
        let mut names = Vec::new();
        while let Some(element) = walk.next_element()? {
            element.expect_bucket()?;
            names.push(element.key);
        }
        Ok(names)
    }

    /// The pairs of a bucket in key order; None when there is no such bucket.
    ///
    /// # Errors
    /// When the root cannot be walked or the bucket's first page is unsound.
    pub fn pairs(&self, name: &[u8]) -> Result<Option<Pairs<'_, S>>, ReadError> {
        let mut walk = Walk::of_page(self, self.root)?;
        while let Some(element) = walk.next_element()? {
            element.expect_bucket()?;
            if element.key == name {
                let walk = Walk::of_bucket(self, &element)?;
                return Ok(Some(Pairs { walk, ended: false }));
            }
        }
        Ok(None)
    }

    fn page(&self, number: u64) -> Result<Page, ReadError> {
        let offset = number.saturating_mul(self.page_bytes);
        if number < 2 || number >= self.high_water || offset >= self.length {
            let detail = format!(
                "page {number} lies outside of the {} pages",
                self.high_water
            );
            return Err(ReadError::corrupt(offset, detail));
        }
        let mut header = [0u8; PAGE_HEADER_BYTES];
        self.source.read_exact_at(&mut header, offset)?;
        let overflow = u64::from(u32_at(&header, 12).unwrap_or(u32::MAX));
        let pages = overflow + 1;
        let bytes = pages * self.page_bytes;
        if pages > self.high_water - number || bytes > self.length - offset {
            let detail = format!("page {number} with {overflow} more ends behind the file");
            return Err(ReadError::corrupt(offset, detail));
        }
        if bytes > BOLT_PAGE_BYTES_MAX {
            let detail = format!("page {number} has {bytes} bytes, more than are read at once");
            return Err(ReadError::corrupt(offset, detail));
        }
        let size = usize::try_from(bytes).map_err(|_| ReadError::corrupt(offset, "page size"))?;
        let mut buffer = vec![0; size];
        self.source.read_exact_at(&mut buffer, offset)?;
        let page = Page::parse(buffer.into(), offset, pages)?;
        if page.number != number {
            let detail = format!("page {number} says that it is page {}", page.number);
            return Err(ReadError::corrupt(offset, detail));
        }
        Ok(page)
    }
}

fn read_meta(source: &impl ReadAt, length: u64, at: u64) -> Result<Option<Meta>, ReadError> {
    let mut page = [0u8; PAGE_HEADER_BYTES + META_BYTES];
    if at.saturating_add(page.len() as u64) > length {
        return Ok(None);
    }
    source.read_exact_at(&mut page, at)?;
    Ok(parse_meta(&page))
}

fn parse_meta(page: &[u8]) -> Option<Meta> {
    let meta = page.get(PAGE_HEADER_BYTES..)?;
    let sound = u16_at(page, 8)? == KIND_META
        && u32_at(meta, 0)? == MAGIC
        && u32_at(meta, 4)? == VERSION
        && fnv64a(meta.get(..META_BYTES - 8)?) == u64_at(meta, META_BYTES - 8)?;
    let page_bytes = u32_at(meta, 8)?;
    (sound && PAGE_SIZES.contains(&page_bytes)).then_some(Meta {
        page_bytes: u64::from(page_bytes),
        root: u64_at(meta, 16)?,
        high_water: u64_at(meta, 40)?,
        transaction: u64_at(meta, 48)?,
    })
}

/// The pairs of one bucket. Ends after the first error. Keys and values share
/// the page that they lie in.
#[derive(Debug)]
pub struct Pairs<'a, S> {
    walk: Walk<'a, S>,
    ended: bool,
}

impl<S: ReadAt> Iterator for Pairs<'_, S> {
    type Item = Result<(Bytes, Bytes), ReadError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.ended {
            return None;
        }
        let pair = match self.walk.next_element() {
            Ok(Some(element)) if element.flags & ELEMENT_BUCKET != 0 => {
                let detail = "a bucket within a bucket, which etcd does not have";
                Some(Err(ReadError::corrupt(element.offset, detail)))
            }
            Ok(Some(element)) => Some(Ok((element.key, element.value))),
            Ok(None) => None,
            Err(error) => Some(Err(error)),
        };
        self.ended = !matches!(pair, Some(Ok(_)));
        pair
    }
}

/// Depth first over one tree.
#[derive(Debug)]
struct Walk<'a, S> {
    file: &'a BoltFile<S>,
    /// From the root down: the page and its next element.
    stack: Vec<(Page, usize)>,
    /// Pages that may still be read before it must be a cycle.
    pages_left: u64,
    last_key: Option<Bytes>,
}

impl<'a, S: ReadAt> Walk<'a, S> {
    fn of_page(file: &'a BoltFile<S>, root: u64) -> Result<Self, ReadError> {
        let mut walk = Walk::empty(file);
        walk.descend(root, 0)?;
        Ok(walk)
    }

    fn empty(file: &'a BoltFile<S>) -> Self {
        Walk {
            file,
            stack: Vec::new(),
            pages_left: file.high_water,
            last_key: None,
        }
    }

    fn of_bucket(file: &'a BoltFile<S>, element: &Element) -> Result<Self, ReadError> {
        let value = &element.value;
        let offset = element.value_offset;
        let root = u64_at(value, 0).filter(|_| value.len() >= BUCKET_HEADER_BYTES);
        match root {
            None => Err(ReadError::corrupt(offset, "a bucket header is cut short")),
            Some(0) => {
                let page = value.slice(BUCKET_HEADER_BYTES..);
                let page = Page::parse(page, offset + BUCKET_HEADER_BYTES as u64, 1)?;
                if page.branch {
                    return Err(ReadError::corrupt(offset, "an inline bucket has branches"));
                }
                let mut walk = Walk::empty(file);
                walk.stack.push((page, 0));
                Ok(walk)
            }
            Some(root) => Walk::of_page(file, root),
        }
    }

    fn descend(&mut self, number: u64, from: u64) -> Result<(), ReadError> {
        if self.stack.len() >= BOLT_DEPTH_MAX {
            return Err(ReadError::corrupt(
                from,
                "the tree is too deep, or has a cycle",
            ));
        }
        let page = self.file.page(number)?;
        match self.pages_left.checked_sub(page.pages) {
            Some(left) => self.pages_left = left,
            None => return Err(ReadError::corrupt(from, "a page has two parents")),
        }
        self.stack.push((page, 0));
        Ok(())
    }

    fn next_element(&mut self) -> Result<Option<Element>, ReadError> {
        while let Some((page, next)) = self.stack.last_mut() {
            if *next >= page.count {
                self.stack.pop();
                continue;
            }
            let number = *next;
            *next += 1;
            if page.branch {
                let (child, offset) = page.child(number)?;
                self.descend(child, offset)?;
                continue;
            }
            let element = page.element(number)?;
            if self
                .last_key
                .as_ref()
                .is_some_and(|last| *last >= element.key)
            {
                return Err(ReadError::corrupt(element.offset, "keys do not rise"));
            }
            self.last_key = Some(element.key.clone());
            return Ok(Some(element));
        }
        Ok(None)
    }
}

/// A leaf or branch with its overflow.
#[derive(Debug)]
struct Page {
    bytes: Bytes,
    offset: u64,
    number: u64,
    pages: u64,
    branch: bool,
    count: usize,
}

#[derive(Debug)]
struct Element {
    flags: u32,
    key: Bytes,
    value: Bytes,
    offset: u64,
    value_offset: u64,
}

impl Element {
    fn expect_bucket(&self) -> Result<(), ReadError> {
        if self.flags & ELEMENT_BUCKET == 0 {
            return Err(ReadError::corrupt(
                self.offset,
                "the root holds something but buckets",
            ));
        }
        Ok(())
    }
}

impl Page {
    fn parse(bytes: Bytes, offset: u64, pages: u64) -> Result<Page, ReadError> {
        let header = u64_at(&bytes, 0)
            .zip(u16_at(&bytes, 8))
            .zip(u16_at(&bytes, 10));
        let Some(((number, kind), count)) = header.filter(|_| bytes.len() >= PAGE_HEADER_BYTES)
        else {
            return Err(ReadError::corrupt(offset, "a page header is cut short"));
        };
        if kind != KIND_BRANCH && kind != KIND_LEAF {
            let detail = format!("expected a leaf or a branch, found kind {kind:#x}");
            return Err(ReadError::corrupt(offset, detail));
        }
        let page = Page {
            bytes,
            offset,
            number,
            pages,
            branch: kind == KIND_BRANCH,
            count: usize::from(count),
        };
        if page.element_start(page.count) > page.bytes.len() {
            return Err(ReadError::corrupt(
                offset,
                "more elements than the page has room for",
            ));
        }
        Ok(page)
    }

    fn element_start(&self, number: usize) -> usize {
        PAGE_HEADER_BYTES + number * ELEMENT_BYTES
    }

    /// The bytes at `position` (counted from the element at `start`).
    fn data(&self, start: usize, position: u32, length: u32) -> Result<Bytes, ReadError> {
        let from = start.checked_add(position as usize);
        let end = from.and_then(|from| from.checked_add(length as usize));
        match from.zip(end) {
            Some((from, end)) if end <= self.bytes.len() && position as usize >= ELEMENT_BYTES => {
                Ok(self.bytes.slice(from..end))
            }
            _ => {
                let detail = format!("{length} bytes at {position} lie outside of the page");
                Err(ReadError::corrupt(self.offset + start as u64, detail))
            }
        }
    }

    fn words(&self, start: usize) -> Option<[u32; 4]> {
        let word = |number: usize| u32_at(&self.bytes, start + 4 * number);
        Some([word(0)?, word(1)?, word(2)?, word(3)?])
    }

    fn element(&self, number: usize) -> Result<Element, ReadError> {
        let start = self.element_start(number);
        let offset = self.offset + start as u64;
        let words = self.words(start);
        let [flags, position, key, value] =
            words.ok_or_else(|| ReadError::corrupt(offset, "an element is cut short"))?;
        let value_position = position
            .checked_add(key)
            .ok_or_else(|| ReadError::corrupt(offset, "a key is longer than a page"))?;
        Ok(Element {
            flags,
            key: self.data(start, position, key)?,
            value: self.data(start, value_position, value)?,
            offset,
            value_offset: offset + u64::from(value_position),
        })
    }

    fn child(&self, number: usize) -> Result<(u64, u64), ReadError> {
        let start = self.element_start(number);
        let offset = self.offset + start as u64;
        let child = u64_at(&self.bytes, start + 8);
        let child = child.ok_or_else(|| ReadError::corrupt(offset, "an element is cut short"))?;
        Ok((child, offset))
    }
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    let (number, _) = bytes.get(at..)?.split_first_chunk()?;
    Some(u16::from_le_bytes(*number))
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    let (number, _) = bytes.get(at..)?.split_first_chunk()?;
    Some(u32::from_le_bytes(*number))
}

fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    let (number, _) = bytes.get(at..)?.split_first_chunk()?;
    Some(u64::from_le_bytes(*number))
}
