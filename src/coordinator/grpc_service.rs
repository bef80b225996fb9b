//! The gRPC server: all services on one port, with health and reflection. Called by `run`.

use std::time::Duration;

use tokio::{net::TcpListener, sync::watch};
use tokio_util::sync::CancellationToken;
use tonic::transport::{Server, server::TcpIncoming};

use super::{
    admin_service::Admin,
    admission::Standing,
    agent_service::Agents,
    inbox::Handle,
    leader::Leader,
    membership_service::Membership,
    peers::{Incoming, MAX_MESSAGE},
    topology_service::Topologies,
};
use crate::{
    model::ids::ClusterName,
    wire::pb::{
        DESCRIPTORS,
        admin::admin_service_server::AdminServiceServer,
        agent::agent_service_server::AgentServiceServer,
        raft::{membership_service_server::MembershipServiceServer, raft_transport_server::RaftTransportServer},
        topology::topology_service_server::TopologyServiceServer,
    },
};

/// HTTP/2 pings to whoever is connected: ends streams of machines that vanished. Silence is noticed
/// much sooner, by the reports that do not come.
const KEEPALIVE: (Duration, Duration) = (Duration::from_secs(5), Duration::from_secs(5));

/// Why the server ended.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The network.
    #[error("the gRPC server ended: {0}")]
    Grpc(#[from] tonic::transport::Error),
    /// Reflection.
    #[error("the service descriptors cannot be served: {0}")]
    Reflection(#[from] tonic_reflection::server::Error),
}

/// What the services need.
pub struct Services {
    /// The cluster.
    pub cluster: ClusterName,
    /// The way to the driver.
    pub handle: Handle,
    /// What this coordinator is; there is no driver before it is a member.
    pub standing: watch::Receiver<Standing>,
}

/// Serves until `stopped`.
pub async fn serve(services: Services, listener: TcpListener, stopped: CancellationToken) -> Result<(), ServeError> {
    let Services { cluster, handle, standing } = services;
    let leader = Leader { handle: handle.clone() };
    let incoming = Incoming { cluster: cluster.clone(), handle, shutdown: stopped.clone() };
    let membership = Membership { cluster: cluster.clone(), standing, leader: leader.clone() };
    let agents = Agents { cluster, leader: leader.clone(), shutdown: stopped.clone() };
    let topologies = Topologies { leader: leader.clone(), shutdown: stopped.clone() };
    let admin = Admin { leader, shutdown: stopped.clone() };
    let (health, health_service) = tonic_health::server::health_reporter();
    health.set_serving::<AdminServiceServer<Admin>>().await;
    health.set_serving::<AgentServiceServer<Agents>>().await;
    health.set_serving::<TopologyServiceServer<Topologies>>().await;
    let reflection = tonic_reflection::server::Builder::configure()
        .register_encoded_file_descriptor_set(DESCRIPTORS)
        .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
        .build_v1()?;
    Server::builder()
        .http2_keepalive_interval(Some(KEEPALIVE.0))
        .http2_keepalive_timeout(Some(KEEPALIVE.1))
        .add_service(health_service)
        .add_service(reflection)
        .add_service(RaftTransportServer::new(incoming).max_decoding_message_size(MAX_MESSAGE))
        .add_service(MembershipServiceServer::new(membership))
        .add_service(AgentServiceServer::new(agents))
        .add_service(TopologyServiceServer::new(topologies))
        .add_service(AdminServiceServer::new(admin))
        .serve_with_incoming_shutdown(TcpIncoming::from(listener).with_nodelay(Some(true)), stopped.cancelled_owned())
        .await?;
    Ok(())
}
