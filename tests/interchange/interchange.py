#!/usr/bin/env python3
"""Files go back and forth between `ether` and Python's safetensors, PEFT and transformers.

    python3 tests/interchange/interchange.py --ether build/release/tools/ether/ether

Exit status 0: all passed. 1: a test failed. 77: a package is absent, nothing was tested.
README.md says how to install the packages.
"""

import argparse
import importlib.util
import os
import pathlib
import sys
import tempfile
import traceback
import warnings

PACKAGES = ("numpy", "safetensors", "torch", "transformers", "accelerate", "peft")


def run(tests):
    failed = 0
    for test in tests:
        with tempfile.TemporaryDirectory(prefix="ether-") as directory:
            try:
                test(pathlib.Path(directory))
                print(f"ok      {test.__name__}", flush=True)
            except Exception as error:
                failed += 1
                if not isinstance(error, AssertionError):
                    traceback.print_exc()
                print(f"FAILED  {test.__name__}: {error}", flush=True)
    print(f"{len(tests) - failed} passed, {failed} failed")
    return 1 if failed else 0


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--ether", required=True, help="the program")
    parser.add_argument("--serve", help="the example serve, if it is there")
    programs = parser.parse_args()

    absent = [name for name in PACKAGES if importlib.util.find_spec(name) is None]
    if absent:
        print("skipped: this Python has no " + ", ".join(absent))
        return 77

    os.environ["HF_HUB_OFFLINE"] = "1"  # all models are made here
    sys.dont_write_bytecode = True
    warnings.simplefilter("ignore")
    print(*(f"{name} {importlib.import_module(name).__version__}" for name in PACKAGES), sep=", ")

    import checkpoints
    import peft_adapters
    import served_models
    import support
    import transformers_models

    support.ETHER = os.path.abspath(programs.ether)
    tests = checkpoints.TESTS + peft_adapters.TESTS + transformers_models.TESTS
    if programs.serve:
        served_models.SERVE = os.path.abspath(programs.serve)
        tests += served_models.TESTS
    return run(tests)


if __name__ == "__main__":
    sys.exit(main())
