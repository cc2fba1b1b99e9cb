"""Asking an upstream for its models, off the hot path: does the address answer, is the secret accepted?"""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from time import perf_counter
from typing import Any

import openai

from common.errors import InternalError
from gateway.local_model import PORT_VARIABLE, local_base_url
from gateway.models import Authentication, Dialect, Upstream
from gateway.secrets import decrypt_secret
from gateway.upstreams.addresses import MODEL_PLACEHOLDER, secret_headers

_TIMEOUT_SECONDS = 5.0
_SHOWN_MODELS = 5
_LOCAL = (
    "The embedded model runs as a child process of the server, on a loopback port; it starts and stops with "
    "'manage.py serve' (setting LOCAL_MODEL)."
)


@dataclass(frozen=True, slots=True, kw_only=True)
class ProbeResult:
    """What came of it; `text` is for admins and holds no secret."""

    is_ok: bool
    text: str


def probe_upstream(upstream: Upstream) -> ProbeResult:
    """Return whether GET {base_url}/models answers within five seconds, and what it names; every dialect has it."""
    if upstream.dialect == Dialect.LOCAL:
        if PORT_VARIABLE not in os.environ:
            return ProbeResult(is_ok=False, text=f"{_LOCAL} It does not run beside this process.")
        found = _ask(local_base_url(), secret="", headers={}, query={})
        return ProbeResult(is_ok=found.is_ok, text=f"{found.text} {_LOCAL}")
    if not upstream.base_url:
        return ProbeResult(is_ok=False, text="There is no base URL to connect to.")
    try:
        secret = decrypt_secret(upstream.encrypted_secret)
    except InternalError:
        return ProbeResult(is_ok=False, text="The stored secret cannot be decrypted: check ENCRYPTION_KEYS.")
    headers = secret_headers(Authentication(upstream.authentication), secret)
    query = {}
    if upstream.dialect == Dialect.ANTHROPIC:
        headers["anthropic-version"] = upstream.api_version
    elif upstream.api_version:
        query["api-version"] = upstream.api_version
    return _ask(_list_url(upstream.base_url), secret=secret, headers=headers, query=query)


def _list_url(base_url: str) -> str:
    """Return where the list of models is: above the part of the path that is one model's own."""
    return base_url.partition(MODEL_PLACEHOLDER)[0].rstrip("/").removesuffix("/deployments")


def _ask(base_url: str, *, secret: str, headers: Mapping[str, str], query: Mapping[str, str]) -> ProbeResult:
    started = perf_counter()
    # The SDK would send its key as a bearer; ours knows which header the upstream reads, if any. (The type says text
    # only, though the SDK takes this for "leave it out".)
    no_bearer: Any = openai.Omit()
    try:
        with openai.OpenAI(
            base_url=base_url,
            api_key="none",
            default_query=query,
            timeout=_TIMEOUT_SECONDS,
            max_retries=0,
        ) as client:
            names = [model.id for model in client.models.list(extra_headers={"Authorization": no_bearer, **headers})]
    except openai.APIStatusError as error:
        return ProbeResult(is_ok=False, text=_refused(base_url, error.status_code, _milliseconds(started)))
    except openai.APITimeoutError:
        text = f"{base_url} did not answer within {_TIMEOUT_SECONDS:.0f} seconds."
        return ProbeResult(is_ok=False, text=text)
    except (openai.OpenAIError, ValueError, TypeError, AttributeError) as error:
        cause = error.__cause__ or error
        text = f"{base_url} could not be used: {type(cause).__name__}: {str(cause)[:200]}"
        return ProbeResult(is_ok=False, text=text.replace(secret, "***") if secret else text)
    listed = ", ".join(names[:_SHOWN_MODELS]) or "none"
    more = f" and {len(names) - _SHOWN_MODELS} more" if len(names) > _SHOWN_MODELS else ""
    return ProbeResult(is_ok=True, text=f"Answered in {_milliseconds(started)} ms. Models: {listed}{more}.")


def _refused(base_url: str, status: int, milliseconds: int) -> str:
    answered = f"{base_url} answered {status} in {milliseconds} ms"
    match status:
        case 401 | 403:
            return f"{answered}: it does not accept the secret."
        case 404:
            return f"{answered}: no list of models there. Check that the base URL goes up to and including /v1."
        case _:
            return f"{answered}: it is reachable, but does not list its models."


def _milliseconds(started: float) -> int:
    return round((perf_counter() - started) * 1000)
