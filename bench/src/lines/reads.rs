//! Gets, lists in all forms, one namespace of many, and the count.
//!
//! Invariant: an answer with another number of keys than were written is an error.

use bytes::{BufMut, Bytes, BytesMut};
use kvproto::etcdserverpb::{RangeRequest, RangeResponse};

use super::closed_loop::{self, Client};
use super::session::Session;
use super::table::{GROWTH_CLIENTS, List};
use super::writes::{KEY_KIND, OBJECT_KIND, revision};
use crate::connection::{Connection, Method};
use crate::failure::Failure;
use crate::frames::{FieldCounter, frame};
use crate::measurement::{Measurement, Meter};
use crate::objects::{self, NAMESPACE_OBJECTS, Random};

/// Keys of a page, as kube-apiserver asks for them.
const PAGE_KEYS: i64 = 500;
/// Field `kvs` of a RangeResponse.
const KEY_VALUES_FIELD: u64 = 2;
/// Field `range_response` of a RangeStreamResponse.
const STREAMED_FIELD: u64 = 1;

fn expect_keys(found: u64, expected: u64) -> Result<u64, Failure> {
    if found == expected {
        return Ok(found);
    }
    Err(Failure::Wrong(format!(
        "{found} keys where {expected} were written"
    )))
}

fn whole(prefix: &str) -> RangeRequest {
    RangeRequest {
        key: Bytes::from(prefix.to_owned()),
        range_end: objects::prefix_end(prefix),
        ..RangeRequest::default()
    }
}

struct GetClient {
    connection: Connection,
    random: Random,
    kind: &'static str,
    keys: u64,
    serializable: bool,
}

impl Client for GetClient {
    async fn step(&mut self) -> Result<u64, Failure> {
        let key = objects::key(self.kind, self.random.below(self.keys));
        let serializable = self.serializable;
        let request = RangeRequest {
            key,
            serializable,
            ..RangeRequest::default()
        };
        let counter = FieldCounter::new(KEY_VALUES_FIELD, None);
        let request = frame(&request);
        let counter = self
            .connection
            .count(Method::Range, request, counter)
            .await?;
        expect_keys(counter.fields, 1)
    }
}

/// Gets of random keys.
pub async fn get(
    session: &mut Session,
    line: &'static str,
    clients: usize,
    serializable: bool,
) -> Result<Measurement, Failure> {
    session.need_keys().await?;
    let clients = (0..clients)
        .map(|number| GetClient {
            connection: session.connection(number),
            random: Random::new(number as u64),
            kind: KEY_KIND,
            keys: session.settings.keys,
            serializable,
        })
        .collect();
    measure(session, line, clients).await
}

/// Gets of random objects, linearizable, by 16 clients.
pub async fn get_objects(
    session: &mut Session,
    line: &'static str,
) -> Result<Measurement, Failure> {
    session.need_objects().await?;
    let clients = (0..GROWTH_CLIENTS)
        .map(|number| GetClient {
            connection: session.connection(number),
            random: Random::new(number as u64),
            kind: OBJECT_KIND,
            keys: session.settings.objects,
            serializable: false,
        })
        .collect();
    measure(session, line, clients).await
}

async fn measure<C: Client>(
    session: &Session,
    line: &'static str,
    clients: Vec<C>,
) -> Result<Measurement, Failure> {
    let meter = Meter::start(&session.observed)?;
    let tally = closed_loop::run(clients, session.settings.length).await;
    Ok(meter.finish(line, &tally))
}

/// The call that asks for all objects at once.
pub fn whole_list(list: List) -> (Method, Bytes) {
    let request = RangeRequest {
        keys_only: list == List::KeysOnly,
        ..whole(&objects::prefix(OBJECT_KIND))
    };
    let method = match list {
        List::Stream => Method::RangeStream,
        List::Unary | List::KeysOnly | List::Pages => Method::Range,
    };
    (method, frame(&request))
}

/// One list of all objects at once, counted.
pub async fn list_once(connection: &Connection, list: List, objects: u64) -> Result<u64, Failure> {
    let (method, request) = whole_list(list);
    let descend = (list == List::Stream).then_some(STREAMED_FIELD);
    let counter = FieldCounter::new(KEY_VALUES_FIELD, descend);
    let counter = connection.count(method, request, counter).await?;
    expect_keys(counter.fields, objects)
}

struct ListClient {
    connection: Connection,
    list: List,
    objects: u64,
}

impl ListClient {
    /// All pages at the revision of the first, as kube-apiserver walks them.
    async fn in_pages(&self) -> Result<u64, Failure> {
        let mut request = RangeRequest {
            limit: PAGE_KEYS,
            ..whole(&objects::prefix(OBJECT_KIND))
        };
        let mut found = 0;
        loop {
            let page: RangeResponse = self.connection.unary(Method::Range, &request).await?;
            found += page.kvs.len() as u64;
            if request.revision == 0 {
                request.revision = revision(page.header)?;
            }
            let last = match page.kvs.last() {
                Some(last) if page.more => last,
                _ => return Ok(found),
            };
            let mut after = BytesMut::from(&last.key[..]);
            after.put_u8(0);
            request.key = after.freeze();
        }
    }
}

impl Client for ListClient {
    async fn step(&mut self) -> Result<u64, Failure> {
        match self.list {
            List::Pages => expect_keys(self.in_pages().await?, self.objects),
            List::Unary | List::Stream | List::KeysOnly => {
                list_once(&self.connection, self.list, self.objects).await
            }
        }
    }
}

/// Lists of all objects, one after the other; at least one, however long it takes.
pub async fn list(
    session: &mut Session,
    line: &'static str,
    list: List,
) -> Result<Measurement, Failure> {
    session.need_objects().await?;
    let objects = session.settings.objects;
    let client = ListClient {
        connection: session.connection(0),
        list,
        objects,
    };
    let meter = Meter::start(&session.observed)?;
    let tally = closed_loop::run(vec![client], session.settings.length).await;
    Ok(meter.finish(line, &tally))
}

struct NamespaceClient {
    connection: Connection,
    random: Random,
    namespaces: u64,
}

impl Client for NamespaceClient {
    async fn step(&mut self) -> Result<u64, Failure> {
        let number = self.random.below(self.namespaces);
        let request = whole(&objects::namespace(OBJECT_KIND, number));
        let counter = FieldCounter::new(KEY_VALUES_FIELD, None);
        let counter = self
            .connection
            .count(Method::Range, frame(&request), counter)
            .await?;
        expect_keys(counter.fields, NAMESPACE_OBJECTS)?;
        Ok(1)
    }
}

/// Lists of random namespaces.
pub async fn namespace(
    session: &mut Session,
    line: &'static str,
    clients: usize,
) -> Result<Measurement, Failure> {
    session.need_objects().await?;
    let clients = (0..clients)
        .map(|number| NamespaceClient {
            connection: session.connection(number),
            random: Random::new(number as u64),
            namespaces: session.settings.objects / NAMESPACE_OBJECTS,
        })
        .collect();
    let meter = Meter::start(&session.observed)?;
    let tally = closed_loop::run(clients, session.settings.length).await;
    Ok(meter.finish(line, &tally))
}

struct PageClient {
    connection: Connection,
    random: Random,
    objects: u64,
}

impl Client for PageClient {
    async fn step(&mut self) -> Result<u64, Failure> {
        // A whole page lies behind every key that is chosen.
        let page = PAGE_KEYS.unsigned_abs();
        let places = self.objects.saturating_sub(page).max(1);
        let request = RangeRequest {
            key: objects::key(OBJECT_KIND, self.random.below(places)),
            limit: PAGE_KEYS,
            ..whole(&objects::prefix(OBJECT_KIND))
        };
        let counter = FieldCounter::new(KEY_VALUES_FIELD, None);
        let request = frame(&request);
        let counter = self
            .connection
            .count(Method::Range, request, counter)
            .await?;
        expect_keys(counter.fields, page.min(self.objects))?;
        Ok(1)
    }
}

/// Pages of 500 from random keys on, by one client.
pub async fn page(session: &mut Session, line: &'static str) -> Result<Measurement, Failure> {
    session.need_objects().await?;
    let client = PageClient {
        connection: session.connection(0),
        random: Random::new(7),
        objects: session.settings.objects,
    };
    measure(session, line, vec![client]).await
}

struct CountClient {
    connection: Connection,
    objects: u64,
}

impl Client for CountClient {
    async fn step(&mut self) -> Result<u64, Failure> {
        let request = RangeRequest {
            count_only: true,
            ..whole(&objects::prefix(OBJECT_KIND))
        };
        let response: RangeResponse = self.connection.unary(Method::Range, &request).await?;
        expect_keys(u64::try_from(response.count).unwrap_or(0), self.objects)?;
        Ok(1)
    }
}

/// Counts of all objects.
pub async fn count(session: &mut Session, line: &'static str) -> Result<Measurement, Failure> {
    session.need_objects().await?;
    let objects = session.settings.objects;
    let client = CountClient {
        connection: session.connection(0),
        objects,
    };
    let meter = Meter::start(&session.observed)?;
    let tally = closed_loop::run(vec![client], session.settings.length).await;
    Ok(meter.finish(line, &tally))
}
