"""The keys of personal data: a file with several, of which the newest encrypts and all decrypt.

May import cryptography and the error tree. AES-256-GCM with a random nonce; the associated data are
the subject and the key's id, so that a row moved to another subject does not open.
"""

from __future__ import annotations

import base64
import binascii
import contextlib
import fcntl
import os
import re
import secrets
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from geo.errors import InvalidValue, Unreadable

KEY_BYTES = 32
NONCE_BYTES = 12
_ID = re.compile(r"[A-Za-z0-9_-]{1,64}")

Keys = dict[str, bytes]


class Box(NamedTuple):
    """What was encrypted, and by which key."""

    key_id: str
    nonce: bytes
    ciphertext: bytes


class KeyRing:
    """The keys of one file, which it reads again when the file has changed.

    The file has one key a line, `<id> <32 bytes in base64>`, the newest last.
    """

    def __init__(self, path: Path) -> None:
        """Raises InvalidValue, without its content, when the file is not one of keys."""
        self._path = path
        self._stamp: tuple[int, ...] = ()
        self._keys: Keys = {}
        self._refresh()

    @classmethod
    def open(cls, path: Path) -> KeyRing:
        """The keys of the file, which is made with a first one where it is missing (mode 0600)."""
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            with _draft(path, _lines(_with_new_key({}))) as draft, _already_there():
                os.link(draft, path)
        return cls(path)

    @property
    def newest(self) -> str:
        """The id of the key that encrypts."""
        self._refresh()
        return next(reversed(self._keys))

    @property
    def ids(self) -> tuple[str, ...]:
        """Every key's id, the newest last."""
        self._refresh()
        return tuple(self._keys)

    def seal(self, subject: str, data: bytes) -> Box:
        """Encrypt what is the subject's."""
        key_id, nonce = self.newest, os.urandom(NONCE_BYTES)
        cipher = AESGCM(self._keys[key_id])
        return Box(key_id, nonce, cipher.encrypt(nonce, data, _associated(subject, key_id)))

    def open_box(self, subject: str, box: Box) -> bytes:
        """What `seal` was given.

        Raises:
            Unreadable: the key is not in the file, or the box was changed or is another subject's.
        """
        if box.key_id not in self._keys:
            self._refresh()
        key = self._keys.get(box.key_id)
        if key is None:
            raise Unreadable(f"{subject}: no key {box.key_id!r} in {self._path}")
        try:
            associated = _associated(subject, box.key_id)
            return AESGCM(key).decrypt(box.nonce, box.ciphertext, associated)
        except (InvalidTag, ValueError):
            raise Unreadable(f"{subject}: does not open by key {box.key_id!r}") from None

    def rotate(self) -> str:
        """Add a key, which encrypts from now on; its id."""
        self._change(_with_new_key)
        return self.newest

    def remove(self, key_id: str) -> None:
        """Forget a key: whatever is still encrypted by it is lost.

        Raises:
            InvalidValue: there is no such key, or it is the newest.
        """

        def without(keys: Keys) -> Keys:
            old = tuple(keys)[:-1]
            if key_id not in old:
                raise InvalidValue("key", key_id, f"one of {list(old)}: not the newest")
            return {name: key for name, key in keys.items() if name != key_id}

        self._change(without)

    def _change(self, change: Callable[[Keys], Keys]) -> None:
        """One writer at a time, and readers see the old file or the new one."""
        folder = os.open(self._path.parent, os.O_RDONLY)
        try:
            fcntl.flock(folder, fcntl.LOCK_EX)
            self._refresh()
            with _draft(self._path, _lines(change(self._keys))) as draft:
                os.replace(draft, self._path)
        finally:
            os.close(folder)
        self._refresh()

    def _refresh(self) -> None:
        try:
            found = self._path.stat()
            stamp = (found.st_ino, found.st_mtime_ns, found.st_size)
            if stamp != self._stamp:
                self._keys, self._stamp = _read(self._path), stamp
        except OSError as error:
            # What was read stays good; a file that was never there does not.
            if not self._keys:
                expected = f"a file of keys ({error.strerror})"
                raise InvalidValue("HEXRUN_DATA_KEYS_FILE", str(self._path), expected) from None


def _associated(subject: str, key_id: str) -> bytes:
    return f"{subject}\0{key_id}".encode()


def _with_new_key(keys: Keys) -> Keys:
    return {**keys, f"k{secrets.token_hex(6)}": AESGCM.generate_key(8 * KEY_BYTES)}


def _lines(keys: Keys) -> str:
    return "".join(f"{name} {base64.b64encode(key).decode()}\n" for name, key in keys.items())


def _read(path: Path) -> Keys:
    keys: Keys = {}
    for number, line in enumerate(path.read_text(errors="replace").splitlines(), 1):
        name, _, text = line.partition(" ")
        try:
            key = base64.b64decode(text.strip(), validate=True)
        except (binascii.Error, ValueError):
            key = b""
        if not _ID.fullmatch(name) or len(key) != KEY_BYTES or name in keys:
            expected = f"an id of its own and {KEY_BYTES} bytes in base64"
            raise InvalidValue("HEXRUN_DATA_KEYS_FILE", f"{path}, line {number}", expected)
        keys[name] = key
    if not keys:
        raise InvalidValue("HEXRUN_DATA_KEYS_FILE", f"{path}, which is empty", "one key or more")
    return keys


@contextlib.contextmanager
def _draft(path: Path, text: str) -> Iterator[str]:
    """A file of mode 0600 beside `path`, on the disk, gone afterwards."""
    descriptor, draft = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}-")
    try:
        with os.fdopen(descriptor, "w") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        yield draft
    finally:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(draft)


def _already_there() -> contextlib.suppress:
    """Another process starts at the same moment and was first: its keys are ours."""
    return contextlib.suppress(FileExistsError)
