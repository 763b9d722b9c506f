# SPDX-License-Identifier: GPL-3.0-or-later
import pytest

from bench import disk, report
from bench.report import KINDS, Runs

MIB = 1 << 20


def runs(**ours) -> list[Runs]:
    """Three runs of each side and kind, one of them disturbed; the peer takes a second and stores 100 MiB."""
    base = {
        "cpu_seconds": 1.0,
        "server_cpu_seconds": 0.5,
        "moved_bytes": 100 * MIB,
        "stored_bytes": 100 * MIB,
    }
    base |= {"bytes_read": 0, "dirty_bytes": 0, "peak_mib": 40.0}
    mine = base | {"stored_bytes": 30 * MIB, "bytes_read": 110, "dirty_bytes": 100, "peak_mib": 80.0} | ours
    found = []
    for kind in KINDS:
        found.append(Runs("ours", kind, [mine | {"seconds": each} for each in (0.9, 7.0, 0.8)]))
        found.append(Runs("peer", kind, [base | {"seconds": each} for each in (1.0, 1.0, 9.0)]))
    return found


def test_ratios_are_of_medians_ours_by_the_peers():
    assert report.ratios(runs()) == {
        "full": {"time_ratio": 0.9, "bytes_ratio": 0.3},
        "incremental": {"time_ratio": 0.9, "bytes_read_per_dirty_byte": 1.1},
        "restore": {"time_ratio": 0.9},
        "peak_mib": 80,
    }


def test_the_floor_is_judged_for_each_ratio():
    assert report.missed(report.ratios(runs())) == []
    missed = report.missed(report.ratios(runs(stored_bytes=50 * MIB, bytes_read=300, peak_mib=400.0)))
    assert [line.split(" is ")[0] for line in missed] == [
        "all: peak_mib",
        "full: bytes_ratio",
        "incremental: bytes_read_per_dirty_byte",
    ]


def test_the_table_has_a_row_for_each_side_of_each_kind():
    rows = report.table(runs()).splitlines()
    assert len(rows) == 7
    assert rows[1].split()[:5] == ["full,", "ours", "0.90", "0.80", "111"]


def test_a_sample_has_each_file_once_and_never_a_huge_one(tmp_path):
    for number in range(40):
        (tmp_path / f"file-{number}").write_bytes(bytes([number]) * 1000)
    (tmp_path / "again").hardlink_to(tmp_path / "file-1")
    (tmp_path / "link").symlink_to(tmp_path / "file-2")
    (tmp_path / "huge").write_bytes(bytes(10_000))
    chosen = disk.sample(30_000, [tmp_path])
    assert len(chosen) == len(set(chosen)) == 30
    assert {path.stat().st_size for path in chosen} == {1000}
    assert chosen == disk.sample(30_000, [tmp_path])
    with pytest.raises(disk.NotEnoughFiles):
        disk.sample(90_000, [tmp_path])
