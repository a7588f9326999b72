//! Clients that stop reading: their answers stay with the server, which must neither grow
//! with them nor make others wait; once they go on, they get all of it.

use std::os::unix::process::ExitStatusExt;
use std::time::Duration;

use kvproto::etcdserverpb::{RangeRequest, RangeResponse, RangeStreamResponse, WatchResponse};
use tonic::Streaming;
use tonic_prost::ProstCodec;

use crate::client::{CALL_WITHIN, Client, all_keys};
use crate::content::Random;
use crate::load::watch_all;
use crate::process::{Member, READY_WITHIN, is_etcd};

/// Keys, and bytes of each value: 64 MiB to read.
const KEYS: usize = 8_192;
const VALUE_BYTES: usize = 8_192;
/// Readers of each kind that stop. Were their answers kept in memory, that would be 1 GiB.
const STOPPED: usize = 8;
/// The window that a stopped reader leaves open.
const WINDOW_BYTES: u32 = 65_535;
/// Puts while they stand still.
const PUTS: usize = 2_000;
/// What the member may grow by meanwhile: 16 MiB of superseded values, the 64 MiB ring of
/// events, and slack for the allocator; a tenth of what the readers have asked for.
const GROWTH_BYTES_MAX: u64 = 192 << 20;
/// Connections that load and put.
const WRITERS: usize = 16;
/// SIGTERM: the process dies of the signal, as etcd does.
const SIGTERM: i32 = 15;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clients_that_stop_reading_hurt_nobody() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let mut member = Member::new(directory.path());
    member.start();
    let port = member.client_port();
    let loaded = put_all(port, KEYS, 1).await;
    let before = member.resident_bytes();

    let mut lists = Vec::new();
    let mut streams = Vec::new();
    let mut watches = Vec::new();
    for _ in 0..STOPPED {
        let mut client = Client::connect_with_window(port, WINDOW_BYTES).await;
        lists.push(open_list(&mut client).await);
        let mut client = Client::connect_with_window(port, WINDOW_BYTES).await;
        let stream = client.kv.range_stream(all_keys()).await;
        streams.push(stream.expect("a stream").into_inner());
        let mut client = Client::connect_with_window(port, WINDOW_BYTES).await;
        watches.push(watch_all(&mut client, loaded + 1).await);
    }
    let mut healthy = Client::connect(port).await;
    let (_requests, mut events) = watch_all(&mut healthy, loaded + 1).await;

    let last = put_all(port, PUTS, 2).await;
    expect_events(&mut events, loaded + 1, last).await;
    let grown = member.resident_bytes().saturating_sub(before);
    eprintln!("grown by {} MiB over stopped readers of 1 GiB", grown >> 20);
    assert!(
        is_etcd() || grown < GROWTH_BYTES_MAX,
        "grown by {grown} bytes"
    );

    for list in lists {
        let response = finish_list(list).await;
        check_list(&response, response.kvs.len(), loaded);
    }
    for stream in streams {
        let response = finish_stream(stream).await;
        check_list(&response, response.kvs.len(), loaded);
    }
    for (_requests, mut responses) in watches {
        expect_events(&mut responses, loaded + 1, last).await;
    }
    member.assert_running();
}

/// A client that has asked for everything and reads nothing does not hold up SIGTERM; what
/// was answered before is there afterwards. etcd waits for such a client.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_stopped_reading_does_not_hold_up_the_end() {
    if is_etcd() {
        return;
    }
    let directory = tempfile::tempdir().expect("a temporary directory");
    let mut member = Member::new(directory.path());
    member.start();
    let port = member.client_port();
    put_all(port, PUTS, 1).await;
    let mut client = Client::connect_with_window(port, WINDOW_BYTES).await;
    let _list = open_list(&mut client).await;
    let mut client = Client::connect_with_window(port, WINDOW_BYTES).await;
    let _stream = client.kv.range_stream(all_keys()).await;
    let mut client = Client::connect_with_window(port, WINDOW_BYTES).await;
    let _watch = watch_all(&mut client, 2).await;
    let last = put_all(port, WRITERS, 2).await;
    let status = member.terminate(READY_WITHIN);
    assert_eq!(status.signal(), Some(SIGTERM), "{status}");

    member.start();
    let mut client = Client::connect(port).await;
    let count = RangeRequest {
        count_only: true,
        ..all_keys()
    };
    let answer = client.kv.range(count).await.expect("a count").into_inner();
    assert_eq!(usize::try_from(answer.count), Ok(PUTS));
    assert_eq!(answer.header.expect("a header").revision, last);
}

/// Puts `count` keys from several connections and returns the last revision.
async fn put_all(port: u16, count: usize, seed: u64) -> i64 {
    let mut writers = tokio::task::JoinSet::new();
    for writer in 0..WRITERS {
        let mut client = Client::connect(port).await;
        writers.spawn(async move {
            let mut random = Random::new(seed + writer as u64);
            let mut last = 0;
            for key in (writer..count).step_by(WRITERS) {
                let words = (0..VALUE_BYTES / 8).map(|_| random.next().to_le_bytes());
                let value: Vec<u8> = words.flatten().collect();
                last = client.put(&format!("large/{key:06}"), value).await;
            }
            last
        });
    }
    let last = writers.join_all().await.into_iter().max();
    last.expect("there are writers")
}

/// Sends a unary Range and leaves its body where it is: tonic's stub would read it whole.
async fn open_list(client: &mut Client) -> Streaming<RangeResponse> {
    let mut grpc =
        tonic::client::Grpc::new(client.channel.clone()).max_decoding_message_size(usize::MAX);
    grpc.ready().await.expect("a connection");
    let path = http::uri::PathAndQuery::from_static("/etcdserverpb.KV/Range");
    let codec: ProstCodec<RangeRequest, RangeResponse> = ProstCodec::default();
    let request = tonic::Request::new(all_keys());
    let response = grpc.server_streaming(request, path, codec).await;
    response.expect("a list").into_inner()
}

async fn finish_list(mut list: Streaming<RangeResponse>) -> RangeResponse {
    let message = tokio::time::timeout(CALL_WITHIN, list.message()).await;
    let message = message
        .expect("the list goes on")
        .expect("the list goes on");
    let response = message.expect("one message");
    let end = list.message().await.expect("a good end");
    assert!(end.is_none(), "a second message in a unary answer");
    response
}

async fn finish_stream(mut stream: Streaming<RangeStreamResponse>) -> RangeResponse {
    let mut whole = RangeResponse::default();
    loop {
        let next = tokio::time::timeout(CALL_WITHIN, stream.message()).await;
        let next = next
            .expect("the stream goes on")
            .expect("the stream goes on");
        let Some(part) = next.and_then(|message| message.range_response) else {
            return whole;
        };
        whole.kvs.extend(part.kvs);
        whole.count = part.count;
        whole.header = whole.header.or(part.header);
    }
}

/// An answer holds every key as it was when the reader asked.
fn check_list(response: &RangeResponse, keys: usize, revision: i64) {
    assert_eq!(keys, KEYS, "keys of the list");
    assert_eq!(
        response.count,
        i64::try_from(KEYS).expect("few"),
        "its count"
    );
    let header = response.header.as_ref().expect("a header");
    assert_eq!(header.revision, revision, "its revision");
    for kv in &response.kvs {
        assert!(kv.mod_revision <= revision, "a value from later on");
        assert_eq!(kv.value.len(), VALUE_BYTES);
    }
}

/// The watch shows each revision from `first` to `last` once and in order.
async fn expect_events(responses: &mut Streaming<WatchResponse>, first: i64, last: i64) {
    let mut next = first;
    while next <= last {
        let response = tokio::time::timeout(CALL_WITHIN, responses.message()).await;
        let response = response.expect("events go on").expect("events go on");
        let response = response.expect("the stream stays");
        assert!(!response.canceled, "{response:?}");
        for event in &response.events {
            let kv = event.kv.as_ref().expect("a key");
            assert_eq!(kv.mod_revision, next, "the next event");
            next += 1;
        }
    }
}

/// While a member is stopped in its tracks (SIGSTOP) nothing is answered; afterwards all
/// is, and nothing twice.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pause_of_the_process_loses_nothing() {
    let mut campaign = crate::campaign::Campaign::new();
    campaign.start().await;
    campaign.load().await;
    for _ in 0..3 {
        tokio::time::sleep(Duration::from_millis(100)).await;
        campaign.member.signal("STOP");
        tokio::time::sleep(Duration::from_millis(300)).await;
        campaign.member.signal("CONT");
    }
    campaign.kill().await;
    campaign.start().await;
    campaign.kill().await;
}
