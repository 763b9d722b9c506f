# SPDX-License-Identifier: GPL-3.0-or-later
"""`python -m tests.judges [PYTEST ARGUMENT…]`: run every judge; at the end a line for each, and how many passed."""

import os
import sys
from dataclasses import dataclass, field

import pytest

WHERE = ("tests/judges", "tests/lab_api/test_judges.py")


@dataclass
class Verdict:
    """What the tests of one judge came to; `failed` holds their names."""

    tests: int = 0
    seconds: float = 0.0
    failed: list[str] = field(default_factory=list)
    skipped: bool = False

    @property
    def word(self) -> str:
        if self.failed:
            return "FAILED"
        return "skipped" if self.skipped else "passed"


class Verdicts:
    """A pytest plugin that keeps a verdict for each client named by `@pytest.mark.judge`."""

    def __init__(self) -> None:
        self.by_client: dict[str, Verdict] = {}
        self._clients: dict[str, tuple[str, ...]] = {}

    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        for item in items:
            names = [name for mark in item.iter_markers("judge") for name in mark.args]
            self._clients[item.nodeid] = tuple(dict.fromkeys(names))
            for name in names:
                self.by_client.setdefault(name, Verdict())

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        for name in self._clients.get(report.nodeid, ()):
            verdict = self.by_client[name]
            verdict.tests += report.when == "call"
            verdict.seconds += report.duration
            verdict.skipped |= report.skipped
            if report.failed and report.nodeid not in verdict.failed:
                verdict.failed.append(report.nodeid)


def main() -> int:
    # No judge touches the portal or its database.
    os.environ.setdefault("PORTAL_TEST_EMBEDDED", "1")
    verdicts = Verdicts()
    arguments = sys.argv[1:] or list(WHERE)
    options = ["-q", "-m", "judge", "-o", "addopts=--strict-markers", "-p", "no:cacheprovider"]
    code = pytest.main([*options, *arguments], plugins=[verdicts])
    print("\nJudges:")
    for name, verdict in sorted(verdicts.by_client.items()):
        where = f"  {', '.join(verdict.failed)}" if verdict.failed else ""
        print(f"{verdict.word:8}{name:32}{verdict.tests:3} tests {verdict.seconds:7.1f} s{where}")
    words = [verdict.word for verdict in verdicts.by_client.values()]
    print(f"{words.count('passed')} passed, {words.count('FAILED')} failed, {words.count('skipped')} skipped")
    return int(code)


if __name__ == "__main__":
    sys.exit(main())
