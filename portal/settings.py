# SPDX-License-Identifier: GPL-3.0-or-later
"""Settings. Without any, the portal works from its data folder: SQLite, a folder as broker, one repository."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import dj_database_url
from django.core.exceptions import ImproperlyConfigured

from portal.env import envbool, envint, envlist, envsecret, envstr
from portal.secrets import checked_keys, secret_from_file

BASE_DIR = Path(__file__).resolve().parent.parent
DATA_DIR = Path(envstr("PORTAL_DATA_DIR") or BASE_DIR / ".data").resolve()
DATA_DIR.mkdir(mode=0o700, parents=True, exist_ok=True)

DEBUG = envbool("PORTAL_DEBUG", False)
SECRET_KEY = envsecret("PORTAL_SECRET_KEY") or secret_from_file(DATA_DIR / "session.key")
CREDENTIAL_KEYS = checked_keys(
    envsecret("PORTAL_CREDENTIAL_KEYS").split() or [secret_from_file(DATA_DIR / "credentials.key")]
)
ALLOWED_HOSTS = envlist("PORTAL_ALLOWED_HOSTS") or ["localhost", "127.0.0.1", "[::1]"]
CSRF_TRUSTED_ORIGINS = envlist("PORTAL_TRUSTED_ORIGINS")
HTTPS = envbool("PORTAL_HTTPS", False)
SESSION_COOKIE_SECURE = CSRF_COOKIE_SECURE = HTTPS
SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https") if HTTPS else None
SESSION_COOKIE_HTTPONLY = True
SESSION_COOKIE_AGE = 12 * 3600
SECURE_REFERRER_POLICY = "same-origin"
X_FRAME_OPTIONS = "DENY"

INSTALLED_APPS = [
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.staticfiles",
    "django_htmx",
    "drf_spectacular",
    "allauth",
    "allauth.account",
    "allauth.mfa",
    "allauth.usersessions",
    "allauth.socialaccount",
    "allauth.socialaccount.providers.openid_connect",
    "portal",
    "portal.audit",
    "portal.accounts",
    "portal.environments",
    "portal.events",
    "portal.jobs",
    "backups",
    "restores",
    "portal.trail",
    "portal.teams",
    "portal.dashboard",
    "portal.history",
    "portal.api",
]

MIDDLEWARE = [
    "portal.middleware.RequestIdMiddleware",
    "portal.api.problems.ApiProblemMiddleware",
    "django.middleware.security.SecurityMiddleware",
    "portal.middleware.ContentSecurityPolicyMiddleware",
    "whitenoise.middleware.WhiteNoiseMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "portal.audit.refusals.RefusalMiddleware",
    "django.contrib.auth.middleware.LoginRequiredMiddleware",
    "allauth.account.middleware.AccountMiddleware",
    "portal.accounts.sessions.LastSeenMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
    "django_htmx.middleware.HtmxMiddleware",
    "portal.middleware.PlainTextMiddleware",
    "portal.middleware.PortalErrorMiddleware",
]

ROOT_URLCONF = "portal.urls"
WSGI_APPLICATION = "portal.wsgi.application"
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "DIRS": [BASE_DIR / "templates"],
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ],
        },
    }
]


def _databases() -> dict[str, Any]:
    url = envsecret("DATABASE_URL") or f"sqlite:///{DATA_DIR / 'portal.sqlite3'}"
    database: dict[str, Any] = dict(dj_database_url.parse(url, conn_max_age=60, conn_health_checks=True))
    if database["ENGINE"].endswith("sqlite3"):
        database["CONN_MAX_AGE"] = 0
        database["OPTIONS"] = {
            "timeout": 20,
            "transaction_mode": "IMMEDIATE",
            "init_command": "PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL;",
        }
    return {"default": database}


DATABASES = _databases()
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

AUTH_USER_MODEL = "accounts.User"
AUTH_PASSWORD_VALIDATORS = [
    {"NAME": f"django.contrib.auth.password_validation.{name}"}
    for name in (
        "UserAttributeSimilarityValidator",
        "MinimumLengthValidator",
        "CommonPasswordValidator",
        "NumericPasswordValidator",
    )
]
LOGIN_URL = "accounts:login"
LOGIN_REDIRECT_URL = "dashboard:overview"
LOGOUT_REDIRECT_URL = "accounts:login"

# Signing in (docs/sign-in.md). Names and passwords are tried by Django's own backend: allauth's would tell a person
# who was switched off from a wrong password. Wrong sign-ins are counted in portal/accounts/attempts.py, before
# anything is hashed; the rest of allauth's limits stay.
AUTHENTICATION_BACKENDS = ["portal.accounts.backends.PasswordBackend"]
ACCOUNT_ADAPTER = "portal.accounts.adapters.AccountAdapter"
ACCOUNT_LOGIN_METHODS = {"username"}
ACCOUNT_SIGNUP_FIELDS = ["username*", "password1*"]
ACCOUNT_EMAIL_VERIFICATION = "none"
ACCOUNT_SESSION_REMEMBER = True
ACCOUNT_RATE_LIMITS = {"login": None}
ACCOUNT_REAUTHENTICATION_TIMEOUT = 600
ACCOUNT_FORMS = {"reauthenticate": "portal.accounts.forms.ConfirmByPasswordForm"}
MFA_ADAPTER = "portal.accounts.mfa.MfaAdapter"
MFA_FORMS = {
    "authenticate": "portal.accounts.mfa.CodeForm",
    "reauthenticate": "portal.accounts.mfa.ConfirmByCodeForm",
    "activate_totp": "portal.accounts.mfa.AddAppForm",
    "add_webauthn": "portal.accounts.mfa.AddPasskeyForm",
    "edit_webauthn": "portal.accounts.mfa.RenamePasskeyForm",
}
MFA_SUPPORTED_TYPES = ["totp", "webauthn", "recovery_codes"]
MFA_PASSKEY_LOGIN_ENABLED = True
MFA_RATE_LIMITS = {"webauthn_login": "30/m/ip"}
MFA_RECOVERY_CODES_SHOW_ONCE = True
MFA_TOTP_ISSUER = "oVirt Backup Portal"
MFA_TOTP_TOLERANCE = 1

# The company's OpenID Connect provider, if there is one.
OIDC_URL = envstr("PORTAL_OIDC_URL").rstrip("/")
OIDC_NAME = envstr("PORTAL_OIDC_NAME", "the company's sign-in")
OIDC_GROUPS_CLAIM = envstr("PORTAL_OIDC_GROUPS_CLAIM", "groups")
OIDC_NEW_PEOPLE = envbool("PORTAL_OIDC_NEW_PEOPLE", True)
SOCIALACCOUNT_ADAPTER = "portal.accounts.company.SocialAdapter"
SOCIALACCOUNT_LOGIN_ON_GET = True
SOCIALACCOUNT_EMAIL_VERIFICATION = "none"
SOCIALACCOUNT_PROVIDERS: dict[str, Any] = {
    "openid_connect": {
        "OAUTH_PKCE_ENABLED": True,
        "APPS": [
            {
                "provider_id": "company",
                "name": OIDC_NAME,
                "client_id": envstr("PORTAL_OIDC_CLIENT_ID"),
                "secret": envsecret("PORTAL_OIDC_CLIENT_SECRET"),
                "settings": {
                    "server_url": OIDC_URL,
                    "scope": envstr("PORTAL_OIDC_SCOPES", "openid profile email").split(),
                },
            }
        ]
        if OIDC_URL
        else [],
    }
}

LDAP_URL = envstr("PORTAL_LDAP_URL")
if LDAP_URL:
    from portal.ldap_settings import ldap_settings

    AUTHENTICATION_BACKENDS.append("portal.accounts.directory.DirectoryBackend")
    globals().update(ldap_settings(LDAP_URL))

# Reverse proxies in front that add to X-Forwarded-For. Without them the header is anybody's word and not looked at.
ALLAUTH_TRUSTED_PROXY_COUNT = envint("PORTAL_TRUSTED_PROXIES", 0)

LANGUAGE_CODE = "en"
TIME_ZONE = envstr("PORTAL_TIME_ZONE", "UTC")
USE_TZ = True
USE_I18N = False

STATIC_URL = "static/"
STATICFILES_DIRS = [BASE_DIR / "static"]
STATIC_ROOT = Path(envstr("PORTAL_STATIC_ROOT") or DATA_DIR / "static")
STATIC_ROOT.mkdir(parents=True, exist_ok=True)
WHITENOISE_USE_FINDERS = True
WHITENOISE_AUTOREFRESH = DEBUG

REDIS_URL = envsecret("REDIS_URL")
if REDIS_URL:
    CELERY_BROKER_URL = REDIS_URL
    CACHES = {"default": {"BACKEND": "django.core.cache.backends.redis.RedisCache", "LOCATION": REDIS_URL}}
else:
    # Shared by all processes, as limits and used one-time codes must be.
    CACHES = {
        "default": {"BACKEND": "django.core.cache.backends.db.DatabaseCache", "LOCATION": "portal_cache"}
    }
    _broker = DATA_DIR / "broker"
    for _name in ("messages", "control"):
        (_broker / _name).mkdir(parents=True, exist_ok=True)
    CELERY_BROKER_URL = "folder://localhost/"
    CELERY_BROKER_TRANSPORT_OPTIONS = {
        "data_folder_in": str(_broker / "messages"),
        "data_folder_out": str(_broker / "messages"),
        "control_folder": str(_broker / "control"),
        "polling_interval": 0.25,
    }
CELERY_TASK_IGNORE_RESULT = True
CELERY_WORKER_PREFETCH_MULTIPLIER = 1
CELERY_WORKER_HIJACK_ROOT_LOGGER = False
CELERY_BROKER_CONNECTION_RETRY_ON_STARTUP = True
CELERY_TASK_SERIALIZER = "json"
CELERY_ACCEPT_CONTENT = ["json"]
CELERY_TIMEZONE = "UTC"
# Events have a queue and a worker of their own: a webhook must not wait until a long job leaves a thread.
CELERY_TASK_ROUTES = {"events.*": {"queue": "events"}}
CELERY_WORKER_ENABLE_REMOTE_CONTROL = False

# Seconds. A worker beats every JOB_HEARTBEAT; one silent for JOB_LEASE is taken for dead.
JOB_HEARTBEAT = envint("PORTAL_JOB_HEARTBEAT", 5, minimum=1)
JOB_LEASE = envint("PORTAL_JOB_LEASE", 30, minimum=3)
if JOB_LEASE < 3 * JOB_HEARTBEAT:
    raise ImproperlyConfigured("PORTAL_JOB_LEASE must be at least three times PORTAL_JOB_HEARTBEAT.")
JOB_RING_AFTER = envint("PORTAL_JOB_RING_AFTER", 5, minimum=1)
# Before the second attempt after an error that may pass; doubled each time, at most a minute.
JOB_BACKOFF = envint("PORTAL_JOB_BACKOFF", 4, minimum=1)
JOB_MAX_ATTEMPTS = envint("PORTAL_JOB_MAX_ATTEMPTS", 4, minimum=1)
INVENTORY_EVERY = envint("PORTAL_INVENTORY_EVERY", 60, minimum=5)
# Seconds between looks at each repository, its garbage collections, and its verifications (0 = only when asked).
REPOSITORY_EVERY = envint("PORTAL_REPOSITORY_EVERY", 3600, minimum=60)
COLLECT_EVERY = envint("PORTAL_COLLECT_EVERY", 24 * 3600)
VERIFY_EVERY = envint("PORTAL_VERIFY_EVERY", 30 * 24 * 3600)
# Stored bytes that verifying a whole repository reads each second, in MiB; 0 = as fast as it can.
VERIFY_RATE = envint("PORTAL_VERIFY_RATE", 0)
# Seconds until beat seals audit entries that were not sealed right after their commit.
AUDIT_SEAL_EVERY = envint("PORTAL_AUDIT_SEAL_EVERY", 10, minimum=1)
# Seconds between writing the head of the audit history into each repository, and between reading it all again.
AUDIT_ANCHOR_EVERY = envint("PORTAL_AUDIT_ANCHOR_EVERY", 24 * 3600, minimum=60)
AUDIT_VERIFY_EVERY = envint("PORTAL_AUDIT_VERIFY_EVERY", 24 * 3600)
# Image transfers: connections for each disk, and backups at once on one Manager.
TRANSFER_CONNECTIONS = envint("PORTAL_TRANSFER_CONNECTIONS", 4, minimum=1)
ENVIRONMENT_JOBS = envint("PORTAL_ENVIRONMENT_JOBS", 4, minimum=1)
MANAGER_TIMEOUT = envint("PORTAL_MANAGER_TIMEOUT", 60, minimum=1)
# How long the Manager may take for one phase (creating scratch disks, merging, verifying an upload …).
MANAGER_PHASE_TIMEOUT = envint("PORTAL_MANAGER_PHASE_TIMEOUT", 900, minimum=10)
# How long it may merge the automatic snapshot of a hybrid backup: what the guest wrote meanwhile is copied.
MANAGER_MERGE_TIMEOUT = envint("PORTAL_MANAGER_MERGE_TIMEOUT", 12 * 3600, minimum=10)
# How long a job waits for a Manager that does not answer (restarted, updated), and for one that is busy with the
# machine (another backup, a locked disk), before it gives this attempt up.
MANAGER_PATIENCE = envint("PORTAL_MANAGER_PATIENCE", 300, minimum=0)
MANAGER_BUSY_TIMEOUT = envint("PORTAL_MANAGER_BUSY_TIMEOUT", 600, minimum=0)
# How long a restore waits for a second person's consent, in hours, and how often that is looked at, in seconds.
APPROVAL_HOURS = envint("PORTAL_APPROVAL_HOURS", 72, minimum=1)
APPROVALS_EVERY = envint("PORTAL_APPROVALS_EVERY", 60, minimum=1)
# How often what ended backups left on a Manager is looked for and cleaned up.
LEFTOVERS_EVERY = envint("PORTAL_LEFTOVERS_EVERY", 300, minimum=5)
# Webhooks: seconds for one request, before the second attempt (doubled each time, at most three hours), and until
# an event is given up; a file of CAs instead of the system's; days that events, and deliveries, are kept.
WEBHOOK_TIMEOUT = envint("PORTAL_WEBHOOK_TIMEOUT", 10, minimum=1)
WEBHOOK_RETRY = envint("PORTAL_WEBHOOK_RETRY", 10, minimum=1)
WEBHOOK_GIVE_UP = envint("PORTAL_WEBHOOK_GIVE_UP", 24 * 3600, minimum=1)
WEBHOOK_CA_FILE = envstr("PORTAL_WEBHOOK_CA_FILE")
EVENT_DAYS = envint("PORTAL_EVENT_DAYS", 90, minimum=1)
DELIVERY_DAYS = envint("PORTAL_DELIVERY_DAYS", 30, minimum=1)

LOGGING: dict[str, Any] = {
    "version": 1,
    "disable_existing_loggers": False,
    "filters": {"context": {"()": "portal.logs.ContextFilter"}},
    "formatters": {
        "line": {"format": "{asctime} {levelname} {name} [{request_id}{job_id}] {message}", "style": "{"}
    },
    "handlers": {
        "stderr": {"class": "logging.StreamHandler", "formatter": "line", "filters": ["context"]},
    },
    "root": {"handlers": ["stderr"], "level": envstr("PORTAL_LOG_LEVEL", "INFO")},
    "loggers": {"django.server": {"handlers": ["stderr"], "propagate": False}},
}

MESSAGE_STORAGE = "django.contrib.messages.storage.session.SessionStorage"

# Requests in a minute: of one token or person (reading, writing), and wrong tokens from one address.
API_READS = envint("PORTAL_API_READS", 600, minimum=1)
API_WRITES = envint("PORTAL_API_WRITES", 120, minimum=1)
API_WRONG_TOKENS = envint("PORTAL_API_WRONG_TOKENS", 30, minimum=1)
# Requests that may wait for a job (`?wait=`) in one web process at once: less than its threads (supervisor.py).
API_WAITERS = envint("PORTAL_API_WAITERS", 4)
# Days for which the answer to a write with an Idempotency-Key is kept.
API_KEEP_ANSWERS = envint("PORTAL_API_KEEP_ANSWERS", 7, minimum=1)

REST_FRAMEWORK = {
    "DEFAULT_AUTHENTICATION_CLASSES": [
        "portal.api.authentication.TokenAuthentication",
        "rest_framework.authentication.SessionAuthentication",
    ],
    "DEFAULT_PERMISSION_CLASSES": ["portal.api.authentication.HasScope"],
    "DEFAULT_RENDERER_CLASSES": ["rest_framework.renderers.JSONRenderer"],
    "DEFAULT_PARSER_CLASSES": ["portal.api.parsing.BodyParser"],
    "DEFAULT_SCHEMA_CLASS": "drf_spectacular.openapi.AutoSchema",
    "DEFAULT_METADATA_CLASS": None,
    "EXCEPTION_HANDLER": "portal.api.problems.exception_handler",
    "URL_FORMAT_OVERRIDE": None,
}
SPECTACULAR_SETTINGS = {
    "TITLE": "oVirt Backup Portal",
    "VERSION": "1",
    "SCHEMA_PATH_PREFIX": "/api/v1",
    "SERVE_INCLUDE_SCHEMA": False,
    "COMPONENT_SPLIT_REQUEST": True,
    "ENUM_NAME_OVERRIDES": {
        "JobState": "portal.jobs.states.JobState",
        "StepState": "portal.jobs.states.StepState",
        "PointMode": "backups.models.RestorePoint.Mode",
        "Via": "portal.jobs.models.Job.Via",
        "Role": "portal.accounts.roles.Role",
    },
    "POSTPROCESSING_HOOKS": [
        "drf_spectacular.hooks.postprocess_schema_enums",
        "portal.api.schema.add_problems",
    ],
}
