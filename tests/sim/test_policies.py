"""Policy files: what they leave as it was, and what they refuse."""

import pytest

from dispatch.policy import Policy
from geo.errors import InvalidValue, MissingFile, UnknownKey
from sim.policies import read_policy

BASE = Policy(version="base", tick_ms=5_000, late_weight=7)


@pytest.fixture
def file(tmp_path):
    def write(text):
        path = tmp_path / "eager.yaml"
        path.write_text(text)
        return path

    return write


def test_what_the_file_does_not_say_stays_as_it_was(file):
    policy = read_policy(file("commit_ahead_ms: 0\n"), BASE)
    assert policy == Policy(version="eager", tick_ms=5_000, late_weight=7, commit_ahead_ms=0)
    assert read_policy(file("version: mine\n"), BASE).version == "mine"
    assert read_policy(file("# nothing\n"), BASE).tick_ms == 5_000


@pytest.mark.parametrize(
    ("text", "error", "told"),
    [
        ("comit_ahead_ms: 0", UnknownKey, "eager.yaml: comit_ahead_ms: .* one of version, tick_ms"),
        ("tick_ms: 5.5", InvalidValue, "eager.yaml: tick_ms: 5.5 .* valid integer"),
        ("tick_ms: '5000'", InvalidValue, "eager.yaml: tick_ms"),
        ("tick_ms: 0", InvalidValue, "eager.yaml: tick_ms: 0 .* 1 or more"),
        ("late_weight: -1", InvalidValue, "eager.yaml: late_weight: -1 .* zero or more"),
        ("[1, 2]", InvalidValue, "eager.yaml: .* a mapping"),
        ("tick_ms: 1\ntick_ms: 2", InvalidValue, "eager.yaml, line 2: .* a second time"),
        ("tick_ms: [", InvalidValue, "eager.yaml, line 1"),
    ],
)
def test_a_wrong_file_is_refused_by_key(file, text, error, told):
    with pytest.raises(error, match=told):
        read_policy(file(text), BASE)


def test_a_file_that_is_not_there_or_is_not_text(tmp_path):
    with pytest.raises(MissingFile, match=r"none\.yaml"):
        read_policy(tmp_path / "none.yaml", BASE)
    (tmp_path / "bin.yaml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(InvalidValue, match=r"bin\.yaml line 1: .* UTF-8"):
        read_policy(tmp_path / "bin.yaml", BASE)
