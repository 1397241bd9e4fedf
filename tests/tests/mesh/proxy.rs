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
    /// Connections end at once.
    Refusing,
}

/// A proxy on a port of its own.
pub(crate) struct Proxy {
    pub(crate) address: String,
    target: Arc<Mutex<String>>,
    network: watch::Sender<Network>,
    listening: JoinHandle<()>,
}

impl Proxy {
    pub(crate) async fn to(target: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let target = Arc::new(Mutex::new(target.to_owned()));
        let (network, seen) = watch::channel(Network::Whole);
        let to = Arc::clone(&target);
        let listening = tokio::spawn(async move {
            while let Ok((near, _)) = listener.accept().await {
                let to = to.lock().unwrap().clone();
                tokio::spawn(pass(near, to, seen.clone()));
            }
        });
        Self { address, target, network, listening }
    }

    /// The verifier listens elsewhere now.
    pub(crate) fn retarget(&self, target: &str) {
        target.clone_into(&mut self.target.lock().unwrap());
    }

    pub(crate) fn be(&self, network: Network) {
        self.network.send_replace(network);
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.listening.abort();
    }
}

async fn pass(near: TcpStream, to: String, network: watch::Receiver<Network>) {
    if *network.borrow() == Network::Refusing {
        return;
    }
    let Ok(far) = TcpStream::connect(to).await else { return };
    let ((near_from, near_to), (far_from, far_to)) = (near.into_split(), far.into_split());
    let mut cut = network.clone();
    tokio::select! {
        () = pump(near_from, far_to, network.clone(), false) => {}
        () = pump(far_from, near_to, network, true) => {}
        _ = cut.wait_for(|network| *network == Network::Refusing) => {}
    }
}

async fn pump(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    mut network: watch::Receiver<Network>,
    of_verifier: bool,
) {
    let mut buffer = vec![0; 16 * 1024];
    loop {
        let Ok(count @ 1..) = from.read(&mut buffer).await else { return };
        let passes = |network: &Network| match network {
            Network::Whole | Network::Slow(_) | Network::Refusing => true,
            Network::Silent => false,
            Network::Deaf => !of_verifier,
        };
        let now = match network.wait_for(passes).await {
            Ok(network) => *network,
            Err(_) => return,
        };
        if let Network::Slow(by) = now {
            tokio::time::sleep(by).await;
        }
        if to.write_all(&buffer[..count]).await.is_err() {
            return;
        }
    }
}
