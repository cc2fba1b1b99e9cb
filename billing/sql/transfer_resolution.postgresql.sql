CREATE OR REPLACE FUNCTION tollkeeper_check_transfer_resolution() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    hold {table}%ROWTYPE;
BEGIN
    -- By its id alone: asked for the accounts too, the planner of a young table takes their index and reads every
    -- transfer of the customer for each one that is posted.
    SELECT * INTO hold FROM {table} WHERE id = NEW.pending_id;
    IF NOT FOUND
        OR hold.kind <> 'pending'
        OR hold.debit_account_id <> NEW.debit_account_id
        OR hold.credit_account_id <> NEW.credit_account_id
        OR hold.request_id IS DISTINCT FROM NEW.request_id
        OR NEW.amount_nanousd > hold.amount_nanousd
        OR (NEW.kind <> 'post' AND NEW.amount_nanousd <> hold.amount_nanousd)
    THEN
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
