"""Settings, URLs, the ASGI entry, the admin site, system checks and commands that concern the whole. No domain code."""
