"""The protocol reference says what the code does."""

from __future__ import annotations

import json
import re
from pathlib import Path

import msgspec

from api import messages as m
from api.session import CloseCode

TEXT = (Path(__file__).parents[3] / "docs" / "stream.md").read_text()
EXAMPLES = [
    line
    for block in re.findall(r"```json\n(.*?)```", TEXT, re.S)
    for line in block.split("\n")
    if line
]
TOLD = {m.frame_type(c.__name__): c for c in m.Told.__subclasses__()}
ASKED = {m.frame_type(c.__name__) for c in m.CLIENT_FRAMES}


def test_every_frame_has_an_example_and_every_example_is_one():
    seen = set()
    for line in EXAMPLES:
        frame = json.loads(line)
        seen.add(frame["type"])
        if frame["type"] in TOLD:
            told = msgspec.convert(frame, TOLD[frame["type"]])
            assert json.loads(m.JSON.encode(told)) == frame
        else:
            m.JSON.decode(line)
    assert seen == ASKED | TOLD.keys()


def test_every_close_code_is_explained():
    codes = set(CloseCode)
    explained = {int(code) for code in re.findall(r"^\| (\d{4}) \|", TEXT, re.M)}
    assert codes == explained
