"""The pooled HTTP client of this process: one session, all upstreams."""

import aiohttp

# How long an idle connection is kept: most providers close theirs after 60 seconds or more.
_KEEPALIVE_SECONDS = 45


def open_session() -> aiohttp.ClientSession:
    """Return the session; belongs to the running event loop, close it at the end.

    The number of connections is bounded by admission, not here. Proxies of the environment are not followed, and
    cookies are not kept: no call may leave a trace in another one.
    """
    return aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=_KEEPALIVE_SECONDS, ttl_dns_cache=30),
        cookie_jar=aiohttp.DummyCookieJar(),
        timeout=aiohttp.ClientTimeout(total=None),
        trust_env=False,
        read_bufsize=2**16,
        # An answer is passed through as it is; a compressed one would have to be inflated to be read.
        headers={"accept-encoding": "identity", "user-agent": "tollkeeper"},
    )
