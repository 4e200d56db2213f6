"""Logs of real orders and couriers: what was asked of a city on real days, read with care.

table     OrderLog and CourierLog, columns that are right once built
report    what was wrong with a file, by row
mapping   how another's columns are read, from YAML
cells     the cells of a CSV or Parquet file, as text by column
parse     text into numbers and instants
rows      rows while they are checked, what is bad in them marked
orders    rows into a log of orders
couriers  rows into a log of couriers
reading   the whole of it: a file or folder into a log and its report
writing   a log as CSV or Parquet, whole or not at all

Files are read and written by `cells`, `mapping`, `reading` and `writing`; the rest does no I/O.
"""
