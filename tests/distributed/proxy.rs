//! TCP in between: a load balancer, and a connection that breaks at the worst moment.

use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicUsize, Ordering},
};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _, copy_bidirectional},
    net::{TcpListener, TcpStream},
};

/// Leads the first connection to the first port, and so on; the last port gets all others. Its own port.
pub fn balance(ports: &'static [AtomicUsize]) -> u16 {
    let (listener, own) = listen();
    let next = AtomicUsize::new(0);
    tokio::spawn(async move {
        while let Ok((mut client, _)) = listener.accept().await {
            let at = next.fetch_add(1, Ordering::Relaxed).min(ports.len() - 1);
            let port = u16::try_from(ports[at].load(Ordering::Relaxed)).expect("a port");
            tokio::spawn(async move {
                let mut server = TcpStream::connect(("127.0.0.1", port)).await.expect("the router listens");
                let _ = copy_bidirectional(&mut client, &mut server).await;
            });
        }
    });
    own
}

fn listen() -> (TcpListener, u16) {
    let listener = std::net::TcpListener::bind(("127.0.0.1", 0)).expect("a port");
    listener.set_nonblocking(true).expect("possible");
    let own = listener.local_addr().expect("bound").port();
    (TcpListener::from_std(listener).expect("inside a runtime"), own)
}

/// Breaks a connection when the commit of a decision passes.
#[derive(Clone, Default)]
pub struct Cutter {
    /// The next one does not reach the server.
    pub before: Arc<AtomicBool>,
    /// The next one's answer does not reach the client.
    pub after: Arc<AtomicBool>,
    /// How many were cut.
    pub cuts: Arc<AtomicUsize>,
}

impl Cutter {
    /// In front of a port: its own port.
    pub fn start(&self, port: u16) -> u16 {
        let (listener, own) = listen();
        let cutter = self.clone();
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let server = TcpStream::connect(("127.0.0.1", port)).await.expect("PostgreSQL listens");
                tokio::spawn(cutter.clone().pass(client, server));
            }
        });
        own
    }

    /// Until one side ends, or the cut. Both sockets are closed then.
    async fn pass(self, mut client: TcpStream, mut server: TcpStream) {
        let (mut up, mut down) = (vec![0; 64 * 1024], vec![0; 64 * 1024]);
        let mut cut_answer = false;
        loop {
            tokio::select! {
                read = client.read(&mut up) => {
                    let Ok(count @ 1..) = read else { return };
                    let decides = up[..count].windows(34).any(|it| it == b"INSERT INTO howdah.decision (id, o");
                    if decides && self.before.swap(false, Ordering::SeqCst) {
                        self.cuts.fetch_add(1, Ordering::SeqCst);
                        return;
                    }
                    cut_answer |= decides && self.after.swap(false, Ordering::SeqCst);
                    if server.write_all(&up[..count]).await.is_err() {
                        return;
                    }
                }
                read = server.read(&mut down) => {
                    let Ok(count @ 1..) = read else { return };
                    // ReadyForQuery, idle: it is committed.
                    if cut_answer && down[..count].ends_with(b"Z\0\0\0\x05I") {
                        self.cuts.fetch_add(1, Ordering::SeqCst);
                        return;
                    }
                    if !cut_answer && client.write_all(&down[..count]).await.is_err() {
                        return;
                    }
                }
            }
        }
    }
}
