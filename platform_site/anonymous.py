"""What answers without a key or a login is limited per address: the API documents cost tens of milliseconds each."""

from collections.abc import Callable
from functools import wraps
from typing import Any

from django.http import HttpRequest, HttpResponseBase, JsonResponse

from common.addresses import address_of_request
from common.ids import make_id
from keys.attempts import AttemptGroup, count_attempt
from keys.errors import TooManyRequests

View = Callable[..., HttpResponseBase]


def limit_anonymous(view: View) -> View:
    """Return the view behind a limit of requests a minute from one address; beyond it 429 in the API's error shape."""

    @wraps(view)
    def limited(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
        wait_seconds = count_attempt(AttemptGroup.ANONYMOUS, address_of_request(request))
        if wait_seconds is None:
            return view(request, *args, **kwargs)
        error = TooManyRequests(retry_after_seconds=wait_seconds)
        request_id = make_id("req")
        headers = {"x-request-id": request_id, "cache-control": "no-store", **error.headers()}
        return JsonResponse(error.as_body(request_id=request_id), status=error.status, headers=headers)

    return limited
