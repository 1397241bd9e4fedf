//! Clients that mean harm, against the server as it is, with a service that answers at once.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicI32, Ordering};
use std::time::Duration;

use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixStream;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_stream::StreamExt as _;
use tonic::service::Routes;
use tonic::transport::Channel;
use tonic::{Code, Streaming};
use wire::proto::{self, workload_client::WorkloadClient, workload_server};

use super::super::crowd::{Caps, Crowd, Crowds};
use super::super::{Caller, LocalApi};
use super::*;
use crate::local_api::dial::dial;
use crate::local_api::peers::Peers;

/// Says one thing to whoever watches, and keeps the stream.
struct Answering;

type Streamed<T> = std::pin::Pin<Box<dyn tokio_stream::Stream<Item = Result<T, Status>> + Send>>;

#[tonic::async_trait]
impl workload_server::Workload for Answering {
    type WatchStream = Streamed<proto::Standing>;
    type ExecStream = Streamed<proto::ExecEvent>;

    async fn watch(
        &self,
        request: tonic::Request<proto::WatchRequest>,
    ) -> Result<tonic::Response<Self::WatchStream>, Status> {
        Caller::of(&request)?;
        let once = tokio_stream::once(Ok(proto::Standing { ends_in_ms: 7, ..Default::default() }));
        Ok(tonic::Response::new(Box::pin(once.chain(tokio_stream::pending()))))
    }

    async fn exec(&self, _: tonic::Request<proto::ExecRequest>) -> Result<tonic::Response<Self::ExecStream>, Status> {
        Err(Status::unimplemented("nothing is started here"))
    }
}

/// A socket whose clients are of the crowd that is set when they connect.
struct Served {
    folder: TempDir,
    crowd: Arc<AtomicI32>,
    server: JoinHandle<()>,
}

impl Drop for Served {
    fn drop(&mut self) {
        self.server.abort();
    }
}

const PATIENCE: Patience = Patience { first_request: Duration::from_millis(400), answer: Duration::from_millis(400) };

impl Served {
    fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let LocalApi { listener } = LocalApi::bind(&folder.path().join("sock")).unwrap();
        let crowd = Arc::new(AtomicI32::new(1));
        let of = Arc::clone(&crowd);
        let caps = Caps { workloads: 256, others: 32, patience: PATIENCE };
        let peers = Peers::of(listener, Crowds::new(caps), move |_: &Caller| Crowd::Below(of.load(Ordering::SeqCst)));
        let service = workload_server::WorkloadServer::new(Answering).max_decoding_message_size(CAP_BYTES);
        let served = server(PATIENCE).serve_with_incoming(Admitting(Routes::new(service).prepare()), peers);
        Self { folder, crowd, server: tokio::spawn(async move { served.await.unwrap() }) }
    }

    fn path(&self) -> PathBuf {
        self.folder.path().join("sock")
    }

    async fn raw(&self) -> UnixStream {
        UnixStream::connect(self.path()).await.unwrap()
    }

    async fn client(&self, crowd: i32) -> Result<WorkloadClient<Channel>, tonic::transport::Error> {
        self.crowd.store(crowd, Ordering::SeqCst);
        dial(self.path()).await.map(WorkloadClient::new)
    }

    /// The first word of a stream that stays open.
    async fn watch(&self, crowd: i32) -> Result<Streaming<proto::Standing>, Status> {
        let unreachable = |error: tonic::transport::Error| Status::unavailable(error.to_string());
        let mut client = self.client(crowd).await.map_err(unreachable)?;
        let mut stream = client.watch(proto::WatchRequest {}).await?.into_inner();
        assert_eq!(stream.message().await?.unwrap().ends_in_ms, 7);
        Ok(stream)
    }
}

/// Everything that comes until the connection is closed, which is soon.
async fn until_closed(mut stream: UnixStream) -> Vec<u8> {
    let mut read = Vec::new();
    // A server that closes with our bytes unread resets the connection.
    let _ = timeout(SOON, stream.read_to_end(&mut read)).await.expect("it stays open");
    read
}

/// RFC 9113 §3.4 and §4.1.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const SETTINGS: u8 = 4;
const CONTINUATION: u8 = 9;
const END_HEADERS: u8 = 4;

fn greeting() -> Vec<u8> {
    [PREFACE, &frame(SETTINGS, 0, 0, &[])].concat()
}

/// The header of a call, without Huffman codes and without the dynamic table (RFC 7541 §6.2.2).
fn call() -> Vec<u8> {
    let path = b"/attestd.v1.Workload/Watch";
    let kind = b"application/grpc";
    let length = |text: &[u8]| u8::try_from(text.len()).unwrap();
    [&[0x83, 0x86, 0x04, length(path)], path.as_slice(), &[0x0f, 0x10, length(kind)], kind].concat()
}

const SOON: Duration = Duration::from_secs(10);
const CAP_BYTES: usize = 64 * 1024;

#[tokio::test(flavor = "multi_thread")]
async fn another_user_is_closed_before_a_byte_is_read() {
    use std::os::unix::fs::PermissionsExt as _;
    if !rustix::process::geteuid().is_root() {
        eprintln!("not root, so nobody else can be played: left out");
        return;
    }
    let served = Served::start();
    let path = served.path();
    // The folder and the mode are in its way in the first place; here it is the peer credentials' turn.
    std::fs::set_permissions(served.folder.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o666)).unwrap();
    let other = std::thread::spawn(move || {
        use std::io::{Read as _, Write as _};
        // Of this thread alone; the kernel notes who connects (unix(7), SO_PEERCRED).
        let nobody = rustix::process::Uid::from_raw(65_534);
        rustix::thread::set_thread_res_uid(nobody, nobody, nobody).unwrap();
        let mut stream = std::os::unix::net::UnixStream::connect(path).unwrap();
        let _ = stream.write_all(&greeting()); // it may be closed already
        let mut read = Vec::new();
        let _ = stream.read_to_end(&mut read);
        read
    });
    let read = tokio::task::spawn_blocking(|| other.join().unwrap()).await.unwrap();
    assert_eq!(read, b"");
    served.watch(1).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_http2_closes_its_own_connection_and_no_other() {
    let served = Served::start();
    let mut open = served.watch(1).await.unwrap();
    let mut noise = vec![0; 4096];
    aws_lc_rs::rand::fill(&mut noise).unwrap();
    let unending: Vec<u8> =
        [frame(HEADERS, 0, 1, &call()), frame(CONTINUATION, 0, 1, &[0; 16_000]).repeat(64)].concat();
    let one_byte_headers = frame(HEADERS, 0, 1, &call()[..1]);
    for (what, bytes) in [
        ("noise", noise.clone()),
        ("another protocol", b"GET / HTTP/1.1\r\nHost: local\r\n\r\n".to_vec()),
        ("nothing", Vec::new()),
        ("half a preface", PREFACE[..7].to_vec()),
        ("a preface and no more", greeting()),
        ("noise after the preface", [greeting(), noise].concat()),
        (
            "a frame longer than agreed",
            [greeting(), vec![0xff, 0xff, 0xff, DATA, 0, 0, 0, 0, 1], vec![0; 70_000]].concat(),
        ),
        ("a header without end", [greeting(), unending].concat()),
        ("half a header", [greeting(), one_byte_headers].concat()),
        ("an answer to nothing", [greeting(), frame(DATA, 0, 1, b"late")].concat()),
    ] {
        let mut stream = served.raw().await;
        let _ = stream.write_all(&bytes).await; // it may be closed before all of it is written
        until_closed(stream).await;
        timeout(SOON, served.watch(1)).await.expect(what).expect(what);
    }
    let silent = timeout(PATIENCE.first_request, open.message()).await;
    assert!(silent.is_err(), "a stream that was there before goes on: {silent:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_over_the_cap_is_refused_before_it_is_read() {
    let served = Served::start();
    let mut client = served.client(1).await.unwrap();
    let long = proto::ExecRequest { intent_toml: vec![b'x'; CAP_BYTES], ..Default::default() };
    assert_eq!(client.exec(long).await.unwrap_err().code(), Code::OutOfRange);
    assert_eq!(client.exec(proto::ExecRequest::default()).await.unwrap_err().code(), Code::Unimplemented);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_opens_all_it_can_is_closed_and_others_are_served() {
    let served = Served::start();
    served.crowd.store(1, Ordering::SeqCst);
    let mut flood = Vec::new();
    for _ in 0..200 {
        let mut stream = served.raw().await;
        let _ = stream.write_all(&greeting()).await;
        let _ = stream.read(&mut [0; 64]).await; // by now it was let in, or closed
        flood.push(stream);
    }
    timeout(SOON, served.watch(2)).await.unwrap().unwrap();
    assert!(served.watch(1).await.is_err(), "its share is taken");
    // And given back: whoever asked nothing is closed.
    for stream in flood {
        until_closed(stream).await;
    }
    timeout(SOON, served.watch(1)).await.unwrap().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn calls_that_are_never_finished_take_no_more_than_their_crowd_has_and_not_for_long() {
    let served = Served::start();
    served.crowd.store(1, Ordering::SeqCst);
    let mut halves = Vec::new();
    for _ in 0..4 {
        let mut stream = served.raw().await;
        let calls = (0..8).flat_map(|call_number| frame(HEADERS, END_HEADERS, 2 * call_number + 1, &call()));
        stream.write_all(&[greeting(), calls.collect()].concat()).await.unwrap();
        assert!(stream.read(&mut [0; 64]).await.unwrap() > 0, "it was let in");
        halves.push(stream);
    }
    timeout(SOON, served.watch(2)).await.unwrap().unwrap();
    let mut client = served.client(1).await.unwrap();
    // Full at once, or a moment later; and free again when they were waited for long enough.
    let freed = async {
        while client.exec(proto::ExecRequest::default()).await.unwrap_err().code() != Code::Unimplemented {
            tokio::time::sleep(PATIENCE.answer / 8).await;
        }
    };
    timeout(SOON, freed).await.expect("unfinished calls were never given up");
    drop(halves);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_asks_without_end_is_refused_and_then_closed_and_others_are_served() {
    let served = Served::start();
    let mut loud = served.client(1).await.unwrap();
    let mut refused = 0;
    let closed = loop {
        match loud.exec(proto::ExecRequest::default()).await.unwrap_err().code() {
            Code::Unimplemented => {}
            Code::ResourceExhausted => refused += 1,
            other => break other,
        }
    };
    assert!(refused > 16, "{refused}, then {closed:?}");
    timeout(SOON, served.watch(2)).await.unwrap().unwrap();
}
