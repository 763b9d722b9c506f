# SPDX-License-Identifier: GPL-3.0-or-later
"""The frame of engine-setup and engine-cleanup: options, answer files, questions, stages, logs (reference 2.1, 2.2)."""

import configparser
import os
import random
import signal
import string
import sys
from collections.abc import Callable
from pathlib import Path
from types import FrameType

from lab.hosts.commands.common import passes, stamp, write_private

ANSWERS = Path("/var/lib/ovirt-engine/setup/answers")
STAGES = (
    "Initializing", "Environment setup", "Environment packages setup", "Programs detection",
    "Environment setup (late)", "Environment customization", "Setup validation", "Transaction setup",
    "Misc configuration (early)", "Package installation", "Misc configuration", "Transaction commit", "Closing up",
)  # fmt: skip
LAST = ("Clean up", "Pre-termination", "Termination")
Work = Callable[[], None]


class Abort(Exception):
    """The stage fails with this reason; `code` is the exit code."""

    def __init__(self, reason: str, code: int = 1) -> None:
        self.code = code
        super().__init__(reason)


class Otopi:
    """One run. `name` is setup or cleanup; `work` maps stages to what is done in them."""

    def __init__(self, name: str, log_name: str, options: dict[str, bool]) -> None:
        self.name = name
        self.given: dict[str, str] = {}
        self.environment: dict[str, str] = {}
        self.flags: set[str] = set()
        self.summary: list[str] = []
        self._asked: dict[str, int] = {}
        self._options = options
        letters = "".join(random.choices(string.ascii_lowercase + string.digits, k=6))
        self.log_path = Path(f"/var/log/ovirt-engine/setup/ovirt-engine-{log_name}-{stamp()}-{letters}.log")

    def parse(self, argv: list[str]) -> None:
        """Raises Abort for an unknown option; `options` says which take a value."""
        for argument in argv:
            name, equals, value = argument.partition("=")
            if name not in self._options or bool(equals) != self._options[name]:
                raise Abort(f"unrecognized option: {argument}")
            if name in ("--config", "--config-append"):
                for file in value.split(":"):
                    self._read(Path(file))
            elif name == "--otopi-environment":
                for word in value.split():
                    key, _, text = word.partition("=")
                    self.environment[key] = text.partition(":")[2]
            elif name == "--log":
                self.log_path = Path(value)
            elif equals:
                self.given[name] = value
            else:
                self.flags.add(name)

    def _read(self, file: Path) -> None:
        """An answer file; a missing one is only a warning (reference 2.1)."""
        if not file.exists():
            self.warn(f"The following configuration files are missing: {file}")
            return
        parser = configparser.ConfigParser(delimiters="=", interpolation=None)
        parser.optionxform = str  # type: ignore[method-assign,assignment]
        try:
            parser.read_string(file.read_text())
        except configparser.Error as error:
            raise Abort(f"Cannot parse configuration file {file}: {error}") from error
        for section in parser.sections():
            if section.startswith("environment:"):
                for key, value in parser[section].items():
                    self.environment[key] = value.partition(":")[2]

    def value(self, key: str, default: str = "") -> str:
        return self.environment.get(key, default)

    def ask(self, question: str, text: str, key: str, default: str | None) -> str:
        """An answer from the environment, the answer file's QUESTION, the default, or standard input.

        Booleans are asked as Yes and No and come back as True and False. Raises Abort."""
        if key in self.environment:
            return self.environment[key]
        number = self._asked[question] = self._asked.get(question, 0) + 1
        forced = self.environment.get(f"QUESTION/{number}/{question}")
        shown = {"True": "Yes", "False": "No"}.get(default or "", default)
        if forced is not None:
            answer = forced
        elif "--accept-defaults" in self.flags and default is not None:
            return self._keep(key, default)
        else:
            print(f"          {text}{f' [{shown}]' if shown else ''}: ", end="", flush=True)
            line = sys.stdin.readline()
            if not line:
                raise Abort("End of file")
            answer = line.strip() or (default or "")
        return self._keep(
            key, {"yes": "True", "no": "False", "ok": "True", "cancel": "False"}.get(answer.lower(), answer)
        )

    def _keep(self, key: str, value: str) -> str:
        self.environment[key] = value
        return value

    def info(self, text: str) -> None:
        self._say("[ INFO  ]", text)

    def warn(self, text: str) -> None:
        self._say("[WARNING]", text)

    def error(self, text: str) -> None:
        self._say("[ ERROR ]", text)

    def _say(self, mark: str, text: str) -> None:
        print(f"{mark} {text}", flush=True)
        self.log(f"{mark} {text}")
        passes(f"engine-{self.name}", text)

    def log(self, text: str) -> None:
        self.log_path.parent.mkdir(parents=True, exist_ok=True)
        with self.log_path.open("a") as stream:
            stream.write(f"{stamp()} {text}\n")

    def run(self, work: dict[str, Work]) -> int:
        """All stages; the last ones run whatever happened. Returns the exit code."""
        for number, told in ((signal.SIGHUP, "SIG1"), (signal.SIGINT, "SIG2"), (signal.SIGTERM, "SIG15")):
            signal.signal(number, _raising(told))
        code = 0
        print(f"          Log file: {self.log_path}", flush=True)
        for stage in STAGES:
            self.info(f"Stage: {stage}")
            try:
                work.get(stage, _nothing)()
            except Abort as error:
                self.error(f"Failed to execute stage '{stage}': {error}")
                code = error.code
                break
        self._finish(code)
        return code

    def _finish(self, code: int) -> None:
        for line in self.summary if code == 0 else []:
            self.info(line)
        for stage in LAST:
            self.info(f"Stage: {stage}")
            if stage == "Clean up":
                print(f"          Log file is located at {self.log_path}", flush=True)
                self._write_answers()
        if code == 0:
            self.info(f"Execution of {self.name} completed successfully")
        else:
            self.error(f"Execution of {self.name} failed")

    def _write_answers(self) -> None:
        """All given answers, passwords too (reference 2.2)."""
        lines = [f"{key}={_typed(value)}\n" for key, value in sorted(self.environment.items())]
        text = "# OTOPI answer file\n[environment:default]\n" + "".join(lines)
        for path in (ANSWERS / f"{stamp()}-{self.name}.conf", self.given.get("--generate-answer")):
            if path:
                write_private(Path(path), text)


def _typed(value: str) -> str:
    return f"bool:{value}" if value in ("True", "False") else f"str:{value}"


def _nothing() -> None:
    """A stage in which nothing is to be done here."""


def _raising(name: str) -> Callable[[int, FrameType | None], None]:
    def handler(number: int, frame: FrameType | None) -> None:
        raise Abort(name)

    return handler


def must_be_root() -> bool:
    if os.geteuid() == 0:
        return True
    print("FATAL: Please execute as root user", file=sys.stderr)
    return False
