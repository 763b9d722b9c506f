# SPDX-License-Identifier: GPL-3.0-or-later
"""What a person chooses for a restore. Bound to the URL, so that leaving and coming back keeps the choices."""

from __future__ import annotations

from typing import Any

from django import forms

from backups.models import RestorePoint
from portal.ovirt.new_vm import MAX_VM_NAME
from restores.plans import RestorePlan, suggested_name, usable_domains


class NewVmForm(forms.Form):
    name = forms.CharField(label="Name of the new machine", max_length=MAX_VM_NAME)
    cluster = forms.ChoiceField(label="Cluster")
    storage_domain = forms.ChoiceField(label="Storage domain")
    network = forms.ChoiceField(
        label="Network",
        choices=[
            ("unplugged", "Unplugged: the restored machine cannot disturb the original"),
            ("plugged", "Plugged, as it was"),
        ],
        widget=forms.RadioSelect,
    )
    macs = forms.ChoiceField(
        label="MAC addresses",
        choices=[("new", "New"), ("original", "The original ones")],
        widget=forms.RadioSelect,
    )

    people = forms.ChoiceField(
        label="Rights on the new machine",
        choices=[
            ("same", "The same people have the same rights, on the Manager and here"),
            ("nobody", "Nobody but administrators"),
        ],
        widget=forms.RadioSelect,
    )

    def __init__(self, point: RestorePoint, data: Any = None) -> None:
        self._proposed = self.defaults(point)
        super().__init__({**self._proposed, **(dict(data.items()) if data else {})})
        environment = point.vm.environment
        self.fields["cluster"].choices = [  # type: ignore[attr-defined]
            ("", "As before"),
            *((item["cluster_id"], item["name"]) for item in environment.clusters),
        ]
        self.fields["cluster"].required = False
        domains = {
            item["domain_id"]: item
            for cluster in environment.clusters
            for item in usable_domains(environment.storage_domains, cluster)
        }
        self.fields["storage_domain"].choices = [  # type: ignore[attr-defined]
            ("", "As before"),
            *((key, item["name"]) for key, item in domains.items()),
        ]
        self.fields["storage_domain"].required = False

    def is_as_proposed(self, plan: RestorePlan | None) -> bool:
        """Nothing but the name was chosen, and nothing stands in the way: the rest need not be looked at."""
        if plan is None or plan.blockers:
            return False
        return all(
            self.cleaned_data[name] == value for name, value in self._proposed.items() if name != "name"
        )

    @staticmethod
    def defaults(point: RestorePoint) -> dict[str, str]:
        return {
            "name": suggested_name(point),
            "cluster": "",
            "storage_domain": "",
            "network": "unplugged",
            "macs": "new",
            "people": "same",
        }
