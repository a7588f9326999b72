//! A byte buffer whose memory starts at a multiple of 4096, as direct I/O
//! wants it. Owns one allocation; no unsafe code: the start is found inside a
//! slightly larger vector that is never reallocated while it holds bytes.

/// Alignment of the first byte, in memory and, for direct I/O, on disk.
pub const BLOCK_BYTES: usize = 4096;

/// Invariant: `bytes[start..]` begins at a multiple of [`BLOCK_BYTES`] in memory.
#[derive(Debug, Default)]
pub struct AlignedBuffer {
    bytes: Vec<u8>,
    start: usize,
}

impl AlignedBuffer {
    /// Empties the buffer and makes room for `capacity` bytes, keeping the
    /// allocation when it is large enough.
    pub fn reset(&mut self, capacity: usize) {
        self.bytes.clear();
        self.bytes.reserve_exact(capacity + BLOCK_BYTES);
        self.start = self.bytes.as_ptr().align_offset(BLOCK_BYTES);
        assert!(
            self.start < BLOCK_BYTES,
            "an aligned address lies within one block"
        );
        self.bytes.resize(self.start, 0);
    }

    /// Appends bytes. The room asked for in [`AlignedBuffer::reset`] must suffice.
    pub fn extend(&mut self, data: &[u8]) {
        assert!(
            self.bytes.len() + data.len() <= self.bytes.capacity(),
            "an aligned buffer must not move"
        );
        self.bytes.extend_from_slice(data);
    }

    /// Appends zeros up to a total of `length` bytes.
    pub fn fill_to(&mut self, length: usize) {
        assert!(
            length >= self.as_slice().len() && self.start + length <= self.bytes.capacity(),
            "an aligned buffer must not move"
        );
        self.bytes.resize(self.start + length, 0);
    }

    /// The bytes.
    #[must_use]
    pub fn as_slice(&self) -> &[u8] {
        self.bytes.get(self.start..).unwrap_or_default()
    }

    /// The bytes, for changing them in place.
    pub fn as_mut_slice(&mut self) -> &mut [u8] {
        self.bytes.get_mut(self.start..).unwrap_or_default()
    }

    /// Bytes of memory held.
    #[must_use]
    pub fn capacity(&self) -> usize {
        self.bytes.capacity()
    }
}
