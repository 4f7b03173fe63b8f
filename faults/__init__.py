"""The fault harness: the service's own processes under load, killed, frozen, starved and lied to; then what must hold.

`make faults` runs the quick set, `make faults-full` everything. docs/reliability.md says what is proved.
"""
