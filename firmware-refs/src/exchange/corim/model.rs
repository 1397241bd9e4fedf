//! What a CoRIM says, in the words of draft-ietf-rats-corim-11 §5 (CoRIM map) and §6 (CoMID).

use std::collections::{BTreeMap, BTreeSet};

use evidence::{
    digest::{Digest, HashAlg, Sha256Digest},
    time::UnixSeconds,
};

use super::{TAG_COMID, TAG_UNSIGNED};
use crate::document::derivation::ImportedTag;
use crate::exchange::{
    ImportDenial, Losses,
    cbor::{self, Budget, Item, Kind},
};
use crate::text::Text;

/// Most tags of one file.
const TAGS_CAP: usize = 1024;
/// Most reference triples of one file.
const TRIPLES_CAP: usize = 20_000;
/// Relation of a linked tag: it is replaced by the tag that names it.
const REPLACES: i128 = 1;

/// A CoRIM map.
pub(super) struct Corim<'a> {
    pub(super) profile: Option<Item<'a>>,
    pub(super) not_before: Option<UnixSeconds>,
    pub(super) not_after: Option<UnixSeconds>,
    comids: Vec<Comid<'a>>,
    /// What stands beside reference values, in words.
    beside: BTreeSet<(String, &'static str)>,
}

/// A CoMID tag.
pub(super) struct Comid<'a> {
    pub(super) id: Text,
    version: u64,
    digest: Sha256Digest,
    replaces: Vec<Text>,
    pub(super) triples: Vec<Triple<'a>>,
}

/// One reference triple: values of one environment.
pub(super) struct Triple<'a> {
    pub(super) environment: Environment<'a>,
    pub(super) measurements: Vec<Measurement<'a>>,
}

/// An environment map.
pub(super) struct Environment<'a> {
    /// Tag and bytes of the class id.
    pub(super) class_id: Option<(u64, &'a [u8])>,
    pub(super) vendor: Option<&'a str>,
    pub(super) model: Option<&'a str>,
    /// Whether an instance or a group narrows it.
    pub(super) narrowed: bool,
}

/// A measurement map.
pub(super) struct Measurement<'a> {
    pub(super) key: Option<Key<'a>>,
    /// measurement-values-map.
    pub(super) values: Item<'a>,
    pub(super) authorized: bool,
}

/// A measured element's key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Key<'a> {
    Number(u64),
    Text(&'a str),
    /// A tagged UUID or OID.
    Tagged(u64, &'a [u8]),
}

impl<'a> Corim<'a> {
    /// Reads `#6.501(corim-map)`.
    pub(super) fn read(item: &Item<'a>, budget: &mut Budget) -> Result<Self, ImportDenial> {
        let map = item.tagged(TAG_UNSIGNED).ok_or_else(|| item.wrong("not a CoRIM: tag 501 expected"))?;
        let pairs = map.map("a CoRIM is a map")?;
        let id = map.get(0).ok_or_else(|| map.wrong("no CoRIM id"))?;
        name(id)?;
        let tags = map.get(1).ok_or_else(|| map.wrong("no tags"))?.array("tags are an array")?;
        if tags.len() > TAGS_CAP {
            return Err(ImportDenial::TooMany { what: "tags", cap: TAGS_CAP });
        }
        let (not_before, not_after) = map.get(4).map_or(Ok((None, None)), validity)?;
        let mut corim =
            Self { profile: map.get(3).cloned(), not_before, not_after, comids: Vec::new(), beside: BTreeSet::new() };
        if map.get(2).is_some() {
            corim.beside.insert(("dependent-rims".to_owned(), "not fetched"));
        }
        for (key, _) in pairs.iter().filter(|(key, _)| !key.int().is_some_and(|label| (0..=5).contains(&label))) {
            corim.beside.insert((format!("corim-map {}", label(key)), "an extension, not read"));
        }
        for tag in tags {
            corim.tag(tag, budget)?;
        }
        Ok(corim)
    }

    fn tag(&mut self, tag: &Item<'a>, budget: &mut Budget) -> Result<(), ImportDenial> {
        let Some(comid) = tag.tagged(TAG_COMID) else {
            let Kind::Tag(number, _) = &tag.kind else { return Err(tag.wrong("a tag is #6.505, #6.506 or #6.508")) };
            self.beside.insert((format!("tag #6.{number}"), "not a CoMID, not read"));
            return Ok(());
        };
        let bytes = comid.bytes().ok_or_else(|| comid.wrong("a CoMID tag is a byte string"))?;
        let read = Comid::read(bytes, budget, &mut self.beside)?;
        let triples: usize = self.comids.iter().map(|comid| comid.triples.len()).sum();
        if triples.saturating_add(read.triples.len()) > TRIPLES_CAP {
            return Err(ImportDenial::TooMany { what: "reference triples", cap: TRIPLES_CAP });
        }
        self.comids.push(read);
        Ok(())
    }

    /// What stands beside reference values is not dropped in silence.
    pub(super) fn losses(&self, losses: &mut Losses) {
        self.beside.iter().for_each(|(at, what)| losses.add(at, what));
    }

    /// The tags that no other tag replaces, each id once, its newest version.
    pub(super) fn in_force<'c>(&'c self, losses: &mut Losses) -> Result<Vec<&'c Comid<'a>>, ImportDenial> {
        let mut newest: BTreeMap<&Text, &Comid<'a>> = BTreeMap::new();
        let mut contents: BTreeMap<(&Text, u64), Sha256Digest> = BTreeMap::new();
        for comid in &self.comids {
            let first = *contents.entry((&comid.id, comid.version)).or_insert(comid.digest);
            if first != comid.digest {
                return Err(ImportDenial::TagCollision { tag: comid.id.clone() });
            }
            let known = newest.entry(&comid.id).or_insert(comid);
            if known.version != comid.version {
                losses.add(&format!("tag {}", comid.id), "an older version of the tag is in the file, not used");
            }
            if known.version < comid.version {
                *known = comid;
            }
        }
        let replaced = replaced(&newest)?;
        for id in newest.keys().filter(|id| replaced.contains(*id)) {
            losses.add(&format!("tag {id}"), "replaced by another tag of the file");
        }
        // In the order of the file, so that the same file makes the same set.
        let mut taken = BTreeSet::new();
        let wanted = self.comids.iter().filter(|comid| !replaced.contains(&comid.id));
        let wanted = wanted.filter(|comid| newest.get(&comid.id).is_some_and(|new| new.version == comid.version));
        Ok(wanted.filter(|comid| taken.insert(&comid.id)).collect())
    }
}

/// Ids that some tag replaces. A circle of replacements leaves none of them in force, and means something else to
/// every reader: it is refused.
fn replaced<'c>(tags: &BTreeMap<&'c Text, &'c Comid<'_>>) -> Result<BTreeSet<&'c Text>, ImportDenial> {
    // Tags that nothing replaces are taken away, again and again; a circle remains.
    let mut left: BTreeMap<&Text, usize> = tags.keys().map(|id| (*id, 0)).collect();
    let edges = || tags.values().flat_map(|tag| tag.replaces.iter().map(|to| (&tag.id, to)));
    for (_, to) in edges() {
        if let Some(count) = left.get_mut(to) {
            *count = count.saturating_add(1);
        }
    }
    let mut free: Vec<&Text> = left.iter().filter(|(_, count)| **count == 0).map(|(id, _)| *id).collect();
    while let Some(id) = free.pop() {
        left.remove(id);
        for to in tags.get(id).iter().flat_map(|tag| &tag.replaces) {
            if let Some(count) = left.get_mut(to) {
                *count = count.saturating_sub(1);
                if *count == 0 {
                    free.push(to);
                }
            }
        }
    }
    match left.keys().next() {
        Some(id) => Err(ImportDenial::SupersedeCycle { tag: (*id).clone() }),
        None => Ok(edges().map(|(_, to)| to).collect()),
    }
}

impl<'a> Comid<'a> {
    /// The tag by name and content.
    pub(super) fn tag(&self) -> ImportedTag {
        ImportedTag { id: self.id.clone(), version: self.version, sha256: self.digest }
    }

    pub(super) fn read(
        bytes: &'a [u8],
        budget: &mut Budget,
        beside: &mut BTreeSet<(String, &'static str)>,
    ) -> Result<Self, ImportDenial> {
        let item = cbor::read(bytes, budget)?;
        item.map("a CoMID is a map")?;
        let identity = item.get(1).ok_or_else(|| item.wrong("no tag identity"))?;
        let id = name(identity.get(0).ok_or_else(|| identity.wrong("no tag id"))?)?;
        let version = identity.get(1).map_or(Ok(0), number)?;
        let triples = item.get(4).ok_or_else(|| item.wrong("no triples"))?;
        for (key, value) in triples.map("triples are a map")? {
            value.array("a list of triples is an array")?;
            if key.int() != Some(0) {
                beside.insert((format!("tag {id} triples {}", label(key)), "not reference values, not read"));
            }
        }
        let references = triples.get(0).map_or(Ok(&[][..]), |list| list.array("reference triples are an array"))?;
        let triples = references.iter().map(Triple::read).collect::<Result<_, _>>()?;
        let mut replaces = Vec::new();
        for link in item.get(3).map_or(Ok(&[][..]), |links| links.array("linked tags are an array"))? {
            let to = name(link.get(0).ok_or_else(|| link.wrong("no linked tag id"))?)?;
            match link.get(1).and_then(Item::int) {
                Some(REPLACES) => replaces.push(to),
                Some(_) => {}
                None => return Err(link.wrong("no relation of the linked tag")),
            }
        }
        Ok(Self { id, version, digest: Sha256Digest::of(bytes), replaces, triples })
    }
}

impl<'a> Triple<'a> {
    fn read(item: &Item<'a>) -> Result<Self, ImportDenial> {
        let [environment, measurements] = item.array("a reference triple is an array")? else {
            return Err(item.wrong("a reference triple is of an environment and measurements"));
        };
        let list = measurements.array("measurements are an array")?;
        if list.is_empty() {
            return Err(measurements.wrong("no measurement in a reference triple"));
        }
        let measurements = list.iter().map(Measurement::read).collect::<Result<_, _>>()?;
        Ok(Self { environment: Environment::read(environment)?, measurements })
    }
}

impl<'a> Environment<'a> {
    fn read(item: &Item<'a>) -> Result<Self, ImportDenial> {
        if item.map("an environment is a map")?.is_empty() {
            return Err(item.wrong("an empty environment"));
        }
        let narrowed = item.get(1).is_some() || item.get(2).is_some();
        let Some(class) = item.get(0) else {
            return Ok(Self { class_id: None, vendor: None, model: None, narrowed });
        };
        class.map("a class is a map")?;
        let text = |label| match class.get(label) {
            None => Ok(None),
            Some(value) => value.text().map(Some).ok_or_else(|| value.wrong("a vendor or model is text")),
        };
        let class_id = match class.get(0) {
            None => None,
            Some(id) => Some(tagged_bytes(id).ok_or_else(|| id.wrong("a class id is tagged bytes"))?),
        };
        Ok(Self { class_id, vendor: text(1)?, model: text(2)?, narrowed })
    }

    /// In words, for denials.
    pub(super) fn shown(&self) -> Text {
        let id = self.class_id.map(|(tag, bytes)| format!("class #6.{tag}({}) ", hex::encode(bytes)));
        let part = |what: &str, text: Option<&str>| text.map(|text| format!("{what} {text} ")).unwrap_or_default();
        let all = [id.unwrap_or_default(), part("vendor", self.vendor), part("model", self.model)].concat();
        Text::lossy(if all.is_empty() { "without class" } else { all.trim_end() })
    }
}

impl<'a> Measurement<'a> {
    fn read(item: &Item<'a>) -> Result<Self, ImportDenial> {
        item.map("a measurement is a map")?;
        let values = item.get(1).ok_or_else(|| item.wrong("no measurement values"))?;
        if values.map("measurement values are a map")?.is_empty() {
            return Err(values.wrong("no measurement value"));
        }
        if let Some(digests) = values.get(2) {
            read_digests(digests)?;
        }
        let key = match item.get(0) {
            None => None,
            Some(key) => Some(Key::read(key).ok_or_else(|| key.wrong("a key is a number, text, UUID or OID"))?),
        };
        Ok(Self { key, values: values.clone(), authorized: item.get(2).is_some() })
    }
}

impl<'a> Key<'a> {
    fn read(item: &Item<'a>) -> Option<Self> {
        if let Some((tag, bytes)) = tagged_bytes(item) {
            return Some(Self::Tagged(tag, bytes));
        }
        let number = item.int().and_then(|int| u64::try_from(int).ok()).map(Self::Number);
        number.or_else(|| item.text().map(Self::Text))
    }
}

impl std::fmt::Display for Key<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Number(number) => number.fmt(f),
            Self::Text(text) => write!(f, "{text:?}"),
            Self::Tagged(tag, bytes) => write!(f, "#6.{tag}({})", hex::encode(bytes)),
        }
    }
}

/// Digests of algorithms that are known, and the names of the others: `[ + [alg, value] ]`, algorithms by number or name of the IANA "Named Information" registry. A known algorithm's
/// digest has its length.
pub(super) fn read_digests(item: &Item<'_>) -> Result<(Vec<Digest>, Vec<String>), ImportDenial> {
    let list = item.array("digests are an array")?;
    if list.is_empty() {
        return Err(item.wrong("an empty list of digests"));
    }
    let (mut known, mut others) = (Vec::new(), Vec::new());
    for digest in list {
        let [alg, value] = digest.array("a digest is an array")? else {
            return Err(digest.wrong("a digest is an algorithm and a value"));
        };
        let bytes = value.bytes().ok_or_else(|| value.wrong("a digest's value is a byte string"))?;
        match (hash(alg), alg.int(), alg.text()) {
            (Some(alg), _, _) => {
                let read = Digest::from_bytes(alg, bytes);
                known.push(read.ok_or_else(|| value.wrong("a digest of another length than its algorithm's"))?);
            }
            (None, Some(number), _) => others.push(format!("algorithm {number}")),
            (None, None, Some(name)) => others.push(format!("algorithm {name}")),
            (None, None, None) => return Err(alg.wrong("an algorithm is a number or a name")),
        }
    }
    Ok((known, others))
}

fn hash(item: &Item<'_>) -> Option<HashAlg> {
    match (item.int(), item.text()) {
        (Some(1), _) | (_, Some("sha-256")) => Some(HashAlg::Sha256),
        (Some(7), _) | (_, Some("sha-384")) => Some(HashAlg::Sha384),
        (Some(8), _) | (_, Some("sha-512")) => Some(HashAlg::Sha512),
        (_, _) => None,
    }
}

/// validity-map (draft-ietf-rats-corim-11 §7.3): `{ ? 0: not-before, 1: not-after }`, each `#6.1(seconds)`.
pub(super) fn validity(item: &Item<'_>) -> Result<(Option<UnixSeconds>, Option<UnixSeconds>), ImportDenial> {
    item.map("a validity is a map")?;
    let time = |label| match item.get(label) {
        None => Ok(None),
        Some(at) => number(at.tagged(1).unwrap_or(at)).map(|seconds| Some(UnixSeconds(seconds))),
    };
    let (not_before, not_after) = (time(0)?, time(1)?);
    if not_after.is_none() {
        return Err(item.wrong("a validity without end"));
    }
    Ok((not_before, not_after))
}

pub(super) fn number(item: &Item<'_>) -> Result<u64, ImportDenial> {
    item.int().and_then(|int| u64::try_from(int).ok()).ok_or_else(|| item.wrong("a whole number of 64 bits expected"))
}

/// UUID, OID or opaque bytes under their tags.
fn tagged_bytes<'a>(item: &Item<'a>) -> Option<(u64, &'a [u8])> {
    let tags = [37, 111, 560].into_iter();
    tags.filter_map(|tag| item.tagged(tag)?.bytes().map(|bytes| (tag, bytes))).next()
}

/// An id: text, or bytes shown in hexadecimal. Longer ones than can be shown whole are refused, so that no two ids
/// look the same.
fn name(item: &Item<'_>) -> Result<Text, ImportDenial> {
    let item = item.tagged(37).unwrap_or(item);
    let shown = match (item.text(), item.bytes()) {
        (Some(text), _) => text.to_owned(),
        (None, Some(bytes)) => hex::encode(bytes),
        (None, None) => return Err(item.wrong("an id is text or bytes")),
    };
    match Text::try_from(shown) {
        Ok(text) if !text.as_str().is_empty() => Ok(text),
        Ok(_) | Err(_) => Err(item.wrong("an id that is empty, too long, or cannot be shown")),
    }
}

pub(super) fn label(key: &Item<'_>) -> String {
    match (key.int(), key.text()) {
        (Some(number), _) => number.to_string(),
        (None, Some(text)) => format!("{text:?}"),
        (None, None) => "of another form".to_owned(),
    }
}
