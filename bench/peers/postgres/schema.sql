-- A conventional double-entry ledger, as a careful team would write it first: one row an account with its totals, one
-- row a transfer, referential integrity by the function below, a unique id for idempotency. Durable at every commit.
create table account (
    id      bigint primary key,
    debits  bigint not null default 0,
    credits bigint not null default 0,
    floor   bigint not null,
    check (credits - debits >= floor)
) with (fillfactor = 50); -- room for heap-only updates: no index is touched when a balance changes

create table transfer (
    id         uuid primary key,
    debit      bigint not null,
    credit     bigint not null,
    amount     bigint not null check (amount > 0),
    code       smallint not null,
    reference  bytea,
    created_at timestamptz not null default now()
);
-- Statements read by account: without these two a peer would be faster and useless.
create index transfer_debit on transfer (debit, created_at);
create index transfer_credit on transfer (credit, created_at);

-- One transfer, one round trip: both rows locked in the order of their ids (no deadlocks), the rule checked, the
-- totals and the transfer written. Returns false when the id was used before.
create function pay(p_id uuid, p_debit bigint, p_credit bigint, p_amount bigint) returns boolean language plpgsql as $$
begin
    insert into transfer (id, debit, credit, amount, code) values (p_id, p_debit, p_credit, p_amount, 1)
        on conflict (id) do nothing;
    if not found then return false; end if;
    if p_debit < p_credit then
        update account set debits = debits + p_amount where id = p_debit;
        update account set credits = credits + p_amount where id = p_credit;
    else
        update account set credits = credits + p_amount where id = p_credit;
        update account set debits = debits + p_amount where id = p_debit;
    end if;
    return true;
end $$;

insert into account (id, floor) select n, -9000000000000000 from generate_series(1, 10000) n;
analyze account;
