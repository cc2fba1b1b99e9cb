CREATE OR REPLACE FUNCTION tollkeeper_raise_generation() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    UPDATE common_generation SET value = value + 1 WHERE name = TG_ARGV[0];
    RETURN NULL;
END $$
-- next
-- The columns are an argument and not an `UPDATE OF` list: PostgreSQL lets no migration alter a listed column.
CREATE OR REPLACE FUNCTION tollkeeper_raise_generation_of_row() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF to_jsonb(OLD) - TG_ARGV[1]::text[] IS DISTINCT FROM to_jsonb(NEW) - TG_ARGV[1]::text[] THEN
        UPDATE common_generation SET value = value + 1 WHERE name = TG_ARGV[0];
    END IF;
    RETURN NULL;
END $$
-- next
CREATE OR REPLACE TRIGGER {table}_generation AFTER INSERT OR DELETE OR TRUNCATE ON {table}
FOR EACH STATEMENT EXECUTE FUNCTION tollkeeper_raise_generation('{generation}')
-- next
CREATE OR REPLACE TRIGGER {table}_generation_update AFTER UPDATE ON {table}
FOR EACH ROW EXECUTE FUNCTION tollkeeper_raise_generation_of_row('{generation}', '{{unwatched_columns}}')
