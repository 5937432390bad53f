-- Set-based: a thousand transfers in one statement and one commit, each account updated once with its sum, rows
-- locked in the order of their ids.
with asked as materialized (
    select gen_random_uuid() as id,
           d as debit,
           (d + o - 1) % :accounts + 1 as credit,
           1 + (random() * 9999)::bigint as amount
    from (select 1 + (random() * (:accounts - 1))::bigint as d, 1 + (random() * (:accounts - 2))::bigint as o
          from generate_series(1, 1000)) r
), written as (
    insert into transfer (id, debit, credit, amount, code) select id, debit, credit, amount, 1 from asked
), moved as materialized (
    select account, sum(debits)::bigint as debits, sum(credits)::bigint as credits from (
        select debit as account, amount as debits, 0 as credits from asked
        union all
        select credit, 0, amount from asked) m
    group by account
), locked as materialized (
    select a.id, m.debits, m.credits from account a join moved m on m.account = a.id order by a.id for update of a
)
update account a set debits = a.debits + l.debits, credits = a.credits + l.credits from locked l where a.id = l.id;
