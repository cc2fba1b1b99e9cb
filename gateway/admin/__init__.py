"""Models and upstreams in the admin, and the pages of lower apps that need to know the models."""

from gateway.admin import api_keys, models, prices, upstreams, workers

__all__ = ["api_keys", "models", "prices", "upstreams", "workers"]
