"""The engine, without I/O: it decides who does what in which order and which change is legal.

model       nouns: order, stop, place, assignment, rider
lifecycle   the three tables of states
commands    what is asked
events      what happened
folding     `evolve(order, event) -> order`
transitions `apply(order, command) -> events | refusal`
codes       courier codes as a view
policy      the knobs
snapshot    what a round sees, as read-only columns
plan        what a round decides
solve       candidates, insertion, matching (compiled)
features    one promise or price each: they fill the columns of cost
engine      `decide(snapshot, policy) -> Plan`
referee     checks a plan, sharing no code with the solver
registry    job types by name; `jobs` holds ours
columns     the dispatcher's rows of orders, stops and riders, of `tables`; `routes` in them
messages    what the dispatcher is told and what it asks for
dispatcher  the sans-I/O loop around decide: events in, effects out
"""
