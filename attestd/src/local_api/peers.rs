//! Who may connect: this user and root, as many at once as their crowd may have, and only to ask something.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use futures_util::Stream;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{UnixListener, UnixStream};
use tokio::time::{Sleep, sleep};
use tonic::transport::server::Connected;

use super::Caller;
use super::crowd::{Crowd, Crowds, Seat};

/// Connections of this user and of root; others are closed before a byte is read.
pub(super) struct Peers<F> {
    listener: UnixListener,
    crowds: Arc<Crowds>,
    crowd_of: F,
    /// After an error of the listener's, which would otherwise come again at once.
    pause: Option<Pin<Box<Sleep>>>,
}

impl<F: Fn(&Caller) -> Crowd> Peers<F> {
    pub(super) const fn of(listener: UnixListener, crowds: Arc<Crowds>, crowd_of: F) -> Self {
        Self { listener, crowds, crowd_of, pause: None }
    }

    fn admit(&self, stream: UnixStream) -> Option<Peer> {
        let ours = rustix::process::geteuid().as_raw();
        let caller = match Caller::at(&stream) {
            Ok(caller) => caller,
            Err(error) => {
                tracing::warn!(%error, "a local client without credentials was turned away");
                return None;
            }
        };
        if caller.uid() != ours && caller.uid() != 0 {
            tracing::warn!(uid = caller.uid(), "a local client of another user was turned away");
            return None;
        }
        let crowd = (self.crowd_of)(&caller);
        let Some(seat) = self.crowds.enter(crowd, Instant::now()) else {
            // Whoever floods us does not flood the log.
            tracing::debug!(?crowd, "a local client has more connections than its share");
            return None;
        };
        let patience = Some(Box::pin(sleep(self.crowds.patience().first_request)));
        Some(Peer { stream, arrived: Arrived { caller, seat }, patience })
    }
}

impl<F: Fn(&Caller) -> Crowd + Unpin> Stream for Peers<F> {
    type Item = io::Result<Peer>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<io::Result<Peer>>> {
        loop {
            if let Some(pause) = &mut self.pause {
                ready!(pause.as_mut().poll(context));
                self.pause = None;
            }
            match ready!(self.listener.poll_accept(context)) {
                Ok((stream, _)) => {
                    if let Some(peer) = self.admit(stream) {
                        return Poll::Ready(Some(Ok(peer)));
                    }
                }
                // A client that gave up, or no descriptor left: the listener itself is sound.
                Err(error) => {
                    tracing::warn!(%error, "accepting a local client");
                    self.pause = Some(Box::pin(sleep(ACCEPT_PAUSE)));
                }
            }
        }
    }
}

/// A connection whose peer is known.
pub(super) struct Peer {
    stream: UnixStream,
    arrived: Arrived,
    /// Runs until the first request.
    patience: Option<Pin<Box<Sleep>>>,
}

impl Peer {
    pub(super) const fn caller(&self) -> &Caller {
        &self.arrived.caller
    }

    pub(super) const fn stream(&self) -> &UnixStream {
        &self.stream
    }
}

/// Who is behind a connection, and its place.
#[derive(Clone, Debug)]
pub(super) struct Arrived {
    pub(super) caller: Caller,
    pub(super) seat: Arc<Seat>,
}

impl Connected for Peer {
    type ConnectInfo = Arrived;

    fn connect_info(&self) -> Arrived {
        self.arrived.clone()
    }
}

impl AsyncRead for Peer {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.arrived.seat.is_shut() {
            return Poll::Ready(Err(io::ErrorKind::ConnectionAborted.into()));
        }
        if self.arrived.seat.has_asked() {
            self.patience = None;
        }
        if let Some(patience) = &mut self.patience
            && patience.as_mut().poll(context).is_ready()
        {
            return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
        }
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl AsyncWrite for Peer {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
