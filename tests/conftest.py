"""Settings shared by all tests.

``HYPOTHESIS_PROFILE=thorough`` looks at ten times as many random histories, and at new ones.
"""

from __future__ import annotations

import os

from hypothesis import HealthCheck, Phase, settings

# Random histories are drawn from one seed each, which shrinks badly: better a failure at once.
_PHASES = (Phase.explicit, Phase.reuse, Phase.generate)
_CALM = (HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.function_scoped_fixture)
settings.register_profile(
    "default",
    max_examples=60,
    deadline=None,
    derandomize=True,
    phases=_PHASES,
    suppress_health_check=_CALM,
)
settings.register_profile(
    "thorough", max_examples=600, deadline=None, phases=_PHASES, suppress_health_check=_CALM
)
settings.register_profile("quick", settings.get_profile("default"), max_examples=8)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "default"))
