//! Attributes of a directoryName in subjectAltName, where TPM manufacturers say what the TPM is.

use der::{Decode as _, Reader as _, SliceReader, Tag, TagNumber, asn1::ObjectIdentifier};

use crate::EvidenceDenial;

/// Longest attribute value kept.
const VALUE_CAP_BYTES: usize = 64;
/// Most attributes read.
const ATTRIBUTES_CAP: usize = 16;

/// One attribute of a Name: printable ASCII, at most 64 bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Attribute<'a> {
    pub(crate) oid: ObjectIdentifier,
    pub(crate) value: &'a str,
}

/// All attributes of the one directoryName in GeneralNames (RFC 5280 §4.2.1.6). The order within an RDN is not
/// judged: vendors ship SETs that are not in DER order.
pub(crate) fn directory_name_attributes(general_names: &[u8]) -> Result<Vec<Attribute<'_>>, EvidenceDenial> {
    let what = "subjectAltName with one directoryName of printable attributes";
    read(general_names).map_err(|_| EvidenceDenial::Malformed { structure: "Certificate", offset: 0, what })
}

/// All attributes of a Name (RFC 5280 §4.1.2.4), each at most once.
pub(crate) fn name_attributes(name: &[u8]) -> Result<Vec<Attribute<'_>>, EvidenceDenial> {
    let what = "a Name of printable attributes, none twice";
    let read = || {
        let mut attributes = Vec::new();
        let mut reader = SliceReader::new(name)?;
        read_rdns(&mut reader, &mut attributes)?;
        reader.finish()?;
        Ok(attributes)
    };
    read().map_err(|_: der::Error| EvidenceDenial::Malformed { structure: "Certificate", offset: 0, what })
}

fn read(general_names: &[u8]) -> der::Result<Vec<Attribute<'_>>> {
    let mut reader = SliceReader::new(general_names)?;
    let mut names = Vec::new();
    reader.sequence(|body| {
        while !body.is_finished() {
            let tag = Tag::peek(body)?;
            let name = body.tlv_bytes()?;
            if tag == (Tag::ContextSpecific { constructed: true, number: TagNumber(4) }) {
                names.push(name);
            }
        }
        Ok::<_, der::Error>(())
    })?;
    reader.finish()?;
    let [name] = names[..] else { return Err(Tag::Sequence.value_error().into()) };
    let mut attributes = Vec::new();
    let mut reader = SliceReader::new(name)?;
    let header = der::Header::decode(&mut reader)?;
    reader.read_nested(header.length(), |body| read_rdns(body, &mut attributes))?;
    Ok(attributes)
}

fn read_rdns<'a>(reader: &mut SliceReader<'a>, attributes: &mut Vec<Attribute<'a>>) -> der::Result<()> {
    reader.sequence(|rdns| {
        while !rdns.is_finished() {
            read_rdn(rdns, attributes)?;
        }
        Ok::<_, der::Error>(())
    })
}

fn read_rdn<'a>(reader: &mut SliceReader<'a>, attributes: &mut Vec<Attribute<'a>>) -> der::Result<()> {
    let header = der::Header::decode(reader)?;
    header.tag().assert_eq(Tag::Set)?;
    reader.read_nested(header.length(), |set| {
        while !set.is_finished() {
            let attribute = set.sequence(read_attribute)?;
            let repeated = attributes.iter().any(|other| other.oid == attribute.oid);
            if repeated || attributes.len() >= ATTRIBUTES_CAP {
                return Err(Tag::Set.value_error().into());
            }
            attributes.push(attribute);
        }
        Ok(())
    })
}

fn read_attribute<'a>(reader: &mut SliceReader<'a>) -> der::Result<Attribute<'a>> {
    let oid = ObjectIdentifier::decode(reader)?;
    let header = der::Header::decode(reader)?;
    if !matches!(header.tag(), Tag::Utf8String | Tag::PrintableString | Tag::Ia5String) {
        return Err(header.tag().value_error().into());
    }
    let bytes = reader.read_slice(header.length())?;
    let printable = bytes.len() <= VALUE_CAP_BYTES && bytes.iter().all(|b| (0x20..0x7f).contains(b));
    let value = std::str::from_utf8(bytes).ok().filter(|_| printable).ok_or_else(|| header.tag().value_error())?;
    Ok(Attribute { oid, value })
}
