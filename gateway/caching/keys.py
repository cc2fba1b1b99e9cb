"""Under which key an answer is kept: a digest of everything that it follows from.

That is the call as it goes upstream (not what stays here: tags, who pays), the prompt's version, what the model is
served by, and whose answer it is. Whatever changes one of them changes the key, so nothing has to be invalidated.
"""

import hashlib
from typing import Any

import orjson

from gateway.calls import ChatCall, Exchange
from gateway.catalogue import Catalogue, ModelEntry
from gateway.routing import NO_WISH

# 32 bytes: no two calls meet by chance, and nobody can make them meet.
_KEY_BYTES = 32
# Members of a body that do not go upstream as they are: `metadata` is the caller's own note; model, stream and output
# limit stand in the key as what has become of them.
_LEFT_OUT = frozenset(("metadata", "stream", "stream_options", "max_tokens", "max_completion_tokens", "model"))


class KeyMaker:
    """Makes the keys of calls; what a model is served by is digested once for each generation of the catalogue."""

    def __init__(self) -> None:
        self._generation = -1
        self._routes: dict[str, str] = {}

    def key_of(self, exchange: Exchange, catalogue: Catalogue) -> bytes:
        """Return the key of a call that has been planned by `catalogue`."""
        call, plan, principal = exchange.call, exchange.plan, exchange.principal
        assert call is not None
        assert plan is not None
        assert principal is not None
        model, mark, purges = plan.model, exchange.prompt_mark, catalogue.purges
        customer = "" if model.cache_is_shared else f"customer:{principal.customer_id}"
        parts = (
            customer,
            # A test key's answers come from upstreams that cost nothing; live keys never see them.
            principal.environment,
            self._route_of(model, plan.catalogue_generation),
            (purges.get("all:"), purges.get(f"model:{model.name}"), purges.get(customer)),
            None if mark is None else (mark.name, mark.version),
            None if call.wish is NO_WISH else tuple(call.wish),
            form_of(call, is_run=exchange.is_run, has_own_events=exchange.has_own_events),
            plan.output_tokens_per_choice,
            call.attempts,
            body_of(call),
        )
        canonical = orjson.dumps(parts, option=orjson.OPT_SORT_KEYS)
        return hashlib.blake2b(canonical, digest_size=_KEY_BYTES).digest()

    def _route_of(self, model: ModelEntry, generation: int) -> str:
        # That of the plan: the clerk may have read a newer catalogue since.
        if self._generation != generation:
            self._generation = generation
            self._routes.clear()
        found = self._routes.get(model.name)
        if found is None:
            found = self._routes[model.name] = digest_route(model)
        return found


def body_of(call: ChatCall) -> dict[str, Any]:
    """Return what of a body goes upstream; a member that is null counts as left out."""
    body = {name: value for name, value in call.body.items() if value is not None and name not in _LEFT_OUT}
    options = call.body.get("stream_options")
    if options:
        # Usage is always asked for, and told to those who asked.
        body["stream_options"] = {name: value for name, value in options.items() if name != "include_usage"}
    return body


def form_of(call: ChatCall, *, is_run: bool, has_own_events: bool) -> str:
    """Return in which of its forms a call is answered; each is kept for itself.

    A stream's chunks are the model's own and cannot be made from a whole answer. Runs are checked otherwise than
    completions, and where an answer must have a shape our own streams take answers that a stream of chunks refuses.
    """
    form = "stream" if call.is_stream else "whole"
    if is_run:
        return f"{form} run"
    return f"{form} checked" if call.contract is not None and has_own_events else form


def digest_route(model: ModelEntry) -> str:
    """Return the digest of what a model's answers come from: its deployments, in no order, and their settings.

    Priorities, weights, deadlines and secrets are not in it: by them an answer does not change.
    """
    served_by = sorted(
        (
            deployment.upstream.name,
            deployment.upstream.dialect.value,
            deployment.upstream.base_url,
            deployment.upstream.api_version,
            deployment.upstream_model,
            deployment.region,
            int(deployment.capabilities),
        )
        for deployment in model.deployments
    )
    return hashlib.blake2b(orjson.dumps((model.name, served_by)), digest_size=_KEY_BYTES).hexdigest()
