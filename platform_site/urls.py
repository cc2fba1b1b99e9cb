"""Routes of the control plane. The data plane is routed before Django, in `platform_site.asgi`."""

from django.contrib import admin
from django.urls import URLPattern, URLResolver, path

urlpatterns: list[URLPattern | URLResolver] = [
    path("admin/", admin.site.urls),
]
