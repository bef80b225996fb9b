//! Asks the coordinators for a colocation group. Called by [`super::distribute`].

use std::time::Duration;

use super::error::ExecError;
use crate::{
    model::ids::ColocationId,
    router::core::error::UserError,
    wire::pb::topology::{EnsureColocationRequest, topology_service_client::TopologyServiceClient},
};

/// Longest wait for one coordinator: a decision takes milliseconds, an election of a leader a second.
const TIMEOUT: Duration = Duration::from_secs(5);

/// The group for tables with this key, made where none fits. Any coordinator will do. `alone`: a new one
/// for one table, under this key, so that asking a second coordinator makes no second group.
pub async fn ensure_colocation(
    coordinators: &[String],
    key_type: &str,
    bucket_count: Option<u32>,
    alone: Option<&str>,
) -> Result<ColocationId, ExecError> {
    let mut last = "no coordinator is known".to_owned();
    for url in coordinators {
        match tokio::time::timeout(TIMEOUT, ask(url, key_type, bucket_count, alone)).await {
            Ok(Ok(id)) => return Ok(id),
            Ok(Err(AskError::Refused(message))) => return Err(UserError::error("22023", message).into()),
            Ok(Err(AskError::Unavailable(message))) => last = message,
            Err(_) => last = format!("{url} did not answer in time"),
        }
    }
    tracing::info!(last, "no coordinator gave a colocation group");
    let error = UserError::error("57P03", "the coordinators cannot place the table now").detail(last);
    Err(error.hint("Run `howdah status`; try again later.").into())
}

enum AskError {
    /// Asking another coordinator would not help.
    Refused(String),
    /// It might.
    Unavailable(String),
}

async fn ask(
    url: &str,
    key_type: &str,
    bucket_count: Option<u32>,
    alone: Option<&str>,
) -> Result<ColocationId, AskError> {
    let unavailable = |error: String| AskError::Unavailable(format!("{url}: {error}"));
    let connected = TopologyServiceClient::connect(url.to_owned()).await;
    let mut client = connected.map_err(|error| unavailable(error.to_string()))?;
    let request = EnsureColocationRequest {
        key_type: key_type.to_owned(),
        bucket_count: bucket_count.unwrap_or(0),
        alone: alone.unwrap_or_default().to_owned(),
    };
    match client.ensure_colocation(request).await {
        Ok(answer) => {
            let colocation = answer.into_inner().colocation;
            colocation.map(|it| ColocationId(it.id)).ok_or_else(|| unavailable("an answer without a group".to_owned()))
        }
        Err(status) if matches!(status.code(), tonic::Code::InvalidArgument | tonic::Code::FailedPrecondition) => {
            Err(AskError::Refused(status.message().to_owned()))
        }
        Err(status) => Err(unavailable(status.message().to_owned())),
    }
}
