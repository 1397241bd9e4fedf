//! The configured caches: one request in flight for each thing asked, a rate that is kept, refusals remembered briefly.

mod client;
mod request;

use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;

use self::client::CacheClient;
pub use self::client::FetchFailure;
pub(super) use self::request::Request;
use self::request::Vendor;
use super::recognise::{Pile, Recognised, Sorted};
use crate::config::{CacheUrl, EndorsementsConfig};

/// Most requests in flight.
const IN_FLIGHT_CAP: usize = 128;
/// Most refusals remembered; beyond it the oldest memory goes.
const REFUSALS_CAP: usize = 4096;
/// How long "there is none" is remembered.
const ABSENT: Duration = Duration::from_secs(60);
/// How long any other failure is remembered.
const FAILED: Duration = Duration::from_secs(10);
/// The rate is counted over this.
const MINUTE: Duration = Duration::from_secs(60);

/// What came of one request, told to everyone who waits for it.
type Outcome = Result<(), FetchFailure>;

/// What becomes of an answer: it is stored.
pub(super) type Keep =
    Arc<dyn Fn(Vec<Recognised>, String) -> futures_util::future::BoxFuture<'static, Outcome> + Send + Sync>;

/// The caches.
#[derive(Clone)]
pub(super) struct Caches {
    amd: Option<CacheClient>,
    intel: Option<CacheClient>,
    requests_per_minute: usize,
    desk: Arc<Mutex<Desk>>,
    keep: Keep,
}

#[derive(Default)]
struct Desk {
    in_flight: HashMap<Request, watch::Receiver<Option<Outcome>>>,
    refused: HashMap<Request, (Instant, FetchFailure)>,
    asked: HashMap<Vendor, VecDeque<Instant>>,
    busy_until: HashMap<Vendor, Instant>,
}

impl fmt::Debug for Caches {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let base = |client: &Option<CacheClient>| client.as_ref().map(|client| client.base().as_str().to_owned());
        f.debug_struct("Caches")
            .field("amd", &base(&self.amd))
            .field("intel", &base(&self.intel))
            .finish_non_exhaustive()
    }
}

impl Caches {
    /// The caches of a configuration; `roots` are the certificates (DER) of `cache_roots`.
    pub(super) fn new(config: &EndorsementsConfig, roots: &[Vec<u8>], keep: Keep) -> Result<Self, String> {
        let deadline = Duration::from_millis(config.deadline_ms);
        let client =
            |url: &Option<CacheUrl>| url.as_ref().map(|url| CacheClient::new(url.clone(), roots, deadline)).transpose();
        Ok(Self {
            amd: client(&config.amd_cache)?,
            intel: client(&config.intel_cache)?,
            requests_per_minute: usize::try_from(config.requests_per_minute).unwrap_or(usize::MAX),
            desk: Arc::default(),
            keep,
        })
    }

    /// The cache that a request goes to.
    fn client(&self, request: &Request) -> Option<&CacheClient> {
        match request.vendor() {
            Vendor::Amd => self.amd.as_ref(),
            Vendor::Intel => self.intel.as_ref(),
        }
    }

    /// Whether there is a cache to ask.
    pub(super) fn can(&self, request: &Request) -> bool {
        self.client(request).is_some()
    }

    /// Asks the cache, or waits for whoever is asking already. Afterwards the answer is stored. A caller that goes away
    /// stops nothing: others may wait for the same.
    pub(super) async fn fetch(&self, request: &Request) -> Outcome {
        let mut answered = match self.enter(request)? {
            Entered::Waiting(answered) => answered,
            Entered::First(tell, answered) => {
                let (this, request) = (self.clone(), request.clone());
                tokio::spawn(async move {
                    let outcome = this.ask(&request).await;
                    this.leave(&request, &outcome);
                    tell.send_replace(Some(outcome));
                });
                answered
            }
        };
        let told = answered.wait_for(Option::is_some).await.ok().and_then(|outcome| outcome.clone());
        told.unwrap_or_else(|| {
            self.desk().in_flight.remove(request);
            Err(FetchFailure::Unreachable { why: "the request was given up".to_owned() })
        })
    }

    fn enter(&self, request: &Request) -> Result<Entered, FetchFailure> {
        let now = Instant::now();
        let mut desk = self.desk();
        if let Some(answered) = desk.in_flight.get(request) {
            return Ok(Entered::Waiting(answered.clone()));
        }
        if let Some((until, failure)) = desk.refused.get(request)
            && *until > now
        {
            return Err(failure.clone());
        }
        desk.admit(request.vendor(), self.requests_per_minute, now)?;
        let (tell, answered) = watch::channel(None);
        desk.in_flight.insert(request.clone(), answered.clone());
        Ok(Entered::First(tell, answered))
    }

    async fn ask(&self, request: &Request) -> Outcome {
        let Some(client) = self.client(request) else { return Err(FetchFailure::NotFound) };
        let answer = client.ask(request).await?;
        let mut pile = Pile::default();
        if let Some(chain) = &answer.chain {
            pile.add("its chain of issuers", chain.as_bytes());
        }
        pile.add("its answer", &answer.body);
        let Sorted { mut found, skipped } = pile.sorted();
        found.retain(|endorsement| request.may_bring(&endorsement.key));
        if !found.iter().any(|endorsement| request.asks_for(&endorsement.key)) {
            let why = skipped.first().map_or("an endorsement of something else", |skipped| &*skipped.why).to_owned();
            return Err(FetchFailure::Wrong { why });
        }
        (self.keep)(found, client.base().as_str().to_owned()).await
    }

    fn leave(&self, request: &Request, outcome: &Outcome) {
        let now = Instant::now();
        let mut desk = self.desk();
        desk.in_flight.remove(request);
        match outcome {
            Ok(()) => {
                desk.refused.remove(request);
            }
            Err(failure) => desk.refuse(request, failure, now),
        }
    }

    fn desk(&self) -> MutexGuard<'_, Desk> {
        self.desk.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

enum Entered {
    First(watch::Sender<Option<Outcome>>, watch::Receiver<Option<Outcome>>),
    Waiting(watch::Receiver<Option<Outcome>>),
}

impl Desk {
    fn admit(&mut self, vendor: Vendor, per_minute: usize, now: Instant) -> Result<(), FetchFailure> {
        if let Some(until) = self.busy_until.get(&vendor)
            && *until > now
        {
            return Err(FetchFailure::Busy { retry_after_s: until.duration_since(now).as_secs().max(1) });
        }
        let asked = self.asked.entry(vendor).or_default();
        while asked.front().is_some_and(|at| now.duration_since(*at) >= MINUTE) {
            asked.pop_front();
        }
        if asked.len() >= per_minute || self.in_flight.len() >= IN_FLIGHT_CAP {
            return Err(FetchFailure::RateLimited);
        }
        asked.push_back(now);
        Ok(())
    }

    fn refuse(&mut self, request: &Request, failure: &FetchFailure, now: Instant) {
        let remembered = match failure {
            FetchFailure::NotFound | FetchFailure::Wrong { .. } | FetchFailure::TooLarge => ABSENT,
            FetchFailure::Busy { retry_after_s } => {
                let until = now.checked_add(Duration::from_secs(*retry_after_s)).unwrap_or(now);
                self.busy_until.insert(request.vendor(), until);
                return;
            }
            FetchFailure::Status { .. }
            | FetchFailure::Deadline { .. }
            | FetchFailure::Unreachable { .. }
            | FetchFailure::RateLimited
            | FetchFailure::NotStored { .. } => FAILED,
        };
        if self.refused.len() >= REFUSALS_CAP {
            self.refused.retain(|_, (until, _)| *until > now);
        }
        if self.refused.len() >= REFUSALS_CAP {
            self.refused.clear();
        }
        let until = now.checked_add(remembered).unwrap_or(now);
        self.refused.insert(request.clone(), (until, failure.clone()));
    }
}
