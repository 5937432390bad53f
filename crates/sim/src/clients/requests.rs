//! Sending: requests as the gateway would hand them in.

use skerry_book::packed;
use skerry_branch::api::{Asked as AskedBody, Body, Read, Reply, Request};
use skerry_branch::{Branch, Now};
use skerry_journal::{JournalStore, Storage};

use super::{Asking, Batch, Desk, Fate, Line, Order, Ticket, client};
use crate::model::{Asked, Broken, Key, Model};
use crate::site::{gateway, seed};
use crate::tally::{State, Tally};

impl Desk {
    /// Sends transfers.
    pub(crate) fn send<J: JournalStore, S: Storage>(
        &mut self,
        to: &Branch<J, S>,
        batch: Batch,
        model: &Model,
        now: Now,
        tally: &mut Tally,
    ) {
        let keys: Vec<Key> = self.register(&batch);
        let body = if batch.packed { packed_body(&batch) } else { asked_body(&batch) };
        if self.sent.len() < 400 && !batch.lines.is_empty() {
            self.sent.push(batch.clone());
        }
        self.submit(to, batch.by, Asking::Batch(batch, keys), body, [7; 16], model, now, tally);
    }

    /// Sends a command.
    pub(crate) fn order<J: JournalStore, S: Storage>(
        &mut self,
        to: &Branch<J, S>,
        order: Order,
        model: &Model,
        now: Now,
        tally: &mut Tally,
    ) {
        let key = order.key.map(|key| Box::from(key.as_slice()));
        let body = Body::Command { command: Box::new(order.command.clone()), key };
        let (by, request) = (order.by, order.request);
        self.submit(to, by, Asking::Order(order), body, request, model, now, tally);
    }

    /// Sends a command that must get through: without a chance of forgery or a deadline.
    ///
    /// # Errors
    ///
    /// If there is no branch to send it to.
    pub(crate) fn insist<J: JournalStore, S: Storage>(
        &mut self,
        to: Option<&Branch<J, S>>,
        order: Order,
        model: &Model,
        now: Now,
        tally: &mut Tally,
    ) -> Result<(), Broken> {
        let to = to.ok_or("no branch to be founded")?;
        let key = order.key.map(|key| Box::from(key.as_slice()));
        let body = Body::Command { command: Box::new(order.command.clone()), key };
        let (by, request) = (order.by, order.request);
        self.plainly = true;
        self.submit(to, by, Asking::Order(order), body, request, model, now, tally);
        self.plainly = false;
        Ok(())
    }

    /// Sends a read.
    pub(crate) fn read<J: JournalStore, S: Storage>(
        &mut self,
        to: &Branch<J, S>,
        (by, read): (usize, Read),
        model: &Model,
        now: Now,
        tally: &mut Tally,
    ) {
        self.submit(to, by, Asking::Read(read), Body::Read(read), [0; 16], model, now, tally);
    }

    /// Wants a checkpoint.
    pub(crate) fn want_checkpoint<J: JournalStore, S: Storage>(
        &mut self,
        to: &Branch<J, S>,
        model: &Model,
        now: Now,
        tally: &mut Tally,
    ) {
        self.submit(to, super::OPERATOR, Asking::Checkpoint, Body::Checkpoint, [0; 16], model, now, tally);
    }

    /// Sends bytes that are no transfers.
    pub(crate) fn send_rubbish<J: JournalStore, S: Storage>(
        &mut self,
        to: &Branch<J, S>,
        model: &Model,
        now: Now,
        tally: &mut Tally,
    ) {
        let length =
            if self.dice.chance(1, 2) { 96 * self.dice.between(1, 3) } else { self.dice.between(1, 200) };
        let mut bytes: Vec<u8> = (0..length).map(|_| self.dice.next().to_le_bytes()[0]).collect();
        // A flag that no client may set, so that chance never makes a transfer of it.
        if let Some(flags) = bytes.get_mut(47) {
            *flags |= 0x40;
        }
        let body = Body::Packed(bytes.into());
        self.submit(to, super::SERVICE, Asking::Rubbish, body, [0; 16], model, now, tally);
    }

    /// Remembers what is asked, by the digest that the branch will give it.
    fn register(&mut self, batch: &Batch) -> Vec<Key> {
        let mut chained = false;
        let mut keys = Vec::with_capacity(batch.lines.len());
        for line in &batch.lines {
            let linked = line.transfer.flags.has(skerry_ledger::Flags::LINKED);
            let mut transfer = line.transfer;
            if !line.text.is_empty() {
                transfer.reference = self.words.reference_hash(&line.text);
            }
            transfer.digest = packed::digest(&transfer, line.text.as_bytes(), &note_tag(line.note), &seed());
            if batch.packed {
                // What has no packed form is not what the branch is asked.
                let mut record = [0; packed::TRANSFER_LENGTH];
                packed::encode(&transfer, &mut record);
                transfer = packed::decode(0, &record, &seed()).unwrap_or(transfer);
            }
            let key = (transfer.id, transfer.digest);
            let in_chain = linked || chained || batch.together;
            let asked = self.asked.entry(key).or_insert(Asked { transfer, in_chain });
            asked.in_chain |= in_chain;
            let fate = self.fates.entry(key).or_insert(Fate::Open);
            if *fate == Fate::Nothing {
                *fate = Fate::Open;
            }
            keys.push(key);
            chained = linked;
        }
        keys
    }

    #[expect(
        clippy::too_many_arguments,
        reason = "one place where everything about a request comes together"
    )]
    fn submit<J: JournalStore, S: Storage>(
        &mut self,
        to: &Branch<J, S>,
        by: usize,
        asking: Asking,
        body: Body,
        request: [u8; 16],
        model: &Model,
        now: Now,
        tally: &mut Tally,
    ) {
        let client = client(by);
        let actor = client.actor(request);
        let deadline_us = if !self.plainly && self.dice.chance(1, 25) {
            now.wall_us.saturating_add(self.dice.below(40_000)).saturating_sub(20_000)
        } else {
            0
        };
        let forged = !self.plainly && self.dice.chance(1, 100);
        let mut mac = gateway().authenticate(&actor, client.scope, deadline_us);
        mac[0] ^= u8::from(forged);
        let number = self.next_ticket;
        self.next_ticket += 1;
        let inbox = std::sync::Arc::clone(&self.inbox);
        let reply = Box::new(move |reply: Reply| {
            inbox.lock().unwrap_or_else(std::sync::PoisonError::into_inner).push_back((number, reply));
        });
        let request = Request { actor, scope: client.scope, deadline_us, mac, body, reply };
        let (told, walked, deadline, at) = (self.told, model.position, deadline_us != 0, self.at);
        let ticket = Ticket { asking, told, walked, forged, deadline, at };
        match to.submit(request, now) {
            Ok(()) => {
                self.tickets.insert(number, ticket);
            }
            Err(_busy_and_request) => {
                tally.state(State::Busy);
                self.not_taken(ticket.asking);
            }
        }
    }

    /// Nothing was done; what was of unknown fate before still is.
    pub(super) fn not_taken(&mut self, asking: Asking) {
        match asking {
            Asking::Batch(batch, keys) => {
                let mut unsettled = false;
                for key in keys {
                    let fate = self.fates.entry(key).or_insert(Fate::Open);
                    unsettled |= *fate == Fate::Unknown;
                    if *fate == Fate::Open {
                        *fate = Fate::Nothing;
                    }
                }
                if unsettled {
                    self.unknown.push_back(batch);
                }
            }
            // Perhaps this was the second attempt: only an answer settles a command.
            Asking::Order(order) if order.key.is_some() => self.unknown_orders.push_back(order),
            _ => {}
        }
    }
}

/// What stands for a note in the digest: any note here is the same one.
fn note_tag(length: usize) -> [u8; 16] {
    [u8::from(length > 0); 16]
}

fn packed_body(batch: &Batch) -> Body {
    let mut bytes = Vec::with_capacity(batch.lines.len() * packed::TRANSFER_LENGTH);
    for line in &batch.lines {
        let mut record = [0; packed::TRANSFER_LENGTH];
        packed::encode(&line.transfer, &mut record);
        bytes.extend_from_slice(&record);
    }
    Body::Packed(bytes.into())
}

fn asked_body(batch: &Batch) -> Body {
    let asked = |line: &Line| AskedBody {
        transfer: line.transfer,
        reference: line.text.as_str().into(),
        note: vec![0x5e; line.note].into(),
        note_tag: note_tag(line.note),
    };
    let asked = batch.lines.iter().map(asked).collect();
    if batch.together { Body::Payout(asked) } else { Body::Transfers(asked) }
}
