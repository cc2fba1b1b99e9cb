DROP TRIGGER IF EXISTS {table}_resolution
-- next
-- Not IN: a list of three becomes a table of its own, anew for every row.
CREATE TRIGGER {table}_resolution BEFORE INSERT ON {table}
WHEN (NEW.kind = 'post' OR NEW.kind = 'void' OR NEW.kind = 'expire') AND NOT EXISTS (
    SELECT 1 FROM {table} hold
    WHERE hold.id = NEW.pending_id AND hold.kind = 'pending'
    AND hold.debit_account_id = NEW.debit_account_id AND hold.credit_account_id = NEW.credit_account_id
    AND hold.request_id IS NEW.request_id
    AND CASE NEW.kind WHEN 'post' THEN NEW.amount_nanousd <= hold.amount_nanousd
        ELSE NEW.amount_nanousd = hold.amount_nanousd END
)
BEGIN SELECT RAISE(ABORT, '{table}: a post, void or expiry must match the hold that it names'); END
