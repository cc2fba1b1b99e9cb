"""Invoices: what a customer used in a month, what has paid for it, and what is due.

`document` is what readers see, `lines` what was used, `coverage` what has paid for it, `closing` writes drafts,
`issuing` freezes them and takes numbers, `paying` receives money and voids.
"""
