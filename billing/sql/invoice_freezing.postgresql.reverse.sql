DROP FUNCTION IF EXISTS tollkeeper_refuse_invoice_change()
