\set debit random(1, :accounts)
\set credit random(1, :accounts)
\set amount random(1, 10000)
\set name random(1, 9000000000000000000)
begin \; call pay_out(lpad(to_hex(:name), 32, '0')::uuid, :debit, :credit, :amount) \; call prepare_far('f:name', lpad(to_hex(:name), 32, '0')::uuid, :debit, :credit, :amount) \; prepare transaction 'n:name';
commit prepared 'n:name';
select dblink_exec('far', 'commit prepared ''f:name''');
