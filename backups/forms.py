# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

from pathlib import PurePosixPath
from typing import Any

from django import forms
from django.core.exceptions import ValidationError

from backups.models import Repository


class RepositoryForm(forms.Form):
    """Name and grace period; `repository` is the one that is changed."""

    name = forms.CharField(max_length=120, help_text="How people here call this repository.")
    trash_days = forms.IntegerField(
        label="Days in the trash",
        min_value=1,
        max_value=3650,
        initial=14,
        help_text="So long a deleted restore point can be had back.",
    )

    def __init__(self, *args: Any, repository: Repository | None = None, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._repository = repository

    def clean_name(self) -> str:
        name: str = self.cleaned_data["name"].strip()
        others = Repository.objects.filter(name=name)
        if self._repository is not None:
            others = others.exclude(pk=self._repository.pk)
        if others.exists():
            raise ValidationError("There is a repository of this name already.")
        return name


class AddRepositoryForm(RepositoryForm):
    path = forms.CharField(
        label="Folder",
        max_length=500,
        widget=forms.TextInput(attrs={"spellcheck": "false", "autocomplete": "off"}),
        help_text="A folder that all workers reach under this path, on a mounted share for example.",
    )
    existing = forms.TypedChoiceField(
        label="What is in the folder",
        coerce=lambda value: value == "yes",
        choices=[
            ("no", "Nothing: make a new repository there"),
            ("yes", "A repository: take it up with its restore points"),
        ],
        initial="no",
        widget=forms.RadioSelect,
        help_text="Taking one up reads it and changes nothing in it.",
    )
    default = forms.BooleanField(
        label="Use it by default",
        required=False,
        help_text="Backups go there unless another repository is chosen.",
    )
    field_order = ("name", "path", "existing", "trash_days", "default")

    def clean_path(self) -> PurePosixPath:
        given = self.cleaned_data["path"].strip()
        path = PurePosixPath(given)
        if not path.is_absolute() or ".." in path.parts:
            raise ValidationError("Give the whole path, beginning with a slash and without “..”.")
        if path == PurePosixPath("/"):
            raise ValidationError("Give a folder of its own, not the root of the file system.")
        for known in Repository.objects.all():
            other = PurePosixPath(known.path)
            if path == other or path in other.parents or other in path.parents:
                raise ValidationError(f"The repository {known.name} lies there already: {known.path}.")
        return path
