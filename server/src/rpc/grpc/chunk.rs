//! The bytes of one body frame: in one piece, or in pieces of which the long ones lie
//! where the store keeps them. They are copied once, into what the connection gives to
//! the kernel.
//!
//! Invariant: the pieces leave in the order in which they were put. Limit: whoever fills
//! a chunk keeps to about [`BODY_CHUNK_BYTES`](super::BODY_CHUNK_BYTES).

use std::io::IoSlice;

use bytes::{Buf, BufMut, Bytes};
use storage::types::EncodedKeyValue;

use crate::http::Slices;

/// A key-value shorter than this is copied: to refer to it would cost more.
const REFERRED_BYTES_MIN: usize = 256;

/// Room in a chunk for what is copied: the heads of some dozens of key-values of 1 KiB.
const SMALL_BYTES: usize = 512;

/// See the head of the file.
#[derive(Debug)]
pub enum Chunk {
    /// One piece.
    Whole(Bytes),
    /// Many; boxed, since every frame of every answer is moved about in the size of this.
    Pieces(Box<Pieces>),
}

/// Small parts in one buffer, and key-values between them.
#[derive(Debug, Default)]
pub struct Pieces {
    /// What was copied.
    small: Vec<u8>,
    /// For each key-value referred to, how much of `small` goes before it.
    referred: Vec<(usize, EncodedKeyValue)>,
    /// Bytes in all that have not been taken.
    remaining: usize,
    /// Bytes of `small` that were taken.
    small_taken: usize,
    /// Key-values that were taken whole.
    referred_taken: usize,
    /// Bytes taken of the one that is next.
    next_taken: usize,
}

impl Pieces {
    /// With room for [`SMALL_BYTES`].
    #[must_use]
    pub fn with_room() -> Pieces {
        Pieces {
            small: Vec::with_capacity(SMALL_BYTES),
            ..Pieces::default()
        }
    }

    /// Bytes that have not been taken.
    #[must_use]
    pub fn len(&self) -> usize {
        self.remaining
    }

    /// True when there is nothing to take.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.remaining == 0
    }

    /// Where bytes that are copied go.
    pub fn put(&mut self, write: impl FnOnce(&mut Vec<u8>)) {
        let before = self.small.len();
        write(&mut self.small);
        self.remaining += self.small.len() - before;
    }

    /// Appends a copy.
    pub fn put_slice(&mut self, bytes: &[u8]) {
        self.put(|small| small.put_slice(bytes));
    }

    /// Appends an encoded key-value, where it lies unless it is short.
    pub fn put_encoded(&mut self, encoded: &EncodedKeyValue) {
        if encoded.0.len() < REFERRED_BYTES_MIN {
            return self.put_slice(&encoded.0);
        }
        self.remaining += encoded.0.len();
        self.referred.push((self.small.len(), encoded.clone()));
    }

    /// The pieces from the one that is next on; empty ones among them.
    fn slices(&self) -> impl Iterator<Item = &[u8]> {
        let mut taken = self.small_taken;
        let mut next_taken = self.next_taken;
        let left = self.referred.get(self.referred_taken..).unwrap_or_default();
        let pairs = left.iter().flat_map(move |(before, encoded)| {
            let small = self.small.get(taken..*before).unwrap_or_default();
            taken = taken.max(*before);
            let from = std::mem::take(&mut next_taken);
            [small, encoded.0.get(from..).unwrap_or_default()]
        });
        let last = self.referred.last().map_or(0, |(before, _)| *before);
        let end = self.small.get(self.small_taken.max(last)..);
        pairs.chain([end.unwrap_or_default()])
    }
}

impl Buf for Pieces {
    fn remaining(&self) -> usize {
        self.remaining
    }

    fn chunk(&self) -> &[u8] {
        let mut slices = self.slices();
        slices.find(|slice| !slice.is_empty()).unwrap_or_default()
    }

    fn chunks_vectored<'a>(&'a self, places: &mut [IoSlice<'a>]) -> usize {
        let slices = self.slices().filter(|slice| !slice.is_empty());
        let filled = places.iter_mut().zip(slices);
        filled
            .map(|(place, slice)| *place = IoSlice::new(slice))
            .count()
    }

    fn advance(&mut self, mut bytes: usize) {
        assert!(bytes <= self.remaining, "only what is there is taken");
        self.remaining -= bytes;
        while bytes > 0 {
            let next = self.referred.get(self.referred_taken);
            let small_end = next.map_or(self.small.len(), |(before, _)| *before);
            let small = bytes.min(small_end - self.small_taken);
            self.small_taken += small;
            bytes -= small;
            let Some((_, encoded)) = next else {
                continue;
            };
            let left = encoded.0.len() - self.next_taken;
            if bytes < left {
                self.next_taken += bytes;
                return;
            }
            bytes -= left;
            self.referred_taken += 1;
            self.next_taken = 0;
        }
    }
}

impl Slices for Chunk {
    fn each(&self, mut visit: impl FnMut(&[u8])) {
        match self {
            Chunk::Whole(bytes) => visit(bytes),
            Chunk::Pieces(pieces) => pieces.slices().for_each(visit),
        }
    }
}

impl From<Bytes> for Chunk {
    fn from(bytes: Bytes) -> Chunk {
        Chunk::Whole(bytes)
    }
}

impl From<Pieces> for Chunk {
    fn from(pieces: Pieces) -> Chunk {
        Chunk::Pieces(Box::new(pieces))
    }
}

impl Buf for Chunk {
    fn remaining(&self) -> usize {
        match self {
            Chunk::Whole(bytes) => bytes.remaining(),
            Chunk::Pieces(pieces) => pieces.remaining(),
        }
    }

    fn chunk(&self) -> &[u8] {
        match self {
            Chunk::Whole(bytes) => bytes.chunk(),
            Chunk::Pieces(pieces) => pieces.chunk(),
        }
    }

    fn chunks_vectored<'a>(&'a self, places: &mut [IoSlice<'a>]) -> usize {
        match self {
            Chunk::Whole(bytes) => bytes.chunks_vectored(places),
            Chunk::Pieces(pieces) => pieces.chunks_vectored(places),
        }
    }

    fn advance(&mut self, bytes: usize) {
        match self {
            Chunk::Whole(whole) => whole.advance(bytes),
            Chunk::Pieces(pieces) => pieces.advance(bytes),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    /// However it is taken, what comes out is what was put.
    #[test]
    fn pieces_leave_in_order() {
        let encoded = |length: usize| EncodedKeyValue(Arc::from(vec![b'v'; length]));
        let fill = || {
            let (mut pieces, mut expected) = (Pieces::default(), Vec::new());
            for (small, length) in [(3, 300), (0, 256), (5, 10), (2, 1000), (0, 0), (4, 400)] {
                pieces.put_slice(&vec![b's'; small]);
                pieces.put_encoded(&encoded(length));
                expected.extend(vec![b's'; small]);
                expected.extend(vec![b'v'; length]);
            }
            pieces.put_slice(b"end");
            expected.extend(b"end");
            (pieces, expected)
        };
        for step in [1, 2, 3, 255, 256, 257, 303, 10_000] {
            let (mut pieces, expected) = fill();
            let mut visited: Vec<u8> = Vec::new();
            pieces.slices().for_each(|slice| visited.extend(slice));
            assert_eq!(visited, expected);
            let mut taken: Vec<u8> = Vec::new();
            while pieces.has_remaining() {
                let mut places = [IoSlice::new(&[]); 3];
                let filled = pieces.chunks_vectored(&mut places);
                let ahead: Vec<u8> = places[..filled]
                    .iter()
                    .flat_map(|one| one.to_vec())
                    .collect();
                assert!(expected[taken.len()..].starts_with(&ahead));
                assert_eq!(&*places[0], pieces.chunk());
                let now = step.min(ahead.len());
                taken.extend(&ahead[..now]);
                pieces.advance(now);
                assert_eq!(pieces.remaining(), expected.len() - taken.len());
            }
            assert_eq!(taken, expected);
        }
    }
}
