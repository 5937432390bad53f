//! One transaction: what each ask comes to, decided on the rows as they are under the lock.

use skerry_directory::{Ask, BranchEntry, Finding, Holder, LeaseView, Map, NodeEntry, Refusal, Told};
use tokio_postgres::types::{ToSql, Type};
use tokio_postgres::{Client, Error, Row};

use super::aliases;
use super::rows::{self, signed, unsigned};

pub(super) type Given<'a> = (&'a (dyn ToSql + Sync), Type);
pub(super) type Ruled = Result<Told, Broken>;

pub(super) const fn no(refusal: Refusal) -> Ruled {
    Ok(Told::No(refusal))
}

/// Why a transaction ends without an answer.
#[derive(Debug)]
pub(super) enum Broken {
    /// The server refused, or is gone.
    Server(Error),
    /// A row of this table cannot be what was written: nothing is guessed.
    Row(&'static str),
}

impl From<Error> for Broken {
    fn from(error: Error) -> Self {
        Self::Server(error)
    }
}

pub(super) fn whole<T>(read: Option<T>, table: &'static str) -> Result<T, Broken> {
    read.ok_or(Broken::Row(table))
}

/// Where a customer is: one statement.
pub(super) async fn look(client: &Client, ask: &Ask) -> Ruled {
    match ask {
        Ask::Find(alias) => Ok(Told::Found(match aliases::known(client, alias).await? {
            None => Finding::Nobody,
            Some(known) => {
                known.customer().map_or(Finding::Reserved { branch: known.branch }, Finding::Customer)
            }
        })),
        Ask::FindMoved(customer) => Ok(Told::Moved(aliases::moved(client, *customer).await?)),
        other => unreachable!("{other:?} is no look"),
    }
}

/// See the module.
pub(super) struct Turn<'a> {
    pub(super) client: &'a Client,
    pub(super) now_us: u64,
    pub(super) complete: bool,
    pub(super) rebuild: u64,
    pub(super) version: u64,
    pub(super) claims: u64,
    pub(super) claims_over_us: u64,
    /// Leases that were lost with the tables have run out by then.
    pub(super) leases_over_us: u64,
    pub(super) changed: bool,
}

impl<'a> Turn<'a> {
    /// Takes the lock unless nothing is to be changed; the clock is read once it is had.
    pub(super) async fn begin(client: &'a Client, locked: bool) -> Result<Self, Broken> {
        let state = if locked { format!("{} for update", rows::STATE) } else { rows::STATE.to_owned() };
        let row = client.query_typed_one(&state, &[]).await?;
        let now = client.query_typed_one(rows::NOW, &[]).await?;
        Ok(Self {
            client,
            now_us: unsigned(now.try_get(0)?),
            complete: row.try_get(0)?,
            rebuild: unsigned(row.try_get(1)?),
            version: unsigned(row.try_get(2)?),
            claims: unsigned(row.try_get(3)?),
            claims_over_us: unsigned(row.try_get(4)?),
            leases_over_us: unsigned(row.try_get(5)?),
            changed: false,
        })
    }

    /// Writes the state's row back.
    pub(super) async fn end(self) -> Result<(), Broken> {
        if self.changed {
            let given: [Given<'_>; 5] = [
                (&self.complete, Type::BOOL),
                (&signed(self.rebuild), Type::INT8),
                (&signed(self.version), Type::INT8),
                (&signed(self.claims), Type::INT8),
                (&signed(self.claims_over_us), Type::INT8),
            ];
            self.client.execute_typed(rows::STATE_WRITE, &given).await?;
        }
        Ok(())
    }

    pub(super) async fn query(&self, sql: &str, given: &[Given<'_>]) -> Result<Vec<Row>, Broken> {
        Ok(self.client.query_typed(sql, given).await?)
    }

    pub(super) async fn write(&self, sql: &str, given: &[Given<'_>]) -> Result<u64, Broken> {
        Ok(self.client.execute_typed(sql, given).await?)
    }

    /// The map is another from now on.
    pub(super) const fn another_map(&mut self) {
        self.version += 1;
        self.changed = true;
    }

    pub(super) async fn handle(&mut self, ask: Ask) -> Ruled {
        match ask {
            Ask::Map { since } if since == self.version => Ok(Told::Unchanged),
            Ask::Map { .. } => Ok(Told::Map(Box::new(self.map().await?))),
            Ask::Find(_) | Ask::FindMoved(_) => look(self.client, &ask).await,
            Ask::Reserve(wish) => self.reserve(&wish).await,
            Ask::Confirm { aliases, customer } => self.confirm(&aliases, customer).await,
            Ask::Release { alias, claim } => self.release(&alias, claim).await,
            Ask::Forget { aliases, customer } => self.forget(&aliases, customer).await,
            Ask::PutMoved { customer, branch } => self.put_moved(customer, branch).await,
            Ask::Rebuild(step) => self.rebuild(step).await,
            Ask::AddBranch(row) => self.add_branch(row).await,
            Ask::Steer { branch, setting } => self.steer(branch, &setting).await,
            Ask::Report(rooms) => self.report(&rooms).await,
            Ask::PutStore(row) => self.put_store(&row).await,
            Ask::DropStore(name) => self.drop_store(name).await,
            Ask::UseBus { bus, by } => self.use_bus(&bus, &by).await,
            Ask::Beat { node, follows } => self.beat(&node, &follows).await,
            Ask::Drain { node, by } => self.drain(node, by.as_ref()).await,
            Ask::DropNode(name) => self.drop_node(name).await,
            Ask::Acquire { branch, holder, lease_us } => self.acquire(branch, &holder, lease_us).await,
            Ask::Renew { branches, holder, lease_us } => self.renew(&branches, &holder, lease_us).await,
            Ask::GiveUp { leases, holder } => self.give_up(&leases, &holder).await,
        }
    }

    async fn map(&self) -> Result<Map, Broken> {
        let branches = self.branches().await?.into_iter().map(|branch| BranchEntry {
            lease: branch.lease.filter(|lease| lease.until_us > self.now_us).map(|lease| LeaseView {
                holder: Holder { node: lease.node, incarnation: lease.incarnation },
                grant: lease.grant,
                left_us: lease.until_us - self.now_us,
            }),
            row: branch.row,
            room: branch.room,
        });
        let stores = self
            .query("select name, kind, place from skerry.directory_store order by name collate \"C\"", &[]);
        let stores =
            stores.await?.iter().map(|row| whole(rows::store(row), "stores")).collect::<Result<_, _>>()?;
        let nodes = "select name, address, capacity, version, draining, seen_us from skerry.directory_node \
                     order by name collate \"C\"";
        let nodes = self.query(nodes, &[]).await?;
        let (mut drains, mut follows) = (self.drains().await?, self.follows().await?);
        let entry = |row: &Row| {
            let (row, seen_us) = whole(rows::node(row), "nodes")?;
            let drain = drains.remove(&row.name);
            let follows = follows.remove(&row.name).unwrap_or_default();
            Ok(NodeEntry { row, silent_us: self.now_us.saturating_sub(seen_us), drain, follows })
        };
        Ok(Map {
            version: self.version,
            rebuilding: !self.complete,
            branches: branches.collect(),
            stores,
            nodes: nodes.iter().map(entry).collect::<Result<_, Broken>>()?,
            bus: self.bus().await?,
        })
    }
}
