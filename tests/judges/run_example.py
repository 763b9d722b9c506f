# SPDX-License-Identifier: GPL-3.0-or-later
"""Run an example script of the SDK that names a host and objects in its text: `run_example.py PLAN SCRIPT [ARGUMENT…]`.

PLAN is a file of JSON: `connection` (url, username, password, ca_file) and `literals` (text in the script → text to
stand there instead). The script is run as it was written but for those literals and the arguments of each
`sdk.Connection(…)`: the four above get the plan's values; `debug` and `log` go, since they write passwords to a file.
"""

import ast
import json
import sys
from collections.abc import Mapping
from pathlib import Path

GIVEN = ("url", "username", "password", "ca_file")
DROPPED = ("debug", "log")


class Substitution(ast.NodeTransformer):
    """Replaces the arguments of connections, and whole string literals; counts what it replaced."""

    def __init__(self, connection: Mapping[str, str], literals: Mapping[str, str]) -> None:
        self._connection = connection
        self._literals = literals
        self.connections = 0
        self.unused = set(literals)

    def visit_Call(self, node: ast.Call) -> ast.AST:
        if ast.unparse(node.func) != "sdk.Connection":
            return self.generic_visit(node)
        self.connections += 1
        for keyword in node.keywords:
            if keyword.arg in GIVEN:
                keyword.value = ast.copy_location(ast.Constant(self._connection[keyword.arg]), keyword.value)
        node.keywords = [keyword for keyword in node.keywords if keyword.arg not in DROPPED]
        return node

    def visit_Constant(self, node: ast.Constant) -> ast.AST:
        if not isinstance(node.value, str) or node.value not in self._literals:
            return node
        self.unused.discard(node.value)
        return ast.copy_location(ast.Constant(self._literals[node.value]), node)


def substituted(source: str, name: str, plan: Mapping[str, Mapping[str, str]]) -> ast.Module:
    """Raises ValueError if the script has no connection or lacks a literal of the plan: it is another script then."""
    substitution = Substitution(plan["connection"], plan["literals"])
    tree = substitution.visit(ast.parse(source, name))
    if substitution.connections == 0:
        raise ValueError(f"{name} has no sdk.Connection(…)")
    if substitution.unused:
        raise ValueError(f"{name} does not hold {sorted(substitution.unused)}")
    return ast.fix_missing_locations(tree)


def main() -> None:
    plan_file, script, *arguments = sys.argv[1:]
    tree = substituted(Path(script).read_text(), script, json.loads(Path(plan_file).read_text()))
    sys.argv = [script, *arguments]
    sys.path[0] = str(Path(script).parent)
    exec(compile(tree, script, "exec"), {"__name__": "__main__", "__file__": script})


if __name__ == "__main__":
    main()
