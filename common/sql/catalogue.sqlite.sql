CREATE TRIGGER IF NOT EXISTS {table}_catalogue_insert AFTER INSERT ON {table}
BEGIN UPDATE common_generation SET value = value + 1 WHERE name = 'catalogue'; END
-- next
CREATE TRIGGER IF NOT EXISTS {table}_catalogue_update AFTER UPDATE ON {table}
BEGIN UPDATE common_generation SET value = value + 1 WHERE name = 'catalogue'; END
-- next
CREATE TRIGGER IF NOT EXISTS {table}_catalogue_delete AFTER DELETE ON {table}
BEGIN UPDATE common_generation SET value = value + 1 WHERE name = 'catalogue'; END
