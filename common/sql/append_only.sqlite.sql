DROP TRIGGER IF EXISTS {table}_append_only_update
-- next
CREATE TRIGGER {table}_append_only_update BEFORE UPDATE ON {table}
BEGIN SELECT RAISE(ABORT, '{table} is append-only: correct it with a new row'); END
-- next
DROP TRIGGER IF EXISTS {table}_append_only_delete
-- next
CREATE TRIGGER {table}_append_only_delete BEFORE DELETE ON {table}
BEGIN SELECT RAISE(ABORT, '{table} is append-only: correct it with a new row'); END
-- next
DROP TRIGGER IF EXISTS {table}_append_only_replace
-- next
CREATE TRIGGER {table}_append_only_replace BEFORE INSERT ON {table}
WHEN {taken}
BEGIN SELECT RAISE(ABORT, '{table} is append-only: a row with this id or unique value exists'); END
