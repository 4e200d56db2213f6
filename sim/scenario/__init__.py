"""A scenario: everything that a simulated city is made of, valid once built; read from YAML."""

from dispatch.vehicles import LEGAL_SPEED_MPS
from sim.scenario.checks import HOUR_MS, WEEKDAYS
from sim.scenario.merchants import CongestionKnobs, Law, MerchantKind, MerchantKnobs
from sim.scenario.orders import (
    Burst,
    CustomerKnobs,
    OrderKnobs,
    Peak,
    Promise,
    RainKnobs,
    SpecialDay,
    Spell,
)
from sim.scenario.reading import (
    first_wrong,
    load_scenario,
    parse_scenario,
    read_yaml,
    shipped,
)
from sim.scenario.riders import (
    SCOOTER,
    SPEED_LIMIT_MPS,
    BreakKnobs,
    HomeKnobs,
    RiderKnobs,
    Shift,
    Vehicle,
)
from sim.scenario.table import ANY, QUARTERS, DemandKnobs, Doors, KnownMerchant, Rate
from sim.scenario.tables import TABLES, read_table, table_text
from sim.scenario.text import utf8_text
from sim.scenario.town import CityKnobs, TravelKnobs
from sim.scenario.whole import Scenario

__all__ = [
    "ANY",
    "HOUR_MS",
    "LEGAL_SPEED_MPS",
    "QUARTERS",
    "SCOOTER",
    "SPEED_LIMIT_MPS",
    "TABLES",
    "WEEKDAYS",
    "BreakKnobs",
    "Burst",
    "CityKnobs",
    "CongestionKnobs",
    "CustomerKnobs",
    "DemandKnobs",
    "Doors",
    "HomeKnobs",
    "KnownMerchant",
    "Law",
    "MerchantKind",
    "MerchantKnobs",
    "OrderKnobs",
    "Peak",
    "Promise",
    "RainKnobs",
    "Rate",
    "RiderKnobs",
    "Scenario",
    "Shift",
    "SpecialDay",
    "Spell",
    "TravelKnobs",
    "Vehicle",
    "first_wrong",
    "load_scenario",
    "parse_scenario",
    "read_table",
    "read_yaml",
    "shipped",
    "table_text",
    "utf8_text",
]
