CREATE OR REPLACE FUNCTION tollkeeper_refuse_unarchived() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP = 'DELETE' AND EXISTS (
        SELECT 1 FROM billing_usagearchive a
        WHERE a.day = (OLD.started_at AT TIME ZONE 'UTC')::date AND OLD.id <= a.highest_id
    ) THEN
        RETURN OLD;
    END IF;
    RAISE EXCEPTION '% is append-only: only what an archive has may go', TG_TABLE_NAME
        USING ERRCODE = 'integrity_constraint_violation';
END $$
-- next
CREATE OR REPLACE TRIGGER {table}_append_only_row BEFORE UPDATE OR DELETE ON {table}
FOR EACH ROW EXECUTE FUNCTION tollkeeper_refuse_unarchived()
