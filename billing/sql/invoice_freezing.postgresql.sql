-- A draft may become anything; once issued, only the state moves, and only forward.
CREATE OR REPLACE FUNCTION tollkeeper_refuse_invoice_change() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    state_columns text[] := ARRAY['status', 'standing_month', 'paid_cents', 'paid_at', 'voided_at', 'void_reason'];
BEGIN
    IF OLD.status = 'draft' THEN
        IF TG_OP = 'DELETE' THEN
            RETURN OLD;
        END IF;
        RETURN NEW;
    END IF;
    IF TG_OP = 'UPDATE' AND to_jsonb(OLD) - state_columns = to_jsonb(NEW) - state_columns
        AND NEW.paid_cents >= OLD.paid_cents
        AND (CASE OLD.status WHEN 'issued' THEN NEW.status IN ('issued', 'paid', 'void')
            WHEN 'paid' THEN NEW.status IN ('paid', 'void') ELSE false END)
    THEN
        RETURN NEW;
    END IF;
    RAISE EXCEPTION '%: an issued invoice is never changed or deleted, void it', TG_TABLE_NAME
        USING ERRCODE = 'integrity_constraint_violation';
END $$
-- next
CREATE OR REPLACE TRIGGER {table}_append_only_row BEFORE UPDATE OR DELETE ON {table}
FOR EACH ROW EXECUTE FUNCTION tollkeeper_refuse_invoice_change()
