//! Who may connect: this user and root.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use futures_util::Stream;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{UnixListener, UnixStream};
use tonic::transport::server::Connected;

use super::Caller;

/// Connections of this user and of root; others are closed before a byte is read.
pub(super) struct Peers {
    listener: UnixListener,
}

impl Peers {
    pub(super) const fn of(listener: UnixListener) -> Self {
        Self { listener }
    }
}

impl Stream for Peers {
    type Item = io::Result<Peer>;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<io::Result<Peer>>> {
        let ours = rustix::process::geteuid().as_raw();
        loop {
            match ready!(self.listener.poll_accept(context)) {
                Ok((stream, _)) => match Caller::at(&stream) {
                    Ok(caller) if caller.uid() == ours || caller.uid() == 0 => {
                        return Poll::Ready(Some(Ok(Peer { stream, caller })));
                    }
                    Ok(caller) => tracing::warn!(uid = caller.uid(), "a local client of another user was turned away"),
                    Err(error) => tracing::warn!(%error, "a local client without credentials was turned away"),
                },
                // A client that gave up, or no descriptor left: the listener itself is sound.
                Err(error) => {
                    tracing::warn!(%error, "accepting a local client");
                    context.waker().wake_by_ref();
                    return Poll::Pending;
                }
            }
        }
    }
}

/// A connection whose peer is known.
pub(super) struct Peer {
    stream: UnixStream,
    caller: Caller,
}

impl Connected for Peer {
    type ConnectInfo = Caller;

    fn connect_info(&self) -> Caller {
        self.caller.clone()
    }
}

impl AsyncRead for Peer {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
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
