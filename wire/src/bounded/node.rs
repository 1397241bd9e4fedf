//! What a node says on its stream.

use evidence::{digest::Sha256Digest, names::NodeId};
use governance::{artifact::ArtifactId, intent::DOMAINS_CAP, jwt_svid::admit_audiences};

use super::{
    ARTIFACT_CAP_BYTES, ARTIFACTS_CAP, CHECKPOINT_CAP_BYTES, EVIDENCE_CAP_BYTES, FieldDenial, INTENT_CAP_BYTES,
    NODE_RECORD_CAP_BYTES, OTHER_CHECKPOINTS_CAP, PASSPORT_CAP_BYTES, TEXT_CAP_BYTES, bytes, bytes_or_none, digest,
    list, node_id, refuse, text,
};
use crate::proto::{self, node_message::Message};

/// One message of a node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NodeRequest {
    /// First message of a stream.
    Hello(Hello),
    /// Asks for a first artifact.
    Authorize {
        /// Signed intent.
        intent: Vec<u8>,
        /// Newest record of its lineage that the node knows.
        lineage_head: Sha256Digest,
        /// Artifacts of the parent execution, as their domains signed them.
        parents: Vec<Vec<u8>>,
    },
    /// Asks for the renewal of live artifacts.
    Renew {
        /// Digests of the live artifacts, ascending.
        artifacts: Vec<Sha256Digest>,
        /// Newest record of its lineage that the node knows.
        lineage_head: Sha256Digest,
        /// Artifacts of the parent execution, as their domains signed them.
        parents: Vec<Vec<u8>>,
        /// Newest checkpoint that it holds of each other domain's log.
        other_checkpoints: Vec<Vec<u8>>,
    },
    /// Offers evidence as a source of reference values.
    Capture {
        /// Newest record of its lineage that the node knows.
        lineage_head: Sha256Digest,
    },
    /// Asks for a JWT-SVID of an execution.
    AskJwtSvid {
        /// Id of its artifact.
        artifact: ArtifactId,
        /// For whom.
        audiences: Vec<String>,
        /// Newest record of its lineage that the node knows.
        lineage_head: Sha256Digest,
    },
    /// Answers a challenge.
    Evidence {
        /// CMW collection.
        cmw: Vec<u8>,
    },
    /// Answers a challenge by what a partner said.
    Passport {
        /// Signed passport.
        cose: Vec<u8>,
    },
    /// Reports a halt.
    Halt {
        /// Signed halt record.
        cose: Vec<u8>,
    },
    /// What depended on something revoked is over.
    Acknowledge {
        /// SHA-256 of the revocation that was pushed.
        revocation: Sha256Digest,
    },
    /// Reports an end.
    End {
        /// Signed end record.
        cose: Vec<u8>,
    },
}

/// First message of a stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hello {
    /// Who the node says it is.
    pub node_id: NodeId,
    /// Version of its daemon.
    pub version: String,
    /// Newest checkpoint of this verifier's log that it holds; empty if none.
    pub newest_checkpoint: Vec<u8>,
    /// Whether it holds a durable halt.
    pub halted: bool,
    /// Newest checkpoint that it holds of each other domain's log.
    pub other_checkpoints: Vec<Vec<u8>>,
}

impl TryFrom<proto::NodeMessage> for NodeRequest {
    type Error = FieldDenial;

    fn try_from(given: proto::NodeMessage) -> Result<Self, FieldDenial> {
        match given.message.ok_or(refuse("message", "absent"))? {
            Message::Hello(hello) => Ok(Self::Hello(hello.try_into()?)),
            Message::Authorize(authorize) => Ok(Self::Authorize {
                intent: bytes("intent", authorize.intent, INTENT_CAP_BYTES)?,
                lineage_head: digest("lineage_head", &authorize.lineage_head)?,
                parents: list("parents", authorize.parents, 0..=DOMAINS_CAP, ARTIFACT_CAP_BYTES)?,
            }),
            Message::Renew(renew) => Ok(Self::Renew {
                artifacts: artifacts(&renew.artifacts)?,
                lineage_head: digest("lineage_head", &renew.lineage_head)?,
                parents: list("parents", renew.parents, 0..=DOMAINS_CAP, ARTIFACT_CAP_BYTES)?,
                other_checkpoints: checkpoints(renew.other_checkpoints)?,
            }),
            Message::Capture(capture) => {
                Ok(Self::Capture { lineage_head: digest("lineage_head", &capture.lineage_head)? })
            }
            Message::AskJwtSvid(ask) => {
                admit_audiences(&ask.audience).map_err(|_| refuse("audience", "not 1 to 8 short printable texts"))?;
                let artifact = ask.artifact.try_into().map_err(|_| refuse("artifact", "not 16 bytes"))?;
                let (audiences, lineage_head) = (ask.audience, digest("lineage_head", &ask.lineage_head)?);
                Ok(Self::AskJwtSvid { artifact: ArtifactId(artifact), audiences, lineage_head })
            }
            Message::Evidence(evidence) => Ok(Self::Evidence { cmw: bytes("cmw", evidence.cmw, EVIDENCE_CAP_BYTES)? }),
            Message::Passport(passport) => {
                Ok(Self::Passport { cose: bytes("passport", passport.cose, PASSPORT_CAP_BYTES)? })
            }
            Message::Halt(record) => Ok(Self::Halt { cose: bytes("halt", record.cose, NODE_RECORD_CAP_BYTES)? }),
            Message::Acknowledge(acknowledge) => {
                Ok(Self::Acknowledge { revocation: digest("revocation", &acknowledge.revocation)? })
            }
            Message::End(record) => Ok(Self::End { cose: bytes("end", record.cose, NODE_RECORD_CAP_BYTES)? }),
        }
    }
}

impl TryFrom<proto::Hello> for Hello {
    type Error = FieldDenial;

    fn try_from(given: proto::Hello) -> Result<Self, FieldDenial> {
        Ok(Self {
            node_id: node_id(given.node_id)?,
            version: text("version", given.version, TEXT_CAP_BYTES)?,
            newest_checkpoint: bytes_or_none("newest_checkpoint", given.newest_checkpoint, CHECKPOINT_CAP_BYTES)?,
            halted: given.halted,
            other_checkpoints: checkpoints(given.other_checkpoints)?,
        })
    }
}

fn checkpoints(given: Vec<Vec<u8>>) -> Result<Vec<Vec<u8>>, FieldDenial> {
    list("other_checkpoints", given, 0..=OTHER_CHECKPOINTS_CAP, CHECKPOINT_CAP_BYTES)
}

fn artifacts(given: &[Vec<u8>]) -> Result<Vec<Sha256Digest>, FieldDenial> {
    if given.is_empty() || given.len() > ARTIFACTS_CAP {
        return Err(refuse("artifacts", "too many or too few"));
    }
    let artifacts: Vec<_> = given.iter().map(|item| digest("artifacts", item)).collect::<Result<_, _>>()?;
    if artifacts.is_sorted_by(|a, b| a < b) { Ok(artifacts) } else { Err(refuse("artifacts", "not ascending")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(message: Message) -> Result<NodeRequest, FieldDenial> {
        proto::NodeMessage { message: Some(message) }.try_into()
    }

    #[test]
    fn every_field_is_bounded() {
        let head = vec![7; 32];
        let hello = proto::Hello { node_id: "n1".into(), version: "0.1.0".into(), ..Default::default() };
        let authorize = proto::Authorize { intent: vec![1], lineage_head: head.clone(), parents: vec![] };
        let renew = proto::Renew {
            artifacts: vec![vec![1; 32], vec![2; 32]],
            lineage_head: head.clone(),
            parents: vec![vec![1]],
            other_checkpoints: vec![vec![1]; OTHER_CHECKPOINTS_CAP],
        };
        let jwt = proto::AskJwtSvid { artifact: vec![1; 16], audience: vec!["a".into()], lineage_head: head.clone() };
        for accepted in [
            Message::Hello(hello.clone()),
            Message::Authorize(authorize.clone()),
            Message::Renew(renew.clone()),
            Message::Capture(proto::Capture { lineage_head: head }),
            Message::AskJwtSvid(jwt.clone()),
            Message::Evidence(proto::Evidence { cmw: vec![1] }),
            Message::Passport(proto::Passport { cose: vec![1] }),
            Message::Halt(proto::Record { cose: vec![1] }),
            Message::End(proto::Record { cose: vec![1] }),
        ] {
            read(accepted).unwrap();
        }
        let record = |bytes| proto::Record { cose: vec![0; bytes] };
        for (refused, field) in [
            (Message::Hello(proto::Hello { node_id: "N1".into(), ..hello.clone() }), "node_id"),
            (Message::Hello(proto::Hello { version: "\n".into(), ..hello.clone() }), "version"),
            (Message::Hello(proto::Hello { newest_checkpoint: vec![0; 65_537], ..hello }), "newest_checkpoint"),
            (Message::Authorize(proto::Authorize { intent: vec![], ..authorize.clone() }), "intent"),
            (Message::Authorize(proto::Authorize { intent: vec![0; 60_000], ..authorize.clone() }), "intent"),
            (Message::Authorize(proto::Authorize { lineage_head: vec![0; 31], ..authorize.clone() }), "lineage_head"),
            (Message::Authorize(proto::Authorize { parents: vec![vec![1]; 17], ..authorize.clone() }), "parents"),
            (
                Message::Renew(proto::Renew { parents: vec![vec![0; ARTIFACT_CAP_BYTES + 1]], ..renew.clone() }),
                "parents",
            ),
            (
                Message::Renew(proto::Renew {
                    other_checkpoints: vec![vec![1]; OTHER_CHECKPOINTS_CAP + 1],
                    ..renew.clone()
                }),
                "other_checkpoints",
            ),
            (Message::Renew(proto::Renew { artifacts: vec![], ..renew.clone() }), "artifacts"),
            (Message::Renew(proto::Renew { artifacts: vec![vec![1; 32]; 17], ..renew.clone() }), "artifacts"),
            (Message::Renew(proto::Renew { artifacts: vec![vec![1; 33]], ..renew.clone() }), "artifacts"),
            (Message::Renew(proto::Renew { artifacts: vec![vec![2; 32], vec![1; 32]], ..renew.clone() }), "artifacts"),
            (Message::Renew(proto::Renew { artifacts: vec![vec![1; 32], vec![1; 32]], ..renew }), "artifacts"),
            (Message::Capture(proto::Capture { lineage_head: vec![] }), "lineage_head"),
            (Message::AskJwtSvid(proto::AskJwtSvid { artifact: vec![1; 15], ..jwt.clone() }), "artifact"),
            (Message::AskJwtSvid(proto::AskJwtSvid { audience: vec![], ..jwt.clone() }), "audience"),
            (Message::AskJwtSvid(proto::AskJwtSvid { audience: vec!["a".into(); 9], ..jwt.clone() }), "audience"),
            (Message::AskJwtSvid(proto::AskJwtSvid { audience: vec!["a".repeat(257)], ..jwt.clone() }), "audience"),
            (Message::AskJwtSvid(proto::AskJwtSvid { lineage_head: vec![], ..jwt }), "lineage_head"),
            (Message::Evidence(proto::Evidence { cmw: vec![0; EVIDENCE_CAP_BYTES + 1] }), "cmw"),
            (Message::Passport(proto::Passport { cose: vec![] }), "passport"),
            (Message::Passport(proto::Passport { cose: vec![0; PASSPORT_CAP_BYTES + 1] }), "passport"),
            (Message::Halt(record(0)), "halt"),
            (Message::End(record(NODE_RECORD_CAP_BYTES + 1)), "end"),
        ] {
            assert_eq!(read(refused).unwrap_err().field, field);
        }
        assert_eq!(NodeRequest::try_from(proto::NodeMessage { message: None }).unwrap_err().field, "message");
    }
}
