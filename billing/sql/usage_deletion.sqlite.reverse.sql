DROP TRIGGER IF EXISTS {table}_append_only_delete
