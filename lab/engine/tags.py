# SPDX-License-Identifier: GPL-3.0-or-later
"""Tags: a tree below the root tag, assigned to VMs and hosts.

Sources: ovirt-engine bll AddTagCommand, UpdateTagCommand, MoveTagCommand, RemoveTagCommand; the wording of the refusals
is inferred."""

import uuid
from dataclasses import dataclass

from lab.engine.core import Core
from lab.engine.faults import EntityMissing, not_found_by, refused
from lab.engine.state import ROOT_TAG_ID, Host, State, Tag, Vm


@dataclass(frozen=True)
class TagRequest:
    """What a client says about a tag, or by which id or name it refers to one; None = not said."""

    id: str | None = None
    name: str | None = None
    description: str | None = None
    parent_id: str | None = None
    parent_name: str | None = None


class TagCommands:
    def __init__(self, core: Core) -> None:
        self._core = core

    @property
    def _tags(self) -> dict[str, Tag]:
        return self._core.state.tags

    def get(self, tag_id: str) -> Tag:
        """Raises EntityMissing."""
        try:
            return self._tags[tag_id]
        except KeyError:
            raise EntityMissing(tag_id) from None

    def named(self, tag_id: str | None, name: str | None) -> Tag:
        """The tag that a body refers to, by its id, else by its name. Raises EngineFault (404)."""
        for tag in self._tags.values():
            if tag.id == tag_id or (tag_id is None and tag.name == name):
                return tag
        raise not_found_by("Tag", f"id={tag_id}" if tag_id else f"name={name}")

    def add(self, request: TagRequest) -> Tag:
        """A new tag; below the root unless a parent is named. Raises EngineFault."""
        assert request.name is not None
        parent_id = self._parent_id(request) or ROOT_TAG_ID
        self._check_name("add Tag", request.name, None)
        tag = Tag(str(uuid.uuid4()), request.name, request.description or "", parent_id)
        self._tags[tag.id] = tag
        return tag

    def update(self, tag: Tag, request: TagRequest) -> None:
        """Rename, describe, move. Raises EngineFault."""
        if tag.id == ROOT_TAG_ID:
            raise refused("edit Tag", "The Tag is read-only.")
        parent_id = self._parent_id(request)
        if parent_id is not None and parent_id in self.with_descendants(tag):
            raise refused("edit Tag", "The specified Tag cannot be the parent of itself.")
        if request.name:
            self._check_name("edit Tag", request.name, tag)
            tag.name = request.name
        if request.description is not None:
            tag.description = request.description
        tag.parent_id = parent_id or tag.parent_id

    def remove(self, tag: Tag) -> None:
        """With the tags below it; they are taken off what they were on. Raises EngineFault."""
        if tag.id == ROOT_TAG_ID:
            raise refused("remove Tag", "The Tag is read-only.")
        gone = self.with_descendants(tag)
        for tag_id in gone:
            del self._tags[tag_id]
        tagged: list[Vm | Host] = [*self._core.state.vms.values(), *self._core.state.hosts.values()]
        for owner in tagged:
            owner.tag_ids -= gone

    def with_descendants(self, tag: Tag) -> set[str]:
        return {other.id for other in self._tags.values() if tag.id in _lineage(self._core.state, other.id)}

    def _parent_id(self, request: TagRequest) -> str | None:
        if request.parent_id is None and not request.parent_name:
            return None
        return self.named(request.parent_id, request.parent_name).id

    def _check_name(self, action: str, name: str, but: Tag | None) -> None:
        if any(tag.name == name and tag is not but for tag in self._tags.values()):
            raise refused(action, "Tag name already exists.")


def _lineage(state: State, tag_id: str) -> list[str]:
    """The tag's id, its parent's, and so on up to the root's."""
    lineage: list[str] = []
    step: str | None = tag_id
    while step is not None and step in state.tags:
        lineage.append(step)
        step = state.tags[step].parent_id
    return lineage


def names_found_by(state: State, tag_ids: set[str]) -> list[str]:
    """What `tag=` in a search finds an object by: the names of its tags and of those above them.

    Source: ovirt-engine searchbackend BaseConditionFieldAutoCompleter: a tag is looked for with all tags below it."""
    return [state.tags[step].name for tag_id in tag_ids for step in _lineage(state, tag_id)]
