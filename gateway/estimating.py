"""What a call would cost and whether it would be admitted, told without a hold.

The same functions as on the way of a call: `parse` reads and counts, `resolve` prices, `guard` refuses what cannot fit,
and admission's own decision is asked with balances and counters that are read without a lock. Nothing is written; the
real call decides anew, by what is true then.
"""

from dataclasses import dataclass

from asgiref.sync import async_to_sync
from django.db import connection

from billing.accounts import get_balance
from billing.journal import AccountState
from billing.rates import Processing, Rates
from common.ids import make_id
from common.sql import Sql
from gateway.admission.commands import Admit, Admitted, Refused
from gateway.admission.decisions import AdmissionState, decide_admission
from gateway.bounds import CallBounds
from gateway.breaker_rows import read_standing
from gateway.calls import ChatCall, Plan
from gateway.catalogue import Catalogue, read_catalogue
from gateway.chat.counting import InputCount, count_input
from gateway.stages.guard import check_plan
from gateway.stages.parse import read_call
from gateway.stages.resolve import plan_call
from gateway.stages.settle import asks_for_batch
from keys.limit_rows import read_counters
from keys.principals import Principal


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    """A call's price before it is made. Amounts in nano-USD."""

    call: ChatCall
    counted: InputCount
    plan: Plan
    # Those of the plan's size of input, processed as usual.
    rates: Rates
    least_nanousd: int
    # What would be held.
    most_nanousd: int
    available_nanousd: int
    answer: Admitted | Refused


def estimate_call(raw_body: bytes, principal: Principal, *, bounds: CallBounds, now_us: int) -> Estimate:
    """Return what a chat call would cost at most and at least, and what admission would say now.

    Raises what the call itself would be refused with before admission: BodyInvalid, ParameterUnknown, MessagesTooMany,
    TagsInvalid, ModelNotFound, ModelUnavailable, DeploymentsResting, PriceMissing, OutputTooLong,
    InputTooLong, ContextLengthExceeded.
    """
    sql = Sql(connection)
    catalogue = read_catalogue(sql)
    call = read_call(raw_body, bounds=bounds)
    counted = async_to_sync(count_input)(call.body, enough=catalogue.largest_window)
    plan = plan_call(call, counted, principal, catalogue, now_us, standing=read_standing(sql))
    check_plan(call, plan, principal, now_us)
    available_nanousd, answer = _ask_admission(sql, plan, principal, catalogue, now_us)
    return Estimate(
        call=call,
        counted=counted,
        plan=plan,
        rates=plan.price.table.rates_for(plan.input_tokens),
        least_nanousd=_least(call, counted, plan),
        most_nanousd=plan.amount_nanousd,
        available_nanousd=available_nanousd,
        answer=answer,
    )


def _least(call: ChatCall, counted: InputCount, plan: Plan) -> int:
    """Return the cost of the input as counted, all of it of the cheapest class, without an answer."""
    processings = (Processing.STANDARD, Processing.BATCH) if asks_for_batch(call) else (Processing.STANDARD,)
    tables = [plan.price.table.rates_for(counted.text_tokens, processing) for processing in processings]
    return min(rates.lower_bound(input_tokens=counted.text_tokens) for rates in tables)


def _ask_admission(
    sql: Sql, plan: Plan, principal: Principal, catalogue: Catalogue, now_us: int
) -> tuple[int, Admitted | Refused]:
    balance = get_balance(principal.customer_id)
    account = AccountState(
        id=0,
        customer_id=principal.customer_id,
        posted_nanousd=balance.posted_nanousd,
        held_nanousd=balance.held_nanousd,
        credit_nanousd=balance.credit_nanousd,
    )
    state = AdmissionState(
        now_us=now_us,
        catalogue_generation=catalogue.generation,
        key_rows={principal.key_id: principal.row},
        accounts={principal.customer_id: account},
        counters=read_counters(sql, principal.owner_names, now_us),
    )
    answer = decide_admission(
        state,
        Admit(
            request_id=make_id("req"),
            principal=principal,
            catalogue_generation=plan.catalogue_generation,
            amount_nanousd=plan.amount_nanousd,
            input_tokens=plan.held_input_tokens,
            output_tokens=plan.held_output_tokens,
            lifetime_us=plan.lifetime_us,
            draft="",
        ),
    )
    # Key and catalogue are those that the state was made of, so nothing can be stale.
    assert isinstance(answer, Admitted | Refused)
    return balance.available_nanousd, answer
