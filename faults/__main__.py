"""`python -m faults`."""

from faults.cli import main

main()
