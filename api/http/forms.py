"""The requests' bodies, checked field by field; may import pydantic, codec, dispatch and geo."""

from __future__ import annotations

import re
from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StringConstraints

from api.codec import to_json
from api.personal import NAME_CHARS_MAX, read_phone
from dispatch.model import LOAD_DIMENSIONS, Matching
from geo.datum import System
from geo.errors import InvalidValue

MS_MAX = 4_102_444_800_000  # the year 2100
STOPS_MAX = 10
LOAD_MAX = 10_000
SKILLS_MAX = 16
TEXT_CHARS_MAX = 500
ID = r"^[A-Za-z0-9_.:@-]{1,64}$"
ID_PATTERN = re.compile(ID)

Id = Annotated[str, StringConstraints(pattern=ID)]
# PostgreSQL's text has no U+0000.
FreeText = Annotated[str, StringConstraints(max_length=TEXT_CHARS_MAX, pattern=r"^[^\x00]*$")]
AtMs = Annotated[int, Field(strict=True, ge=0, le=MS_MAX, description="ms since 1970 UTC")]
Load = Annotated[int, Field(strict=True, ge=0, le=LOAD_MAX)]
Lat = Annotated[float, Field(strict=True, ge=-90, le=90, allow_inf_nan=False)]
Lon = Annotated[float, Field(strict=True, ge=-180, le=180, allow_inf_nan=False)]


def _storable(details: dict[str, object]) -> dict[str, object]:
    """Any JSON but what no database holds: U+0000, half characters, integers beyond 64 bits."""
    try:
        to_json(details)
    except (ValueError, OverflowError, RecursionError, InvalidValue) as error:
        raise ValueError(f"JSON that can be stored ({error})") from None
    return details


Name = Annotated[
    str,
    StringConstraints(max_length=NAME_CHARS_MAX, pattern=r"^[^\x00-\x1f]*$", strip_whitespace=True),
]
Phone = Annotated[
    str,
    StringConstraints(max_length=32),
    AfterValidator(lambda given: read_phone(given) if given else ""),
    Field(description="E.164, or a mainland number as it is dialled at home"),
]
Details = Annotated[dict[str, object], AfterValidator(_storable)]


class Form(BaseModel):
    """A body: a key that it does not know is refused."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class PlaceForm(Form):
    """A point. The default system is the one in which a mini-program's map gives points."""

    lat: Lat
    lon: Lon
    coordinate_system: System = System.GCJ02
    text: FreeText = Field(default="", repr=False)


class ContactForm(Form):
    """Whom to ask for at a stop. The rider is given a masked number, not this one."""

    name: Name = Field(default="", repr=False)
    phone: Phone = Field(default="", repr=False)


class StopForm(Form):
    """A place to visit, between two instants of the next 24 hours where they are given."""

    place: PlaceForm
    contact: ContactForm | None = None
    earliest_ms: AtMs | None = None
    latest_ms: AtMs | None = None
    place_id: Id | None = None


class QuoteForm(Form):
    """What is wanted. A customer is himself; everybody else says which customer it is for."""

    job_type: Id = "delivery"
    stops: Annotated[tuple[StopForm, ...], Field(min_length=1, max_length=STOPS_MAX)]
    customer_id: Id | None = None
    merchant_id: Id | None = None
    load: Annotated[tuple[Load, ...], Field(min_length=1, max_length=LOAD_DIMENSIONS)] = (1,)
    note: FreeText = Field(default="", repr=False)
    details: Details = Field(default_factory=dict, description="the job type's own form")


class NewOrderForm(QuoteForm):
    """The same, with the token of a quote when its price is to hold."""

    price_token: Annotated[str, StringConstraints(max_length=4_096)] | None = None
    matching: Matching = Field(
        Matching.DISPATCH, description="offered by rounds, or claimed by riders from the hall"
    )


class CancelForm(Form):
    reason: FreeText = ""


class RiderForm(Form):
    """The field worker. `skills` are given by an operator only."""

    id: Id
    vehicle: Id = "scooter"
    speed_mps: Annotated[float, Field(strict=True, gt=0, allow_inf_nan=False)] = 6.0
    capacity: Annotated[
        tuple[Annotated[int, Field(strict=True, ge=1, le=LOAD_MAX)], ...],
        Field(min_length=1, max_length=LOAD_DIMENSIONS),
    ] = (5,)
    skills: Annotated[tuple[Id, ...], Field(max_length=SKILLS_MAX)] = ()
    name: Name | None = Field(default=None, repr=False, description="as before, if left out")
    phone: Phone | None = Field(default=None, repr=False, description="as before, if left out")


class ErasureForm(Form):
    """Whose data: empty for one's own, either id for an operator."""

    customer_id: Id | None = None
    rider_id: Id | None = None


class ShiftForm(Form):
    """On shift from `place` until `shift_end_ms`, or off shift: then neither is given."""

    on: Annotated[bool, Field(strict=True)]
    shift_end_ms: AtMs | None = None
    place: PlaceForm | None = None
