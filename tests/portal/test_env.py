# SPDX-License-Identifier: GPL-3.0-or-later
import os
import subprocess
import sys

import pytest
from django.core.exceptions import ImproperlyConfigured

from portal.env import envbool, envint, envlist, envsecret, envstr

pytestmark = pytest.mark.embedded


@pytest.fixture
def setting(monkeypatch):
    return lambda value, name="X_SETTING": monkeypatch.setenv(name, value)


@pytest.mark.parametrize(
    ("text", "value"), [("1", True), ("Yes", True), ("on", True), ("0", False), ("OFF", False)]
)
def test_words_for_yes_and_no(setting, text, value):
    setting(text)
    assert envbool("X_SETTING", not value) is value


@pytest.mark.parametrize("text", ["2", "ja", "tru", " true"])
def test_another_word_for_yes_is_refused(setting, text):
    setting(text)
    with pytest.raises(ImproperlyConfigured, match="X_SETTING must be true or false"):
        envbool("X_SETTING", False)


@pytest.mark.parametrize("text", ["five", "1.5", "0x10", "5s"])
def test_what_is_no_whole_number_is_refused(setting, text):
    setting(text)
    with pytest.raises(ImproperlyConfigured, match="X_SETTING must be a whole number"):
        envint("X_SETTING", 5)


def test_numbers_have_a_least_value(setting):
    setting("3")
    assert envint("X_SETTING", 5, minimum=3) == 3
    with pytest.raises(ImproperlyConfigured, match="at least 4, not 3"):
        envint("X_SETTING", 5, minimum=4)


def test_empty_means_not_set(setting):
    setting("")
    assert (envint("X_SETTING", 5, minimum=3), envbool("X_SETTING", True)) == (5, True)
    assert envlist("X_SETTING") == []
    assert envstr("X_NOT_SET", "there") == "there"


def test_lists_are_separated_by_commas(setting):
    setting(" a, b,,c ")
    assert envlist("X_SETTING") == ["a", "b", "c"]


def test_a_secret_may_come_from_a_file(setting, tmp_path):
    (tmp_path / "secret").write_text("from the file\n")
    setting("from the environment")
    assert envsecret("X_SETTING") == "from the environment"
    setting(str(tmp_path / "secret"), "X_SETTING_FILE")
    assert envsecret("X_SETTING") == "from the file"
    setting(str(tmp_path / "missing"), "X_SETTING_FILE")
    with pytest.raises(ImproperlyConfigured, match="X_SETTING_FILE names"):
        envsecret("X_SETTING")


def test_a_portal_with_a_nonsense_key_does_not_start_and_does_not_show_it(tmp_path):
    environment = {**os.environ, "PORTAL_CREDENTIAL_KEYS": "hunter2", "PORTAL_DATA_DIR": str(tmp_path)}
    argv = [sys.executable, "-c", "import portal.settings"]
    ended = subprocess.run(argv, env=environment, capture_output=True, text=True, timeout=60)
    assert ended.returncode != 0
    assert "credential key 1 is not" in ended.stderr
    assert "hunter2" not in ended.stderr
