"""The key ring: what it seals opens for the same subject only, and its file can be exchanged."""

from __future__ import annotations

import base64
import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from api.data_keys import Box, KeyRing
from geo.errors import InvalidValue, Unreadable


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "data" / "data-keys"


@pytest.fixture
def ring(path: Path) -> KeyRing:
    return KeyRing.open(path)


def test_the_file_is_made_once_and_for_this_user_only(path: Path) -> None:
    with ThreadPoolExecutor(8) as pool:
        rings = list(pool.map(lambda _: KeyRing.open(path), range(16)))
    assert len({ring.newest for ring in rings}) == 1
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert [p.name for p in path.parent.iterdir()] == ["data-keys"]


def test_what_is_sealed_opens_again(ring: KeyRing, path: Path) -> None:
    box = ring.seal("order/a", b"Frobozz Lane")
    assert b"Frobozz" not in box.ciphertext
    assert KeyRing.open(path).open_box("order/a", box) == b"Frobozz Lane"
    assert ring.seal("order/a", b"Frobozz Lane").nonce != box.nonce


def test_a_box_of_another_subject_does_not_open(ring: KeyRing) -> None:
    box = ring.seal("order/a", b"Frobozz Lane")
    with pytest.raises(Unreadable, match="order/b"):
        ring.open_box("order/b", box)


def test_a_changed_box_does_not_open(ring: KeyRing) -> None:
    box = ring.seal("order/a", b"Frobozz Lane")
    changed = bytes([box.ciphertext[0] ^ 1]) + box.ciphertext[1:]
    for wrong in (
        box._replace(ciphertext=changed),
        box._replace(ciphertext=b""),
        box._replace(nonce=box.nonce[::-1]),
        box._replace(nonce=b""),
    ):
        with pytest.raises(Unreadable) as caught:
            ring.open_box("order/a", wrong)
        assert "Frobozz" not in str(caught.value)


def test_a_box_does_not_open_under_the_id_of_another_key(ring: KeyRing, path: Path) -> None:
    box = ring.seal("order/a", b"Frobozz Lane")
    with pytest.raises(Unreadable, match="no key 'k1'"):
        ring.open_box("order/a", Box("k1", box.nonce, box.ciphertext))
    # The very same bytes, under another name: the id is bound as well.
    secret = path.read_text().split()[1]
    path.write_text(f"k1 {secret}\n")
    with pytest.raises(Unreadable, match="does not open"):
        KeyRing(path).open_box("order/a", Box("k1", box.nonce, box.ciphertext))


def test_a_new_key_is_used_at_once_by_everybody(ring: KeyRing, path: Path) -> None:
    other = KeyRing.open(path)
    box = ring.seal("order/a", b"old")
    added = ring.rotate()
    assert ring.newest == other.newest == added != box.key_id
    assert other.ids == (box.key_id, added)
    assert other.seal("order/a", b"new").key_id == added
    assert other.open_box("order/a", box) == b"old"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_a_removed_key_opens_nothing(ring: KeyRing, path: Path) -> None:
    box = ring.seal("order/a", b"old")
    with pytest.raises(InvalidValue, match="not the newest"):
        ring.remove(box.key_id)
    added = ring.rotate()
    ring.remove(box.key_id)
    assert KeyRing(path).ids == (added,)
    with pytest.raises(Unreadable, match="no key"):
        ring.open_box("order/a", box)


def test_a_file_that_goes_away_does_not_stop_who_has_read_it(ring: KeyRing, path: Path) -> None:
    box = ring.seal("order/a", b"old")
    path.unlink()
    assert ring.open_box("order/a", box) == b"old"
    with pytest.raises(InvalidValue, match="HEXRUN_DATA_KEYS_FILE"):
        KeyRing(path)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "k1\n",
        "k1 c2hvcnQ=\n",
        "k 1 " + base64.b64encode(bytes(32)).decode(),
        f"k1 {base64.b64encode(bytes(32)).decode()}\n" * 2,
    ],
)
def test_a_wrong_file_is_named_by_its_line_and_not_shown(path: Path, text: str) -> None:
    path.parent.mkdir()
    path.write_text(text)
    with pytest.raises(InvalidValue, match="HEXRUN_DATA_KEYS_FILE") as caught:
        KeyRing.open(path)
    assert "c2hvcnQ" not in str(caught.value)
    assert "AAAA" not in str(caught.value)
