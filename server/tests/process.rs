//! The program as a process: texts, exit codes and log lines (contract 4.1).

use std::process::{Command, Output};

fn run(arguments: &[&str], environment: &[(&str, &str)]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_sternpost"))
        .args(arguments)
        .env_clear()
        .envs(environment.iter().copied())
        .output()
        .expect("the program can be started")
}

fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).expect("the program writes UTF-8")
}

fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).expect("the program writes UTF-8")
}

#[test]
fn version_has_the_lines_that_harnesses_read() {
    let output = run(&["--version"], &[]);
    assert_eq!(output.status.code(), Some(0));
    let text = stdout(&output);
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines[0], "etcd Version: 3.7.3");
    assert!(lines[1].starts_with("Git SHA: "));
    assert!(lines[2].starts_with("Go Version: "));
    assert!(lines[3].starts_with("Go OS/Arch: linux/"));
    assert!(lines[4].starts_with("Sternpost Version: "));
}

#[test]
fn help_shows_flags_at_the_beginning_of_lines() {
    for flag in ["-h", "--help", "-help"] {
        let output = run(&[flag], &[]);
        assert_eq!(output.status.code(), Some(0));
        // controller-runtime looks for the line `^\s*--unsafe-no-fsync\b` in both streams.
        assert!(
            stdout(&output)
                .lines()
                .any(|line| line.starts_with("  --unsafe-no-fsync "))
        );
        assert!(stderr(&output).starts_with("Usage:"));
    }
}

#[test]
fn a_flag_that_does_not_exist_is_usage_and_exit_code_2() {
    let output = run(&["--nope"], &[]);
    assert_eq!(output.status.code(), Some(2));
    assert!(stderr(&output).starts_with("flag provided but not defined: -nope\nUsage:\n"));
}

#[test]
fn a_stray_word_is_a_log_line_and_exit_code_1() {
    let output = run(&["--client-cert-auth", "false"], &[]);
    assert_eq!(output.status.code(), Some(1));
    let text = stderr(&output);
    let line = text.lines().last().unwrap();
    assert!(
        line.starts_with("{\"level\":\"warn\",\"ts\":\"20"),
        "{line}"
    );
    assert!(line.contains(
        "\"msg\":\"failed to verify flags\",\"error\":\"\\\"false\\\" is not a valid flag\"}"
    ));
}

#[test]
fn a_shadowed_variable_is_fatal_and_an_unknown_one_is_not() {
    let output = run(
        &["--name=a"],
        &[("ETCD_NAME", "b"), ("ETCD_PORT", "secret")],
    );
    assert_eq!(output.status.code(), Some(1));
    let text = stderr(&output);
    assert!(
        text.lines()
            .last()
            .unwrap()
            .starts_with("{\"level\":\"fatal\""),
        "{text}"
    );
    assert!(text.contains("\"environment-variable\":\"ETCD_NAME\""));
    let output = run(&["--log-level=bad"], &[("ETCD_PORT", "secret")]);
    assert!(stderr(&output).contains("unrecognized environment variable"));
    assert!(!stderr(&output).contains("secret"));
}

#[test]
fn check_wants_one_directory() {
    assert_eq!(run(&["check"], &[]).status.code(), Some(2));
}
