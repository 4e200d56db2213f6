"""How much the store takes, and how much room it needs."""
