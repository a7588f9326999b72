//! The byte form of a manifest (docs/format.md, "Manifest"): a header whose
//! layout is the same in every version, then sections in a fixed order, each
//! with a CRC over its own header and payload. So every byte of the file is
//! covered, and an error says in which section it lies.

use crate::apply::command::Alarm;
use crate::types::{LeaseId, LogIndex, MemberId, Revision, SegmentNumber, Term};

use super::codec::{Malformed, Reader, Writer};
use super::digest::SetDigest;
use super::manifest::{Identity, Manifest, Member};

/// Version that this binary writes and the newest it reads.
pub(crate) const VERSION: u32 = 1;

const MAGIC: &[u8; 8] = b"STPNMANI";

/// Magic, version, number of sections, file length, CRC of all that.
const HEADER_BYTES: usize = 28;

/// Tag, payload length, CRC of tag, length and payload.
const SECTION_HEADER_BYTES: usize = 16;

/// The sections of version 1, in the order in which they stand. Later versions
/// may add sections (auth is the next one); a version-1 file with any other
/// section is malformed.
const SECTION_TAGS: [u32; 7] = [
    IDENTITY, MEMBERSHIP, LOG, REVISIONS, REMOVED, LEASES, ALARMS,
];
const IDENTITY: u32 = 1;
const MEMBERSHIP: u32 = 2;
const LOG: u32 = 3;
const REVISIONS: u32 = 4;
const REMOVED: u32 = 5;
const LEASES: u32 = 6;
const ALARMS: u32 = 7;

/// Writes a manifest.
pub(crate) fn encode(manifest: &Manifest) -> Vec<u8> {
    assemble(SECTION_TAGS.map(|tag| {
        let mut payload = Writer::default();
        encode_section(manifest, tag, &mut payload);
        payload.0
    }))
}

/// A file with intact checksums in which one section holds what the caller
/// wants, for tests.
#[cfg(test)]
pub(crate) fn with_payload(manifest: &Manifest, section: usize, payload: &[u8]) -> Vec<u8> {
    let mut number = 0;
    assemble(SECTION_TAGS.map(|tag| {
        number += 1;
        if number == section + 1 {
            return payload.to_vec();
        }
        let mut payload = Writer::default();
        encode_section(manifest, tag, &mut payload);
        payload.0
    }))
}

fn assemble(payloads: [Vec<u8>; SECTION_TAGS.len()]) -> Vec<u8> {
    let mut body = Writer::default();
    for (tag, payload) in SECTION_TAGS.into_iter().zip(payloads) {
        let length = payload.len() as u64;
        body.u32(tag);
        body.u64(length);
        body.u32(section_checksum(tag, length, &payload));
        body.bytes(&payload);
    }
    let mut file = Writer(Vec::with_capacity(HEADER_BYTES + body.0.len()));
    file.bytes(MAGIC);
    file.u32(VERSION);
    file.u32(u32::try_from(SECTION_TAGS.len()).expect("seven sections"));
    file.u64((HEADER_BYTES + body.0.len()) as u64);
    let checksum = crc32fast::hash(&file.0);
    file.u32(checksum);
    file.bytes(&body.0);
    file.0
}

/// The version of an intact header that is newer than this binary's.
pub(crate) fn newer_version(bytes: &[u8]) -> Option<u32> {
    let header = decode_header(&mut Reader::new(bytes, 0)).ok()?;
    (header.version > VERSION).then_some(header.version)
}

/// Reads a manifest of this version. The invariants of its fields are the
/// caller's to check.
pub(crate) fn decode(bytes: &[u8]) -> Result<Manifest, Malformed> {
    let mut reader = Reader::new(bytes, 0);
    let header = decode_header(&mut reader)?;
    if header.version != VERSION {
        return Err(Malformed::new(8, format!("version {}", header.version)));
    }
    if header.sections as usize != SECTION_TAGS.len() {
        return Err(Malformed::new(12, format!("{} sections", header.sections)));
    }
    if header.file_length != bytes.len() as u64 {
        return Err(Malformed::new(
            header.file_length.min(bytes.len() as u64),
            format!(
                "the file has {} bytes, its header says {}",
                bytes.len(),
                header.file_length
            ),
        ));
    }
    let mut manifest = Manifest::empty(Identity::default());
    for tag in SECTION_TAGS {
        let mut payload = open_section(&mut reader, tag)?;
        decode_section(&mut manifest, tag, &mut payload)?;
        payload.end()?;
    }
    reader.end()?;
    Ok(manifest)
}

struct Header {
    version: u32,
    sections: u32,
    file_length: u64,
}

fn decode_header(reader: &mut Reader<'_>) -> Result<Header, Malformed> {
    let raw = reader.bytes(HEADER_BYTES)?;
    let mut fields = Reader::new(raw, 0);
    let magic = fields.bytes(MAGIC.len())?;
    if magic != MAGIC {
        return Err(Malformed::new(0, "this is not a manifest of Sternpost"));
    }
    let version = fields.u32()?;
    let sections = fields.u32()?;
    let file_length = fields.u64()?;
    let stored = fields.u32()?;
    let covered = HEADER_BYTES - 4;
    let computed = crc32fast::hash(raw.get(..covered).unwrap_or_default());
    if stored != computed {
        return Err(Malformed::new(
            0,
            format!("header CRC {stored:#010x} stored, {computed:#010x} computed"),
        ));
    }
    Ok(Header {
        version,
        sections,
        file_length,
    })
}

fn open_section<'a>(reader: &mut Reader<'a>, expected: u32) -> Result<Reader<'a>, Malformed> {
    let start = reader.offset();
    let tag = reader.u32()?;
    let length = reader.u64()?;
    let stored = reader.u32()?;
    let left = reader.remaining();
    let fits = usize::try_from(length)
        .ok()
        .filter(|length| *length <= left);
    let Some(length_fitting) = fits else {
        let detail = format!("section {expected} of {length} bytes, {left} left");
        return Err(Malformed::new(start, detail));
    };
    let payload = reader.bytes(length_fitting)?;
    let computed = section_checksum(tag, length, payload);
    if stored != computed {
        return Err(Malformed::new(
            start,
            format!("section {expected}: CRC {stored:#010x} stored, {computed:#010x} computed"),
        ));
    }
    if tag != expected {
        return Err(Malformed::new(
            start,
            format!("section {tag} where section {expected} belongs"),
        ));
    }
    Ok(Reader::new(payload, start + SECTION_HEADER_BYTES as u64))
}

fn section_checksum(tag: u32, length: u64, payload: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&tag.to_le_bytes());
    hasher.update(&length.to_le_bytes());
    hasher.update(payload);
    hasher.finalize()
}

fn encode_section(manifest: &Manifest, tag: u32, out: &mut Writer) {
    match tag {
        IDENTITY => {
            out.u64(manifest.sequence);
            out.u64(manifest.identity.cluster_id);
            out.u64(manifest.identity.member_id.0);
            out.string(&manifest.cluster_version);
        }
        MEMBERSHIP => encode_membership(manifest, out),
        LOG => {
            out.u64(manifest.applied_index.0);
            out.u64(manifest.applied_term.0);
            out.u64(manifest.first_needed_index.0);
            out.count(manifest.segments.len());
            for segment in &manifest.segments {
                out.u32(segment.0);
            }
        }
        REVISIONS => {
            out.i64(manifest.current_revision);
            out.i64(manifest.compacted_revision);
            out.i64(manifest.bound.main);
            out.u32(manifest.bound.sub);
            encode_digest(manifest.index, out);
            encode_digest(manifest.cold, out);
            out.u128(manifest.live_hash);
            out.u128(manifest.chain_hash);
        }
        REMOVED => encode_removed(&manifest.removed, out),
        LEASES => {
            out.count(manifest.leases.len());
            for (lease, ttl_seconds) in &manifest.leases {
                out.i64(lease.0);
                out.i64(*ttl_seconds);
            }
        }
        ALARMS => {
            out.count(manifest.alarms.len());
            for (member, alarm) in &manifest.alarms {
                out.u64(member.0);
                out.u8(match alarm {
                    Alarm::NoSpace => 1,
                    Alarm::Corrupt => 2,
                });
            }
        }
        _ => unreachable!("the caller goes through SECTION_TAGS"),
    }
}

fn decode_section(
    manifest: &mut Manifest,
    tag: u32,
    from: &mut Reader<'_>,
) -> Result<(), Malformed> {
    match tag {
        IDENTITY => {
            manifest.sequence = from.u64()?;
            manifest.identity.cluster_id = from.u64()?;
            manifest.identity.member_id = MemberId(from.u64()?);
            manifest.cluster_version = from.string()?;
        }
        MEMBERSHIP => decode_membership(manifest, from)?,
        LOG => {
            manifest.applied_index = LogIndex(from.u64()?);
            manifest.applied_term = Term(from.u64()?);
            manifest.first_needed_index = LogIndex(from.u64()?);
            let count = from.count(4)?;
            manifest.segments = collect(count, || Ok(SegmentNumber(from.u32()?)))?;
        }
        REVISIONS => {
            manifest.current_revision = from.i64()?;
            manifest.compacted_revision = from.i64()?;
            manifest.bound = Revision::new(from.i64()?, from.u32()?);
            manifest.index = decode_digest(from)?;
            manifest.cold = decode_digest(from)?;
            manifest.live_hash = from.u128()?;
            manifest.chain_hash = from.u128()?;
        }
        REMOVED => manifest.removed = decode_removed(from)?,
        LEASES => {
            let count = from.count(16)?;
            manifest.leases = collect(count, || Ok((LeaseId(from.i64()?), from.i64()?)))?;
        }
        ALARMS => {
            let count = from.count(9)?;
            manifest.alarms = collect(count, || {
                let member = MemberId(from.u64()?);
                let start = from.offset();
                match from.u8()? {
                    1 => Ok((member, Alarm::NoSpace)),
                    2 => Ok((member, Alarm::Corrupt)),
                    other => Err(Malformed::new(start, format!("unknown alarm {other}"))),
                }
            })?;
        }
        _ => unreachable!("the caller goes through SECTION_TAGS"),
    }
    Ok(())
}

fn encode_membership(manifest: &Manifest, out: &mut Writer) {
    let membership = &manifest.membership;
    for list in [
        &membership.voters,
        &membership.learners,
        &membership.voters_outgoing,
        &membership.learners_next,
    ] {
        out.count(list.len());
        for member in list {
            out.u64(member.0);
        }
    }
    out.u8(u8::from(membership.auto_leave));
    out.count(manifest.members.len());
    for member in &manifest.members {
        out.u64(member.id.0);
        out.string(&member.name);
        for urls in [&member.peer_urls, &member.client_urls] {
            out.count(urls.len());
            for url in urls {
                out.string(url);
            }
        }
    }
}

fn decode_membership(manifest: &mut Manifest, from: &mut Reader<'_>) -> Result<(), Malformed> {
    let membership = &mut manifest.membership;
    for list in [
        &mut membership.voters,
        &mut membership.learners,
        &mut membership.voters_outgoing,
        &mut membership.learners_next,
    ] {
        let count = from.count(8)?;
        *list = collect(count, || Ok(MemberId(from.u64()?)))?;
    }
    let start = from.offset();
    membership.auto_leave = match from.u8()? {
        0 => false,
        1 => true,
        other => {
            return Err(Malformed::new(
                start,
                format!("{other} is not a truth value"),
            ));
        }
    };
    let count = from.count(32)?;
    manifest.members = collect(count, || {
        let mut member = Member {
            id: MemberId(from.u64()?),
            name: from.string()?,
            ..Member::default()
        };
        for urls in [&mut member.peer_urls, &mut member.client_urls] {
            let count = from.count(8)?;
            *urls = collect(count, || from.string())?;
        }
        Ok(member)
    })?;
    Ok(())
}

fn encode_digest(digest: SetDigest, out: &mut Writer) {
    out.u64(digest.count);
    out.u128(digest.hash);
}

fn decode_digest(from: &mut Reader<'_>) -> Result<SetDigest, Malformed> {
    Ok(SetDigest {
        count: from.u64()?,
        hash: from.u128()?,
    })
}

/// Ascending revisions as differences: how far main rose, then sub where main
/// rose, else how far sub rose. Neighbours cost two to three bytes each.
fn encode_removed(removed: &[Revision], out: &mut Writer) {
    out.count(removed.len());
    let mut last = Revision::new(0, 0);
    for revision in removed {
        let rise = revision.main.abs_diff(last.main);
        let same_main = rise == 0;
        out.varint(rise);
        out.varint(u64::from(if same_main {
            revision.sub - last.sub
        } else {
            revision.sub
        }));
        last = *revision;
    }
}

fn decode_removed(from: &mut Reader<'_>) -> Result<Vec<Revision>, Malformed> {
    let count = from.count(2)?;
    let mut last = Revision::new(0, 0);
    collect(count, || {
        let start = from.offset();
        let rise = from.varint()?;
        let sub = from.varint()?;
        let base = if rise == 0 { last.sub } else { 0 };
        let main = last.main.checked_add_unsigned(rise);
        let sub = u32::try_from(sub)
            .ok()
            .and_then(|sub| base.checked_add(sub));
        let (Some(main), Some(sub)) = (main, sub) else {
            return Err(Malformed::new(start, "a revision out of range"));
        };
        last = Revision::new(main, sub);
        Ok(last)
    })
}

fn collect<T>(
    count: usize,
    mut next: impl FnMut() -> Result<T, Malformed>,
) -> Result<Vec<T>, Malformed> {
    (0..count).map(|_| next()).collect()
}
