DROP TRIGGER IF EXISTS {table}_append_only_delete
-- next
CREATE TRIGGER {table}_append_only_delete BEFORE DELETE ON {table}
WHEN NOT EXISTS (
    SELECT 1 FROM billing_usagearchive a
    WHERE a.day = substr(OLD.started_at, 1, 10) AND OLD.id <= a.highest_id
)
BEGIN SELECT RAISE(ABORT, '{table} is append-only: only what an archive has may go'); END
