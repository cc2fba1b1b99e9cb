"""What can go wrong with an answer that has to fit a schema. The call ran and is charged; its text is not returned."""

from collections.abc import Sequence

from common.errors import InvalidRequest, TollkeeperError


class OutputSchemaInvalid(InvalidRequest):
    code = "invalid_output_schema"
    summary = "The JSON Schema of the answer is not valid, or exceeds the bounds of schemas."

    def __init__(self, reason: str, *, param: str) -> None:
        super().__init__(
            f"The JSON Schema cannot be used: {reason} Correct or simplify it; references may only point into the "
            "schema itself.",
            param=param,
        )


class OutputError(TollkeeperError):
    """Base of answers that came whole from the model and are not what was asked for."""

    code = "output_error"
    status = 422
    type = "invalid_request_error"
    # A client library that repeats by itself would pay for every repetition.
    retryable = False
    summary = "The model answered, but not in the shape that was asked for."


class OutputInvalid(OutputError):
    code = "output_invalid"
    summary = "No attempt gave an answer that fits the schema; `details.problems` says what was wrong with the last."

    def __init__(self, *, problems: Sequence[str], attempts: int) -> None:
        tried = "the answer does not" if attempts == 1 else f"none of {attempts} answers does"
        super().__init__(
            f"The answer has to fit the JSON Schema, and {tried}: {'; '.join(problems)}. Allow more attempts "
            "(x-max-attempts), simplify the schema, or use a larger model.",
            details={"problems": list(problems), "attempts": attempts},
        )


class OutputTruncated(OutputError):
    code = "output_truncated"
    summary = "The answer reached its limit of tokens before it was whole."

    def __init__(self, *, limit: int, param: str) -> None:
        super().__init__(
            f"The answer reached its limit of {limit} tokens before it was whole. Raise {param}, or ask for less.",
            param=param,
            details={"limit": limit},
        )


class OutputRefused(OutputError):
    code = "output_refused"
    summary = "The model, or its provider's filter, declined to answer; `details.refusal` has its words, if any."

    def __init__(self, *, refusal: str) -> None:
        said = f" It said: {refusal[:300]}" if refusal else " Its provider's content filter stopped it."
        super().__init__(
            f"The model declined to answer.{said} Change the request; repeating it will be declined again.",
            details={"refusal": refusal[:2000]},
        )
