"""What riders go by, and how fast each may legally be; imports the standard library."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

LEGAL_SPEED_MPS: Mapping[str, float] = MappingProxyType(
    {
        "foot": 2.5,
        "bicycle": 25 / 3.6,
        "scooter": 25 / 3.6,
        "motorcycle": 50 / 3.6,
        "car": 120 / 3.6,
    }
)
"""The fastest that a vehicle may go. The 25 km/h of an electric bicycle or scooter are those of
GB 17761-2018, a motorcycle's 50 km/h the usual limit of city streets."""

MEAN_KMH: Mapping[str, float] = MappingProxyType(
    {"foot": 5.0, "bicycle": 15.0, "scooter": 21.6, "motorcycle": 23.0, "car": 25.0}
)
"""A vehicle's mean speed in a city, stops at lights included: logs of couriers have none."""

ITEMS: Mapping[str, int] = MappingProxyType(
    {"foot": 3, "bicycle": 5, "scooter": 8, "motorcycle": 8, "car": 20}
)
"""How many items a rider carries who goes by it: logs of couriers do not say."""
