//! docs/compatibility.md tells of every method whether it is served. Here each is called
//! on a running member with an empty message. `STERNPOST_REGENERATE=1` rewrites the page.

use std::fmt::Write;
use std::path::Path;

use prost::Message;
use prost_types::FileDescriptorSet;
use tonic::Code;
use tonic::codegen::tokio_stream;
use tonic_prost::ProstCodec;

use crate::client::{CALL_WITHIN, Client};
use crate::load::watch_all;
use crate::process::{Member, is_etcd};

/// The lines that the table stands between.
const BEGIN: &str = "<!-- methods: written by a test -->\n";
const END: &str = "<!-- end of methods -->\n";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_compatibility_page_tells_what_answers_unimplemented() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let mut member = Member::new(directory.path());
    member.start();
    let mut table = "| Service | Method | |\n|---|---|---|\n".to_owned();
    let mut served = 0;
    let descriptors = FileDescriptorSet::decode(kvproto::FILE_DESCRIPTOR_SET);
    for file in descriptors.expect("the descriptors").file {
        for service in &file.service {
            let service_name = format!("{}.{}", file.package(), service.name());
            for method in &service.method {
                let state = match is_served(&member, &service_name, method.name()).await {
                    true => "served",
                    false => "`UNIMPLEMENTED`",
                };
                served += usize::from(state == "served");
                let row = format!("| {service_name} | {} | {state} |", method.name());
                writeln!(table, "{row}").expect("a string takes text");
            }
        }
    }
    assert!(served > 10, "hardly anything is served:\n{table}");
    if !is_etcd() {
        compare(&table);
    }
    member.assert_running();
}

/// Whether a method answers an empty request with anything but UNIMPLEMENTED.
async fn is_served(member: &Member, service: &str, method: &str) -> bool {
    let mut client = Client::connect(member.client_port()).await;
    if service == "etcdserverpb.Watch" {
        // A stream without a watch stays open and says nothing.
        watch_all(&mut client, 0).await;
        return true;
    }
    let mut grpc = tonic::client::Grpc::new(client.channel);
    grpc.ready().await.expect("a connection");
    let path = format!("/{service}/{method}").parse().expect("a path");
    let codec: ProstCodec<(), ()> = ProstCodec::default();
    let request = tonic::Request::new(tokio_stream::once(()));
    let call = async {
        let mut answers = match grpc.streaming(request, path, codec).await {
            Ok(response) => response.into_inner(),
            Err(status) => return status.code() != Code::Unimplemented,
        };
        match answers.message().await {
            Ok(_) => true,
            Err(status) => status.code() != Code::Unimplemented,
        }
    };
    let answer = tokio::time::timeout(CALL_WITHIN, call).await;
    answer.unwrap_or_else(|_| panic!("{service}/{method} does not answer"))
}

fn compare(table: &str) {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/compatibility.md");
    let text = std::fs::read_to_string(&page).expect("the page is there");
    let (head, rest) = text.split_once(BEGIN).expect("the table begins");
    let (found, tail) = rest.split_once(END).expect("the table ends");
    if std::env::var_os("STERNPOST_REGENERATE").is_some() {
        let fresh = format!("{head}{BEGIN}{table}{END}{tail}");
        std::fs::write(&page, fresh).expect("the page can be written");
        return;
    }
    let stale = "docs/compatibility.md is stale: STERNPOST_REGENERATE=1 cargo test --test e2e";
    assert_eq!(found, table, "{stale}");
}
