//! The SPIFFE Workload API for the processes of running executions, on the workloads' socket.
//!
//! Identities come from the domains that authorize the execution, each with its lease: a renewal pushes the next one, and
//! when the execution is over the stream ends with `PermissionDenied`, at which a client is to forget what it had.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use evidence::names::DomainName;
use tokio::sync::{mpsc, watch};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status};
use wire::spiffe::{self, spiffe_workload_api_server};

use super::Caller;
use crate::node::{Governed, Node, Standing};

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
        self.governed(&request).await?;
        Err(Status::unimplemented(NO_JWT))
    }

    async fn fetch_jwt_bundles(
        &self,
        request: Request<spiffe::JwtBundlesRequest>,
    ) -> Streamed<spiffe::JwtBundlesResponse> {
        self.governed(&request).await?;
        Err(Status::unimplemented(NO_JWT))
    }

    async fn validate_jwtsvid(
        &self,
        request: Request<spiffe::ValidateJwtsvidRequest>,
    ) -> Result<Response<spiffe::ValidateJwtsvidResponse>, Status> {
        self.governed(&request).await?;
        Err(Status::unimplemented(NO_JWT))
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

/// Those of partners. Who is a partner of several domains is known as the first of them knows it, and who authorizes the
/// execution himself by his own bundle.
fn federated(governed: &Governed, standing: &Standing) -> HashMap<String, Vec<u8>> {
    let mut known = BTreeMap::new();
    for partner in governed.ordered(standing).flat_map(|(_, given)| given.partners.iter()) {
        if !standing.in_force.contains_key(&partner.domain) {
            known.entry(&partner.domain).or_insert(&partner.x509);
        }
    }
    known.into_iter().map(|(domain, x509)| (trust_domain(domain), x509.concat())).collect()
}

/// SPIFFE-ID §2.1: the id of a trust domain has no path.
fn trust_domain(domain: &DomainName) -> String {
    format!("spiffe://{domain}")
}

/// The header by which a client shows that it is one (SPIFFE_Workload_Endpoint §6).
const SECURITY_HEADER: &str = "workload.spiffe.io";
/// Audiences and a token.
const REQUEST_CAP_BYTES: usize = 32 * 1024;
const NO_JWT: &str = "this domain issues no JWT-SVIDs";

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
