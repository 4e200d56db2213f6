"""Money to the fen: one hold an order, one settlement that fits its end, one payment a notice."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from bench.chaos.checker.evidence import Broken, Evidence, Row
from bench.chaos.checker.tables import ORDER, ended
from bench.chaos.world import TENANT


def fen_off(evidence: Evidence) -> tuple[int, list[Broken]]:
    """How many fen are not where they must be, and where."""
    if evidence.transfers is None:
        return 0, []
    broken: list[Broken] = []
    off = 0
    of_order: dict[str, list[Row]] = {}
    balances: Counter[str] = Counter()
    for row in evidence.transfers:
        of_order.setdefault(row["order_id"] or "", []).append(row)
        balances[row["debit"]] -= row["fen"]
        balances[row["credit"]] += row["fen"]
    escrow: Counter[str] = Counter()
    for order in evidence.orders:
        rows = of_order.get(order["id"], [])
        for fen, what in _of_order(order, rows):
            off += abs(fen)
            broken.append(Broken("fen_off", order["id"], what))
        if not any(row["kind"] in ("capture", "release") for row in rows):
            escrow[f"escrow/{order['tenant']}"] += order["price_fen"]
    for account in {name for name in (*balances, *escrow) if name.startswith("escrow/")}:
        difference = balances[account] - escrow[account]
        if difference:
            off += abs(difference)
            what = f"holds {balances[account]} fen, its open orders {escrow[account]}"
            broken.append(Broken("fen_off", account, what))
    for order_id in of_order.keys() - {order["id"] for order in evidence.orders} - {""}:
        fen = sum(row["fen"] for row in of_order[order_id])
        off += fen
        broken.append(Broken("fen_off", order_id, "transfers of an order that is not there"))
    for fen, notice, what in _payments(evidence):
        off += fen
        broken.append(Broken("fen_off", notice, what))
    return off, broken


def _payments(evidence: Evidence) -> Iterator[tuple[int, str, str]]:
    """Each notice is one payment however often it came, and there is no payment without one."""
    made = {row["id"]: row for row in evidence.transfers or () if row["kind"] == "payment"}
    noted: dict[str, set[int]] = {}
    for line in evidence.told("payment"):
        notice, fen = line["notice_id"], line["fen"]
        if line["transfer"] is None:
            yield fen, notice, f"was answered by {line['status']}"
            continue
        noted.setdefault(notice, set()).add(line["transfer"])
        row = made.get(line["transfer"])
        if row is None:
            yield fen, notice, f"transfer {line['transfer']} is not there"
            continue
        sides = f"gateway/{line['provider']}", f"customer/{TENANT}/{line['customer_id']}"
        stands = row["fen"], row["order_id"], (row["debit"], row["credit"])
        if stands != (fen, line["order_id"], sides):
            yield fen, notice, f"says {fen} fen of {sides}, its transfer is {row}"
    for notice, transfers in noted.items():
        if len(transfers) > 1:
            yield sum(made[t]["fen"] for t in transfers if t in made), notice, "was paid twice"
    for transfer in made.keys() - {t for transfers in noted.values() for t in transfers}:
        yield made[transfer]["fen"], str(transfer), "is a payment of no notice"


def _of_order(order: Row, rows: list[Row]) -> Iterator[tuple[int, str]]:
    price, tenant = order["price_fen"], order["tenant"]
    customer = f"customer/{tenant}/{order['customer_id']}"
    ways = {
        "hold": (customer, f"escrow/{tenant}"),
        "capture": (f"escrow/{tenant}", f"sales/{tenant}"),
        "release": (f"escrow/{tenant}", customer),
    }
    holds = [row for row in rows if row["kind"] == "hold"]
    settled = [row for row in rows if row["kind"] in ("capture", "release")]
    if len(holds) != 1:
        yield price, f"{len(holds)} holds"
    if len(settled) > 1:
        yield sum(row["fen"] for row in settled[1:]), f"settled {len(settled)} times"
    for row in (*holds, *settled):
        if row["fen"] != price:
            yield row["fen"] - price, f"{row['kind']} of {row['fen']} fen, the price is {price}"
        if (row["debit"], row["credit"]) != ways[row["kind"]]:
            yield row["fen"], f"{row['kind']} from {row['debit']} to {row['credit']}"
    how = settled[0]["kind"] if settled else ""
    state = order["state"]
    fitting = "capture" if state == "completed" else "release" if ended(ORDER, state) else ""
    if how != fitting:
        yield price, f"is {state}, settled by {how or 'nothing'}"
