"""What a prompt adds to a call: resolving and filling in 2 kB, and what reading the book costs after a move.

    .venv/bin/python -m bench.prompts

Pure functions only, so it needs no server; CPU time of one thread. The budget is 150 us a call.
"""

import time
from collections.abc import Callable

from prompts.content import MessageTemplate, PromptContent, Role
from prompts.json_values import JsonObject
from prompts.names import VersionNumber
from prompts.release_table import LabelEntry, PromptEntry, ReleaseTable, VersionEntry
from prompts.rendering import render_prompt
from prompts.snapshots import PromptBook, resolve_prompt

_CALLS = 20_000
_COMPILED = 500
_SYSTEM = (
    "You answer mails for {{ company }} in a {{ tone }} tone. " + "Be brief, be exact, be kind to everybody. " * 38
)
_USER = (
    "Answer {{ name }}, who wrote:\n\n{{ mail }}\n{% for order in orders %}- {{ order }}\n{% endfor %}"
    "{% if language is defined %}In {{ language }}.{% endif %}"
)
_SCHEMA: JsonObject = {
    "type": "object",
    "properties": {
        "company": {"type": "string", "maxLength": 80},
        "tone": {"enum": ["warm", "formal"]},
        "name": {"type": "string"},
        "mail": {"type": "string", "maxLength": 20_000},
        "orders": {"type": "array", "items": {"type": "string"}},
        "language": {"type": "string"},
    },
    "required": ["company", "tone", "name", "mail", "orders"],
    "additionalProperties": False,
}
_INPUTS: JsonObject = {
    "company": "Acme",
    "tone": "warm",
    "name": "Ada",
    "mail": "Where is my parcel? " * 20,
    "orders": ["A-1", "A-2", "A-3"],
    "language": "English",
}


def make_book() -> PromptBook:
    """Return a book with one prompt whose production label is rolled out at 10 %."""
    content = PromptContent(
        messages=(
            MessageTemplate(role=Role.SYSTEM, template=_SYSTEM),
            MessageTemplate(role=Role.USER, template=_USER),
        ),
        input_schema=_SCHEMA,
        model="a-model",
        parameters={"temperature": 0.2},
        allowed_overrides=("temperature",),
    )
    old, new = (
        VersionEntry(
            id=i, prompt_id=1, prompt="mail", number=VersionNumber(major=1, minor=i, patch=0), fingerprint=str(i)
        )
        for i in range(2)
    )
    label = LabelEntry(name="production", version=old, rollout=new, percent=10)
    entry = PromptEntry(
        id=1,
        name="mail",
        description="",
        by_number={v.number: v for v in (old, new)},
        labels={"production": label},
        majors={1: old},
    )
    return PromptBook(ReleaseTable(prompts={"mail": entry}), {0: content.as_json(), 1: content.as_json()})


def cpu_us(action: Callable[[int], object], times: int) -> float:
    """Return the CPU microseconds that one call of `action` takes, over `times` calls."""
    started = time.process_time()
    for number in range(times):
        action(number)
    return (time.process_time() - started) / times * 1e6


def main() -> None:
    """Print the figures."""
    book = make_book()

    def resolve(number: int) -> object:
        return resolve_prompt(book, "mail", "production", customer_id=number, session_id="s")

    def call(number: int) -> object:
        resolved = resolve_prompt(book, "mail", "production", customer_id=number, session_id="s")
        return render_prompt(resolved.compiled, _INPUTS, overrides={"temperature": 0.5})

    def compile_again(_: int) -> object:
        fresh = PromptBook(book.table, book.texts)
        return fresh.get_compiled(next(iter(fresh.table.versions())))

    rendered = render_prompt(book.get_compiled(next(iter(book.table.versions()))), _INPUTS)
    size = sum(len(message.content) for message in rendered.messages)
    call(0)
    print(f"messages of {size:,} characters")
    print(f"resolve              {cpu_us(resolve, _CALLS):7.1f} us")
    print(f"resolve and fill in  {cpu_us(call, _CALLS):7.1f} us  (budget 150)")
    print(f"compile a version    {cpu_us(compile_again, _COMPILED):7.1f} us  (once a process and version)")


if __name__ == "__main__":
    main()
