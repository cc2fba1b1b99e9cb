"""The messages around a schema: the instruction for models without a mode for it, and the correction of a wrong answer.

Both add input that the customer pays for, so both are bounded, and the bounds are part of what is held.
"""

from typing import Any

from gateway.calls import ChatCall
from gateway.chat.counting import count_text
from gateway.structured.contracts import OutputContract

# Upper bounds in tokens of our own count: of the last wrong answer, of what is wrong with it, of the sentences around
# both, and of the instruction without its schema (which is counted with the body).
_QUOTED_TOKENS = 1_000
_PROBLEM_TOKENS = 300
_CORRECTION_TOKENS = 100
INSTRUCTION_TOKENS = 60
_MOST_CHARACTERS_PER_TOKEN = 4

_INSTRUCTION = (
    "Answer with one JSON value that fits the following JSON Schema. Write nothing else: no explanation, no code fence."
    "\n\n{schema}"
)
_CORRECTION = "That does not fit the JSON Schema:\n{problems}\n\nAnswer again with the corrected JSON only."


def shape_call(call: ChatCall, contract: OutputContract, *, has_native_mode: bool) -> ChatCall:
    """Return the call as one upstream understands it: its own mode, or the schema as an instruction."""
    if has_native_mode:
        return call._replace(body={**call.body, "response_format": contract.native_format})
    body = {name: value for name, value in call.body.items() if name != "response_format"}
    body["messages"] = _with_instruction(body["messages"], _INSTRUCTION.format(schema=contract.schema.text))
    return call._replace(body=body)


def correction_tokens(output_tokens: int) -> int:
    """Return the most that a correction adds to the input, when an answer has at most `output_tokens`."""
    return min(output_tokens, _QUOTED_TOKENS) + _PROBLEM_TOKENS + _CORRECTION_TOKENS


def ask_again(
    messages: list[dict[str, Any]], answer: str, problems: list[str], *, output_tokens: int
) -> list[dict[str, Any]]:
    """Return the messages with a wrong answer and what is wrong with it; `messages` are those of the first attempt.

    `output_tokens` is what the answer was allowed: a longer one (by our count) is cut, since no more is held for it.
    """
    listed = _cut("\n".join(f"- {problem}" for problem in problems), _PROBLEM_TOKENS)
    # An empty message is refused by some servers.
    said = {"role": "assistant", "content": _cut(answer, min(output_tokens, _QUOTED_TOKENS)) or "(nothing)"}
    return [*messages, said, {"role": "user", "content": _CORRECTION.format(problems=listed)}]


def _cut(text: str, most_tokens: int) -> str:
    """Return the beginning of a text that has at most so many tokens."""
    kept = text[: most_tokens * _MOST_CHARACTERS_PER_TOKEN]
    while count_text(kept) > most_tokens:
        kept = kept[: len(kept) * 3 // 4]
    return kept


def _with_instruction(messages: list[dict[str, Any]], instruction: str) -> list[dict[str, Any]]:
    """Return the messages with the instruction in the system message: many models know only one, and only first."""
    first = messages[0]
    if first["role"] not in ("system", "developer"):
        return [{"role": "system", "content": instruction}, *messages]
    content = first["content"]
    if isinstance(content, str):
        joined: str | list[Any] = f"{content}\n\n{instruction}"
    else:
        joined = [*content, {"type": "text", "text": instruction}]
    return [{**first, "content": joined}, *messages[1:]]
