//! Keep-alives: each client has a lease and a stream of its own.

use kvproto::etcdserverpb::{
    LeaseGrantRequest, LeaseGrantResponse, LeaseKeepAliveRequest, LeaseKeepAliveResponse,
};

use super::closed_loop::{self, Client};
use super::session::Session;
use crate::connection::{Duplex, Method};
use crate::failure::Failure;
use crate::frames::frame;
use crate::measurement::{Measurement, Meter};

const STREAMS: usize = 256;
/// Long enough that no lease ends within a run whose clients stall.
const TTL_SECONDS: i64 = 3_600;

struct KeepAliveClient {
    stream: Duplex,
    lease: i64,
}

impl Client for KeepAliveClient {
    async fn step(&mut self) -> Result<u64, Failure> {
        self.stream
            .send(frame(&LeaseKeepAliveRequest { id: self.lease }))?;
        let response: LeaseKeepAliveResponse = self.stream.next().await?;
        if response.id != self.lease || response.ttl <= 0 {
            return Err(Failure::Wrong(
                "a keep-alive of another or an ended lease".to_owned(),
            ));
        }
        Ok(1)
    }
}

/// Keep-alives on 256 streams.
pub async fn keep_alive(session: &mut Session, line: &'static str) -> Result<Measurement, Failure> {
    let mut clients = Vec::new();
    for number in 0..STREAMS {
        let connection = session.connection(number);
        let request = LeaseGrantRequest {
            ttl: TTL_SECONDS,
            id: 0,
        };
        let lease: LeaseGrantResponse = connection.unary(Method::LeaseGrant, &request).await?;
        let stream = connection.duplex(Method::LeaseKeepAlive).await?;
        clients.push(KeepAliveClient {
            stream,
            lease: lease.id,
        });
    }
    let meter = Meter::start(&session.observed)?;
    let tally = closed_loop::run(clients, session.settings.length).await;
    Ok(meter.finish(line, &tally))
}
