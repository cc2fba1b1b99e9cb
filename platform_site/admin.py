"""Django looks for this name; what it stands for is in `platform_site.admin_site` and `platform_site.audit_page`."""

from platform_site import admin_site, audit_page

__all__ = ["admin_site", "audit_page"]
