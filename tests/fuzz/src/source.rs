//! Numbers, choices and edits drawn from the bytes of a fuzzer; zeros after their end.

/// The bytes not used yet.
#[derive(Debug)]
pub struct Source<'a>(&'a [u8]);

/// How often [`Source::edit`] changes something at most.
const EDITS_MAX: usize = 8;
/// Numbers at which arithmetic goes wrong.
const EDGES: [u64; 8] = [
    0,
    1,
    0x7FFF_FFFF,
    0xFFFF_FFFF,
    i64::MAX as u64,
    1 << 63,
    u64::MAX - 1,
    u64::MAX,
];

impl<'a> Source<'a> {
    pub fn new(bytes: &'a [u8]) -> Self {
        Source(bytes)
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub fn rest(&mut self) -> &'a [u8] {
        std::mem::take(&mut self.0)
    }

    pub fn byte(&mut self) -> u8 {
        let Some((first, rest)) = self.0.split_first() else {
            return 0;
        };
        self.0 = rest;
        *first
    }

    pub fn bytes(&mut self, length: usize) -> &'a [u8] {
        let (taken, rest) = self.0.split_at(length.min(self.0.len()));
        self.0 = rest;
        taken
    }

    /// A number below `end`; 0 when that is 0.
    pub fn below(&mut self, end: usize) -> usize {
        let mut number = usize::from(self.byte());
        if end > 256 {
            number = number << 16 | usize::from(self.byte()) << 8 | usize::from(self.byte());
        }
        number.checked_rem(end).unwrap_or(0)
    }

    /// A small number, one at an edge, or any.
    pub fn number(&mut self) -> u64 {
        match self.byte() {
            small @ 0..=159 => u64::from(small % 32),
            edge @ 160..=223 => EDGES[usize::from(edge) % EDGES.len()],
            _ => {
                let mut whole = [0; 8];
                let taken = self.bytes(8);
                whole[..taken.len()].copy_from_slice(taken);
                u64::from_le_bytes(whole)
            }
        }
    }

    pub fn signed(&mut self) -> i64 {
        self.number().cast_signed()
    }

    /// Changes `bytes` in a few places: bytes, whole numbers, copies, zeros, cuts, growth.
    pub fn edit(&mut self, bytes: &mut Vec<u8>) {
        for _ in 0..EDITS_MAX {
            if self.is_empty() {
                return;
            }
            let kind = self.byte() % 8;
            let at = self.below(bytes.len());
            let left = bytes.len() - at;
            match kind {
                0 | 1 if left > 0 => bytes[at] ^= self.byte(),
                2 | 3 if left >= 8 => {
                    let width = [1, 2, 4, 8][self.below(4)];
                    let number = self.number().to_le_bytes();
                    bytes[at..at + width].copy_from_slice(&number[..width]);
                }
                4 => {
                    let length = self.below(left.min(5000) + 1);
                    let from = self.below(bytes.len() - length + 1);
                    bytes.copy_within(from..from + length, at);
                }
                5 => {
                    let length = self.below(left.min(5000) + 1);
                    bytes[at..at + length].fill(0);
                }
                6 => bytes.truncate(bytes.len() - self.below(left + 1)),
                7 => {
                    let length = self.below(600);
                    let fill = self.byte();
                    bytes.resize(bytes.len() + length, fill);
                }
                _ => {}
            }
        }
    }
}
