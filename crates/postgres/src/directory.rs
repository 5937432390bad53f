//! The directory in PostgreSQL: the same answers as the embedded one, for many processes.
//!
//! ```text
//! submit ─► queue ─► a thread: all that wait, in one transaction ─► answers
//!                        lock the state's row · read the server's clock · decide and write each ask · commit
//! ```
//!
//! The lock makes one decision follow the other, wherever they are asked; those who wait share a commit. Looks take no lock, and
//! those for customers no transaction: each is one statement, all on their way at once. Times are the server's own, read after the
//! lock was had. An error leaves the outcome of the whole transaction unknown, and every ask may be sent again. Who stands still
//! with the lock loses it to the server's patience for idle transactions. Only tables and plain SQL.

mod aliases;
mod branches;
mod leases;
mod rows;
mod turn;

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::future::try_join_all;
use skerry_directory::{Answered, Ask, Busy, Directory, Fault, Now, Ticket, Told, Wake};
use tokio_postgres::types::Type;
use tokio_postgres::{Client, Error};

use self::turn::{Broken, Ruled, Turn};
use crate::link::Link;
use crate::server::Server;

/// Asks that share a transaction.
const TOGETHER: usize = 64;
/// Asks that may wait.
const WAITING_MAX: usize = 4_096;

/// See the module.
pub struct PostgresDirectory {
    asks: Option<Sender<(Ticket, Ask)>>,
    answers: Receiver<Answered>,
    waiting: Arc<AtomicUsize>,
    wake: Arc<Mutex<Option<Wake>>>,
    next: u64,
}

impl std::fmt::Debug for PostgresDirectory {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let waiting = self.waiting.load(Ordering::Relaxed);
        formatter.debug_struct("PostgresDirectory").field("waiting", &waiting).finish_non_exhaustive()
    }
}

impl PostgresDirectory {
    /// An endpoint of the directory of `bank` on `server`; it connects when it is first asked. Tables of another bank are left
    /// alone, and every ask is answered so. Where there are no tables they are made, and whoever made them before may have lost
    /// claims with them: customers are read from the branches only when those have run out.
    ///
    /// # Errors
    ///
    /// If the machine gives no thread.
    pub fn open(server: Server, bank: &str) -> std::io::Result<Self> {
        Self::begin(server, bank, rows::STATE_MADE_AGAIN)
    }

    /// The same for a bank that begins: where there are no tables, there was no claim.
    ///
    /// # Errors
    ///
    /// As [`open`](Self::open).
    pub fn found(server: Server, bank: &str) -> std::io::Result<Self> {
        Self::begin(server, bank, rows::STATE_FOUNDED)
    }

    fn begin(server: Server, bank: &str, state: &'static str) -> std::io::Result<Self> {
        let (asks, taken) = channel();
        let (told, answers) = channel();
        let (waiting, wake) = (Arc::new(AtomicUsize::new(0)), Arc::new(Mutex::new(None)));
        let bank = bank.to_owned();
        let (wake_there, link, silent) = (Arc::clone(&wake), None, false);
        let driver = Driver { server, bank, state, taken, told, wake: wake_there, link, silent };
        std::thread::Builder::new().name("directory-pg".into()).spawn(move || driver.run())?;
        Ok(Self { asks: Some(asks), answers, waiting, wake, next: 0 })
    }
}

impl Directory for PostgresDirectory {
    fn submit(&mut self, ask: Ask) -> Result<Ticket, Busy> {
        let waiting = self.waiting.load(Ordering::Relaxed);
        if waiting >= WAITING_MAX {
            return Err(Busy { waiting });
        }
        self.next += 1;
        self.waiting.fetch_add(1, Ordering::Relaxed);
        let asks = self.asks.as_ref().expect("only dropping takes it");
        asks.send((Ticket(self.next), ask)).expect("the thread lives as long as this does");
        Ok(Ticket(self.next))
    }

    fn poll(&mut self, _now: Now) -> Option<Answered> {
        let answered = self.answers.try_recv().ok()?;
        self.waiting.fetch_sub(1, Ordering::Relaxed);
        Some(answered)
    }

    fn next_due(&self) -> Option<u64> {
        None
    }

    fn on_event(&mut self, wake: Wake) {
        *self.wake.lock().unwrap_or_else(PoisonError::into_inner) = Some(wake);
    }
}

struct Driver {
    server: Server,
    bank: String,
    /// How the state's row is made where there is none.
    state: &'static str,
    taken: Receiver<(Ticket, Ask)>,
    told: Sender<Answered>,
    wake: Arc<Mutex<Option<Wake>>>,
    link: Option<Link>,
    /// It did not answer last, which was said once.
    silent: bool,
}

impl Driver {
    fn run(mut self) {
        while let Ok(first) = self.taken.recv() {
            let mut tickets = vec![first.0];
            let mut asks = vec![first.1];
            while asks.len() < TOGETHER
                && let Ok((ticket, ask)) = self.taken.try_recv()
            {
                tickets.push(ticket);
                asks.push(ask);
            }
            let carried_out = self.carry_out(asks);
            self.tell_silence(carried_out.as_ref().err());
            let outcomes = match carried_out {
                Ok(told) => told.into_iter().map(Ok).collect(),
                Err(why) => {
                    let fault = Fault::Unknown(why.into());
                    vec![Err(fault); tickets.len()]
                }
            };
            for (ticket, outcome) in tickets.into_iter().zip(outcomes) {
                if self.told.send(Answered { ticket, outcome }).is_err() {
                    return;
                }
            }
            let wake = self.wake.lock().unwrap_or_else(PoisonError::into_inner).clone();
            wake.into_iter().for_each(|wake| wake());
        }
    }

    /// Says when it falls silent, and when it answers again.
    fn tell_silence(&mut self, why: Option<&String>) {
        match (std::mem::replace(&mut self.silent, why.is_some()), why) {
            (false, Some(why)) => tracing::warn!(why, "the directory does not answer"),
            (true, None) => tracing::info!("the directory answers again"),
            _ => {}
        }
    }

    /// Carries asks out in one transaction.
    fn carry_out(&mut self, asks: Vec<Ask>) -> Result<Vec<Told>, String> {
        let link = match self.link.take().filter(|link| !link.is_closed()) {
            Some(link) => link,
            None => self.connect()?,
        };
        let patience = self.patience();
        match link.run("carry out what the directory was asked", patience, |client| together(client, asks)) {
            Ok(Ok(told)) => {
                self.link = Some(link);
                Ok(told)
            }
            Ok(Err(table)) => Err(format!(
                "{}: a row of the directory's {table} is none that was written",
                self.server.place()
            )),
            // What the connection is in the middle of nobody knows: another one begins anew.
            Err(error) => Err(error.to_string()),
        }
    }

    fn patience(&self) -> Duration {
        self.server.options().patience
    }

    fn connect(&mut self) -> Result<Link, String> {
        let link = self.server.connect().map_err(|error| error.to_string())?;
        let make = |client| make(client, self.state, self.bank.clone());
        let mut made = link.run("make the directory's tables", self.patience(), make);
        if matches!(&made, Err(error) if error.is_made_already()) {
            made = link.run("find the directory's tables", self.patience(), make);
        }
        let (format, bank) = made.map_err(|error| error.to_string())?;
        let place = self.server.place().to_owned();
        if format != rows::FORMAT {
            return Err(format!(
                "{place}: the directory has format {format}, this release reads {}",
                rows::FORMAT
            ));
        }
        if bank != self.bank {
            return Err(format!("{place} holds the directory of bank {bank:?}, not of {:?}", self.bank));
        }
        // Should they be lost from now on, claims may be lost with them.
        self.state = rows::STATE_MADE_AGAIN;
        Ok(link)
    }
}

/// The format and the bank that the tables say.
async fn make(client: Arc<Client>, state: &str, bank: String) -> Result<(i32, String), Error> {
    // Two that make the same table at once get in each other's way: the later one finds it made.
    for table in rows::TABLES {
        client.batch_execute(table).await?;
    }
    client.execute_typed(state, &[(&bank.as_str(), Type::TEXT)]).await?;
    let row = client.query_typed_one(rows::WHOSE, &[]).await?;
    Ok((row.try_get(0)?, row.try_get(1)?))
}

const fn is_look(ask: &Ask) -> bool {
    matches!(ask, Ask::Find(_) | Ask::FindMoved(_))
}

/// The answers, or the table of a row that cannot be what was written.
async fn together(client: Arc<Client>, asks: Vec<Ask>) -> Result<Result<Vec<Told>, &'static str>, Error> {
    let told = if asks.iter().all(is_look) {
        try_join_all(asks.iter().map(|ask| look(&client, ask))).await
    } else {
        in_one_transaction(&client, asks).await
    };
    match told {
        Ok(told) => Ok(Ok(told)),
        Err(Broken::Row(table)) => Ok(Err(table)),
        Err(Broken::Server(error)) => Err(error),
    }
}

async fn in_one_transaction(client: &Client, asks: Vec<Ask>) -> Result<Vec<Told>, Broken> {
    let looks = asks.iter().all(|ask| is_look(ask) || matches!(ask, Ask::Map { .. }));
    let begin = if looks { "begin isolation level repeatable read read only" } else { "begin" };
    client.batch_execute(begin).await?;
    let mut turn = Turn::begin(client, !looks).await?;
    let mut told = Vec::with_capacity(asks.len());
    for ask in asks {
        told.push(match ask.check() {
            Ok(()) => turn.handle(ask).await?,
            Err(refusal) => Told::No(refusal),
        });
    }
    turn.end().await?;
    client.batch_execute("commit").await?;
    Ok(told)
}

async fn look(client: &Client, ask: &Ask) -> Ruled {
    match ask.check() {
        Ok(()) => turn::look(client, ask).await,
        Err(refusal) => turn::no(refusal),
    }
}
