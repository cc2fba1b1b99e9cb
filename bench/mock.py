"""The instant upstream: nginx with two ports, one answering a JSON completion, one a stream of 200 events.

nginx, because it answers some 50,000 requests/s of one core: the upstream must never be what is measured.
"""

import contextlib
import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import orjson

from bench.load import send_once
from bench.processes import BenchError, Server, find_free_port, run_server

STREAM_EVENTS = 200
CREATED = 1_790_000_000

MODELS = {
    "object": "list",
    "data": [{"id": "bench", "object": "model", "created": CREATED, "owned_by": "bench"}],
}

COMPLETION = {
    "id": "chatcmpl-bench000000000000000000",
    "object": "chat.completion",
    "created": CREATED,
    "model": "bench",
    "choices": [
        {
            "index": 0,
            "message": {
                "role": "assistant",
                "content": "A toll keeper opens the gate when the toll is paid and writes down who passed.",
                "refusal": None,
                "annotations": [],
            },
            "logprobs": None,
            "finish_reason": "stop",
        }
    ],
    "usage": {
        "prompt_tokens": 24,
        "completion_tokens": 18,
        "total_tokens": 42,
        "prompt_tokens_details": {"cached_tokens": 0, "audio_tokens": 0},
        "completion_tokens_details": {"reasoning_tokens": 0, "audio_tokens": 0},
    },
    "service_tier": "default",
    "system_fingerprint": "fp_bench",
}

# One process, in the foreground: one pid to end, and no worker under another user that cannot read the files.
CONFIG = """\
daemon off;
master_process off;
pid nginx.pid;
error_log error.log warn;
events {{ worker_connections 8192; }}
http {{
    access_log off;
    client_body_temp_path body;
    proxy_temp_path proxy;
    fastcgi_temp_path fastcgi;
    uwsgi_temp_path uwsgi;
    scgi_temp_path scgi;
    client_body_buffer_size 64k;
    keepalive_requests 100000000;
    keepalive_timeout 600s;
    tcp_nodelay on;
    open_file_cache max=10;
    types {{ }}
    server {{
        listen 127.0.0.1:{json_port} backlog=4096;
        default_type application/json;
        location = /v1/chat/completions {{ return 200 '{completion}'; }}
        location = /v1/models {{ return 200 '{models}'; }}
        location = /status {{ stub_status; }}
    }}
    server {{
        listen 127.0.0.1:{stream_port} backlog=4096;
        default_type text/event-stream;
        root files;
        # A static file refuses POST; the error page of that refusal is the file, with status 200.
        error_page 405 =200 /stream;
        location = /v1/chat/completions {{ try_files /stream =404; }}
        location = /stream {{ }}
        location = /v1/models {{ default_type application/json; return 200 '{models}'; }}
    }}
}}
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Mock:
    # Base URLs, without `/v1`.
    json_url: str
    stream_url: str
    server: Server


@contextlib.contextmanager
def run_mock(scratch: Path) -> Iterator[Mock]:
    """Run the instant upstream for the length of the block."""
    prefix = scratch / "mock"
    (prefix / "files").mkdir(parents=True)
    (prefix / "files" / "stream").write_bytes(render_stream(STREAM_EVENTS))
    json_port, stream_port = find_free_port(), find_free_port()
    config = prefix / "nginx.conf"
    config.write_text(
        CONFIG.format(
            json_port=json_port,
            stream_port=stream_port,
            completion=orjson.dumps(COMPLETION).decode(),
            models=orjson.dumps(MODELS).decode(),
        )
    )
    nginx = find_nginx()
    if nginx is None:
        raise BenchError("nginx is missing: apt-get install nginx-light")
    command = [nginx, "-p", f"{prefix}/", "-c", str(config), "-e", str(prefix / "error.log")]
    with run_server(name="nginx", command=command, port=stream_port, scratch=scratch) as server:
        yield Mock(
            json_url=server.url.replace(str(stream_port), str(json_port)),
            stream_url=server.url,
            server=server,
        )


def find_nginx() -> str | None:
    """Return the path of nginx; Debian keeps it in a folder that is not on every user's path."""
    return shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin:/usr/local/sbin")


def count_calls(mock: Mock) -> int:
    """Return how many requests both ports have served so far, this one included."""
    # ngx_http_stub_status_module: the third figure under "server accepts handled requests".
    found = re.search(rb"\n\s*\d+ \d+ (\d+)", send_once(f"{mock.json_url}/status").body)
    if found is None:
        raise BenchError("nginx answered an unknown status page")
    return int(found[1])


def render_stream(events: int) -> bytes:
    """Return a whole stream: `events` chunks, the last with a finish reason, then usage and end marker."""
    # Numbered, because some gateways take a chunk that repeats too often for a broken model.
    chunks = [render_chunk(f"pebble {number} ") for number in range(events - 1)]
    return b"".join([*chunks, render_end(completion_tokens=events)])


def render_chunk(content: str | None) -> bytes:
    """Return one event with content, or for None the one with the finish reason."""
    delta = {} if content is None else {"role": "assistant", "content": content}
    reason = "stop" if content is None else None
    choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": reason}
    return _render_event([choice], None)


def render_end(*, completion_tokens: int) -> bytes:
    """Return the last three events: finish reason, usage, end marker."""
    usage = {
        "prompt_tokens": 24,
        "completion_tokens": completion_tokens,
        "total_tokens": 24 + completion_tokens,
    }
    return render_chunk(None) + _render_event([], usage) + b"data: [DONE]\n\n"


def _render_event(choices: list[dict[str, object]], usage: dict[str, int] | None) -> bytes:
    chunk = {
        "id": "chatcmpl-bench000000000000000000",
        "object": "chat.completion.chunk",
        "created": CREATED,
        "model": "bench",
        "system_fingerprint": "fp_bench",
        "choices": choices,
        "usage": usage,
    }
    return b"data: " + orjson.dumps(chunk) + b"\n\n"
