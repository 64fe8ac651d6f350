"""Check genolm on one CUDA GPU in about nine minutes: python benchmarks/gpu/check.py --out FOLDER [--budget 500].

Each stage is a process with a time limit. Results are appended to FOLDER/results.jsonl as they come, and
FOLDER/results.md is written anew after each stage, so that an interrupted run keeps what it has. Stages by priority:

    env            versions; GEMM, copy, FFT, SDPA; the cost of starting an operation
    profile        kernels of a step of every mixer, one long row and many short ones
    plan           peak memory of real steps against what `--plan` computes
    correct        every mixer, recipe, cache, score and baseline against the CPU, in float32 and bf16
    pretrain       `genolm pretrain`: the CPU's losses, the same bits twice, exact resumption after SIGKILL
    deterministic  operations without a deterministic form
    zero           --launch zero2, zero3-offload and fsdp2 with one process; DeepSpeed's fused Adam
    mfu            tokens a second and MFU, eager and compiled, against Llama and ModernBERT; a profile
    lora           rows a second and memory of LoRA and full fine-tuning
    fit            fit_batch after an out-of-memory error
    speed          tokens a second of `genolm pretrain` alone on the GPU
    long           rows of 64k to 1M tokens with activation checkpointing
    scoring        variants a second, 512 to 8,192 bp, bf16 and float32
    bench          the scripts of `make bench-gpu`, small

plan, correct, pretrain, deterministic, zero and bench run three at a time while the models of mfu compile; what is
timed runs alone. --dry-run runs every stage on a CPU, tiny.
"""

import argparse
import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
sys.path[:0] = [str(HERE), str(ROOT)]

from data import write_data  # noqa: E402

# Stage → its limit in seconds.
LIMITS = {
    "env": 60, "plan": 110, "correct": 150, "pretrain": 150, "deterministic": 70, "zero": 110, "mfu": 330, "speed": 100,
    "profile": 60, "long": 100, "scoring": 90, "lora": 110, "fit": 80, "bench": 80,
}  # fmt: skip
UNTIMED = ("plan", "correct", "pretrain", "deterministic", "zero", "bench")  # nothing is timed in these
# What mfu measures, by priority: size, objective, window, windows of a batch, peer, how it is compiled.
CASES = [
    ("base", "causal", 8192, 4, False, "layers"),
    ("base", "masked", 8192, 4, False, "layers"),
    ("base", "causal", 8192, 4, True, "layers"),
    ("base", "masked", 8192, 4, True, "layers"),
    ("large", "causal", 8192, 2, False, "layers"),
    ("large", "causal", 8192, 2, True, "layers"),
    ("large", "masked", 8192, 2, False, "layers"),
    ("large", "masked", 8192, 2, True, "layers"),
    ("small", "causal", 512, 64, False, "graphs"),
    ("base", "masked", 1024, 32, False, "layers"),
    ("base", "masked", 1024, 32, True, "layers"),
    ("base", "causal", 1024, 32, False, "layers"),
    ("base", "causal", 1024, 32, True, "layers"),
    ("base", "causal", 8192, 4, False, "whole"),
]
"""By layers a model compiles in a third of the time, and was as fast."""
PROFILED = {
    ("base", "masked", 8192, False, "layers"),
    ("base", "causal", 8192, False, "layers"),
}


class Run:
    """Starts stages, ends them at their limits, and writes what they report."""

    def __init__(self, options):
        self.options, self.began = options, time.monotonic()
        self.out, self.work, self.dry = options.out, options.work, options.dry_run
        self.results = self.out / "results.jsonl"
        self.out.mkdir(parents=True, exist_ok=True)
        self.work.mkdir(parents=True, exist_ok=True)
        self.times, self.codes = {}, {}

    def left(self):
        """Return the seconds left of the budget."""
        return self.options.budget - (time.monotonic() - self.began)

    def environment(self):
        """Return the environment of a stage."""
        cache = self.work / "inductor"
        variables = os.environ | {
            "PYTHONUNBUFFERED": "1", "HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false",
            "TORCHINDUCTOR_CACHE_DIR": str(cache), "TRITON_CACHE_DIR": str(cache / "triton"),
            "TORCH_EXTENSIONS_DIR": str(self.work / "extensions"), "PYTHONDONTWRITEBYTECODE": "1",
        }  # fmt: skip
        variables["PYTHONPATH"] = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
        if self.dry:
            variables |= {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": "", "DS_ACCELERATOR": "cpu"}
        return variables

    def start(self, stage, log, more=(), env=()):
        """Start the process of a stage; its output goes to a log in the work folder."""
        paths = ["--results", str(self.results), "--work", str(self.work)]
        command = [sys.executable, "-u", str(HERE / "stages.py"), stage, *paths]
        command += ["--dry-run"] * self.dry + list(more)
        with open(self.work / log, "wb") as file:
            return subprocess.Popen(
                command, cwd=ROOT, stdout=file, stderr=subprocess.STDOUT, start_new_session=True,
                env=self.environment() | dict(env),
            )  # fmt: skip

    def end(self, process):
        """End a process and all its children."""
        try:
            import psutil

            started = psutil.Process(process.pid).children(recursive=True) if process.poll() is None else []
        except Exception:
            started = []
        for one in started:  # a launcher's ranks are in process groups of their own
            with contextlib.suppress(Exception):
                one.kill()
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()

    def wait(self, stage, process, log, limit):
        """Wait for a stage until its limit, and report how it ended."""
        began = time.monotonic()
        limit = min(limit * (3 if self.dry else 1), self.left())
        try:
            code = process.wait(max(1, limit))
        except subprocess.TimeoutExpired:
            code = f"ended after {limit:.0f} s"
        self.close(stage, process, log, code, time.monotonic() - began)

    def close(self, stage, process, log, code, seconds):
        """End a stage's processes; report its exit code, time and log."""
        self.end(process)
        self.finish(stage, code, seconds)
        self.keep(stage, self.work / log)
        self.write()

    def finish(self, stage, code, seconds):
        """Report how a stage ended: a fault unless its exit code is 0."""
        self.codes[stage], self.times[stage] = code, seconds
        row = {"exit": code, "seconds": round(seconds, 1)}
        self.report(stage, "stage ran to its end", code == 0, **row)

    def report(self, stage, name, ok, **values):
        """Append a result."""
        with open(self.results, "a") as file:
            file.write(json.dumps({"stage": stage, "name": name, "ok": ok} | values) + "\n")

    def keep(self, stage, path, most=60_000):
        """Append the end of a log to log.txt."""
        text = path.read_text(errors="replace").replace("\r", "\n") if path.is_file() else ""
        with open(self.out / "log.txt", "a") as file:
            file.write(f"\n===== {stage}: {path.name}\n{text[-most:]}\n")

    def stage(self, name):
        """Run a stage to its end or limit, where there is time for it."""
        if not self.selected(name):
            return
        if self.left() < 20:
            self.skip(name)
            return
        print(f"[{time.monotonic() - self.began:5.0f} s] {name}", flush=True)
        self.wait(name, self.start(name, f"{name}.txt"), f"{name}.txt", LIMITS[name])

    def skip(self, name):
        """Report that there was no time for a stage."""
        self.codes[name] = "no time left"
        self.report(name, "stage ran to its end", None, skipped="no time left")
        self.write()

    def selected(self, name):
        """Return whether --only and --skip leave a stage in."""
        return name in (self.options.only or LIMITS) and name not in self.options.skip

    def rows(self):
        """Return all results so far."""
        return [json.loads(line) for line in self.results.read_text().splitlines()] if self.results.is_file() else []

    def write(self):
        """Write results.md from all lines so far."""
        rows = self.rows()
        wrong = [row for row in rows if row["ok"] is False]
        seconds = time.monotonic() - self.began
        ends = (f"{s} {self.times.get(s, 0):.0f} s" + (f" ({c})" if c else "") for s, c in self.codes.items())
        text = [f"# genolm on a GPU: {len(rows)} results, {len(wrong)} faults, {seconds:.0f} s\n"]
        text.append(f"stages: {', '.join(ends)}\n")
        if wrong:
            text.append("## Faults\n")
            text += [f"- **{row['stage']}**: {row['name']}: {values_of(row)}" for row in wrong]
            text.append("")
        for stage in dict.fromkeys(row["stage"] for row in rows):
            text += [f"## {stage}\n", *table([row for row in rows if row["stage"] == stage]), ""]
        (self.out / "results.md").write_text("\n".join(text) + "\n")


def values_of(row):
    return ", ".join(f"{k} {v}" for k, v in row.items() if k not in ("stage", "name", "ok") and v is not None)[:600]


def table(rows):
    """Return a table where rows have the same keys, else lines."""
    keys = list(dict.fromkeys(k for row in rows for k in row if k not in ("stage", "name", "ok")))
    values = [row[k] for row in rows for k in keys if k in row]
    if len(keys) > 14 or any(isinstance(v, (list, dict)) or len(str(v)) > 60 for v in values):
        return [f"- {mark(row)} {row['name']}: {values_of(row)}" for row in rows]
    cells = [[mark(row), row["name"], *("" if row.get(k) is None else str(row[k]) for k in keys)] for row in rows]
    lines = [["", "", *keys], ["---"] * (len(keys) + 2), *cells]
    return [f"| {' | '.join(line)} |" for line in lines]


def mark(row):
    return {True: "ok", False: "FAULT", None: ""}[row["ok"]]


class Workers:
    """Models of mfu that compile in the background."""

    def __init__(self, run):
        self.run, self.folder = run, run.work / "mfu"
        shutil.rmtree(self.folder, ignore_errors=True)
        self.folder.mkdir(parents=True)
        self.waiting, self.running = list(enumerate(run.options.cases)), {}
        # The gate of the stage plan, which fills the memory too.
        (self.folder / "gate").symlink_to(run.work / "gate")
        (run.work / "gate").touch()

    def describe(self, number, case):
        """Return what a worker is to measure."""
        size, objective, window, batch, peer, compiled = case
        whose = {"masked": "modernbert", "causal": "llama"}[objective] if peer else "genolm"
        how = {"layers": " by layers", "graphs": " CUDA graphs", "whole": ""}[compiled]
        name = f"{whose} {size} {objective} {window}{how}"
        key = (size, objective, window, peer, compiled)
        values = {"size": size, "objective": objective, "window": window, "batch": batch, "peer": peer}
        values |= {"number": number, "name": name, "compile": compiled, "folder": str(self.folder)}
        values |= {"steps": 1 if self.run.dry else 4, "tf32": (size, objective, window) == ("base", "causal", 8192)}
        return values | {"profile": key in PROFILED or (self.run.dry and number == 0)}

    def fill(self):
        """Start workers, up to the number that may compile at a time."""
        for number, (_, process, state) in list(self.running.items()):
            if process.poll() is not None and state != "done":
                self.running[number] = (self.running[number][0], process, "done")
        busy = sum(state == "compiling" and not self.ready(number) for number, (_, _, state) in self.running.items())
        while self.waiting and busy < self.run.options.workers:
            number, case = self.waiting.pop(0)
            case = self.describe(number, case)
            env = {} if self.run.dry else {"TORCHINDUCTOR_COMPILE_THREADS": "3", "OMP_NUM_THREADS": "2"}
            process = self.run.start("mfu", f"mfu-{number}.txt", ["--case", json.dumps(case)], env)
            self.running[number] = (case, process, "compiling")
            busy += 1

    def ready(self, number):
        """Return whether a worker has compiled its model."""
        return (self.folder / f"{number}.ready").is_file()

    def settled(self):
        """Return whether every worker has compiled its model or ended."""
        return not self.waiting and all(self.ready(n) or p.poll() is not None for n, (_, p, _) in self.running.items())

    def until(self, deadline):
        """Wait until all have compiled, or until the deadline."""
        while not self.settled() and time.monotonic() < deadline:
            self.fill()
            time.sleep(0.2)

    def time(self, seconds_each):
        """Let each compiled model be measured alone; end the workers that have not compiled."""
        for case, process, _ in self.running.values():
            number = case["number"]
            if process.poll() is None and not self.ready(number):
                self.run.end(process)
                self.note(case, "not compiled in time")
        for number, case in self.waiting:
            self.note(self.describe(number, case), "not started in time")
        for case, process, _ in self.running.values():
            number = case["number"]
            if process.poll() is None and self.run.left() > 8:
                (self.folder / f"{number}.go").touch()
                try:
                    process.wait(max(1, min(seconds_each, self.run.left())))
                except subprocess.TimeoutExpired:
                    self.note(case, f"not measured in {seconds_each} s")
            self.run.end(process)
            self.run.keep("mfu", self.run.work / f"mfu-{number}.txt", most=6000)
            self.run.write()

    def exit_code(self):
        """Return the first exit code of a measured model that is not 0, else 0."""
        codes = [process.poll() for case, process, _ in self.running.values() if self.ready(case["number"])]
        return next((code for code in codes if code), 0)

    def stop(self):
        """End all workers."""
        for _, process, _ in self.running.values():
            self.run.end(process)

    def note(self, case, what):
        """Report that a model was not measured."""
        self.run.report("mfu", case["name"], None, skipped=what)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="folder of the results")
    parser.add_argument("--work", type=Path, help="folder of data, runs and compiled kernels (default: OUT/work)")
    parser.add_argument("--budget", type=float, default=500, help="seconds for all stages (500)")
    parser.add_argument("--only", nargs="+", choices=list(LIMITS), help="these stages")
    parser.add_argument("--skip", nargs="+", choices=list(LIMITS), default=[], help="all stages but these")
    parser.add_argument("--workers", type=int, default=4, help="models of mfu that compile at a time (4)")
    parser.add_argument("--cases", type=int, default=len(CASES), help=f"the first models of mfu ({len(CASES)})")
    parser.add_argument("--dry-run", action="store_true", help="run every stage on a CPU, tiny")
    options = parser.parse_args()
    if not options.dry_run and shutil.which("nvidia-smi") is None:
        parser.error("there is no NVIDIA GPU here; --dry-run runs every stage on a CPU")
    options.cases = CASES[: options.cases]
    if options.dry_run:
        options.cases = [(s, o, 128, 2, peer, how) for s, o, _, _, peer, how in (CASES[0], CASES[2], CASES[7])]
        options.workers = 1
        options.budget = max(options.budget, 2400)
    options.out = options.out.resolve()
    options.work = (options.work or options.out / "work").resolve()
    run = Run(options)
    if not (run.work / "data" / "labels.csv").is_file():
        write_data(run.work / "data", options.dry_run)
    run.stage("env")
    run.stage("profile")
    workers = Workers(run) if run.selected("mfu") else None
    try:
        run_untimed(run, workers)
        if workers is not None:
            # The rest, in the worst case: speed 60, long 80, scoring 75, lora 60.
            reserve = 0 if options.only else 210
            seconds = 900 if run.dry else max(20, min(LIMITS["mfu"], run.left() - reserve - 90))
            workers.until(time.monotonic() + seconds)
            began = time.monotonic()
            num_ready = sum(map(workers.ready, workers.running))
            print(f"[{began - run.began:5.0f} s] mfu: {num_ready} of {len(options.cases)} compiled", flush=True)
            workers.time(120 if run.dry else 20)
            run.finish("mfu", workers.exit_code(), time.monotonic() - began)
        for name in ("lora", "fit", "speed", "long", "scoring"):
            run.stage(name)
    finally:
        if workers is not None:
            workers.stop()
        run.write()
    print((run.out / "results.md").read_text()[:9000])
    return int(any(row["ok"] is False for row in run.rows()))


def run_untimed(run, workers):
    """Run the stages that time nothing, three at a time, while workers compile."""
    waiting, running = [name for name in UNTIMED if run.selected(name)], {}
    while waiting or running:
        while waiting and len(running) < (1 if run.dry else 3) and run.left() > 20:
            name = waiting.pop(0)
            print(f"[{time.monotonic() - run.began:5.0f} s] {name}", flush=True)
            running[name] = (run.start(name, f"{name}.txt"), time.monotonic())
            if name == "plan" and not run.dry:
                time.sleep(1)  # it takes the gate first
        if waiting and not running:
            for name in waiting:
                run.skip(name)
            break
        if workers is not None and not run.dry:
            workers.fill()
        for name, (process, began) in list(running.items()):
            took = time.monotonic() - began
            if process.poll() is not None or took > LIMITS[name] * (4 if run.dry else 1) or run.left() < 5:
                del running[name]
                code = process.poll()
                code = f"ended after {took:.0f} s" if code is None else code
                run.close(name, process, f"{name}.txt", code, took)
        time.sleep(0.2)


if __name__ == "__main__":
    sys.exit(main())
