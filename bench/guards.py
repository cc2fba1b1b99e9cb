"""What content rules add to a call: 2 kB of text with every built-in rule, and a stream of 200 events.

    .venv/bin/python -m bench.guards

Pure functions only, so it needs no server; CPU time of one thread. The budget is 200 us for 2 kB.
"""

import os
from typing import Any

import django

from bench.prompts import cpu_us

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "platform_site.settings")
django.setup()

from gateway.guards.combining import combine  # noqa: E402 - they know the rows of keys, which need the settings
from gateway.guards.screening import Screening  # noqa: E402
from gateway.guards.texts import Change, change_body  # noqa: E402
from gateway.guards.trying import try_rules  # noqa: E402
from gateway.guards.values import Action, Rule, RuleKind, Surface  # noqa: E402
from gateway.guards.windows import Window  # noqa: E402

_CALLS = 5_000
_STREAMS = 300
_CHARACTERS = 2_000
_TOKEN_CHARACTERS = 4
_EVERYWHERE = frozenset(Surface)
_PROSE = (
    "Dear support, my parcel has not arrived yet, and I would like to know where it is. I ordered it on Monday, the "
    "third of the month, and was told that it would take two days. Could you please look into it and tell me more? "
)
_DATA = "Write to ada@example.org or call +49 30 1234567; the card is 4111 1111 1111 1111, the address 10.11.12.13. "
_TEXTS = {
    "prose": (_PROSE * 20)[:_CHARACTERS],
    "prose with 4 findings": (_DATA + _PROSE * 20)[:_CHARACTERS],
    "prose in German": ("Guten Tag, mein Päckchen für die Müllers ist noch nicht da, können Sie bitte prüfen? " * 30)[
        :_CHARACTERS
    ],
    "nothing but findings": (_DATA * 30)[:_CHARACTERS],
    "digits": ("1234567890123456 " * 200)[:_CHARACTERS],
    "full-width letters": "\uff21\uff22" * (_CHARACTERS // 2),
}


def make_rules() -> tuple[Rule, ...]:
    """Return one rule of every kind; the lists have 1,000 words."""
    terms = tuple(f"word{number}x" for number in range(1_000))
    kinds: dict[RuleKind, dict[str, object]] = {
        RuleKind.INJECTION: {"threshold": 60},
        RuleKind.PII: {},
        RuleKind.SECRETS: {},
        RuleKind.WORDS: {"terms": terms},
        RuleKind.TOPIC: {"terms": terms[:100], "threshold": 3},
        RuleKind.PATTERN: {"pattern": r"\bproject-[0-9]{4,8}\b"},
        RuleKind.LANGUAGE: {"languages": frozenset({"en", "de"})},
        RuleKind.LENGTH: {"max_characters": 100_000},
    }
    return tuple(
        Rule("bench", kind.value, kind, Action.FLAG, _EVERYWHERE, **options)  # type: ignore[arg-type]
        for kind, options in kinds.items()
    )


def main() -> None:
    """Print the figures."""
    rules = make_rules()
    guard = combine(rules)
    for name, text in _TEXTS.items():
        body = {"messages": [{"role": "user", "content": text}]}

        def call(_: int, body: dict[str, Any] = body) -> object:
            def change_all(change: Change) -> object:
                return change_body(body, change)

            return Screening(guard, call=None, count=None, request=None).check(change_all)

        call(0)
        print(f"{name:24}{cpu_us(call, _CALLS):8.1f} us  (budget 200)")
    for outcome in try_rules(rules, Surface.USER, _TEXTS["prose"]).outcomes:
        print(f"  {outcome.rule.name:22}{outcome.microseconds:8.1f} us alone, prose")

    text = (_PROSE * 8)[: 200 * _TOKEN_CHARACTERS]
    pieces = [text[start : start + _TOKEN_CHARACTERS] for start in range(0, len(text), _TOKEN_CHARACTERS)]
    quick = combine(tuple(rule for rule in rules if rule.kind is not RuleKind.LANGUAGE))

    def stream(_: int) -> None:
        window = Window(quick[Surface.ANSWER], place="text", note=print, mask=lambda _target, found: found)
        for piece in pieces:
            window.feed(piece)
        window.feed("", is_end=True)

    stream(0)
    print(f"{'stream of 200 events':24}{cpu_us(stream, _STREAMS):8.1f} us")


if __name__ == "__main__":
    main()
