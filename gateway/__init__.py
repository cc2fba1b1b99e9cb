"""The way of one customer request: transports, operations, admission, upstreams, streams."""
