"""Django looks for this name; what it stands for is in `platform_site.admin_site`."""

from platform_site import admin_site

__all__ = ["admin_site"]
