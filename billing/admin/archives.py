"""Archives of old usage in the admin: which days went into which files."""

from django.contrib import admin
from django.utils.safestring import SafeString

from billing.finance_models import UsageArchive
from common.admin_base import ReadOnlyModelAdmin
from common.admin_display import code, number, short_code, usd_column, utc_column


@admin.register(UsageArchive)
class UsageArchiveAdmin(ReadOnlyModelAdmin[UsageArchive]):
    list_display = ("day_text", "part", "calls", "charged", "size", "short_digest", "created")
    list_display_links = ("day_text",)
    ordering = ("-day", "-part")
    fields = ("day_text", "part", "calls", "charged", "cost", "size", "location", "digest", "created")

    charged = usd_column("charged_nanousd", "Charged (USD)")
    cost = usd_column("cost_nanousd", "Cost by prices (USD)")
    created = utc_column("created_at", "Archived (UTC)", zone="")

    @admin.display(description="Day (UTC)")
    def day_text(self, archive: UsageArchive) -> str:
        return archive.day.isoformat()

    @admin.display(description="Calls")
    def calls(self, archive: UsageArchive) -> SafeString | str:
        return number(archive.row_count)

    @admin.display(description="Bytes")
    def size(self, archive: UsageArchive) -> SafeString | str:
        return number(archive.byte_count)

    @admin.display(description="SHA-256")
    def short_digest(self, archive: UsageArchive) -> SafeString:
        return short_code(archive.sha256)

    @admin.display(description="SHA-256")
    def digest(self, archive: UsageArchive) -> SafeString:
        return code(archive.sha256)
