CREATE OR REPLACE FUNCTION tollkeeper_refuse_invoice_lines() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP = 'DELETE' AND EXISTS (
        SELECT 1 FROM billing_invoice i WHERE i.id = OLD.invoice_id AND i.status = 'draft'
    ) THEN
        RETURN OLD;
    END IF;
    IF TG_OP = 'INSERT' AND EXISTS (
        SELECT 1 FROM billing_invoice i WHERE i.id = NEW.invoice_id AND i.status = 'draft'
    ) THEN
        RETURN NEW;
    END IF;
    RAISE EXCEPTION '%: lines of an issued invoice never change', TG_TABLE_NAME
        USING ERRCODE = 'integrity_constraint_violation';
END $$
-- next
CREATE OR REPLACE TRIGGER {table}_append_only_row BEFORE INSERT OR UPDATE OR DELETE ON {table}
FOR EACH ROW EXECUTE FUNCTION tollkeeper_refuse_invoice_lines()
