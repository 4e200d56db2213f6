"""A small, whole and honest history by hand, which tests break in one place each."""

import copy

import pytest

from bench.chaos.checker import Evidence
from bench.chaos.checker.evidence import Run

TENANT = "chaos"
EXPIRES = 10**6


class Story:
    """Writes events, rows, feed and logs that agree with one another."""

    def __init__(self):
        self.evidence = Evidence(transfers=[])
        self._position = 0
        self._transfer = 0

    def log(self, kind, /, **fields):
        self.evidence.logs.append({"log": kind, "ms": 0, **fields})

    def event(self, subject, subject_id, kind, **body):
        events = self.evidence.events
        seq = 1 + sum(e["subject_id"] == subject_id for e in events)
        event_id = len(events) + 1
        events.append(
            {
                "id": event_id,
                "subject_kind": subject,
                "subject_id": subject_id,
                "seq": seq,
                "tenant": TENANT,
                "city": "chaos",
                "at_ms": 1_000 * event_id,
                "kind": kind,
                "body": body,
            }
        )
        previous, self._position = self._position, self._position + 1
        self.evidence.feed.append(
            {
                "position": self._position,
                "prev_position": previous,
                "city": "chaos",
                "tenant": TENANT,
                "event_id": event_id,
            }
        )
        self.evidence.heads = [{"city": "chaos", "position": self._position}]
        self.log(
            "event",
            city="chaos",
            position=self._position,
            subject=subject,
            id=subject_id,
            seq=seq,
        )
        for endpoint in ("w1", "w2"):
            self.log(
                "receipt",
                endpoint=endpoint,
                answer=200,
                event_id=f"e{event_id}",
                position=self._position,
                subject=subject,
                id=subject_id,
                seq=seq,
            )

    def transfer(self, order_id, kind, debit, credit, fen):
        self._transfer += 1
        row = {"id": self._transfer, "order_id": order_id, "kind": kind}
        self.evidence.transfers.append({**row, "debit": debit, "credit": credit, "fen": fen})

    def rider(self, rider_id):
        self.event("rider", rider_id, "went_on_shift", rider={})
        row = {"id": rider_id, "tenant": TENANT, "city": "chaos", "state": "on", "version": 1}
        self.evidence.riders.append(row)

    def action(self, kind, rider, order, ok=True, **fields):
        action_id = f"{rider}-{len(self.evidence.logs)}"
        self.log(
            "action_sent", rider=rider, type=kind, action_id=action_id, order_id=order, **fields
        )
        self.log("action", rider=rider, action_id=action_id, ok=ok, code="ok" if ok else "no")
        return action_id

    def claim(self, order_id, rider):
        """He has it, and the other one hears so."""
        self.action("claim", rider, order_id)
        self.action("claim", "r2", order_id, ok=False)
        self.event("order", order_id, "offered", number=1, rider_id=rider)
        self.event("order", order_id, "accepted", number=1, rider_id=rider)

    def pay(self, order_id, fen):
        """A notice that comes twice and is one payment."""
        customer = f"c-{order_id}"
        self.transfer(order_id, "payment", "gateway/p", f"customer/{TENANT}/{customer}", fen)
        notice = {"provider": "p", "notice_id": f"n-{order_id}", "customer_id": customer}
        for _ in range(2):
            self.log(
                "payment", **notice, fen=fen, order_id=order_id, status=201, transfer=self._transfer
            )

    def place(self, order_id, fen=700):
        customer = f"c-{order_id}"
        self.log("order", customer=customer, order=order_id, city="chaos", price_fen=fen, sent_ms=0)
        stops = [{"kind": "pickup", "state": "planned"}, {"kind": "dropoff", "state": "planned"}]
        order = {"state": "quoted", "price_fen": fen, "stops": stops}
        self.event("order", order_id, "placed", order=order)
        self.event("order", order_id, "opened")
        escrow = f"escrow/{TENANT}"
        self.transfer(order_id, "hold", f"customer/{TENANT}/{customer}", escrow, fen)
        self.evidence.orders.append(
            {
                "id": order_id,
                "tenant": TENANT,
                "city": "chaos",
                "customer_id": customer,
                "price_fen": fen,
                "rider_id": None,
                "state": "open",
                "version": 2,
                "expires_at_ms": EXPIRES,
                "body": {**copy.deepcopy(order), "state": "open", "version": 2},
            }
        )

    def offer(self, order_id, number, rider, round_at_ms):
        self.event("order", order_id, "offered", number=number, rider_id=rider)
        receipt = {"order_id": order_id, "number": number, "round_at_ms": round_at_ms}
        self.evidence.receipts.append(receipt)

    def serve(self, order_id, number, rider):
        self.action("accept", rider, order_id, number=number)
        self.event("order", order_id, "accepted", number=number, rider_id=rider)
        at_ms = 0
        for stop in (0, 1):
            states = {"heading": "heading", "arrived": "arrived", "done": "stop_done"}
            for state, kind in states.items():
                at_ms += 1
                device = {"device_ms": at_ms}
                self.action("stop", rider, order_id, stop=stop, state=state, at_ms=at_ms)
                self.event("order", order_id, kind, rider_id=rider, stop=stop, **device)
        self.event("order", order_id, "finished", number=number, rider_id=rider)
        self.event("order", order_id, "completed")

    def close(self, order_id, state, attempts, stops, settled):
        """The order's row as its events have made it."""
        row = self.row(order_id)
        version = sum(e["subject_id"] == order_id for e in self.evidence.events)
        row |= {"state": state, "version": version}
        row["body"] |= {
            "state": state,
            "version": version,
            "attempts": len(attempts),
            "assignment": None,
            "stops": [{"state": s} for s in stops],
        }
        for number, (rider, how) in attempts.items():
            self.evidence.assignments.append(
                {"order_id": order_id, "number": number, "rider_id": rider, "state": how}
            )
        escrow, fen = f"escrow/{TENANT}", row["price_fen"]
        other = f"sales/{TENANT}" if settled == "capture" else f"customer/{TENANT}/c-{order_id}"
        self.transfer(order_id, settled, escrow, other, fen)

    def row(self, order_id):
        return next(row for row in self.evidence.orders if row["id"] == order_id)


@pytest.fixture
def story():
    """Two riders, an order that one declined and the other served, one that was cancelled, and one
    of the hall."""
    tale = Story()
    for endpoint in ("w1", "w2"):
        tale.log("endpoint", endpoint=endpoint, id=endpoint, tenant=TENANT, city="chaos")
    tale.rider("r1")
    tale.rider("r2")
    tale.evidence.runs = {
        "b.journal": Run("chaos", 1, {150, 160}),
        "a.journal": Run("chaos", 5, {250}),
    }
    tale.place("o1")
    tale.pay("o1", 700)
    tale.offer("o1", 1, "r1", 150)
    tale.action("decline", "r1", "o1", number=1, reason="no r1")
    tale.event("order", "o1", "declined", number=1, rider_id="r1", reason="no r1")
    tale.offer("o1", 2, "r2", 160)
    tale.place("o2")
    tale.offer("o2", 1, "r1", 250)
    tale.serve("o1", 2, "r2")
    tale.log("cancel", order="o2", ok=True, code="cancelled_customer")
    tale.event("order", "o2", "cancelled", by="customer", reason="", rider_id="r1")
    tale.close(
        "o1",
        "completed",
        {1: ("r1", "declined"), 2: ("r2", "finished")},
        ["done", "done"],
        "capture",
    )
    tale.close("o2", "cancelled_customer", {1: ("r1", "withdrawn")}, ["skipped"] * 2, "release")
    tale.place("hall")
    tale.row("hall")["body"]["matching"] = "hall"
    tale.claim("hall", "r1")
    tale.event("order", "hall", "cancelled", by="customer", reason="", rider_id="r1")
    withdrawn = {1: ("r1", "withdrawn")}
    tale.close("hall", "cancelled_customer", withdrawn, ["skipped"] * 2, "release")
    for seq in range(5):
        tale.log("fix", rider="r1", seq=seq, at_ms=10 + seq)
        if seq < 4:
            tale.evidence.fixes[("r1", seq)] = {10 + seq}
    tale.log("fix_acked", rider="r1", seq=3, by="ack")
    return tale
