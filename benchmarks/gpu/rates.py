"""Stages `mfu`, `long` and `scoring`: tokens and variants a second, and memory."""

import json
import math
import os
import statistics
import time
from functools import partial
from pathlib import Path

import torch
from harness import (
    DEVICE,
    DRY,
    RESULTS,
    ROOT,
    WORK,
    Gate,
    attempt,
    build,
    char_tokenizer,
    emit,
    free,
    genome_store,
    is_memory,
    model_block,
    one_line,
    peak_gib,
    peak_reserved_gib,
    peer_block,
    reset_peak,
    seconds_of,
    some_alleles,
    synchronize,
)


def mfu(case):
    """Build, compile and warm up one model; then wait for the file NUMBER.go, and measure alone on the GPU.

    Compiling takes a core for a minute or two, so that many workers compile at a time; only when the compiler has done
    does a worker take the gate, and the memory, for its first step.
    """
    from genolm.models.loss import weighted_token_loss
    from genolm.plan.gpus import gpus_here
    from genolm.plan.trace import step_cost

    name, size, objective, window = case["name"], case["size"], case["objective"], case["window"]
    batch, compiled, folder = case["batch"], case["compile"], Path(case["folder"])
    causal, began = objective == "causal", time.perf_counter()
    gate = Gate(folder / "gate")
    if not DRY:
        torch.cuda.set_device(0)
    torch.manual_seed(0)
    block = (peer_block if case["peer"] else model_block)(size, objective)
    model = build(block, objective, window).train().to(DEVICE)
    model.config.use_cache = False
    parameters = sum(p.numel() for p in model.parameters())
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, fused=True)
    ids = torch.randint(5, 9, (batch, window), device=DEVICE)
    weight = torch.ones(batch, window, device=DEVICE)
    if not causal:
        weight = (torch.rand(batch, window, device=DEVICE) < 0.15).float()

    def loss_of(ids, weight):
        nats, total = weighted_token_loss(model(input_ids=ids).logits, ids, weight, causal)
        return nats / total

    inner = torch._dynamo.lookup_backend(os.environ.get("GPU_CHECK_BACKEND", "aot_eager" if DRY else "inductor"))
    graphs = []

    def timed(gm, inputs, **options):
        first = time.perf_counter()
        graph = inner(gm, inputs, **options)
        graphs.append(round(time.perf_counter() - first, 1))
        return graph

    chosen = loss_of
    if compiled == "whole":
        chosen = torch.compile(loss_of, backend=timed)
    elif compiled == "graphs":
        torch._inductor.config.triton.cudagraphs = True
        chosen = torch.compile(loss_of, backend=timed)
    elif compiled == "layers":  # the layers that are alike share what is compiled
        if case["size"] == "large":
            gate.take()
        for layer in next(m for m in model.modules() if isinstance(m, torch.nn.ModuleList)):
            layer.compile(backend=timed)

    def step_by(function):
        def step():
            with torch.autocast(DEVICE, torch.bfloat16):
                loss = function(ids, weight)
            loss.backward()
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)

        return step

    def forget():
        optimizer.zero_grad(set_to_none=True)
        optimizer.state.clear()
        free()

    step = step_by(chosen)
    compile_began = time.perf_counter()
    with torch.autocast(DEVICE, torch.bfloat16):
        loss = chosen(ids, weight)  # compiles, several models at a time
    gate.take()
    loss.backward()
    del loss
    optimizer.zero_grad(set_to_none=True)
    step()
    synchronize()
    compile_seconds = time.perf_counter() - compile_began
    step()
    synchronize()
    forget()
    gate.leave()
    cost = step_cost(partial(build, block, objective, window), batch, window, causal=causal, autocast=True)
    flops = (cost.flops - cost.causal_flops) / (batch * window)
    (folder / f"{case['number']}.ready").write_text(json.dumps({"graphs": graphs}))
    print(f"{name} ready after {time.perf_counter() - began:.0f} s, compiler {graphs}", flush=True)
    while not (folder / f"{case['number']}.go").is_file():
        if (folder / "stop").is_file():
            return
        time.sleep(0.02)
    here = gpus_here()
    peak = here[1].peak if here else None
    kinds = {"eager": uncompiled(step_by(loss_of)), "compiled": step}
    for kind, one in kinds.items():
        with attempt(f"{name}, {kind}"):
            forget()
            reset_peak()
            times = [seconds_of(one, case["steps"], warm=2 if not number else 0) for number in range(3)]
            rate = batch * window / statistics.median(times)
            row = {
                "parameters": f"{parameters / 1e6:.1f} M",
                "window": window,
                "batch": batch,
                "gflop_a_token": round(flops / 1e9, 3),
            }
            row |= {
                "tokens_per_s": round(rate),
                "mfu": round(flops * rate / peak, 4) if peak else None,
                "gib": peak_gib(),
            }
            row |= {"ms_a_step": round(statistics.median(times) * 1e3, 2)}
            if kind == "compiled":
                row |= {"compile_s": round(compile_seconds, 1), "graphs": len(graphs), "as": compiled}
            emit(f"{name}, {kind}", None, **row)
    if case.get("tf32") and not case["peer"]:
        with attempt(f"{name}, eager, TF32"):
            torch.set_float32_matmul_precision("high")
            times = [seconds_of(step_by(loss_of), case["steps"], warm=1) for _ in range(2)]
            emit(
                f"{name}, eager, TF32",
                None,
                tokens_per_s=round(batch * window / min(times)),
                ms_a_step=round(min(times) * 1e3, 2),
            )
            torch.set_float32_matmul_precision("highest")
    if case.get("profile"):
        with attempt(f"{name}, profile"):
            write_profile(name, kinds, batch * window)


def kernels_of(profiler):
    """Return the kernels of a profile, without the annotated ranges that contain kernels."""
    events = [e for e in profiler.events() if "CUDA" in str(getattr(e, "device_type", ""))]
    return [
        e
        for e in events
        if not getattr(e, "is_user_annotation", False) and not e.name.startswith(("Optimizer.", "## ", "ProfilerStep"))
    ]


def uncompiled(step):
    """Return a step that runs no compiled code, of a model whose layers are compiled too."""

    def run():
        with torch.compiler.set_stance("force_eager"):
            step()

    return run


def write_profile(name, kinds, tokens):
    """Write the time of a step by kernel to profile.txt, and report the fraction in which the GPU is busy."""
    from torch.profiler import ProfilerActivity

    activities = [ProfilerActivity.CPU] + ([] if DRY else [ProfilerActivity.CUDA])
    for kind, step in kinds.items():
        seconds = seconds_of(step, 1, warm=1)
        with torch.profiler.profile(activities=activities, record_shapes=True) as profiler:
            step()
            synchronize()
        table = profiler.key_averages(group_by_input_shape=True)
        by = "self_cpu_time_total" if DRY else "self_device_time_total"
        # Kernels alone: an operation's own row says its kernels' time a second time.
        kernels = kernels_of(profiler)
        busy = sum(e.device_time for e in kernels) / 1e6 if kernels else None
        totals = {}
        for event in kernels:
            one = totals.setdefault(event.name, [0, 0.0])
            one[0] += 1
            one[1] += event.device_time / 1e3
        ranked = sorted(totals.items(), key=lambda item: -item[1][1])[:30]
        with open(Path(RESULTS).parent / "profile.txt", "a") as file:
            file.write(f"\n\n== {name}, {kind}: {seconds * 1e3:.1f} ms a step of {tokens:,} tokens\n")
            file.write("".join(f"{ms:9.3f} ms {count:6d} × {kernel[:150]}\n" for kernel, (count, ms) in ranked))
            file.write("\nby operation\n" + table.table(sort_by=by, row_limit=25, max_name_column_width=60))
        emit(
            f"{name}, {kind}: GPU busy",
            None,
            ms_a_step=round(seconds * 1e3, 2),
            kernels=len(kernels) or None,
            kernels_ms=round(busy * 1e3, 2) if busy else None,
            gpu_busy=round(busy / seconds, 3) if busy else None,
            most=[f"{kernel[:60]} {ms:.2f} ms" for kernel, (_, ms) in ranked[:4]],
        )


def profile():
    """Profile a training step of two layers of every mixer, of one long row and of many short ones."""
    from genolm.models.genolm.configuration import MIXERS, GenoLMConfig
    from genolm.models.genolm.modeling import GenoLMForCausalLM

    rows = [(2, 128)] if DRY else [(1, 65_536), (8, 8192)]
    for mixer in ["fir"] if DRY else MIXERS:
        for batch, length in rows:
            name = f"{mixer}, {batch} × {length:,} tokens"
            with attempt(name):
                torch.manual_seed(0)
                config = GenoLMConfig(
                    hidden_size=256, intermediate_size=704, num_hidden_layers=2, num_attention_heads=4, mixers=[mixer],
                    causal=True, max_position_embeddings=length,
                )  # fmt: skip
                model = GenoLMForCausalLM(config).train().to(DEVICE)
                ids = torch.randint(5, 9, (batch, length), device=DEVICE)

                def step(model=model, ids=ids):
                    with torch.autocast(DEVICE, torch.bfloat16):
                        loss = model(input_ids=ids, labels=ids).loss
                    loss.backward()

                step()
                write_profile(name, {"eager": step}, batch * length)
            free()


def long():
    """Train two steps of ever longer rows with activation checkpointing; the second is timed."""
    from genolm.models.genolm.configuration import GenoLMConfig
    from genolm.models.genolm.modeling import GenoLMForCausalLM

    gate = Gate(WORK / "gate")
    gate.take()
    patterns = {
        "fir, fir_medium, ssm, local_attention": ["fir", "fir_medium", "ssm", "local_attention"],
        "hyena": ["hyena"],
        "ssm": ["ssm"],
        "fir, fir_medium": ["fir", "fir_medium"],
        "fir, fir_medium, ssm, attention": ["fir", "fir_medium", "ssm", "attention"],
    }
    lengths = [512, 5000] if DRY else [2**16, 2**18, 2**19, 2**20]
    deadline = time.monotonic() + (60 if DRY else 80)

    def run(mixers, length):
        config = GenoLMConfig(
            hidden_size=64 if DRY else 256, intermediate_size=96 if DRY else 704, num_hidden_layers=4 if DRY else 6,
            num_attention_heads=4, mixers=mixers, causal=True, max_position_embeddings=length, initializer_range=0.06,
        )  # fmt: skip
        torch.manual_seed(0)
        model = GenoLMForCausalLM(config).train().to(DEVICE)
        model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
        optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, fused=True)
        ids = torch.randint(5, 9, (1, length), device=DEVICE)
        reset_peak()
        took, loss_value = 0.0, None
        for _ in range(2):
            began = time.perf_counter()
            with torch.autocast(DEVICE, torch.bfloat16):
                loss = model(input_ids=ids, labels=ids).loss
            loss.backward()
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
            loss_value = float(loss)
            took = time.perf_counter() - began
        return took, loss_value

    times = {}
    for length in lengths:
        for name, mixers in patterns.items():
            if times.get(name, 0) is None:
                continue
            power = 2 if mixers[-1] == "attention" else 1.1
            before = times.get(name)
            expected = before[1] * (length / before[0]) ** power * 2.5 if before else 0
            if time.monotonic() + expected > deadline or expected > 25:
                emit(f"{name}, {length:,} tokens", None, skipped=f"would take {expected:.0f} s")
                times[name] = None
                continue
            try:
                took, loss = run(mixers, length)
                times[name] = (length, took)
                emit(
                    f"{name}, {length:,} tokens",
                    math.isfinite(loss),
                    ktok_per_s=round(length / took / 1e3, 1),
                    gib=peak_gib(),
                    reserved_gib=peak_reserved_gib(),
                    loss=round(loss, 4),
                )
            except Exception as error:
                emit(f"{name}, {length:,} tokens", False, error=one_line(error), memory=is_memory(error))
                times[name] = None
            free()
    if not DRY and time.monotonic() < deadline - 12:
        name = "recipe hyenadna-large-1m, 1,000,000 tokens"
        with attempt(name):
            import yaml

            recipe = yaml.safe_load((ROOT / "recipes/published/hyenadna-large-1m.yaml").read_text())
            model = build(recipe["model"], recipe["objective"]["kind"], 1_000_002).train().to(DEVICE)
            model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
            ids = torch.randint(7, 11, (1, 1_000_000), device=DEVICE)
            reset_peak()
            for _ in range(2):
                began = time.perf_counter()
                with torch.autocast("cuda", torch.bfloat16):
                    loss = model(input_ids=ids, labels=ids).loss
                loss.backward()
                synchronize()
                took = time.perf_counter() - began
            emit(name, math.isfinite(float(loss)), ktok_per_s=round(1000 / took, 1), gib=peak_gib())
    gate.leave()


def scoring():
    """Variants a second of both objectives, by window, density and precision."""
    from genolm.tokenizers.encode import make_encoder
    from genolm.variants.likelihood import score_alleles

    store, encoder = genome_store(), make_encoder(char_tokenizer())
    deadline = time.monotonic() + (40 if DRY else 75)
    sizes = ["small"] if DRY else ["small", "base"]
    plan = {128: 6} if DRY else {512: 384, 2048: 192, 8192: 48}
    for window, num in plan.items():
        for size in sizes:
            for objective in ("masked", "causal"):
                causal = objective == "causal"
                torch.manual_seed(0)
                model = build(model_block(size, objective), objective, window + 2).eval().to(DEVICE)
                for kind in ("dense", "isolated"):
                    for bf16 in (True, False):
                        name = f"{size}-{objective}, {window} bp, {kind}, {'bf16' if bf16 else 'float32'}"
                        if time.monotonic() > deadline:
                            emit(name, None, skipped="no time left")
                            continue
                        with attempt(name):
                            alleles = some_alleles(store, num, kind, window)
                            estimator = "likelihood" if causal else "masked_llr"
                            rows_at_once = max(8, min(256, (131_072 if size == "small" else 65_536) // window))
                            reset_peak()

                            def score(
                                causal=causal,
                                window=window,
                                estimator=estimator,
                                rows_at_once=rows_at_once,
                                bf16=bf16,
                                model=model,
                                alleles=alleles,
                            ):
                                return score_alleles(
                                    model,
                                    encoder,
                                    store,
                                    alleles,
                                    causal=causal,
                                    window_bp=window,
                                    estimators=[estimator],
                                    batch_size=rows_at_once,
                                    autocast=bf16,
                                )

                            first = seconds_of(score, 1)
                            took = min(seconds_of(score, 1) for _ in range(2)) if first < 4 else first
                            emit(
                                name,
                                None,
                                variants_per_s=round(num / took, 1),
                                rows_at_once=rows_at_once,
                                gib=peak_gib(),
                            )
    if not DRY and time.monotonic() < deadline:
        with attempt("how busy the GPU is while scoring"):
            from torch.profiler import ProfilerActivity

            for size, objective in (("small", "masked"), ("base", "causal")):
                model = build(model_block(size, objective), objective, 514).eval().to(DEVICE)
                causal = objective == "causal"
                alleles = some_alleles(store, 192, "dense", 512)
                options = dict(
                    causal=causal,
                    window_bp=512,
                    estimators=["likelihood" if causal else "masked_llr"],
                    batch_size=128,
                    autocast=True,
                )
                took = seconds_of(lambda: score_alleles(model, encoder, store, alleles, **options), 1, warm=1)  # noqa: B023
                with torch.profiler.profile(activities=[ProfilerActivity.CUDA]) as profiler:
                    score_alleles(model, encoder, store, alleles, **options)
                    synchronize()
                busy = sum(e.device_time for e in kernels_of(profiler)) / 1e6
                emit(
                    f"{size}-{objective}, 512 bp: GPU busy",
                    None,
                    fraction=round(busy / took, 3),
                    variants_per_s=round(192 / took),
                )
