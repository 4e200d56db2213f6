"""Coordinates in and out: WGS-84 inside, the named system outside; may import geo and dispatch."""

from __future__ import annotations

from typing import Any

from api.http.forms import PlaceForm
from api.settings import CityArea
from dispatch.model import Place
from geo.datum import System, from_wgs84, to_wgs84
from geo.distance import haversine_m
from geo.errors import InvalidValue

# 1 cm on the ground; a phone knows its place to metres.
DECIMALS = 7

_PLACE_KEYS = {"lat", "lon", "system", "text"}


def read_place(form: PlaceForm, field: str, area: CityArea) -> Place:
    """The point in WGS-84, without its address. Raises InvalidValue, naming `field`, if too far."""
    lat, lon = to_wgs84(form.lat, form.lon, form.coordinate_system)
    away_km = haversine_m(area.lat, area.lon, lat, lon) / 1000.0
    if away_km > area.radius_km:
        raise InvalidValue(
            field,
            f"{away_km:.0f} km from the centre of {area.name}",
            f"a place within {area.radius_km:.0f} km of it "
            f"(read as {form.coordinate_system.value})",
        )
    return Place(lat=lat, lon=lon, system=form.coordinate_system.value)


def show_place(lat: float, lon: float, text: str, system: System) -> dict[str, Any]:
    """A WGS-84 point as answers give it."""
    shown_lat, shown_lon = from_wgs84(lat, lon, system)
    return {
        "lat": round(shown_lat, DECIMALS),
        "lon": round(shown_lon, DECIMALS),
        "coordinate_system": system.value,
        "text": text,
    }


def show_places_in(value: Any, system: System) -> Any:
    """A fact's builtins with every place in them as answers give it."""
    if isinstance(value, dict):
        if value.keys() == _PLACE_KEYS:
            return show_place(value["lat"], value["lon"], value["text"], system)
        return {key: show_places_in(inner, system) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [show_places_in(inner, system) for inner in value]
    return value
