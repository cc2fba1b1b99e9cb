"""A caller whose texts a model judges: the caller, the house that pays for the judge, and the policy between them."""

from dataclasses import dataclass
from functools import partial
from typing import Any

from billing.models import UsageRecord
from billing.reconciliation import reconcile
from gateway.guard_models import GuardDecision, GuardPolicy
from gateway.models import Model
from tests import factories
from tests.flows.platform import Caller, Platform, wait_for
from tests.upstream import Behaviour
from tests.upstream.journal import RecordedRequest

USAGE = {"prompt_tokens": 100, "completion_tokens": 10, "total_tokens": 110}
# 100 tokens at 1 USD and 10 at 4 USD a million.
CHECK_NANOUSD = 140_000
TEXT = "amber birch cedar delta "


def verdict(violates: bool, **options: Any) -> Behaviour:
    """Return a judge's answer, with the usage that costs `CHECK_NANOUSD`."""
    said = f'{{"violates": {str(violates).lower()}, "reason": "because"}}'
    return Behaviour(**{"text": said, "usage": USAGE, **options})


@dataclass(frozen=True, slots=True, kw_only=True)
class Judged:
    """Who calls, who pays for the checks and which model makes them."""

    platform: Platform
    caller: Caller
    house: Caller
    policy: GuardPolicy

    def say(self, *behaviours: Behaviour) -> None:
        """Queue what the judge answers; then it lets everything through."""
        self.platform.upstream.queue(*behaviours, target=self.house.model)

    def questions(self) -> list[RecordedRequest]:
        """Return what the judge was asked."""
        return self.platform.requests_for(self.house.model)

    def texts_asked(self) -> list[str]:
        """Return the user's messages of what the judge was asked, without the marks around them."""
        bodies = [request.body for request in self.questions()]
        return ["\n".join(body["messages"][-1]["content"].split("\n")[1:-1]) for body in bodies if body is not None]

    def settle(self, *, calls: int = 1, checks: int = 1) -> tuple[UsageRecord, UsageRecord]:
        """Wait for the records of both, check that all is settled and reconciles; return the last of each."""
        platform = self.platform
        own, checked = self._wait_for(self.caller, calls), self._wait_for(self.house, checks)
        for who in (self.caller, self.house):
            wait_for(partial(self._has_no_hold, who), what="no open hold")
            platform.assert_settled(who)
        report = platform.run(reconcile)
        assert report.is_clean, report.as_text()
        return own[-1], checked[-1]

    def _wait_for(self, who: Caller, n: int) -> list[UsageRecord]:
        """Return exactly n records, or one that says nothing where none is expected."""
        found = self.platform.wait_for_usage(who, n) if n else self.platform.read_usage(who)
        assert len(found) == n
        return found or [UsageRecord()]

    def _has_no_hold(self, who: Caller) -> bool:
        return not self.platform.read_holds(who)

    def decisions(self, n: int = 1) -> list[GuardDecision]:
        """Wait until n decisions about the caller are kept and return them."""
        platform, customer_id = self.platform, self.caller.customer_id

        def read() -> list[GuardDecision]:
            return platform.run(lambda: list(GuardDecision.objects.filter(customer_id=customer_id).order_by("id")))

        return wait_for(lambda: found if len(found := read()) >= n else [], what=f"{n} decisions")


def make_judged(
    platform: Platform,
    *rules: dict[str, Any],
    caller: Caller | None = None,
    house: Caller | None = None,
    **policy: Any,
) -> Judged:
    """Return a caller under a policy; each rule is one that a model judges, unless it names another kind."""
    who, payer = caller or platform.make_caller(), house or platform.make_caller()
    platform.upstream.set_default(verdict(False), target=payer.model)
    if not policy.get("is_for_everybody") and "prompt_id" not in policy:
        policy["customer_id"] = who.customer_id

    def make() -> GuardPolicy:
        judge = {
            "kind": "model",
            "action": "block",
            "name": "advice",
            "instructions": "Medical advice.",
            "judge_model_id": Model.objects.get(name=payer.model).pk,
            "judge_key_id": payer.key_id,
            "deadline_ms": 10_000,
        }
        made = [{**(judge if rule.get("kind", "model") == "model" else {}), **rule} for rule in rules or ({},)]
        return factories.make_guard(*made, **policy)

    return Judged(platform=platform, caller=who, house=payer, policy=platform.run(make))
