//! The client's side of a session: its socket and the bytes in both directions. Called by the session.

use bytes::{Buf as _, BytesMut};
use std::{
    future::poll_fn,
    pin::{Pin, pin},
    task::{Context, Poll},
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWrite as _, ReadBuf},
    net::TcpStream,
};

use super::Stop;
use crate::router::core::{
    error::UserError,
    protocol::frame::{self, Frame},
};

/// Room made before a read: a batch of an ordinary driver.
const READ_CHUNK: usize = 8 * 1024;
/// Room made before a read while a large message or COPY comes in.
const READ_BULK: usize = 128 * 1024;

/// A client's connection.
pub struct Client {
    stream: TcpStream,
    /// Bytes read and not yet used.
    pub input: BytesMut,
    /// Bytes to be written.
    pub output: BytesMut,
    bulk: bool,
    written: u64,
    /// It has sent something since the last read.
    peeked: bool,
}

impl Client {
    /// Of an accepted socket.
    pub fn new(stream: TcpStream) -> Self {
        Self { stream, input: BytesMut::new(), output: BytesMut::new(), bulk: false, written: 0, peeked: false }
    }

    /// Bytes written so far.
    pub fn written(&self) -> u64 {
        self.written
    }

    /// Reads what is there.
    pub fn poll_fill(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Stop>> {
        let room = if self.bulk { READ_BULK } else { READ_CHUNK };
        if self.input.capacity() - self.input.len() < room / 2 {
            self.input.reserve(room);
        }
        let free = self.input.capacity() - self.input.len();
        self.peeked = false;
        pin!(self.stream.read_buf(&mut self.input)).poll(cx).map(|read| match read {
            Ok(0) | Err(_) => Err(Stop::Gone),
            Ok(count) => {
                self.bulk = count == free;
                Ok(())
            }
        })
    }

    /// Reads until bytes have come.
    pub async fn fill(&mut self) -> Result<(), Stop> {
        poll_fn(|cx| self.poll_fill(cx)).await
    }

    /// A whole message that has been read already.
    pub fn take(&mut self) -> Result<Option<Frame>, Stop> {
        frame::take(&mut self.input).map_err(|error| Stop::Fatal(UserError::protocol(error)))
    }

    /// Ready when the client has gone, for whoever waits for something else. Costs no system call while
    /// the client is silent; what it has sent meanwhile stays where it is, and is looked at once.
    pub fn poll_gone(&mut self, cx: &mut Context<'_>) -> Poll<Stop> {
        if self.peeked {
            return Poll::Pending;
        }
        let mut byte = [0];
        match self.stream.poll_peek(cx, &mut ReadBuf::new(&mut byte)) {
            Poll::Ready(Ok(0) | Err(_)) => Poll::Ready(Stop::Gone),
            Poll::Ready(Ok(_)) => {
                self.peeked = true;
                Poll::Pending
            }
            Poll::Pending => Poll::Pending,
        }
    }

    /// Writes as much output as goes.
    pub fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Stop>> {
        while !self.output.is_empty() {
            match Pin::new(&mut self.stream).poll_write(cx, &self.output) {
                Poll::Ready(Ok(0) | Err(_)) => return Poll::Ready(Err(Stop::Gone)),
                Poll::Ready(Ok(count)) => {
                    self.output.advance(count);
                    self.written += count as u64;
                }
                Poll::Pending => return Poll::Pending,
            }
        }
        Poll::Ready(Ok(()))
    }

    /// Writes all output.
    pub async fn flush(&mut self) -> Result<(), Stop> {
        poll_fn(|cx| self.poll_flush(cx)).await
    }
}
