DROP TRIGGER IF EXISTS {table}_append_only_update
-- next
DROP TRIGGER IF EXISTS {table}_append_only_delete
