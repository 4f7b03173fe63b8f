"""The door to PostgreSQL: every SQL statement of the house lives in here, one module for one kind of row."""
