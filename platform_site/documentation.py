"""/docs: Swagger's page over the OpenAPI document."""

from drf_spectacular.views import SpectacularSwaggerSplitView

from gateway.rest.schema import ApiKeyScheme


class DocumentationView(SpectacularSwaggerSplitView):
    """Asks for the document anew when somebody authorizes: with a key it has the prompts that the key may run."""

    def _get_schema_auth_names(self) -> list[str]:
        # drf-spectacular knows of none, because the document is served without a key as well.
        return [ApiKeyScheme.name]
