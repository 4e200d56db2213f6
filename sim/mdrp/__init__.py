"""The Meal Delivery Routing Problem (Reyes et al., 2018): a real day through the same engine.

`instance` reads a day, `run` drives it, `solution` writes what the benchmark's evaluator reads,
`metrics` measures it. May import dispatch, geo and sim.clock.
"""
