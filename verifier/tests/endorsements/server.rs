//! A cache on loopback that answers as a test says, well or badly.

use std::convert::Infallible;
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::Request;
use axum::response::Response;
use tokio::net::TcpListener;

/// What the server does with a request.
#[derive(Clone)]
pub(crate) enum Reply {
    Body(Vec<u8>),
    Chained(Vec<u8>, &'static str, String),
    Status(u16, Vec<(&'static str, &'static str)>),
    /// A body without end.
    Endless,
    /// A body that says it is longer than it may be.
    Declared(usize),
    /// Nothing, ever.
    Silence,
    /// Half a body, then nothing.
    Half,
}

pub(crate) struct Server {
    pub(crate) url: String,
    asked: Arc<Mutex<Vec<String>>>,
    task: tokio::task::JoinHandle<()>,
}

impl Server {
    /// Answers by path and query.
    pub(crate) async fn start(answer: impl Fn(&str) -> Reply + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let asked = Arc::new(Mutex::new(Vec::new()));
        let (seen, answer) = (asked.clone(), Arc::new(answer));
        let router = Router::new().fallback(move |request: Request| {
            let (seen, answer) = (seen.clone(), answer.clone());
            async move {
                let path = request.uri().path_and_query().unwrap().to_string();
                seen.lock().unwrap().push(path.clone());
                respond(answer(&path)).await
            }
        });
        let task = tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        Self { url, asked, task }
    }

    pub(crate) fn asked(&self) -> Vec<String> {
        self.asked.lock().unwrap().clone()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn respond(reply: Reply) -> Response {
    let chunk = |_| Ok::<_, Infallible>(Bytes::from(vec![b'x'; 16 * 1024]));
    match reply {
        Reply::Body(body) => Response::new(Body::from(body)),
        Reply::Chained(body, header, chain) => {
            let encoded: String =
                chain
                    .bytes()
                    .map(|byte| {
                        if byte.is_ascii_alphanumeric() { char::from(byte).to_string() } else { format!("%{byte:02X}") }
                    })
                    .collect();
            Response::builder().header(header, encoded).body(Body::from(body)).unwrap()
        }
        Reply::Status(status, headers) => {
            let mut response = Response::builder().status(status);
            for (name, value) in headers {
                response = response.header(name, value);
            }
            response.body(Body::empty()).unwrap()
        }
        Reply::Endless => {
            let chunks = futures_util::stream::StreamExt::map(futures_util::stream::repeat(()), chunk);
            Response::new(Body::from_stream(chunks))
        }
        Reply::Declared(length) => Response::new(Body::from(vec![b'x'; length])),
        Reply::Silence => std::future::pending().await,
        Reply::Half => {
            use futures_util::StreamExt as _;
            let half = futures_util::stream::iter([()]).map(chunk).chain(futures_util::stream::pending());
            Response::new(Body::from_stream(half))
        }
    }
}
