"""Plans. The pages of customers and API keys show more than this app knows: `billing` and `gateway` register them."""

from keys.admin import plans

__all__ = ["plans"]
