CREATE OR REPLACE FUNCTION tollkeeper_raise_catalogue_generation() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    UPDATE common_generation SET value = value + 1 WHERE name = 'catalogue';
    RETURN NULL;
END $$
-- next
DROP TRIGGER IF EXISTS {table}_catalogue ON {table}
-- next
CREATE TRIGGER {table}_catalogue AFTER INSERT OR UPDATE OR DELETE ON {table}
FOR EACH STATEMENT EXECUTE FUNCTION tollkeeper_raise_catalogue_generation()
