# SPDX-License-Identifier: GPL-3.0-or-later
"""What a restored disk is proven equal to: the manifest's digest, not whatever index lies in the repository now."""

from types import SimpleNamespace

import pytest

from backups import services
from backups.store.errors import IndexCorrupt
from portal.ovirt.image_transfer import OpenTransfer
from restores.methods import new_vm
from restores.methods.new_vm import NewVmRestore
from tests.backups.support import publish
from tests.factories import VmFactory

pytestmark = [pytest.mark.django_db, pytest.mark.embedded]
# docs/store-format.md: a header of 64 bytes, then 40 bytes a chunk, the last 32 of them its id.
HEADER, ITEM = 64, 40


@pytest.fixture
def work(repository, monkeypatch):
    """A restore whose image server is honest: the disk has what was written, and the checksum says so."""
    vm = VmFactory()
    point = services.record_point(repository, vm, publish(repository, vm), None)
    written = []

    def write(endpoint, index, *_, **__):
        written.append(index.digest_hex())
        return SimpleNamespace(via="direct")

    monkeypatch.setattr(new_vm, "write_disk", write)
    monkeypatch.setattr(new_vm, "checksum", lambda *_, **__: written[-1])
    found = NewVmRestore.__new__(NewVmRestore)
    found.context = SimpleNamespace(progress=None, write=lambda **_: None)
    found.stored, found.ca_file = point.open(), None
    return found


def upload(work):
    source_id = work.stored.disk_ids[0]
    transfer = OpenTransfer("t", "https://127.0.0.1/images/t", None)
    return work._upload(source_id, SimpleNamespace(alias="system"), transfer)


def test_an_untouched_index_is_proven(work):
    assert upload(work) == work.stored.digest_hex(work.stored.disk_ids[0])


def test_an_index_whose_chunks_were_exchanged_is_never_proven_equal_to_itself(work):
    path = work.stored.index_path(work.stored.disk_ids[0])
    raw = bytearray(path.read_bytes())
    first, second = (slice(HEADER + n * ITEM + 8, HEADER + (n + 1) * ITEM) for n in (0, 1))
    raw[first], raw[second] = raw[second], raw[first]
    path.chmod(0o600)
    path.write_bytes(raw)
    with pytest.raises(IndexCorrupt, match="does not have the digest of the manifest"):
        upload(work)
