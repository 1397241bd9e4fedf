//! Taking a request in, before any evidence is asked for: who may ask, in which state, about what.

use std::sync::Arc;

use evidence::cose::{self, KeySet, Purpose};
use evidence::digest::Sha256Digest;
use evidence::names::NodeId;
use evidence::time::UnixSeconds;
use governance::GovernanceDenial;
use governance::artifact::{Artifact, ArtifactId, ArtifactTerms};
use governance::intent::Intent;
use governance::revocation::Revoked;
use wire::protocol::{capture_subject, renewal_subject};

use crate::descent::Descent;
use crate::desk::Desk;
use crate::evidence_store;
use crate::fault::Fault;
use crate::federation::concerned::NotBehind;
use crate::leases::{self, Lease};
use crate::nodes::{Continuity, Node, NodeStatus};
use crate::refusal::Refused;
use crate::trust::Trust;

/// A request, taken in: who asks, for what, judged by which trust.
pub struct Request {
    /// The node as stored when it asked.
    pub node: Node,
    /// Newest record that the node knows.
    pub head: Sha256Digest,
    /// What it is judged by, from here to the end.
    pub trust: Arc<Trust>,
    /// What it asks for.
    pub asks: Asks,
    /// What an intent that names a parent descends from; none for one that names none.
    pub(crate) descent: Option<Descent>,
}

/// What a node can ask for.
pub enum Asks {
    /// To run something.
    Authorize(Box<Asked>),
    /// To go on running it.
    Renew(Box<Renewing>),
    /// To have its evidence kept, and nothing granted.
    Capture,
}

/// An intent that the node signed.
pub struct Asked {
    /// The signed bytes.
    pub cose: Vec<u8>,
    /// What it says.
    pub intent: Intent,
    /// Its digest.
    pub digest: Sha256Digest,
}

/// An artifact that the node holds.
pub struct Renewing {
    /// Its terms as last granted.
    pub terms: ArtifactTerms,
    /// The lease behind it.
    pub lease: Lease,
    /// Digest of the artifact that the node holds.
    pub artifact: Sha256Digest,
    /// What it authorizes.
    pub intent: Asked,
}

/// A node that asks who an execution is, taken in.
pub(crate) struct Identifying {
    /// The node as stored when it asked.
    pub(crate) node: Node,
    /// The epoch that it is judged under.
    pub(crate) epoch: u64,
    /// The lease that is in force.
    pub(crate) held: Renewing,
    /// The node's newest record.
    pub(crate) head: Sha256Digest,
}

impl Request {
    /// Digest of what the evidence must be about.
    pub fn subject(&self) -> Sha256Digest {
        match &self.asks {
            Asks::Authorize(asked) => asked.digest,
            Asks::Renew(renewing) => renewal_subject(&[renewing.artifact]),
            Asks::Capture => capture_subject(),
        }
    }

    /// The signed intent of a first authorization; a renewal's was kept when it was first granted.
    pub fn intent_cose(&self) -> Option<Vec<u8>> {
        match &self.asks {
            Asks::Authorize(asked) => Some(asked.cose.clone()),
            Asks::Renew(_) | Asks::Capture => None,
        }
    }

    /// Whether a denial halts the node: its lease was to go on, and may not.
    pub fn denial_halts(&self) -> bool {
        match self.asks {
            Asks::Renew(_) => true,
            Asks::Authorize(_) | Asks::Capture => false,
        }
    }
}

impl Desk {
    /// Takes in an intent: signed by this node, meant for this domain, by a node that may ask.
    pub async fn begin_authorize(
        self: &Arc<Self>,
        id: &NodeId,
        cose: Vec<u8>,
        parents: &[Vec<u8>],
        head: Sha256Digest,
    ) -> Result<Request, Refused> {
        let (node, trust) = (self.node(id).await?, self.trust()?);
        let taken = self.admissible(&node, &trust, head).and_then(|()| self.read_intent(&node, cose));
        let asked = match taken {
            Ok(asked) => asked,
            Err(denial) => return Err(self.deny_early(&node, &trust, head, denial).await),
        };
        let descends = self.descent(&asked.intent, parents, &trust).await?;
        let relies = self.relies_on(&asked.intent)?.map_err(GovernanceDenial::from);
        let admitted = descends.and_then(|descent| relies.map(|()| descent));
        match admitted.and_then(|descent| revoked_keys(&trust, &asked.intent).map(|()| descent)) {
            Ok(descent) => Ok(Request { node, head, trust, asks: Asks::Authorize(Box::new(asked)), descent }),
            Err(denial) => Err(self.deny_early(&node, &trust, head, denial).await),
        }
    }

    /// Takes in a renewal: of an artifact that this node holds and whose lease is in force.
    pub async fn begin_renew(
        self: &Arc<Self>,
        id: &NodeId,
        artifact: Sha256Digest,
        parents: &[Vec<u8>],
        head: Sha256Digest,
    ) -> Result<Request, Refused> {
        let (node, trust) = (self.node(id).await?, self.trust()?);
        if let Err(denial) = self.admissible(&node, &trust, head) {
            return Err(self.deny_renewal(&node, &trust, head, denial).await);
        }
        let renewing = match self.held(&node, &trust, artifact, head).await? {
            Ok(renewing) => renewing,
            // What it descends from was revoked: that is over, and the node has done nothing.
            Err(denial @ GovernanceDenial::ParentRevoked { .. }) => {
                return Err(self.deny_early(&node, &trust, head, denial).await);
            }
            Err(denial) => return Err(self.deny_renewal(&node, &trust, head, denial).await),
        };
        match self.relies_on(&renewing.intent.intent)? {
            Ok(()) => {}
            Err(NotBehind::Revoked(denial)) => return Err(self.deny_renewal(&node, &trust, head, denial).await),
            // The execution is over; its node did nothing that would have to be looked at, and may ask for another.
            Err(NotBehind::Absent(denial)) => return Err(self.deny_early(&node, &trust, head, denial).await),
        }
        match self.descent(&renewing.intent.intent, parents, &trust).await? {
            Ok(descent) => Ok(Request { node, head, trust, asks: Asks::Renew(Box::new(renewing)), descent }),
            // So it is when what it descends from is over.
            Err(denial) => Err(self.deny_early(&node, &trust, head, denial).await),
        }
    }

    /// Takes in a wish for a JWT-SVID: of an execution that this node holds and whose lease is in force.
    pub(crate) async fn begin_jwt_svid(
        self: &Arc<Self>,
        id: &NodeId,
        artifact: ArtifactId,
        head: Sha256Digest,
    ) -> Result<Identifying, Refused> {
        let (node, trust) = (self.node(id).await?, self.trust()?);
        if let Err(denial) = self.admissible(&node, &trust, head) {
            return Err(self.deny_early(&node, &trust, head, denial).await);
        }
        // An answer was lost: a renewal settles first what the node holds. Were its history to grow here, it would look as
        // if that answer had arrived.
        if !matches!(continues(&node, head), Ok(Continuity::Current)) {
            return Err(Fault::Moved { what: "the node has yet to hear of its newest record".to_owned() }.into());
        }
        let lease = leases::find(&self.parts.store, &artifact).await.map_err(Fault::from)?;
        let held = match lease {
            Some(lease) => self.held(&node, &trust, lease.artifact, head).await?,
            None => Err(not_in_force(artifact)),
        };
        let stands = match held {
            Ok(held) => match self.relies_on(&held.intent.intent)? {
                Ok(()) => Ok(held),
                Err(NotBehind::Revoked(denial) | NotBehind::Absent(denial)) => Err(denial),
            },
            Err(denial) => Err(denial),
        };
        match stands {
            Ok(held) => Ok(Identifying { node, epoch: trust.epoch(), held, head }),
            Err(denial) => Err(self.deny_early(&node, &trust, head, denial).await),
        }
    }

    /// What several domains authorize together begins and goes on only while enough of them stand with us.
    fn relies_on(&self, intent: &Intent) -> Result<Result<(), NotBehind>, Fault> {
        Ok(self.parts.trust.partners().stand_behind(&self.parts.domain, intent, self.now()?))
    }

    /// Takes in a capture: a node that waits for its first reference values may ask too.
    pub async fn begin_capture(self: &Arc<Self>, id: &NodeId, head: Sha256Digest) -> Result<Request, Refused> {
        let (node, trust) = (self.node(id).await?, self.trust()?);
        match continues(&node, head) {
            Ok(_) => Ok(Request { node, head, trust, asks: Asks::Capture, descent: None }),
            Err(denial) => Err(self.deny_early(&node, &trust, head, denial).await),
        }
    }

    fn admissible(&self, node: &Node, trust: &Trust, head: Sha256Digest) -> Result<(), GovernanceDenial> {
        let id = &node.identity.id;
        match node.status {
            NodeStatus::Active => {}
            NodeStatus::Pending => return Err(GovernanceDenial::NodePending { node: id.clone() }),
            NodeStatus::Quarantined => {
                return Err(GovernanceDenial::NodeQuarantined { node: id.clone(), reason: node.reason.clone() });
            }
        }
        trust.revocations().admits(&Revoked::Node(id.clone()))?;
        continues(node, head).map(drop)
    }

    fn read_intent(&self, node: &Node, cose: Vec<u8>) -> Result<Asked, GovernanceDenial> {
        let keys = KeySet::new([&node.identity.record_key]);
        let verified = Intent::verify(&cose, &self.parts.domain, &node.identity.id, &keys)?;
        let (intent, digest) = (verified.intent().clone(), verified.digest());
        if !intent.domains.named().contains(&self.parts.domain) {
            let got = intent.domains.named().first().unwrap_or(&self.parts.domain).clone();
            return Err(GovernanceDenial::Domain { what: "intent", got, expected: self.parts.domain.clone() });
        }
        Ok(Asked { digest, cose, intent })
    }

    /// What the node holds by this artifact. An answer may have been lost, so the artifact before the newest counts
    /// too, and then only with the lineage head from before it.
    async fn held(
        &self,
        node: &Node,
        trust: &Trust,
        artifact: Sha256Digest,
        head: Sha256Digest,
    ) -> Result<Result<Renewing, GovernanceDenial>, Fault> {
        let unknown = || not_in_force(artifact);
        let Some(terms) = self.artifact_terms(artifact).await? else { return Ok(Err(unknown())) };
        let Some(lease) = leases::find(&self.parts.store, &terms.id).await? else { return Ok(Err(unknown())) };
        let (id, now) = (&node.identity.id, self.now()?);
        if lease.node != *id {
            return Ok(Err(unknown()));
        }
        if let Err(denial) = trust.revocations().admits_artifact(&terms) {
            return Ok(Err(denial));
        }
        if lease.ended.is_some() {
            return Ok(Err(unknown()));
        }
        // Whoever shows the newest record has had its answer, and with it the newest artifact; whoever shows an earlier
        // one holds an earlier artifact: which one, the history that it shows says well enough.
        let newest_known = matches!(continues(node, head), Ok(Continuity::Current));
        if newest_known && terms.lease.seq < lease.seq {
            return Ok(Err(GovernanceDenial::LeaseSeqStale { got: terms.lease.seq, min: lease.seq }));
        }
        if now.0 >= lease.ends_at {
            let expires_at = UnixSeconds(lease.ends_at);
            return Ok(Err(GovernanceDenial::Expired { what: "lease", expires_at, now }));
        }
        let intent = self.kept_intent(node, terms.intent).await?;
        Ok(intent.map(|intent| Renewing { terms, lease, artifact, intent }))
    }

    /// Terms of an artifact that we signed and kept. Rows are not trusted: the signature is checked again.
    pub(crate) async fn artifact_terms(&self, artifact: Sha256Digest) -> Result<Option<ArtifactTerms>, Fault> {
        Ok(self.artifact(artifact).await?.map(|artifact| artifact.terms()))
    }

    /// The same, with where it is logged.
    pub(crate) async fn artifact(&self, artifact: Sha256Digest) -> Result<Option<Artifact>, Fault> {
        let Some(bytes) = evidence_store::get(&self.parts.store, &artifact).await? else { return Ok(None) };
        let keys = self.parts.issuer.known();
        let signed = cose::verify1(Purpose::Artifact, &self.parts.domain, &bytes, &keys);
        Ok(signed.ok().and_then(|signed| Artifact::decode(signed.payload()).ok()))
    }

    async fn kept_intent(&self, node: &Node, digest: Sha256Digest) -> Result<Result<Asked, GovernanceDenial>, Fault> {
        let lost = || Fault::EndorsementsUnavailable { what: format!("intent {digest} is not in the evidence store") };
        let cose = evidence_store::get_signed(&self.parts.store, &digest).await?.ok_or_else(lost)?;
        Ok(self.read_intent(node, cose))
    }
}

fn not_in_force(artifact: impl std::fmt::Display) -> GovernanceDenial {
    GovernanceDenial::ArtifactId { got: artifact.to_string(), expected: "an artifact in force here".to_owned() }
}

fn continues(node: &Node, head: Sha256Digest) -> Result<Continuity, GovernanceDenial> {
    node.continuity(&head).map_err(|_| GovernanceDenial::LineageDiscontinuous {
        got: head,
        current: node.head_current,
        acknowledged: node.head_acked,
    })
}

fn revoked_keys(trust: &Trust, intent: &Intent) -> Result<(), GovernanceDenial> {
    intent.scope.keys.iter().try_for_each(|key| trust.revocations().admits(&Revoked::Key(key.clone())))
}
