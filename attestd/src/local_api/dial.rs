//! A client of a local socket, as tests are one.

use std::path::PathBuf;

use hyper_util::rt::TokioIo;
use tokio::net::UnixStream;
use tonic::transport::{Channel, Endpoint, Error};

pub(crate) async fn dial(path: PathBuf) -> Result<Channel, Error> {
    let connector = tower::service_fn(move |_| {
        let path = path.clone();
        async move { UnixStream::connect(path).await.map(TokioIo::new) }
    });
    Endpoint::try_from("http://local")?.connect_with_connector(connector).await
}
