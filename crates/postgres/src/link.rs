//! One connection, used from threads that wait: the server's own threads speak, the caller sleeps until they have an answer.

use std::future::{Future, poll_fn};
use std::sync::mpsc;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::runtime::Handle;
use tokio::sync::Notify;
use tokio_postgres::error::Severity;
use tokio_postgres::{AsyncMessage, Client, Connection};

use crate::error::LinkError;
use crate::server::Server;
use crate::settings::Settings;

/// A connection to a server whose settings were found good when it was made.
pub struct Link {
    client: Arc<Client>,
    warned: Warned,
    /// Told when the connection is gone.
    gone: Arc<Notify>,
    /// Its threads drive the connection.
    server: Server,
    /// Which of its hosts this is.
    host: usize,
    settings: Settings,
}

/// The first warning that the server said on a connection.
#[derive(Debug, Clone, Default)]
pub(crate) struct Warned(Arc<Mutex<Option<String>>>);

impl Warned {
    fn say(&self, words: &str) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert_with(|| words.to_owned());
    }

    /// The warning, once.
    pub(crate) fn take(&self) -> Option<String> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

/// How long a request to cancel may take.
const CANCEL: Duration = Duration::from_secs(1);

/// Waits on this thread for what the server's threads do.
///
/// # Panics
///
/// If that panics.
pub(crate) fn wait<T: Send + 'static>(handle: &Handle, work: impl Future<Output = T> + Send + 'static) -> T {
    let (sender, receiver) = mpsc::sync_channel(1);
    handle.spawn(async move {
        // Nobody waits any more only if the waiting thread is gone.
        let _told = sender.send(work.await);
    });
    receiver.recv().expect("what speaks to the server does not panic")
}

impl Link {
    pub(crate) fn new<S, T>(
        server: &Server,
        client: Client,
        connection: Connection<S, T>,
        host: usize,
    ) -> Self
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
        T: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let warned = Warned::default();
        let gone = Arc::new(Notify::new());
        server.handle().spawn(listen(connection, warned.clone(), Arc::clone(&gone)));
        let (client, settings) = (Arc::new(client), Settings::default());
        Self { client, warned, gone, server: server.clone(), host, settings }
    }

    /// Lets `work` speak to the server and waits for the outcome, for `patience` at most. After an error that is not the
    /// server's own refusal the link should be dropped.
    ///
    /// # Errors
    ///
    /// [`LinkError`]: the server refused, warned, or did not answer in time; then it was asked to cancel.
    pub fn run<T, F, W>(&self, action: &'static str, patience: Duration, work: W) -> Result<T, LinkError>
    where
        T: Send + 'static,
        F: Future<Output = Result<T, tokio_postgres::Error>> + Send + 'static,
        W: FnOnce(Arc<Client>) -> F,
    {
        let (place, warned, tls) = (self.server.place().to_owned(), self.warned.clone(), self.server.tls());
        let (working, cancel) = (work(Arc::clone(&self.client)), self.client.cancel_token());
        wait(&self.server.handle(), async move {
            let Ok(outcome) = tokio::time::timeout(patience, working).await else {
                // Best effort: what holds a lock there should let go of it.
                let _asked = tokio::time::timeout(CANCEL, cancel.cancel_query(tls)).await;
                return Err(LinkError::Late { action, place, patience });
            };
            match (outcome, warned.take()) {
                (Err(source), _) => Err(LinkError::Statement { action, place, source }),
                (Ok(_), Some(warning)) => Err(LinkError::Warned { place, warning }),
                (Ok(value), None) => Ok(value),
            }
        })
    }

    /// Whether the connection is known to be gone.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.client.is_closed()
    }

    /// Which of the server's hosts this is.
    pub(crate) fn host(&self) -> usize {
        self.host
    }

    /// The server's settings when the link was made.
    pub(crate) fn settings(&self) -> &Settings {
        &self.settings
    }

    pub(crate) fn found(&mut self, settings: Settings) {
        self.settings = settings;
    }

    pub(crate) fn client(&self) -> Arc<Client> {
        Arc::clone(&self.client)
    }

    pub(crate) fn gone(&self) -> Arc<Notify> {
        Arc::clone(&self.gone)
    }

    pub(crate) fn warned(&self) -> Warned {
        self.warned.clone()
    }
}

/// Drives the connection. A warning is noted before the answer that it belongs to is handed on.
async fn listen<S, T>(mut connection: Connection<S, T>, warned: Warned, gone: Arc<Notify>)
where
    S: AsyncRead + AsyncWrite + Unpin,
    T: AsyncRead + AsyncWrite + Unpin,
{
    while let Some(Ok(message)) = poll_fn(|context| connection.poll_message(context)).await {
        if let AsyncMessage::Notice(notice) = message
            && notice.parsed_severity().is_none_or(|severity| severity == Severity::Warning)
        {
            let detail = notice.detail().map(|detail| format!(" ({detail})")).unwrap_or_default();
            warned.say(&format!("{}{detail}", notice.message()));
        }
    }
    gone.notify_one();
}
