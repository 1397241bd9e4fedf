//! Endorsements as operators import, list and export them.

use evidence::cbor::{self, Caps};
use serde_json::{Value, json};
use wire::proto::EndorsementsImport;

use super::{Done, OperatorParts};
use crate::endorsements::document::DOCUMENT_CAP_BYTES;
use crate::endorsements::recognise::{Pile, Sorted};
use crate::endorsements::table::{self, Page, Place, Source, Stored};
use crate::governor::OrderRefusal;

/// Most documents of one import command.
const DOCUMENTS_CAP: usize = 4096;
/// Most rows of a page, and most bytes of the documents in it.
const PAGE_ROWS: u32 = 1024;
const PAGE_CAP_BYTES: usize = 4 << 20;
/// Longest name of where an import came from.
const ORIGIN_CAP_CHARS: usize = 128;

/// Stores what the documents hold; what is no endorsement is named and left out.
pub(super) async fn import(parts: &OperatorParts, import: EndorsementsImport) -> Result<Done, OrderRefusal> {
    let EndorsementsImport { source, documents } = import;
    let (source, origin) = match source.split_once(' ') {
        None if source == "directory" => (Source::Directory, String::new()),
        Some(("bundle", origin)) => (Source::Bundle, origin.chars().take(ORIGIN_CAP_CHARS).collect()),
        None | Some(_) => {
            return Err(OrderRefusal::Malformed("a source is directory, or bundle and its signer".into()));
        }
    };
    if documents.len() > DOCUMENTS_CAP || documents.iter().any(|document| document.len() > DOCUMENT_CAP_BYTES) {
        return Err(OrderRefusal::Malformed("too many documents at once, or one that is too long".into()));
    }
    let mut pile = Pile::default();
    for (index, document) in documents.iter().enumerate() {
        pile.add_document(&format!("document {index}"), document);
    }
    let Sorted { found, skipped } = pile.sorted();
    let stored = parts.endorsements.put(found, source, &origin).await?;
    Ok(json!({ "stored": stored, "skipped": skipped }).into())
}

/// A page of facts, and with `attached` the documents themselves.
pub(super) async fn page(parts: &OperatorParts, after: &[u8], attached: bool) -> Result<Done, OrderRefusal> {
    let place = match after {
        [] => Place::default(),
        bytes => cbor::from_slice(bytes, Caps::bytes(PLACE_CAP_BYTES))
            .map_err(|_| OrderRefusal::Malformed("not a place in the store".into()))?,
    };
    let store = parts.endorsements.store();
    let Page { rows, next } = table::page(store, &place, PAGE_ROWS, PAGE_CAP_BYTES).await?;
    let bug = |error: cbor::CborError| OrderRefusal::Bug(error.to_string());
    let next = next.map(|next| cbor::to_vec(&next).map(hex::encode).map_err(bug)).transpose()?;
    let facts: Vec<_> = rows.iter().map(facts).collect();
    let attachment = if attached {
        let documents: Vec<_> = rows.iter().map(|row| serde_bytes::Bytes::new(&row.endorsement.bytes)).collect();
        cbor::to_vec(&documents).map_err(bug)?
    } else {
        Vec::new()
    };
    Ok(Done { json: json!({ "endorsements": facts, "next": next }), attachment })
}

fn facts(row: &Stored) -> Value {
    let Stored { endorsement, provenance } = row;
    json!({
        "kind": endorsement.key.kind(),
        "about": endorsement.key.to_string(),
        "issued_at": endorsement.window.issued_at,
        "ends_at": endorsement.window.ends_at,
        "obtained_at": provenance.obtained_at,
        "source": provenance.source,
        "origin": provenance.origin,
        "digest": endorsement.digest,
    })
}

/// Longest encoded place.
const PLACE_CAP_BYTES: usize = 512;
