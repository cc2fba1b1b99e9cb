"""Routes of the control plane. The data plane is routed before Django, in `platform_site.asgi`."""

from django.contrib import admin
from django.urls import URLPattern, URLResolver, path, re_path
from django.views.generic import RedirectView
from drf_spectacular.views import SpectacularJSONAPIView

from gateway.rest.changelog import ChangelogView
from gateway.rest.estimates import EstimateView
from gateway.rest.exports import ExportManifestView, ExportView
from gateway.rest.features import FeatureListView
from gateway.rest.forecast import ForecastView
from gateway.rest.invoices import InvoiceListView, InvoicePdfView, InvoiceView
from gateway.rest.keys import KeyListView, KeyRevocationView, KeyRotationView, KeyUsageView, KeyView
from gateway.rest.limits import LimitListView
from gateway.rest.prompt_catalogue import PromptListView, PromptView
from gateway.rest.prompts import PromptTestsView
from gateway.rest.spend import SpendView
from gateway.rest.statement import StatementView
from gateway.rest.unknown import UnknownPathView
from gateway.rest.views import BalanceView, ModelListView, ModelView, UsageListView, UsageRecordView
from platform_site.anonymous import limit_anonymous
from platform_site.documentation import DocumentationView

urlpatterns: list[URLPattern | URLResolver] = [
    path("", RedirectView.as_view(pattern_name="docs")),
    path("admin/", admin.site.urls),
    path("docs", limit_anonymous(DocumentationView.as_view(url_name="openapi")), name="docs"),
    path("v1/openapi.json", limit_anonymous(SpectacularJSONAPIView.as_view()), name="openapi"),
    path("v1/models", ModelListView.as_view()),
    # A path: names of models may have slashes.
    path("v1/models/<path:name>", ModelView.as_view()),
    path("v1/usage", UsageListView.as_view()),
    # A slug: PostgreSQL cannot even be asked for a text with a zero byte.
    path("v1/usage/<slug:request_id>", UsageRecordView.as_view()),
    path("v1/balance", BalanceView.as_view()),
    # Names have dots, which slugs do not.
    path("v1/prompts", PromptListView.as_view()),
    re_path(r"^v1/prompts/(?P<name>[a-z0-9._-]{1,80})$", PromptView.as_view()),
    re_path(r"^v1/prompts/(?P<name>[a-z0-9._-]{1,80})/tests$", PromptTestsView.as_view()),
    path("v1/keys", KeyListView.as_view()),
    path("v1/keys/<slug:public_id>", KeyView.as_view()),
    path("v1/keys/<slug:public_id>/rotate", KeyRotationView.as_view()),
    path("v1/keys/<slug:public_id>/revoke", KeyRevocationView.as_view()),
    path("v1/keys/<slug:public_id>/usage", KeyUsageView.as_view()),
    path("v1/estimates", EstimateView.as_view()),
    path("v1/spend", SpendView.as_view()),
    path("v1/forecast", ForecastView.as_view()),
    path("v1/statement", StatementView.as_view()),
    path("v1/invoices", InvoiceListView.as_view()),
    path("v1/invoices/<slug:number>", InvoiceView.as_view()),
    path("v1/invoices/<slug:number>/pdf", InvoicePdfView.as_view()),
    path("v1/exports", ExportView.as_view()),
    path("v1/exports/<slug:export_id>", ExportManifestView.as_view()),
    path("v1/limits", LimitListView.as_view()),
    path("v1/features", FeatureListView.as_view()),
    path("v1/changelog", limit_anonymous(ChangelogView.as_view())),
    re_path("^v1(/|$)", UnknownPathView.as_view()),
]
