//! Routers watch any coordinator: reports in, topology out; and ask for colocation groups. Called by
//! tonic; talks to the driver.

use std::pin::Pin;

use tokio_stream::{Stream, StreamExt as _, wrappers::WatchStream};
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status, Streaming};

use super::{
    core::{
        command::{Command, Outcome},
        observed::Connection,
    },
    inbox::{Change, Changed, Handle, Input, Question},
    leader::{Answers, Leader, forwarded},
};
use crate::{
    model::{observed::RouterReport, topology},
    wire::pb::topology::{
        EnsureColocationRequest, EnsureColocationResponse, RouterReport as RouterMessage, Topology,
        topology_service_client::TopologyServiceClient, topology_service_server::TopologyService,
    },
};

/// More buckets than this are refused: each is a table on some shard.
const MAX_BUCKETS: u32 = 1024;
/// `PostgreSQL`'s longest type name is far shorter, qualified by a schema or not.
const MAX_TYPE_NAME: usize = 256;
/// A caller's own key: as long as any name it may be made of.
const MAX_KEY: usize = 256;

/// The service.
pub struct Topologies {
    /// The way to the leader, and to the driver.
    pub leader: Leader,
    /// Ends the streams.
    pub shutdown: CancellationToken,
}

#[tonic::async_trait]
impl TopologyService for Topologies {
    type WatchStream = Pin<Box<dyn Stream<Item = Result<Topology, Status>> + Send>>;

    async fn watch(&self, request: Request<Streaming<RouterMessage>>) -> Result<Response<Self::WatchStream>, Status> {
        let handle = self.leader.handle.clone();
        // Any may change; each message has the newest of all.
        let changed = WatchStream::new(handle.topology.clone()).map(|_| ());
        let changed = changed.merge(WatchStream::new(handle.routers.clone()).map(|_| ()));
        let changed = changed.merge(WatchStream::from_changes(handle.roster.clone()).map(|_| ()));
        let (topology, routers, roster) = (handle.topology.clone(), handle.routers.clone(), handle.roster.clone());
        let topologies = changed.filter_map(move |()| {
            let newest = topology.borrow().clone()?;
            let mut message = Topology::from(topology::Topology::clone(&newest));
            message.routers = routers.borrow().iter().cloned().map(Into::into).collect();
            message.coordinators = roster.borrow().addresses();
            Some(Ok(message))
        });
        let connection = handle.connection();
        let listen = listen(handle, request.into_inner(), connection);
        tokio::spawn(self.shutdown.clone().run_until_cancelled_owned(listen));
        Ok(Response::new(Box::pin(topologies)))
    }

    async fn ensure_colocation(
        &self,
        request: Request<EnsureColocationRequest>,
    ) -> Result<Response<EnsureColocationResponse>, Status> {
        if let Answers::There(channel) = self.leader.route(&request).await? {
            let mut client = TopologyServiceClient::new(channel);
            return self.leader.forward(client.ensure_colocation(forwarded(request))).await;
        }
        let EnsureColocationRequest { key_type, bucket_count, alone } = request.into_inner();
        if key_type.is_empty() || key_type.len() > MAX_TYPE_NAME {
            return Err(Status::invalid_argument(format!("EnsureColocationRequest.key_type: {key_type:?} is no type")));
        }
        if bucket_count > MAX_BUCKETS {
            let text = format!("EnsureColocationRequest.bucket_count: {bucket_count} is more than {MAX_BUCKETS}");
            return Err(Status::invalid_argument(text));
        }
        if alone.len() > MAX_KEY {
            return Err(Status::invalid_argument(format!("EnsureColocationRequest.alone: more than {MAX_KEY} bytes")));
        }
        let reason = format!("a router needs buckets for keys of type {key_type}");
        let change: Change = Box::new(move |policy| Command::EnsureColocation {
            key_type,
            bucket_count: if bucket_count == 0 { policy.bucket_count } else { bucket_count },
            alone: Some(alone).filter(|alone| !alone.is_empty()),
        });
        let asked = self.leader.handle.ask(|reply| Question::Change(change, reason, reply)).await;
        let Changed { revision, outcome } = asked.map_err(|error| self.leader.refusal(&error))?;
        match outcome {
            Outcome::Colocation(colocation) => {
                let colocation = Some(colocation.into());
                Ok(Response::new(EnsureColocationResponse { colocation, revision: revision.0 }))
            }
            Outcome::Refused(refusal) => Err(refusal.into()),
            Outcome::Applied | Outcome::Operation(_) | Outcome::Coordinator(_) => {
                unreachable!("a colocation was asked for")
            }
        }
    }
}

async fn listen(handle: Handle, mut stream: Streaming<RouterMessage>, connection: Connection) {
    let mut router = None;
    while let Ok(Some(message)) = stream.message().await {
        let Ok(report) = RouterReport::try_from(message) else { break };
        router = Some(report.router.clone());
        handle.tell(Input::RouterReported(connection, report));
    }
    if let Some(router) = router {
        handle.tell(Input::RouterDisconnected(connection, router));
    }
}
