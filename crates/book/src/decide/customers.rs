//! Customers: known by their document, sealed, and erased when the law allows.

use skerry_ledger::Stamp;
use skerry_money::Date;

use super::{Decided, plain, today};
use crate::book::Book;
use crate::command::{ChangeCustomer, Context, Done, OpenCustomer, SEALED_MAX};
use crate::customers::Customer;
use crate::event::{CustomerChanged, CustomerErased, CustomerOpened, Event};
use crate::rejection::Rejection;

impl Book {
    pub(super) fn decide_open_customer(&self, wish: &OpenCustomer, context: &Context) -> Decided {
        let at = context.stamp;
        check_sealed(&wish.sealed)?;
        if wish.opened.is_some() && !context.actor.role.may_operate() {
            return Err(Rejection::OperatorsOnly);
        }
        let opened = opened(wish.opened, at)?;
        if let Some(customer) = self.customer_by_document(wish.line, &wish.document) {
            return Err(Rejection::DocumentKnown { customer });
        }
        let capacity = self.life.terms.as_ref().map_or(0, |terms| terms.capacity);
        let count = self.customers.len();
        let customer = count.checked_add(1).filter(|_| count < capacity);
        let customer = customer.ok_or(Rejection::CustomersFull { capacity })?;
        let event = CustomerOpened {
            at,
            customer,
            document: wish.document,
            key_ref: wish.key_ref,
            line: wish.line,
            opened,
            sealed: wish.sealed.clone(),
        };
        Ok((alloc::vec![Event::CustomerOpened(event)], Done::Customer(customer)))
    }

    pub(super) fn decide_change_customer(&self, wish: &ChangeCustomer, at: Stamp) -> Decided {
        let customer = self.living(wish.customer)?;
        check_sealed(&wish.sealed)?;
        if let Some(document) = wish.document {
            match self.customer_by_document(customer.line, &document) {
                Some(other) if other != wish.customer => {
                    return Err(Rejection::DocumentKnown { customer: other });
                }
                _ => (),
            }
        }
        let ChangeCustomer { customer, document, ref sealed } = *wish;
        plain(Event::CustomerChanged(CustomerChanged { at, customer, document, sealed: sealed.clone() }))
    }

    pub(super) fn decide_erase(&self, serial: u32, at: Stamp) -> Decided {
        let customer = self.living(serial)?;
        let open =
            self.accounts(serial).filter(|(_, account)| !account.is_closed() || account.is_closing()).count();
        if open > 0 {
            return Err(Rejection::CustomerHasAccounts { open: u32::try_from(open).unwrap_or(u32::MAX) });
        }
        let days = i32::try_from(self.life.policy.retention_days).unwrap_or(i32::MAX);
        let until = customer.ended.0.saturating_add(days);
        if today(at).0 < until {
            return Err(Rejection::RetentionNotOver { today: today(at).0, until });
        }
        plain(Event::CustomerErased(CustomerErased { at, customer: serial, key_ref: customer.key_ref }))
    }

    /// The customer, unless erased.
    pub(super) fn living(&self, serial: u32) -> Result<&Customer, Rejection> {
        let customer = self.customers.get(serial).ok_or(Rejection::CustomerNotFound)?;
        if customer.erased { Err(Rejection::CustomerErased) } else { Ok(customer) }
    }
}

/// The date that is asked for, or today.
pub(super) fn opened(asked: Option<Date>, at: Stamp) -> Result<Date, Rejection> {
    match asked {
        Some(date) if date > today(at) => Err(Rejection::OpenedInFuture),
        asked => Ok(asked.unwrap_or(today(at))),
    }
}

fn check_sealed(sealed: &[u8]) -> Result<(), Rejection> {
    if (1..=SEALED_MAX).contains(&sealed.len()) {
        return Ok(());
    }
    let narrow = |length: usize| u32::try_from(length).unwrap_or(u32::MAX);
    Err(Rejection::SealedLength { length: narrow(sealed.len()), most: narrow(SEALED_MAX) })
}
