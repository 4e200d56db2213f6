"""Says which promise the system has broken, from what it left behind and what its clients say.

| module | holds |
|---|---|
| `tables` | the life cycles, written again from `docs/lifecycle.md` |
| `evidence` | everything that is judged, as plain values |
| `gather` | reads it: PostgreSQL by SQL, segments and journals by msgpack, logs by JSON |
| `history` | folds the events of one order or rider and names what cannot be |
| `search` | looks for personal data in the clear |
| `orders`, `hall`, `actions`, `fixes`, `feed`, `plans` | a promise or two each |
| `money`, `webhooks`, `personal` | the same |
| `verdict` | all of them together |

Shares no code with the product: it would share its mistakes.
"""

from bench.chaos.checker.evidence import Broken, Evidence
from bench.chaos.checker.gather import gather
from bench.chaos.checker.verdict import PROMISES, Verdict, judge

__all__ = ["PROMISES", "Broken", "Evidence", "Verdict", "gather", "judge"]
