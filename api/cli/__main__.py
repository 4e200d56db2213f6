"""`python -m api.cli`, which the supervisor starts the roles with."""

from api.cli import main

main()
