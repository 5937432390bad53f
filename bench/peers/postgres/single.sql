\set debit random(1, :accounts)
\set other random(1, :accounts - 1)
\set credit (:debit + :other - 1) % :accounts + 1
\set amount random(1, 10000)
select pay(gen_random_uuid(), :debit, :credit, :amount);
