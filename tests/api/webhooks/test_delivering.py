"""Events reach real receivers: in order within an order, whatever fails, and none is lost."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any

import asyncpg
import pytest

from api.clock import now_ms
from api.store import Store
from api.webhooks import make_key, verify

from .conftest import FAST, HERE, Drop, Receiver, Senders, go_on
