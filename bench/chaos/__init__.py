"""Breaks the live system on purpose and proves that its promises hold: `python -m bench chaos`.

| module | holds |
|---|---|
| `run` | one run from the first process to the verdict |
| `plant` | the live system as the run starts it: servers on TCP behind proxies, two of each role |
| `levers` | the files by which faults are switched on and off |
| `proxy` | a TCP proxy that cuts, delays, stalls and half-opens |
| `shim` | slow fsync and stepped clocks, preloaded into the processes |
| `schedule` | which fault when, from the seed |
| `faults` | the process that carries the schedule out |
| `load` | the process of the clients: `customers`, `phones`, `probes`, `receivers` |
| `logs` | what the clients were told, as JSON lines |
| `recovery` | how long the clients had to wait after each fault |
| `checker` | reads database, segments and logs, and says which promise is broken |

Only `plant` and `run` import the product. The checker shares no code with it.
"""
