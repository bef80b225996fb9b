//! The part of a report that tells how far a member can be relied on.

use super::pb;
use crate::model::{
    numbers::Millis,
    observed::{Disk, Signs},
};

impl From<Signs> for pb::Signs {
    fn from(it: Signs) -> Self {
        let disk = it.disk.map(|Disk { free, total }| pb::Disk { free, total });
        Self { crashes: it.crashes, disk, stream_silence_ms: it.stream_silence.map(|silence| silence.0) }
    }
}

impl From<pb::Signs> for Signs {
    fn from(it: pb::Signs) -> Self {
        let disk = it.disk.map(|pb::Disk { free, total }| Disk { free, total });
        Self { crashes: it.crashes, disk, stream_silence: it.stream_silence_ms.map(Millis) }
    }
}
