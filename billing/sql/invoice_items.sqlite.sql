DROP TRIGGER IF EXISTS {table}_append_only_delete
-- next
CREATE TRIGGER {table}_append_only_delete BEFORE DELETE ON {table}
WHEN NOT EXISTS (SELECT 1 FROM billing_invoice i WHERE i.id = OLD.invoice_id AND i.status = 'draft')
BEGIN SELECT RAISE(ABORT, '{table}: lines of an issued invoice never change'); END
-- next
DROP TRIGGER IF EXISTS {table}_append_only_insert
-- next
CREATE TRIGGER {table}_append_only_insert BEFORE INSERT ON {table}
WHEN NOT EXISTS (SELECT 1 FROM billing_invoice i WHERE i.id = NEW.invoice_id AND i.status = 'draft')
BEGIN SELECT RAISE(ABORT, '{table}: lines of an issued invoice never change'); END
