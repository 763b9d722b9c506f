# SPDX-License-Identifier: GPL-3.0-or-later
"""The command on the page gives the disk back, whatever paths and disks are called."""

import shlex
import shutil
import subprocess

import pytest

from backups import services
from backups.commands import casync_commands
from tests.backups.support import disk_of, publish
from tests.factories import PointDiskFactory, PointFactory, RepositoryFactory
from tests.store.support import content_of

pytestmark = [pytest.mark.django_db, pytest.mark.embedded]


@pytest.mark.skipif(shutil.which("casync") is None, reason="casync is not installed")
def test_pasting_the_command_into_a_shell_gives_the_disk(people, vm, tmp_path):
    path = tmp_path / 'it\'s a "$(touch pwned)" ; repository & more'
    repository = services.create_repository(actor=None, name="odd", path=path)
    disks = [disk_of("-rf $(touch pwned) `id` 'q' /etc\n", bootable=True)]
    point = services.record_point(repository, vm, publish(repository, vm, disks=disks), None)
    (found,) = casync_commands(point, list(point.disks.all()))
    folder = tmp_path / "here"
    folder.mkdir()
    subprocess.run(["sh", "-ec", found.command], cwd=folder, check=True, capture_output=True, timeout=60)
    (made,) = folder.iterdir()
    assert made.read_bytes() == content_of(2 << 20, seed=0)
    assert not list(tmp_path.rglob("pwned"))


@pytest.mark.parametrize(
    ("alias", "file"),
    [
        ("system", "system.raw"),
        ("../../etc/passwd", ".._.._etc_passwd.raw"),
        ("--store=/evil", "./--store=_evil.raw"),
        ("-", "./-.raw"),
        ("a\x1b]0;x\x07\r\nb", "a_]0;x___b.raw"),
        ("диск 1", "диск 1.raw"),
    ],
)
def test_the_file_is_named_after_the_disk_and_nothing_else(alias, file):
    point = PointFactory(repository=RepositoryFactory(path="/srv/backups"))
    disk = PointDiskFactory(point=point, alias=alias)
    (found,) = casync_commands(point, [disk])
    words = shlex.split(found.command)
    assert words[:3] == ["casync", "extract", "--store=/srv/backups/chunks"]
    assert words[4:] == [file]
    assert words[3].endswith(f"/{point.uuid}/{disk.index_file}")
