"""A module that takes a minute to import, as large ones do on a busy machine."""

import time

time.sleep(60)
