"""A scenario fitted from a log of orders, and how well it does on a day that it has not seen.

counts     orders by weekday, quarter hour and cell
shrinkage  rates of thin bins, drawn towards what is expected of them
rates      the rates of each cell
laws       merchants and their preparation, doors, promises
riders     vehicles and shifts, from a log of couriers
scenario   all of it put together, and written
goodness   the fit against a held-out day, beside a naive rival

Only `scenario` writes files.
"""
