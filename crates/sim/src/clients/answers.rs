//! Replies: held against what clients were told before, and turned into promises that the model must confirm.

use skerry_book::{Rejection, packed};
use skerry_branch::api::{Accepted, Answer, Commanded, Outcome, Read, Reply};

use super::{AUDITOR, Asking, Batch, Desk, Fate, Order, Promise, Ticket, client};
use crate::model::{Broken, Key};
use crate::tally::{State, Tally};

/// Refusals that use the id up, by their numbers.
const STICKY: [u16; 15] =
    [1038, 1039, 1040, 1050, 1065, 1080, 1081, 1084, 1085, 1100, 1101, 1110, 1111, 1112, 1113];
/// Refusals about the id's own time: they say nothing of what happened to the id before.
const OUT_OF_WINDOW: [u16; 2] = [1012, 1013];
const ROLE_NOT_ALLOWED: u16 = 3001;
const ID_EXPIRED: u16 = 1013;
const ID_REUSED: u16 = 1014;
const ALREADY_APPLIED: u16 = 1015;
const LINKED_FAILED: u16 = 1001;
/// Refusals of a chain's members for the sake of the chain.
const CHAIN_REFUSED: [u16; 2] = [LINKED_FAILED, 1003];

/// One transfer's result, however it came.
struct OneResult {
    code: u16,
    position: Option<u64>,
    told: Option<Box<Accepted>>,
}

impl Desk {
    /// Takes in the replies that have come.
    ///
    /// # Errors
    ///
    /// In words, what they may not say.
    pub(crate) fn hear(&mut self, tally: &mut Tally) -> Result<(), Broken> {
        loop {
            let Some((number, reply)) = self.replies().pop_front() else { return Ok(()) };
            if self.gone.remove(&number) {
                continue;
            }
            let Some(ticket) = self.tickets.remove(&number) else {
                return Err(format!("answers twice, the second time with {reply:?}"));
            };
            self.answer(ticket, reply, tally)?;
        }
    }

    fn answer(&mut self, ticket: Ticket, reply: Reply, tally: &mut Tally) -> Result<(), Broken> {
        if ticket.forged
            && !matches!(reply, Reply::Denied(_) | Reply::Expired | Reply::Busy(_) | Reply::Unknown)
        {
            return Err(format!("a forged request was answered with {reply:?}"));
        }
        match reply {
            Reply::Unknown => self.lose(ticket.asking, tally),
            Reply::Busy(_) => {
                tally.state(State::Busy);
                self.not_taken(ticket.asking);
            }
            Reply::Archived(why) => {
                if self.archived == 0 {
                    return Err(format!("nothing is archived, but a request is told: {why}"));
                }
                tally.state(State::ArchiveMissed);
                self.not_taken(ticket.asking);
            }
            Reply::Expired if ticket.deadline => {
                tally.state(State::DeadlinePassed);
                self.not_taken(ticket.asking);
            }
            Reply::Denied(_) => {
                tally.state(State::Denied);
                // Forged requests are sent again by their owner; what is out of scope will never be done.
                if ticket.forged {
                    self.not_taken(ticket.asking);
                } else {
                    self.turned_away(ticket.asking)?;
                }
            }
            Reply::Malformed(_) => {
                tally.state(State::Malformed);
                self.turned_away(ticket.asking)?;
            }
            Reply::Packed(packed) => {
                let results = packed.results.as_chunks::<{ packed::RESULT_LENGTH }>().0;
                let results = results.iter().map(of_packed).collect::<Option<_>>();
                self.results(&ticket, results.ok_or("a packed result cannot be read")?, tally)?;
            }
            Reply::Transfers(outcomes) => {
                self.results(&ticket, outcomes.into_iter().map(of_outcome).collect(), tally)?;
            }
            Reply::Command(outcome) => self.command_answer(ticket, outcome, tally)?,
            Reply::Answer(answer) => self.read_answer(&ticket, answer, tally)?,
            Reply::Marked | Reply::Heard => {}
            Reply::Expired => return Err("a request without a deadline was answered expired".to_owned()),
        }
        Ok(())
    }

    /// The request was turned away as a whole, for good: perhaps for one of its transfers alone.
    fn turned_away(&mut self, asking: Asking) -> Result<(), Broken> {
        let Asking::Batch(batch, keys) = asking else { return Ok(()) };
        let alone = keys.len() == 1;
        for (line, key) in batch.lines.iter().zip(keys) {
            match self.fates.get(&key) {
                Some(Fate::Done(_) | Fate::Refused(_)) if alone => {
                    return Err(format!("{:032x} was answered before, now it is turned away", key.0.0));
                }
                Some(Fate::Done(_) | Fate::Refused(_)) => {}
                Some(Fate::Unknown) if !alone => {
                    self.unknown.push_back(Batch { lines: vec![line.clone()], ..batch });
                }
                _ => {
                    self.fates.insert(key, Fate::Nothing);
                }
            }
        }
        Ok(())
    }

    fn results(&mut self, ticket: &Ticket, results: Vec<OneResult>, tally: &mut Tally) -> Result<(), Broken> {
        let Asking::Batch(batch, keys) = &ticket.asking else {
            return Err("transfers' results answer another request".to_owned());
        };
        if results.len() != keys.len() {
            return Err(format!("{} results for {} transfers", results.len(), keys.len()));
        }
        check_chains(batch, &results)?;
        let all = results.iter().all(|result| [0, packed::SENT].contains(&result.code));
        tally.states(State::PaidTogether, u64::from(batch.together && all && results.len() > 1));
        for (key, result) in keys.iter().zip(results) {
            let in_chain = self.asked.get(key).is_some_and(|asked| asked.in_chain);
            if result.code == 0 || result.code == packed::SENT {
                self.done(ticket, *key, result, tally)?;
            } else {
                self.refused(batch.by, *key, &result, in_chain, tally)?;
            }
        }
        Ok(())
    }

    fn done(
        &mut self,
        ticket: &Ticket,
        key: Key,
        result: OneResult,
        tally: &mut Tally,
    ) -> Result<(), Broken> {
        let position = result.position.ok_or("an accepted transfer has a position")?;
        match self.fates.insert(key, Fate::Done(position)) {
            Some(Fate::Done(before)) if before != position => {
                return Err(format!("{:032x} was done at {before}, now at {position}", key.0.0));
            }
            Some(Fate::Refused(code)) => {
                return Err(format!("{:032x} was refused for good with {code}, now it is done", key.0.0));
            }
            Some(Fate::Unknown) if position < ticket.walked => tally.state(State::UnknownHadHappened),
            Some(Fate::Unknown) => tally.state(State::UnknownHadNotHappened),
            Some(Fate::Done(_)) if position < self.archived => tally.state(State::AnsweredFromTheArchive),
            Some(Fate::Done(_)) => tally.state(State::AcceptedAgain),
            _ => tally.state(State::Accepted),
        }
        self.told = self.told.max(position + 1);
        self.promises.push(Promise::Done { key, position, told: result.told });
        Ok(())
    }

    fn refused(
        &mut self,
        by: usize,
        key: Key,
        result: &OneResult,
        in_chain: bool,
        tally: &mut Tally,
    ) -> Result<(), Broken> {
        let code = result.code;
        // Auditors are refused whatever they ask, also what somebody else was granted.
        if by == AUDITOR && code == ROLE_NOT_ALLOWED {
            if self.fates.get(&key) == Some(&Fate::Open) {
                self.fates.insert(key, Fate::Nothing);
            }
            return Ok(());
        }
        let before = self.fates.get(&key).copied().unwrap_or(Fate::Open);
        let sticks = STICKY.contains(&code);
        if OUT_OF_WINDOW.contains(&code) {
            if before == Fate::Unknown && code == ID_EXPIRED {
                self.expired.push(key);
            } else if matches!(before, Fate::Open | Fate::Unknown) {
                self.fates.insert(key, Fate::Nothing);
            }
            return Ok(());
        }
        if in_chain && before == Fate::Unknown && CHAIN_REFUSED.contains(&code) {
            // Another member is refused now; what the whole came to the first time, the history knows.
            self.expired.push(key);
            return Ok(());
        }
        match before {
            Fate::Done(position) if !in_chain => {
                return Err(format!(
                    "{:032x} was done at {position}, now it is refused with {code}",
                    key.0.0
                ));
            }
            Fate::Refused(first) if !in_chain && first != code => {
                return Err(format!("{:032x} was refused with {first}, now with {code}", key.0.0));
            }
            Fate::Refused(_) if sticks => tally.state(State::RefusedForGoodAgain),
            Fate::Unknown if sticks => tally.state(State::UnknownHadNotHappened),
            _ if sticks => tally.state(State::RefusedForGood),
            _ if code == ID_REUSED => tally.state(State::IdReused),
            _ if code == LINKED_FAILED => tally.state(State::ChainRefused),
            _ => tally.state(State::RefusedForNow),
        }
        if matches!(before, Fate::Done(_)) {
            return Ok(());
        }
        if sticks {
            self.fates.insert(key, Fate::Refused(code));
            if let Some(position) = result.position {
                self.told = self.told.max(position + 1);
            }
            self.promises.push(Promise::Refused { key, code });
        } else if !matches!(before, Fate::Refused(_)) {
            self.fates.insert(key, Fate::Nothing);
        }
        Ok(())
    }

    fn command_answer(
        &mut self,
        ticket: Ticket,
        outcome: Result<Commanded, Rejection>,
        tally: &mut Tally,
    ) -> Result<(), Broken> {
        let Asking::Order(order) = ticket.asking else {
            return Err("a command's result answers another request".to_owned());
        };
        match outcome {
            Ok(Commanded { done, repeated }) => {
                let again = self.orders.iter().any(|(earlier, _)| earlier.request == order.request);
                if again && !repeated {
                    return Err(format!("a command that was done before was done anew: {done:?}"));
                }
                if repeated && order.key.is_none() {
                    return Err(format!("a command without a key is said to be a retry's: {done:?}"));
                }
                tally.state(if again { State::CommandDoneAgain } else { State::CommandDone });
                match self.hashed_key(&order) {
                    Some(key) => {
                        self.promises.push(Promise::Command { key, done });
                        self.orders.push((order, done));
                    }
                    None => self.promises.push(Promise::Made(done)),
                }
            }
            Err(_) => tally.state(State::CommandRefused),
        }
        Ok(())
    }

    fn hashed_key(&self, order: &Order) -> Option<u128> {
        let key = order.key?;
        Some(self.words.idempotency_key(&client(order.by).principal, &key))
    }

    fn read_answer(&mut self, ticket: &Ticket, answer: Answer, tally: &mut Tally) -> Result<(), Broken> {
        tally.state(State::ReadChecked);
        match answer {
            Answer::Account(view) => {
                if view.position < ticket.told {
                    let (position, told) = (view.position, ticket.told);
                    return Err(format!("a read saw {position} records when {told} had been told before"));
                }
                self.promises.push(Promise::Read(view));
            }
            Answer::Payment(view) => {
                tally.state(State::PaymentLookedUp);
                self.promises.push(Promise::Payment(view));
            }
            Answer::TrialBalance { lines, .. } => {
                let mut sums = std::collections::BTreeMap::new();
                for line in lines {
                    *sums.entry(line.currency.number()).or_insert(0) += line.closing;
                }
                if sums.values().any(|sum| *sum != 0) {
                    return Err(format!("a trial balance does not sum to zero: {sums:?}"));
                }
            }
            Answer::Customer(view)
                if !matches!(ticket.asking, Asking::Read(Read::Customer(_) | Read::Document { .. })) =>
            {
                return Err(format!("customer {} answers another question", view.serial));
            }
            _ => {}
        }
        Ok(())
    }
}

/// All or nothing: the members of a chain are done together or not at all.
fn check_chains(batch: &Batch, results: &[OneResult]) -> Result<(), Broken> {
    let mut chain: Vec<u16> = Vec::new();
    let last = batch.lines.len().saturating_sub(1);
    for (index, (line, result)) in batch.lines.iter().zip(results).enumerate() {
        chain.push(result.code);
        if line.transfer.flags.has(skerry_ledger::Flags::LINKED) || (batch.together && index < last) {
            continue;
        }
        // What was done and is archived is done, without a position.
        let done = chain.iter().filter(|code| [0, packed::SENT, ALREADY_APPLIED].contains(code)).count();
        if done != 0 && done != chain.len() {
            return Err(format!("a linked chain was done in part: {chain:?}"));
        }
        chain.clear();
    }
    Ok(())
}

fn of_packed(bytes: &[u8; packed::RESULT_LENGTH]) -> Option<OneResult> {
    let outcome = packed::Outcome::decode(bytes)?;
    // Position 0 is the branch's opening and never a transfer's.
    let position = Some(outcome.position).filter(|position| *position != 0);
    Some(OneResult { code: outcome.code, position, told: None })
}

fn of_outcome(outcome: Outcome) -> OneResult {
    match outcome {
        Ok(accepted) => {
            OneResult { code: 0, position: Some(accepted.position), told: Some(Box::new(accepted)) }
        }
        Err(rejection) => OneResult { code: rejection.code(), position: None, told: None },
    }
}
