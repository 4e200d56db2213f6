"""What a process is told by its environment; may import geo, `api.keep` and the standard library.

| variable | meaning | default |
|---|---|---|
| `HEXRUN_POSTGRES_URL` | `postgresql://user:password@host:port/database` | none: given by the supervisor |
| `HEXRUN_REDIS_URL` | `redis://host:port`, `rediss://` or `unix://` | none: given by the supervisor |
| `HEXRUN_DATA` | the data folder | `data` |
| `HEXRUN_SECRET` | signs the tokens; 32 characters or more | the file below |
| `HEXRUN_SECRET_FILE` | holds the secret; made with a random one where it is missing | `secret` in the data folder |
| `HEXRUN_CITY` | `name:lat,lon` of its centre in WGS-84; several with `;` between | `demo:31.2304,121.4737` |
| `HEXRUN_CITY_RADIUS_KM` | how far from the centre a place may be | `60` |
| `HEXRUN_HOST` | the address to listen on | `127.0.0.1` |
| `HEXRUN_HTTP_PORT` | of the HTTP API; 0 for any free one | `8080` |
| `HEXRUN_STREAM_PORT` | of the websocket gateway; 0 for any free one | `8081` |

and `HEXRUN_KEEP_...`, see `api.keep`.
"""  # noqa: E501

from __future__ import annotations

import contextlib
import os
import re
import secrets
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from api.keep import Keep
from geo.datum import check_lat_lon
from geo.errors import InvalidValue, StartupError

SECRET_CHARS_MIN = 32
SECRET_NAME = "secret"
CITY_NAME = "city"
DEMO_CITY = "demo:31.2304,121.4737"
RADIUS_KM = 60.0
RADIUS_KM_MAX = 500.0
HTTP_PORT = 8080
STREAM_PORT = 8081

# A city's name stands in the keys of Redis between braces.
_CITY = re.compile(r"(?P<name>[a-z0-9][a-z0-9_-]{0,31}):(?P<lat>[^,]+),(?P<lon>[^,]+)")
_POSTGRES_SCHEMES = ("postgresql", "postgres", "postgresql+asyncpg")
_REDIS_SCHEMES = ("redis", "rediss", "unix")


@dataclass(frozen=True, slots=True, kw_only=True)
class CityArea:
    """A city and where it is served: within `radius_km` of its centre, in WGS-84 degrees."""

    name: str
    lat: float
    lon: float
    radius_km: float = RADIUS_KM


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """One process's settings, valid once built. The secret is not shown."""

    postgres_url: str
    redis_url: str
    data: Path
    secret: str = field(repr=False)
    cities: tuple[CityArea, ...]
    host: str = "127.0.0.1"
    http_port: int = HTTP_PORT
    stream_port: int = STREAM_PORT
    keep: Keep = field(default_factory=Keep)

    @property
    def city(self) -> CityArea:
        """The first city, for those who serve one."""
        return self.cities[0]

    @classmethod
    def from_environment(cls, environ: Mapping[str, str] = os.environ) -> Settings:
        """Read the variables above. Makes the secret file where there is none.

        Raises:
            InvalidValue: a variable cannot be right, or an address is missing; names it.
        """
        data = Path(environ.get("HEXRUN_DATA") or "data")
        return cls(
            postgres_url=_url(environ, "HEXRUN_POSTGRES_URL", _POSTGRES_SCHEMES),
            redis_url=_url(environ, "HEXRUN_REDIS_URL", _REDIS_SCHEMES),
            data=data,
            secret=read_secret(environ, data),
            cities=read_cities(environ),
            host=environ.get("HEXRUN_HOST") or "127.0.0.1",
            http_port=read_port(environ, "HEXRUN_HTTP_PORT", HTTP_PORT),
            stream_port=read_port(environ, "HEXRUN_STREAM_PORT", STREAM_PORT),
            keep=Keep.from_environment(environ),
        )


def _url(environ: Mapping[str, str], name: str, schemes: tuple[str, ...]) -> str:
    url = environ.get(name, "")
    expected = f"an address that starts with {schemes[0]}://"
    if not url:
        raise NotSet(name, expected)
    try:
        scheme = urlsplit(url).scheme
    except ValueError:
        scheme = ""
    if scheme not in schemes:
        # What follows the scheme may hold a password.
        shown = f"{scheme}:..." if scheme else "an address without a scheme"
        raise InvalidValue(name, shown, expected)
    return url


def read_port(environ: Mapping[str, str], name: str, default: int) -> int:
    """The port that the variable names. Raises InvalidValue, naming the variable."""
    given = environ.get(name) or str(default)
    if not (given.isascii() and given.isdigit() and int(given) <= 65_535):
        raise InvalidValue(name, given, "a port, 0 to 65535")
    return int(given)


class NotSet(InvalidValue):
    """A variable that is needed is not set."""

    def __init__(self, field: str, expected: str) -> None:
        super().__init__(field, None, expected)
        self.args = (f"{field} is not set, expected {expected}",)


def remember_city(environ: Mapping[str, str], data: Path) -> CityArea:
    """The city of the environment, whose name is left in the data folder for `city_name`."""
    city = read_city(environ)
    (data / CITY_NAME).write_text(city.name + "\n")
    return city


def city_name(environ: Mapping[str, str], data: Path) -> str:
    """The city that the data folder was last started with, else that of the environment."""
    path = data / CITY_NAME
    try:
        return path.read_text().strip() if path.is_file() else read_city(environ).name
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidValue("city", str(path), f"the name of a city ({error})") from None


def read_city(environ: Mapping[str, str]) -> CityArea:
    """The first of `HEXRUN_CITY`. Raises InvalidValue, naming the variable."""
    return read_cities(environ)[0]


def read_cities(environ: Mapping[str, str]) -> tuple[CityArea, ...]:
    """`HEXRUN_CITY` with its radius. Raises InvalidValue, naming the variable."""
    radius = environ.get("HEXRUN_CITY_RADIUS_KM") or str(RADIUS_KM)
    radius_km = _number("HEXRUN_CITY_RADIUS_KM", radius)
    if not 0.0 < radius_km <= RADIUS_KM_MAX:
        raise InvalidValue("HEXRUN_CITY_RADIUS_KM", radius, f"up to {RADIUS_KM_MAX:.0f} km")
    given = environ.get("HEXRUN_CITY") or DEMO_CITY
    cities = tuple(_city(part.strip(), radius_km) for part in given.split(";"))
    names = [city.name for city in cities]
    if len(set(names)) < len(names):
        raise InvalidValue("HEXRUN_CITY", given, "each city once")
    return cities


def _city(given: str, radius_km: float) -> CityArea:
    found = _CITY.fullmatch(given)
    if found is None:
        raise InvalidValue("HEXRUN_CITY", given, f"name:lat,lon such as {DEMO_CITY}")
    lat = _number("HEXRUN_CITY", found["lat"])
    lon = _number("HEXRUN_CITY", found["lon"])
    check_lat_lon(lat, lon, "HEXRUN_CITY")
    return CityArea(name=found["name"], lat=lat, lon=lon, radius_km=radius_km)


def _number(name: str, given: str) -> float:
    try:
        return float(given)
    except ValueError:
        raise InvalidValue(name, given, "a number") from None


def read_secret(environ: Mapping[str, str], data: Path, *, make: bool = True) -> str:
    """The secret, made where there is none yet. Without `make`, StartupError in that case."""
    given = environ.get("HEXRUN_SECRET")
    if given:
        return _checked(given, "HEXRUN_SECRET")
    path = Path(environ.get("HEXRUN_SECRET_FILE") or data / SECRET_NAME)
    try:
        if not path.exists():
            if not make:
                how = f"start 'hexrun up --data {data}' first"
                raise StartupError(f"{path.parent}: no secret there; {how}")
            _make_secret(path)
        return _checked(path.read_text().strip(), f"HEXRUN_SECRET_FILE {path}")
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidValue("HEXRUN_SECRET_FILE", str(path), f"a secret file ({error})") from error


def _checked(secret: str, name: str) -> str:
    if len(secret) < SECRET_CHARS_MIN:
        shown = f"{len(secret)} characters"
        raise InvalidValue(name, shown, f"{SECRET_CHARS_MIN} characters or more")
    return secret


def _make_secret(path: Path) -> None:
    """Whole or not at all: another process may start at the same moment and must read the same."""
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor, draft = tempfile.mkstemp(dir=path.parent, prefix=".secret-")  # mode 0600
    try:
        with os.fdopen(descriptor, "w") as file:
            file.write(secrets.token_urlsafe(48) + "\n")
        with contextlib.suppress(FileExistsError):
            os.link(draft, path)
    finally:
        os.unlink(draft)
