//! What a peer is told when it does not get what it asked for: class and code, never the accepted values.

use evidence::digest::Sha256Digest;
use governance::text::Text;
use policy::Denial;
use thiserror::Error;
use wire::proto;

use crate::fault::Fault;

/// A request was not granted.
#[derive(Debug, Error)]
pub enum Refused {
    /// We judged, and said no.
    #[error(transparent)]
    Denied(Box<Denied>),
    /// We judged, and said no, before the peer had proven anything: there is no lineage for a record to stand in.
    #[error(transparent)]
    Unproven(Box<Denial>),
    /// We could not judge.
    #[error(transparent)]
    Fault(#[from] Fault),
    /// The peer does not speak the protocol; nothing was judged and nothing is logged.
    #[error(transparent)]
    Protocol(#[from] ProtocolDenial),
}

/// A denial, as recorded.
#[derive(Debug, Error)]
#[error("{denial}")]
pub struct Denied {
    /// The fact, with both sides.
    pub denial: Denial,
    /// Log index of the denial record.
    pub entry: u64,
    /// Newest record of the node's lineage, when the denial became part of it.
    pub head: Option<Sha256Digest>,
    /// The node must halt.
    pub halt: bool,
}

/// A message that is not one, or not now.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum ProtocolDenial {
    /// Above the cap of its kind.
    #[error("message too large")]
    TooLarge,
    /// Not a message of the protocol.
    #[error("malformed message")]
    Malformed,
    /// A message without content.
    #[error("empty message")]
    Empty,
    /// A field breaks its own rule.
    #[error("field {name} breaks its rule")]
    Field {
        /// Which.
        name: &'static str,
    },
    /// Not the message that may come now.
    #[error("{got} came where {wanted} may")]
    Unexpected {
        /// What came.
        got: &'static str,
        /// What may come.
        wanted: &'static str,
    },
    /// The node calls itself otherwise than its certificate does.
    #[error("the node id is not the one of the client certificate")]
    OtherNode,
}

impl ProtocolDenial {
    /// Stable code, `protocol.<fact>`.
    pub fn code(self) -> &'static str {
        match self {
            Self::TooLarge => "protocol.too_large",
            Self::Malformed => "protocol.malformed",
            Self::Empty => "protocol.empty",
            Self::Field { .. } => "protocol.field",
            Self::Unexpected { .. } => "protocol.unexpected",
            Self::OtherNode => "protocol.other_node",
        }
    }
}

impl Refused {
    /// A denial that is not recorded.
    pub fn unproven(denial: impl Into<Denial>) -> Self {
        Self::Unproven(Box::new(denial.into()))
    }

    /// Stable code.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Denied(denied) => denied.denial.code(),
            Self::Unproven(denial) => denial.code(),
            Self::Fault(fault) => fault.code(),
            Self::Protocol(denial) => denial.code(),
        }
    }

    /// Ids of the policy rules that denied: names, never what they accept.
    fn rules(&self) -> Vec<String> {
        let denial = match self {
            Self::Denied(denied) => &denied.denial,
            Self::Unproven(denial) => denial.as_ref(),
            Self::Fault(_) | Self::Protocol(_) => return Vec::new(),
        };
        let rule = match denial {
            Denial::Policy(denial) => denial.rule(),
            Denial::Evidence(_) | Denial::Reference(_) | Denial::Governance(_) => None,
        };
        rule.filter(|rule| Text::new(rule.id.as_str()).is_ok()).map(|rule| rule.id.clone()).into_iter().collect()
    }

    /// As the peer is told.
    pub fn to_message(&self) -> proto::Refusal {
        let (class, entry, lineage_head, halt) = match self {
            Self::Denied(denied) => {
                let head = denied.head.map_or_else(Vec::new, |head| head.0.to_vec());
                ("denied", denied.entry.to_string(), head, denied.halt)
            }
            Self::Fault(_) => ("fault", String::new(), Vec::new(), false),
            Self::Unproven(_) | Self::Protocol(_) => ("denied", String::new(), Vec::new(), false),
        };
        let (class, code) = (class.to_owned(), self.code().to_owned());
        proto::Refusal { class, code, entry, lineage_head, halt, rules: self.rules() }
    }
}
