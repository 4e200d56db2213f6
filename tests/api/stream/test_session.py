"""The session without a socket: any frame, any state."""

from __future__ import annotations

import json
import math
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from api import messages as m
from api.auth import Claims, Role
from api.session import (
    Authenticate,
    Close,
    Run,
    Send,
    Session,
    StoreFixes,
    Watch,
    WatchCity,
    Watermark,
)
from dispatch import commands as c
from dispatch.model import Order, Rider
from geo.datum import System, from_wgs84

NOW = 1_800_000_000_000
OVER_S = NOW // 1000 + 900
ME = Rider(id="me", city="sh")


def session_of(role: str | None = "rider", codec: m.Codec = m.JSON, mark: Watermark | None = None):
    """An open session of this role; a new one for None."""
    session = Session("s", ("sh",), codec)
    if role is not None:
        session.receive(encoded(codec, {"type": "hello", "token": "t"}), NOW)
        session.admit(claims_of(role), mark or Watermark(), NOW, ME)
    return session


def claims_of(role: str = "rider", **changes: Any) -> Claims:
    known = {"sub": "me", "tenant": "default", "city": "sh", "iat": NOW // 1000, "exp": OVER_S}
    return Claims(role=Role(role), **(known | changes))


def encoded(codec: m.Codec, frame: dict[str, Any]) -> str | bytes:
    data = codec.encode(frame)
    return data.decode() if codec.text else data


def say(session: Session, type_: str, now_ms: int = NOW, **fields: Any) -> list[Any]:
    return session.receive(json.dumps({"type": type_, **fields}), now_ms)


def fix(seq: int, **fields: Any) -> dict[str, Any]:
    return {"seq": seq, "at_ms": NOW, "lat": 31.2, "lon": 121.4, "system": "wgs84"} | fields


def error_of(effects: list[Any]) -> m.Error:
    assert isinstance(effects[0], Send)
    assert isinstance(effects[0].message, m.Error)
    return effects[0].message


# --- any bytes ---------------------------------------------------------------------------------

scalars = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**63), 2**64 - 1),
    st.floats(),
    st.text(max_size=8),
    st.sampled_from(["wgs84", "gcj02", "arrived", "failed", "a"]),
)
NAMES = """token system fixes seq at_ms lat lon accuracy_m heading_deg action_id order_id number
reason stop state orders nonsense"""
names = st.sampled_from(NAMES.split())
values = st.recursive(
    scalars, lambda v: st.lists(v, max_size=4) | st.dictionaries(names, v, max_size=6), max_leaves=9
)
types = st.sampled_from([m.frame_type(t.__name__) for t in m.CLIENT_FRAMES])
frames = st.builds(lambda t, rest: {"type": t} | rest, types, st.dictionaries(names, values))
good = st.builds(
    lambda seq, lat: {"type": "fixes", "fixes": [fix(seq, lat=lat)]},
    st.integers(0, 9),
    st.floats(-100, 100),
)


def raw(codec: m.Codec) -> st.SearchStrategy[str | bytes]:
    broken = st.text(max_size=60) if codec.text else st.binary(max_size=60)
    whole = st.one_of(frames, good).map(lambda f: encoded(codec, f))
    cut = st.tuples(whole, st.integers(0, 40)).map(lambda pair: pair[0][: pair[1]])
    other = st.binary(max_size=9) if codec.text else st.text(max_size=9)
    return st.one_of(whole, cut, broken, other)


@settings(max_examples=150, deadline=None)
@given(data=st.data(), role=st.sampled_from([None, *list("rcmo")]), text=st.booleans())
def test_no_frame_raises_and_each_error_is_named(data, role, text):
    roles = {"r": "rider", "c": "customer", "m": "merchant", "o": "operator", None: None}
    codec = m.JSON if text else m.MSGPACK
    session = session_of(roles[role], codec)
    closed = False
    for frame in data.draw(st.lists(raw(codec), max_size=5)):
        effects = session.receive(frame, NOW)
        assert not (closed and effects)
        for effect in effects:
            if isinstance(effect, Send):
                m.JSON.encode(effect.message)
                m.MSGPACK.encode(effect.message)
            if isinstance(effect, Send) and isinstance(effect.message, m.Error):
                error = effect.message
                assert error.field
                assert error.expected
                assert error.field in error.message or error.code != "invalid_value"
            if isinstance(effect, Close):
                closed = True
                assert effect.code in (1009, 4400, 4401, 4403)
                assert len(effect.reason.encode()) <= 123
            if isinstance(effect, StoreFixes):
                for row in effect.rows:
                    assert -90 <= row.lat <= 90
                    assert -180 <= row.lon <= 180


@pytest.mark.parametrize(
    "frame", ["", "{", "nul", "[" * 60_000, '{"a":' * 10_000, "\udc80", "[1]x"]
)
def test_what_is_no_json_closes_4400(frame):
    session = session_of("rider")
    (close,) = session.receive(frame, NOW)
    assert close.code == 4400
    assert session.receive(frame, NOW) == []


@pytest.mark.parametrize(
    "frame", [b"", b"\xc1", b"\x91" * 60_000, b"\x81\xa1", b"\x81\xa1\xff\x00", b"\x01x"]
)
def test_what_is_no_msgpack_closes_4400(frame):
    (close,) = session_of("rider", m.MSGPACK).receive(frame, NOW)
    assert close.code == 4400


def test_the_wrong_kind_of_frame_closes_4400():
    assert session_of("rider").receive(b"{}", NOW)[0].code == 4400
    assert session_of("rider", m.MSGPACK).receive("{}", NOW)[0].code == 4400


def test_too_large_closes_1009():
    assert session_of("rider").receive(" " * 65_537, NOW)[0].code == 1009


# --- hello -------------------------------------------------------------------------------------


def test_hello_asks_for_its_own_token_before_the_one_of_the_upgrade():
    assert say(Session("s", ("sh",), m.JSON, "up"), "hello") == [Authenticate("up")]
    assert say(Session("s", ("sh",), m.JSON, "up"), "hello", token="own") == [Authenticate("own")]


def test_without_token_or_hello_first_the_session_closes_4401():
    for frame in ({"type": "hello"}, {"type": "heartbeat"}, {"type": "fixes"}, {"kind": 1}):
        (close,) = Session("s", ("sh",), m.JSON).receive(json.dumps(frame), NOW)
        assert close.code == 4401


def test_frames_wait_for_admission():
    session = session_of(None)
    say(session, "hello", token="t")
    assert say(session, "heartbeat")[0].code == 4401


@pytest.mark.parametrize(
    ("city", "role", "field"),
    [
        ("bj", "rider", "token.city"),
        ("北京" * 60, "rider", "token.city"),
    ],
)
def test_a_token_that_does_not_reach_here_closes_4403(city, role, field):
    session = session_of(None)
    say(session, "hello", token="t")
    effects = session.admit(claims_of(role, city=city), Watermark(), NOW, ME)
    assert error_of(effects).field == field
    assert effects[1].code == 4403
    assert len(effects[1].reason.encode()) <= 123


@pytest.mark.parametrize(
    ("rider", "field", "expected"),
    [
        (None, "token.sub", "register first"),
        (replace(ME, tenant="else"), "token.tenant", "registered this rider"),
        (replace(ME, city="bj"), "token.tenant", "registered this rider"),
    ],
)
def test_a_token_makes_nobody_the_rider_of_another_tenant(rider, field, expected):
    session = session_of(None)
    say(session, "hello", token="t")
    effects = session.admit(claims_of(), Watermark(), NOW, rider)
    assert error_of(effects).field == field
    assert expected in error_of(effects).expected
    assert (effects[1].code, session.is_open) == (4403, False)
    assert expected in effects[1].reason


def test_who_was_refused_while_he_waited_is_not_admitted():
    session = session_of(None)
    say(session, "hello", token="t")
    session.refuse("too late")
    assert session.admit(claims_of(), Watermark(), NOW, ME) == []
    assert not session.is_open


@pytest.mark.parametrize(
    ("role", "asked", "system"),
    [("rider", None, "gcj02"), ("operator", None, "wgs84"), ("customer", "bd09", "bd09")],
)
def test_welcome_names_session_watermark_and_system(role, asked, system):
    session = session_of(None)
    say(session, "hello", token="t", system=asked)
    (sent,) = session.admit(claims_of(role), Watermark(stored=4, taken=6), NOW, ME)
    assert sent.message == m.Welcome(
        session="s", role=role, subject="me", server_ms=NOW, last_seq=4, system=System(system)
    )


@pytest.mark.parametrize(
    ("role", "frame"),
    [
        ("customer", {"type": "fixes", "fixes": [fix(0)]}),
        ("customer", {"type": "watch_city"}),
        ("rider", {"type": "watch", "orders": []}),
        ("operator", {"type": "accept", "action_id": "1", "order_id": "a", "number": 1}),
    ],
)
def test_a_frame_of_another_role_closes_4403(role, frame):
    effects = session_of(role).receive(json.dumps(frame), NOW)
    assert error_of(effects).code == "forbidden"
    assert effects[1].code == 4403


# --- errors ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("frame", "field", "value", "expected"),
    [
        ({"type": "fixes", "fixes": [fix(0), fix(1, lat=90.5)]}, "fixes[1].lat", 90.5, "-90 to 90"),
        ({"type": "fixes", "fixes": [fix(0, lon="x")]}, "fixes[0].lon", "x", "-180 to 180"),
        ({"type": "fixes", "fixes": [fix(0, system="mars")]}, "fixes[0].system", "mars",
         "one of wgs84, gcj02, bd09"),
        ({"type": "fixes", "fixes": [{"seq": 1, "at_ms": NOW, "lat": 1.0, "lon": 1.0}]},
         "fixes[0].system", None, "one of wgs84, gcj02, bd09"),
        ({"type": "fixes", "fixes": [{"lat": 1.0}]}, "fixes[0].seq", None, "required"),
        ({"type": "fixes", "fixes": [fix(0, at_ms=NOW + 60_001)]}, "fixes[0].at_ms", NOW + 60_001,
         "60 s"),
        ({"type": "fixes", "fixes": [fix(0, at_ms=NOW - 86_400_001)]}, "fixes[0].at_ms",
         NOW - 86_400_001, "24 h"),
        ({"type": "fixes", "fixes": [fix(3), fix(3)]}, "fixes[1].seq", 3, "more than 3"),
        ({"type": "fixes", "fixes": [fix(i) for i in range(201)]}, "fixes", "array of 201", "200"),
        ({"type": "fixes", "fixes": []}, "fixes", "array of 0", "1"),
        ({"type": "jump"}, "type", "jump", "heartbeat"),
        ({}, "type", None, "heartbeat"),
        ({"type": "heartbeat", "x": 1}, "x", 1, "no such field"),
        ({"type": "stop", "action_id": "1", "order_id": "a", "stop": 0, "state": "eaten",
          "at_ms": 0}, "state", "eaten", "heading, arrived, done, failed"),
        ({"type": "stop", "action_id": "1", "order_id": "a", "stop": 0, "state": "failed",
          "at_ms": 0}, "reason", "", "why"),
        ({"type": "decline", "action_id": "", "order_id": "a", "number": 1}, "action_id", "",
         "length >= 1"),
        ({"type": "decline", "action_id": "1", "order_id": "a\0", "number": 1}, "order_id", "a\0",
         "matching"),
        ([1], "frame", "array of 1", "object"),
        ({"type": "hello"}, "type", "hello", "another frame"),
    ],
)  # fmt: skip
def test_an_error_names_field_value_and_expected(frame, field, value, expected):
    session = session_of("rider")
    effects = session.receive(json.dumps(frame), NOW)
    error = error_of(effects)
    assert (error.field, error.value) == (field, value)
    assert expected in error.expected
    assert len(effects) == 1
    assert session.is_open


def test_nan_is_no_coordinate():
    session = session_of("rider", m.MSGPACK)
    frame = {"type": "fixes", "fixes": [fix(0, lat=math.nan)]}
    assert error_of(session.receive(msgspec.msgpack.encode(frame), NOW)).field == "fixes[0].lat"


# --- fixes -------------------------------------------------------------------------------------


def test_fixes_become_rows_in_wgs84_with_their_system():
    lat, lon = from_wgs84(31.2, 121.4, System.GCJ02)
    session = session_of("rider")
    fixes = [fix(0, speed_mps=3), fix(1, lat=lat, lon=lon, system="gcj02", heading_deg=7.5)]
    (store,) = say(session, "fixes", fixes=fixes)
    assert store.epoch == 0
    assert store.rows[0] == m.FixRow("me", 0, NOW, 31.2, 121.4, None, 3.0, None, "wgs84")
    row = store.rows[1]
    assert (row.lat, row.lon) == pytest.approx((31.2, 121.4), abs=1e-9)
    assert (row.heading_deg, row.system) == (7.5, "gcj02")


def test_repeats_are_acknowledged_again_and_not_stored_again():
    mark = Watermark()
    session = session_of("rider", mark=mark)
    say(session, "fixes", fixes=[fix(0), fix(1)])
    mark.settle(1, 0)
    assert session.stored(NOW) == [Send(m.Ack(seq=1, server_ms=NOW))]
    later = NOW + 1000
    assert say(session, "fixes", later, fixes=[fix(1)]) == [Send(m.Ack(seq=1, server_ms=later))]
    (store,) = say(session, "fixes", later, fixes=[fix(0), fix(2)])
    assert [row.seq for row in store.rows] == [2]
    assert session.due_ms == later + 1000
    assert session.tick(later + 999) == []
    assert session.tick(later + 1000) == [Send(m.Ack(seq=1, server_ms=later + 1000))]


def test_a_clock_set_back_does_not_hold_acknowledgements():
    session = session_of("rider")
    assert session.stored(NOW)
    assert session.stored(NOW + 1) == []
    assert session.tick(NOW - 3_600_000)


def test_fixes_on_their_way_are_not_taken_again_by_the_next_session():
    mark = Watermark()
    say(session_of("rider", mark=mark), "fixes", fixes=[fix(0), fix(1)])
    (ack,) = say(session_of("rider", mark=mark), "fixes", fixes=[fix(0), fix(1)])
    assert ack.message.seq == -1


def test_what_could_not_be_stored_may_come_again():
    mark = Watermark()
    session = session_of("rider", mark=mark)
    (first,) = say(session, "fixes", fixes=[fix(0)])
    (second,) = say(session, "fixes", fixes=[fix(1)])
    assert mark.fail(first.epoch)
    error = error_of(session.not_stored(0))
    assert (error.code, error.field) == ("not_stored", "fixes")
    # The second was on its way behind the first: its success is no acknowledgement of both.
    assert not mark.settle(1, second.epoch)
    assert not mark.fail(second.epoch)
    # Nor is a third one taken, which would be acknowledged together with both.
    assert error_of(say(session, "fixes", fixes=[fix(2)])).code == "not_stored"
    (again,) = say(session, "fixes", fixes=[fix(0), fix(1)])
    assert [row.seq for row in again.rows] == [0, 1]
    assert mark.settle(1, again.epoch)
    assert mark.stored == 1


def test_the_end_acknowledges_first():
    mark = Watermark()
    session = session_of("rider", mark=mark)
    session.stored(NOW)
    say(session, "fixes", fixes=[fix(0)])
    mark.settle(0, 0)
    assert session.stored(NOW) == []
    assert session.end(1001, "bye", NOW) == [
        Send(m.Ack(seq=0, server_ms=NOW)),
        Close(1001, "bye"),
    ]
    assert session.end(1001, "bye", NOW) == []


# --- the end of the token -----------------------------------------------------------------------


def test_a_frame_after_the_token_s_end_closes_4401_and_is_not_taken():
    mark = Watermark()
    session = session_of("rider", mark=mark)
    last = OVER_S * 1000 - 1
    assert isinstance(say(session, "fixes", last, fixes=[fix(0)])[0], StoreFixes)
    assert say(session, "fixes", last + 1, fixes=[fix(1)]) == [Close(4401, "token expired")]
    assert mark.taken == 0
    assert say(session, "heartbeat", last + 2) == []


@pytest.mark.parametrize("role", ["rider", "customer", "merchant", "operator"])
def test_a_silent_socket_ends_with_its_token(role):
    session = session_of(role)
    assert session.due_ms == OVER_S * 1000
    assert session.tick(OVER_S * 1000 - 1) == []
    assert session.tick(OVER_S * 1000) == [Close(4401, "token expired")]
    assert session.due_ms is None


def test_the_token_s_end_acknowledges_first():
    mark = Watermark()
    session = session_of("rider", mark=mark)
    session.stored(OVER_S * 1000 - 10)
    say(session, "fixes", OVER_S * 1000 - 9, fixes=[fix(0)])
    mark.settle(0, 0)
    session.stored(OVER_S * 1000 - 5)
    over = OVER_S * 1000
    assert session.due_ms == over
    assert session.tick(over) == [Send(m.Ack(seq=0, server_ms=over)), Close(4401, "token expired")]


# --- actions and watching ----------------------------------------------------------------------


def test_actions_become_commands_of_the_rider_at_the_servers_time():
    session = session_of("rider")
    at = {"at_ms": NOW, "rider_id": "me"}
    common = {"action_id": "1", "order_id": "a"}
    assert say(session, "accept", number=2, **common) == [Run("a", c.Accept(number=2, **at), "1")]
    assert say(session, "decline", number=2, reason="far", **common) == [
        Run("a", c.Decline(number=2, reason="far", **at), "1")
    ]
    assert say(session, "claim", **common) == [Run("a", c.Claim(**at), "1")]
    for state, command in (("heading", c.Head), ("arrived", c.Arrive), ("done", c.FinishStop)):
        assert say(session, "stop", stop=1, state=state, at_ms=5, **common) == [
            Run("a", command(stop=1, device_ms=5, **at), "1")
        ]
    assert say(session, "stop", stop=1, state="failed", at_ms=5, reason="shut", **common) == [
        Run("a", c.FailStop(stop=1, device_ms=5, reason="shut", **at), "1")
    ]


def test_watching():
    assert say(session_of("customer"), "watch", orders=["a", "b", "a"]) == [Watch(("a", "b"))]
    assert say(session_of("operator"), "watch_city") == [WatchCity()]


@pytest.mark.parametrize(
    ("role", "fields", "seen"),
    [
        ("customer", {"customer_id": "me"}, True),
        ("customer", {"customer_id": "other"}, False),
        ("customer", {"customer_id": "me", "tenant": "t2"}, False),
        ("customer", {"customer_id": "other", "merchant_id": "me"}, False),
        ("merchant", {"customer_id": "other", "merchant_id": "me"}, True),
        ("operator", {"customer_id": "other"}, True),
        ("operator", {"customer_id": "other", "tenant": "t2"}, False),
        ("operator", {"customer_id": "other", "city": "bj"}, False),
        ("rider", {"customer_id": "me"}, False),
    ],
)
def test_who_may_see_an_order(role, fields, seen):
    order = Order(
        id="a",
        job_type="delivery",
        stops=(),
        created_at_ms=0,
        promise_from_ms=0,
        promise_to_ms=0,
        expires_at_ms=0,
        price_fen=0,
        **({"city": "sh"} | fields),
    )
    assert session_of(role).may_see(order) is seen
