"""Run one stage of the GPU check: python benchmarks/gpu/stages.py STAGE --results FILE --work FOLDER [--dry-run].

Each result is a line of JSON, written at once: {stage, name, ok, …}; `ok` is true, false, or null for a
number without a bound. check.py starts the stages, each in a process of its own.
"""

import argparse
import json
import os
import sys
import traceback
from pathlib import Path

MODULES = {
    "environment": ["env", "plan"],
    "correctness": ["correct", "deterministic"],
    "commands": ["pretrain", "speed", "zero", "lora", "fit", "bench"],
    "rates": ["mfu", "profile", "long", "scoring"],
}


def main() -> None:
    """Set what harness.py reads, import the stage's module and run the stage."""
    stages = {stage: module for module, stages in MODULES.items() for stage in stages}
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("stage", choices=stages)
    parser.add_argument("--results", type=Path, required=True)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--dry-run", action="store_true")
    parser.add_argument("--case", type=json.loads, help="of stage mfu: what to measure, as JSON")
    options = parser.parse_args()
    values = {"STAGE": options.stage, "RESULTS": options.results, "WORK": options.work, "DRY": int(options.dry_run)}
    os.environ.update({f"GPU_CHECK_{name}": str(value) for name, value in values.items()})
    from harness import ROOT, emit, one_line

    sys.path.insert(0, str(ROOT))
    try:
        stage = getattr(__import__(stages[options.stage]), options.stage)
        stage(options.case) if options.case else stage()
    except Exception as error:
        traceback.print_exc()
        emit(options.case["name"] if options.case else options.stage, False, error=one_line(error))
        raise SystemExit(1) from None


if __name__ == "__main__":
    main()
