"""What every test process needs before numpy or scikit-learn start threads."""

import os

# Threads that wait for a busy core must not spin: two workers share two cores.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
