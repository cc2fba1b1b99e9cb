DROP TRIGGER IF EXISTS {table}_append_only_row ON {table}
-- next
DROP TRIGGER IF EXISTS {table}_append_only_truncate ON {table}
