//! Keeps what is held of each partner current, and each partner current about us. One task pulls from a partner at its
//! refresh hint, or at once when it says that it has something new; one tells it of every new state of ours until it has
//! answered. A partner that fails delays nobody but itself.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use audit::checkpoint::{Checkpoint, LogIdentity, VerifiedCheckpoint};
use audit::tlog::TreeHash;
use evidence::digest::Sha256Digest;
use evidence::names::DomainName;
use evidence::time::UnixSeconds;
use governance::partner::{Partner, PartnerAction, Standing};
use governance::partner_endpoint::PartnerEndpoint;
use governance::trust_bundle::Role;
use serde::Serialize;
use tokio::sync::{Notify, watch};
use tokio::task::JoinHandle;

use super::client::{ExchangeFailure, PartnerClient};
use super::gossip::{Heard, Rumours};
pub use super::hints::Acknowledged;
use super::hints::{self, Acknowledgements};
use super::messages::Held;
use super::partners::HeldPartner;
use super::pull::pull;
use super::table::head_of;
use crate::clock::ClockWentBack;
use crate::governor::{Governor, OrderRefusal};
use crate::random;
use crate::witness::Fork;

/// Time to judge by.
pub type Now = Arc<dyn Fn() -> Result<UnixSeconds, ClockWentBack> + Send + Sync>;

/// A partner that could not be reached, or did not answer, is tried again after this long.
const RETRY_AFTER: Duration = Duration::from_secs(2);
/// Pulls from one partner are at least this far apart, whoever asks.
const SPACING: Duration = Duration::from_millis(100);
/// How often it is looked whether a partner has become stale.
const TICK: Duration = Duration::from_secs(1);
/// Longest wait of whoever gave a hint.
const LOOK_DEADLINE: Duration = Duration::from_secs(12);
/// Most pulls that one hint waits for: one may have been under way, its answer older than the hint.
const LOOKS: u64 = 2;

/// A handle. Cheap to clone.
#[derive(Clone)]
pub struct Following(Arc<Shared>);

struct Shared {
    domain: DomainName,
    governor: Governor,
    now: Now,
    web_roots: Vec<Vec<u8>>,
    followed: Mutex<BTreeMap<DomainName, Arc<Followed>>>,
    acknowledged: Acknowledgements,
}

/// One partner being followed.
struct Followed {
    /// Somebody wants a pull at once.
    wanted: Notify,
    /// Pulls that came to an end, whatever their outcome.
    ended: watch::Sender<u64>,
    last: Mutex<LastPull>,
    /// Heads of its log that others were shown.
    rumours: Mutex<Rumours>,
}

#[derive(Clone, Debug, Default)]
struct LastPull {
    failure: Option<Failure>,
    at: Option<UnixSeconds>,
}

/// Why the newest pull brought nothing.
#[derive(Clone, Debug, Serialize)]
pub struct Failure {
    /// Stable code.
    pub code: &'static str,
    /// For people.
    pub what: String,
}

/// What is known of following a partner, beside what is held of it.
#[derive(Clone, Debug, Serialize)]
pub struct Followup {
    /// When the newest pull ended.
    pub pulled_at: Option<UnixSeconds>,
    /// Why it failed, if it did.
    pub failure: Option<Failure>,
    /// What the partner said that it holds of us.
    pub acknowledged: Option<Acknowledged>,
}

impl Following {
    /// Follows the partners of this governor. `web_roots` are the CA certificates (DER) for endpoints of profile
    /// `https_web`. Nothing happens before [`Self::run`].
    pub fn new(domain: DomainName, governor: Governor, now: Now, web_roots: Vec<Vec<u8>>) -> Self {
        let (followed, acknowledged) = (Mutex::default(), Acknowledgements::default());
        Self(Arc::new(Shared { domain, governor, now, web_roots, followed, acknowledged }))
    }

    /// Runs until `stopped`.
    pub async fn run(self, stopped: impl Future<Output = ()>) {
        let mut partners = self.0.governor.watch_partners();
        let mut tasks: BTreeMap<DomainName, [JoinHandle<()>; 2]> = BTreeMap::new();
        let mut tick = tokio::time::interval(TICK);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        tokio::pin!(stopped);
        partners.mark_changed();
        loop {
            tokio::select! {
                () = &mut stopped => break,
                _ = tick.tick() => self.pass_time().await,
                changed = partners.changed() => {
                    if changed.is_err() {
                        break;
                    }
                    let now = partners.borrow_and_update().clone();
                    for held in now.all() {
                        let domain = held.partner.domain().clone();
                        tasks.entry(domain.clone()).or_insert_with(|| self.follow(domain));
                    }
                }
            }
        }
        tasks.into_values().flatten().for_each(|task| task.abort());
    }

    /// Looks at a partner that says that its newest state is of `epoch`, and says what is held of it then. Nothing for
    /// one that is not followed.
    pub(crate) async fn look(&self, domain: &DomainName, epoch: u64) -> Option<Held> {
        let followed = self.lock().get(domain).cloned()?;
        let mut ended = followed.ended.subscribe();
        let enough = ended.borrow_and_update().saturating_add(LOOKS);
        let looked = async {
            while self.held(domain).is_some_and(|held| held.epoch < epoch) && *ended.borrow() < enough {
                followed.wanted.notify_one();
                if ended.changed().await.is_err() {
                    break;
                }
            }
        };
        // Late or not, what is held now is the answer.
        drop(tokio::time::timeout(LOOK_DEADLINE, looked).await);
        self.held(domain)
    }

    /// Takes a checkpoint of a partner's log that somebody else was shown. Whoever brings it is believed nothing: the
    /// partner's log signed it, or it is nothing. Two heads of one size are a fork at once; others are asked about in the next
    /// pull, which is due at once.
    pub(crate) async fn rumour(&self, note: &[u8]) -> Result<(), OrderRefusal> {
        let Ok(claimed) = Checkpoint::claimed(note) else { return Ok(()) };
        let (now, partners) = ((self.0.now)()?, self.0.governor.partners());
        let of = |held: &&Arc<HeldPartner>| held.partner.bundle().bundle().log_origin == claimed.origin;
        let Some(held) = partners.all().find(of) else { return Ok(()) };
        let (domain, bundle) = (held.partner.domain(), held.partner.bundle().bundle());
        // Its retired keys speak against it as well.
        let keys = bundle.records(Role::Log).iter().filter(|record| record.from <= now).map(|record| &record.key);
        let log = LogIdentity::new(&bundle.log_origin, keys);
        let Ok(verified) = log.and_then(|log| VerifiedCheckpoint::verify(note, &log, &[], now)) else { return Ok(()) };
        let head = head_of(verified.checkpoint().size, verified.checkpoint().root);
        let Some(followed) = self.lock().get(domain).cloned() else { return Ok(()) };
        let heard = followed.rumours().hear(head, held.partner.head());
        match heard {
            Heard::Known => {}
            Heard::New => followed.wanted.notify_one(),
            Heard::Contradicts(other) => {
                tracing::error!(%domain, size = head.size, "ALARM: a partner's log showed two trees of one size");
                let fork = Fork {
                    domain: domain.clone(),
                    origin: claimed.origin,
                    size: head.size,
                    got: TreeHash(head.root.0),
                    held: TreeHash(other.0),
                    shown: String::from_utf8_lossy(note).into_owned(),
                };
                self.0.governor.partner_equivocated(&fork, now).await?;
            }
        }
        Ok(())
    }

    /// What is known of following a partner.
    #[must_use]
    pub fn followup(&self, domain: &DomainName) -> Followup {
        let last = self.lock().get(domain).map(|followed| followed.last().clone()).unwrap_or_default();
        Followup { pulled_at: last.at, failure: last.failure, acknowledged: self.0.acknowledged.of(domain) }
    }

    fn held(&self, domain: &DomainName) -> Option<Held> {
        let partners = self.0.governor.partners();
        let partner = &partners.partner(domain).ok()?.partner;
        let standing = (self.0.now)().map_or(Standing::Stale, |now| partner.standing(now));
        Some(Held { epoch: partner.state().map_or(0, |state| state.state().epoch), standing })
    }

    async fn pass_time(&self) {
        let passed = match (self.0.now)() {
            Ok(now) => self.0.governor.pass_time_for_partners(now).await.map_err(|error| error.to_string()),
            Err(error) => Err(error.to_string()),
        };
        if let Err(error) = passed {
            // Whoever asks judges by the time of asking: nothing is fresher for it.
            tracing::warn!(error, "partners' standings were not looked at");
        }
    }

    fn follow(&self, domain: DomainName) -> [JoinHandle<()>; 2] {
        let followed = Arc::new(Followed {
            wanted: Notify::new(),
            ended: watch::Sender::new(0),
            last: Mutex::default(),
            rumours: Mutex::default(),
        });
        self.lock().insert(domain.clone(), followed.clone());
        let pulling = tokio::spawn(self.clone().pulls(domain.clone(), followed));
        [pulling, tokio::spawn(self.clone().tells(domain))]
    }

    async fn pulls(self, domain: DomainName, followed: Arc<Followed>) {
        let mut clients = Clients::default();
        loop {
            let outcome = self.pull_once(&domain, &followed, &mut clients).await;
            let failed = outcome.is_err();
            {
                let mut last = followed.last();
                if let Err(failure) = &outcome {
                    // Once a failure, not at every try.
                    if last.failure.as_ref().is_none_or(|known| known.code != failure.code) {
                        tracing::warn!(%domain, code = failure.code, what = failure.what, "a pull from a partner failed");
                    }
                }
                *last = LastPull { failure: outcome.err(), at: (self.0.now)().ok() };
            }
            followed.ended.send_modify(|ended| *ended = ended.wrapping_add(1));
            tokio::time::sleep(SPACING).await;
            let wait = self.interval(&domain, failed);
            // Woken or not, the next pull is due.
            drop(tokio::time::timeout(wait, followed.wanted.notified()).await);
        }
    }

    async fn pull_once(&self, domain: &DomainName, followed: &Followed, clients: &mut Clients) -> Result<(), Failure> {
        let now = (self.0.now)().map_err(|error| Failure { code: "fault.clock", what: error.to_string() })?;
        let partners = self.0.governor.partners();
        let held = partners.partner(domain).map_err(|denial| denied(&denial))?;
        match held.partner.standing(now) {
            Standing::Fresh | Standing::Stale | Standing::Inconsistent => {}
            // Nothing that it serves would change anything.
            Standing::Forked | Standing::RolledBack | Standing::Untrusted => return Ok(()),
        }
        let client = clients.of(held, &self.0.web_roots).map_err(failed)?;
        let rumours = followed.rumours().unsettled();
        let (seen, settled, unproven) = pull(&client, held, &rumours, now).await.map_err(failed)?;
        followed.rumours().settle(&settled);
        let actions = self.0.governor.see(domain, seen, now).await.map_err(|refusal| refused(&refusal))?;
        let refusal = actions.iter().find_map(|action| match action {
            PartnerAction::Refused(denial) => Some(denied(denial)),
            PartnerAction::Fetch { .. }
            | PartnerAction::Remember
            | PartnerAction::Mark(_)
            | PartnerAction::Stands { .. } => None,
        });
        refusal.or(unproven.map(failed)).map_or(Ok(()), Err)
    }

    /// The partner's hint, within what its grant leaves room for, a fifth shorter or longer so that partners spread.
    fn interval(&self, domain: &DomainName, failed: bool) -> Duration {
        let partners = self.0.governor.partners();
        let wait = partners.partner(domain).map_or(RETRY_AFTER, |held| due_after(&held.partner));
        let wait = if failed { wait.min(RETRY_AFTER) } else { wait };
        let [byte] = random::bytes().unwrap_or([128]);
        // 205/256 to 307/256 of it.
        let parts = u32::from(byte).saturating_mul(2).saturating_div(5).saturating_add(205);
        wait.saturating_mul(parts).checked_div(256).unwrap_or(wait)
    }

    /// Tells the partner of every state of ours, the newest one only, until it has answered.
    async fn tells(self, domain: DomainName) {
        let mut clients = Clients::default();
        let mut ours = self.0.governor.watch();
        loop {
            let epoch = ours.borrow_and_update().state.state().epoch;
            match self.tell_once(&domain, epoch, &mut clients).await {
                Ok(()) => {
                    if ours.changed().await.is_err() {
                        return;
                    }
                }
                Err(failure) => {
                    tracing::debug!(%domain, epoch, what = failure.what, "a partner was not told");
                    tokio::time::sleep(RETRY_AFTER).await;
                }
            }
        }
    }

    async fn tell_once(&self, domain: &DomainName, epoch: u64, clients: &mut Clients) -> Result<(), Failure> {
        let partners = self.0.governor.partners();
        let held = partners.partner(domain).map_err(|denial| denied(&denial))?;
        let now = (self.0.now)().map_err(|error| Failure { code: "fault.clock", what: error.to_string() })?;
        if held.partner.standing(now) == Standing::Untrusted {
            return Ok(());
        }
        let client = clients.of(held, &self.0.web_roots).map_err(failed)?;
        let answer = hints::tell(&client, &self.0.domain, epoch).await.map_err(failed)?;
        let now = (self.0.now)().map_err(|error| Failure { code: "fault.clock", what: error.to_string() })?;
        self.0.acknowledged.note(domain, &answer, now);
        if answer.epoch >= epoch {
            return Ok(());
        }
        let what = format!("it holds epoch {} of ours, {}", answer.epoch, answer.standing.name());
        Err(Failure { code: "federation.not_taken", what })
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<DomainName, Arc<Followed>>> {
        self.0.followed.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Followed {
    fn rumours(&self) -> MutexGuard<'_, Rumours> {
        self.rumours.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn last(&self) -> MutexGuard<'_, LastPull> {
        self.last.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A client lives as long as what its server is known by.
#[derive(Default)]
struct Clients(Option<(Sha256Digest, PartnerEndpoint, PartnerClient)>);

impl Clients {
    fn of(&mut self, held: &HeldPartner, web_roots: &[Vec<u8>]) -> Result<PartnerClient, ExchangeFailure> {
        let (partner, bundle) = (&held.partner, held.partner.bundle());
        if let Some((known_by, endpoint, client)) = &self.0
            && *known_by == bundle.digest()
            && endpoint == partner.endpoint()
        {
            return Ok(client.clone());
        }
        let client = PartnerClient::new(partner.endpoint(), partner.domain(), bundle.bundle(), web_roots)?;
        self.0 = Some((bundle.digest(), partner.endpoint().clone(), client.clone()));
        Ok(client)
    }
}

/// A partner's own hint, at least a second, and at most a third of how long its state serves unseen.
fn due_after(partner: &Partner) -> Duration {
    let hint_s = partner.bundle().bundle().refresh_hint_s;
    Duration::from_secs(hint_s.min(partner.grant().max_staleness_s / 3).max(1))
}

fn denied(denial: &governance::GovernanceDenial) -> Failure {
    Failure { code: denial.code(), what: denial.to_string() }
}

fn refused(refusal: &OrderRefusal) -> Failure {
    Failure { code: refusal.code(), what: refusal.to_string() }
}

#[allow(clippy::needless_pass_by_value, reason = "the argument of map_err")]
fn failed(failure: ExchangeFailure) -> Failure {
    let code = match &failure {
        ExchangeFailure::Refused(denial) => denial.code(),
        ExchangeFailure::Unproven(denial) => denial.code(),
        ExchangeFailure::Unreachable { .. }
        | ExchangeFailure::Status { .. }
        | ExchangeFailure::TooLarge { .. }
        | ExchangeFailure::Deadline { .. } => "federation.unreachable",
        ExchangeFailure::Wrong { .. } => "federation.malformed",
    };
    Failure { code, what: failure.to_string() }
}
