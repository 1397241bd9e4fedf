//! The SPIFFE Workload API for the processes of running executions, on the workloads' socket.
//!
//! Identities come from the domains that authorize the execution, each with its lease: a renewal pushes the next one, and
//! when the execution is over the stream ends with `PermissionDenied`, at which a client is to forget what it had.

mod claims;

use std::collections::HashMap;
use std::sync::Arc;

use evidence::names::DomainName;
use governance::GovernanceDenial;
use governance::jwk::JwtSvidJwk;
use governance::jwt_svid::admit_audiences;
use governance::trust_bundle::KeyRecord;
use tokio::sync::{mpsc, watch};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status};
use wire::spiffe::{self, spiffe_workload_api_server};

use super::Caller;
use crate::clock::unix_now;
use crate::node::{GivenJwt, Governed, NoJwt, Node, Standing};

pub(super) type Service = spiffe_workload_api_server::SpiffeWorkloadApiServer<WorkloadApi>;

pub(super) fn service(node: Arc<Node>) -> Service {
    Service::new(WorkloadApi { node }).max_decoding_message_size(REQUEST_CAP_BYTES)
}

pub(super) struct WorkloadApi {
    node: Arc<Node>,
}

type Stream<T> = ReceiverStream<Result<T, Status>>;
type Streamed<T> = Result<Response<Stream<T>>, Status>;

impl WorkloadApi {
    async fn governed<T>(&self, request: &Request<T>) -> Result<Arc<Governed>, Status> {
        // SPIFFE_Workload_Endpoint §6: what a page in a browser cannot be made to send.
        if request.metadata().get(SECURITY_HEADER).is_none_or(|value| value != "true") {
            return Err(Status::invalid_argument("metadata workload.spiffe.io: true is missing"));
        }
        let caller = Caller::of(request)?;
        self.node.governed(&caller).await.map_err(|not| Status::permission_denied(not.to_string()))
    }
}

#[tonic::async_trait]
impl spiffe_workload_api_server::SpiffeWorkloadApi for WorkloadApi {
    type FetchX509SVIDStream = Stream<spiffe::X509svidResponse>;
    type FetchX509BundlesStream = Stream<spiffe::X509BundlesResponse>;
    type FetchJWTBundlesStream = Stream<spiffe::JwtBundlesResponse>;

    async fn fetch_x509svid(&self, request: Request<spiffe::X509svidRequest>) -> Streamed<spiffe::X509svidResponse> {
        let governed = self.governed(&request).await?;
        Ok(told(governed.standing(), move |standing| svids(&governed, standing), None))
    }

    async fn fetch_x509_bundles(
        &self,
        request: Request<spiffe::X509BundlesRequest>,
    ) -> Streamed<spiffe::X509BundlesResponse> {
        let governed = self.governed(&request).await?;
        let none = Some(spiffe::X509BundlesResponse::default());
        Ok(told(governed.standing(), move |standing| bundles(&governed, standing), none))
    }

    async fn fetch_jwtsvid(
        &self,
        request: Request<spiffe::JwtsvidRequest>,
    ) -> Result<Response<spiffe::JwtsvidResponse>, Status> {
        let governed = self.governed(&request).await?;
        let spiffe::JwtsvidRequest { audience, spiffe_id } = request.into_inner();
        admit_audiences(&audience).map_err(misused)?;
        let given = self.node.jwt_svids(&governed, &audience, &spiffe_id).await.map_err(no_jwt)?;
        let svid = |given: Arc<GivenJwt>| spiffe::Jwtsvid {
            spiffe_id: given.spiffe_id.clone(),
            svid: given.token.clone(),
            hint: String::new(),
        };
        Ok(Response::new(spiffe::JwtsvidResponse { svids: given.into_iter().map(svid).collect() }))
    }

    async fn fetch_jwt_bundles(
        &self,
        request: Request<spiffe::JwtBundlesRequest>,
    ) -> Streamed<spiffe::JwtBundlesResponse> {
        let governed = self.governed(&request).await?;
        let none = Some(spiffe::JwtBundlesResponse::default());
        Ok(told(governed.standing(), move |standing| jwt_bundles(&governed, standing), none))
    }

    async fn validate_jwtsvid(
        &self,
        request: Request<spiffe::ValidateJwtsvidRequest>,
    ) -> Result<Response<spiffe::ValidateJwtsvidResponse>, Status> {
        let governed = self.governed(&request).await?;
        let spiffe::ValidateJwtsvidRequest { audience, svid } = request.into_inner();
        admit_audiences(std::slice::from_ref(&audience)).map_err(misused)?;
        let standing = governed.standing().borrow().clone();
        if let Some(code) = standing.over {
            return Err(no_jwt(NoJwt::Over(code)));
        }
        let judged = governed.judge_jwt(&standing, &svid, &audience, unix_now()).map_err(misused)?;
        let (spiffe_id, claims) = (judged.spiffe_id().to_owned(), claims::message(judged.into_claims()));
        Ok(Response::new(spiffe::ValidateJwtsvidResponse { spiffe_id, claims: Some(claims) }))
    }
}

/// Tells at once and whenever it changes; lastly, what there is when it is over, and that it is.
fn told<T: Clone + PartialEq + Send + 'static>(
    mut standing: watch::Receiver<Standing>,
    of: impl Fn(&Standing) -> Option<T> + Send + 'static,
    lastly: Option<T>,
) -> Response<Stream<T>> {
    let (to_client, stream) = mpsc::channel(1);
    tokio::spawn(async move {
        let mut sent = None;
        loop {
            let now = standing.borrow_and_update().clone();
            if let Some(code) = now.over {
                let ended = Status::permission_denied(format!("the execution is over: {code}"));
                for last in lastly.map(Ok).into_iter().chain([Err(ended)]) {
                    let _ = to_client.send(last).await; // the client may be gone
                }
                return;
            }
            let next = of(&now).filter(|next| sent.as_ref() != Some(next));
            if let Some(next) = next {
                sent = Some(next.clone());
                if to_client.send(Ok(next)).await.is_err() {
                    return;
                }
            }
            tokio::select! {
                changed = standing.changed() => if changed.is_err() { return },
                () = to_client.closed() => return,
            }
        }
    });
    Response::new(ReceiverStream::new(stream))
}

/// The execution's identities; none while nothing is in force.
fn svids(governed: &Governed, standing: &Standing) -> Option<spiffe::X509svidResponse> {
    let mut svids = Vec::new();
    for (_, given) in governed.ordered(standing) {
        svids.push(spiffe::X509svid {
            spiffe_id: given.svid.spiffe_id.clone(),
            x509_svid: given.svid.certificate.to_vec(),
            x509_svid_key: governed.with_svid_key(|key| key.pkcs8().to_vec())?,
            bundle: given.authorities.to_vec(),
            hint: String::new(),
        });
    }
    let federated_bundles = federated(governed, standing);
    (!svids.is_empty()).then_some(spiffe::X509svidResponse { svids, crl: Vec::new(), federated_bundles })
}

/// CA certificates by which the peers of an execution are known, by trust domain: those of who authorizes it, and of whom
/// that trusts.
fn bundles(governed: &Governed, standing: &Standing) -> Option<spiffe::X509BundlesResponse> {
    let mut bundles = federated(governed, standing);
    bundles.extend(standing.in_force.iter().map(|(domain, given)| (trust_domain(domain), given.authorities.to_vec())));
    (!standing.in_force.is_empty()).then_some(spiffe::X509BundlesResponse { bundles, crl: Vec::new() })
}

/// Those of partners.
fn federated(governed: &Governed, standing: &Standing) -> HashMap<String, Vec<u8>> {
    let partners = governed.partners(standing).into_iter();
    partners.map(|(domain, partner)| (trust_domain(domain), partner.x509.concat())).collect()
}

/// Keys by which JWT-SVIDs are judged, by trust domain, as JWK Sets.
fn jwt_bundles(governed: &Governed, standing: &Standing) -> Option<spiffe::JwtBundlesResponse> {
    let set = |keys: &[KeyRecord]| {
        let keys: Vec<_> = keys.iter().filter_map(JwtSvidJwk::of).collect();
        serde_json::json!({ "keys": keys }).to_string().into_bytes()
    };
    let bundles = governed.jwt_keys(standing).into_iter().map(|(domain, keys)| (trust_domain(domain), set(keys)));
    (!standing.in_force.is_empty()).then(|| spiffe::JwtBundlesResponse { bundles: bundles.collect() })
}

/// What is asked for, or shown, cannot be or does not count (SPIFFE_Workload_API, "JWT-SVID Profile").
fn misused(denial: GovernanceDenial) -> Status {
    Status::invalid_argument(format!("{}: {denial}", denial.code()))
}

fn no_jwt(not: NoJwt) -> Status {
    match &not {
        NoJwt::Over(_) | NoJwt::NotIts => Status::permission_denied(not.to_string()),
        NoJwt::Refused(refused) if refused.is_denial() => Status::permission_denied(not.to_string()),
        NoJwt::Refused(_) => Status::unavailable(not.to_string()),
    }
}

/// SPIFFE-ID §2.1: the id of a trust domain has no path.
fn trust_domain(domain: &DomainName) -> String {
    format!("spiffe://{domain}")
}

/// The header by which a client shows that it is one (SPIFFE_Workload_Endpoint §6).
const SECURITY_HEADER: &str = "workload.spiffe.io";
/// Audiences and a token.
const REQUEST_CAP_BYTES: usize = 32 * 1024;

#[cfg(test)]
mod tests {
    use super::*;
    use tokio_stream::StreamExt as _;

    #[tokio::test]
    async fn what_changes_is_told_once_and_the_end_takes_it_back() {
        let standing = watch::Sender::new(Standing { ends_at_ms: 5, ..Standing::default() });
        let of = |standing: &Standing| Some(standing.ends_at_ms).filter(|ends_at_ms| *ends_at_ms != 6);
        let mut told = told(standing.subscribe(), of, Some(0)).into_inner();
        assert_eq!(told.next().await.unwrap().unwrap(), 5);
        for ends_at_ms in [5, 6, 7] {
            standing.send_modify(|standing| standing.ends_at_ms = ends_at_ms);
        }
        assert_eq!(told.next().await.unwrap().unwrap(), 7);
        standing.send_modify(|standing| standing.over = Some("halt.pcr_changed"));
        assert_eq!(told.next().await.unwrap().unwrap(), 0);
        let ended = told.next().await.unwrap().unwrap_err();
        assert_eq!(ended.code(), tonic::Code::PermissionDenied);
        assert!(ended.message().contains("halt.pcr_changed"));
        assert!(told.next().await.is_none());
    }

    #[tokio::test]
    async fn whoever_asks_once_it_is_over_hears_no_more_than_that() {
        let standing = watch::Sender::new(Standing { over: Some("ended"), ..Standing::default() });
        let mut told = told(standing.subscribe(), |_: &Standing| Some(1), None).into_inner();
        assert_eq!(told.next().await.unwrap().unwrap_err().code(), tonic::Code::PermissionDenied);
        assert!(told.next().await.is_none());
    }
}
