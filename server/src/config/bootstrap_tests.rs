//! The founding of a cluster, against etcd's words.

use super::super::{Request, read};

fn check(arguments: &[&str], expected: &str) {
    let arguments: Vec<String> = arguments.iter().map(|text| (*text).to_owned()).collect();
    let request = read(&arguments, &[], &mut Vec::new());
    let Ok(Request::Serve(config)) = request else {
        panic!("{request:?}")
    };
    let text = match config.bootstrap() {
        Ok(bootstrap) => format!("{} url(s)", bootstrap.peer_urls.len()),
        Err(error) => error.to_string(),
    };
    assert!(text.contains(expected), "{arguments:?}: {text}");
}

#[test]
fn initial_cluster() {
    check(&[], "1 url(s)");
    check(
        &[
            "--initial-cluster=default=http://b:1,default=http://a:1",
            "--initial-advertise-peer-urls=http://a:1,http://b:1",
        ],
        "2 url(s)",
    );
    check(
        &["--initial-cluster=a=http://a:1"],
        "couldn't find local name \"default\" in the initial cluster configuration",
    );
    check(
        &["--initial-cluster=default=http://a:1,b=http://a:1"],
        "initial cluster default=http://a:1,b=http://a:1 has duplicate url",
    );
    check(
        &["--initial-cluster=default=http://a:1,b=http://b:1"],
        "does not support clusters of several members yet",
    );
    check(
        &["--initial-cluster=default=http://a:1"],
        "--initial-cluster has default=http://a:1 but missing from \
         --initial-advertise-peer-urls=http://localhost:2380",
    );
    check(
        &[
            "--initial-advertise-peer-urls=http://a:1,http://localhost:2380",
            "--initial-cluster=default=http://localhost:2380",
        ],
        "--initial-advertise-peer-urls has http://a:1 but missing from --initial-cluster=",
    );
    check(
        &["--initial-cluster=default=foo"],
        "error setting up initial cluster: URL scheme must be http, https, unix, or unixs: foo",
    );
    check(&["--initial-cluster="], "initial cluster unset");
    check(
        &["--initial-cluster-state=existing"],
        "does not support yet",
    );
    check(&["--discovery-srv=example.org"], "discovery");
}
