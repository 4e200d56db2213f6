"""Signatures, and the samples of the documents that check them."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import time
from pathlib import Path
from typing import Any

from api.webhooks import make_key, sign, verify

DOCUMENT = (Path(__file__).parents[3] / "docs" / "webhooks.md").read_text()
BODY = '{"event_id": "42", "note": "不要辣"}'.encode()
NOW_S = 1_790_000_000


def sample(language: str) -> str:
    (code,) = re.findall(rf"```{language}\n(.*?)```", DOCUMENT, re.DOTALL)
    return str(code)


def cases() -> list[tuple[str, dict[str, str], bytes, bool]]:
    """(secret, headers in lower case, body, whether it is good), signed now."""
    now_s = int(time.time())
    key, old, other = make_key(), make_key(), make_key()
    good = {k.lower(): v for k, v in sign([key, old], "42", now_s, BODY).items()}
    stale = {k.lower(): v for k, v in sign([key], "42", now_s - 302, BODY).items()}
    early = {k.lower(): v for k, v in sign([key], "42", now_s + 310, BODY).items()}
    return [
        (key.secret, good, BODY, True),
        (old.secret, good, BODY, True),
        (other.secret, good, BODY, False),
        (key.secret, good, BODY + b" ", False),
        (key.secret, good | {"hexrun-event-id": "43"}, BODY, False),
        (key.secret, good | {"hexrun-timestamp": str(now_s + 1)}, BODY, False),
        (key.secret, good | {"hexrun-timestamp": "soon"}, BODY, False),
        (key.secret, good | {"hexrun-signature": ""}, BODY, False),
        (key.secret, good | {"hexrun-signature": "v1=é"}, BODY, False),
        (key.secret, {}, BODY, False),
        (key.secret, stale, BODY, False),
        (key.secret, early, BODY, False),
    ]


def test_ours() -> None:
    for secret, headers, body, good in cases():
        assert verify(secret, headers, body, time.time()) is good


def test_the_form_that_is_documented() -> None:
    import hashlib
    import hmac

    key = make_key()
    headers = sign([key], "42", NOW_S, BODY)
    digest = hmac.new(key.secret.encode(), b"42.1790000000." + BODY, hashlib.sha256).hexdigest()
    assert headers == {
        "Hexrun-Event-Id": "42",
        "Hexrun-Timestamp": "1790000000",
        "Hexrun-Key-Id": key.id,
        "Hexrun-Signature": f"v1={digest}",
    }


def test_the_sample_in_python() -> None:
    names: dict[str, Any] = {"__name__": "sample"}
    exec(compile(sample("python"), "docs/webhooks.md", "exec"), names)
    for secret, headers, body, good in cases():
        assert names["verify"](secret, headers, body) is good


def test_the_sample_in_node(tmp_path: Path) -> None:
    assert shutil.which("node"), "install Debian's nodejs, as `make test` does"
    given = [[s, h, b.decode(), good] for s, h, b, good in cases()]
    script = f"""{sample("js")}
for (const [secret, headers, body, good] of {json.dumps(given)})
  if (verify(secret, headers, Buffer.from(body)) !== good) process.exit(1);
console.log("all");
"""
    path = tmp_path / "sample.mjs"
    path.write_text(script)
    done = subprocess.run(["node", path], capture_output=True, text=True, check=False)
    assert (done.stdout, done.stderr) == ("all\n", "")


def test_a_secret_is_not_shown() -> None:
    key = make_key()
    assert key.secret not in repr(key)
    assert len({make_key().secret for _ in range(100)}) == 100
