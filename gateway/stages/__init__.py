"""The stages of a call, one module each, in the order of `gateway.pipeline`."""
