//! Readers that go on over many steps: pinned reads in slices.

use storage::apply::Projection;
use storage::mvcc::Bounds;
use storage::types::KeyValueRef;

use crate::answer::{Answer, KeyValue};
use crate::engine::{OpenedRead, Pin, Rejected};
use crate::history::durable::everything;
use crate::history::reads;
use crate::host::Request;
use crate::member::Member;
use crate::run::{Run, Stop};

const SLOW_READS_MAX: usize = 4;

/// A read of all keys at one revision, a few at a time. What a slice gives is
/// encoded one step later.
pub struct SlowRead {
    pin: Pin,
    rest: Option<Bounds>,
    held: Vec<KeyValueRef>,
    found: Vec<KeyValue>,
    expected: Vec<KeyValue>,
}

impl Run {
    /// Opens a slow read or takes one a step further.
    pub fn slow_read(&mut self, member: &mut Member) -> Result<(), Stop> {
        if !self.serving {
            return Ok(());
        }
        if self.slow_reads.len() < SLOW_READS_MAX && self.random.chance(1, 3) {
            let wanted = self.clients().revision();
            return self.open_slow_read(member, wanted);
        }
        let count = self.slow_reads.len() as u64;
        if count == 0 {
            return Ok(());
        }
        let at = usize::try_from(self.random.below(count)).unwrap();
        let mut read = self.slow_reads.swap_remove(at);
        if read.pin.is_revoked() {
            return Ok(());
        }
        let held = std::mem::take(&mut read.held);
        read.found.extend(member.key_values(&held)?);
        let Some(rest) = read.rest.take() else {
            self.stats.reads += 1;
            reads::check_slices(read.pin.at().revision(), &read.expected, &read.found)?;
            return Ok(());
        };
        let (bounds, pin) = (rest.clone(), read.pin.clone());
        let slice = member.ask_now(|reply| Request::ReadSlice {
            bounds,
            pin,
            limit: 2,
            reply,
        })?;
        let slice = slice.expect("the pin holds");
        measured(member, &read, &rest)?;
        read.held = slice.key_values;
        if let Some(next) = &slice.next {
            next_page(member, &read, next)?;
        }
        read.rest = slice.next.map(|key| rest.resume_at(&key));
        self.slow_reads.push(read);
        Ok(())
    }

    fn open_slow_read(&mut self, member: &mut Member, wanted: i64) -> Result<(), Stop> {
        let range = everything(wanted);
        let first_slice = usize::try_from(self.random.below(3)).unwrap();
        let expected = self.durable.model.stand_alone_range(&range);
        let opened = member.ask_now(|reply| Request::OpenRead {
            range,
            linearizable: true,
            first_slice,
            reply,
        })?;
        let (opened, expected) = match (opened, expected) {
            (Ok(opened), Answer::Range { key_values, .. }) => (opened, key_values),
            (Err(Rejected::Refusal(_)), Answer::Refused(_)) => return Ok(()),
            (opened, expected) => {
                return Err(Stop::Violation(format!(
                    "a read at {wanted} is answered {opened:?}, expected {expected:?}"
                )));
            }
        };
        let OpenedRead {
            pin, first, count, ..
        } = opened;
        if let Some(count) = count
            && count != i64::try_from(expected.len()).unwrap()
        {
            let text = format!("a read counts {count}, expected {}", expected.len());
            return Err(Stop::Violation(text));
        }
        self.note(format_args!("slow read at {}", pin.at().revision()));
        self.slow_reads.push(SlowRead {
            pin,
            rest: first.next.map(|key| Bounds::everything().resume_at(&key)),
            held: first.key_values,
            found: Vec::new(),
            expected,
        });
        Ok(())
    }
}

/// What is left of a read has the length that it will have.
fn measured(member: &mut Member, read: &SlowRead, rest: &Bounds) -> Result<(), Stop> {
    let (bounds, pin) = (rest.clone(), read.pin.clone());
    let measured = member.ask_now(|reply| Request::MeasureSlice {
        bounds,
        pin,
        limit: usize::MAX,
        projection: Projection::Whole,
        reply,
    })?;
    let measured = measured.expect("the pin holds");
    let left = read.expected.len() - read.found.len();
    if measured.next.is_none() && measured.key_values != left {
        let found = measured.key_values;
        let text = format!("the rest of a read has {found} keys, expected {left}");
        return Err(Stop::Violation(text));
    }
    Ok(())
}

/// What a list in pages at this revision does here: its next page is counted, if the
/// engine remembers how, and then the engine is told.
fn next_page(member: &mut Member, read: &SlowRead, next: &[u8]) -> Result<(), Stop> {
    let revision = read.pin.at().revision();
    let rest = read.expected.iter().filter(|kv| kv.key.as_slice() >= next);
    let remaining = i64::try_from(rest.count()).unwrap();
    let mut range = everything(revision);
    range.range.key = next.to_vec().into();
    let range_end = range.range.range_end.clone();
    let opened = member.ask_now(|reply| Request::OpenRead {
        range,
        linearizable: true,
        first_slice: 0,
        reply,
    })?;
    if let Ok(OpenedRead {
        count: Some(count), ..
    }) = opened
        && count != remaining
    {
        return Err(Stop::Violation(format!(
            "a page from {next:?} at revision {revision} counts {count}, expected {remaining}"
        )));
    }
    let told = Request::RememberCount {
        range_end,
        revision,
        next: next.to_vec(),
        remaining,
    };
    member.engine.take(told, &mut member.host)?;
    Ok(())
}
