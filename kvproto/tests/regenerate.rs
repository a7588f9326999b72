//! The committed stubs are what the `.proto` files give. With
//! `STERNPOST_REGENERATE=1` the test rewrites them instead.

use std::path::Path;

use protox::prost::Message;

const PROTOS: [&str; 5] = [
    "authpb/auth.proto",
    "etcdserverpb/rpc.proto",
    "mvccpb/kv.proto",
    "v3electionpb/v3election.proto",
    "v3lockpb/v3lock.proto",
];

#[test]
fn generated_code_is_that_of_the_proto_files() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let committed = root.join("src/generated");
    let fresh = tempfile::tempdir().unwrap();
    let descriptors = protox::compile(PROTOS, [root.join("proto")]).unwrap();
    std::fs::write(
        fresh.path().join("descriptors.bin"),
        descriptors.encode_to_vec(),
    )
    .unwrap();
    tonic_prost_build::configure()
        .out_dir(fresh.path())
        .bytes(".")
        .build_client(true)
        .build_server(true)
        .build_transport(false)
        .compile_fds(descriptors)
        .unwrap();

    let regenerate = std::env::var_os("STERNPOST_REGENERATE").is_some();
    let mut files = 0;
    for entry in std::fs::read_dir(fresh.path()).unwrap() {
        let path = entry.unwrap().path();
        let target = committed.join(path.file_name().unwrap());
        if regenerate {
            std::fs::copy(&path, &target).unwrap();
        } else {
            let wanted = std::fs::read(&path).unwrap();
            let found = std::fs::read(&target).unwrap_or_default();
            assert!(
                wanted == found,
                "{} is stale: run STERNPOST_REGENERATE=1 cargo test -p kvproto",
                target.display()
            );
        }
        files += 1;
    }
    assert_eq!(files, PROTOS.len() + 1);
}
