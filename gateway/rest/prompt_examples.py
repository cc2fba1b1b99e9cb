"""Bodies of prompt runs that work as they stand, for documents and for callers who ask what to send."""

from typing import Any

import orjson

from gateway.readiness import find_callable_models
from keys.principals import Principal
from prompts.names import PRODUCTION
from prompts.samples import sample_inputs
from prompts.validation import CompiledContent


def example_of_run(compiled: CompiledContent, *, pin: str, principal: Principal | None) -> dict[str, Any] | None:
    """Return the body of a run that answers, or None where no sample fits the input schema.

    `principal` is whoever will send it; None stands for somebody who may use any model.
    """
    inputs = sample_inputs(compiled.input_schema)
    if not compiled.input_validator.is_valid(inputs, orjson.dumps(inputs)):
        return None
    body: dict[str, Any] = {"inputs": inputs}
    if pin != PRODUCTION:
        body["version"] = pin
    if not compiled.content.model:
        # The prompt leaves the model to its callers.
        usable = [name for name in find_callable_models() if principal is None or principal.may_use_model(name)]
        if not usable:
            return None
        body["parameters"] = {"model": usable[0]}
    return body
