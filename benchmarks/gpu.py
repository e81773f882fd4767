"""How busy an NVIDIA GPU is while something runs."""

import subprocess
from collections.abc import Callable

from measure import Result, summary

SAMPLE = ["nvidia-smi", "--query-gpu=utilization.gpu", "--format=csv,noheader,nounits", "--loop-ms=200"]


def how_busy(name: str, epoch: Callable[[], float], seconds: float = 10) -> Result:
    """Samples the first GPU's utilization while epochs run; it is the driver's: time with any kernel running."""
    with subprocess.Popen(SAMPLE, stdout=subprocess.PIPE, text=True) as sampler:
        trained = 0.0
        while trained < seconds:
            trained += epoch()
        sampler.terminate()
        output, _ = sampler.communicate()
    samples = [float(line) for line in output.split("\n")[:-1] if line.strip().isdigit()]
    return summary("training steps per second", name, samples, unit="%")
