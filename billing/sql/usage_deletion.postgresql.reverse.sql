DROP FUNCTION IF EXISTS tollkeeper_refuse_unarchived()
