"""Serves one model by HTTP: on a laptop, and in the container contracts of the clouds. Stands on onnxruntime; no torch.

What is needed for it is the extra `serve` of this package.
"""

import os

# The runtime tells its maker of each machine that loads it, unless this is set before it is imported.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
