//! The calls that programs make most, typed. Everything else goes by path: see [`Client::get`] and
//! [`Client::send_json`].

use bytes::Bytes;
use hyper::Method;
use serde_json::{Value, json};

use crate::client::Client;
use crate::error::Error;
use crate::wire::{
    Account, Branches, Customer, CustomerDone, Entries, Events, NewAccount, NewCustomer, Payment, Receipt,
    Transfer, TransferDone,
};

/// What of a statement is asked for; empty asks for the newest page.
#[derive(Debug, Clone, Default)]
pub struct EntryFilter {
    /// Oldest first.
    pub oldest_first: bool,
    /// Lines on a page.
    pub limit: Option<usize>,
    /// `next` or `previous` of another page.
    pub cursor: Option<String>,
    /// The client's classification.
    pub code: Option<u16>,
    /// The client's text, whole.
    pub reference: Option<String>,
    /// First and last business date.
    pub business_dates: Option<(String, String)>,
}

impl EntryFilter {
    fn query(&self) -> String {
        let mut query = String::from(if self.oldest_first { "order=asc" } else { "order=desc" });
        let mut add = |name: &str, value: &str| {
            query.push('&');
            query.push_str(name);
            query.push('=');
            query.push_str(&escaped(value));
        };
        if let Some(limit) = self.limit {
            add("limit", &limit.to_string());
        }
        if let Some(cursor) = &self.cursor {
            add("cursor", cursor);
        }
        if let Some(code) = self.code {
            add("code", &code.to_string());
        }
        if let Some(reference) = &self.reference {
            add("reference", reference);
        }
        if let Some((from, to)) = &self.business_dates {
            add("business_from", from);
            add("business_to", to);
        }
        query
    }
}

/// A value for a query or path: everything but unreserved characters in per cent (RFC 3986, 2.1).
fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => out.push(char::from(byte)),
            other => out.push_str(&format!("%{other:02X}")),
        }
    }
    out
}

/// Every call fails with [`Error`]: refused by the bank, or not reached.
#[expect(clippy::missing_errors_doc, reason = "said once, for all calls, right above")]
impl Client {
    /// Opens a customer under an idempotency key.
    pub async fn create_customer(&self, new: &NewCustomer, key: &str) -> Result<CustomerDone, Error> {
        self.post_keyed("/v1/customers", key, new).await
    }

    /// Looks at a customer.
    pub async fn customer(&self, id: &str) -> Result<Customer, Error> {
        self.get(&format!("/v1/customers/{}", escaped(id))).await
    }

    /// Opens an account under an idempotency key.
    pub async fn open_account(&self, customer: &str, new: &NewAccount, key: &str) -> Result<Account, Error> {
        self.post_keyed(&format!("/v1/customers/{}/accounts", escaped(customer)), key, new).await
    }

    /// Looks at an account.
    pub async fn account(&self, number: &str) -> Result<Account, Error> {
        self.get(&format!("/v1/accounts/{}", escaped(number))).await
    }

    /// Reads a page of a statement.
    pub async fn entries(&self, number: &str, filter: &EntryFilter) -> Result<Entries, Error> {
        self.get(&format!("/v1/accounts/{}/entries?{}", escaped(number), filter.query())).await
    }

    /// Moves money. Its id makes trying again safe.
    pub async fn transfer(&self, transfer: &Transfer) -> Result<TransferDone, Error> {
        self.post("/v1/transfers", transfer).await
    }

    /// Tells where the money of a payment to another branch is.
    pub async fn payment(&self, id: &str) -> Result<Payment, Error> {
        self.get(&format!("/v1/payments/{}", escaped(id))).await
    }

    /// Moves money many times, in order; each result is a [`TransferDone`] or a problem.
    pub async fn transfers(&self, transfers: &[Transfer]) -> Result<Vec<Value>, Error> {
        let answer: Value = self.post("/v1/transfers/batch", &json!({"transfers": transfers})).await?;
        match answer {
            Value::Object(mut fields) => match fields.remove("results") {
                Some(Value::Array(results)) => Ok(results),
                _ => Err(Error::Unexpected { status: 200, text: "no results in the answer".to_owned() }),
            },
            _ => Err(Error::Unexpected { status: 200, text: "the answer is no object".to_owned() }),
        }
    }

    /// Posts a pending transfer in full, under a new id.
    pub async fn post_pending(&self, location: &str, id: &str) -> Result<TransferDone, Error> {
        self.post(&format!("{location}/post"), &json!({"id": id})).await
    }

    /// Voids a pending transfer, under a new id.
    pub async fn void_pending(&self, location: &str, id: &str) -> Result<TransferDone, Error> {
        self.post(&format!("{location}/void"), &json!({"id": id})).await
    }

    /// Reverses a posted transfer; it happens once however often it is asked.
    pub async fn reverse(&self, location: &str) -> Result<TransferDone, Error> {
        self.post(&format!("{location}/reverse"), &json!({})).await
    }

    /// Fetches the receipt of the transfer at `location`.
    pub async fn receipt(&self, location: &str) -> Result<Receipt, Error> {
        self.get(&format!("{location}/receipt")).await
    }

    /// Lists the branches.
    pub async fn branches(&self) -> Result<Branches, Error> {
        self.get("/v1/branches").await
    }

    /// Reads a page of events after a cursor; empty begins at the beginning.
    pub async fn events(&self, after: &str) -> Result<Events, Error> {
        self.get(&format!("/v1/events?after={}", escaped(after))).await
    }

    /// Erases a customer, if the law lets go.
    pub async fn erase_customer(&self, id: &str, key: &str) -> Result<(), Error> {
        let path = format!("/v1/customers/{}", escaped(id));
        self.call(Method::DELETE, &path, None, Bytes::new(), &[("idempotency-key", key)]).await.map(drop)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn filters_become_a_query() {
        let filter =
            EntryFilter { limit: Some(5), reference: Some("a b&c".into()), ..EntryFilter::default() };
        assert_eq!(filter.query(), "order=desc&limit=5&reference=a%20b%26c");
        assert_eq!(EntryFilter { oldest_first: true, ..EntryFilter::default() }.query(), "order=asc");
    }
}
