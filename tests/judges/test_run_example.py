# SPDX-License-Identifier: GPL-3.0-or-later
"""What the runner of examples replaces, and that it replaces nothing else."""

import ast

import pytest

from tests.judges.run_example import substituted
from tests.sdk_examples import sdk_examples_dir

CONNECTION = {"url": "https://lab/api", "username": "u", "password": "p", "ca_file": "/ca.pem"}
SCRIPT = """
import sdk
connection = sdk.Connection(url='https://old/api', username='admin', password='x', ca_file='ca.pem', debug=True,
                            log=logging.getLogger(), connections=3)
vms.list(search='name=myvm', other='name=myvm2')
"""


def run(literals: dict[str, str], script: str = SCRIPT) -> str:
    return ast.unparse(substituted(script, "script.py", {"connection": CONNECTION, "literals": literals}))


def test_only_the_connection_and_whole_literals_are_replaced() -> None:
    assert run({"name=myvm": "name=web-01"}) == (
        "import sdk\n"
        "connection = sdk.Connection(url='https://lab/api', username='u', password='p', ca_file='/ca.pem', "
        "connections=3)\n"
        "vms.list(search='name=web-01', other='name=myvm2')"
    )


def test_a_script_without_what_is_to_be_replaced_is_refused() -> None:
    with pytest.raises(ValueError, match="mydisk"):
        run({"name=myvm": "a", "mydisk": "b"})
    with pytest.raises(ValueError, match=r"no sdk\.Connection"):
        run({}, "print('hello')")


def test_nothing_else_of_a_real_example_changes() -> None:
    source = (sdk_examples_dir() / "add_vm_disk.py").read_text()
    before = ast.unparse(ast.parse(source)).splitlines()
    after = run({"name=myvm": "name=web-01", "mydisk": "d", "mydata": "s"}, source).splitlines()
    assert len(before) == len(after)
    changed = [old for old, new in zip(before, after, strict=True) if old != new]
    assert [line.partition(" ")[0] for line in changed] == ["connection", "vm", "disk_attachment"]
