//! Extensions of certificates, lists and their entries (RFC 5280 §4.1), borrowed: a chain has dozens, a list hundreds.

use der::{
    Decode as _, Reader as _, SliceReader, Tag, TagNumber, Tagged as _,
    asn1::{AnyRef, ContextSpecific, ObjectIdentifier, OctetStringRef},
};

/// One extension, its value not read.
#[derive(Clone, Copy, Debug)]
pub(super) struct Extension<'a> {
    pub(super) oid: ObjectIdentifier,
    pub(super) is_critical: bool,
    pub(super) value: &'a [u8],
}

impl<'a> Extension<'a> {
    fn decode(reader: &mut SliceReader<'a>) -> der::Result<Self> {
        reader.sequence(|body| {
            let oid = ObjectIdentifier::decode(body)?;
            let is_critical = Tag::peek(body)? == Tag::Boolean && bool::decode(body)?;
            let value = <&OctetStringRef>::decode(body)?.as_bytes();
            Ok(Self { oid, is_critical, value })
        })
    }

    /// Extensions, one after the other.
    pub(super) fn read_all(reader: &mut SliceReader<'a>) -> der::Result<Vec<Self>> {
        reader.sequence(|body| {
            let mut all = Vec::new();
            while !body.is_finished() {
                all.push(Self::decode(body)?);
            }
            Ok(all)
        })
    }

    /// The same in the explicit field `number`; none when there is no such field.
    pub(super) fn read_field(reader: &mut SliceReader<'a>, number: TagNumber) -> der::Result<Vec<Self>> {
        let Some(field) = ContextSpecific::<AnyRef<'a>>::decode_explicit(reader, number)? else {
            return Ok(Vec::new());
        };
        field.value.tag().assert_eq(Tag::Sequence)?;
        let mut reader = SliceReader::new(field.value.value())?;
        let mut all = Vec::new();
        while !reader.is_finished() {
            all.push(Self::decode(&mut reader)?);
        }
        Ok(all)
    }
}
