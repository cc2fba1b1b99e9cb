"""bytes <-> messages: HTTP (JSON and SSE) and WebSocket. Nothing is decided here."""
