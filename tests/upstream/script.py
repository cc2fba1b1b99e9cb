"""Which behaviour a request gets.

A target is a model name or, for paths other than chat completions, the path. A target that was scripted by
name uses its own queue, then its own default, then the shared default, and never takes from the shared
queue: concurrent requests for other models cannot eat a behaviour meant for this one. Everything else takes
the next of the shared queue, then the shared default. Each queued behaviour is handed out once, whatever the
concurrency.
"""

import threading
from collections import deque
from dataclasses import dataclass, field

from tests.upstream.behaviours import Behaviour, JsonObject, parse_behaviour


@dataclass(slots=True, kw_only=True)
class _Plan:
    queue: deque[Behaviour] = field(default_factory=deque)
    default: Behaviour | None = None


class Script:
    """Thread-safe queues and defaults, shared and by target."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._plans: dict[str | None, _Plan] = {None: _Plan()}

    def queue(self, *behaviours: Behaviour, target: str | None = None) -> None:
        """Append behaviours for the next requests (None: of any target that is not scripted by name)."""
        with self._lock:
            self._plans.setdefault(target, _Plan()).queue.extend(behaviours)

    def set_default(self, behaviour: Behaviour, *, target: str | None = None) -> None:
        """Set what a request gets when its queue is empty."""
        with self._lock:
            self._plans.setdefault(target, _Plan()).default = behaviour

    def reset(self) -> None:
        """Forget everything: a correct provider again."""
        with self._lock:
            self._plans = {None: _Plan()}

    def choose(self, target: str) -> Behaviour:
        """Take the behaviour for a chat completion request for that model."""
        with self._lock:
            return self._take(self._plans.get(target) or self._plans[None])

    def choose_for_path(self, path: str) -> Behaviour | None:
        """Take the behaviour for another path; None when that path is not scripted."""
        with self._lock:
            plan = self._plans.get(path)
            return self._take(plan) if plan else None

    def _take(self, plan: _Plan) -> Behaviour:
        if plan.queue:
            return plan.queue.popleft()
        return plan.default or self._plans[None].default or Behaviour()

    def count_queued(self) -> int:
        """Return how many queued behaviours no request has taken yet."""
        with self._lock:
            return sum(len(plan.queue) for plan in self._plans.values())

    def load(self, document: JsonObject) -> None:
        """Add a script in its JSON form; the script file and the control API share it.

        `{"queue": [...], "default": behaviour, "targets": {name: {"queue": [...], "default": behaviour}}}`,
        every part optional. Raises ValueError, and changes nothing, when any part of it is unknown.
        """
        unknown = set(document) - {"queue", "default", "targets"}
        sections: dict[str | None, JsonObject] = {None: document}
        for target, section in document.get("targets", {}).items():
            unknown |= set(section) - {"queue", "default"}
            sections[target] = section
        if unknown:
            raise ValueError(f"unknown parts of a script: {', '.join(sorted(unknown))}")
        queues = {
            target: [parse_behaviour(item) for item in section.get("queue", [])] for target, section in sections.items()
        }
        defaults = {
            target: parse_behaviour(section["default"]) for target, section in sections.items() if "default" in section
        }
        for target, behaviours in queues.items():
            if behaviours:
                self.queue(*behaviours, target=target)
        for target, default in defaults.items():
            self.set_default(default, target=target)
