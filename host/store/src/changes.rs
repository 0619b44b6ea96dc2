//! News of what changed, through PostgreSQL's LISTEN and NOTIFY.

use std::time::Duration;

use picloud_core::{AppId, WorkerId};
use sqlx::{
    PgConnection,
    postgres::{PgListener, PgPoolOptions},
};

use crate::{Store, StoreError, Woken, outbox};

const CHANNEL: &str = "picloud_apps";

/// How long nothing may be heard before the connection is tried out: one that was cut without a word (a
/// firewall, a cable) would else stay silent for ever.
const SILENCE: Duration = Duration::from_mins(1);
const FIRST_RETRY: Duration = Duration::from_millis(50);
const LAST_RETRY: Duration = Duration::from_secs(2);

/// What changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// This app: it, its limits, scripts, routes, triggers, domains, secrets or variables; or it was deleted.
    App(AppId),
    /// Another process has put events into the outbox.
    Events(Woken),
    /// Something may have been missed while the connection was away: load everything again.
    Everything,
}

/// Hears of every change from its making on, over a connection of its own.
#[derive(Debug)]
pub struct ChangeListener {
    listener: PgListener,
    worker: WorkerId,
}

impl Store {
    /// Starts to listen. What is loaded after this has returned, and kept up with [`ChangeListener::next`],
    /// misses nothing.
    ///
    /// While the listener is there, this process counts as living: the connection holds a lock for it, so that an idle process
    /// writes nothing.
    pub async fn changes(&self) -> Result<ChangeListener, StoreError> {
        // A pool of its own: the connection is kept for good, and must not be one of those that serve.
        let pool = PgPoolOptions::new()
            .max_connections(1)
            .acquire_timeout(self.config.acquire_timeout)
            .max_lifetime(None)
            .idle_timeout(None)
            .connect_lazy_with(self.config.connect_options()?);
        let mut listener = PgListener::connect_with(&pool).await?;
        // Listening again is waited for in `next`, which may fail and be tried again.
        listener.eager_reconnect(false);
        listener.listen_all([CHANNEL, outbox::CHANNEL]).await?;
        let mut listener = ChangeListener { listener, worker: self.worker };
        listener.join().await?;
        Ok(listener)
    }
}

impl ChangeListener {
    /// Waits for the next change. Where the connection is lost it is made again, however long that takes, and
    /// then the change is [`Change::Everything`].
    ///
    /// May be cancelled: nothing is lost, since a lost connection is found again by the next call.
    pub async fn next(&mut self) -> Change {
        loop {
            match tokio::time::timeout(SILENCE, self.listener.try_recv()).await {
                Ok(Ok(Some(notification))) => {
                    if notification.channel() == outbox::CHANNEL {
                        match Woken::parse(notification.payload(), self.worker) {
                            Some(woken) => return Change::Events(woken),
                            None => continue,
                        }
                    }
                    return notification.payload().parse().map_or(Change::Everything, Change::App);
                }
                Ok(Ok(None)) => tracing::warn!("the connection that listens for changes was lost"),
                Ok(Err(error)) => tracing::warn!(%error, "the connection that listens for changes failed"),
                Err(_silent) if self.is_alive().await => continue,
                Err(_silent) => tracing::warn!("the connection that listens for changes is dead"),
            }
            self.reconnect().await;
            return Change::Everything;
        }
    }

    /// Takes the lock by which other processes see that this one lives. It goes with the connection.
    async fn join(&mut self) -> Result<(), StoreError> {
        // Shared: it is only looked at, and taking it again by the same session must not fail.
        let joined = sqlx::query("SELECT pg_try_advisory_lock_shared($1, $2)")
            .bind(outbox::membership_class())
            .bind(outbox::membership_key(self.worker));
        joined.execute(&mut self.listener).await?;
        Ok(())
    }

    async fn is_alive(&mut self) -> bool {
        let ping = sqlx::query("SELECT 1").execute(&mut self.listener);
        matches!(tokio::time::timeout(Duration::from_secs(5), ping).await, Ok(Ok(_)))
    }

    async fn reconnect(&mut self) {
        let mut pause = FIRST_RETRY;
        // Running a statement makes the listener connect and listen again where it has no connection.
        while !self.is_alive().await || self.join().await.is_err() {
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(LAST_RETRY);
        }
        tracing::info!("listening for changes again");
    }
}

/// Tells every listener that `app` has changed, once the transaction is committed.
pub(crate) async fn notify(connection: &mut PgConnection, app: AppId) -> Result<(), StoreError> {
    sqlx::query!("SELECT pg_notify($1, $2)", CHANNEL, app.to_string()).execute(connection).await?;
    Ok(())
}
