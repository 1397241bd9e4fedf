//! A TCP proxy between a node and a verifier that can be told to misbehave as networks do.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// How the network is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Network {
    /// Everything arrives.
    Whole,
    /// Every piece takes this long more.
    Slow(Duration),
    /// Nothing arrives on either side; what is under way arrives when it is whole again.
    Silent,
    /// What the verifier says does not arrive.
    Deaf,
    /// What the node says does not arrive.
    Mute,
    /// Connections end at once.
    Refusing,
}

/// Who says something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum From {
    Node,
    Verifier,
}

/// How many messages of each wait for the network to let them pass: a message is more than HTTP/2's own frames are.
#[derive(Clone, Copy, Debug, Default)]
struct Held {
    of_node: usize,
    of_verifier: usize,
}

impl Held {
    fn of(&mut self, from: From) -> &mut usize {
        match from {
            From::Node => &mut self.of_node,
            From::Verifier => &mut self.of_verifier,
        }
    }
}

/// A proxy on a port of its own.
pub(crate) struct Proxy {
    pub(crate) address: String,
    target: Arc<Mutex<String>>,
    line: Line,
    listening: JoinHandle<()>,
}

/// What every connection through a proxy looks at.
#[derive(Clone)]
struct Line {
    network: watch::Sender<Network>,
    held: watch::Sender<Held>,
}

impl Proxy {
    pub(crate) async fn to(target: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let target = Arc::new(Mutex::new(target.to_owned()));
        let line = Line { network: watch::Sender::new(Network::Whole), held: watch::Sender::default() };
        let (to, of) = (Arc::clone(&target), line.clone());
        let listening = tokio::spawn(async move {
            while let Ok((near, _)) = listener.accept().await {
                let to = to.lock().unwrap().clone();
                tokio::spawn(pass(near, to, of.clone()));
            }
        });
        Self { address, target, line, listening }
    }

    /// The verifier listens elsewhere now.
    pub(crate) fn retarget(&self, target: &str) {
        target.clone_into(&mut self.target.lock().unwrap());
    }

    pub(crate) fn be(&self, network: Network) {
        self.line.network.send_replace(network);
    }

    /// Waits until something that somebody says waits for the network.
    pub(crate) async fn until_held(&self, from: From) {
        let mut held = self.line.held.subscribe();
        let waits = held.wait_for(|held| *held.clone().of(from) > 0);
        let waits = tokio::time::timeout(HELD_WITHIN, waits).await;
        drop(waits.unwrap_or_else(|_| panic!("{from:?} says nothing")).unwrap());
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.listening.abort();
    }
}

async fn pass(near: TcpStream, to: String, line: Line) {
    if *line.network.borrow() == Network::Refusing {
        return;
    }
    let Ok(far) = TcpStream::connect(to).await else { return };
    let ((near_from, near_to), (far_from, far_to)) = (near.into_split(), far.into_split());
    let mut cut = line.network.subscribe();
    tokio::select! {
        // First, so that nothing that was held passes when the line is cut.
        biased;
        _ = cut.wait_for(|network| *network == Network::Refusing) => {}
        () = pump(near_from, far_to, &line, From::Node) => {}
        () = pump(far_from, near_to, &line, From::Verifier) => {}
    }
}

async fn pump(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, line: &Line, who: From) {
    let mut buffer = vec![0; 16 * 1024];
    let mut network = line.network.subscribe();
    let passes = |network: &Network| match network {
        Network::Whole | Network::Slow(_) | Network::Refusing => true,
        Network::Silent => false,
        Network::Deaf => who == From::Node,
        Network::Mute => who == From::Verifier,
    };
    loop {
        let Ok(count @ 1..) = from.read(&mut buffer).await else { return };
        let waiting = (!passes(&network.borrow()) && count >= MESSAGE_MIN_BYTES).then(|| Waiting::of(line, who));
        let now = match network.wait_for(passes).await {
            Ok(network) => *network,
            Err(_) => return,
        };
        drop(waiting);
        if let Network::Slow(by) = now {
            tokio::time::sleep(by).await;
        }
        if to.write_all(&buffer[..count]).await.is_err() {
            return;
        }
    }
}

/// A message that waits, as long as it does.
struct Waiting<'l>(&'l Line, From);

impl<'l> Waiting<'l> {
    fn of(line: &'l Line, from: From) -> Self {
        line.held.send_modify(|held| *held.of(from) += 1);
        Self(line, from)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.held.send_modify(|held| *held.of(self.1) -= 1);
    }
}

/// A record of TLS with a message of the protocol is longer; one with a ping or a window update is not.
const MESSAGE_MIN_BYTES: usize = 100;
const HELD_WITHIN: Duration = Duration::from_secs(10);
