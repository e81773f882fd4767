"""Trains with something changed that is hard to meet otherwise. Run it with a baked project's Python, or its torchrun.

python patched_training.py PACKAGE slow-validation|one-to-validate|slow-data OVERRIDE...
"""

import importlib
import sys
import time
from typing import Any


def main() -> None:
    package, what, *overrides = sys.argv[1:]
    sys.argv = ["train", *overrides]
    train = importlib.import_module(f"{package}.train").main
    if what == "slow-validation":
        scoring: Any = importlib.import_module(f"{package}.training.scoring")
        plain = scoring.call

        def slow(model, inputs):
            print("validating", flush=True)
            time.sleep(0.2)
            return plain(model, inputs)

        scoring.call = slow
    else:
        data = importlib.import_module(f"{package}.data.base").ArrayData
        opened = data.split

        def split(self, name):
            if what == "slow-data":
                print("opening", flush=True)
                time.sleep(600)  # until it is ended
            found = opened(self, name)
            return found.part(1 / len(found)) if name == "val" else found

        data.split = split
    train()


if __name__ == "__main__":
    main()
