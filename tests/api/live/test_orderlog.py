"""A live journal is an order log: every order that it knows of, once, by its placement."""

import pytest
from msgspec.structs import replace

from api.cli.orderlog import read_journals, read_order_log
from api.journal import CityShape, Events, JournalWriter, Start, Tick
from dispatch.commands import Confirm
from dispatch.dispatcher import Known
from dispatch.model import Place, StopKind
from dispatch.policy import Policy
from dispatch.registry import OrderForm, StopForm, job_type
from dispatch.snapshot import NEVER
from dispatch.transitions import apply
from geo.errors import MissingFile
from sim.logs.report import Bad

AT = 1_780_282_800_000
CITY = CityShape(name="demo", lat=31.23, lon=121.47)
START = Start(city=CITY, policy=Policy())


def order(name, at_ms, ready_ms=None):
    kind = job_type("delivery")
    shop = StopForm(place=Place(lat=31.231, lon=121.47), earliest_ms=ready_ms, place_id="noodles")
    door = StopForm(place=Place(lat=31.24, lon=121.48))
    form = OrderForm(customer_id="c", merchant_id="m1", stops=(shop, door), load=(3,))
    return kind.order(name, "demo", form, kind.quote(form, at_ms), at_ms)


def placed(made):
    return apply(made, Confirm(at_ms=made.created_at_ms))


@pytest.fixture
def folder(tmp_path):
    """Two runs of a dispatcher: the second one knows at its start what the first was told."""
    first, second, third = order("o1", AT, AT + 600_000), order("o2", AT + 5), order("o0", AT - 9)
    visit = replace(order("o3", AT + 9), stops=(replace(third.stops[1], kind=StopKind.VISIT),))
    with JournalWriter(tmp_path / "journal", "demo", AT) as journal:
        for record in (
            START,
            Known(orders=(), riders=()),
            Events(3, placed(second)),
            Tick(AT + 6),
            Events(5, (*placed(first), *placed(visit))),
        ):
            journal.write(record)
    with JournalWriter(tmp_path / "journal", "demo", AT + 1_000) as journal:
        for record in (START, Known(orders=(third, first), riders=()), Events(7, placed(second))):
            journal.write(record)
    return tmp_path


def test_every_order_of_the_journals_stands_once(folder):
    read = read_journals(folder, "Asia/Shanghai")
    log, made = read.log, order("o1", AT, AT + 600_000)
    assert (log.id, log.zone) == (("o0", "o1", "o2", "o3"), "Asia/Shanghai")
    assert (read.report.rows, read.report.kept) == (4, 4)
    assert log.placed_ms.tolist() == [AT - 9, AT, AT + 5, AT + 9]
    assert log.ready_ms.tolist() == [NEVER, AT + 600_000, NEVER, NEVER]
    assert log.promise_ms[1] == made.promise_to_ms
    assert (log.merchant[1], log.job_type[1], log.load[1]) == ("m1", "delivery", 3)
    assert (log.pickup_lat[1], log.door_lon[1]) == (31.231, 121.48)
    assert log.shops().tolist() == [0, 0, 0, -1]


def test_a_data_folder_is_known_by_its_journal(folder, tmp_path):
    found = read_order_log(folder, bad=Bad.STOP)
    assert (len(found.log), found.log.zone) == (4, "UTC")
    (tmp_path / "empty").mkdir()
    with pytest.raises(MissingFile, match="holds no journal"):
        read_order_log(tmp_path / "empty", bad=Bad.STOP)
