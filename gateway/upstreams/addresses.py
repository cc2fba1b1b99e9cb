"""Where an upstream is and how it knows us: the URL, the header of the secret, the version."""

from functools import lru_cache
from urllib.parse import quote

from yarl import URL

from gateway.catalogue import UpstreamEntry
from gateway.models import Authentication, Dialect

# In a base URL: the upstream's name of the model, where that is part of the path.
MODEL_PLACEHOLDER = "{model}"


@lru_cache(maxsize=1_024)
def endpoint_url(base_url: str, path: str, *, model: str, api_version: str) -> URL:
    """Return the URL of an operation; `model` only matters where the base URL has its placeholder."""
    base = base_url.rstrip("/").replace(MODEL_PLACEHOLDER, quote(model, safe=""))
    url = URL(f"{base}{path}", encoded=MODEL_PLACEHOLDER in base_url)
    return url.update_query({"api-version": api_version}) if api_version else url


def secret_headers(authentication: Authentication, secret: str) -> dict[str, str]:
    """Return the header that carries a secret; none for servers that need none."""
    if not secret:
        return {}
    if authentication is Authentication.BEARER:
        return {"Authorization": f"Bearer {secret}"}
    return {authentication.value: secret}


def request_headers(upstream: UpstreamEntry) -> dict[str, str]:
    """Return the headers of a JSON request."""
    headers = {"Content-Type": "application/json", **secret_headers(upstream.authentication, upstream.secret)}
    if upstream.dialect is Dialect.ANTHROPIC:
        headers["anthropic-version"] = upstream.api_version
    return headers
