DROP TRIGGER IF EXISTS {table}_append_only_delete
-- next
DROP TRIGGER IF EXISTS {table}_append_only_insert
