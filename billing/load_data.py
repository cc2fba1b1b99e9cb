"""Usage by the million for measuring lists and exports: customers of their own, with a ledger that adds up.

Rows are made by the database itself (a hundred thousand a transaction), so five million take minutes. Everything is
named "Load data", charged by DIRECT transfers to customers that exist for it only, and `reconcile` finds no difference.
Calls lie evenly between a first day and the last midnight, so that no budget's present day is touched.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from django.db import connection, transaction

from billing.accounts import open_customer_account, open_platform_account
from billing.errors import AmountInvalid
from billing.ledger import grant_credit
from billing.models import AccountKind, PriceVersion
from billing.pricing import publish_price
from common.clock import EPOCH, to_us
from common.money import NANO_PER_USD
from common.sql import Sql
from keys.customers import create_customer
from keys.issuing import issue_key
from keys.models import ApiKey, Customer, LimitState, Plan
from keys.windows import day_number, month_number, month_start_day

AUTHOR = "load data"
_CUSTOMERS = 20
_KEYS_A_CUSTOMER = 3
_MODELS = ("load-large", "load-small", "load-fast", "load-reasoning", "load-rare")
_ROWS_A_CHUNK = 100_000
_PREFIX = "req_load"
# The prices, in nano-USD a token: what each customer pays, and what the platform would.
_INPUT, _OUTPUT = 1_000, 4_000
_PROVIDER_INPUT, _PROVIDER_OUTPUT = 600, 2_400
_DAY_US = 86_400_000_000
_CREDIT_NANOUSD = 8_000_000 * NANO_PER_USD


@dataclass(frozen=True, slots=True, kw_only=True)
class _Cast:
    """Who calls, what, and at what price."""

    customer_ids: tuple[int, ...]
    key_ids: tuple[int, ...]
    price_ids: tuple[int, ...]


def generate_usage(rows: int, *, days: int) -> Iterator[int]:
    """Add rows of the last `days` full days; yield how many there are of this run, after each transaction."""
    cast = _engage_cast()
    first, done = _next_number(), 0
    end = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    start_us = to_us(end - timedelta(days=days))
    step_us = days * _DAY_US // rows
    while done < rows:
        size = min(_ROWS_A_CHUNK, rows - done)
        with transaction.atomic():
            _write_chunk(cast, first=first + done, size=size, start_us=start_us + done * step_us, step_us=step_us)
        done += size
        yield done


def _engage_cast() -> _Cast:
    """Return the customers, keys and prices, making those that are missing."""
    plan, _ = Plan.objects.get_or_create(slug="load-data", defaults={"name": "Load data"})
    customer_ids: list[int] = []
    key_ids: list[int] = []
    for number in range(1, _CUSTOMERS + 1):
        name = f"Load data {number:02d}"
        customer = Customer.objects.filter(name=name).first()
        if customer is None:
            customer = create_customer(name=name, plan=plan, note="Made by manage.py generate_usage; not a customer.")
            grant_credit(customer_id=customer.pk, amount_nanousd=_CREDIT_NANOUSD, reason="Load data", author=AUTHOR)
            for key_number in range(1, _KEYS_A_CUSTOMER + 1):
                issue_key(customer_id=customer.pk, name=f"load data {key_number}", author=AUTHOR)
        customer_ids.append(customer.pk)
        key_ids += ApiKey.objects.filter(customer=customer).order_by("pk").values_list("pk", flat=True)
    if len(key_ids) != _CUSTOMERS * _KEYS_A_CUSTOMER:
        raise AmountInvalid("The customers of load data have other keys than they were made with.", param="rows")
    return _Cast(customer_ids=tuple(customer_ids), key_ids=tuple(key_ids), price_ids=tuple(map(_find_price, _MODELS)))


def _find_price(model: str) -> int:
    found = PriceVersion.objects.filter(model=model, price_list="").first()
    version = found or publish_price(
        model=model,
        rates={
            "input_nanousd": _INPUT * 1_000_000,
            "output_nanousd": _OUTPUT * 1_000_000,
            "provider_input_nanousd": _PROVIDER_INPUT * 1_000_000,
            "provider_output_nanousd": _PROVIDER_OUTPUT * 1_000_000,
        },
        author=AUTHOR,
        effective_from=EPOCH,
        reason="Load data",
    )
    return version.pk


def _next_number() -> int:
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT max(request_id) FROM billing_usagerecord WHERE request_id >= %s AND request_id < %s",
            (f"{_PREFIX}0", f"{_PREFIX}:"),
        )
        highest = cursor.fetchone()[0]
    return int(highest.removeprefix(_PREFIX)) + 1 if highest else 0


def _write_chunk(cast: _Cast, *, first: int, size: int, start_us: int, step_us: int) -> None:
    """Write usage, its charges, and what balances and budgets make of them, in the caller's transaction."""
    sql = Sql(connection)
    names = (f"{_PREFIX}{first:018d}", f"{_PREFIX}{first + size - 1:018d}")
    sql.run(_usage_statement(sql, cast, first=first, size=size, start_us=start_us, step_us=step_us))
    chosen = "request_id BETWEEN %s AND %s"
    revenue = open_platform_account(AccountKind.REVENUE)
    sql.run(
        "INSERT INTO billing_transfer (kind, debit_account_id, credit_account_id, amount_nanousd, request_id, reason,"
        f" author, created_at) SELECT 'direct', a.id, {revenue.pk}, u.charged_nanousd, u.request_id, 'Load data',"
        f" '{AUTHOR}', u.settled_at FROM billing_usagerecord u JOIN billing_account a ON a.customer_id = u.customer_id"
        f" WHERE u.{chosen} AND u.charged_nanousd > 0 ORDER BY u.id",
        names,
    )
    month = month_number(to_us(datetime.now(UTC)))
    month_start = sql.moment(month_start_day(month) * _DAY_US)
    for column, kind in (("customer_id", "customer"), ("api_key_id", "key")):
        for owner_id, charged, of_month in sql.rows(
            f"SELECT {column}, sum(charged_nanousd), sum(CASE WHEN started_at >= %s THEN charged_nanousd ELSE 0 END)"
            f" FROM billing_usagerecord WHERE {chosen} GROUP BY {column} ORDER BY {column}",
            (month_start, *names),
        ):
            _count(kind, owner_id, int(charged), int(of_month), month)


def _count(kind: str, owner_id: int, charged: int, of_month: int, month: int) -> None:
    if kind == "customer":
        account = open_customer_account(owner_id)
        account.posted_nanousd -= charged
        account.save(update_fields=["posted_nanousd"])
    state, _ = LimitState.objects.get_or_create(owner=f"{kind}:{owner_id}")
    today = day_number(to_us(datetime.now(UTC)))
    if state.day != today:
        state.day, state.day_posted_nanousd = today, 0
    if state.month != month:
        state.month, state.month_posted_nanousd = month, 0
    state.month_posted_nanousd += of_month
    state.total_posted_nanousd += charged
    state.save()


def _usage_statement(sql: Sql, cast: _Cast, *, first: int, size: int, start_us: int, step_us: int) -> str:
    """Return the INSERT of rows `first`, `first + 1`, ...; each is a function of its number alone."""
    if sql.is_sqlite:
        numbers = f"WITH RECURSIVE g(n) AS (SELECT {first} UNION ALL SELECT n + 1 FROM g WHERE n < {first + size - 1})"
        name = f"printf('{_PREFIX}%018d', n)"
        moment = "strftime('%Y-%m-%d %H:%M:%f', ({us}) / 1e6, 'unixepoch')"
        flag = {"no": "0", "yes": "1"}
        tags = "'{\"team\": \"' || (h % 7) || '\"}'"
    else:
        numbers = f"WITH g AS (SELECT n FROM generate_series({first}::bigint, {first + size - 1}) AS n)"
        name = f"'{_PREFIX}' || lpad(n::text, 18, '0')"
        moment = "timestamptz 'epoch' + ({us}) * interval '1 microsecond'"
        flag = {"no": "false", "yes": "true"}
        tags = "jsonb_build_object('team', (h % 7)::text)"
    started = f"{start_us} + (n - {first}) * {step_us}"
    # A third of the calls are one customer's; one call in a thousand is of the rare model, one in a hundred fails.
    customer = "(CASE WHEN h % 100 < 34 THEN 0 WHEN h % 100 < 54 THEN 1 ELSE 2 + h % 18 END)"
    model = "(CASE WHEN h % 1000 = 500 THEN 4 ELSE (h / 1000) % 4 END)"
    fails = "h % 100 = 77"
    key = _choose(f"(c * {_KEYS_A_CUSTOMER} + (h / 11) % {_KEYS_A_CUSTOMER})", cast.key_ids)
    return f"""
INSERT INTO billing_usagerecord (request_id, sequence, customer_id, api_key_id, operation, model, upstream,
    upstream_model, price_version_id, status, source, error_code, finish_reason, is_stream, input_tokens,
    cache_read_tokens, cache_write_tokens, output_tokens, reasoning_tokens, audio_input_tokens, audio_output_tokens,
    cost_nanousd, charged_nanousd, provider_cost_nanousd, flags, end_user, tags, started_at, settled_at, upstream_ms,
    ttft_ms, total_ms, overhead_us, prompt, prompt_version)
{numbers},
hashed AS (SELECT n, (n * 2654435761 + 12345) % 4294967291 AS h FROM g),
cast_of AS (SELECT n, h, {customer} AS c, {model} AS m, {fails} AS fails FROM hashed),
sized AS (SELECT n, h, c, m, fails,
    CASE WHEN fails THEN 0 ELSE 50 + h % 2000 END AS i, CASE WHEN fails THEN 0 ELSE 10 + (h / 7) % 500 END AS o
    FROM cast_of)
SELECT {name}, 0, {_choose("c", cast.customer_ids)}, {key},
    'chat.completions', {_choose("m", _MODELS)}, 'load', {_choose("m", _MODELS)}, {_choose("m", cast.price_ids)},
    CASE WHEN fails THEN 'failed' ELSE 'completed' END, CASE WHEN fails THEN 'none' ELSE 'provider' END,
    CASE WHEN fails THEN 'upstream_unavailable' ELSE '' END, CASE WHEN fails THEN '' ELSE 'stop' END,
    CASE WHEN h % 3 = 0 THEN {flag["yes"]} ELSE {flag["no"]} END, i, 0, 0, o, 0, 0, 0,
    i * {_INPUT} + o * {_OUTPUT}, i * {_INPUT} + o * {_OUTPUT}, i * {_PROVIDER_INPUT} + o * {_PROVIDER_OUTPUT},
    '', '', {tags}, {moment.format(us=started)}, {moment.format(us=f"{started} + (300 + h % 3000) * 1000")},
    300 + h % 3000, 120 + h % 300, 300 + h % 3000, 900 + h % 400, '', ''
FROM sized ORDER BY n"""


def _choose(index: str, values: Sequence[int | str]) -> str:
    """Return the SQL of the value at an index."""
    cases = " ".join(f"WHEN {place} THEN {_literal(value)}" for place, value in enumerate(values))
    return f"CASE {index} {cases} END"


def _literal(value: int | str) -> str:
    return str(value) if isinstance(value, int) else f"'{value}'"
