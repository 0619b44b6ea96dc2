//! One build at a time for each app, so that whoever uploads a lot waits behind itself and not before others.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use picloud_core::{AppId, ErrorCode};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::error::ApiError;

/// Builds of one app that wait, at most.
const MAX_WAITING: usize = 32;

/// Whose turn it is. An app that builds nothing has no entry.
#[derive(Default)]
pub(crate) struct BuildTurns(Mutex<HashMap<AppId, Arc<Semaphore>>>);

/// An app's turn, until it is dropped.
pub(crate) struct BuildTurn<'a> {
    turns: &'a BuildTurns,
    app: AppId,
    permit: Option<OwnedSemaphorePermit>,
}

impl BuildTurns {
    /// Waits for the app's turn; `app_busy` where too many wait already.
    pub(crate) async fn take(&self, app: AppId) -> Result<BuildTurn<'_>, ApiError> {
        let semaphore = {
            let mut apps = self.lock();
            let semaphore = apps.entry(app).or_insert_with(|| Arc::new(Semaphore::new(1)));
            // The map's own, that of the turn being had, and one of each that waits.
            if Arc::strong_count(semaphore) >= MAX_WAITING + 2 {
                let detail =
                    format!("{MAX_WAITING} scripts of this app wait to be compiled; try again later");
                return Err(ApiError::new(ErrorCode::AppBusy, detail));
            }
            Arc::clone(semaphore)
        };
        // Made before waiting, so that giving up cleans up as well.
        let mut turn = BuildTurn { turns: self, app, permit: None };
        turn.permit = semaphore.acquire_owned().await.ok();
        Ok(turn)
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<AppId, Arc<Semaphore>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for BuildTurn<'_> {
    fn drop(&mut self) {
        self.permit = None;
        let mut apps = self.turns.lock();
        if apps.get(&self.app).is_some_and(|semaphore| Arc::strong_count(semaphore) == 1) {
            apps.remove(&self.app);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{future::Future, pin::pin, task::Poll};

    use super::*;

    async fn is_pending(future: std::pin::Pin<&mut impl Future>) -> bool {
        let mut future = Some(future);
        std::future::poll_fn(|cx| match future.take() {
            Some(future) => Poll::Ready(future.poll(cx).is_pending()),
            None => Poll::Ready(false),
        })
        .await
    }

    #[tokio::test]
    async fn an_app_waits_for_itself_only_and_leaves_nothing_behind() {
        let turns = BuildTurns::default();
        let (one, other) = (AppId::generate(), AppId::generate());
        let first = turns.take(one).await.unwrap();
        {
            let mut second = pin!(turns.take(one));
            assert!(is_pending(second.as_mut()).await);
            drop(turns.take(other).await.unwrap());
            drop(first);
            drop(second.await.unwrap());
        }
        assert!(turns.lock().is_empty());
    }

    #[tokio::test]
    async fn too_many_that_wait_are_refused() {
        let turns = BuildTurns::default();
        let app = AppId::generate();
        let first = turns.take(app).await.unwrap();
        let mut waiting: Vec<_> = (0..MAX_WAITING).map(|_| Box::pin(turns.take(app))).collect();
        for turn in &mut waiting {
            assert!(is_pending(turn.as_mut()).await);
        }
        assert_eq!(turns.take(app).await.err().map(|error| error.code()), Some(ErrorCode::AppBusy));
        drop(waiting);
        drop(first);
        assert!(turns.lock().is_empty());
    }
}
