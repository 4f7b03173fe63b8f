"""How fast it is: docs/performance.md says what is measured and how, and what came of it."""
