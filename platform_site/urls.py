"""Routes of the control plane. The data plane is routed before Django, in `platform_site.asgi`."""

from django.contrib import admin
from django.urls import URLPattern, URLResolver, path, re_path
from django.views.generic import RedirectView
from drf_spectacular.views import SpectacularJSONAPIView, SpectacularSwaggerView

from gateway.rest.unknown import UnknownPathView
from gateway.rest.views import BalanceView, ModelListView, ModelView, UsageListView, UsageRecordView

urlpatterns: list[URLPattern | URLResolver] = [
    path("", RedirectView.as_view(pattern_name="docs")),
    path("admin/", admin.site.urls),
    path("docs", SpectacularSwaggerView.as_view(url_name="openapi"), name="docs"),
    path("v1/openapi.json", SpectacularJSONAPIView.as_view(), name="openapi"),
    path("v1/models", ModelListView.as_view()),
    # A path: names of models may have slashes.
    path("v1/models/<path:name>", ModelView.as_view()),
    path("v1/usage", UsageListView.as_view()),
    # A slug: PostgreSQL cannot even be asked for a text with a zero byte.
    path("v1/usage/<slug:request_id>", UsageRecordView.as_view()),
    path("v1/balance", BalanceView.as_view()),
    re_path("^v1(/|$)", UnknownPathView.as_view()),
]
