"""The scripted upstream: a provider for tests that streams, stalls, cuts, lies and errs on command.

    with ScriptedUpstream() as upstream:
        upstream.queue(rate_limited(retry_after="1"), Behaviour(events=20, hold_at=5))
        ...  # point the gateway at upstream.base_url

`python -m tests.upstream --port N --script file.json` runs it as a process, scripted over HTTP:
`POST /_script`, `/_release` and `/_reset`, `GET /_requests` and `/_held`.
"""

from tests.upstream.answers import answer_text
from tests.upstream.behaviours import (
    Behaviour,
    Cut,
    Inject,
    JsonObject,
    Point,
    ToolCall,
    UsagePlace,
    parse_behaviour,
    render_behaviour,
)
from tests.upstream.journal import Outcome, RecordedRequest
from tests.upstream.presets import (
    error,
    error_event,
    html_error,
    huge_event,
    invalid_body,
    invalid_event,
    make_usage,
    message_error_event,
    overloaded,
    plain_error,
    rate_limited,
)
from tests.upstream.server import ScriptedUpstream

__all__ = [
    "Behaviour",
    "Cut",
    "Inject",
    "JsonObject",
    "Outcome",
    "Point",
    "RecordedRequest",
    "ScriptedUpstream",
    "ToolCall",
    "UsagePlace",
    "answer_text",
    "error",
    "error_event",
    "html_error",
    "huge_event",
    "invalid_body",
    "invalid_event",
    "make_usage",
    "message_error_event",
    "overloaded",
    "parse_behaviour",
    "plain_error",
    "rate_limited",
    "render_behaviour",
]
