"""What a process is told by its environment; may import geo, `api.keep` and the standard library.

| variable | meaning | default |
|---|---|---|
| `HEXRUN_POSTGRES_URL` | `postgresql://user:password@host:port/database` | none: given by the supervisor |
| `HEXRUN_REDIS_URL` | `redis://host:port`, `rediss://` or `unix://` | none: given by the supervisor |
| `HEXRUN_DATA` | the data folder | `data` |
| `HEXRUN_SECRET` | signs the tokens; 32 characters or more; several lines: the first signs, all verify | the file below |
| `HEXRUN_SECRET_FILE` | holds the secret; made with a random one where it is missing | `secret` in the data folder |
| `HEXRUN_CITY` | `name:lat,lon` of its centre in WGS-84; several with `;` between | `demo:31.2304,121.4737` |
| `HEXRUN_CITY_RADIUS_KM` | how far from the centre a place may be | `60` |
| `HEXRUN_HOST` | the address to listen on | `127.0.0.1` |
| `HEXRUN_HTTP_PORT` | of the HTTP API; 0 for any free one | `8080` |
| `HEXRUN_STREAM_PORT` | of the websocket gateway; 0 for any free one | `8081` |
| `HEXRUN_STATUS_PORT` | of the process's status door on loopback; 0 for any free one | `0` |
| `HEXRUN_LEAD_S` | seconds from `/readyz` turning 503 to the door closing | `0` |
| `HEXRUN_LIMITS` | `name=number,...`, see `api.capacity.Limits` | its defaults |
| `HEXRUN_METRICS` | who may read `/metrics`: `private` addresses, `all` or `none` | `private` |
| `HEXRUN_DATA_KEYS_FILE` | the keys of personal data; made with a first one where it is missing | `data-keys` in the data folder |
| `HEXRUN_KEEP_PERSONAL_DAYS` | how long personal data outlive their order | `30` |
| `HEXRUN_KEEP_...` | how long the rest is kept, see `api.keep` | |
| `HEXRUN_MASKED_NUMBERS` | the block of masked numbers, `+<first>-+<last>` | `+99900000000-+99900009999` |
| `HEXRUN_TRUSTED_PROXIES` | networks such as `10.0.0.0/8`, with `,` between, whose `X-Forwarded-For` is believed | none |
| `HEXRUN_RATE_SUBJECT` | requests and sockets of one token's holder | `12000/minute` |
| `HEXRUN_RATE_ADDRESS` | requests with good tokens from one address | `120000/minute` |
| `HEXRUN_RATE_STRANGER` | requests without a good token from one address | `300/minute` |
| `HEXRUN_RATE_SOCKETS` | sockets opened from one address | `60000/minute` |
| `HEXRUN_WEBHOOK_RETRY_S` | seconds to wait after each failed attempt; the last goes on | `10,30,60,120,300,600,900,1800,3600,7200` |
| `HEXRUN_WEBHOOK_GIVE_UP_S` | an event is tried for so long, then it is a dead letter | `86400` |
| `HEXRUN_WEBHOOK_PAUSE_S` | an endpoint is paused after failing every attempt for so long | `86400` |
| `HEXRUN_WEBHOOK_ALLOW_PRIVATE` | `1`: webhooks may go to private addresses, and without TLS | `0` |
"""  # noqa: E501

from __future__ import annotations

import contextlib
import ipaddress
import os
import re
import secrets
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from api.capacity import Limits, read_limits
from api.keep import Keep
from geo.datum import check_lat_lon
from geo.errors import InvalidValue, StartupError

SECRET_CHARS_MIN = 32
SECRET_NAME = "secret"
# A random text of 32 characters has more; "change-me-change-me-change-me-..." has not.
SECRET_DISTINCT_MIN = 12
CITY_NAME = "city"
DATA_KEYS_NAME = "data-keys"
KEEP_PERSONAL_DAYS = 30
KEEP_PERSONAL_DAYS_MAX = 3_650
# +999 is no country's: nobody's telephone rings by mistake.
MASKED_NUMBERS = "+99900000000-+99900009999"
DEMO_CITY = "demo:31.2304,121.4737"
RADIUS_KM = 60.0
RADIUS_KM_MAX = 500.0
HTTP_PORT = 8080
STREAM_PORT = 8081
LEAD_S_MAX = 60.0
METRICS_FOR = ("private", "all", "none")

# A city's name stands in the keys of Redis between braces.
_CITY = re.compile(r"(?P<name>[a-z0-9][a-z0-9_-]{0,31}):(?P<lat>[^,]+),(?P<lon>[^,]+)")
_POSTGRES_SCHEMES = ("postgresql", "postgres", "postgresql+asyncpg")
_REDIS_SCHEMES = ("redis", "rediss", "unix")
_RATE = re.compile(r"([1-9][0-9]{0,8})/(second|minute|hour)")
RATES = {
    "subject": "12000/minute",
    "address": "120000/minute",
    "stranger": "300/minute",
    "sockets": "60000/minute",
}
Network = ipaddress.IPv4Network | ipaddress.IPv6Network


@dataclass(frozen=True, slots=True, kw_only=True)
class RateSettings:
    """How many requests `n/second`, `n/minute` or `n/hour`, and who may say for whom he asks."""

    subject: str = RATES["subject"]
    address: str = RATES["address"]
    stranger: str = RATES["stranger"]
    sockets: str = RATES["sockets"]
    trusted_proxies: tuple[Network, ...] = ()

    @classmethod
    def from_environment(cls, environ: Mapping[str, str]) -> RateSettings:
        """Raises InvalidValue, naming the variable."""
        return cls(
            subject=_rate(environ, "HEXRUN_RATE_SUBJECT", RATES["subject"]),
            address=_rate(environ, "HEXRUN_RATE_ADDRESS", RATES["address"]),
            stranger=_rate(environ, "HEXRUN_RATE_STRANGER", RATES["stranger"]),
            sockets=_rate(environ, "HEXRUN_RATE_SOCKETS", RATES["sockets"]),
            trusted_proxies=_networks(environ, "HEXRUN_TRUSTED_PROXIES"),
        )


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
    lead_s: float = 0.0
    limits: Limits = field(default_factory=Limits)
    metrics_for: str = METRICS_FOR[0]
    data_keys_file: Path | None = None
    keep_personal_days: int = KEEP_PERSONAL_DAYS
    masked_numbers: str = MASKED_NUMBERS
    secret_file: Path | None = None
    """Where the secret was read, and is read again; None where the environment holds it."""
    status_port: int = 0
    rates: RateSettings = field(default_factory=RateSettings)
    webhooks: WebhookSettings = field(default_factory=lambda: WebhookSettings())

    @property
    def data_keys(self) -> Path:
        """The file of the keys of personal data."""
        return self.data_keys_file or self.data / DATA_KEYS_NAME

    @property
    def city(self) -> CityArea:
        """The first city, for those who serve one."""
        return self.cities[0]

    @property
    def exposed(self) -> bool:
        """Whether others than this machine can connect."""
        return is_exposed(self.host, self.rates)

    def area(self, name: str) -> CityArea | None:
        """The city of that name, if it is served."""
        return next((city for city in self.cities if city.name == name), None)

    @classmethod
    def from_environment(cls, environ: Mapping[str, str] = os.environ) -> Settings:
        """Read the variables above. Makes the secret file where there is none.

        Raises:
            InvalidValue: a variable cannot be right, or an address is missing; names it.
        """
        data = Path(environ.get("HEXRUN_DATA") or "data")
        host = environ.get("HEXRUN_HOST") or "127.0.0.1"
        rates = RateSettings.from_environment(environ)
        secret = read_secret(environ, data)
        secret_file = None if environ.get("HEXRUN_SECRET") else secret_path(environ, data)
        if is_exposed(host, rates):
            check_exposed(secret, secret_file)
        return cls(
            postgres_url=_url(environ, "HEXRUN_POSTGRES_URL", _POSTGRES_SCHEMES),
            redis_url=_url(environ, "HEXRUN_REDIS_URL", _REDIS_SCHEMES),
            data=data,
            secret=secret,
            secret_file=secret_file,
            rates=rates,
            cities=read_cities(environ),
            host=host,
            http_port=read_port(environ, "HEXRUN_HTTP_PORT", HTTP_PORT),
            stream_port=read_port(environ, "HEXRUN_STREAM_PORT", STREAM_PORT),
            status_port=read_port(environ, "HEXRUN_STATUS_PORT", 0),
            lead_s=_seconds(environ, "HEXRUN_LEAD_S", LEAD_S_MAX),
            limits=read_limits(environ),
            metrics_for=_one_of(environ, "HEXRUN_METRICS", METRICS_FOR),
            data_keys_file=data_keys_file(environ, data),
            keep_personal_days=_days(environ, "HEXRUN_KEEP_PERSONAL_DAYS", KEEP_PERSONAL_DAYS),
            masked_numbers=environ.get("HEXRUN_MASKED_NUMBERS") or MASKED_NUMBERS,
            webhooks=WebhookSettings.from_environment(environ),
            keep=Keep.from_environment(environ),
        )


def data_keys_file(environ: Mapping[str, str], data: Path) -> Path:
    """Where the keys of personal data are."""
    return Path(environ.get("HEXRUN_DATA_KEYS_FILE") or data / DATA_KEYS_NAME)


def _days(environ: Mapping[str, str], name: str, default: int) -> int:
    given = environ.get(name) or str(default)
    if not (given.isascii() and given.isdigit() and int(given) <= KEEP_PERSONAL_DAYS_MAX):
        raise InvalidValue(name, given, f"days, 0 to {KEEP_PERSONAL_DAYS_MAX}")
    return int(given)


@dataclass(frozen=True, slots=True, kw_only=True)
class WebhookSettings:
    """How webhooks are retried, in seconds, and where they may go."""

    retry_s: tuple[float, ...] = (10, 30, 60, 120, 300, 600, 900, 1_800, 3_600, 7_200)
    give_up_s: float = 86_400
    pause_s: float = 86_400
    allow_private: bool = False

    @classmethod
    def from_environment(cls, environ: Mapping[str, str] = os.environ) -> WebhookSettings:
        """Read the variables above. Raises InvalidValue, naming the variable."""
        default = cls()
        retry = environ.get("HEXRUN_WEBHOOK_RETRY_S")
        private = environ.get("HEXRUN_WEBHOOK_ALLOW_PRIVATE") or "0"
        if private not in ("0", "1"):
            raise InvalidValue("HEXRUN_WEBHOOK_ALLOW_PRIVATE", private, "0 or 1")
        return cls(
            retry_s=tuple(_wait_s("HEXRUN_WEBHOOK_RETRY_S", part) for part in retry.split(","))
            if retry
            else default.retry_s,
            give_up_s=_wait_of(environ, "HEXRUN_WEBHOOK_GIVE_UP_S", default.give_up_s),
            pause_s=_wait_of(environ, "HEXRUN_WEBHOOK_PAUSE_S", default.pause_s),
            allow_private=private == "1",
        )


def _wait_of(environ: Mapping[str, str], name: str, default: float) -> float:
    given = environ.get(name)
    return _wait_s(name, given) if given else default


def _wait_s(name: str, given: str) -> float:
    seconds = _number(name, given)
    if not 0.0 < seconds <= 31 * 86_400:
        raise InvalidValue(name, given, "seconds above 0, 31 days at most")
    return seconds


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


def _seconds(environ: Mapping[str, str], name: str, most: float) -> float:
    given = environ.get(name) or "0"
    seconds = _number(name, given)
    if not 0.0 <= seconds <= most:
        raise InvalidValue(name, given, f"0 to {most:.0f} seconds")
    return seconds


def _one_of(environ: Mapping[str, str], name: str, words: tuple[str, ...]) -> str:
    given = environ.get(name) or words[0]
    if given not in words:
        raise InvalidValue(name, given, "one of " + ", ".join(words))
    return given


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
    path = secret_path(environ, data)
    try:
        if not path.exists():
            if not make:
                how = f"start 'hexrun up --data {data}' first"
                raise StartupError(f"{path.parent}: no secret there; {how}")
            _make_secret(path)
        return read_secret_file(path)
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidValue("HEXRUN_SECRET_FILE", str(path), f"a secret file ({error})") from error


def secret_path(environ: Mapping[str, str], data: Path) -> Path:
    """Where the secret lies, when the environment does not hold it."""
    return Path(environ.get("HEXRUN_SECRET_FILE") or data / SECRET_NAME)


def read_secret_file(path: Path) -> str:
    """Raises InvalidValue, OSError or UnicodeDecodeError."""
    return _checked(path.read_text(), f"HEXRUN_SECRET_FILE {path}")


def _checked(secret: str, name: str) -> str:
    lines = [line.strip() for line in secret.splitlines() if line.strip()]
    for line in lines or [""]:
        if len(line) < SECRET_CHARS_MIN:
            shown = f"{len(line)} characters"
            raise InvalidValue(name, shown, f"{SECRET_CHARS_MIN} characters or more a line")
    return "\n".join(lines)


def is_exposed(host: str, rates: RateSettings) -> bool:
    """Whether others than this machine can connect to who listens there."""
    return bool(rates.trusted_proxies) or not _is_loopback(host)


def check_exposed(secret: str, path: Path | None) -> None:
    """What a secret must be where others than this machine's users get in.

    Raises:
        StartupError: it can be guessed, or others can read its file; says what to do.
    """
    name = "HEXRUN_SECRET" if path is None else f"HEXRUN_SECRET_FILE {path}"
    make = "make one by: python3 -c 'import secrets; print(secrets.token_urlsafe(48))'"
    for line in secret.splitlines():
        if len(set(line)) < SECRET_DISTINCT_MIN:
            raise StartupError(f"{name}: a secret that can be guessed; {make}")
    if path is not None and path.stat().st_mode & 0o007:
        mode = f"{path.stat().st_mode & 0o777:04o}"
        how = f"chmod 0640 {path}, and a new secret if anybody else has used this machine"
        raise StartupError(f"{name}: everybody on this machine can read it (mode {mode}); {how}")


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _rate(environ: Mapping[str, str], name: str, default: str) -> str:
    given = environ.get(name) or default
    if _RATE.fullmatch(given) is None:
        raise InvalidValue(name, given, "n/second, n/minute or n/hour")
    return given


def _networks(environ: Mapping[str, str], name: str) -> tuple[Network, ...]:
    given = [part.strip() for part in environ.get(name, "").split(",") if part.strip()]
    try:
        return tuple(ipaddress.ip_network(part) for part in given)
    except ValueError as error:
        raise InvalidValue(name, environ[name], f"networks such as 10.0.0.0/8 ({error})") from None


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
