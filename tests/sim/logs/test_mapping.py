"""A mapping says by name what is wrong in it."""

import pytest

from geo.errors import InvalidValue, MissingFile, UnknownKey
from sim.logs.mapping import COURIER_COLUMNS, ORDER_COLUMNS, load_mapping, parse_mapping

COLUMNS = "columns: {id: order, placed: at}\n"


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("- a", "a mapping of keys"),
        ("columns: 3", "columns: 3"),
        (COLUMNS + "colums: {}", "colums"),
        (COLUMNS + "time: sundial", "time: 'sundial'"),
        (COLUMNS + "time: clock", "date: None"),
        (COLUMNS + "time: clock\ndate: 2026-02-30", "mapping: 'day is out of"),
        (COLUMNS + "time: clock\ndate: monday", "date: 'monday'"),
        (COLUMNS + "zone: Mars/Base", "zone: 'Mars/Base'"),
        (COLUMNS + "system: mars", "system: 'mars'"),
        (COLUMNS + "city: {lat: 95.0, lon: 1.0}", "city"),
        (COLUMNS + "constants: {placed: 3}", r"constants: \['placed'\]"),
        (COLUMNS + "delimiter: ab", "delimiter: 'ab'"),
        ("columns: {placed: at}\nconstants: {id: 3}", r"columns\.id"),
        ("columns: {id: order}", r"columns\.placed"),
        (COLUMNS + "constants: {job_type: teleport}", "teleport"),
        ("columns: {id: a, placed: b, ready: c, ready_after_min: d}", "not both"),
    ],
)
def test_what_is_wrong_is_named(text, told):
    with pytest.raises(InvalidValue, match=told):
        parse_mapping(text).checked(ORDER_COLUMNS)


def test_a_column_of_nobody_is_named_with_all_that_there_are():
    mapping = parse_mapping("columns: {id: order, placed: at, vehicle: v}")
    with pytest.raises(UnknownKey, match=r"columns\.vehicle.*pickup_lat"):
        mapping.checked(ORDER_COLUMNS)
    with pytest.raises(UnknownKey, match=r"columns\.placed"):
        mapping.checked(COURIER_COLUMNS)


def test_a_date_is_a_date_however_yaml_reads_it():
    for text in ("2026-06-01", "'2026-06-01'"):
        assert parse_mapping(COLUMNS + f"time: clock\ndate: {text}").date == "2026-06-01"


def test_it_is_read_from_a_file(tmp_path):
    path = tmp_path / "map.yaml"
    with pytest.raises(MissingFile, match=r"map\.yaml"):
        load_mapping(path)
    path.write_text(COLUMNS + "ignore: '*'")
    assert load_mapping(path).ignore == ("*",)
