"""What a stream has said so far: text for an estimate, finish reasons, usage, and whether it is whole."""

from typing import Any

from billing.tokens import NO_TOKENS, TokenCounts
from billing.usage import SplitUsage, split_usage
from gateway.chat.counting import count_text
from gateway.quality import Quality, Signs


class Transcript:
    """Reads the parsed chunks (or the one completion) of a call as they pass."""

    def __init__(self) -> None:
        self.usage: SplitUsage | None = None
        # The chunk that only carried usage, where there was one.
        self.usage_chunk: dict[str, Any] | None = None
        # The provider's figures of the input, which some give before they answer.
        self.known_input: TokenCounts | None = None
        self.finish_reason = ""
        # Which of its tiers the provider says it served the call by.
        self.service_tier = ""
        # Of all text so far.
        self.characters = 0
        self._texts: list[str] = []
        self._counted = 0
        self._counted_texts = 0
        self._open_choices: set[int] = set()
        # Their reasons.
        self._finished_choices: dict[int, str] = {}
        self.flags: list[str] = []
        self._signs: Signs | None = None

    def read_chunk(self, chunk: dict[str, Any]) -> bool:
        """Take one chunk in; return True for a chunk that only carries usage."""
        choices = chunk["choices"]
        tier = chunk.get("service_tier")
        if tier:
            self.service_tier = str(tier)[:30]
        usage = chunk.get("usage")
        if usage:
            self._read_usage(usage)
        if not choices:
            return bool(usage)
        for choice in choices:
            index = choice.get("index", 0)
            delta = choice.get("delta")
            if delta:
                self._read_message(delta)
            reason = choice.get("finish_reason")
            logprobs = choice.get("logprobs")
            if logprobs:
                self._sign().read_logprobs(logprobs)
            if reason:
                self.finish_reason = self._finished_choices[index] = str(reason)[:30]
                self._open_choices.discard(index)
            elif index not in self._finished_choices:
                self._open_choices.add(index)
        return False

    def read_completion(self, completion: dict[str, Any]) -> None:
        """Take a whole completion in."""
        self.service_tier = str(completion.get("service_tier") or "")[:30]
        usage = completion.get("usage")
        if usage:
            self._read_usage(usage)
        for choice in completion["choices"]:
            self._read_message(choice.get("message") or {})
            self.finish_reason = str(choice.get("finish_reason") or "")[:30]
            if self.finish_reason:
                self._finished_choices[choice.get("index", 0)] = self.finish_reason
            if choice.get("logprobs"):
                self._sign().read_logprobs(choice["logprobs"])

    @property
    def is_whole(self) -> bool:
        """Return whether every choice that began has named its finish reason."""
        return bool(self._finished_choices) and not self._open_choices

    @property
    def has_output(self) -> bool:
        """Return whether anything was produced."""
        return bool(self._texts)

    def read_quality(self, *, schema_attempts: int) -> Quality:
        """Return what the answer says of its quality."""
        reasons = self._finished_choices
        if self._signs is None and len(reasons) == 1:
            # Nearly every answer.
            return Quality(finish_reasons=(self.finish_reason,), schema_attempts=schema_attempts)
        return (self._signs or Signs()).sum_up(reasons, schema_attempts=schema_attempts)

    def count_output(self) -> int:
        """Return the tokens of all text so far, counted by us. Text counted before is not counted again."""
        fresh = "".join(self._texts[self._counted_texts :])
        if fresh:
            # Slices of a stream are counted apart: a token cut at the seam counts twice, at most one a note.
            self._counted += count_text(fresh)
            self._counted_texts = len(self._texts)
        return self._counted

    def estimate(self, *, input_tokens: int) -> TokenCounts:
        """Return the usage as far as we can tell without the provider's figures."""
        output = self.count_output()
        return self.estimate_input(input_tokens=input_tokens)._replace(output=output) if output else NO_TOKENS

    def estimate_input(self, *, input_tokens: int) -> TokenCounts:
        """Return the input's classes: the provider's figures where it gave any, else our count."""
        return self.known_input or TokenCounts(input=input_tokens)

    def _read_usage(self, usage: object) -> None:
        found = split_usage(usage) if isinstance(usage, dict) else None
        if found is None:
            self.flags.append("usage_unreadable")
        else:
            self.usage = found

    def _sign(self) -> Signs:
        if self._signs is None:
            self._signs = Signs()
        return self._signs

    def _read_message(self, message: dict[str, Any]) -> None:
        annotations = message.get("annotations")
        if annotations:
            self._sign().read_annotations(annotations)
        for name in ("content", "reasoning_content", "reasoning", "refusal"):
            text = message.get(name)
            if text and isinstance(text, str):
                self._texts.append(text)
                self.characters += len(text)
        if message.get("audio"):
            # It has no text to count, and is an answer all the same.
            self._texts.append("")
        functions = [call.get("function") or {} for call in message.get("tool_calls") or ()]
        if message.get("function_call"):
            functions.append(message["function_call"])
        for function in functions:
            text = f"{function.get('name') or ''}{function.get('arguments') or ''}"
            self._texts.append(text)
            self.characters += len(text)
