//! What units wrote to their standard error, as far as it was kept.

use super::{
    NodeBackend,
    stream::{Ended, Outlet, replies},
};
use crate::{
    control::{
        backend::{Replies, Reply},
        error::{ControlError, Kind},
    },
    protocol::ids::{JobId, UnitIndex},
    wire::control::{GetLogsRequest, LogChunk},
};

/// Bytes in one part.
const CHUNK_BYTES: usize = 256 << 10;

impl NodeBackend {
    pub(super) async fn stream_logs(&self, request: GetLogsRequest) -> Reply<Replies<LogChunk>> {
        let job = self.own(&request.job).await?;
        let units = self.seen(job).await?.view.counts.units;
        if let Some(unit) = request.unit.filter(|unit| *unit >= units) {
            let error = ControlError::new(Kind::NotFound, "NOT_FOUND_UNIT", format!("there is no unit {unit}"));
            return Err(error.cause(format!("the job has the units 0 to {}", units.saturating_sub(1))));
        }
        let backend = self.clone();
        Ok(replies(move |outlet| async move {
            match request.unit {
                Some(unit) => backend.one_log(job, UnitIndex(unit), &outlet).await,
                None => backend.all_logs(job, &outlet).await,
            }
        }))
    }

    async fn one_log(&self, job: JobId, unit: UnitIndex, outlet: &Outlet<LogChunk>) -> Result<(), Ended> {
        let log = self.read(move |store| Ok(store.log(job, unit)?)).await?;
        put(unit, &log.unwrap_or_default(), outlet).await
    }

    async fn all_logs(&self, job: JobId, outlet: &Outlet<LogChunk>) -> Result<(), Ended> {
        let mut first = UnitIndex(0);
        loop {
            let page = self.read(move |store| Ok(store.logs_page(job, first)?)).await?;
            let Some((last, _)) = page.last() else { return Ok(()) };
            first = UnitIndex(last.0.saturating_add(1));
            for (unit, log) in &page {
                put(*unit, log, outlet).await?;
            }
        }
    }
}

async fn put(unit: UnitIndex, log: &[u8], outlet: &Outlet<LogChunk>) -> Result<(), Ended> {
    for data in log.chunks(CHUNK_BYTES) {
        outlet.put(LogChunk { unit: unit.0, data: data.to_vec().into() }).await?;
    }
    Ok(())
}
