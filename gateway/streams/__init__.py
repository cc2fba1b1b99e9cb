"""The platform's own streams: what their events say, and how text is gathered into fewer of them."""
