"""A strict checker of the benchmark's rules: reads the instance's files and the three solution
files, and shares no code with the program. Exact arithmetic; one list of broken rules in words."""

from __future__ import annotations

from collections import defaultdict
from fractions import Fraction
from math import isqrt
from pathlib import Path

HEADERS = {
    "solution_info_assignments.txt": ["assignment_time", "pickup_time", "courier"],
    "solution_info_orders.txt": [
        "order",
        "placement_time",
        "ready_time",
        "pickup_time",
        "dropoff_time",
        "courier",
    ],
    "solution_info_couriers.txt": ["courier", "departure_time", "origin", "destination"],
}


class Bad(Exception):
    """The files cannot be read as a solution at all."""


def check(instance: Path, solution: Path) -> list[str]:
    """Every rule that the solution breaks, or an empty list."""
    try:
        return _Check(instance, solution).problems()
    except Bad as error:
        return [str(error)]


def ride_minutes(a: tuple[int, int], b: tuple[int, int], metres_per_minute: int) -> int:
    """ceil(distance / metres per minute), in whole numbers only."""
    square = (a[0] - b[0]) ** 2 + (a[1] - b[1]) ** 2
    # ceil(sqrt(s) / v) is ceil(sqrt(s / v^2)): the root of the next whole number.
    need = -(-square // metres_per_minute**2)
    root = isqrt(need)
    return root if root * root == need else root + 1


def table(path: Path) -> list[dict[str, str]]:
    names, *rows = [line.split("\t") for line in path.read_text().splitlines()]
    return [dict(zip(names, row, strict=True)) for row in rows]


class _Check:
    def __init__(self, instance: Path, solution: Path) -> None:
        self.orders = {r["order"]: r for r in table(instance / "orders.txt")}
        self.couriers = {r["courier"]: r for r in table(instance / "couriers.txt")}
        restaurants = table(instance / "restaurants.txt")
        self.shops = {r["restaurant"] for r in restaurants}
        self.spot = {
            row[key]: (int(row["x"]), int(row["y"]))
            for key, rows in (
                ("order", self.orders.values()),
                ("courier", self.couriers.values()),
                ("restaurant", restaurants),
            )
            for row in rows
        }
        (knobs,) = table(instance / "instance_parameters.txt")
        self.speed = int(knobs["meters_per_minute"])
        self.half_pickup = Fraction(int(knobs["pickup service minutes"]), 2)
        self.half_dropoff = Fraction(int(knobs["dropoff service minutes"]), 2)
        self.assignments, self.served, self.moves = (
            self._read(solution / name, header) for name, header in HEADERS.items()
        )
        self.found: list[str] = []

    @staticmethod
    def _read(path: Path, header: list[str]) -> list[list[str]]:
        if not path.is_file():
            raise Bad(f"{path.name} is missing")
        lines = path.read_text().splitlines()
        if not lines or lines[0].split(" ")[: len(header)] != header:
            raise Bad(f"{path.name} does not begin with its header")
        rows = [line.split(" ") for line in lines[1:]]
        for row in rows:
            wide = len(row) > len(header) if "assign" in path.name else len(row) == len(header)
            if not wide or not all(row):
                raise Bad(f"{path.name}: {row} has too few or too many cells")
        return rows

    @staticmethod
    def _time(text: str) -> Fraction:
        try:
            return Fraction(text)
        except ValueError:
            raise Bad(f"{text!r} is no time") from None

    def problems(self) -> list[str]:
        bundles = self._bundles()
        served = self._served(bundles)
        blocks: dict[str, list[list[str]]] = defaultdict(list)
        last = None
        for row in self.moves:
            if row[0] not in self.couriers:
                raise Bad(f"no courier {row[0]}")
            if row[0] != last and row[0] in blocks:
                self.found.append(f"{row[0]}: moves are not in one block")
            last = row[0]
            blocks[row[0]].append(row)
        for courier in self.couriers:
            theirs = sorted((b for b in bundles if b[2] == courier), key=lambda b: b[1])
            self._drive(courier, theirs, blocks.get(courier, []), served)
        return self.found

    def _bundles(self) -> list[tuple[Fraction, Fraction, str, list[str]]]:
        bundles, seen = [], set()
        for row in self.assignments:
            told, pickup, courier, orders = (
                self._time(row[0]),
                self._time(row[1]),
                row[2],
                row[3:],
            )
            if courier not in self.couriers:
                raise Bad(f"no courier {courier}")
            for order in orders:
                if order in seen:
                    self.found.append(f"{order} is assigned twice")
                seen.add(order)
                self._order_in_time(order, told, pickup)
            if told > pickup:
                self.found.append(f"{orders} is assigned after the pickup")
            if len({self.orders[o]["restaurant"] for o in orders}) > 1:
                self.found.append(f"{orders}: a bundle of two restaurants")
            if pickup > int(self.couriers[courier]["off_time"]):
                self.found.append(f"{orders}: picked up after the courier's off time")
            bundles.append((told, pickup, courier, orders))
        return bundles

    def _order_in_time(self, order: str, told: Fraction, pickup: Fraction) -> None:
        if order not in self.orders:
            raise Bad(f"no order {order}")
        known = self.orders[order]
        if told < int(known["placement_time"]):
            self.found.append(f"{order} is assigned before it is placed")
        if pickup < int(known["ready_time"]):
            self.found.append(f"{order} is picked up before it is ready")

    def _served(self, bundles: list) -> dict[str, Fraction]:
        """Drop-off time by order; the file must say the same as the assignments."""
        pickup_of = {o: (pickup, courier) for _, pickup, courier, os in bundles for o in os}
        dropoffs: dict[str, Fraction] = {}
        for order, placed, ready, pickup, dropoff, courier in self.served:
            known = self.orders.get(order)
            if known is None:
                raise Bad(f"no order {order}")
            if order in dropoffs:
                self.found.append(f"{order} has two rows")
            if (placed, ready) != (known["placement_time"], known["ready_time"]):
                self.found.append(f"{order}: other times than the instance's")
            if pickup_of.get(order) != (self._time(pickup), courier):
                self.found.append(f"{order}: the files disagree on its pickup")
            dropoffs[order] = self._time(dropoff)
        if missing := set(pickup_of) - set(dropoffs):
            self.found.append(f"assigned but not dropped off: {sorted(missing)}")
        return dropoffs

    def _drive(self, courier: str, bundles: list, moves: list, dropoffs: dict) -> None:
        """Each bundle is a ride to its restaurant and one to each door, in the assigned order."""
        places = [
            (bundle, stop)
            for bundle in bundles
            for stop in (self.orders[bundle[3][0]]["restaurant"], *bundle[3])
        ]
        if len(places) != len(moves):
            self.found.append(f"{courier}: {len(moves)} moves for {len(places)} stops")
            return
        here, free = "0", Fraction(self.couriers[courier]["on_time"])
        waits = True  # for instructions; with goods on board he goes on at once
        for (bundle, place), (_, departure, origin, destination) in zip(places, moves, strict=True):
            _, pickup, _, orders = bundle
            leave = self._time(departure)
            if origin != here:
                self.found.append(f"{courier} leaves {origin} but is at {here}")
                return
            if destination != place:
                self.found.append(f"{courier} rides to {destination}, its next stop is {place}")
                return
            if leave < free or (leave > free and not waits):
                self.found.append(f"{courier} leaves {origin} at {leave}, is free at {free}")
            start = self.spot[courier if origin == "0" else origin]
            arrival = leave + ride_minutes(start, self.spot[destination], self.speed)
            if place in self.shops:
                first = min(int(self.orders[o]["placement_time"]) for o in orders)
                if leave < first:
                    self.found.append(f"{courier} leaves for {place} before an order is placed")
                if pickup < arrival + self.half_pickup:
                    self.found.append(f"{orders}: picked up before the service allows it")
                free, waits = pickup + self.half_pickup, False
            else:
                if dropoffs.get(place) != arrival + self.half_dropoff:
                    self.found.append(f"{place}: not dropped off at arrival + half the service")
                free, waits = arrival + 2 * self.half_dropoff, place == orders[-1]
            here = destination
