//! Customers' keys in the store of their branch's journal, so that whoever may open the branch there can read its names.
//!
//! A row a key, wrapped by the master key as everywhere. The numbers are dense, and the table's own primary key gives each out once:
//! an owner adds rows under the numbers that it believes to be next; if another owner was there first, the statement fails as a whole
//! and the end is looked up. So keys need no epoch, and an owner that does not know yet that it is none does no harm.
//!
//! Nothing is remembered of what the table holds, for another process may erase: each unsealing reads its row. Only a key that was made
//! here and that nothing was sealed under yet is still at hand, so a new customer costs a part of the statement that made keys for many.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use skerry_journal::Storage;
use skerry_keys::{Entropy, KeyError, KeyRef, Keys, Master, Secret, SlotCopy, WRAPPED};
use tokio_postgres::types::{ToSql, Type};
use tokio_postgres::{Client, Error, Row};

use crate::check::{column, number};
use crate::error::LinkError;
use crate::ground::Ground;
use crate::link::Link;
use crate::pool::Pool;
use crate::schema;
use crate::server::Durability;

/// Keys made here that nothing was sealed under yet, at most; more are read again when they are needed.
const FRESH_MAX: usize = 4_096;
/// Attempts at finding numbers that are free while others take them too.
const ATTEMPTS: usize = 32;

type Value<'a> = (&'a (dyn ToSql + Sync), Type);

/// See the module.
pub struct PostgresKeys {
    pool: Pool,
    branch: u16,
    bank: String,
    master: Master,
    state: Mutex<State>,
}

struct State {
    entropy: Entropy,
    /// The tables are there and the master key fits.
    is_known: bool,
    /// The number that is believed to be next.
    next: Option<u64>,
    fresh: BTreeMap<KeyRef, Secret>,
}

impl std::fmt::Debug for PostgresKeys {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("PostgresKeys").field("place", &self.place()).finish_non_exhaustive()
    }
}

impl PostgresKeys {
    /// The keys of `branch` of `bank` in the store that `pool` reaches, wrapped by `master`. It connects at the first call, which
    /// makes what is missing and refuses what is another's.
    #[must_use]
    pub fn new(pool: Pool, branch: u16, bank: &str, master: [u8; 32], entropy: Entropy) -> Self {
        let state = State { entropy, is_known: false, next: None, fresh: BTreeMap::new() };
        let (master, state) = (Master::new(master), Mutex::new(state));
        Self { pool, branch, bank: bank.to_owned(), master, state }
    }

    fn place(&self) -> String {
        place(&self.pool, self.branch)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // What it holds is consistent between any two changes.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn fault(&self, error: LinkError) -> KeyError {
        fault(&self.pool, self.branch, error)
    }

    fn durable(&self) -> bool {
        self.pool.server().options().durability == Durability::Replicated
    }

    /// The state, once the tables are there and the master key fits. Whoever has it must not wait for the store meanwhile: others who
    /// want a key would wait as well, one after the other.
    fn known(&self) -> Result<MutexGuard<'_, State>, KeyError> {
        let state = self.lock();
        if state.is_known {
            return Ok(state);
        }
        drop(state);
        let header = match header(&self.pool, self.branch) {
            Ok(Some(header)) => header,
            Ok(None) => self.make()?,
            Err(error) if error.is_missing_table() => self.make()?,
            Err(error) => return Err(self.fault(error)),
        };
        let check = |link: &Link| Ground { server: self.pool.server(), link }.check_meta(&self.bank);
        self.pool.lend(check).map_err(|error| self.fault(error))?;
        self.master.unwrap(KeyRef(0), &header).ok_or(KeyError::WrongMaster)?;
        let mut state = self.lock();
        state.is_known = true;
        Ok(state)
    }

    /// Makes the tables and the key that they are known by; what is there by then counts.
    fn make(&self) -> Result<Vec<u8>, KeyError> {
        let wrapped = self.master.wrap(KeyRef(0), &Secret::of_header(), &mut self.lock().entropy);
        let branch = i32::from(self.branch);
        let made = self.pool.lend(|link| {
            let ground = Ground { server: self.pool.server(), link };
            schema::KEY_TABLES.iter().try_for_each(|table| ground.make((*table).to_owned()))?;
            ground.check_meta(&self.bank)?;
            ground.run("begin a branch's keys", |client| async move {
                let values: [Value<'_>; 2] = [(&branch, Type::INT4), (&&wrapped[..], Type::BYTEA)];
                client.execute_typed(schema::KEY_HEADER, &values).await
            })
        });
        let found = made.and_then(|_| header(&self.pool, self.branch)).map_err(|error| self.fault(error))?;
        found.ok_or(KeyError::Format)
    }

    /// The number after the last one that was ever taken.
    fn end(&self) -> Result<u64, KeyError> {
        let branch = i32::from(self.branch);
        let read = move |client: Arc<Client>| async move {
            let row = client.query_typed_one(schema::KEY_LAST, &[(&branch, Type::INT4)]).await?;
            let last: Option<i64> = row.try_get(0)?;
            Ok(last.and_then(|last| u64::try_from(last).ok()).unwrap_or(0) + 1)
        };
        let found = self.pool.lend(|link| self.run(link, "look for the last key", read));
        found.map_err(|error| self.fault(error))
    }

    fn run<T: Send + 'static, F>(
        &self,
        link: &Link,
        action: &'static str,
        work: impl FnOnce(Arc<Client>) -> F,
    ) -> Result<T, LinkError>
    where
        F: Future<Output = Result<T, Error>> + Send + 'static,
    {
        link.run(action, self.pool.server().options().patience, work)
    }

    /// Runs a statement that changes rows; its guard's values are added where commits wait for a standby. How many rows it changed.
    fn write(&self, action: &'static str, text: &str, given: &Given) -> Result<u64, LinkError> {
        self.pool.lend(|link| {
            let settings = link.settings();
            let guard = self
                .durable()
                .then(|| (settings.synchronous_standby_names.clone(), settings.synchronous_commit.clone()));
            let (text, given) = (text.to_owned(), given.clone());
            self.run(link, action, |client| async move {
                let mut values = given.values();
                if let Some((names, commit)) = &guard {
                    values.push((names, Type::TEXT));
                    values.push((commit, Type::TEXT));
                }
                client.execute_typed(&text, &values).await
            })
        })
    }

    /// New keys under these numbers, and how they are wrapped.
    fn draw(&self, made: &[KeyRef]) -> (Vec<Secret>, Vec<Vec<u8>>) {
        let entropy = &mut self.lock().entropy;
        let secrets: Vec<Secret> = made.iter().map(|_| Secret::draw(entropy)).collect();
        let wrap = |(key, secret): (&KeyRef, _)| self.master.wrap(*key, secret, entropy).to_vec();
        let wrapped = made.iter().zip(&secrets).map(wrap).collect();
        (secrets, wrapped)
    }

    fn is_guarded(&self, changed: u64, expected: u64) -> Result<(), LinkError> {
        if changed == expected {
            return Ok(());
        }
        let what = "the settings that make commits wait for a standby have changed".to_owned();
        Err(LinkError::Unsafe { place: self.place(), what })
    }

    /// Reads a key. The row is asked for each time: what another process erased must not be read here.
    fn read(&self, key: KeyRef) -> Result<Secret, KeyError> {
        if key.0 == 0 {
            return Err(KeyError::Unknown(0));
        }
        let found = self
            .pool
            .lend(|link| self.run(link, "read a key", move |client| wrapped(client, self.branch, key)));
        match found.map_err(|error| self.fault(error))? {
            None => Err(KeyError::Unknown(key.0)),
            Some(None) => Err(KeyError::Erased),
            Some(Some(wrapped)) => self.master.unwrap(key, &wrapped).ok_or(KeyError::Unknown(key.0)),
        }
    }
}

/// How many numbers to leave out after so many attempts, so that owners who try at the same time do not meet again and again.
fn ahead(attempts: usize, count: usize, entropy: &mut Entropy) -> u64 {
    if attempts == 0 {
        return 0;
    }
    let mut byte = [0];
    entropy(&mut byte);
    u64::from(byte[0] % 8) * u64::try_from(count).unwrap_or(1)
}

/// The values of a statement that changes rows, for as many attempts as it takes.
#[derive(Clone)]
enum Given {
    Made { branch: i32, numbers: Vec<i64>, wrapped: Vec<Vec<u8>> },
    Erased { branch: i32, key: i64 },
}

impl Given {
    fn values(&self) -> Vec<Value<'_>> {
        match self {
            Self::Made { branch, numbers, wrapped } => {
                vec![(branch, Type::INT4), (numbers, Type::INT8_ARRAY), (wrapped, Type::BYTEA_ARRAY)]
            }
            Self::Erased { branch, key } => vec![(branch, Type::INT4), (key, Type::INT8)],
        }
    }
}

impl Keys for PostgresKeys {
    fn create(&self, count: usize) -> Result<Vec<KeyRef>, KeyError> {
        if count == 0 {
            return self.known().map(|_known| Vec::new());
        }
        let text = schema::keys_made(self.durable());
        for attempt in 0..ATTEMPTS {
            // Unless it comes out well, the end is looked up: the numbers of a statement whose outcome is not known are burnt.
            let next = self.known()?.next.take();
            let first = match next {
                Some(next) => next,
                None => self.end()? + ahead(attempt, count, &mut self.lock().entropy),
            };
            let made: Vec<KeyRef> = (first..).take(count).map(KeyRef).collect();
            let (secrets, wrapped) = self.draw(&made);
            let numbers = made.iter().map(|key| column(key.0)).collect();
            let given = Given::Made { branch: i32::from(self.branch), numbers, wrapped };
            let changed = match self.write("keep new keys", &text, &given) {
                // Somebody else took one of the numbers.
                Err(error) if error.is_made_already() => continue,
                other => other.map_err(|error| self.fault(error))?,
            };
            let expected = made.len().try_into().unwrap_or(u64::MAX);
            self.is_guarded(changed, expected).map_err(|error| self.fault(error))?;
            let mut state = self.lock();
            state.fresh.extend(made.iter().copied().zip(secrets));
            while state.fresh.len() > FRESH_MAX {
                state.fresh.pop_first();
            }
            // Another thread may have come further meanwhile.
            state.next = state.next.max(made.last().map(|last| last.0 + 1));
            return Ok(made);
        }
        let what = "others make keys as fast as we do".to_owned();
        Err(self.fault(LinkError::Configuration { place: self.place(), what }))
    }

    fn seal(&self, key: KeyRef, plain: &[u8]) -> Result<Vec<u8>, KeyError> {
        // Until something was sealed under it there is nothing that an erasure could have been about.
        let fresh = self.known()?.fresh.remove(&key);
        let secret = match fresh {
            Some(secret) => secret,
            None => self.read(key)?,
        };
        Ok(secret.seal(key, plain, &mut self.lock().entropy))
    }

    fn unseal(&self, key: KeyRef, sealed: &[u8]) -> Result<Vec<u8>, KeyError> {
        drop(self.known()?);
        self.read(key)?.unseal(key, sealed)
    }

    fn erase(&self, key: KeyRef) -> Result<(), KeyError> {
        self.known()?.fresh.remove(&key);
        if key.0 == 0 {
            return Ok(());
        }
        let given = Given::Erased { branch: i32::from(self.branch), key: column(key.0) };
        let changed = self.write("erase a key", &schema::key_erased(self.durable()), &given);
        changed.and_then(|changed| self.is_guarded(changed, 1)).map_err(|error| self.fault(error))
    }

    fn erased(&self) -> Result<Vec<KeyRef>, KeyError> {
        drop(self.known()?);
        erased_keys(&self.pool, self.branch)
    }

    fn not_erased(&self, keys: &[KeyRef]) -> Result<Vec<KeyRef>, KeyError> {
        drop(self.known()?);
        if keys.is_empty() {
            return Ok(Vec::new());
        }
        let numbers: Vec<i64> = keys.iter().map(|key| column(key.0)).collect();
        let branch = i32::from(self.branch);
        let gone = self.pool.lend(|link| {
            let numbers = numbers.clone();
            self.run(link, "look for erased keys", |client| async move {
                let values: [Value<'_>; 2] = [(&branch, Type::INT4), (&numbers, Type::INT8_ARRAY)];
                let rows = client.query_typed(schema::KEYS_GONE, &values).await?;
                rows.iter().map(|row| number(row, 0)).collect::<Result<std::collections::BTreeSet<u64>, _>>()
            })
        });
        let gone = gone.map_err(|error| self.fault(error))?;
        Ok(keys.iter().copied().filter(|key| !gone.contains(&key.0)).collect())
    }
}

fn place(pool: &Pool, branch: u16) -> String {
    format!("{}, keys of branch {branch}", pool.server().place())
}

fn fault(pool: &Pool, branch: u16, error: LinkError) -> KeyError {
    let place = place(pool, branch);
    if error.is_away() {
        KeyError::Away(format!("{place}: {error}"))
    } else {
        KeyError::Storage(error.into_storage(&place))
    }
}

/// The wrapped key that a branch's keys are known by, if there are any.
fn header(pool: &Pool, branch: u16) -> Result<Option<Vec<u8>>, LinkError> {
    let read = |client| wrapped(client, branch, KeyRef(0));
    let patience = pool.server().options().patience;
    let found = pool.lend(|link| link.run("look for a branch's keys", patience, read))?;
    Ok(found.flatten())
}

/// A key's row: its wrapped bytes, nothing if it is erased.
async fn wrapped(client: Arc<Client>, branch: u16, key: KeyRef) -> Result<Option<Option<Vec<u8>>>, Error> {
    let values: [Value<'_>; 2] = [(&i32::from(branch), Type::INT4), (&column(key.0), Type::INT8)];
    let rows = client.query_typed(schema::KEY_READ, &values).await?;
    rows.first().map(|row| row.try_get(0)).transpose()
}

/// The keys of `branch` that are erased in a store, without a master key: what a restored copy must not bring back.
///
/// # Errors
///
/// As the store says.
pub fn erased_keys(pool: &Pool, branch: u16) -> Result<Vec<KeyRef>, KeyError> {
    let mut erased: Vec<KeyRef> = Vec::new();
    pages(pool, branch, schema::KEYS_ERASED, |key, _| {
        erased.push(key);
        Ok(())
    })?;
    Ok(erased)
}

/// Copies the keys of `branch` out of a store into key files in `target`, as they are wrapped. Beside a running bank too.
///
/// # Errors
///
/// As the store or the storage says; [`KeyError::Format`] if the branch has no keys there.
pub fn copy_keys<S: Storage>(pool: &Pool, branch: u16, target: &S) -> Result<(), KeyError> {
    let fault = |error| fault(pool, branch, error);
    let header = header(pool, branch).map_err(fault)?.ok_or(KeyError::Format)?;
    let header: [u8; WRAPPED] = header.try_into().map_err(|_| KeyError::Format)?;
    let copy = SlotCopy::begin(target, &header)?;
    pages(pool, branch, schema::KEYS_ALL, |key, row| {
        let place = || pool.server().place().to_owned();
        let unread = |source| fault(LinkError::Statement { action: "read keys", place: place(), source });
        let wrapped: Option<&[u8]> = row.try_get(1).map_err(unread)?;
        let wrapped: Option<&[u8; WRAPPED]> =
            wrapped.map(TryInto::try_into).transpose().map_err(|_| KeyError::Format)?;
        copy.put(key, wrapped)
    })?;
    copy.finish()
}

/// Visits rows in order of their keys, a page at a time.
fn pages(
    pool: &Pool,
    branch: u16,
    text: &'static str,
    mut visit: impl FnMut(KeyRef, &Row) -> Result<(), KeyError>,
) -> Result<(), KeyError> {
    let (mut after, branch_column) = (0, i32::from(branch));
    loop {
        let read = |link: &Link| {
            link.run("read keys", crate::open::READ, |client| async move {
                let values: [Value<'_>; 2] = [(&branch_column, Type::INT4), (&column(after), Type::INT8)];
                let rows = client.query_typed(text, &values).await?;
                let numbers: Vec<u64> = rows.iter().map(|row| number(row, 0)).collect::<Result<_, _>>()?;
                Ok((numbers, rows))
            })
        };
        let (numbers, rows) = pool.lend(read).map_err(|error| fault(pool, branch, error))?;
        let Some(last) = numbers.last() else { return Ok(()) };
        after = *last;
        for (number, row) in numbers.iter().zip(&rows) {
            visit(KeyRef(*number), row)?;
        }
    }
}
