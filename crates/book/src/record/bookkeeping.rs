//! The records of everything but money: which event lies in which fields.
//!
//! | kind | event | fields (time always in `time`) | tail |
//! |---|---|---|---|
//! | 16 | branch opened | `code` branch, `aux` capacity, `digest` cutoff, `value date` offset, `reference` institution | currencies: u32 count, u16 each |
//! | 17 | incarnated | `aux` incarnation, `debit` lost from, `credit` lost to | |
//! | 18 | format raised | `code` level | |
//! | 19 | chart adopted | | chart |
//! | 20 | head opened | `debit` account, `code` slot | |
//! | 21 | day opened | `value date` | |
//! | 22 | went live | `value date` | |
//! | 23 | policy changed | `aux` matters, `amount` retention days | |
//! | 26 | archive ordered | `digest` before this position; `aux` 1: before the day in `value date` | |
//! | 32 | customer opened | `credit` customer, `reference`+`related` document, `digest` key, `code` line, `value date` opened | sealed |
//! | 33 | customer changed | `credit` customer, `aux` 1 with a document in `reference`+`related` | sealed |
//! | 34 | customer erased | `credit` customer, `digest` key | |
//! | 40 | account opened | `debit` account, `credit` customer, `code` product, `currency`, `value date` opened, `amount` floor, `digest` daily limit, `aux` slot, `rejection` limit (0 none, 1 debits, 2 credits) | |
//! | 41 | limits changed | `debit` account, `amount` floor, `digest` daily limit | |
//! | 42, 43 | frozen, unfrozen | `debit` account, `aux` sides (1 debit, 2 credit), `code` reason | |
//! | 44, 45 | closed, reopened | `debit` account | |
//! | 48 | key used | `id` key, `reference` request, `code`+`amount` answer, `flags` bit 0 kept for ever | |
//! | 49 | proposed | `reference` request, `aux` matter | proposer |
//! | 50 | approved | `reference` request | approver |
//! | 51 | proposal ended | `reference` request | |

use alloc::boxed::Box;
use alloc::vec::Vec;

use skerry_ledger::{AccountRef, Limit, Sides, Stamp};
use skerry_money::{Currency, Date};

use super::{Fields, RecordError};
use crate::actor::Principal;
use crate::chart::Chart;
use crate::command::Done;
use crate::event::{
    AccountClosed, AccountOpened, AccountReopened, Approved, ArchiveBefore, ArchiveOrdered, BranchOpened,
    ChartAdopted, CustomerChanged, CustomerErased, CustomerOpened, DayOpened, Event, FormatRaised, Frozen,
    HeadOpened, Incarnated, KeyUsed, LimitsChanged, PolicyChanged, ProposalEnded, Proposed, Terms, Unfrozen,
    WentLive,
};
use crate::policy::{Matter, Matters, Policy};
use crate::wire::{Reader, Short, put_count};

/// See the table above.
#[expect(missing_docs, reason = "each is the event that it names")]
pub mod kind {
    pub const BRANCH_OPENED: u16 = 16;
    pub const INCARNATED: u16 = 17;
    pub const FORMAT_RAISED: u16 = 18;
    pub const CHART_ADOPTED: u16 = 19;
    pub const HEAD_OPENED: u16 = 20;
    pub const DAY_OPENED: u16 = 21;
    pub const WENT_LIVE: u16 = 22;
    pub const POLICY_CHANGED: u16 = 23;
    pub const ARCHIVE_ORDERED: u16 = 26;
    pub const CUSTOMER_OPENED: u16 = 32;
    pub const CUSTOMER_CHANGED: u16 = 33;
    pub const CUSTOMER_ERASED: u16 = 34;
    pub const ACCOUNT_OPENED: u16 = 40;
    pub const LIMITS_CHANGED: u16 = 41;
    pub const FROZEN: u16 = 42;
    pub const UNFROZEN: u16 = 43;
    pub const ACCOUNT_CLOSED: u16 = 44;
    pub const ACCOUNT_REOPENED: u16 = 45;
    pub const KEY_USED: u16 = 48;
    pub const PROPOSED: u16 = 49;
    pub const APPROVED: u16 = 50;
    pub const PROPOSAL_ENDED: u16 = 51;
}

const CURRENCIES_MAX: usize = 512;

/// The flag of a key that is kept for ever. Releases before it stop at such a record, as R2 has it.
const PERMANENT_FLAG: u32 = 1;

/// The fields of `event`, all but version and actor; appends the tail.
///
/// # Panics
///
/// If it is money: that has its own functions.
pub(super) fn encode(event: &Event, tail: &mut Vec<u8>) -> Fields {
    match event {
        Event::Moved(_)
        | Event::Refused(_)
        | Event::Sent(_)
        | Event::Received(_)
        | Event::Settled(_)
        | Event::Returned(_)
        | Event::ChannelOpened(_)
        | Event::ChannelStopped(_)
        | Event::ChannelResuming(_)
        | Event::ChannelResumed(_) => unreachable!("money is written by its own functions"),
        Event::BranchOpened(_)
        | Event::Incarnated(_)
        | Event::FormatRaised(_)
        | Event::ChartAdopted(_)
        | Event::HeadOpened(_)
        | Event::DayOpened(_)
        | Event::WentLive(_)
        | Event::PolicyChanged(_)
        | Event::ArchiveOrdered(_) => encode_branch(event, tail),
        Event::CustomerOpened(_) | Event::CustomerChanged(_) | Event::CustomerErased(_) => {
            encode_customer(event, tail)
        }
        Event::KeyUsed(_) | Event::Proposed(_) | Event::Approved(_) | Event::ProposalEnded(_) => {
            encode_request(event, tail)
        }
        Event::AccountOpened(_)
        | Event::LimitsChanged(_)
        | Event::Frozen(_)
        | Event::Unfrozen(_)
        | Event::AccountClosed(_)
        | Event::AccountReopened(_) => encode_account(event),
    }
}

fn fields(kind: u16, at: Stamp) -> Fields {
    Fields { kind, time_us: at.time_us, ..Fields::default() }
}

fn encode_branch(event: &Event, tail: &mut Vec<u8>) -> Fields {
    match event {
        Event::BranchOpened(event) => {
            put_count(tail, event.terms.currencies.len());
            for currency in &event.terms.currencies {
                tail.extend_from_slice(&currency.number().to_le_bytes());
            }
            Fields {
                code: event.branch,
                aux: event.terms.capacity,
                digest: u64::from(event.terms.cutoff_minutes),
                value_date: i32::from(event.terms.offset_minutes),
                reference: event.terms.institution,
                ..fields(kind::BRANCH_OPENED, event.at)
            }
        }
        Event::Incarnated(event) => Fields {
            aux: event.incarnation,
            debit: event.lost_from,
            credit: event.lost_to,
            ..fields(kind::INCARNATED, event.at)
        },
        Event::ArchiveOrdered(event) => match event.before {
            ArchiveBefore::Position(digest) => Fields { digest, ..fields(kind::ARCHIVE_ORDERED, event.at) },
            ArchiveBefore::Day(day) => {
                Fields { aux: 1, value_date: day.0, ..fields(kind::ARCHIVE_ORDERED, event.at) }
            }
        },
        Event::FormatRaised(event) => Fields { code: event.level, ..fields(kind::FORMAT_RAISED, event.at) },
        Event::ChartAdopted(event) => {
            event.chart.put(tail);
            fields(kind::CHART_ADOPTED, event.at)
        }
        Event::HeadOpened(event) => {
            Fields { debit: event.account.0, code: event.slot, ..fields(kind::HEAD_OPENED, event.at) }
        }
        Event::DayOpened(event) => Fields { value_date: event.date.0, ..fields(kind::DAY_OPENED, event.at) },
        Event::WentLive(event) => Fields { value_date: event.date.0, ..fields(kind::WENT_LIVE, event.at) },
        Event::PolicyChanged(event) => Fields {
            aux: event.policy.four_eyes.bits(),
            amount: u64::from(event.policy.retention_days),
            ..fields(kind::POLICY_CHANGED, event.at)
        },
        _ => unreachable!("not an event of the branch"),
    }
}

fn encode_customer(event: &Event, tail: &mut Vec<u8>) -> Fields {
    match event {
        Event::CustomerOpened(event) => {
            tail.extend_from_slice(&event.sealed);
            Fields {
                credit: u64::from(event.customer),
                digest: event.key_ref,
                code: u16::from(event.line),
                value_date: event.opened.0,
                ..document_fields(fields(kind::CUSTOMER_OPENED, event.at), event.document)
            }
        }
        Event::CustomerChanged(event) => {
            tail.extend_from_slice(&event.sealed);
            let plain = fields(kind::CUSTOMER_CHANGED, event.at);
            let fields = match event.document {
                Some(document) => Fields { aux: 1, ..document_fields(plain, document) },
                None => plain,
            };
            Fields { credit: u64::from(event.customer), ..fields }
        }
        Event::CustomerErased(event) => Fields {
            credit: u64::from(event.customer),
            digest: event.key_ref,
            ..fields(kind::CUSTOMER_ERASED, event.at)
        },
        _ => unreachable!("not an event of a customer"),
    }
}

fn document_fields(fields: Fields, document: [u8; 32]) -> Fields {
    let mut reader = Reader::new(&document);
    let halves = reader.array().and_then(|reference| Ok((reference, reader.u128()?)));
    let (reference, related) = halves.expect("32 bytes are twice 16");
    Fields { reference, related, ..fields }
}

fn document(fields: &Fields) -> [u8; 32] {
    let mut document = [0; 32];
    let (low, high) = document.split_at_mut(16);
    low.copy_from_slice(&fields.reference);
    high.copy_from_slice(&fields.related.to_le_bytes());
    document
}

fn encode_account(event: &Event) -> Fields {
    match event {
        Event::AccountOpened(event) => Fields {
            debit: event.account.0,
            credit: u64::from(event.customer),
            code: event.product,
            currency: event.currency.number(),
            value_date: event.opened.0,
            amount: event.floor.cast_unsigned(),
            digest: event.daily_limit,
            aux: u32::from(event.slot),
            rejection: limit_number(event.limit),
            ..fields(kind::ACCOUNT_OPENED, event.at)
        },
        Event::LimitsChanged(event) => Fields {
            debit: event.account.0,
            amount: event.floor.cast_unsigned(),
            digest: event.daily_limit,
            ..fields(kind::LIMITS_CHANGED, event.at)
        },
        Event::Frozen(event) => Fields {
            debit: event.account.0,
            aux: sides_bits(event.sides),
            code: u16::from(event.reason),
            ..fields(kind::FROZEN, event.at)
        },
        Event::Unfrozen(event) => Fields {
            debit: event.account.0,
            aux: sides_bits(event.sides),
            ..fields(kind::UNFROZEN, event.at)
        },
        Event::AccountClosed(event) => {
            Fields { debit: event.account.0, ..fields(kind::ACCOUNT_CLOSED, event.at) }
        }
        Event::AccountReopened(event) => {
            Fields { debit: event.account.0, ..fields(kind::ACCOUNT_REOPENED, event.at) }
        }
        _ => unreachable!("not an event of an account"),
    }
}

fn encode_request(event: &Event, tail: &mut Vec<u8>) -> Fields {
    match event {
        Event::KeyUsed(event) => {
            let (code, amount) = event.done.parts();
            let flags = if event.permanent { PERMANENT_FLAG } else { 0 };
            let plain = fields(kind::KEY_USED, event.at);
            Fields { flags, id: event.key, reference: event.request, code, amount, ..plain }
        }
        Event::Proposed(event) => {
            tail.extend_from_slice(event.proposer.as_str().as_bytes());
            Fields { reference: event.request, aux: event.matter.bit(), ..fields(kind::PROPOSED, event.at) }
        }
        Event::Approved(event) => {
            tail.extend_from_slice(event.approver.as_str().as_bytes());
            Fields { reference: event.request, ..fields(kind::APPROVED, event.at) }
        }
        Event::ProposalEnded(event) => {
            Fields { reference: event.request, ..fields(kind::PROPOSAL_ENDED, event.at) }
        }
        _ => unreachable!("not an event of a request"),
    }
}

/// Reads what [`encode`] wrote. Unused fields are the caller's to check.
pub(super) fn decode(fields: &Fields, tail: &[u8], business_date: Date) -> Result<Event, RecordError> {
    let reading = Reading { fields, tail, at: Stamp { time_us: fields.time_us, business_date } };
    let event = match fields.kind {
        kind::BRANCH_OPENED..=kind::POLICY_CHANGED | kind::ARCHIVE_ORDERED => reading.branch()?,
        kind::CUSTOMER_OPENED..=kind::CUSTOMER_ERASED => reading.customer()?,
        kind::ACCOUNT_OPENED..=kind::ACCOUNT_REOPENED => reading.account()?,
        kind::KEY_USED..=kind::PROPOSAL_ENDED => reading.request()?,
        _ => None,
    };
    event.ok_or(RecordError::Unknown { kind: fields.kind, version: fields.version })
}

struct Reading<'a> {
    fields: &'a Fields,
    tail: &'a [u8],
    at: Stamp,
}

impl Reading<'_> {
    fn branch(&self) -> Result<Option<Event>, RecordError> {
        let Self { fields, at, .. } = *self;
        let date = Date(fields.value_date);
        Ok(Some(match fields.kind {
            kind::BRANCH_OPENED => {
                Event::BranchOpened(BranchOpened { at, branch: fields.code, terms: self.terms()? })
            }
            kind::INCARNATED => Event::Incarnated(Incarnated {
                at,
                incarnation: fields.aux,
                lost_from: fields.debit,
                lost_to: fields.credit,
            }),
            kind::ARCHIVE_ORDERED => {
                let before = match fields.aux {
                    0 => ArchiveBefore::Position(fields.digest),
                    _ => ArchiveBefore::Day(date),
                };
                Event::ArchiveOrdered(ArchiveOrdered { at, before })
            }
            kind::FORMAT_RAISED => Event::FormatRaised(FormatRaised { at, level: fields.code }),
            kind::CHART_ADOPTED => {
                let chart = self.whole_tail(Chart::take)?;
                Event::ChartAdopted(ChartAdopted { at, chart: Box::new(chart) })
            }
            kind::HEAD_OPENED => {
                Event::HeadOpened(HeadOpened { at, account: AccountRef(fields.debit), slot: fields.code })
            }
            kind::DAY_OPENED => Event::DayOpened(DayOpened { at, date }),
            kind::WENT_LIVE => Event::WentLive(WentLive { at, date }),
            kind::POLICY_CHANGED => Event::PolicyChanged(PolicyChanged {
                at,
                policy: Policy {
                    four_eyes: Matters::from_bits(fields.aux).ok_or_else(|| self.wrong("matters"))?,
                    retention_days: self.narrow(fields.amount, "retention")?,
                },
            }),
            _ => return Ok(None),
        }))
    }

    fn terms(&self) -> Result<Terms, RecordError> {
        let currencies = self.whole_tail(|reader| {
            let count = reader.count(CURRENCIES_MAX)?;
            let one = |reader: &mut Reader<'_>| Currency::from_number(reader.u16()?).ok_or(Short);
            (0..count).map(|_| one(reader)).collect::<Result<Vec<_>, Short>>()
        })?;
        Ok(Terms {
            institution: self.fields.reference,
            currencies,
            offset_minutes: self.narrow(self.fields.value_date, "offset")?,
            cutoff_minutes: self.narrow(self.fields.digest, "cutoff")?,
            capacity: self.fields.aux,
        })
    }

    fn customer(&self) -> Result<Option<Event>, RecordError> {
        let Self { fields, at, tail } = *self;
        let customer = self.narrow(fields.credit, "customer")?;
        let sealed = Box::from(tail);
        Ok(Some(match fields.kind {
            kind::CUSTOMER_OPENED => Event::CustomerOpened(CustomerOpened {
                at,
                customer,
                document: document(fields),
                key_ref: fields.digest,
                line: self.narrow(fields.code, "line")?,
                opened: Date(fields.value_date),
                sealed,
            }),
            kind::CUSTOMER_CHANGED => {
                let document = (fields.aux == 1).then(|| document(fields));
                Event::CustomerChanged(CustomerChanged { at, customer, document, sealed })
            }
            kind::CUSTOMER_ERASED => {
                Event::CustomerErased(CustomerErased { at, customer, key_ref: fields.digest })
            }
            _ => return Ok(None),
        }))
    }

    fn account(&self) -> Result<Option<Event>, RecordError> {
        let Self { fields, at, .. } = *self;
        let account = AccountRef(fields.debit);
        Ok(Some(match fields.kind {
            kind::ACCOUNT_OPENED => Event::AccountOpened(AccountOpened {
                at,
                account,
                customer: self.narrow(fields.credit, "customer")?,
                product: fields.code,
                currency: Currency::from_number(fields.currency).ok_or_else(|| self.wrong("currency"))?,
                opened: Date(fields.value_date),
                floor: fields.amount.cast_signed(),
                daily_limit: fields.digest,
                slot: self.narrow(fields.aux, "slot")?,
                limit: limit(fields.rejection).ok_or_else(|| self.wrong("limit"))?,
            }),
            kind::LIMITS_CHANGED => Event::LimitsChanged(LimitsChanged {
                at,
                account,
                floor: fields.amount.cast_signed(),
                daily_limit: fields.digest,
            }),
            kind::FROZEN => {
                let reason = self.narrow(fields.code, "reason")?;
                Event::Frozen(Frozen { at, account, sides: self.sides()?, reason })
            }
            kind::UNFROZEN => Event::Unfrozen(Unfrozen { at, account, sides: self.sides()? }),
            kind::ACCOUNT_CLOSED => Event::AccountClosed(AccountClosed { at, account }),
            kind::ACCOUNT_REOPENED => Event::AccountReopened(AccountReopened { at, account }),
            _ => return Ok(None),
        }))
    }

    fn request(&self) -> Result<Option<Event>, RecordError> {
        let Self { fields, at, .. } = *self;
        let request = fields.reference;
        Ok(Some(match fields.kind {
            kind::KEY_USED => {
                let done =
                    Done::from_parts(fields.code, fields.amount).ok_or_else(|| self.wrong("answer"))?;
                let permanent = fields.flags & PERMANENT_FLAG != 0;
                Event::KeyUsed(KeyUsed { at, key: fields.id, request, done, permanent })
            }
            kind::PROPOSED => {
                let matter = Matter::from_bit(fields.aux).ok_or_else(|| self.wrong("matter"))?;
                Event::Proposed(Proposed { at, request, matter, proposer: self.principal()? })
            }
            kind::APPROVED => Event::Approved(Approved { at, request, approver: self.principal()? }),
            kind::PROPOSAL_ENDED => Event::ProposalEnded(ProposalEnded { at, request }),
            _ => return Ok(None),
        }))
    }

    fn principal(&self) -> Result<Principal, RecordError> {
        let name = core::str::from_utf8(self.tail).ok();
        name.and_then(Principal::new).ok_or(RecordError::Tail { kind: self.fields.kind })
    }

    fn sides(&self) -> Result<Sides, RecordError> {
        let bits = self.fields.aux;
        if bits > 3 {
            return Err(self.wrong("sides"));
        }
        Ok(Sides { debit: bits & 1 != 0, credit: bits & 2 != 0 })
    }

    fn whole_tail<T>(
        &self,
        take: impl FnOnce(&mut Reader<'_>) -> Result<T, Short>,
    ) -> Result<T, RecordError> {
        let mut reader = Reader::new(self.tail);
        match take(&mut reader) {
            Ok(value) if reader.is_empty() => Ok(value),
            _ => Err(RecordError::Tail { kind: self.fields.kind }),
        }
    }

    fn narrow<From, To: TryFrom<From>>(&self, value: From, field: &'static str) -> Result<To, RecordError> {
        To::try_from(value).map_err(|_| self.wrong(field))
    }

    const fn wrong(&self, field: &'static str) -> RecordError {
        RecordError::Field { kind: self.fields.kind, field }
    }
}

fn sides_bits(sides: Sides) -> u32 {
    u32::from(sides.debit) | (u32::from(sides.credit) << 1)
}

const fn limit_number(limit: Limit) -> u16 {
    match limit {
        Limit::None => 0,
        Limit::Debits => 1,
        Limit::Credits => 2,
    }
}

const fn limit(number: u16) -> Option<Limit> {
    match number {
        0 => Some(Limit::None),
        1 => Some(Limit::Debits),
        2 => Some(Limit::Credits),
        _ => None,
    }
}
