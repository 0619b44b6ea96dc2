//! Reading bodies without letting slow clients fill the memory.
//!
//! Every connection may have a small body; larger ones share a fixed amount, so that thousands of clients that
//! each send a megabyte a byte at a time take no more than that.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use http::HeaderMap;
use hyper::body::{Body as _, Incoming};
use picloud_core::ErrorCode;
use picloud_edge::{BodyTimes, Problem, read_body};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// A body up to this size needs no share.
const SMALL: u64 = 16 * 1024;

/// What all larger bodies together may take.
const SHARED: u64 = 64 * 1024 * 1024;

/// How long a body waits for its share.
const MAX_WAIT: Duration = Duration::from_secs(1);

/// The memory for bodies that are being read or used.
pub(super) struct BodyMemory(Arc<Semaphore>);

/// A body, and its share of the memory until this is dropped.
pub(super) struct RequestBody {
    pub(super) bytes: Bytes,
    _share: Option<OwnedSemaphorePermit>,
}

impl BodyMemory {
    pub(super) fn new() -> Self {
        Self(Arc::new(Semaphore::new(shares(SHARED) as usize)))
    }

    /// Reads a body of at most `limit` bytes.
    pub(super) async fn read(
        &self,
        headers: &HeaderMap,
        body: Incoming,
        limit: u64,
        times: BodyTimes,
    ) -> Result<RequestBody, Problem> {
        // Known where it is announced, and 0 where there is none. A length over the limit is refused below,
        // before anything is read.
        let most = body.size_hint().upper().unwrap_or(limit).min(limit);
        let share = if most <= SMALL { None } else { Some(self.share(most).await?) };
        let bytes = read_body(headers, body, limit, times).await?;
        Ok(RequestBody { bytes, _share: share })
    }

    async fn share(&self, bytes: u64) -> Result<OwnedSemaphorePermit, Problem> {
        let share = Arc::clone(&self.0).acquire_many_owned(shares(bytes.min(SHARED)));
        match tokio::time::timeout(MAX_WAIT, share).await {
            Ok(Ok(share)) => Ok(share),
            _ => Err(Problem::new(ErrorCode::NodeBusy)
                .detail("the node has no memory left for large request bodies")
                .close()),
        }
    }
}

/// Shares are of a kilobyte.
fn shares(bytes: u64) -> u32 {
    u32::try_from(bytes.div_ceil(1024)).unwrap_or(u32::MAX)
}
