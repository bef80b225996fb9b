//! Generates the gRPC code from `proto/` with protox, so that nobody needs protoc.

use prost::Message as _;
use std::{env, error::Error, fs, path::PathBuf};

fn main() -> Result<(), Box<dyn Error>> {
    const FILES: [&str; 4] = [
        "howdah/admin/v1/admin.proto",
        "howdah/agent/v1/agent.proto",
        "howdah/topology/v1/topology.proto",
        "howdah/raft/v1/raft.proto",
    ];
    println!("cargo:rerun-if-changed=proto");
    let descriptors = protox::compile(FILES, ["proto"])?;
    let out = PathBuf::from(env::var("OUT_DIR")?);
    // Reflection serves the same descriptors that the code was generated from.
    fs::write(out.join("descriptors.bin"), descriptors.encode_to_vec())?;
    // A report would be far larger than the other message of its stream.
    tonic_prost_build::configure().boxed(".howdah.agent.v1.Report.signs").compile_fds(descriptors)?;
    Ok(())
}
