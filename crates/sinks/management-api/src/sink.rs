//! The run: from the journal into the store, and the server and the webhooks beside it.
//!
//! Entries are pulled, mapped and packed (see [`packer`]) until there is enough for a round, or the oldest has waited for
//! `blob_age`. A round is published, which makes it durable and listed, and then the cursor is committed. So the store
//! is never behind the cursor; when the process ends between the two, the store says what it has already.

pub(crate) mod claims;
mod figures;
mod packer;
mod pump;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

use actlog_core::{BuildContext, Sink, SinkContext, SinkError};
use actlog_http::Server;
use async_trait::async_trait;
use tokio_util::sync::CancellationToken;

use self::pump::Pump;
use crate::api::Api;
use crate::auth::Auth;
use crate::config::Config;
use crate::store::Store;
use crate::subscriptions::Subscriptions;

/// How long requests that have begun may take after shutdown.
const GRACE: Duration = Duration::from_secs(5);

/// The sink `management-api`.
pub struct ManagementApiSink {
    config: Config,
    build: BuildContext,
    server: Server,
    store: Store,
    auth: Auth,
    subscriptions: Subscriptions,
}

impl std::fmt::Debug for ManagementApiSink {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ManagementApiSink").field("listen", &self.server.local_address()).finish_non_exhaustive()
    }
}

impl ManagementApiSink {
    /// Of its opened parts.
    pub(crate) fn new(
        config: Config,
        build: BuildContext,
        server: Server,
        store: Store,
        auth: Auth,
        subscriptions: Subscriptions,
    ) -> Self {
        Self { config, build, server, store, auth, subscriptions }
    }
}

#[async_trait]
impl Sink for ManagementApiSink {
    async fn run(self: Box<Self>, mut cx: SinkContext) -> Result<(), SinkError> {
        let Self { config, build, server, store, auth, subscriptions } = *self;
        let wrong = |error: actlog_core::ConfigError| SinkError::Other(error.to_string());
        let api = Api::new(&config, &build, store.clone(), auth.clone(), subscriptions.clone(), &cx.metrics)
            .map_err(wrong)?;
        let problem = Box::new(move || auth.problem());
        let mut pump = Pump::new(&config, &build, &store, problem, cx.state.take().as_deref(), &cx.metrics)?;
        let stop = CancellationToken::new();
        // Whatever ends this run takes the connections and the webhooks' worker with it.
        let _stopped = stop.clone().drop_guard();
        let metrics = cx.metrics.clone();
        let serve = server.serve(Arc::new(api), &metrics, stop.clone(), GRACE);
        let beside = async { tokio::join!(serve, subscriptions.deliver(stop.clone())) };
        tokio::pin!(beside);
        let result = tokio::select! {
            result = pump.run(&mut cx) => result,
            _ = &mut beside => return Err(SinkError::Other("the listener has ended by itself".to_owned())),
        };
        stop.cancel();
        beside.await;
        match result {
            Err(SinkError::File { path, error }) if cx.shutdown.is_cancelled() => {
                tracing::warn!(%path, "could not be written at shutdown: {error}; the journal keeps what is missing");
                Ok(())
            }
            result => result,
        }
    }
}
