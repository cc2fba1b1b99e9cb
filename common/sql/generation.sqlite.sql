DROP TRIGGER IF EXISTS {table}_generation_insert
-- next
CREATE TRIGGER {table}_generation_insert AFTER INSERT ON {table}
BEGIN UPDATE common_generation SET value = value + 1 WHERE name = '{generation}'; END
-- next
DROP TRIGGER IF EXISTS {table}_generation_update
-- next
CREATE TRIGGER {table}_generation_update AFTER UPDATE OF {columns} ON {table}
BEGIN UPDATE common_generation SET value = value + 1 WHERE name = '{generation}'; END
-- next
DROP TRIGGER IF EXISTS {table}_generation_delete
-- next
CREATE TRIGGER {table}_generation_delete AFTER DELETE ON {table}
BEGIN UPDATE common_generation SET value = value + 1 WHERE name = '{generation}'; END
