DROP TRIGGER IF EXISTS {table}_append_only_update
-- next
-- A draft may become anything; once issued, only the state moves, and only forward.
CREATE TRIGGER {table}_append_only_update BEFORE UPDATE ON {table}
WHEN OLD.status <> 'draft' AND NOT (
    (
    NEW.id, NEW.customer_id, NEW.month, NEW.number, NEW.series, NEW.year, NEW.sequence, NEW.time_zone,
    NEW.period_start, NEW.period_end, NEW.seller, NEW.buyer, NEW.usage_nanousd, NEW.basis_nanousd,
    NEW.granted_nanousd, NEW.prepaid_nanousd, NEW.net_nanousd, NEW.carried_nanousd, NEW.tax_millionths,
    NEW.tax_nanousd, NEW.total_nanousd, NEW.due_cents, NEW.replaces_id, NEW.computed_at, NEW.issued_at,
    NEW.due_on
    ) IS (
    OLD.id, OLD.customer_id, OLD.month, OLD.number, OLD.series, OLD.year, OLD.sequence, OLD.time_zone,
    OLD.period_start, OLD.period_end, OLD.seller, OLD.buyer, OLD.usage_nanousd, OLD.basis_nanousd,
    OLD.granted_nanousd, OLD.prepaid_nanousd, OLD.net_nanousd, OLD.carried_nanousd, OLD.tax_millionths,
    OLD.tax_nanousd, OLD.total_nanousd, OLD.due_cents, OLD.replaces_id, OLD.computed_at, OLD.issued_at,
    OLD.due_on
    )
    AND NEW.paid_cents >= OLD.paid_cents
    AND CASE OLD.status WHEN 'issued' THEN NEW.status IN ('issued', 'paid', 'void')
        WHEN 'paid' THEN NEW.status IN ('paid', 'void') ELSE false END
)
BEGIN SELECT RAISE(ABORT, '{table}: an issued invoice is never changed, void it'); END
-- next
DROP TRIGGER IF EXISTS {table}_append_only_delete
-- next
CREATE TRIGGER {table}_append_only_delete BEFORE DELETE ON {table}
WHEN OLD.status <> 'draft'
BEGIN SELECT RAISE(ABORT, '{table}: an issued invoice is never deleted, void it'); END
