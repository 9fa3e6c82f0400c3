"""What holds for all tests: a machine that is busy with something else is no reason for a property to fail, and neither is chance.

A check that everybody runs tries the same examples each time, so that what it finds is of the change that was made; new ones are
for `make fuzz`, which says so by FUZZ or TWO_MASTERS_CASES.
"""

from __future__ import annotations

import os

from hypothesis import HealthCheck, settings

searching = "FUZZ" in os.environ or "TWO_MASTERS_CASES" in os.environ
settings.register_profile("ours", deadline=None, derandomize=not searching, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("ours")
