"""Places on the ground: where things are, which are near, and how long it takes to get there.

    datum       coordinate systems: WGS-84, GCJ-02, BD-09; the area where they differ
    cells       H3 cells (the only module that imports h3)
    distance    great circles, and a city's plane in metres
    travel      travel-time laws and models
    index       the k nearest of many points
    motion      timed paths and headings
    compiled    the one way in which this project compiles a function
    errors      the error tree of the whole project

Nothing here reads a clock or a socket; the one file read is the packaged border polygon.
"""
