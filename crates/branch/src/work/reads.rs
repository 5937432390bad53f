//! Looks at the book as it is now, the batch being filled included; the answers wait like all others.

use skerry_book::{Actor, Role};
use skerry_journal::Journal;
use skerry_ledger::Basis;

use super::Work;
use crate::api::{AccountView, Answer, CustomerView, Denied, Read, Reply, Scope};

impl<J: Journal> Work<J> {
    pub(super) fn read(&self, actor: &Actor, scope: Scope, read: &Read) -> Reply {
        if actor.role == Role::Customer && !self.is_own(scope, read) {
            return Reply::Denied(Denied::Scope);
        }
        Reply::Answer(self.look(read).unwrap_or(Answer::NotFound))
    }

    fn is_own(&self, scope: Scope, read: &Read) -> bool {
        let Some(customer) = scope.customer else { return false };
        match read {
            Read::Account(account) => self.book.owner(*account) == Some(customer),
            Read::Customer(serial) => *serial == customer,
            _ => false,
        }
    }

    fn look(&self, read: &Read) -> Option<Answer> {
        let position = self.filling.next_position();
        Some(match *read {
            Read::Account(reference) => {
                let account = *self.book.account(reference)?;
                Answer::Account(Box::new(AccountView { reference, account, position }))
            }
            Read::Customer(serial) => self.customer(serial)?,
            Read::Document { line, document } => {
                self.customer(self.book.customer_by_document(line, &document)?)?
            }
            Read::TrialBalance { date, by_value } => {
                let date = date.or(self.book.day())?;
                let basis = if by_value { Basis::Value } else { Basis::Booked };
                Answer::TrialBalance { date, lines: self.book.trial_balance(date, basis) }
            }
            Read::Hold(id) => Answer::Hold(self.book.ledger().hold(id)?),
            Read::Chart => Answer::Chart(Box::new(self.book.chart().clone())),
            Read::Proposals => {
                Answer::Proposals(self.book.proposals(self.filling.time_us()).copied().collect())
            }
            Read::Policy => Answer::Policy(self.book.policy()),
            Read::Status => Answer::Status(Box::new(self.book.status())),
        })
    }

    fn customer(&self, serial: u32) -> Option<Answer> {
        let customer = *self.book.customer(serial)?;
        let accounts = self.book.accounts(serial).map(|(reference, account)| (reference, *account)).collect();
        let position = self.filling.next_position();
        Some(Answer::Customer(Box::new(CustomerView { serial, customer, accounts, position })))
    }
}
