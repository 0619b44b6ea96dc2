//! News of what changed, through PostgreSQL's LISTEN and NOTIFY.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU8, Ordering::Relaxed},
    },
    time::Duration,
};

use picloud_core::{AppId, EventId, WorkerId};
use sqlx::{
    PgConnection, PgPool,
    postgres::{PgListener, PgPoolOptions},
};

use crate::{Store, StoreError, Woken, outbox};

const CHANNEL: &str = "picloud_apps";

/// On which a process tells itself something, to see whether it hears it.
const PROBES: &str = "picloud_probes";

/// What was told is heard within this time, or never.
const HEARD: Duration = Duration::from_secs(3);

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
    /// The connections that tell.
    pool: PgPool,
    hearing: Hearing,
    /// The connection was lost, and nobody was told of that yet.
    is_behind: bool,
}

/// Whether what is told over one connection is heard on another, as far as it was tried out.
#[derive(Clone, Debug, Default)]
pub(crate) struct Hearing(Arc<AtomicU8>);

impl Hearing {
    const UNKNOWN: u8 = 0;
    const WORKS: u8 = 1;
    const FAILS: u8 = 2;

    fn set(&self, works: bool) {
        self.0.store(if works { Self::WORKS } else { Self::FAILS }, Relaxed);
    }

    fn get(&self) -> Option<bool> {
        let known = self.0.load(Relaxed);
        (known != Self::UNKNOWN).then_some(known == Self::WORKS)
    }
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
        listener.listen_all([CHANNEL, outbox::CHANNEL, PROBES]).await?;
        let mut listener = ChangeListener {
            listener,
            worker: self.worker,
            pool: self.claims.clone(),
            hearing: self.hearing.clone(),
            is_behind: false,
        };
        listener.join().await?;
        listener.try_out().await?;
        Ok(listener)
    }

    /// Whether notifications arrive, as they do not through a pool of connections in transaction mode. `None` while nobody has
    /// listened.
    pub fn notifications_arrive(&self) -> Option<bool> {
        self.hearing.get()
    }
}

impl ChangeListener {
    /// Waits for the next change. Where the connection is lost it is made again, however long that takes, and
    /// then the change is [`Change::Everything`].
    ///
    /// May be cancelled: nothing is lost, since a lost connection is found again by the next call.
    pub async fn next(&mut self) -> Change {
        while !self.is_behind {
            match tokio::time::timeout(SILENCE, self.listener.try_recv()).await {
                Ok(Ok(Some(notification))) => match notification.channel() {
                    // One that was late, on a machine that was busy.
                    PROBES => self.hearing.set(true),
                    outbox::CHANNEL => {
                        if let Some(woken) = Woken::parse(notification.payload(), self.worker) {
                            return Change::Events(woken);
                        }
                    }
                    _ => return notification.payload().parse().map_or(Change::Everything, Change::App),
                },
                Err(_silent) if self.is_alive().await => {}
                ended => {
                    self.is_behind = true;
                    match ended {
                        Ok(Err(error)) => {
                            tracing::warn!(%error, "the connection that listens for changes failed");
                        }
                        Ok(Ok(_)) => tracing::warn!("the connection that listens for changes was lost"),
                        Err(_silent) => tracing::warn!("the connection that listens for changes is dead"),
                    }
                }
            }
        }
        self.reconnect().await;
        self.is_behind = false;
        Change::Everything
    }

    /// Whether this connection hears what another tells. What else is heard meanwhile is left out: after this everything is
    /// loaded.
    async fn try_out(&mut self) -> Result<(), StoreError> {
        let probe = EventId::generate().to_string();
        sqlx::query!("SELECT pg_notify($1, $2)", PROBES, probe).execute(&self.pool).await?;
        let heard = async {
            loop {
                match self.listener.try_recv().await {
                    Ok(Some(told)) if told.channel() == PROBES && told.payload() == probe => return Ok(()),
                    Ok(Some(_other)) => {}
                    Ok(None) => return Err(lost()),
                    Err(error) => return Err(error.into()),
                }
            }
        };
        let heard = match tokio::time::timeout(HEARD, heard).await {
            Ok(heard) => heard.map(|()| true)?,
            Err(_silent) => false,
        };
        if !heard {
            tracing::error!(
                "the database's notifications do not arrive: something between here and PostgreSQL keeps them, such as a pool of \
                 connections in transaction mode. Changes that other servers make are not seen, and their events are found late. \
                 Let DATABASE_URL lead to PostgreSQL itself, or to a pool in session mode"
            );
        }
        self.hearing.set(heard);
        Ok(())
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
        while !self.is_alive().await || self.join().await.is_err() || self.try_out().await.is_err() {
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(LAST_RETRY);
        }
        tracing::info!("listening for changes again");
    }
}

fn lost() -> StoreError {
    StoreError::Unavailable("the connection that listens was lost".into())
}

/// Tells every listener that `app` has changed, once the transaction is committed.
pub(crate) async fn notify(connection: &mut PgConnection, app: AppId) -> Result<(), StoreError> {
    sqlx::query!("SELECT pg_notify($1, $2)", CHANNEL, app.to_string()).execute(connection).await?;
    Ok(())
}
