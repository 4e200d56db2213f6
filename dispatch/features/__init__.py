"""One promise or price each: a feature fills columns of `solve.terms` before the kernels run.

A feature is a module with `fill(...)`; the engine lists them. They do not know each other.
"""
