//! Challenges: 256 random bits, at most ten seconds, one use.
//!
//! A challenge lives in the stream that asked for it and nowhere else, so there is no table
//! to share between replicas, to restore, or to replay from. Answering takes it out
//! before the answer is looked at: whatever the outcome, it is gone.

use std::time::{Duration, Instant};

use evidence::challenge::{CHALLENGE_TTL_S, Challenge, Demands};
use evidence::digest::Sha256Digest;
use evidence::time::UnixSeconds;
use wire::bounded::demand;

use crate::random::{self, NoRandomness};

/// What one challenge is about: this connection, this domain now, this request.
#[derive(Clone, Copy, Debug)]
pub struct About<'a> {
    /// TLS exporter of the connection.
    pub channel: [u8; 32],
    /// This verifier's SPIFFE ID.
    pub audience: &'a str,
    /// Governance epoch.
    pub epoch: u64,
    /// Digest of the intent, or of the live artifact digests.
    pub subject: Sha256Digest,
    /// Newest record of the node's lineage.
    pub lineage_head: Sha256Digest,
}

/// A challenge that is out and not answered.
#[derive(Debug)]
pub struct Outstanding {
    challenge: Challenge,
    ends: Instant,
}

impl Outstanding {
    /// Draws a nonce; the challenge runs from `now`, on the monotonic clock as well. What is demanded is the verifier's
    /// choice, never the node's.
    pub fn issue(demands: Demands, about: About<'_>, now: UnixSeconds, started: Instant) -> Result<Self, NoRandomness> {
        let challenge = Challenge {
            nonce: random::bytes()?,
            channel: about.channel,
            audience: about.audience.to_owned(),
            epoch: about.epoch,
            subject: about.subject,
            lineage_head: about.lineage_head,
            issued_at: now,
            expires_at: now.plus(CHALLENGE_TTL_S),
            demands,
        };
        let ends = started.checked_add(TTL).unwrap_or(started);
        Ok(Self { challenge, ends })
    }

    /// When it ends, on the monotonic clock.
    pub fn ends(&self) -> Instant {
        self.ends
    }

    /// As the node is asked.
    pub fn to_message(&self) -> wire::proto::Challenge {
        let challenge = &self.challenge;
        wire::proto::Challenge {
            nonce: challenge.nonce.to_vec(),
            expires_after_ms: CHALLENGE_TTL_S.saturating_mul(1000),
            audience: challenge.audience.clone(),
            epoch: challenge.epoch,
            subject: challenge.subject.0.to_vec(),
            demand: Some(demand::to_message(&challenge.demands)),
            vouchers: Vec::new(),
        }
    }

    /// Uses it up. `None`: it was over on the monotonic clock, whatever the wall clock says.
    pub fn consume(self, arrived: Instant) -> Option<Challenge> {
        (arrived < self.ends).then_some(self.challenge)
    }
}

const TTL: Duration = Duration::from_secs(CHALLENGE_TTL_S);

#[cfg(test)]
mod tests {
    use evidence::challenge::TpmDemands;
    use evidence::digest::HashAlg;

    use super::*;

    fn issue(started: Instant) -> Outstanding {
        let demands = Demands::Tpm(TpmDemands {
            pcr_bank: HashAlg::Sha256,
            pcrs: vec![0, 4],
            node_key_pcrs: vec![0],
            event_log: true,
            ima_log: false,
        });
        let about = About {
            channel: [1; 32],
            audience: "spiffe://a.example/verifier",
            epoch: 3,
            subject: Sha256Digest([2; 32]),
            lineage_head: Sha256Digest([3; 32]),
        };
        Outstanding::issue(demands, about, UnixSeconds(100), started).unwrap()
    }

    #[test]
    fn it_ends_after_ten_seconds_by_both_clocks() {
        let started = Instant::now();
        let challenge = issue(started).consume(started + TTL - Duration::from_millis(1)).unwrap();
        assert_eq!(challenge.expires_at, UnixSeconds(110));
        assert!(issue(started).consume(started + TTL).is_none());
    }

    #[test]
    fn two_are_never_the_same_and_the_message_says_what_the_challenge_says() {
        let started = Instant::now();
        let (one, two) = (issue(started), issue(started));
        assert_ne!(one.challenge.nonce, two.challenge.nonce);
        let message = one.to_message();
        assert_eq!(
            (message.nonce.as_slice(), message.subject.as_slice(), message.expires_after_ms),
            (&one.challenge.nonce[..], &[2; 32][..], 10_000)
        );
        let Some(wire::proto::challenge::Demand::Tpm(demand)) = message.demand else { panic!("not a TPM's") };
        assert_eq!((demand.pcrs.as_slice(), demand.event_log), (&[0, 4][..], true));
    }
}
