//! kill -9 under load, again and again: what was acknowledged is there, revisions never
//! fall, leases live on, a watch resumed from its last revision + 1 misses and repeats
//! nothing.
//!
//! `STERNPOST_E2E_KILLS` sets the number of kills (30), `STERNPOST_E2E_SEED` the choice of
//! operations and pauses; both are printed. The instant of a kill is the machine's.

use std::time::Duration;

use crate::campaign::{Campaign, from_environment};
use crate::history::judge::Amounts;

/// Kills with every change; a campaign sets `STERNPOST_E2E_KILLS`.
const KILLS: u64 = 30;
/// Lives of one member: each start judges its whole history, so the next ones are another's.
const LIVES_MAX: usize = 100;
/// A compaction every so many lives.
const COMPACT_EVERY: u64 = 5;
/// The directory of a killed member checked, every so many lives.
const CHECK_EVERY: u64 = 3;
/// A process killed while it starts, every so many lives.
const KILL_EARLY_EVERY: u64 = 4;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_acknowledged_is_lost_by_kill_9() {
    let kills = from_environment("STERNPOST_E2E_KILLS", KILLS);
    let mut amounts = Amounts::default();
    for (number, first) in (0..).zip((0..kills).step_by(LIVES_MAX)) {
        let lives = (kills - first).min(LIVES_MAX as u64);
        amounts += kill_one_member(number, lives).await;
    }
    eprintln!("{kills} kills, {amounts}");
    assert!(
        amounts.answered > 20 * kills,
        "hardly anything was answered"
    );
}

/// Founds a member and kills it in each of its lives; what its clients were told.
async fn kill_one_member(number: u64, lives: u64) -> Amounts {
    let mut campaign = Campaign::numbered(number);
    for life in 1..=lives {
        if life % KILL_EARLY_EVERY == 0 {
            campaign.member.spawn();
            let pause = Duration::from_millis(campaign.random.below(100));
            tokio::time::sleep(pause).await;
            campaign.member.kill();
        }
        campaign.start().await;
        if life % COMPACT_EVERY == 0 {
            campaign.compact().await;
        }
        campaign.load().await;
        let pause = Duration::from_millis(20 + campaign.random.below(400));
        tokio::time::sleep(pause).await;
        campaign.kill().await;
        if life % CHECK_EVERY == 0 {
            campaign.check();
        }
    }
    campaign.start().await;
    campaign.outlive_short_leases().await;
    campaign.kill().await;
    eprintln!("member {number}, {lives} kills: {}", campaign.summary());
    campaign.judge.amounts
}
