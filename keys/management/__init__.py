"""Commands about keys."""
