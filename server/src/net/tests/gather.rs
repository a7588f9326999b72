//! The gathering of writes, against a stream that takes what it is told to take.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, Waker};

use tokio::io::AsyncWrite;

use crate::net::gather::gather;
use crate::net::limits::GATHERED_BYTES_MAX;

/// Takes at most `room` bytes a call and `calls` calls; then it is full.
#[derive(Debug, Default)]
struct Narrow {
    room: usize,
    calls: usize,
    written: Vec<u8>,
    closed: bool,
}

impl AsyncWrite for Narrow {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(context, &[IoSlice::new(bytes)])
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        if self.calls == 0 {
            return Poll::Pending;
        }
        self.calls -= 1;
        let room = self.room;
        let bytes: Vec<u8> = slices.iter().flat_map(|s| s.iter().copied()).collect();
        let taken = bytes.len().min(room);
        self.written.extend_from_slice(&bytes[..taken]);
        Poll::Ready(Ok(taken))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.closed = true;
        Poll::Ready(Ok(()))
    }
}

/// Writes `pieces` in order, as hyper would, letting the stream take `room` bytes in each of
/// `calls` calls before it is full for a moment; gives what the stream got, and in how many calls.
fn written(pieces: &[Vec<u8>], room: usize) -> (Vec<u8>, usize) {
    let mut context = Context::from_waker(Waker::noop());
    let mut narrow = Narrow {
        room,
        calls: 1,
        ..Narrow::default()
    };
    let (mut end, drain) = gather(&mut narrow);
    let mut calls = 0;
    for piece in pieces {
        let mut rest = piece.as_slice();
        while !rest.is_empty() {
            // Two slices, as h2 hands over a header and a payload.
            let (head, tail) = rest.split_at(rest.len() / 2);
            let slices = [IoSlice::new(head), IoSlice::new(tail)];
            match Pin::new(&mut end).poll_write_vectored(&mut context, &slices) {
                Poll::Ready(taken) => rest = &rest[taken.unwrap()..],
                Poll::Pending => {
                    calls += 1;
                    end.with_stream(|narrow| narrow.calls = 1);
                }
            }
        }
    }
    while drain.poll(&mut context).is_pending() {
        calls += 1;
        end.with_stream(|narrow| narrow.calls = 1);
    }
    assert!(Pin::new(&mut end).poll_shutdown(&mut context).is_ready());
    drop((end, drain));
    assert!(narrow.closed);
    (narrow.written, calls)
}

#[test]
fn bytes_leave_whole_and_in_order_whatever_the_stream_takes() {
    let sizes = [
        1,
        300,
        GATHERED_BYTES_MAX - 1,
        GATHERED_BYTES_MAX,
        GATHERED_BYTES_MAX + 1,
        5,
        3 * GATHERED_BYTES_MAX,
        1024,
        1024,
    ];
    let pieces: Vec<Vec<u8>> = sizes
        .iter()
        .enumerate()
        .map(|(at, size)| {
            (0..*size)
                .map(|byte| ((byte * 7 + at) % 251).to_le_bytes()[0])
                .collect()
        })
        .collect();
    let all = pieces.concat();
    for room in [1000, 4096, GATHERED_BYTES_MAX, usize::MAX] {
        assert!(written(&pieces, room).0 == all, "room {room}");
    }
}

#[test]
fn small_writes_leave_in_one_call() {
    let pieces = vec![vec![7; 1000]; 20];
    let (bytes, calls) = written(&pieces, usize::MAX);
    assert_eq!(bytes.len(), 20_000);
    assert_eq!(calls, 0, "the one call that the stream allows is enough");
}

#[test]
fn a_stream_that_takes_nothing_is_an_error() {
    let mut context = Context::from_waker(Waker::noop());
    let mut narrow = Narrow {
        room: 0,
        calls: 9,
        ..Narrow::default()
    };
    let (mut end, drain) = gather(&mut narrow);
    assert!(Pin::new(&mut end).poll_write(&mut context, b"x").is_ready());
    match drain.poll(&mut context) {
        Poll::Ready(Err(error)) => assert_eq!(error.kind(), io::ErrorKind::WriteZero),
        other => panic!("{other:?}"),
    }
}
