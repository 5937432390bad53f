//! The tables under everything: made where they are missing, and signed with whose bank they are.

use std::sync::Arc;

use tokio_postgres::Client;
use tokio_postgres::types::{ToSql, Type};

use crate::error::LinkError;
use crate::link::Link;
use crate::schema;
use crate::server::Server;

/// A link to a server on which tables of a bank may have to be made.
pub(crate) struct Ground<'a> {
    pub(crate) server: &'a Server,
    pub(crate) link: &'a Link,
}

impl Ground<'_> {
    pub(crate) fn run<T: Send + 'static, F>(
        &self,
        action: &'static str,
        work: impl FnOnce(Arc<Client>) -> F,
    ) -> Result<T, LinkError>
    where
        F: Future<Output = Result<T, tokio_postgres::Error>> + Send + 'static,
    {
        self.link.run(action, self.server.options().patience, work)
    }

    /// The server holds what it should not.
    pub(crate) fn strange(&self, what: &str) -> LinkError {
        LinkError::Configuration { place: self.server.place().to_owned(), what: what.to_owned() }
    }

    /// Runs a statement that makes something; that somebody else made it first is as good.
    pub(crate) fn make(&self, statement: String) -> Result<(), LinkError> {
        match self.run("make a table", |client| async move { client.batch_execute(&statement).await }) {
            Err(error) if error.is_made_already() => Ok(()),
            made => made,
        }
    }

    /// Whose bank it is, and in which layout.
    pub(crate) fn check_meta(&self, bank: &str) -> Result<(), LinkError> {
        for (name, value) in [("format", schema::FORMAT), ("bank", bank)] {
            let found = self.meta(name)?;
            let found = match found {
                Some(found) => found,
                None => {
                    let pair = [name.to_owned(), value.to_owned()];
                    self.run("sign the tables", |client| async move {
                        let values: [(&(dyn ToSql + Sync), Type); 2] =
                            [(&pair[0], Type::TEXT), (&pair[1], Type::TEXT)];
                        client.execute_typed(schema::META_WRITE, &values).await
                    })?;
                    self.meta(name)?.unwrap_or_default()
                }
            };
            if found != value {
                return Err(self.strange(&format!(
                    "its tables are of {name} {found:?}, not {value:?}: each bank needs a database of its own"
                )));
            }
        }
        Ok(())
    }

    fn meta(&self, name: &'static str) -> Result<Option<String>, LinkError> {
        self.run("read whose tables they are", |client| async move {
            let rows = client.query_typed(schema::META_READ, &[]).await?;
            for row in &rows {
                if row.try_get::<_, &str>(0)? == name {
                    return Ok(Some(row.try_get(1)?));
                }
            }
            Ok(None)
        })
    }
}
