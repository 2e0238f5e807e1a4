"""Settings of all tests: hypothesis runs the same examples every time, and more of them on demand."""

import os

from hypothesis import HealthCheck, settings

settings.register_profile("same-every-time", derandomize=True, database=None, deadline=None, max_examples=200)
settings.register_profile(
    "on-demand",
    deadline=None,
    database=None,
    max_examples=int(os.environ.get("THROUGHWAY_EXAMPLES", "100")),
    print_blob=True,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile("on-demand" if "THROUGHWAY_EXAMPLES" in os.environ else "same-every-time")
