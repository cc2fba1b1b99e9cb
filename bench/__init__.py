"""Benchmarks: the product beside a bare pass-through (`bench.run`) and other gateways (`bench.peers`)."""
