"""Has this call been made before? `Idempotency-Key` names it; admission knows whether it ran, and what it answered."""

from collections.abc import Iterable
from typing import Any

import orjson

from billing.tokens import TokenCounts
from gateway.calls import Attempt, Exchange, PromptMark, Receipt
from gateway.flight import Flight, Sink
from gateway.idempotency import MAX_ANSWER_BYTES, Claim, StoredAnswer, check_key, fingerprint_of
from gateway.quality import read_quality, write_quality
from gateway.routing import NO_WISH
from prompts.json_values import JsonValue


def read_claim(exchange: Exchange) -> None:
    """Fill in the claim of a call that has a key. Raises IdempotencyKeyInvalid."""
    raw = exchange.headers.get(b"idempotency-key")
    if raw is None:
        return
    key = check_key(raw.decode("latin-1"))
    # A prompt's body is filled in by whatever version is released; a repeat is told by what was sent.
    if exchange.prompt_request is not None:
        sent = exchange.prompt_request.body
    else:
        assert exchange.given_call is not None
        sent = exchange.given_call.body
    assert exchange.call is not None
    wish = exchange.call.wish
    if wish is not NO_WISH and exchange.prompt_request is None:
        # Taken out of the body when it was read; it is a part of what was asked for all the same.
        sent = {**sent, "wish": wish._asdict()}
    exchange.claim = Claim(key, fingerprint_of(exchange.operation.name, sent))


def stored_answer(flight: Flight, body: bytes | None, receipt: Receipt) -> StoredAnswer:
    """Return what a repeat of a completed call is answered with."""
    if body is None:
        assert flight.recording is not None
        body = join_stream(flight.recording, flight.transcript.usage_chunk)
    return store(body, receipt, flight.exchange.output)


def store(body: bytes, receipt: Receipt, output: JsonValue) -> StoredAnswer:
    """Return an answer with its receipt, as a claim keeps it."""
    return StoredAnswer(
        receipt=orjson.dumps({"receipt": _write_receipt(receipt), "output": output}).decode(),
        body=body if len(body) <= MAX_ANSWER_BYTES else None,
    )


def join_stream(chunks: Iterable[bytes], usage_chunk: dict[str, Any] | None) -> bytes:
    """Return a stream as it is stored: its chunks, and the one of its usage (or null), a line each."""
    return b"\n".join([*chunks, orjson.dumps(usage_chunk)])


def split_stream(body: bytes) -> tuple[list[bytes], dict[str, Any] | None]:
    """Return the chunks of a stored stream, and the one of its usage."""
    *chunks, usage_chunk = body.split(b"\n")
    return chunks, orjson.loads(usage_chunk)


async def replay(exchange: Exchange, sink: Sink) -> None:
    """Answer with what the first call was answered; the receipt is its own, the balance today's."""
    assert exchange.replayed is not None
    stored = exchange.replayed.answer
    assert stored.body is not None
    told = orjson.loads(stored.receipt)
    receipt = _read_receipt(told["receipt"])._replace(available_nanousd=exchange.replayed.available_nanousd)
    exchange.output = told["output"]
    await send_stored(exchange, sink, receipt, stored.body)


async def send_stored(exchange: Exchange, sink: Sink, receipt: Receipt, body: bytes) -> None:
    """Answer with a stored body: what was a stream is one again, with the same chunks and numbers."""
    assert exchange.call is not None
    if not exchange.call.is_stream:
        await sink.answer(exchange, receipt, body)
        return
    chunks, usage_chunk = split_stream(body)
    await sink.begin(exchange)
    if chunks:
        await sink.send_chunks([(chunk, orjson.loads(chunk)) for chunk in chunks])
    await sink.finish(exchange, receipt, usage_chunk)


def _write_receipt(receipt: Receipt) -> dict[str, Any]:
    attempts = [{**attempt._asdict(), "tokens": list(attempt.tokens)} for attempt in receipt.attempts]
    prompt = receipt.prompt and receipt.prompt._asdict()
    return {
        **receipt._asdict(),
        "tokens": list(receipt.tokens),
        "attempts": attempts,
        "prompt": prompt,
        "quality": write_quality(receipt.quality),
    }


def _read_receipt(fields: dict[str, Any]) -> Receipt:
    attempts = tuple(Attempt(**{**a, "tokens": TokenCounts(*a["tokens"])}) for a in fields["attempts"])
    prompt = fields["prompt"] and PromptMark(**fields["prompt"])
    tokens = TokenCounts(*fields["tokens"])
    # Answers of before there were these two are kept for a day.
    guard = tuple((rule, action, number) for rule, action, number in fields.get("guard", ()))
    quality = read_quality(fields.get("quality", {}))
    read = {"tokens": tokens, "attempts": attempts, "prompt": prompt, "guard": guard, "quality": quality}
    return Receipt(**{**fields, **read})
