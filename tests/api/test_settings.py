"""The environment is read once, checked, and what is wrong in it is named."""

from __future__ import annotations

import re
import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from api.settings import CityArea, Settings, WebhookSettings
from geo.errors import InvalidValue

SECRET = "x" * 32


@pytest.fixture
def environ(tmp_path: Path) -> dict[str, str]:
    return {
        "HEXRUN_POSTGRES_URL": "postgresql://anna@host/base",
        "HEXRUN_REDIS_URL": "redis://host",
        "HEXRUN_DATA": str(tmp_path / "data"),
    }


def test_the_defaults(environ: dict[str, str], tmp_path: Path) -> None:
    settings = Settings.from_environment(environ)
    assert settings.city == CityArea(name="demo", lat=31.2304, lon=121.4737, radius_km=60.0)
    assert (settings.host, settings.http_port, settings.stream_port) == ("127.0.0.1", 8080, 8081)
    assert settings.data == tmp_path / "data"
    assert settings.data_keys == tmp_path / "data" / "data-keys"
    assert settings.keep_personal_days == 30
    assert settings.masked_numbers.startswith("+999")


def test_a_secret_is_made_once_and_for_this_user_only(
    environ: dict[str, str], tmp_path: Path
) -> None:
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda _: Settings.from_environment(environ), range(16)))
    assert len({s.secret for s in found}) == 1
    assert len(found[0].secret) >= 32
    path = tmp_path / "data" / "secret"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert [p.name for p in path.parent.iterdir()] == ["secret"]
    assert found[0].secret not in repr(found[0])


def test_where_the_secret_comes_from(environ: dict[str, str], tmp_path: Path) -> None:
    file = tmp_path / "mine"
    file.write_text(SECRET + "\n")
    environ["HEXRUN_SECRET_FILE"] = str(file)
    assert Settings.from_environment(environ).secret == SECRET
    environ["HEXRUN_SECRET"] = "y" * 40
    assert Settings.from_environment(environ).secret == "y" * 40
    assert not (tmp_path / "data").exists()


def test_everything_set(environ: dict[str, str]) -> None:
    settings = Settings.from_environment(
        environ
        | {
            "HEXRUN_CITY": "berlin:52.52,13.405",
            "HEXRUN_CITY_RADIUS_KM": "25.5",
            "HEXRUN_HOST": "0.0.0.0",
            "HEXRUN_HTTP_PORT": "0",
            "HEXRUN_STREAM_PORT": "9000",
            "HEXRUN_DATA_KEYS_FILE": "/etc/hexrun/keys",
            "HEXRUN_KEEP_PERSONAL_DAYS": "0",
            "HEXRUN_MASKED_NUMBERS": "+8617012340000-+8617012349999",
        }
    )
    assert settings.data_keys == Path("/etc/hexrun/keys")
    assert settings.keep_personal_days == 0
    assert settings.masked_numbers == "+8617012340000-+8617012349999"
    assert settings.city == CityArea(name="berlin", lat=52.52, lon=13.405, radius_km=25.5)
    assert (settings.host, settings.http_port, settings.stream_port) == ("0.0.0.0", 0, 9000)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("HEXRUN_POSTGRES_URL", ""),
        ("HEXRUN_POSTGRES_URL", "mysql://root:geheim@host/base"),
        ("HEXRUN_POSTGRES_URL", "geheim"),
        ("HEXRUN_POSTGRES_URL", "http://[geheim"),
        ("HEXRUN_REDIS_URL", ""),
        ("HEXRUN_REDIS_URL", "memcached://host"),
        ("HEXRUN_CITY", "demo"),
        ("HEXRUN_CITY", "Demo:31,121"),
        ("HEXRUN_CITY", "{demo}:31,121"),
        ("HEXRUN_CITY", "demo:91,121"),
        ("HEXRUN_CITY", "demo:31,181"),
        ("HEXRUN_CITY", "demo:nan,121"),
        ("HEXRUN_CITY", "demo:north,121"),
        ("HEXRUN_CITY_RADIUS_KM", "0"),
        ("HEXRUN_CITY_RADIUS_KM", "-3"),
        ("HEXRUN_CITY_RADIUS_KM", "nan"),
        ("HEXRUN_CITY_RADIUS_KM", "far"),
        ("HEXRUN_HTTP_PORT", "http"),
        ("HEXRUN_HTTP_PORT", "65536"),
        ("HEXRUN_STREAM_PORT", "-1"),
        ("HEXRUN_SECRET", "short"),
        ("HEXRUN_KEEP_PERSONAL_DAYS", "-1"),
        ("HEXRUN_KEEP_PERSONAL_DAYS", "4000"),
        ("HEXRUN_KEEP_PERSONAL_DAYS", "month"),
    ],
)
def test_what_is_wrong_is_named(environ: dict[str, str], name: str, value: str) -> None:
    with pytest.raises(InvalidValue) as caught:
        Settings.from_environment(environ | {name: value})
    assert str(caught.value).startswith(name)
    assert "geheim" not in str(caught.value)


def test_a_secret_file_that_is_none(environ: dict[str, str], tmp_path: Path) -> None:
    short = tmp_path / "short"
    short.write_text("abc")
    for path in (short, tmp_path, short / "under"):
        with pytest.raises(InvalidValue, match="HEXRUN_SECRET_FILE"):
            Settings.from_environment(environ | {"HEXRUN_SECRET_FILE": str(path)})


def test_several_cities(environ: dict[str, str]) -> None:
    environ["HEXRUN_CITY"] = "shanghai:31.23,121.47; suzhou:31.3,120.6"
    names = [city.name for city in Settings.from_environment(environ).cities]
    assert names == ["shanghai", "suzhou"]


@pytest.mark.parametrize("given", ["a:1,2;", "a:1,2;a:3,4", "a:1,2;b"])
def test_cities_that_cannot_be(environ: dict[str, str], given: str) -> None:
    environ["HEXRUN_CITY"] = given
    with pytest.raises(InvalidValue, match="HEXRUN_CITY"):
        Settings.from_environment(environ)


def test_the_webhooks_settings(environ: dict[str, str]) -> None:
    assert Settings.from_environment(environ).webhooks == WebhookSettings()
    given = {
        "HEXRUN_WEBHOOK_RETRY_S": "0.1, 0.2,3",
        "HEXRUN_WEBHOOK_GIVE_UP_S": "60",
        "HEXRUN_WEBHOOK_PAUSE_S": "5",
        "HEXRUN_WEBHOOK_ALLOW_PRIVATE": "1",
    }
    assert Settings.from_environment(environ | given).webhooks == WebhookSettings(
        retry_s=(0.1, 0.2, 3.0), give_up_s=60.0, pause_s=5.0, allow_private=True
    )


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("HEXRUN_WEBHOOK_RETRY_S", "1,,2"),
        ("HEXRUN_WEBHOOK_RETRY_S", "1;2"),
        ("HEXRUN_WEBHOOK_RETRY_S", "0"),
        ("HEXRUN_WEBHOOK_GIVE_UP_S", "-1"),
        ("HEXRUN_WEBHOOK_PAUSE_S", "nan"),
        ("HEXRUN_WEBHOOK_ALLOW_PRIVATE", "yes"),
    ],
)
def test_wrong_webhooks_settings(environ: dict[str, str], name: str, value: str) -> None:
    with pytest.raises(InvalidValue, match=name):
        Settings.from_environment(environ | {name: value})


def test_the_documentation_has_every_variable_once() -> None:
    root = Path(__file__).parents[2]
    used = set()
    for path in (root / "api").rglob("*.py"):
        used |= set(re.findall(r'"(HEXRUN_[A-Z_]+[A-Z])"', path.read_text()))
    rows: list[str] = []
    for page in ("running.md", "webhooks.md"):
        for line in (root / "docs" / page).read_text().splitlines():
            if line.startswith("| `HEXRUN_"):
                rows += re.findall(r"`(HEXRUN_[A-Z_]+)`", line.split("|")[1])
    pipes = {"HEXRUN_READY_FD", "HEXRUN_TURN_FD"}  # between two processes
    assert sorted(rows) == sorted(used - pipes)
