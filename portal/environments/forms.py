# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

from urllib.parse import urlsplit

from cryptography import x509
from django import forms
from django.core.exceptions import ValidationError

from portal.environments.models import Environment

_API_PATH = "/ovirt-engine/api"


class EnvironmentForm(forms.Form):
    name = forms.CharField(max_length=120, help_text="How people here call this Manager.")
    api_url = forms.URLField(
        label="API address",
        max_length=300,
        assume_scheme="https",
        help_text="https://manager.example.com/ovirt-engine/api",
    )
    username = forms.CharField(max_length=150, help_text="With its profile, like admin@internal.")
    password = forms.CharField(
        widget=forms.PasswordInput(render_value=False), strip=False, help_text="Kept encrypted."
    )
    ca_pem = forms.CharField(
        label="CA certificate (PEM)",
        required=False,
        widget=forms.Textarea(attrs={"rows": 6, "spellcheck": "false"}),
        help_text="From /ovirt-engine/services/pki-resource?resource=ca-certificate&format=X509-PEM-CA. "
        "Empty: the system's CAs.",
    )

    legacy_backups = forms.BooleanField(
        label="Back up without snapshots",
        required=False,
        help_text="Only matters from compatibility level 4.7 on, where the Manager takes a snapshot for each backup "
        "and merges it afterwards. Without, a machine cannot be stopped or migrated while it is backed up.",
    )

    def clean_name(self) -> str:
        name: str = self.cleaned_data["name"].strip()
        if Environment.objects.filter(name=name).exists():
            raise ValidationError("There is a Manager of this name already.")
        return name

    def clean_api_url(self) -> str:
        parts = urlsplit(self.cleaned_data["api_url"].rstrip("/"))
        if parts.scheme != "https":
            raise ValidationError("A Manager is only spoken to over https.")
        if parts.username or parts.password or parts.query or parts.fragment:
            raise ValidationError("Only the plain address, please: no user, password or parameters.")
        path = parts.path or _API_PATH
        if not path.endswith(_API_PATH):
            raise ValidationError(f"The address of the API ends in {_API_PATH}.")
        return f"https://{parts.netloc}{path}"

    def clean_ca_pem(self) -> str:
        text: str = self.cleaned_data["ca_pem"].strip()
        if not text:
            return ""
        try:
            x509.load_pem_x509_certificates(text.encode())
        except ValueError as error:
            raise ValidationError("This is not a PEM certificate (-----BEGIN CERTIFICATE-----).") from error
        return text + "\n"
