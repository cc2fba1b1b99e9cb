"""Prompts that know which models there are, what a text costs with them, and how to call them."""

from collections.abc import AsyncIterator

from django.contrib import admin
from django.db import connection
from typing_extensions import override

from billing.tokens import TokenCounts
from common.clock import SYSTEM_CLOCK
from common.money import format_usd
from common.sql import Sql
from gateway.catalogue import EMPTY_CATALOGUE, read_catalogue
from gateway.chat.counting import count_text
from gateway.prompt_tests.caller import ensure_caller
from gateway.prompt_tests.live import stream_run
from gateway.prompt_tests.runner import body_of
from gateway.readiness import find_callable_models
from gateway.runtime import current_runtime
from prompts.admin.editor import CostEstimate
from prompts.admin.prompts import PromptAdmin
from prompts.json_values import JsonObject
from prompts.models import Prompt
from prompts.rendering import RenderedPrompt


@admin.register(Prompt)
class CallingPromptAdmin(PromptAdmin):
    @override
    def find_model_names(self) -> list[str]:
        return find_callable_models()

    @override
    def count_tokens(self, text: str) -> int | None:
        return count_text(text)

    @override
    def estimate_cost(self, model: str, tokens: int, parameters: JsonObject) -> CostEstimate | None:
        runtime = current_runtime()
        # The server's snapshot is as old as its latest call; most of it is taken over.
        catalogue = read_catalogue(Sql(connection), EMPTY_CATALOGUE if runtime is None else runtime.clerk.catalogue)
        entry = catalogue.models.get(model)
        price = catalogue.prices.find_price(model, SYSTEM_CLOCK.now_us())
        if entry is None or price is None:
            return None
        limit = parameters.get("max_completion_tokens")
        output_tokens = limit if isinstance(limit, int) else min(entry.default_output_tokens, entry.max_output_tokens)
        most = price.table.upper_bound(
            input_tokens=entry.scale_tokens(tokens) + entry.input_overhead_tokens, output_tokens=output_tokens
        )
        return CostEstimate(
            input_usd=format_usd(price.table.cost(TokenCounts(input=tokens))),
            most_usd=format_usd(most),
            output_tokens=output_tokens,
        )

    @override
    def stream_draft(self, prompt: RenderedPrompt, model: str) -> AsyncIterator[bytes]:
        return stream_run(ensure_caller(), body_of(prompt, model=model))
