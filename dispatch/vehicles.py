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
