"""The pool of this process."""

import os

from psycopg.rows import dict_row
from psycopg_pool import ConnectionPool

pool = ConnectionPool(os.environ["DATABASE_URL"], min_size=2, max_size=16, open=False, kwargs={"row_factory": dict_row})
