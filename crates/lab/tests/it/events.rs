//! A reader of event files that shares nothing with their writer: checksums bit by bit, messages byte by
//! byte.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// What a run's event file holds.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Events {
    /// Steps with their values, in the order of the file, by tag.
    pub(crate) scalars: BTreeMap<String, Vec<(u64, f32)>>,
    /// When each event was.
    pub(crate) times: Vec<f64>,
    /// How often it takes back what was read before.
    pub(crate) starts: usize,
}

/// The one event file of a run folder that is not emptied.
pub(crate) fn file(run: &Path) -> PathBuf {
    let names = fs::read_dir(run).unwrap().map(|entry| entry.unwrap().path());
    let is_one = |path: &PathBuf| path.to_str().unwrap().contains("tfevents");
    let mut found: Vec<PathBuf> =
        names.filter(|path| is_one(path) && path.metadata().unwrap().len() > 0).collect();
    assert_eq!(found.len(), 1, "{found:?}");
    found.remove(0)
}

/// Reads the event file of a run folder, which must be whole.
pub(crate) fn read(run: &Path) -> Events {
    let bytes = fs::read(file(run)).unwrap();
    let (mut rest, mut events, mut records) = (&bytes[..], Events::default(), 0);
    while !rest.is_empty() {
        let number = |at: usize| u32::from_le_bytes(rest[at..at + 4].try_into().unwrap());
        let length = u64::from_le_bytes(rest[..8].try_into().unwrap()) as usize;
        assert_eq!(number(8), masked_crc(&rest[..8]), "the checksum of a length");
        let message = &rest[12..12 + length];
        assert_eq!(number(12 + length), masked_crc(message), "the checksum of a message");
        take(message, &mut events, records);
        records += 1;
        rest = &rest[16 + length..];
    }
    events
}

/// Adds the event `message`, the `place`-th of its file.
fn take(message: &[u8], events: &mut Events, place: usize) {
    let (mut step, mut values) = (0, Vec::new());
    for (field, value) in fields(message) {
        match (field, value) {
            (1, Field::Eight(time)) => events.times.push(f64::from_bits(time)),
            (2, Field::Varint(number)) => step = number,
            (3, Field::Bytes(version)) => assert_eq!((place, version), (0, &b"brain.Event:2"[..])),
            (5, Field::Bytes(summary)) => values.extend(fields(summary)),
            (7, Field::Bytes(log)) => {
                let [(1, Field::Varint(1))] = fields(log)[..] else { panic!("no start: {log:?}") };
                events.starts += 1;
            }
            other => panic!("{other:?}"),
        }
    }
    for (_, value) in values {
        let Field::Bytes(value) = value else { panic!("{value:?}") };
        let [(1, Field::Bytes(tag)), (2, Field::Four(bits))] = fields(value)[..] else { panic!("{value:?}") };
        let tag = String::from_utf8(tag.to_vec()).unwrap();
        events.scalars.entry(tag).or_default().push((step, f32::from_bits(bits)));
    }
}

#[derive(Debug)]
enum Field<'a> {
    Varint(u64),
    Eight(u64),
    Bytes(&'a [u8]),
    Four(u32),
}

/// The fields of a protobuf message, in order.
fn fields(mut message: &[u8]) -> Vec<(u64, Field<'_>)> {
    let mut found = Vec::new();
    while !message.is_empty() {
        let key = varint(&mut message);
        let field = match key & 7 {
            0 => Field::Varint(varint(&mut message)),
            1 => Field::Eight(u64::from_le_bytes(cut(&mut message, 8).try_into().unwrap())),
            2 => {
                let length = varint(&mut message) as usize;
                Field::Bytes(cut(&mut message, length))
            }
            5 => Field::Four(u32::from_le_bytes(cut(&mut message, 4).try_into().unwrap())),
            other => panic!("wire type {other}"),
        };
        found.push((key >> 3, field));
    }
    found
}

fn cut<'a>(message: &mut &'a [u8], length: usize) -> &'a [u8] {
    let (first, rest) = message.split_at(length);
    *message = rest;
    first
}

fn varint(message: &mut &[u8]) -> u64 {
    let mut value = 0;
    for shift in (0..).step_by(7) {
        let byte = cut(message, 1)[0];
        value |= u64::from(byte & 127) << shift;
        if byte < 128 {
            break;
        }
    }
    value
}

fn masked_crc(bytes: &[u8]) -> u32 {
    let mut crc = u32::MAX;
    for &byte in bytes {
        crc ^= u32::from(byte);
        for _ in 0..8 {
            crc = (crc >> 1) ^ (0x82f6_3b78 * (crc & 1));
        }
    }
    let crc = !crc;
    crc.rotate_right(15).wrapping_add(0xa282_ead8)
}
