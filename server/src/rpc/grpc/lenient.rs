//! Requests that prost refuses and etcd takes. Go skips a known field that comes with another
//! wire type, as it skips an unknown one; prost ends there. Go lets messages nest 10,000 deep,
//! prost 100. Owns the second look at such a message: what Go would skip is left out, by the
//! descriptors, and the rest decoded again, transactions within transactions level by level.
//!
//! The way of a sound message is untouched. One pass over the bytes and one copy of what is
//! kept, without recursion; a nested message grows by at most [`LENGTH_BYTES`].
//!
//! Limits: messages and groups nest as deep as Go lets them. What goes beyond is refused in
//! Go's words, as is every byte that is no protobuf. `nested_txn` says what is decoded of it.

use std::any::Any;
use std::collections::HashMap;
use std::fmt;
use std::sync::LazyLock;

use bytes::{Buf, Bytes};
use kvproto::etcdserverpb::TxnRequest;
use prost::Message;
use prost::encoding::decode_varint;
use prost_types::field_descriptor_proto::{Label, Type};
use prost_types::{DescriptorProto, FieldDescriptorProto, FileDescriptorSet};

use super::nested_txn;

/// The message itself and those that Go lets nest in it.
const MESSAGE_DEPTH_MAX: usize = 10_000;

/// Go counts the outermost group as none of its 10,000.
const GROUP_DEPTH_MAX: usize = 10_001;

/// The largest number of a field.
const NUMBER_MAX: u64 = (1 << 29) - 1;

/// Go looks less closely at the numbers within a group.
const NUMBER_IN_GROUP_MAX: u64 = i32::MAX as u64;

/// A rewritten length has this many bytes whatever it is: it is known after what it counts.
const LENGTH_BYTES: usize = 5;

const VARINT: u64 = 0;
const FIXED_64: u64 = 1;
const LENGTH_DELIMITED: u64 = 2;
const GROUP_START: u64 = 3;
const GROUP_END: u64 = 4;
const FIXED_32: u64 = 5;

static SHAPES: LazyLock<Shapes> = LazyLock::new(Shapes::new);

/// Why bytes are no request, as etcd's protobuf library puts it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Malformed {
    /// They are no protobuf.
    Wire,
    /// Messages nest deeper than [`MESSAGE_DEPTH_MAX`].
    TooDeep,
}

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Malformed::Wire => "proto: cannot parse invalid wire-format data",
            Malformed::TooDeep => "proto: exceeded maximum recursion depth",
        })
    }
}

/// Decodes the request of this method's path. Of transactions within transactions, what lies
/// deeper than any is let through is left out (`nested_txn`).
///
/// # Errors
/// When Go would refuse the bytes too.
pub fn decode<M: Message + Default + 'static>(bytes: &Bytes, path: &str) -> Result<M, Malformed> {
    if let Ok(message) = M::decode(bytes.clone()) {
        return Ok(message);
    }
    let mut kept = Bytes::from(SHAPES.kept(path, bytes)?);
    let mut message = M::default();
    let merged = match (&mut message as &mut dyn Any).downcast_mut::<TxnRequest>() {
        Some(txn) => nested_txn::merge(txn, kept),
        None => message.merge(&mut kept).ok(),
    };
    merged.map(|()| message).ok_or(Malformed::Wire)
}

/// What the descriptors say of one field.
#[derive(Debug)]
struct Field {
    wire: u64,
    /// Numbers that may also come packed.
    packable: bool,
    /// The message that it holds.
    message: Option<String>,
}

type Fields = HashMap<u64, Field>;

/// Messages by full name, as descriptors refer to them (with a dot in front), and the names
/// of requests by path.
#[derive(Debug, Default)]
struct Shapes {
    messages: HashMap<String, Fields>,
    requests: HashMap<String, String>,
}

impl Shapes {
    fn new() -> Shapes {
        let descriptors = FileDescriptorSet::decode(kvproto::FILE_DESCRIPTOR_SET)
            .expect("a test compares the descriptors with their source");
        let mut shapes = Shapes::default();
        for file in &descriptors.file {
            for message in &file.message_type {
                shapes.add(&format!(".{}", file.package()), message);
            }
            for service in &file.service {
                for method in &service.method {
                    let (package, service) = (file.package(), service.name());
                    let path = format!("/{package}.{service}/{}", method.name());
                    let request = method.input_type().to_owned();
                    shapes.requests.insert(path, request);
                }
            }
        }
        shapes.add_health();
        shapes
    }

    fn add(&mut self, outer: &str, message: &DescriptorProto) {
        let name = format!("{outer}.{}", message.name());
        for nested in &message.nested_type {
            self.add(&name, nested);
        }
        let fields = message.field.iter().filter_map(|field| {
            let number = u64::try_from(field.number()).ok()?;
            Some((number, Field::new(field)))
        });
        self.messages.insert(name, fields.collect());
    }

    /// The health service is not among our `.proto` files: one text, the service, or nothing.
    fn add_health(&mut self) {
        let service = Field {
            wire: LENGTH_DELIMITED,
            packable: false,
            message: None,
        };
        for (method, fields) in [
            ("Check", Fields::from([(1, service)])),
            ("List", Fields::new()),
        ] {
            let name = format!(".grpc.health.v1.{method}");
            let path = format!("/grpc.health.v1.Health/{method}");
            self.messages.insert(name.clone(), fields);
            self.requests.insert(path, name);
        }
        let watch = "/grpc.health.v1.Health/Watch".to_owned();
        self.requests
            .insert(watch, ".grpc.health.v1.Check".to_owned());
    }

    /// The bytes without the fields that Go skips.
    fn kept(&self, path: &str, bytes: &[u8]) -> Result<Vec<u8>, Malformed> {
        let request = self.requests.get(path);
        let fields = request.and_then(|request| self.messages.get(request));
        let mut kept = Vec::with_capacity(bytes.len());
        self.keep(fields.ok_or(Malformed::Wire)?, bytes, &mut kept)?;
        Ok(kept)
    }

    fn keep(&self, fields: &Fields, bytes: &[u8], kept: &mut Vec<u8>) -> Result<(), Malformed> {
        let mut open = vec![Open {
            fields,
            rest: bytes,
            length_at: None,
        }];
        while let Some(current) = open.last_mut() {
            if current.rest.is_empty() {
                if let Some(length_at) = current.length_at {
                    write_length(kept, length_at).ok_or(Malformed::Wire)?;
                }
                open.pop();
                continue;
            }
            let inner = current.field(kept).ok_or(Malformed::Wire)?;
            if let Some((message, content)) = inner {
                if open.len() == MESSAGE_DEPTH_MAX {
                    return Err(Malformed::TooDeep);
                }
                let fields = self.messages.get(message).ok_or(Malformed::Wire)?;
                let length_at = Some(kept.len());
                kept.extend_from_slice(&[0; LENGTH_BYTES]);
                open.push(Open {
                    fields,
                    rest: content,
                    length_at,
                });
            }
        }
        Ok(())
    }
}

/// A message that is being looked at.
struct Open<'a> {
    fields: &'a Fields,
    rest: &'a [u8],
    /// Where its length goes, once it is known.
    length_at: Option<usize>,
}

impl<'a> Open<'a> {
    /// Takes the next field and keeps it if Go does; of a message only the key, and gives its
    /// name and content.
    fn field(&mut self, kept: &mut Vec<u8>) -> Option<Option<(&'a str, &'a [u8])>> {
        let whole = self.rest;
        let (number, wire) = take_key(&mut self.rest, NUMBER_MAX)?;
        let value = self.rest;
        skip_value(number, wire, &mut self.rest)?;
        let Some(field) = self.fields.get(&number).filter(|field| field.takes(wire)) else {
            return Some(None);
        };
        let Some(message) = &field.message else {
            kept.extend_from_slice(before(whole, self.rest)?);
            return Some(None);
        };
        kept.extend_from_slice(before(whole, value)?);
        let mut content = before(value, self.rest)?;
        decode_varint(&mut content).ok()?;
        Some(Some((message, content)))
    }
}

impl Field {
    fn new(field: &FieldDescriptorProto) -> Field {
        let wire = match field.r#type() {
            Type::Double | Type::Fixed64 | Type::Sfixed64 => FIXED_64,
            Type::Float | Type::Fixed32 | Type::Sfixed32 => FIXED_32,
            Type::String | Type::Bytes | Type::Message => LENGTH_DELIMITED,
            Type::Group => GROUP_START,
            Type::Int32
            | Type::Int64
            | Type::Uint32
            | Type::Uint64
            | Type::Sint32
            | Type::Sint64
            | Type::Bool
            | Type::Enum => VARINT,
        };
        let is_number = wire != LENGTH_DELIMITED && wire != GROUP_START;
        let is_message = field.r#type() == Type::Message;
        Field {
            wire,
            packable: is_number && field.label() == Label::Repeated,
            message: is_message.then(|| field.type_name().to_owned()),
        }
    }

    fn takes(&self, wire: u64) -> bool {
        wire == self.wire || (self.packable && wire == LENGTH_DELIMITED)
    }
}

/// What lies in `from` before its end `rest`.
fn before<'a>(from: &'a [u8], rest: &[u8]) -> Option<&'a [u8]> {
    from.get(..from.len().checked_sub(rest.len())?)
}

/// A field's number and wire type.
fn take_key(rest: &mut &[u8], number_max: u64) -> Option<(u64, u64)> {
    let key = decode_varint(rest).ok()?;
    let number = key >> 3;
    (1..=number_max)
        .contains(&number)
        .then_some((number, key & 7))
}

/// Skips what follows a key, groups without recursion.
fn skip_value(number: u64, wire: u64, rest: &mut &[u8]) -> Option<()> {
    let mut open = Vec::new();
    let (mut number, mut wire) = (number, wire);
    loop {
        let length = match wire {
            VARINT => decode_varint(rest).map(|_| 0).ok()?,
            FIXED_64 => 8,
            FIXED_32 => 4,
            LENGTH_DELIMITED => usize::try_from(decode_varint(rest).ok()?).ok()?,
            GROUP_START if open.len() < GROUP_DEPTH_MAX => {
                open.push(number);
                0
            }
            GROUP_END if open.pop() == Some(number) => 0,
            _ => return None,
        };
        if length > rest.len() {
            return None;
        }
        rest.advance(length);
        if open.is_empty() {
            return Some(());
        }
        (number, wire) = take_key(rest, NUMBER_IN_GROUP_MAX)?;
    }
}

/// Writes the length of what follows `at` into the place left for it, each byte but the last
/// with the sign that another follows.
fn write_length(kept: &mut [u8], at: usize) -> Option<()> {
    let (_, tail) = kept.split_at_mut_checked(at)?;
    let (place, content) = tail.split_first_chunk_mut::<LENGTH_BYTES>()?;
    let mut left = content.len();
    for byte in place.iter_mut() {
        *byte = 0x80 | u8::try_from(left & 0x7f).ok()?;
        left >>= 7;
    }
    *place.last_mut()? &= 0x7f;
    (left == 0).then_some(())
}

#[cfg(test)]
mod tests {
    use kvproto::etcdserverpb as pb;
    use kvproto::etcdserverpb::watch_request::RequestUnion;
    use storage::limits::TXN_DEPTH_MAX;

    use super::*;

    const RANGE: &str = "/etcdserverpb.KV/Range";
    const TXN: &str = "/etcdserverpb.KV/Txn";
    const WATCH: &str = "/etcdserverpb.Watch/Watch";

    fn decoded<M: Message + Default + 'static>(path: &str, bytes: &[u8]) -> Option<M> {
        decode(&Bytes::copy_from_slice(bytes), path).ok()
    }

    fn range(key: &'static [u8]) -> pb::RangeRequest {
        pb::RangeRequest {
            key: Bytes::from_static(key),
            ..Default::default()
        }
    }

    #[test]
    fn fields_of_another_wire_type_are_skipped() {
        for (bytes, key) in [
            // The request that the comparison with etcd found.
            (&[0x08, 0xc7, 0xfb, 0x02][..], &b""[..]),
            (&[0x08, 1, 0x0a, 1, b'k'], b"k"),
            (&[0x0a, 1, b'k', 0x0d, 1, 2, 3, 4], b"k"),
            (&[0x0a, 1, b'k', 0x09, 1, 2, 3, 4, 5, 6, 7, 8], b"k"),
            // A group, and in it a number that is too large elsewhere.
            (
                &[0x0b, 0x88, 0x80, 0x80, 0x80, 0x10, 1, 0x0c, 0x0a, 1, b'k'],
                b"k",
            ),
            // The limit, a number, as bytes.
            (&[0x1a, 1, 9, 0x0a, 1, b'k'], b"k"),
        ] {
            assert_eq!(decoded(RANGE, bytes), Some(range(key)), "{bytes:x?}");
        }
    }

    #[test]
    fn nested_messages_lose_them_too() {
        let inner = [0x08, 7, 0x0a, 1, b'k'];
        let operation = [&[0x0a, 5][..], &inner].concat();
        let request = [&[0x12, 7][..], &operation, &[0x10, 3]].concat();
        let wanted = pb::TxnRequest {
            success: vec![pb::RequestOp {
                request: Some(pb::request_op::Request::RequestRange(range(b"k"))),
            }],
            ..Default::default()
        };
        assert_eq!(decoded(TXN, &request), Some(wanted));
    }

    #[test]
    fn repeated_numbers_come_packed_or_not() {
        // Field 1 comes as a number first, so that the second look is taken.
        let create = [0x08, 1, 0x2a, 2, 0, 1, 0x28, 1, 0x2d, 0, 0, 0, 0];
        let bytes = [&[0x0a, 13][..], &create].concat();
        let request: pb::WatchRequest = decoded(WATCH, &bytes).expect("a request");
        let Some(RequestUnion::CreateRequest(create)) = request.request_union else {
            panic!("{request:?}");
        };
        assert_eq!(create.filters, [0, 1, 1]);
    }

    #[test]
    fn what_go_refuses_stays_refused() {
        for bytes in [
            // Cut short: after the key, in a number, in bytes, in a group.
            &[0x08, 1, 0x0a][..],
            &[0x08, 0x80],
            &[0x08, 1, 0x0a, 2, b'k'],
            &[0x0b, 0x08, 1],
            &[0x0d, 1, 2, 3],
            // Number 0, one that is too large, a wire type that is none.
            &[0x08, 1, 0x00, 1],
            &[0x08, 1, 0x80, 0x80, 0x80, 0x80, 0x10, 1],
            &[0x08, 1, 0x0e],
            &[0x08, 1, 0x0f],
            // The end of a group that is not open, and of another one.
            &[0x08, 1, 0x0c],
            &[0x0b, 0x14],
            // Numbers of more than 64 bits, of more than ten bytes.
            &[
                0x08, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 2,
            ],
            &[
                0x08, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 1,
            ],
        ] {
            assert_eq!(
                decoded::<pb::RangeRequest>(RANGE, bytes),
                None,
                "{bytes:x?}"
            );
        }
    }

    #[test]
    fn depth_is_bounded() {
        let groups = |depth: usize| [vec![0x0b; depth], vec![0x0c; depth]].concat();
        let deepest = groups(GROUP_DEPTH_MAX);
        assert_eq!(decoded(RANGE, &deepest), Some(range(b"")));
        let deeper = groups(GROUP_DEPTH_MAX + 1);
        assert_eq!(decoded::<pb::RangeRequest>(RANGE, &deeper), None);
        // Transactions within transactions, around a field of another wire type.
        let nested = |depth: usize| {
            (0..depth).fold(pb::TxnRequest::default().encode_to_vec(), |inner, _| {
                let mut operation = vec![0x22];
                prost::encoding::encode_varint(inner.len() as u64, &mut operation);
                operation.extend(inner);
                let mut outer = vec![0x10, 1, 0x12];
                prost::encoding::encode_varint(operation.len() as u64, &mut outer);
                outer.extend(operation);
                outer
            })
        };
        let decoded = |depth: usize| {
            decode::<pb::TxnRequest>(&Bytes::from(nested(depth)), TXN)
                .map(|request| nested_txn::levels(&request))
        };
        assert_eq!(decoded(50), Ok(51));
        assert_eq!(decoded(51), Ok(52));
        // Each but the last is two messages.
        let deepest = (MESSAGE_DEPTH_MAX - 1) / 2;
        assert_eq!(decoded(deepest), Ok(TXN_DEPTH_MAX + 1));
        assert_eq!(decoded(deepest + 1), Err(Malformed::TooDeep));
    }

    #[test]
    fn every_method_has_its_shape() {
        for method in crate::rpc::METHODS {
            let path = format!("/{}/{}", method.service, method.method);
            assert_eq!(SHAPES.kept(&path, &[]), Ok(Vec::new()), "{path}");
            // Unknown to all of them.
            let unknown = [0xf8, 0x3f, 1];
            assert_eq!(SHAPES.kept(&path, &unknown), Ok(Vec::new()), "{path}");
        }
    }
}
