"""Django looks for this name; what it stands for is in its pages' modules."""

from platform_site import admin_site, audit_page, periodic_page

__all__ = ["admin_site", "audit_page", "periodic_page"]
