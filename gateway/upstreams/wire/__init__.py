"""HTTP/1.1 towards upstreams: a pooled client that does POST and nothing else, on the parser that serves us too.

See docs/decisions/0009-own-upstream-client.md for why it is not a library's.
"""
