"""By which list, and with which markup, a plan or a customer pays: immutable terms with the moment they begin.

A call is priced by its customer's newest terms in force; where there are none (or the newest are withdrawn) by its
plan's; else by the standard list as it is. A list that has no price for a model leaves it to the standard list, with
the same markup. A markup on cost needs a cost: where the price version names none, the list price stands, so that
nothing is free because somebody did not know what it costs.
"""

from bisect import bisect_right
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime

from django.db import transaction
from django.db.models import Q

from billing.errors import PriceInvalid
from billing.models import MarkupBasis, PriceTerms, PriceVersion
from billing.rates import WHOLE_BASIS_POINTS
from billing.waiving import NoCharge
from common.clock import to_us
from common.sql import Sql
from keys.audit import Actor, author_actor, record_event

_COLUMNS = (
    "id",
    "plan_id",
    "customer_id",
    "effective_from",
    "price_list",
    "basis",
    "markup_basis_points",
    "no_charge_on",
    "is_withdrawn",
)
MAX_MARKUP_BASIS_POINTS = 1_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """A row of `billing.PriceTerms`; one of `plan_id` and `customer_id` is set."""

    id: int
    plan_id: int | None
    customer_id: int | None
    effective_us: int
    price_list: str
    basis: MarkupBasis
    markup_basis_points: int
    no_charge_on: str
    is_withdrawn: bool

    @property
    def factor_basis_points(self) -> int:
        """Return what every rate is multiplied by, in hundredths of a percent."""
        return WHOLE_BASIS_POINTS + self.markup_basis_points


class TermsBook:
    """All terms, frozen; answers which count for a customer at a moment."""

    def __init__(self, terms: Iterable[Terms] = ()) -> None:
        self._by_customer: dict[int, list[Terms]] = {}
        self._by_plan: dict[int, list[Terms]] = {}
        self._by_id: dict[int, Terms] = {}
        for found in sorted(terms, key=lambda t: (t.effective_us, t.id)):
            self._by_id[found.id] = found
            if found.customer_id is not None:
                self._by_customer.setdefault(found.customer_id, []).append(found)
            elif found.plan_id is not None:
                self._by_plan.setdefault(found.plan_id, []).append(found)

    def find_terms(self, *, customer_id: int | None, plan_id: int | None, at_us: int) -> Terms | None:
        """Return the terms in force at `at_us`, or None: the standard price counts."""
        return _in_force(self._by_customer.get(customer_id or 0), at_us) or _in_force(
            self._by_plan.get(plan_id or 0), at_us
        )

    def get_terms(self, terms_id: int) -> Terms:
        """Return terms by id; KeyError means that the book is older than they are."""
        return self._by_id[terms_id]


def _in_force(terms: list[Terms] | None, at_us: int) -> Terms | None:
    if not terms:
        return None
    position = bisect_right(terms, at_us, key=lambda t: t.effective_us)
    newest = terms[position - 1] if position else None
    return None if newest is None or newest.is_withdrawn else newest


def read_terms_book(sql: Sql) -> TermsBook:
    """Return the book of all terms."""
    rows = sql.rows(f"SELECT {', '.join(_COLUMNS)} FROM billing_priceterms")
    return TermsBook(_terms(dict(zip(_COLUMNS, row, strict=True))) for row in rows)


def _terms(row: dict[str, object]) -> Terms:
    values = dict(row)
    effective_from = values.pop("effective_from")
    assert isinstance(effective_from, datetime)
    values["basis"] = MarkupBasis(str(values["basis"]))
    values["is_withdrawn"] = bool(values["is_withdrawn"])
    return Terms(**values, effective_us=to_us(effective_from))  # type: ignore[arg-type]


def find_terms_in_force(
    *, plan_id: int | None = None, customer_id: int | None = None, at: datetime | None = None
) -> PriceTerms | None:
    """Return the newest terms of one owner at a moment (default: now), or None; withdrawn ones count as none."""
    newest = (
        PriceTerms.objects.filter(_owned_by(plan_id, customer_id), effective_from__lte=at or datetime.now(UTC))
        .order_by("-effective_from", "-id")
        .first()
    )
    return None if newest is None or newest.is_withdrawn else newest


def _owned_by(plan_id: int | None, customer_id: int | None) -> Q:
    return Q(customer_id=customer_id) if customer_id is not None else Q(plan_id=plan_id)


def publish_terms(
    *,
    plan_id: int | None = None,
    customer_id: int | None = None,
    price_list: str = "",
    basis: MarkupBasis = MarkupBasis.LIST,
    markup_basis_points: int = 0,
    no_charge_on: NoCharge = NoCharge.NEVER,
    author: str,
    effective_from: datetime | None = None,
    reason: str = "",
    actor: Actor | None = None,
) -> PriceTerms:
    """Add terms of a plan or of a customer (exactly one of them); earlier terms and past usage stay as they are.

    Raises PriceInvalid for a markup out of range, a list that has no price, or a second version of one moment.
    """
    if not -WHOLE_BASIS_POINTS <= markup_basis_points <= MAX_MARKUP_BASIS_POINTS:
        raise PriceInvalid("A markup lies between -100 % (free) and 10,000 %.", param="markup")
    if price_list and not PriceVersion.objects.filter(price_list=price_list).exists():
        raise PriceInvalid(
            f"There is no price list '{price_list}'. Publish a price with this list's name first.", param="price_list"
        )
    return _publish(
        plan_id=plan_id,
        customer_id=customer_id,
        effective_from=effective_from,
        price_list=price_list,
        basis=basis,
        markup_basis_points=markup_basis_points,
        no_charge_on=no_charge_on,
        author=author,
        reason=reason,
        actor=actor,
    )


def withdraw_terms(
    *,
    plan_id: int | None = None,
    customer_id: int | None = None,
    author: str,
    effective_from: datetime | None = None,
    reason: str = "",
    actor: Actor | None = None,
) -> PriceTerms:
    """End the terms of a plan or customer from a moment on (default: now). Raises PriceInvalid like publish_terms."""
    return _publish(
        plan_id=plan_id,
        customer_id=customer_id,
        effective_from=effective_from,
        price_list="",
        basis=MarkupBasis.LIST,
        markup_basis_points=0,
        is_withdrawn=True,
        author=author,
        reason=reason,
        actor=actor,
    )


def _publish(
    *,
    plan_id: int | None,
    customer_id: int | None,
    effective_from: datetime | None,
    actor: Actor | None,
    **columns: object,
) -> PriceTerms:
    if (plan_id is None) == (customer_id is None):
        raise PriceInvalid("Terms belong to a plan or to a customer: name one of them.", param="customer")
    now = datetime.now(UTC)
    moment = effective_from or now
    if PriceTerms.objects.filter(_owned_by(plan_id, customer_id), effective_from=moment).exists():
        raise PriceInvalid(
            f"There are terms from {moment:%Y-%m-%d %H:%M:%S} UTC on; terms are never changed, publish some with a "
            "later moment.",
            param="effective_from",
        )
    with transaction.atomic():
        terms = PriceTerms.objects.create(
            plan_id=plan_id, customer_id=customer_id, effective_from=moment, created_at=now, **columns
        )
        record_event(
            actor=actor or author_actor(terms.author),
            action="price_terms.published",
            target=terms,
            after={"effective_from": moment, **{k: v for k, v in columns.items() if k not in ("author", "reason")}},
            reason=terms.reason,
        )
    return terms
