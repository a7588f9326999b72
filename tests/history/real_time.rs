//! No answer shows less than an answer that came back before it was asked for, and a write
//! gets a revision above every one that was shown before it was sent.

use std::time::Duration;

use super::Verdict;
use super::record::Call;

/// `base` was shown before the first call.
pub fn check(calls: &[Call], base: i64) -> Verdict {
    let mut returns: Vec<(Duration, i64)> = calls
        .iter()
        .filter_map(|call| Some((call.answered.as_ref()?.at, call.shown()?)))
        .collect();
    returns.sort_unstable();
    let mut calls: Vec<&Call> = calls.iter().collect();
    calls.sort_by_key(|call| call.invoked);
    let (mut floor, mut returned) = (base, 0);
    for call in calls {
        while let Some((_, revision)) = returns.get(returned).filter(|(at, _)| *at < call.invoked) {
            floor = floor.max(*revision);
            returned += 1;
        }
        let Some(shown) = call.shown() else { continue };
        let least = if call.changed() { floor + 1 } else { floor };
        if shown < least {
            return Err(format!(
                "revision {shown} is answered after {floor} was shown: {call:?}"
            ));
        }
    }
    Ok(())
}
