"""The Anthropic Messages dialect: OpenAI's chat completions translated there and back.

https://platform.claude.com/docs/en/api/messages (version 2026-10-21; 2023-06-01 differs only in that it still takes
temperature and top_p). The customer speaks OpenAI's dialect throughout; what has no equivalent is refused before
admission (`find_obstacle`), and what is only a hint to OpenAI's own service is left out (`obstacles.LEFT_OUT`).
"""

from gateway.upstreams.anthropic.answers import read_completion
from gateway.upstreams.anthropic.errors import read_error
from gateway.upstreams.anthropic.events import open_reader
from gateway.upstreams.anthropic.obstacles import find_obstacle
from gateway.upstreams.anthropic.requests import build_request

__all__ = ["build_request", "find_obstacle", "open_reader", "read_completion", "read_error"]
