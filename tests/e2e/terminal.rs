//! `sternpost check` on a terminal and elsewhere: how far it is, on stderr, for whoever
//! watches, and only for them. The pseudo-terminal is that of script(1).

use std::process::{Command, Stdio};

use crate::client::Client;
use crate::process::{Member, binary, is_etcd};
use crate::shim::not_run;

/// Cells of a full bar.
const BAR: usize = 40;

/// How full each bar of the log is that was shown, in their order.
fn bars(shown: &str) -> Vec<usize> {
    let bars = shown.split('\r').filter_map(|line| {
        let (_, bar) = line.split_once("log [")?;
        let (bar, _) = bar.split_once(']')?;
        assert_eq!(bar.len(), BAR, "{bar:?}");
        Some(bar.trim_end().len())
    });
    bars.collect()
}

#[tokio::test]
async fn check_shows_how_far_it_is_on_a_terminal_alone() {
    if is_etcd() {
        return;
    }
    let directory = tempfile::tempdir().expect("a temporary directory");
    let mut member = Member::new(directory.path());
    // A segment each.
    for life in 0..4 {
        member.start();
        let mut client = Client::connect(member.client_port()).await;
        client.put(&format!("key/{life}"), vec![7; 1 << 20]).await;
        member.kill();
    }
    let (status, text) = member.check();
    assert!(status.success(), "{text}");
    assert!(text.starts_with("clean: "), "{text:?}");
    let output = Command::new("script")
        .args([
            "-qec",
            "exec \"$PROGRAM\" check \"$DIRECTORY\"",
            "/dev/null",
        ])
        .env("SHELL", "/bin/sh")
        .env("PROGRAM", binary())
        .env("DIRECTORY", member.data())
        .stdin(Stdio::null())
        .output();
    let Ok(output) = output else {
        return not_run("script", "there is no script(1) to give a terminal");
    };
    let shown = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{}: {shown}", output.status);
    let bars = bars(&shown);
    assert!(bars.len() > 1 && bars.is_sorted(), "{bars:?}: {shown:?}");
    assert_eq!(bars.last(), Some(&BAR), "{shown:?}");
    // What is left on the screen is the verdict alone.
    let last = shown.trim_end().rsplit('\r').next().expect("a line");
    assert_eq!(last, text.trim_end(), "{shown:?}");
    let before = shown.strip_suffix(&format!("{last}\r\n"));
    let wiped = before.and_then(|before| before.trim_end_matches('\r').rsplit('\r').next());
    assert!(
        wiped.is_some_and(|line| line.trim().is_empty()),
        "{shown:?}"
    );
}
