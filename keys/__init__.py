"""Customers, plans, API keys, scopes and limits: who may do what, how much, and until when."""
