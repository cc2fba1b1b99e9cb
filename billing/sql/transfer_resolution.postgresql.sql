CREATE OR REPLACE FUNCTION tollkeeper_check_transfer_resolution() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF NOT EXISTS (
        SELECT 1 FROM {table} hold
        WHERE hold.id = NEW.pending_id AND hold.kind = 'pending'
        AND hold.debit_account_id = NEW.debit_account_id AND hold.credit_account_id = NEW.credit_account_id
        AND hold.request_id IS NOT DISTINCT FROM NEW.request_id
        AND CASE NEW.kind WHEN 'post' THEN NEW.amount_nanousd <= hold.amount_nanousd
            ELSE NEW.amount_nanousd = hold.amount_nanousd END
    ) THEN
        RAISE EXCEPTION '%: a post, void or expiry must match the hold that it names', TG_TABLE_NAME
            USING ERRCODE = 'integrity_constraint_violation', CONSTRAINT = '{table}_resolution';
    END IF;
    RETURN NULL;
END $$
-- next
-- AFTER, not BEFORE: a before-row trigger would make COPY insert row by row.
CREATE OR REPLACE TRIGGER {table}_resolution AFTER INSERT ON {table}
FOR EACH ROW WHEN (NEW.kind IN ('post', 'void', 'expire'))
EXECUTE FUNCTION tollkeeper_check_transfer_resolution()
