"""The compiled core: candidates, exact insertion, matching. Everything here sees columns only."""
