//! What we hold of one partner domain, as a pure state machine: `on(event, now) -> (partner, actions)`.
//!
//! A partner is begun by an operator with a pinned first bundle; there is no trust on first use, and a bundle of one
//! domain says nothing of another. From then on its bundle's sequence, its state's epoch and its log's size only grow.
//! Two different things of one number are a fork, a lower number is a rollback: both stay until an operator trusts anew,
//! as does trust that was taken back. A partner whose newest signed state names another bundle than the one that it serves
//! is inconsistent, until both fit together. One that was not seen for too long is stale, and fresh again once it is.
//! Whatever depends on a partner asks [`Partner::fresh`] first and gets nothing else to work with.

use evidence::{digest::Sha256Digest, names::DomainName, time::UnixSeconds};

use crate::{
    denial::GovernanceDenial, federation_grant::FederationGrant, governance_state::VerifiedState,
    partner_endpoint::PartnerEndpoint, revocation::RevocationList, trust_bundle::VerifiedBundle,
};

mod event;
mod fresh;
mod memory;
mod standing;
#[cfg(test)]
pub(crate) mod tests;

pub use event::{Growth, LogHead, PartnerAction, PartnerEvent};
pub use fresh::Fresh;
pub use memory::{MEMORY_CAP_BYTES, PartnerMemory, REVOCATIONS_CAP};
use standing::verdict_of;
pub use standing::{Standing, Verdict};

/// Most epochs between the held state and a newer one that are walked; a partner further ahead must be trusted anew.
pub const GAP_CAP_EPOCHS: u64 = 16_384;

/// A state with what it names.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Held {
    state: VerifiedState,
    bundle: VerifiedBundle,
    revocations: RevocationList,
}

/// One partner.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Partner {
    endpoint: PartnerEndpoint,
    grant: FederationGrant,
    /// The newest one. Until a state that names it was proven, whoever relies on the partner gets the one before.
    bundle: VerifiedBundle,
    held: Option<Held>,
    /// The newest state that was signed, while its proofs are still wanting.
    offered: Option<VerifiedState>,
    head: Option<LogHead>,
    /// The newest head that came was not proven to go on from the held one.
    unproven: bool,
    seen_at: Option<UnixSeconds>,
    verdict: Verdict,
    since: UnixSeconds,
    /// The standing last told.
    told: Standing,
    newest_s: UnixSeconds,
}

impl Partner {
    /// A partner as an operator begins it, with the bundle whose digest the operator pinned.
    #[must_use]
    pub const fn pinned(
        bundle: VerifiedBundle,
        endpoint: PartnerEndpoint,
        grant: FederationGrant,
        now: UnixSeconds,
    ) -> Self {
        Self {
            endpoint,
            grant,
            bundle,
            held: None,
            offered: None,
            head: None,
            unproven: false,
            seen_at: None,
            verdict: Verdict::Trusted,
            since: now,
            told: Standing::Stale,
            newest_s: now,
        }
    }

    /// Which domain.
    #[must_use]
    pub const fn domain(&self) -> &DomainName {
        &self.bundle.bundle().domain
    }

    /// Where it is reached.
    #[must_use]
    pub const fn endpoint(&self) -> &PartnerEndpoint {
        &self.endpoint
    }

    /// What it may assert.
    #[must_use]
    pub const fn grant(&self) -> &FederationGrant {
        &self.grant
    }

    /// The newest bundle. It is for reaching the partner and for reading what it says next; whatever relies on the
    /// partner asks [`Self::fresh`].
    #[must_use]
    pub const fn bundle(&self) -> &VerifiedBundle {
        &self.bundle
    }

    /// The newest state that came with all its proofs, however old.
    #[must_use]
    pub fn state(&self) -> Option<&VerifiedState> {
        self.held.as_ref().map(|held| &held.state)
    }

    /// The newest state that was signed, whether or not its proofs have come.
    #[must_use]
    pub fn newest_known(&self) -> Option<&VerifiedState> {
        self.offered.as_ref().or(self.state())
    }

    /// What it has revoked, as of the newest state that came with all its proofs.
    #[must_use]
    pub fn revocations(&self) -> Option<&RevocationList> {
        self.held.as_ref().map(|held| &held.revocations)
    }

    /// The newest head of its log.
    #[must_use]
    pub const fn head(&self) -> Option<LogHead> {
        self.head
    }

    /// When its newest state was last seen to be the newest; a restart forgets it.
    #[must_use]
    pub const fn seen_at(&self) -> Option<UnixSeconds> {
        self.seen_at
    }

    /// Since when the verdict is what it is.
    #[must_use]
    pub const fn since(&self) -> UnixSeconds {
        self.since
    }

    /// How it stands at `now`.
    #[must_use]
    pub fn standing(&self, now: UnixSeconds) -> Standing {
        match self.verdict {
            Verdict::Forked => Standing::Forked,
            Verdict::RolledBack => Standing::RolledBack,
            Verdict::Untrusted => Standing::Untrusted,
            Verdict::Trusted if self.contradiction().is_some() => Standing::Inconsistent,
            Verdict::Trusted if self.fresh(now).is_ok() => Standing::Fresh,
            Verdict::Trusted => Standing::Stale,
        }
    }

    /// Whether time alone changed how it stands since that was last told: whether a [`PartnerEvent::Tick`] says anything.
    #[must_use]
    pub fn is_due(&self, now: UnixSeconds) -> bool {
        self.standing(now) != self.told
    }

    /// What may be relied on at `now`.
    ///
    /// # Errors
    /// [`GovernanceDenial`] saying why nothing may: each reason has its own code.
    pub fn fresh(&self, now: UnixSeconds) -> Result<Fresh<'_>, GovernanceDenial> {
        let (domain, since) = (self.domain().clone(), self.since);
        match self.verdict {
            Verdict::Trusted => {}
            Verdict::Forked => return Err(GovernanceDenial::PartnerForked { domain, since }),
            Verdict::RolledBack => return Err(GovernanceDenial::PartnerRolledBack { domain, since }),
            Verdict::Untrusted => return Err(GovernanceDenial::PartnerUntrusted { domain, since }),
        }
        if let Some(contradiction) = self.contradiction() {
            return Err(contradiction);
        }
        let now = self.newest_s.max(now);
        let max_staleness_s = self.grant.max_staleness_s;
        let unseen = |seen_at| GovernanceDenial::PartnerStale { domain: domain.clone(), seen_at, max_staleness_s, now };
        let (Some(seen_at), Some(held)) = (self.seen_at, self.held.as_ref()) else {
            return Err(unseen(UnixSeconds(0)));
        };
        if now >= seen_at.plus(max_staleness_s) {
            return Err(unseen(seen_at));
        }
        held.state.fresh(now)?;
        held.bundle.in_force(now)?;
        Ok(Fresh { partner: self, held, now })
    }

    /// The one transition function. A time that goes back is read as no time passed.
    #[must_use]
    pub fn on(mut self, event: PartnerEvent, now: UnixSeconds) -> (Self, Vec<PartnerAction>) {
        self.newest_s = self.newest_s.max(now);
        let now = self.newest_s;
        let mut actions = Vec::new();
        if event == PartnerEvent::Distrusted {
            self.conclude(Verdict::Untrusted, &mut actions);
        } else if self.verdict == Verdict::Trusted
            && let Err(denial) = self.see(event, now, &mut actions)
        {
            self.refuse(denial, &mut actions);
        }
        let stands = self.standing(now);
        if stands != self.told {
            actions.push(PartnerAction::Stands { from: self.told, to: stands });
            self.told = stands;
        }
        (self, actions)
    }

    fn see(
        &mut self,
        event: PartnerEvent,
        now: UnixSeconds,
        actions: &mut Vec<PartnerAction>,
    ) -> Result<(), GovernanceDenial> {
        match event {
            PartnerEvent::Bundle(bundle) => {
                bundle.supersedes(&self.bundle)?;
                if bundle.digest() != self.bundle.digest() {
                    self.bundle = *bundle;
                    actions.push(PartnerAction::Remember);
                }
                Ok(())
            }
            PartnerEvent::Equivocated { size, got, held } => {
                let domain = self.domain().clone();
                Err(GovernanceDenial::LogForked { domain, size, got, held })
            }
            PartnerEvent::Rumoured { head } => {
                self.unproven = true;
                let held = self.head.map_or(0, |held| held.size);
                Err(GovernanceDenial::LogUnproven { domain: self.domain().clone(), got: head.size, held })
            }
            PartnerEvent::Head { head, growth } => self.see_head(head, growth, actions),
            PartnerEvent::State { newest, between } => self.see_state(*newest, &between, now, actions),
            PartnerEvent::Proven { state, head, revocations } => self.prove(state, head, revocations, now, actions),
            PartnerEvent::Tick | PartnerEvent::Distrusted => Ok(()),
        }
    }

    fn see_head(
        &mut self,
        head: LogHead,
        growth: Growth,
        actions: &mut Vec<PartnerAction>,
    ) -> Result<(), GovernanceDenial> {
        if let Some(held) = self.head {
            let domain = self.domain().clone();
            if head.size < held.size {
                return Err(GovernanceDenial::LogRolledBack { domain, got: head.size, held: held.size });
            }
            let forked = |domain, got, held| Err(GovernanceDenial::LogForked { domain, size: head.size, got, held });
            match (head.size == held.size, growth) {
                (true, _) if head.root != held.root => return forked(domain, head.root, held.root),
                (true, _) => {
                    self.unproven = false;
                    return Ok(());
                }
                (false, Growth::Contradicted) => return forked(domain, head.root, held.root),
                (false, Growth::Unproven) => {
                    // What comes with it does not count as seen either.
                    self.unproven = true;
                    return Err(GovernanceDenial::LogUnproven { domain, got: head.size, held: held.size });
                }
                (false, Growth::Proven) => {}
            }
        }
        self.unproven = false;
        self.head = Some(head);
        actions.push(PartnerAction::Mark(head));
        Ok(())
    }

    fn see_state(
        &mut self,
        newest: VerifiedState,
        between: &[Vec<u8>],
        now: UnixSeconds,
        actions: &mut Vec<PartnerAction>,
    ) -> Result<(), GovernanceDenial> {
        self.of_this_domain(&newest)?;
        let known = self.newest_known();
        let epoch = newest.state().epoch;
        if let Some(known) = known {
            let from = known.state().epoch.saturating_add(1);
            if epoch > from && between.is_empty() {
                let (domain, held) = (self.domain().clone(), known.state().epoch);
                if epoch.saturating_sub(from) <= GAP_CAP_EPOCHS {
                    actions.push(PartnerAction::Fetch { from, to: epoch.saturating_sub(1) });
                }
                return Err(GovernanceDenial::StateGap { domain, got: epoch, held });
            }
            newest.continues_over(between, known)?;
        }
        if self.state().is_some_and(|held| held.digest() == newest.digest()) {
            // Nothing newer: what is held was just seen to be the newest, of the log that is known.
            if !self.unproven {
                self.seen_at = Some(now);
            }
            return Ok(());
        }
        if self.offered.as_ref().is_none_or(|offered| offered.digest() != newest.digest()) {
            self.offered = Some(newest);
            actions.push(PartnerAction::Remember);
        }
        self.contradiction().map_or(Ok(()), Err)
    }

    fn prove(
        &mut self,
        state: Sha256Digest,
        head: LogHead,
        revocations: RevocationList,
        now: UnixSeconds,
        actions: &mut Vec<PartnerAction>,
    ) -> Result<(), GovernanceDenial> {
        let Some(offered) = self.offered.clone() else {
            // Proofs of what is held already add nothing.
            return Ok(());
        };
        offered.is_the_state(state)?;
        offered.fresh(now)?;
        if self.head != Some(head) || self.unproven {
            let (domain, epoch) = (self.domain().clone(), offered.state().epoch);
            return Err(GovernanceDenial::StateUnlogged { domain, epoch });
        }
        let bundle = self.named_by(&offered)?.clone();
        let (named, got) = (offered.state().revocations, revocations.digest()?);
        if got != named {
            return Err(self.inconsistent("list of revocations", got, named));
        }
        self.held = Some(Held { state: offered, bundle, revocations });
        self.offered = None;
        self.seen_at = Some(now);
        actions.push(PartnerAction::Remember);
        Ok(())
    }

    fn of_this_domain(&self, state: &VerifiedState) -> Result<(), GovernanceDenial> {
        let (got, expected) = (&state.state().domain, self.domain());
        if got == expected {
            return Ok(());
        }
        Err(GovernanceDenial::Domain { what: "governance state", got: got.clone(), expected: expected.clone() })
    }

    /// Whether a state, beside a bundle that came with it, names one that counts: that one, or still the one before it.
    #[must_use]
    pub fn fits(&self, state: &VerifiedState, bundle: &VerifiedBundle) -> bool {
        let named = state.state().bundle;
        named == bundle.digest() || self.held.as_ref().is_some_and(|held| held.bundle.digest() == named)
    }

    /// What the newest state that was signed says against the newest bundle that was signed. What was held before serves
    /// nobody beside that: which of the two the partner means by its keys is not for us to choose.
    fn contradiction(&self) -> Option<GovernanceDenial> {
        let offered = self.offered.as_ref().filter(|offered| !self.fits(offered, &self.bundle))?;
        Some(self.inconsistent("trust bundle", self.bundle.digest(), offered.state().bundle))
    }

    /// The bundle that a state names.
    fn named_by(&self, state: &VerifiedState) -> Result<&VerifiedBundle, GovernanceDenial> {
        let named = state.state().bundle;
        let known = std::iter::once(&self.bundle).chain(self.held.as_ref().map(|held| &held.bundle));
        let found = known.into_iter().find(|bundle| bundle.digest() == named);
        found.ok_or_else(|| self.inconsistent("trust bundle", self.bundle.digest(), named))
    }

    fn inconsistent(&self, what: &'static str, got: Sha256Digest, named: Sha256Digest) -> GovernanceDenial {
        GovernanceDenial::TrustInconsistent { domain: self.domain().clone(), what, got, named }
    }

    fn refuse(&mut self, denial: GovernanceDenial, actions: &mut Vec<PartnerAction>) {
        let verdict = verdict_of(&denial);
        actions.push(PartnerAction::Refused(denial));
        if verdict != Verdict::Trusted {
            self.conclude(verdict, actions);
        }
    }

    fn conclude(&mut self, verdict: Verdict, actions: &mut Vec<PartnerAction>) {
        if self.verdict != verdict {
            (self.verdict, self.since) = (verdict, self.newest_s);
            actions.push(PartnerAction::Remember);
        }
    }
}
