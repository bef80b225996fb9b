//! A request to cancel works through any router: behind a load balancer it rarely meets the session's own.

use std::{sync::atomic::AtomicUsize, time::Duration};

use tokio::{io::AsyncWriteExt as _, net::TcpStream};
use tokio_postgres::{NoTls, error::SqlState};

use super::{
    harness::{Herd, client_at, eventually},
    proxy,
};

static PORTS: [AtomicUsize; 2] = [AtomicUsize::new(0), AtomicUsize::new(0)];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_finds_its_session_through_another_router() {
    let herd = Herd::start(1).await;
    let other = herd.second_router().await;
    PORTS[0].store(usize::from(herd.port), std::sync::atomic::Ordering::Relaxed);
    PORTS[1].store(usize::from(other), std::sync::atomic::Ordering::Relaxed);
    // The session is the first router's; the request that follows meets the second.
    let client = client_at(proxy::balance(&PORTS)).await;
    let token = client.cancel_token();
    let sleep = tokio::spawn(async move { (client.batch_execute("SELECT pg_sleep(60)").await, client) });
    let admin = herd.query.admin("app").await;
    let asleep = "SELECT count(*) FROM pg_stat_activity WHERE query = 'SELECT pg_sleep(60)' AND state = 'active'";
    let sleeps = async || admin.query_one(asleep, &[]).await.expect("seen").get::<_, i64>(0) == 1;
    eventually("it sleeps", sleeps).await;
    // Wrong numbers and secrets do nothing, at either router.
    for port in [herd.port, other] {
        for (pid, secret) in [(0_u32, 0_u32), (1, 1), (u32::MAX, u32::MAX), (0x7fff_ffff, 7), (0x8000_0001, 7)] {
            let mut stream = TcpStream::connect(("127.0.0.1", port)).await.expect("it listens");
            let mut packet = [16_u32.to_be_bytes(), 80_877_102_u32.to_be_bytes()].concat();
            packet.extend([pid.to_be_bytes(), secret.to_be_bytes()].concat());
            stream.write_all(&packet).await.expect("sent");
        }
    }
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert!(sleeps().await, "forged requests do nothing");
    token.cancel_query(NoTls).await.expect("sent");
    let (cancelled, client) = sleep.await.expect("no panic");
    assert_eq!(cancelled.expect_err("cancelled").code(), Some(&SqlState::QUERY_CANCELED));
    client.batch_execute("SELECT 1").await.expect("goes on");
}
