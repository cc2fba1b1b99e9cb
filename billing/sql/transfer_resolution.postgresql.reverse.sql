DROP TRIGGER IF EXISTS {table}_resolution ON {table}
