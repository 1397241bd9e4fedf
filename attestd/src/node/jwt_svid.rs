//! JWT-SVIDs of an execution: asked of the domains that authorize it, judged here, and given again while they are fresh.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use audit::record::RecordBody;
use evidence::digest::Sha256Digest;
use evidence::names::DomainName;
use evidence::time::UnixSeconds;
use governance::GovernanceDenial;
use governance::artifact::ArtifactId;
use governance::jwt_svid::{ClaimedJwtSvid, JWT_SVID_LIFETIME_CAP_S, JwtSvid};
use governance::trust_bundle::KeyRecord;
use tokio::sync::oneshot;
use tokio::time::timeout;
use wire::bounded::verifier;

use super::domain::{AcceptDenial, Domain, Seen, mismatch};
use super::execution::SignedIntent;
use super::governed::{Governed, Standing};
use super::link::JwtAsk;
use super::refused::Refused;
use super::{Node, lock};
use crate::clock::unix_now;

/// A JWT-SVID that passed.
#[derive(Debug)]
pub(crate) struct GivenJwt {
    pub(crate) spiffe_id: String,
    /// JWS compact serialization.
    pub(crate) token: String,
    /// First second in which it no longer counts.
    expires_at: UnixSeconds,
    /// First second in which another is asked for: half of its life is over.
    fresh_until: UnixSeconds,
}

/// What one must be.
#[derive(Clone, Copy)]
pub(super) struct JwtWanted<'a> {
    pub(super) intent: &'a SignedIntent,
    pub(super) artifact: ArtifactId,
    pub(super) audiences: &'a [String],
}

impl Domain {
    /// Judges a JWT-SVID: the one that the log names, of this execution, for these audiences, by a key of the domain's bundle.
    pub(super) fn accept_jwt(
        &self,
        answer: &verifier::JwtSvid,
        wanted: JwtWanted<'_>,
        seen: &mut Seen,
        now: UnixSeconds,
    ) -> Result<GivenJwt, AcceptDenial> {
        let (receipt, record) = self.logged(&answer.receipt, seen.witnesses.as_ref(), now)?;
        let record = record.record();
        let RecordBody::JwtSvid { artifact, svid, expires_at } = &record.body else {
            return Err(mismatch(RECORD, "kind"));
        };
        if record.node.as_ref() != Some(&self.node) || record.subject != wanted.intent.digest {
            return Err(mismatch(RECORD, "subject"));
        }
        if **artifact != wanted.artifact.0 {
            return Err(mismatch(RECORD, "artifact"));
        }
        if *svid != Sha256Digest::of(answer.svid.as_bytes()) {
            return Err(mismatch(WHAT, "digest"));
        }
        let claimed = ClaimedJwtSvid::read(&answer.svid)?;
        let any = wanted.audiences.first().map_or("", String::as_str);
        // By the domain's own keys: were it to claim another domain, its SPIFFE ID would not be the wanted one.
        let verified = claimed.verify(&self.keys(now)?.bundle().jwt, any, now)?;
        let spiffe_id = wanted.intent.intent.spiffe_id(&self.name)?;
        if verified.spiffe_id() != spiffe_id {
            return Err(mismatch(WHAT, "spiffe_id"));
        }
        if verified.audiences() != wanted.audiences {
            return Err(mismatch(WHAT, "audience"));
        }
        let life_s = expires_at.0.saturating_sub(now.0);
        if verified.expires_at() != *expires_at || life_s > JWT_SVID_LIFETIME_CAP_S.saturating_add(CLOCK_LAG_S) {
            return Err(mismatch(WHAT, "expires_at"));
        }
        Self::follow_log(&receipt, &answer.receipt, seen)?;
        let (token, fresh_until) = (answer.svid.clone(), now.plus(life_s / 2));
        Ok(GivenJwt { spiffe_id, token, expires_at: *expires_at, fresh_until })
    }
}

/// By whom one is given, and for whom.
type Between = (DomainName, Vec<String>);

/// Those that were given to an execution.
#[derive(Debug, Default)]
pub(super) struct KeptJwts(Mutex<BTreeMap<Between, Arc<GivenJwt>>>);

impl KeptJwts {
    fn fresh(&self, of: &Between, now: UnixSeconds) -> Option<Arc<GivenJwt>> {
        lock(&self.0).get(of).filter(|given| now < given.fresh_until).map(Arc::clone)
    }

    fn keep(&self, of: Between, given: Arc<GivenJwt>, now: UnixSeconds) {
        let mut kept = lock(&self.0);
        kept.retain(|_, given| now < given.fresh_until);
        if kept.len() < KEPT_CAP {
            kept.insert(of, given);
        }
    }
}

/// Why a process gets no JWT-SVID.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NoJwt {
    /// Its execution is over.
    #[error("the execution is over: {0}")]
    Over(&'static str),
    /// Its execution is nobody of that name.
    #[error("the execution has no such SPIFFE ID in force")]
    NotIts,
    /// A domain did not give one, or what it gave does not count.
    #[error("{0}")]
    Refused(Refused),
}

impl Node {
    /// JWT-SVIDs of an execution, one of each domain that authorizes it, the home domain's first; `of`: its one SPIFFE ID
    /// that is wanted, or empty.
    ///
    /// # Errors
    /// [`NoJwt`]: all of them, or none.
    pub(crate) async fn jwt_svids(
        &self,
        governed: &Governed,
        audiences: &[String],
        of: &str,
    ) -> Result<Vec<Arc<GivenJwt>>, NoJwt> {
        let standing = governed.stands_with(|standing| !standing.in_force.is_empty()).await;
        let standing = standing.ok_or(NoJwt::NotIts)?;
        if let Some(code) = standing.over {
            return Err(NoJwt::Over(code));
        }
        let wanted = governed.ordered(&standing).filter(|(_, given)| of.is_empty() || given.svid.spiffe_id == of);
        let wanted: Vec<_> = wanted.map(|(domain, given)| (domain.clone(), given.artifact_id)).collect();
        if wanted.is_empty() {
            return Err(NoJwt::NotIts);
        }
        let mut svids = Vec::new();
        for (domain, artifact) in wanted {
            let key = (domain, audiences.to_vec());
            svids.push(match governed.jwt_svids.fresh(&key, unix_now()) {
                Some(given) => given,
                None => {
                    let given = self.ask_jwt(governed, &key, artifact).await?;
                    governed.jwt_svids.keep(key, Arc::clone(&given), unix_now());
                    given
                }
            });
        }
        Ok(svids)
    }

    async fn ask_jwt(
        &self,
        governed: &Governed,
        (domain, audiences): &Between,
        artifact: ArtifactId,
    ) -> Result<Arc<GivenJwt>, NoJwt> {
        let (reply, answer) = oneshot::channel();
        let (intent, audiences) = (Arc::clone(&governed.intent), audiences.clone());
        let ask = JwtAsk { intent, artifact, audiences, reply };
        let unanswered = || NoJwt::Refused(Refused::fault("fault.verifier_unreachable", "no answer of the verifier"));
        if !self.link(domain).is_some_and(|link| link.ask_jwt(ask)) {
            return Err(unanswered());
        }
        let answer = timeout(ANSWER_WITHIN, answer).await.ok().and_then(Result::ok).ok_or_else(unanswered)?;
        let given = answer.map_err(NoJwt::Refused)?;
        // The domain counts from the lease that it granted last, of which the execution may hear only now.
        let within =
            |standing: &Standing| standing.in_force.get(domain).is_some_and(|held| given.expires_at <= held.expires_at);
        match governed.stands_with(within).await {
            Some(Standing { over: Some(code), .. }) => Err(NoJwt::Over(code)),
            Some(_) => Ok(given),
            None => {
                let mismatch: AcceptDenial = mismatch(WHAT, "lease");
                Err(NoJwt::Refused(mismatch.into()))
            }
        }
    }
}

impl Governed {
    /// Keys of JWT-SVIDs by trust domain: of who authorizes the execution, and of whom that trusts.
    pub(crate) fn jwt_keys<'a>(&self, standing: &'a Standing) -> BTreeMap<&'a DomainName, &'a [KeyRecord]> {
        let partners = self.partners(standing).into_iter().map(|(domain, partner)| (domain, partner.jwt.as_slice()));
        let own = standing.in_force.iter().map(|(domain, given)| (domain, &*given.jwt));
        partners.chain(own).collect()
    }

    /// Judges a JWT-SVID that the execution was shown.
    ///
    /// # Errors
    /// [`GovernanceDenial`] for the first rule broken.
    pub(crate) fn judge_jwt(
        &self,
        standing: &Standing,
        token: &str,
        audience: &str,
        now: UnixSeconds,
    ) -> Result<JwtSvid, GovernanceDenial> {
        let claimed = ClaimedJwtSvid::read(token)?;
        let unknown = || GovernanceDenial::PartnerUnknown { domain: claimed.domain().clone() };
        let keys = self.jwt_keys(standing).get(claimed.domain()).copied().ok_or_else(unknown)?;
        claimed.verify(keys, audience, now)
    }
}

const WHAT: &str = "JWT-SVID";
const RECORD: &str = "JWT-SVID record";
/// The domain's clock may be ahead of this node's by this much.
const CLOCK_LAG_S: u64 = 5;
/// Most that are kept for one execution.
const KEPT_CAP: usize = 32;
/// Longest time to an answer: of the request before it, and its own.
const ANSWER_WITHIN: Duration = Duration::from_secs(20);
