"""`Idempotency-Key` for the views of the control plane; what it means is `gateway.kept_answers`."""

import hashlib
from collections.abc import Callable
from typing import Any

import orjson
from rest_framework.renderers import JSONRenderer
from rest_framework.request import Request
from rest_framework.response import Response

from gateway.errors import (
    BodyInvalid,
    IdempotencyAnswerLost,
    IdempotencyInFlight,
    IdempotencyKeyInvalid,
    IdempotencyKeyReused,
)
from gateway.idempotency import check_key
from gateway.kept_answers import Answer, Post, Repeats, answer_once
from gateway.rest.authentication import principal_of

Handler = Callable[..., Response]

HEADER = "Idempotency-Key"
REPLAYED_HEADER = "idempotency-replayed"
ERRORS = (IdempotencyKeyInvalid, IdempotencyKeyReused, IdempotencyInFlight, IdempotencyAnswerLost)


def post_once(handler: Handler, request: Request, *, request_id: str, repeats: Repeats, **kwargs: Any) -> Response:
    """Return what a view's handler answers, or what it answered to the first POST with this key."""

    def act() -> Answer:
        response = handler(request, **kwargs)
        return Answer(response.status_code, JSONRenderer().render(response.data).decode())

    post = Post(
        customer_id=principal_of(request).customer_id,
        key=check_key(request.headers[HEADER]),
        fingerprint=_fingerprint_of(request),
        request_id=request_id,
    )
    answer = answer_once(post, act, repeats=repeats)
    headers = {REPLAYED_HEADER: "true"} if answer.is_replayed else None
    return Response(orjson.loads(answer.body) if answer.body else None, status=answer.status, headers=headers)


def _fingerprint_of(request: Request) -> str:
    # Of the API key too: an answer may have the secret of a key that another one may not have made.
    said = [principal_of(request).key_id, request.method, request.path, request.data]
    try:
        canonical = orjson.dumps(said, option=orjson.OPT_SORT_KEYS)
    except orjson.JSONEncodeError:
        raise BodyInvalid("The body is nested too deeply.") from None
    return hashlib.blake2b(canonical, digest_size=20).hexdigest()
