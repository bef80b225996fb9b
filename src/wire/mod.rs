//! Between protobuf and the model: the only files that name protobuf types.

/// Code generated from `proto/`.
#[allow(clippy::pedantic, missing_docs)]
pub mod pb {
    /// Messages of the Raft transport.
    pub mod raft {
        tonic::include_proto!("howdah.raft.v1");
    }
    /// Messages of agents.
    pub mod agent {
        tonic::include_proto!("howdah.agent.v1");
    }
    /// Messages of routers.
    pub mod topology {
        tonic::include_proto!("howdah.topology.v1");
    }
    /// Messages of admin clients.
    pub mod admin {
        tonic::include_proto!("howdah.admin.v1");
    }
    /// All of the above as a descriptor set, for reflection.
    pub const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.bin"));
}
