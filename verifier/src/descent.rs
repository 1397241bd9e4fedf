//! What a child execution descends from: found in our own log, or given along and vouched for by a partner; and what ends
//! with it.

use std::collections::BTreeMap;
use std::sync::Arc;

use evidence::digest::Sha256Digest;
use evidence::names::{DomainName, NodeId};
use evidence::time::UnixSeconds;
use governance::GovernanceDenial;
use governance::artifact::{Artifact, ArtifactId, VerifiedArtifact};
use governance::intent::Intent;
use governance::parentage::{LiveParent, Parentage};
use governance::revocation::{RevocationList, Revoked};
use governance::trust_bundle::Role;

use crate::desk::Desk;
use crate::evidence_store;
use crate::fault::Fault;
use crate::federation::Partners;
use crate::leases;
use crate::lineage_export::children_of;
use crate::live::Push;
use crate::trust::Trust;

/// What ended, as a child's node is told.
pub(crate) const NOT_LIVE: &str = "governance.parent_not_live";
/// What was revoked, likewise.
pub(crate) const REVOKED: &str = "governance.parent_revoked";

/// A child's parent, judged.
#[derive(Clone, Debug)]
pub(crate) struct Descent {
    pub(crate) parentage: Parentage,
    /// The record of ours that granted the parent.
    pub(crate) records: Vec<Sha256Digest>,
    /// The records of others that did.
    pub(crate) elsewhere: BTreeMap<DomainName, Vec<Sha256Digest>>,
    /// Node of the parent, where that is ours.
    node: Option<NodeId>,
    /// Others' artifacts, to be kept: renewals are held to the same parent.
    pub(crate) kept: Vec<Vec<u8>>,
}

/// One authorization of the parent.
struct Parent {
    live: LiveParent,
    record: Sha256Digest,
}

impl Descent {
    /// Under what the intent's record is listed, so that descendants are found.
    pub(crate) fn subjects(&self) -> Vec<String> {
        let below = self.parentage.ancestors().iter().map(|ancestor| below(ancestor.artifact));
        below.chain(self.node.iter().map(children_of)).collect()
    }
}

fn below(artifact: ArtifactId) -> String {
    format!("below:{artifact}")
}

impl Desk {
    /// What an intent descends from; nothing where it names no parent. A parent of ours is judged by our own table, whatever
    /// else is named; one of others by each artifact that is named, as those who are our partners stand behind it.
    pub(crate) async fn descent(
        &self,
        intent: &Intent,
        given: &[Vec<u8>],
        trust: &Trust,
    ) -> Result<Result<Option<Descent>, GovernanceDenial>, Fault> {
        let now = self.now()?;
        let (mut parents, mut kept) = (Vec::new(), Vec::new());
        let (mut records, mut elsewhere, mut node) = (Vec::new(), BTreeMap::new(), None);
        if let Some(named) = intent.parents.get(&self.parts.domain) {
            match self.own_parent(*named, trust).await? {
                Ok(parent) => {
                    records.push(parent.record);
                    node = Some(parent.live.terms.bindings.node.clone());
                    parents.push(parent.live);
                }
                Err(denial) => return Ok(Err(denial)),
            }
        } else {
            for (domain, named) in &intent.parents {
                let held = evidence_store::get(&self.parts.store, named).await?;
                let partners = self.parts.trust.partners();
                match foreign_parent(&partners, (domain, *named), held.as_deref(), given, now) {
                    Ok((parent, bytes)) => {
                        elsewhere.insert(domain.clone(), vec![parent.record]);
                        parents.push(parent.live);
                        kept.extend(bytes.filter(|_| held.is_none()));
                    }
                    Err(denial) => return Ok(Err(denial)),
                }
            }
        }
        let Some((first, others)) = parents.split_first() else { return Ok(Ok(None)) };
        let parentage = Parentage::of(&intent.scope, first, others, now);
        Ok(parentage.map(|parentage| Some(Descent { parentage, records, elsewhere, node, kept })))
    }

    async fn own_parent(&self, named: Sha256Digest, trust: &Trust) -> Result<Result<Parent, GovernanceDenial>, Fault> {
        let domain = self.parts.domain.clone();
        let unknown = GovernanceDenial::ParentUnknown { domain, parent: named };
        let Some(artifact) = self.artifact(named).await? else { return Ok(Err(unknown)) };
        let (terms, receipt) = artifact.into_parts();
        let Some(lease) = leases::find(&self.parts.store, &terms.id).await? else { return Ok(Err(unknown)) };
        if let Err(denial) = unrevoked(trust.revocations(), &terms) {
            return Ok(Err(denial));
        }
        if lease.ended.is_some() {
            return Ok(Err(GovernanceDenial::ParentNotLive { artifact: terms.id, what: "it ended or was halted" }));
        }
        let live = LiveParent { terms, ends_at: UnixSeconds(lease.ends_at) };
        Ok(Ok(Parent { live, record: receipt.entry }))
    }

    /// Tells the nodes whose executions descend from one of these that it is over. A node that does not hear of it is denied
    /// its next renewal for the same reason.
    pub(crate) async fn end_descendants(&self, over: &[ArtifactId], code: &'static str) -> Result<usize, Fault> {
        let mut told = 0_usize;
        for ended in over {
            for entry in self.parts.log.newest_about(&below(*ended), DESCENDANTS_CAP).await? {
                for subject in self.parts.log.subjects_of(entry.index).await? {
                    let Ok(artifact) = subject.parse::<ArtifactId>() else { continue };
                    let lease = leases::find(&self.parts.store, &artifact).await?;
                    if let Some(lease) = lease.filter(|lease| lease.ended.is_none()) {
                        let pushed = self.live().push(&lease.node, Push::ParentOver { artifact, code });
                        told = told.saturating_add(usize::from(pushed));
                    }
                }
            }
        }
        Ok(told)
    }

    /// The same, after what ended is on the record: whatever comes of it changes nothing about that.
    pub(crate) fn end_descendants_soon(self: &Arc<Self>, over: Vec<ArtifactId>) {
        let desk = self.clone();
        tokio::spawn(async move {
            if let Err(fault) = desk.end_descendants(&over, NOT_LIVE).await {
                tracing::warn!(%fault, "descendants were not told; they are denied at their next renewal");
            }
        });
    }

    /// What partners have revoked since it was last looked: what descends from it here is over, too.
    pub(crate) async fn follow_partners(&self, seen: &mut BTreeMap<DomainName, usize>) -> Result<(), Fault> {
        for held in self.parts.trust.partners().all() {
            let Some(list) = held.partner.revocations() else { continue };
            let domain = held.partner.domain();
            // A list only grows.
            if seen.get(domain) == Some(&list.len()) {
                continue;
            }
            let revoked = list.entries().filter_map(|(revoked, _)| artifact(revoked)).collect::<Vec<_>>();
            self.end_descendants(&revoked, REVOKED).await?;
            seen.insert(domain.clone(), list.len());
        }
        Ok(())
    }
}

const fn artifact(revoked: &Revoked) -> Option<ArtifactId> {
    match revoked {
        Revoked::Artifact(id) => Some(*id),
        Revoked::Node(_) | Revoked::Key(_) | Revoked::Measurement(_) | Revoked::ReferenceSet(_) => None,
    }
}

/// A parent that a partner authorized: by the artifact that is named, or by a newer one of the same id that came along; and
/// the named one's bytes, if they came along.
fn foreign_parent(
    partners: &Partners,
    (domain, named): (&DomainName, Sha256Digest),
    held: Option<&[u8]>,
    given: &[Vec<u8>],
    now: UnixSeconds,
) -> Result<(Parent, Option<Vec<u8>>), GovernanceDenial> {
    let fresh = partners.partner(domain)?.fresh(now)?;
    let keys = fresh.keys(Role::Issuer);
    let came = given.iter().find(|bytes| Sha256Digest::of(bytes) == named);
    let unknown = || GovernanceDenial::ParentUnknown { domain: domain.clone(), parent: named };
    let first = came.map(Vec::as_slice).or(held).ok_or_else(unknown)?;
    let first = Artifact::verify_issued(first, &keys, domain)?;
    let newer = given.iter().filter_map(|bytes| Artifact::verify_issued(bytes, &keys, domain).ok());
    let newest = newer.filter(|artifact| artifact.terms().id == first.terms().id);
    let newest = newest.max_by_key(|artifact| artifact.terms().lease.seq);
    let newest: &VerifiedArtifact =
        newest.as_ref().filter(|newest| newest.terms().lease.seq > first.terms().lease.seq).unwrap_or(&first);
    // Whoever has the partner's keys reaches no further with them here than anywhere else.
    fresh.grant().admits_name(domain, &newest.terms().subject)?;
    fresh.grant().admits_lease(domain, newest.terms().lease.duration_ms)?;
    unrevoked(fresh.revocations(), newest.terms())?;
    if now < newest.terms().not_before {
        let not_before = newest.terms().not_before;
        return Err(GovernanceDenial::NotYetValid { what: "parent artifact", not_before, now });
    }
    let live = LiveParent { terms: newest.terms().clone(), ends_at: newest.terms().expires_at };
    Ok((Parent { live, record: first.receipt().entry }, came.cloned()))
}

/// Whatever of a parent is revoked ends the child, and is no fault of the child's node.
fn unrevoked(list: &RevocationList, terms: &governance::artifact::ArtifactTerms) -> Result<(), GovernanceDenial> {
    list.admits_artifact(terms).map_err(|denial| {
        if matches!(denial, GovernanceDenial::ParentRevoked { .. }) {
            return denial;
        }
        GovernanceDenial::ParentRevoked { artifact: terms.id, reason: denial.to_string() }
    })
}

/// Most descendants of one execution that are told.
const DESCENDANTS_CAP: u32 = 4_096;
