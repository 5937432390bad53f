-- The two halves of a transfer between two databases, each in a transaction of its own that is prepared before either commits.
-- dblink is the second connection: one a session, kept open.
create extension dblink;

create procedure pay_out(p_id uuid, p_debit bigint, p_credit bigint, p_amount bigint) language plpgsql as $$
begin
    insert into transfer (id, debit, credit, amount, code) values (p_id, p_debit, p_credit, p_amount, 1);
    update account set debits = debits + p_amount where id = p_debit;
end $$;

create procedure pay_in(p_id uuid, p_debit bigint, p_credit bigint, p_amount bigint) language plpgsql as $$
begin
    insert into transfer (id, debit, credit, amount, code) values (p_id, p_debit, p_credit, p_amount, 1);
    update account set credits = credits + p_amount where id = p_credit;
end $$;

-- Prepares the far half, over a connection that is made when it is first needed.
create procedure prepare_far(p_name text, p_id uuid, p_debit bigint, p_credit bigint, p_amount bigint) language plpgsql as $$
begin
    if not 'far' = any(coalesce(dblink_get_connections(), '{}')) then
        perform dblink_connect('far', format('host=127.0.0.1 port=%s user=peer dbname=far', current_setting('port')));
    end if;
    perform dblink_exec('far', format('begin; call pay_in(%L, %s, %s, %s); prepare transaction %L',
                                      p_id, p_debit, p_credit, p_amount, p_name));
end $$;
