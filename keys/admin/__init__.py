"""Plans and flags. Pages of customers and keys show more than this app knows: `billing` and `gateway` register them."""

from keys.admin import features, plans

__all__ = ["features", "plans"]
