"""A replay takes journals of any length, several of them, and those that a crash cut off."""

import json
import random
import shutil
import tracemalloc
from dataclasses import replace

import pytest

from api.cli.instants import instant, shown, zone_of
from api.cli.replay import run_replay
from api.journal import JournalReader, PlanMade, Tick, encode_record, journals, started_ms
from api.replay import replay_folder
from bench.recorded import record_run
from geo.errors import InvalidValue
from sim.scenario import load_scenario


def brief(name, orders, duration_s=1_800):
    found = load_scenario(name)
    return replace(found, duration_s=duration_s, orders=replace(found.orders, count=orders))


@pytest.fixture(scope="module")
def recorded(tmp_path_factory):
    folder = tmp_path_factory.mktemp("recorded") / "live"
    outcome = record_run(folder, brief("small", 150), 7)
    return folder, outcome


@pytest.fixture
def copy(recorded, tmp_path):
    shutil.copytree(recorded[0], tmp_path / "live")
    return tmp_path / "live"


def cut(path, size):
    """The file as a crash left it after so many bytes."""
    path.write_bytes(path.read_bytes()[:size])


def plans(path):
    return [r for r in JournalReader(path) if isinstance(r, PlanMade)]


def test_a_recorded_run_replays_to_the_same_plans(recorded):
    folder, outcome = recorded
    told = []
    result = replay_folder(folder, told.append)
    assert result.ok
    assert (result.rounds, result.events) == (outcome.rounds, outcome.events)
    assert result.torn == []
    (path,) = journals(folder)
    assert result.bytes_read == path.stat().st_size
    assert [p.bytes_read for p in told] == sorted(p.bytes_read for p in told)
    assert told[-1].bytes_read == told[-1].bytes_all == result.bytes_read


def test_any_first_part_of_a_journal_decides_the_same_up_to_there(copy):
    (path,) = journals(copy)
    whole = path.stat().st_size
    draw = random.Random(3)
    for size in sorted((draw.randrange(whole // 4, whole) for _ in range(4)), reverse=True):
        cut(path, size)
        result = replay_folder(copy)
        assert result.rounds == result.equal == len(plans(path)) > 0
        torn = size - result.bytes_read
        assert result.torn == ([(path.name, torn)] if torn else [])


def test_zeros_at_the_end_are_a_torn_record_and_garbage_is_refused(copy):
    (path,) = journals(copy)
    rounds = len(plans(path))
    whole = path.read_bytes()
    path.write_bytes(whole + bytes(5_000))
    result = replay_folder(copy)
    assert (result.rounds, result.ok, result.torn) == (rounds, True, [(path.name, 5_000)])
    path.write_bytes(whole + b"\x00\x01" * 20)
    with pytest.raises(InvalidValue, match=f"at byte {len(whole)}"):
        replay_folder(copy)


def test_an_empty_journal_and_a_torn_start_hold_nothing(copy):
    (path,) = journals(copy)
    rounds = len(plans(path))
    later = path.with_name(f"chengdu-{started_ms(path) + 10_000_000}.journal")
    later.write_bytes(b"")
    assert replay_folder(copy).torn == []
    later.write_bytes(path.read_bytes()[:20])
    result = replay_folder(copy)
    assert (result.files, result.rounds, result.torn) == (2, rounds, [(later.name, 20)])


def test_restarts_leave_journals_that_each_replay(tmp_path):
    outcome = record_run(tmp_path / "live", brief("faults", 120), 7)
    result = replay_folder(tmp_path / "live")
    assert result.files > 5, "the scenario's dispatchers die"
    assert result.greedy > 0, "and its solvers"
    assert result.ok
    assert result.rounds <= outcome.rounds


def test_times_take_the_rounds_between_them(recorded):
    folder, _ = recorded
    (path,) = journals(folder)
    made = [r.at_ms for r in plans(path)]
    low, high = made[len(made) // 3], made[2 * len(made) // 3]
    result = replay_folder(folder, from_ms=low, to_ms=high)
    assert result.ok
    assert result.rounds == sum(low <= at < high for at in made)
    assert result.bytes_read < path.stat().st_size
    assert replay_folder(folder, from_ms=made[-1] + 1).rounds == 0


def test_journals_before_the_time_are_not_read(tmp_path):
    record_run(tmp_path / "live", brief("faults", 120), 7)
    paths = journals(tmp_path / "live")
    result = replay_folder(tmp_path / "live", from_ms=started_ms(paths[-1]))
    assert result.files == 1


def peak(work):
    """The most memory that Python held meanwhile, in bytes."""
    tracemalloc.start()
    work()
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    return most


def test_memory_does_not_grow_with_the_journals(copy):
    (path,) = journals(copy)
    cut(path, path.stat().st_size // 8)
    once = peak(lambda: replay_folder(copy))
    for n in range(1, 4):
        shutil.copy(path, path.with_name(f"chengdu-{started_ms(path) + n}.journal"))
    assert peak(lambda: replay_folder(copy)) < 1.3 * once


def test_memory_does_not_grow_with_a_journal(copy):
    (path,) = journals(copy)
    start = next(iter(JournalReader(path)))
    head = len(encode_record(start))
    body = path.read_bytes()[: path.stat().st_size // 4]

    def read():
        return sum(isinstance(record, Tick) for record in JournalReader(path))

    def repeated(times):
        path.write_bytes(body[:head] + times * body[head:whole])
        return peak(read)

    path.write_bytes(body)
    read()
    reader = JournalReader(path)
    assert list(reader)
    whole = reader.offset
    repeated(1)
    assert repeated(12) < 1.3 * repeated(4)


def test_the_command_states_its_rate_and_the_torn_end(copy, capsys):
    (path,) = journals(copy)
    cut(path, path.stat().st_size - 5)
    assert run_replay(copy, "11:05", "11:20", "Asia/Shanghai", True)
    found = json.loads(capsys.readouterr().out)
    assert 0 < found["rounds"] == found["rounds_equal"] < len(plans(path))
    assert found["rounds_per_s"] > 0 < found["journal_mb_per_s"]
    assert run_replay(copy, None, None, "Asia/Shanghai", True)
    told = capsys.readouterr()
    assert json.loads(told.out)["journals_torn"] == 1
    assert "ends in the middle of a record" in told.err


@pytest.mark.parametrize(
    ("since", "until", "told"),
    [
        ("23:00", None, "from: '23:00' is not valid, expected a span with rounds: they were held "),
        (None, "2026-06-01T11:00:01", "to: '2026-06-01T11:00:01' is not valid, expected a span "),
        ("11:20", "11:10", "to: '11:10' is not valid, expected later than 2026-06-01 11:20:00 and"),
        (None, "2026-05-01T11:10", "to: '2026-05-01T11:10' is not valid, expected later than 2026"),
    ],
)
def test_a_span_without_rounds_is_refused(copy, since, until, told):
    """Code 1 is for rounds that differ, and swapped times are not a day."""
    (path,) = journals(copy)
    with pytest.raises(InvalidValue) as error:
        run_replay(copy, since, until, "Asia/Shanghai", True)
    assert str(error.value).startswith(told)
    last = shown(plans(path)[-1].at_ms, zone_of("Asia/Shanghai"))
    assert last in str(error.value) or "2026-05" in until


def test_a_folder_without_rounds_is_refused(copy):
    (path,) = journals(copy)
    cut(path, len(encode_record(next(iter(JournalReader(path))))))
    with pytest.raises(InvalidValue, match="journals in which a round was held"):
        run_replay(copy, None, None, "Asia/Shanghai", True)


def test_a_span_over_midnight(tmp_path):
    day = brief("small", 40)
    late = replace(day, start_ms=day.start_ms + 45_900_000)  # 23:45
    record_run(tmp_path, late, 7)
    assert run_replay(tmp_path, "23:50", "00:05", "Asia/Shanghai", True)
    with pytest.raises(InvalidValue, match=r"up to 2026-06-02 00:.*the last round"):
        run_replay(tmp_path, "23:50", "23:40", "Asia/Shanghai", True)


def test_times_are_those_of_the_citys_clocks():
    zone = zone_of("Asia/Shanghai")
    eleven_ms = 1_780_282_800_000  # 2026-06-01 11:00 there
    assert instant("at", "11:05", zone, eleven_ms) == eleven_ms + 300_000
    assert instant("at", "10:59:30", zone, eleven_ms) == eleven_ms + 86_400_000 - 30_000
    assert instant("at", "2026-06-01T11:05", zone, 0) == eleven_ms + 300_000
    assert instant("at", "2026-06-01T03:05Z", zone, 0) == eleven_ms + 300_000
    assert shown(eleven_ms, zone) == "2026-06-01 11:00:00"
    with pytest.raises(InvalidValue, match="at: 'noon' is not valid, expected a time like 12:05"):
        instant("at", "noon", zone, eleven_ms)
    with pytest.raises(InvalidValue, match="zone"):
        zone_of("Mars/Base")
