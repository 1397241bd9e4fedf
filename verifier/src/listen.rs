//! The accept loop: it only accepts. Handshakes run beside it, timed and counted.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use evidence::names::DomainName;
use rustls::ServerConfig;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, watch};
use tokio_rustls::TlsAcceptor;
use tokio_stream::wrappers::ReceiverStream;
use tracing::{debug, warn};

use crate::tls::PeerStream;

/// A peer that has not finished its handshake by then is dropped (SECURITY.md P23).
pub const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(5);
/// After a failed `accept` (out of descriptors, say) the loop waits this long; it never ends by itself.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
/// Finished handshakes that the HTTP/2 server has not taken up yet.
const READY_CAP: usize = 64;

/// How many connections a listener holds at once.
#[derive(Clone, Copy, Debug)]
pub struct ConnectionCaps {
    /// In all.
    pub total: usize,
    /// From one address.
    pub per_address: usize,
}

/// Who is let in by a listener.
#[derive(Clone, Debug)]
pub enum Door {
    /// Whoever speaks HTTP/2; it proves itself in what it says.
    Strangers,
    /// Nodes of a domain, by client certificate.
    NodesOf(Arc<DomainName>),
    /// Whoever speaks HTTP, to read what is public.
    Anyone,
}

/// Accepts on `listener` until the receiver is dropped, each connection by the newest configuration.
pub fn accepted(
    listener: TcpListener,
    config: watch::Receiver<Arc<ServerConfig>>,
    door: Door,
    caps: ConnectionCaps,
) -> ReceiverStream<io::Result<PeerStream>> {
    let (ready, incoming) = mpsc::channel(READY_CAP);
    let loop_ = AcceptLoop {
        config,
        door,
        total: Arc::new(Semaphore::new(caps.total)),
        addresses: Addresses { per_address: caps.per_address, places: Arc::default() },
        ready,
    };
    tokio::spawn(loop_.run(listener));
    ReceiverStream::new(incoming)
}

struct AcceptLoop {
    config: watch::Receiver<Arc<ServerConfig>>,
    door: Door,
    total: Arc<Semaphore>,
    addresses: Addresses,
    ready: mpsc::Sender<io::Result<PeerStream>>,
}

impl AcceptLoop {
    async fn run(self, listener: TcpListener) {
        loop {
            let accepted = tokio::select! {
                () = self.ready.closed() => return,
                accepted = listener.accept() => accepted,
            };
            match accepted {
                Ok((tcp, address)) => self.admit(tcp, address),
                // An error belongs to one connection or passes; ending here would end the service.
                Err(error) => {
                    warn!(%error, "accept failed");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }

    /// A connection beyond a cap is closed at once: shedding early keeps the others served.
    fn admit(&self, tcp: TcpStream, address: SocketAddr) {
        let Ok(total) = self.total.clone().try_acquire_owned() else {
            debug!(%address, "connection shed: listener is full");
            return;
        };
        let Some(per_address) = self.addresses.enter(address.ip()) else {
            debug!(%address, "connection shed: address is full");
            return;
        };
        let acceptor = TlsAcceptor::from(self.config.borrow().clone());
        let (door, ready) = (self.door.clone(), self.ready.clone());
        tokio::spawn(async move {
            // Small answers must not wait for more; a failure here only costs latency.
            tcp.set_nodelay(true).unwrap_or_else(|error| debug!(%error, "TCP_NODELAY"));
            let stream = match tokio::time::timeout(HANDSHAKE_TIMEOUT, acceptor.accept(tcp)).await {
                Ok(Ok(stream)) => stream,
                Ok(Err(error)) => return debug!(%address, %error, "handshake refused"),
                Err(_) => return debug!(%address, "handshake timed out"),
            };
            match PeerStream::accept(stream, &door, [total, per_address]) {
                // A closed receiver means that the service is shutting down.
                Ok(stream) => ready.send(Ok(stream)).await.unwrap_or_default(),
                Err(error) => debug!(%address, %error, "connection refused"),
            }
        });
    }
}

/// Places per peer address; an address without connections takes no memory beyond the next sweep.
struct Addresses {
    per_address: usize,
    places: Arc<Mutex<HashMap<IpAddr, Arc<Semaphore>>>>,
}

/// Above this many known addresses the idle ones are forgotten.
const SWEEP_ABOVE: usize = 1024;

impl Addresses {
    fn enter(&self, address: IpAddr) -> Option<OwnedSemaphorePermit> {
        let mut places = self.places.lock().unwrap_or_else(PoisonError::into_inner);
        if places.len() > SWEEP_ABOVE {
            places.retain(|_, place| place.available_permits() < self.per_address);
        }
        let place = places.entry(address).or_insert_with(|| Arc::new(Semaphore::new(self.per_address))).clone();
        drop(places);
        place.try_acquire_owned().ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_gets_its_places_back() {
        let addresses = Addresses { per_address: 2, places: Arc::default() };
        let address: IpAddr = "127.0.0.1".parse().unwrap();
        let first = addresses.enter(address).unwrap();
        let _second = addresses.enter(address).unwrap();
        assert!(addresses.enter(address).is_none());
        assert!(addresses.enter("127.0.0.2".parse().unwrap()).is_some());
        drop(first);
        assert!(addresses.enter(address).is_some());
    }
}
