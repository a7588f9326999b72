//! Byte codec of this module's own formats: little-endian integers and
//! length-prefixed strings. Reading never panics and always knows at which
//! offset of the file it stands, so that a refusal can name it.

/// What is wrong with some bytes, and where. The caller knows the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Malformed {
    /// Offset in the file of the first byte that cannot be right.
    pub offset: u64,
    /// What was expected and what was found.
    pub detail: String,
}

impl Malformed {
    pub(crate) fn new(offset: u64, detail: impl Into<String>) -> Self {
        Malformed {
            offset,
            detail: detail.into(),
        }
    }
}

/// Reads integers and byte strings front to back.
#[derive(Debug)]
pub(crate) struct Reader<'a> {
    /// What is left.
    rest: &'a [u8],
    /// Offset in the file of the first byte of `rest`.
    offset: u64,
}

impl<'a> Reader<'a> {
    /// Starts at the front of `bytes`, which begin at `offset` of the file.
    pub(crate) fn new(bytes: &'a [u8], offset: u64) -> Self {
        Reader {
            rest: bytes,
            offset,
        }
    }

    /// Offset in the file of the next byte.
    pub(crate) fn offset(&self) -> u64 {
        self.offset
    }

    /// Number of bytes left.
    pub(crate) fn remaining(&self) -> usize {
        self.rest.len()
    }

    /// Takes exactly `length` bytes.
    pub(crate) fn bytes(&mut self, length: usize) -> Result<&'a [u8], Malformed> {
        let Some((head, tail)) = self.rest.split_at_checked(length) else {
            return Err(Malformed::new(
                self.offset,
                format!("{length} bytes expected, {} left", self.rest.len()),
            ));
        };
        self.rest = tail;
        self.offset += length as u64;
        Ok(head)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], Malformed> {
        let bytes = self.bytes(N)?;
        Ok(bytes.try_into().expect("bytes() gave exactly N of them"))
    }

    pub(crate) fn u8(&mut self) -> Result<u8, Malformed> {
        Ok(u8::from_le_bytes(self.array()?))
    }

    pub(crate) fn u32(&mut self) -> Result<u32, Malformed> {
        Ok(u32::from_le_bytes(self.array()?))
    }

    pub(crate) fn u64(&mut self) -> Result<u64, Malformed> {
        Ok(u64::from_le_bytes(self.array()?))
    }

    pub(crate) fn u128(&mut self) -> Result<u128, Malformed> {
        Ok(u128::from_le_bytes(self.array()?))
    }

    pub(crate) fn i64(&mut self) -> Result<i64, Malformed> {
        Ok(i64::from_le_bytes(self.array()?))
    }

    /// An unsigned LEB128 number in its shortest form.
    pub(crate) fn varint(&mut self) -> Result<u64, Malformed> {
        let start = self.offset;
        let mut value = 0u64;
        for shift in (0..64).step_by(7) {
            let byte = self.u8()?;
            let bits = u64::from(byte & 0x7f);
            if shift == 63 && bits > 1 {
                break;
            }
            value |= bits << shift;
            if byte & 0x80 == 0 {
                if byte == 0 && shift > 0 {
                    break;
                }
                return Ok(value);
            }
        }
        Err(Malformed::new(start, "not a number in its shortest form"))
    }

    /// A number of items, each of which takes at least `item_bytes` bytes, so
    /// that a bad count can never make the reader allocate more than the file.
    pub(crate) fn count(&mut self, item_bytes: usize) -> Result<usize, Malformed> {
        let start = self.offset;
        let count = self.u64()?;
        match usize::try_from(count) {
            Ok(count) if count <= self.rest.len() / item_bytes.max(1) => Ok(count),
            _ => Err(Malformed::new(
                start,
                format!("{count} items do not fit into {} bytes", self.rest.len()),
            )),
        }
    }

    /// A UTF-8 string with its length in front.
    pub(crate) fn string(&mut self) -> Result<String, Malformed> {
        let length = self.count(1)?;
        let start = self.offset;
        let bytes = self.bytes(length)?;
        match std::str::from_utf8(bytes) {
            Ok(text) => Ok(text.to_owned()),
            Err(_) => Err(Malformed::new(start, "text that is not UTF-8")),
        }
    }

    /// Refuses what is left over.
    pub(crate) fn end(&self) -> Result<(), Malformed> {
        if self.rest.is_empty() {
            return Ok(());
        }
        Err(Malformed::new(
            self.offset,
            format!("{} bytes too many", self.rest.len()),
        ))
    }
}

/// Appends integers and byte strings.
#[derive(Debug, Default)]
pub(crate) struct Writer(pub(crate) Vec<u8>);

impl Writer {
    pub(crate) fn u8(&mut self, value: u8) {
        self.0.push(value);
    }

    pub(crate) fn u32(&mut self, value: u32) {
        self.0.extend_from_slice(&value.to_le_bytes());
    }

    pub(crate) fn u64(&mut self, value: u64) {
        self.0.extend_from_slice(&value.to_le_bytes());
    }

    pub(crate) fn u128(&mut self, value: u128) {
        self.0.extend_from_slice(&value.to_le_bytes());
    }

    pub(crate) fn i64(&mut self, value: i64) {
        self.0.extend_from_slice(&value.to_le_bytes());
    }

    pub(crate) fn varint(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.0.push((value & 0x7f) as u8 | 0x80);
            value >>= 7;
        }
        self.0.push((value & 0x7f) as u8);
    }

    pub(crate) fn count(&mut self, count: usize) {
        self.u64(count as u64);
    }

    pub(crate) fn bytes(&mut self, bytes: &[u8]) {
        self.0.extend_from_slice(bytes);
    }

    pub(crate) fn string(&mut self, text: &str) {
        self.count(text.len());
        self.bytes(text.as_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_varint_comes_back(value in any::<u64>()) {
            let mut writer = Writer::default();
            writer.varint(value);
            let mut reader = Reader::new(&writer.0, 7);
            prop_assert_eq!(reader.varint(), Ok(value));
            prop_assert_eq!(reader.end(), Ok(()));
        }

        #[test]
        fn garbage_never_panics_and_a_varint_has_one_form(
            bytes in prop::collection::vec(any::<u8>(), 0..12),
        ) {
            let mut reader = Reader::new(&bytes, 0);
            if let Ok(value) = reader.varint() {
                let mut writer = Writer::default();
                writer.varint(value);
                prop_assert_eq!(&writer.0[..], &bytes[..bytes.len() - reader.remaining()]);
            }
        }
    }

    #[test]
    fn a_count_larger_than_the_file_is_refused_before_any_allocation() {
        let bytes = u64::MAX.to_le_bytes();
        let refused = Reader::new(&bytes, 100).count(1).unwrap_err();
        assert_eq!(refused.offset, 100);
    }

    #[test]
    fn a_refusal_names_the_offset_in_the_file() {
        let mut reader = Reader::new(&[1, 2, 3], 40);
        assert_eq!(reader.u8(), Ok(1));
        assert_eq!(reader.u32().unwrap_err().offset, 41);
        assert_eq!(reader.end().unwrap_err().offset, 41);
    }
}
