"""How drf-spectacular describes what is ours; imported with the routes, which registers it."""

from typing import Any

from drf_spectacular.extensions import OpenApiAuthenticationExtension


class ApiKeyScheme(OpenApiAuthenticationExtension):
    """How drf-spectacular describes our authentication."""

    target_class = "gateway.rest.authentication.ApiKeyAuthentication"
    name = "apiKey"

    def get_security_definition(self, auto_schema: Any) -> dict[str, str]:
        """Return the scheme of the bearer key."""
        return {"type": "http", "scheme": "bearer", "description": "An API key, tk_live_... or tk_test_..."}
