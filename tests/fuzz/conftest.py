"""How long the fuzzer runs: about a minute with fixed examples in the suite, and with random ones by `make fuzz`."""

from __future__ import annotations

import os

from hypothesis import HealthCheck, settings

# No deadlines and no checks of speed: a busy machine is no defect. `fuzzing.outcome` notices a reader that hangs.
shared = {"deadline": None, "suppress_health_check": list(HealthCheck)}
settings.register_profile("seeded", max_examples=300, derandomize=True, **shared)
settings.register_profile("random", max_examples=int(os.environ.get("FUZZ_EXAMPLES", "5000")), **shared)
settings.load_profile(os.environ.get("FUZZ_PROFILE", "seeded"))
