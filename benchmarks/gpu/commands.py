"""Stages that run commands: `pretrain`, `speed`, `zero`, `lora`, `fit`, `bench`."""

import json
import math
import re
import shutil
import statistics
import subprocess
import sys
import time

import torch
from harness import DATA, DRY, HERE, ROOT, WORK, build, char_tokenizer, emit, model_block
from processes import end_all, finish, last_words, log_rows, losses, recipe_words, start, weights_digest


def pretrain():
    """Run `genolm pretrain`: the CPU's losses, the same bits twice, exact resumption after a kill."""
    WORK.mkdir(parents=True, exist_ok=True)
    steps, save = (12, 4) if DRY else (120, 40)
    base = {"training.max_steps": steps, "training.save_steps": save}
    exact = base | {"training.bf16": "false", "deterministic": "true"}
    runs = {
        "one": ("small", "causal", exact),
        "two": ("small", "causal", exact),
        "killed": ("small", "causal", exact),
        "masked one": ("small", "masked", exact),
        "masked two": ("small", "masked", exact),
        "bf16": ("small", "causal", base | ({} if not DRY else {"training.bf16": "true"})),
        "cpu": (
            "small",
            "causal",
            base
            | {
                "training.bf16": "false",
                "training.use_cpu": "true",
                "training.max_steps": 12 if DRY else 30,
                "training.lr_scheduler_type": "constant_with_warmup",
                "training.save_strategy": "no",
            },
        ),
        "gpu": (
            "small",
            "causal",
            base
            | {
                "training.bf16": "false",
                "training.max_steps": 12 if DRY else 30,
                "training.lr_scheduler_type": "constant_with_warmup",
                "training.save_strategy": "no",
            },
        ),
    }
    places = {name: WORK / f"pretrain-{name.replace(' ', '-')}" for name in runs}
    for place in places.values():
        shutil.rmtree(place, ignore_errors=True)
    logs = {name: WORK / f"pretrain-{name.replace(' ', '-')}.txt" for name in runs}
    words = {
        name: recipe_words(size, objective, places[name], **changes)
        for name, (size, objective, changes) in runs.items()
    }
    threads = {"OMP_NUM_THREADS": 1 if DRY else 4}
    limit = time.monotonic() + (400 if DRY else 150)
    left = lambda: max(1, limit - time.monotonic())  # noqa: E731
    codes = {}
    began = time.perf_counter()
    if DRY:  # two cores: one after the other
        for name in runs:
            if name != "killed":
                codes[name] = finish(start(words[name], logs[name], **threads), left())
        killed = start(words["killed"], logs["killed"], **threads)
    else:
        going = {name: start(words[name], logs[name], **threads) for name in runs}
        killed = going.pop("killed")
    mark = places["killed"] / "checkpoints" / f"step-{save}" / "manifest.json"
    while not mark.is_file() and killed.poll() is None and left() > 1:
        time.sleep(0.01)
    reached = max([row["step"] for row in log_rows(places["killed"])] or [0])
    end_all(killed)
    at_kill = killed.returncode
    again = start(words["killed"], logs["killed"], **threads)
    if not DRY:
        codes |= {name: finish(process, left()) for name, process in going.items()}
    codes["killed"] = finish(again, left())
    emit("runs", all(code == 0 for code in codes.values()), codes=codes, seconds=round(time.perf_counter() - began, 1))
    for name, code in codes.items():
        if code != 0:
            emit(f"run {name}", False, code=code, output=last_words(logs[name]))
    hashes = {name: weights_digest(places[name]) for name in runs}
    if codes["one"] == codes["two"] == 0:
        emit(
            "deterministic: the same weights twice, causal",
            hashes["one"] == hashes["two"],
            one=hashes["one"],
            two=hashes["two"],
        )
        apart_by = [
            abs(a - b) for a, b in zip(losses(places["one"]).values(), losses(places["two"]).values(), strict=False)
        ]
        emit(
            "deterministic: the same losses twice, causal",
            max(apart_by, default=1) == 0,
            most=max(apart_by, default=None),
        )
    if codes["masked one"] == codes["masked two"] == 0:
        emit(
            "deterministic: the same weights twice, masked",
            hashes["masked one"] == hashes["masked two"],
            one=hashes["masked one"],
            two=hashes["masked two"],
        )
    if codes["one"] == codes["killed"] == 0:
        same = losses(places["one"]) == losses(places["killed"])
        emit(
            "killed and resumed: the same weights and log",
            hashes["one"] == hashes["killed"] and same,
            killed_after_step=reached,
            exit=at_kill,
            log=same,
        )
    if codes["cpu"] == codes["gpu"] == 0:
        one, two = losses(places["cpu"]), losses(places["gpu"])
        first = max(abs(one[s] - two[s]) for s in list(one)[:5])
        most = max(abs(one[s] - two[s]) for s in one)
        emit(
            "losses of the CPU and the GPU in float32",
            first < 1e-4 and most < 5e-3,
            first_5_steps=f"{first:.1e}",
            all_steps=f"{most:.1e}",
            last=two[max(two)],
        )
    if codes["bf16"] == codes["one"] == 0:
        one, two = losses(places["one"]), losses(places["bf16"])
        most = max(abs(one[s] - two[s]) for s in one)
        emit(
            "losses of bf16 and float32",
            most < 5e-2,
            most=f"{most:.1e}",
            last_bf16=two[max(two)],
            last_float32=one[max(one)],
        )
        metrics = {
            name: json.loads((places[name] / "metrics.json").read_text())
            for name in ("one", "bf16")
            if (places[name] / "metrics.json").is_file()
        }
        bits = {name: values.get("test", {}).get("bits_per_base") for name, values in metrics.items()}
        emit("bits per base at the end", None, **bits)


def speed():
    """Tokens a second of `genolm pretrain` alone on the GPU, from the run's log."""
    steps = 6 if DRY else 200
    common = {
        "data.valid": "{}",
        "data.test": "{fraction: 0.1}",
        "evaluation.max_bp": 2000,
        "training.save_strategy": "no",
    }
    cases = {
        "small-causal, 4 × 512": ("small", "causal", {"training.max_steps": steps, "training.logging_steps": 20}),
        "small-causal, 64 × 512": (
            "small",
            "causal",
            {"training.max_steps": steps, "training.logging_steps": 20, "training.per_device_train_batch_size": 64},
        ),
        "base-causal, 4 × 8192": (
            "base",
            "causal",
            {
                "training.max_steps": 25,
                "training.logging_steps": 5,
                "training.per_device_train_batch_size": 4,
                "training.gradient_accumulation_steps": 1,
            },
        ),
    }
    if DRY:
        cases = {"small-causal, 4 × 128": ("small", "causal", {"training.max_steps": 6, "training.logging_steps": 2})}
    for number, (name, (size, objective, changes)) in enumerate(cases.items()):
        place = WORK / f"speed-{number}"
        shutil.rmtree(place, ignore_errors=True)
        began = time.perf_counter()
        code = finish(
            start(recipe_words(size, objective, place, **(common | changes)), WORK / f"speed-{number}.txt"),
            120 if DRY else 45,
        )
        rates = [row["tokens_per_second"] for row in log_rows(place) if "tokens_per_second" in row]
        memory = next(
            (
                line
                for line in (WORK / f"speed-{number}.txt").read_text(errors="replace").replace("\r", "\n").splitlines()
                if line.startswith("memory")
            ),
            "",
        )
        if code != 0:
            emit(f"genolm pretrain {name}", False, code=code, output=last_words(WORK / f"speed-{number}.txt"))
            continue
        emit(
            f"genolm pretrain {name}",
            None,
            tokens_per_s=round(statistics.median(rates[len(rates) // 3 :])),
            memory=memory.removeprefix("memory").strip(),
            seconds=round(time.perf_counter() - began, 1),
        )


def zero():
    """Compare the losses of each profile, with one process, with a plain run; compile DeepSpeed's fused Adam."""
    WORK.mkdir(parents=True, exist_ok=True)
    prefix = "cpu-" if DRY else ""
    steps = 6 if DRY else 20
    kinds = ["zero2"] if DRY else ["zero2", "zero3-offload", "fsdp2"]
    ops = None
    if not DRY:
        with open(WORK / "ops.txt", "wb") as out:
            ops = subprocess.Popen(
                [sys.executable, str(HERE / "fused_adam.py")],
                stdout=out,
                stderr=subprocess.STDOUT,
                cwd=WORK,
                start_new_session=True,
            )
    places = {kind: WORK / f"launch-{kind}" for kind in ["plain", *kinds]}
    changes = {"training.max_steps": steps, "training.save_steps": steps // 2}
    if DRY:
        changes["training.bf16"] = "true"
    going = {}
    for kind, place in places.items():
        shutil.rmtree(place, ignore_errors=True)
        words = recipe_words("small", "causal", place, **changes)
        if kind != "plain":
            words += ["--launch", f"{prefix}{kind} --num_processes 1"]
        process = start(words, WORK / f"launch-{kind}.txt", MASTER_ADDR="127.0.0.1")
        going[kind] = process
        if DRY:
            finish(process, 200)
    codes = {kind: finish(process, 100) for kind, process in going.items()}
    plain = losses(places["plain"])
    for kind in kinds:
        launched = losses(places[kind])
        most = max((abs(plain[s] - launched[s]) for s in plain if s in launched), default=math.inf)
        ok = codes[kind] == 0 and most < 0.1
        emit(
            f"--launch '{kind} --num_processes 1'",
            ok,
            code=codes[kind],
            loss_differs=f"{most:.1e}",
            **({} if ok else {"said": last_words(WORK / f"launch-{kind}.txt")}),
        )
    if not DRY:  # more ranks than GPUs: a mistake that should be one line
        process = start(
            [*recipe_words("small", "causal", WORK / "launch-many", **changes), "--launch", "ddp"],
            WORK / "launch-many.txt",
        )
        emit(
            "--launch ddp with more ranks than GPUs",
            None,
            code=finish(process, 30),
            output=last_words(WORK / "launch-many.txt"),
        )
    if ops is not None:
        code = finish(ops, 90)
        lines = [
            line for line in (WORK / "ops.txt").read_text(errors="replace").splitlines() if line.startswith("RESULT")
        ]
        if code == 0 and lines:
            _, took, differ = lines[0].split()
            emit(
                "DeepSpeed's fused Adam compiles and is AdamW",
                float(differ) < 1e-5,
                seconds=float(took),
                differs=differ,
            )
        else:
            emit("DeepSpeed's fused Adam compiles", False, code=code, output=last_words(WORK / "ops.txt"))


def lora():
    """Rows a second and memory of LoRA and full fine-tuning."""
    from genolm.training.checkpoint import write_checkpoint

    size, window = ("small", 128) if DRY else ("base", 512)
    WORK.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(0)
    model = build(model_block(size, "masked"), "masked", window + 2)
    folder = WORK / "lora-base"
    shutil.rmtree(folder, ignore_errors=True)
    write_checkpoint(folder, model, char_tokenizer(), {"objective": "masked", "window_bp": window})
    table = DATA / "labels.csv"
    peaks = {}
    for method in ("lora", "full"):
        place = WORK / f"finetune-{method}"
        shutil.rmtree(place, ignore_errors=True)
        words = [
            "finetune",
            ROOT / f"recipes/quickstart/{method}.yaml",
            f"model={folder}",
            f"labels.table={table}",
            f"run_dir={place}",
        ]
        words += [
            f"training.max_steps={4 if DRY else 40}",
            "training.logging_steps=" + ("2" if DRY else "5"),
            "training.save_strategy=no",
            "stopping.evaluations=1",
        ]
        words += [
            f"training.per_device_train_batch_size={4 if DRY else 64}",
            "labels.split.by=random",
            "labels.leakage=warn",
        ]
        words += ["training.bf16=true", *(["training.use_cpu=true"] if DRY else [])]
        began = time.perf_counter()
        code = finish(start(words, WORK / f"finetune-{method}.txt"), 150 if DRY else 60)
        if code != 0:
            emit(f"finetune {method}", False, code=code, output=last_words(WORK / f"finetune-{method}.txt"))
            continue
        metrics = json.loads((place / "metrics.json").read_text())
        rates = [row["rows_per_second"] for row in log_rows(place) if "rows_per_second" in row]
        peaks[method] = metrics["peak_memory_bytes"]
        emit(
            f"finetune {method}, {size}, rows of {window} bp",
            None,
            rows_per_s=statistics.median(rates[len(rates) // 3 :]),
            peak_gib=round(metrics["peak_memory_bytes"] / 2**30, 2),
            trained=metrics["parameters"]["trained"],
            auroc=(metrics.get("test", {}).get("auroc") or {}),
            seconds=round(time.perf_counter() - began, 1),
        )
    if len(peaks) == 2:
        emit(
            "memory of LoRA to that of full",
            peaks["lora"] < 0.6 * peaks["full"] if not DRY else None,
            fraction=round(peaks["lora"] / peaks["full"], 3),
        )


def fit():
    """Run with fit_batch and a micro-batch that does not fit."""
    place = WORK / "fit"
    shutil.rmtree(place, ignore_errors=True)
    changes = {
        "fit_batch": "true",
        "training.max_steps": 2,
        "training.per_device_train_batch_size": 4 if DRY else 96,
        "training.gradient_accumulation_steps": 1,
        "training.save_strategy": "no",
    }
    words = recipe_words("small" if DRY else "base", "causal", place, **changes)
    began = time.perf_counter()
    code = finish(start(words, WORK / "fit.txt"), 150 if DRY else 75)
    text = (WORK / "fit.txt").read_text(errors="replace")
    # A progress bar may precede a message in its line.
    messages = re.findall(r"(?:out of memory with|memory     |fitted     )[^\r\n]*", text)
    fitted = json.loads((place / "fitted_batch.json").read_text()) if (place / "fitted_batch.json").is_file() else None
    emit(
        "fit_batch on a GPU",
        code == 0 and (DRY or fitted is not None),
        code=code,
        fitted=fitted,
        seconds=round(time.perf_counter() - began, 1),
        messages=messages[-4:] if messages else last_words(WORK / "fit.txt"),
    )
    refusals = [line for line in messages if "not even one window fits" in line]
    if not DRY:
        emit("the estimate of memory after the error", not refusals, messages=refusals[:1] or None)


def bench():
    """Run the scripts of `make bench-gpu`, small."""
    scripts = {
        "mfu.py": "--sizes small --objectives causal --windows 1024 --tokens 16384 --steps 3 --rounds 2",
        "mixers.py": "--device cuda --lengths 8192 65536 --rounds 2 --patience 3 --modes causal --parts operator",
        "scoring.py": "--device cuda --bf16 --sites 16 --rounds 1 --window 512 --recipe small",
    }
    if DRY:  # without mfu.py, whose compiler takes minutes on a CPU
        scripts = {
            "mixers.py": "--lengths 64 --rounds 1 --patience 1 --modes causal --parts operator --mixers fir",
            "scoring.py": "--sites 4 --rounds 1 --window 64 --recipe small",
        }
    going = {}
    for name, words in scripts.items():
        with open(WORK / f"bench-{name}.txt", "wb") as out:
            command = [sys.executable, "-u", str(ROOT / "benchmarks" / name), *words.split()]
            going[name] = subprocess.Popen(
                command, cwd=ROOT, stdout=out, stderr=subprocess.STDOUT, start_new_session=True
            )
    for name, process in going.items():
        code = finish(process, 75)
        text = (WORK / f"bench-{name}.txt").read_text(errors="replace")
        # mixers.py looks for the longest row that trains, without end where memory is large.
        ok = code == 0 or (name == "mixers.py" and code == "too slow" and "sdpa" in text)
        emit(f"benchmarks/{name} runs", ok, code=code, output=text.strip()[-900:])
