"""What would the models of a policy's rules say of a text? Real calls, from code that is not asynchronous."""

import asyncio
from collections.abc import Sequence
from time import perf_counter
from typing import NamedTuple

from common.ids import make_id
from gateway.guards.judging import join_texts
from gateway.guards.texts import Text
from gateway.guards.values import Action, OnFailure, Rule, Surface
from gateway.judges import About, Outcome, ask_judge
from gateway.pipeline import run_call
from gateway.prompt_tests.calling import borrowed_runtime
from gateway.runtime import Runtime
from gateway.stages.authenticate import look_up

# Longer than all deadlines of rules; what is waited for beyond them is the process.
_LONGEST_SECONDS = 30


class JudgeTrial(NamedTuple):
    """What the judge of one rule says of a text."""

    rule: Rule
    # What would become of the call; None: it goes on.
    action: Action | None
    reason: str
    charged_nanousd: int
    milliseconds: float


def try_judges(rules: Sequence[Rule], surface: Surface, text: str) -> list[JudgeTrial]:
    """Return what the judges of `rules` say, asked at once. Not for the event loop's own thread."""
    if not text:
        return []
    with borrowed_runtime() as runtime:
        asking = asyncio.run_coroutine_threadsafe(_ask(runtime, rules, Text(surface, "text", text)), runtime.loop)
        return asking.result(_LONGEST_SECONDS)


async def _ask(runtime: Runtime, rules: Sequence[Rule], text: Text) -> list[JudgeTrial]:
    for line_id in {rule.judge.key_line_id for rule in rules if rule.judge is not None}:
        # What the process knows of models is as of its last call, which may be long ago; this brings it up to date.
        await look_up(runtime, runtime.borrow_key(line_id))
    about, document = About(make_id("try"), "none"), join_texts([text])
    began = perf_counter()

    async def ask(rule: Rule) -> JudgeTrial:
        outcome = await ask_judge(runtime, run_call, rule, document, about=about)
        took = (perf_counter() - began) * 1_000
        return JudgeTrial(rule, _action_of(outcome), _reason_of(outcome), outcome.charged_nanousd, took)

    return list(await asyncio.gather(*(ask(rule) for rule in rules)))


def _action_of(outcome: Outcome) -> Action | None:
    rule, verdict = outcome.rule, outcome.verdict
    if verdict is not None:
        return rule.action if verdict.is_violation else None
    assert rule.judge is not None
    is_blocked = rule.action is Action.BLOCK and rule.judge.on_failure is OnFailure.BLOCK
    return Action.BLOCK if is_blocked else Action.FLAG


def _reason_of(outcome: Outcome) -> str:
    return outcome.verdict.reason if outcome.verdict is not None else f"no verdict: {outcome.failure}"
