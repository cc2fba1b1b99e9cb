"""Django's settings, derived from the typed environment (`platform_site.environment`)."""

import base64
import hashlib
import sys
from datetime import timedelta
from typing import Any
from urllib.parse import unquote, urlsplit

import dj_database_url
import django_stubs_ext
from csp.constants import NONE, SELF, UNSAFE_INLINE
from django.urls import reverse_lazy

from common.money import parse_usd
from platform_site.environment import (
    PROJECT_ROOT,
    previous_secret_path,
    read_environment,
    read_or_create_secret,
)
from platform_site.unfold import DATETIME_FORMAT, UNFOLD  # noqa: F401 - settings are read by their names here

django_stubs_ext.monkeypatch()

ENVIRONMENT = read_environment()
BASE_DIR = PROJECT_ROOT
DATA_DIR = ENVIRONMENT.data_dir
DATA_DIR.mkdir(parents=True, exist_ok=True)
EXPORT_DIR = ENVIRONMENT.export_dir or DATA_DIR / "exports"
ARCHIVE_DIR = ENVIRONMENT.archive_dir or DATA_DIR / "archives"

SECRET_KEY = ENVIRONMENT.secret_key or read_or_create_secret(DATA_DIR / "secret_key")
KEY_PEPPERS = ENVIRONMENT.key_peppers or [read_or_create_secret(DATA_DIR / "key_pepper")]


def _generated_encryption_keys() -> list[str]:
    path = DATA_DIR / "encryption_key"
    texts = [read_or_create_secret(path)]
    previous = previous_secret_path(path)  # there between the two steps of `manage.py rotate_secrets`
    if previous.exists():
        texts.append(previous.read_text().strip())
    # Fernet wants 32 bytes in URL-safe base 64; the files hold free text like the others.
    return [base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).decode() for text in texts]


ENCRYPTION_KEYS = ENVIRONMENT.encryption_keys or _generated_encryption_keys()

DEBUG = ENVIRONMENT.debug
ALLOWED_HOSTS = ENVIRONMENT.allowed_hosts
CSRF_TRUSTED_ORIGINS = ENVIRONMENT.csrf_trusted_origins
if ENVIRONMENT.behind_tls_proxy:
    SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https")
    SESSION_COOKIE_SECURE = CSRF_COOKIE_SECURE = True
    # Browsers refuse to overwrite these from a neighbouring host or from plain HTTP.
    SESSION_COOKIE_NAME, CSRF_COOKIE_NAME = "__Host-session", "__Host-csrf"
    SECURE_HSTS_SECONDS = 365 * 24 * 3600
SESSION_COOKIE_HTTPONLY = CSRF_COOKIE_HTTPONLY = True
SESSION_COOKIE_SAMESITE = CSRF_COOKIE_SAMESITE = "Lax"
SESSION_COOKIE_AGE = round(ENVIRONMENT.admin_session_hours * 3600)
SESSION_EXPIRE_AT_BROWSER_CLOSE = True
SECURE_CONTENT_TYPE_NOSNIFF = True
SECURE_REFERRER_POLICY = "same-origin"
X_FRAME_OPTIONS = "DENY"

_mail = urlsplit(ENVIRONMENT.email_url)
EMAIL_BACKEND = f"django.core.mail.backends.{'smtp' if _mail.hostname else 'console'}.EmailBackend"
EMAIL_HOST = _mail.hostname or ""
EMAIL_USE_SSL = _mail.scheme == "smtps"
EMAIL_USE_TLS = _mail.scheme == "smtp" and bool(_mail.username)
EMAIL_PORT = _mail.port or (465 if EMAIL_USE_SSL else 587 if EMAIL_USE_TLS else 25)
EMAIL_HOST_USER = unquote(_mail.username or "")
EMAIL_HOST_PASSWORD = unquote(_mail.password or "")
EMAIL_TIMEOUT = 10
DEFAULT_FROM_EMAIL = SERVER_EMAIL = ENVIRONMENT.email_from
CONTENT_SECURITY_POLICY = {
    "DIRECTIVES": {
        "default-src": [SELF],
        "base-uri": [NONE],
        "form-action": [SELF],
        "frame-ancestors": [NONE],
        "img-src": [SELF, "data:"],
        "object-src": [NONE],
        "script-src": [SELF],
        # Unfold's and the API documents' pages set styles in the markup; a style runs no code.
        "style-src": [SELF, UNSAFE_INLINE],
    },
}

# Counted by `keys.attempts`.
FAILED_ATTEMPTS_PER_MINUTE = ENVIRONMENT.failed_attempts_per_minute
ANONYMOUS_REQUESTS_PER_MINUTE = ENVIRONMENT.anonymous_requests_per_minute

INSTALLED_APPS = [
    # First: its runserver speaks ASGI. Every other process would carry 18 MB of it for nothing.
    *(["daphne"] if "runserver" in sys.argv[1:2] else []),
    "unfold.apps.BasicAppConfig",  # without its own site: ours derives from it
    "unfold.contrib.filters",
    "platform_site.apps.TollkeeperAdminConfig",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.staticfiles",
    "django_otp",
    "django_otp.plugins.otp_totp",
    "django_otp.plugins.otp_static",
    "axes",
    "csp",
    "channels",
    "rest_framework",
    "drf_spectacular",
    "drf_spectacular_sidecar",
    "common",
    "keys",
    "billing",
    "prompts",
    "gateway",
    "platform_site.apps.PlatformSiteConfig",
]

MIDDLEWARE = [
    "django.middleware.security.SecurityMiddleware",
    "platform_site.policy.PolicyMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django_otp.middleware.OTPMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
    # Last, as it wants: it replaces the answer to a login that is locked out.
    "platform_site.logins.LockoutMiddleware",
]

ROOT_URLCONF = "platform_site.urls"
ASGI_APPLICATION = "platform_site.asgi.application"

TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "DIRS": [],
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ],
        },
    },
]

SQLITE_PRAGMAS = (
    # Of a new file; to any other it does nothing. A commit writes whole pages, and a lone call's two write 28: at half
    # the usual size they take an eighth less time, and lists and exports of millions of rows as long as before.
    "PRAGMA page_size=2048;"
    # A commit is durable when it returns: holds and settlements survive a power cut.
    " PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL;"
    # Without it INSERT OR REPLACE would delete ledger rows past their delete trigger.
    " PRAGMA recursive_triggers=ON; PRAGMA temp_store=MEMORY; PRAGMA cache_size=-32000; PRAGMA wal_autocheckpoint=2000;"
)


def _database() -> dict[str, Any]:
    url = ENVIRONMENT.database_url or f"sqlite:///{DATA_DIR / 'tollkeeper.sqlite3'}"
    config: dict[str, Any] = dict(dj_database_url.parse(url))
    if config["ENGINE"].endswith("sqlite3"):
        # IMMEDIATE: a transaction that will write takes the write lock first, instead of failing on its upgrade.
        config["OPTIONS"] = {"transaction_mode": "IMMEDIATE", "timeout": 20, "init_command": SQLITE_PRAGMAS}
        # The clerk decides in a thread of its own: tests need a file that both see, not a private memory database.
        config["TEST"] = {"NAME": str(DATA_DIR / "test.sqlite3")}
    else:
        config["CONN_MAX_AGE"] = 60
        config["CONN_HEALTH_CHECKS"] = True
    return config


DATABASES = {"default": _database()}
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

if ENVIRONMENT.redis_url:
    CHANNEL_LAYERS: dict[str, Any] = {
        "default": {
            "BACKEND": "channels_redis.core.RedisChannelLayer",
            "CONFIG": {"hosts": [ENVIRONMENT.redis_url]},
        }
    }
    CACHES: dict[str, Any] = {
        "default": {
            "BACKEND": "django.core.cache.backends.redis.RedisCache",
            "LOCATION": ENVIRONMENT.redis_url,
        }
    }
else:
    CHANNEL_LAYERS = {"default": {"BACKEND": "channels.layers.InMemoryChannelLayer"}}
    CACHES = {"default": {"BACKEND": "django.core.cache.backends.locmem.LocMemCache"}}

AUTHENTICATION_BACKENDS = ["axes.backends.AxesStandaloneBackend", "django.contrib.auth.backends.ModelBackend"]
MONEY_APPROVAL_NANOUSD = parse_usd(ENVIRONMENT.money_approval_usd)
ADMIN_SECOND_FACTOR = ENVIRONMENT.admin_second_factor
OTP_TOTP_ISSUER = "Tollkeeper"
# A name is closed to the address that failed with it, and to no other: nobody can lock an administrator out from
# elsewhere. `platform_site.logins` says the rest.
AXES_FAILURE_LIMIT = 5
AXES_COOLOFF_TIME = timedelta(minutes=15)
AXES_LOCKOUT_PARAMETERS = [["username", "ip_address"]]
AXES_CLIENT_IP_CALLABLE = "common.addresses.address_of_request"
AXES_LOCKOUT_CALLABLE = "platform_site.logins.render_lockout"
AXES_RESET_ON_SUCCESS = True
AXES_RESET_COOL_OFF_ON_FAILURE_DURING_LOCKOUT = False
AXES_SENSITIVE_PARAMETERS = ["username", "ip_address", "otp_token", "csrfmiddlewaretoken"]
# The audit trail has the logins.
AXES_DISABLE_ACCESS_LOG = True
AXES_ENABLE_ADMIN = False
AXES_VERBOSE = False
# It looks for the package's own middleware by name; ours derives from it.
SILENCED_SYSTEM_CHECKS = ["axes.W002"]

AUTH_PASSWORD_VALIDATORS = [
    {"NAME": "django.contrib.auth.password_validation.MinimumLengthValidator", "OPTIONS": {"min_length": 10}},
    {"NAME": "django.contrib.auth.password_validation.CommonPasswordValidator"},
]

LANGUAGE_CODE = "en-us"
TIME_ZONE = "UTC"  # every moment is stored, shown and exported in UTC; budgets are UTC days and months
USE_I18N = False
USE_TZ = True

STATIC_URL = "/static/"
STATIC_ROOT = DATA_DIR / "static"

REST_FRAMEWORK = {
    "DEFAULT_AUTHENTICATION_CLASSES": ["gateway.rest.authentication.ApiKeyAuthentication"],
    "DEFAULT_PERMISSION_CLASSES": ["gateway.rest.authentication.HasScope"],
    "DEFAULT_RENDERER_CLASSES": ["rest_framework.renderers.JSONRenderer"],
    "DEFAULT_PARSER_CLASSES": ["rest_framework.parsers.JSONParser"],
    "EXCEPTION_HANDLER": "gateway.rest.errors.render_exception",
    "DEFAULT_SCHEMA_CLASS": "drf_spectacular.openapi.AutoSchema",
    "UNAUTHENTICATED_USER": None,
}

SPECTACULAR_SETTINGS = {
    "TITLE": "Tollkeeper API",
    "DESCRIPTION": "OpenAI-compatible calls, and the customer's own view of models, usage and balance.",
    "VERSION": "1",
    "OAS_VERSION": "3.1.1",
    "SERVE_INCLUDE_SCHEMA": False,
    "SERVE_AUTHENTICATION": [],
    "SERVE_PERMISSIONS": [],
    # The page would otherwise ask a server of Swagger's to judge the document.
    "SWAGGER_UI_SETTINGS": {"deepLinking": True, "validatorUrl": None},
    "SWAGGER_UI_DIST": "SIDECAR",
    "SWAGGER_UI_FAVICON_HREF": "SIDECAR",
    "POSTPROCESSING_HOOKS": [
        "drf_spectacular.hooks.postprocess_schema_enums",
        "platform_site.openapi.add_data_plane",
    ],
}

LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {"plain": {"format": "%(asctime)s %(levelname)-7s %(name)s: %(message)s"}},
    "handlers": {"stderr": {"class": "logging.StreamHandler", "formatter": "plain"}},
    "root": {"handlers": ["stderr"], "level": ENVIRONMENT.log_level},
    "loggers": {
        "django.server": {"handlers": ["stderr"], "level": "INFO", "propagate": False},
        # One line for each WebSocket otherwise; what matters at start and stop is said by `manage.py serve`.
        "uvicorn.error": {"level": "WARNING"},
        # A customer's 4xx is told to the customer; the server's log has our own faults.
        "django.request": {"level": "ERROR"},
        # Failed logins are in the audit trail.
        "axes": {"level": "ERROR"},
        "httpx": {"level": "WARNING"},
        "httpx2": {"level": "WARNING"},
        "openai": {"level": "WARNING"},
    },
}

LOGIN_URL = reverse_lazy("admin:login")
