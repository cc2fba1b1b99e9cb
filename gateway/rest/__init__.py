"""The customer's REST endpoints: models, usage, balance. Django REST framework; each view makes one domain call."""
