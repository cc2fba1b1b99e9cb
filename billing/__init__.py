"""Prices, accounts, transfers, usage and exports: the money, exact to the nano-dollar."""
