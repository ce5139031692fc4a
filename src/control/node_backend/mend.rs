//! Outputs that were verified and that this disk has lost since: fetched again from peers, or computed again.
//!
//! A verdict names its output by the digest, so what comes back is what was agreed on or is not taken. Until then nothing is given
//! out for the unit.

use super::{NodeBackend, rerun, results::lost};
use crate::{
    control::{backend::Reply, error::ControlError},
    node::net::{Wanted, blobs::MAX_HOLDERS},
    protocol::ids::{Digest, JobId, UnitIndex},
};
use std::time::Duration;

/// How long peers may take to give an output back before it is computed again.
const FETCHED_WITHIN: Duration = Duration::from_secs(30);

impl NodeBackend {
    /// Brings back those of these outputs of a job that are not here. Fails, naming the unit, when one cannot be had.
    pub(super) async fn mend(&self, job: JobId, outputs: Vec<(u32, Digest)>) -> Reply<()> {
        for (unit, output) in outputs {
            if !self.read(move |store| Ok(store.read_blob_at(output, 0, 1)?.is_some())).await? {
                self.mend_one(job, unit, output).await?;
            }
        }
        Ok(())
    }

    async fn mend_one(&self, job: JobId, unit: u32, output: Digest) -> Reply<()> {
        let handle = self.handle().await?;
        let manifest = self.view(move |node| node.peer().owner().manifest(job)).await?;
        let manifest = manifest.ok_or_else(|| ControlError::no_such_job(&job.to_string()))?;
        let holders: Vec<_> = self.view(|node| node.connected().keys().copied().take(MAX_HOLDERS).collect()).await?;
        let wanted = Wanted { digest: output, length: None, at_most: manifest.limits.output_bytes };
        let fetched = tokio::time::timeout(FETCHED_WITHIN, handle.net.fetch_blob(wanted, &holders, Vec::new())).await;
        let (bytes, how) = match fetched {
            Ok(Ok(fetched)) => (fetched.sink, "fetched again from a peer"),
            Ok(Err(_)) | Err(_) => {
                let mut slot = rerun::output(&handle, job, manifest, UnitIndex(unit));
                let again = slot.next().await.and_then(Result::ok).filter(|bytes| Digest::of(bytes) == output);
                (again.ok_or_else(|| lost(unit))?, "computed again")
            }
        };
        self.read(move |store| Ok(store.put_blob(&bytes, Some(job))?)).await?;
        tracing::warn!(job = %job.short(), unit, "a verified output was damaged on this disk, and was {how}");
        Ok(())
    }
}
