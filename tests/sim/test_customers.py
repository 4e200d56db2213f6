"""Customers: they place, and cancel when nobody came."""

import pytest

from dispatch.registry import OrderForm
from sim.customers import CancelOrder, CustomerMind, PlaceOrder
from sim.demand import OrderRequest


def request(cancel_at_ms):
    form = OrderForm(customer_id="k", stops=())
    return OrderRequest(
        order_id="a", at_ms=500, job_type="delivery", form=form, ready_ms=0,
        cancel_at_ms=cancel_at_ms,
    )  # fmt: skip


def test_a_customer_places_and_cancels_when_nobody_came():
    mind = CustomerMind(request(9_000))
    assert mind.wake_at() == 500
    assert mind.act(499) == []
    assert mind.act(500) == [PlaceOrder(request=mind.request)]
    assert mind.wake_at() == 9_000
    assert mind.act(9_000) == [CancelOrder(reason="waited_too_long")]
    assert mind.wake_at() is None
    assert mind.act(10_000) == []


@pytest.mark.parametrize("cancel_at_ms", [None, 9_000])
def test_a_customer_who_is_served_does_not_cancel(cancel_at_ms):
    mind = CustomerMind(request(cancel_at_ms))
    mind.act(500)
    mind.settled()
    assert mind.wake_at() is None
    assert mind.act(9_000) == []
