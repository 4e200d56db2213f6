"""Two policies or two cities on the same seeds: which is better, by how much, how sure.

paired    intervals of paired differences, and how many seeds a precision takes
table     the figures of every run, by seed and arm
arms      what is compared: policies and scenarios by name or file
compare   runs seeds until the precision is reached, and says what came out
relabel   the same procedure on labels that chance has dealt: how often it cries wolf

Nothing here runs a simulation itself: the caller hands in who does.
"""
