"""Stages `correct` (the numbers of a CPU) and `deterministic` (the same bits twice)."""

import copy
import math
import os
import time

import torch
from harness import (
    DEVICE,
    DRY,
    attempt,
    build,
    char_tokenizer,
    emit,
    exact_float32,
    genome_store,
    model_block,
    relative_error,
    some_alleles,
)


def tiny_config(mixers, causal, **changes):
    from genolm.models.genolm.configuration import GenoLMConfig

    base = dict(vocab_size=16, hidden_size=128, intermediate_size=352, num_hidden_layers=2, num_attention_heads=4)
    base |= dict(filter_groups=8, ssm_head_dim=32, ssm_state_size=32, attention_window=64, initializer_range=0.06)
    base |= dict(max_position_embeddings=512, base_token_ids=[5, 6, 7, 8], pad_token_id=0)
    base |= dict(mixers=mixers, causal=causal)
    return GenoLMConfig(**(base | changes))


def genolm_model(causal, config):
    from genolm.models.genolm.modeling import GenoLMForCausalLM, GenoLMForMaskedLM

    torch.manual_seed(0)
    model = (GenoLMForCausalLM if causal else GenoLMForMaskedLM)(config)
    if "hyena" in config.mixers:  # filters as a trained model may have them
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                if name.endswith("skip"):
                    parameter.mul_(0.5)
    return model


def pass_through(model, inputs, labels, weight, causal, amp, where):
    """Return loss, logits and gradients on a device; amp is bf16's autocast."""
    from genolm.models.loss import weighted_token_loss

    model = copy.deepcopy(model).to(where)
    inputs = {k: v.to(where) for k, v in inputs.items()}
    with torch.autocast(where, torch.bfloat16, enabled=amp):
        logits = model(**inputs).logits
    nats, total = weighted_token_loss(logits, labels.to(where), weight.to(where), causal)
    loss = nats / total
    loss.backward()
    grads = {name: p.grad for name, p in model.named_parameters() if p.grad is not None}
    return loss, logits, grads


def compare(name, model, inputs, labels, weight, causal, reference=True):
    """Compare errors of the GPU with those of the CPU, both against float64 on the CPU."""
    where = DEVICE
    wide = (
        pass_through(copy.deepcopy(model).double(), inputs, labels, weight, causal, False, "cpu") if reference else None
    )
    runs = {"cpu32": (False, "cpu"), "gpu32": (False, where), "cpu16": (True, "cpu"), "gpu16": (True, where)}
    passes = {
        key: pass_through(model, inputs, labels, weight, causal, amp, place) for key, (amp, place) in runs.items()
    }
    truth = wide or passes["cpu32"]
    big = {
        n
        for n, g in truth[2].items()
        if float(g.double().norm()) > 1e-6 * max(float(x.double().norm()) for x in truth[2].values())
    }
    errors = {}
    for key, (_, logits, grads) in passes.items():
        errors[key] = (relative_error(logits, truth[1]), max(relative_error(grads[n], truth[2][n]) for n in big))
    missing = sorted(set(truth[2]) ^ set(passes["gpu16"][2]))
    ok = not missing and all(math.isfinite(x) for pair in errors.values() for x in pair)
    ok &= errors["gpu32"][0] <= max(5 * errors["cpu32"][0], 2e-5) and errors["gpu32"][1] <= max(
        5 * errors["cpu32"][1], 1e-4
    )
    ok &= errors["gpu16"][0] <= max(2 * errors["cpu16"][0], 1e-2) and errors["gpu16"][1] <= max(
        2 * errors["cpu16"][1], 3e-2
    )
    values = {
        f"{key}_{what}": f"{x:.1e}"
        for key, pair in errors.items()
        for what, x in zip(("logits", "grads"), pair, strict=True)
    }
    emit(name, bool(ok), **values, **({"missing": missing} if missing else {}))


def rows(batch, length, padded, generator=None):
    draw = torch.Generator().manual_seed(1)
    ids = torch.randint(5, 9, (batch, length), generator=draw)
    labels, weight = ids.clone(), torch.ones(batch, length)
    inputs = {"input_ids": ids}
    if padded:
        mask = torch.ones(batch, length, dtype=torch.int64)
        mask[0, length - 37 :] = 0
        ids[0, length - 37 :] = 0
        weight[0, length - 37 :] = 0
        inputs["attention_mask"] = mask
    return inputs, labels, weight


def correct():
    """Compare mixers, recipes, attention, caches, scores and baselines with the CPU."""
    from genolm.models.genolm.configuration import MIXERS

    exact_float32()
    torch.set_num_threads(1 if DRY else 4)
    length = 150 if DRY else 700
    for mixer in MIXERS:
        for causal in (True, False):
            padded = not causal
            with attempt(f"{mixer} {'causal' if causal else 'masked, padded'}"):
                model = genolm_model(causal, tiny_config([mixer], causal))
                compare(f"{mixer} {'causal' if causal else 'masked, padded'}", model, *rows(2, length, padded), causal)
    extra = {
        "k-mer tables, masked": (False, dict(mixers=["fir"], kmer_embeddings=[3, 5, 7], kmer_embedding_size=24)),
        "k-mer tables, causal": (True, dict(mixers=["fir"], kmer_embeddings=[2, 4])),
        "equivariant": (
            False,
            dict(mixers=["fir", "ssm", "attention"], num_hidden_layers=3, reverse_complement="equivariant"),
        ),
        "layer norm, GELU, bias": (False, dict(mixers=["convolution", "fir"], norm="layernorm", mlp="gelu", bias=True)),
        "grouped keys": (True, dict(mixers=["attention", "local_attention"], num_key_value_heads=2)),
    }
    for name, (causal, changes) in extra.items():
        with attempt(name):
            changes = dict(changes)
            model = genolm_model(causal, tiny_config(changes.pop("mixers"), causal, **changes))
            compare(name, model, *rows(2, length, not causal), causal)
    for objective in ("masked", "causal"):
        with attempt(f"recipe small-{objective}"):
            torch.manual_seed(0)
            model = build(model_block("small", objective), objective, 514)
            compare(
                f"recipe small-{objective}, 512 bp",
                model,
                *rows(4, 128 if DRY else 512, False),
                objective == "causal",
                reference=False,
            )
    with attempt("both strands give the same"):
        model = (
            genolm_model(
                False,
                tiny_config(["fir", "ssm", "attention"], False, num_hidden_layers=3, reverse_complement="equivariant"),
            )
            .to(DEVICE)
            .eval()
        )
        ids = torch.randint(5, 9, (2, length), device=DEVICE)
        other = (13 - ids).flip(1)
        with torch.no_grad():
            one, two = model(input_ids=ids).logits, model(input_ids=other).logits
        back = two.flip(1)[..., model.model.strands.complement(torch.arange(16, device=DEVICE))]
        emit(
            "equivariant: both strands give the same",
            relative_error(back, one) < 1e-4,
            error=f"{relative_error(back, one):.1e}",
        )
    pieces()
    attentions()
    caches()
    scores()
    devices_of_everything()


def pieces():
    """Activation checkpointing in pieces gives the gradients of a whole row."""
    name = "row in pieces, checkpointed"
    with attempt(name):
        length = 4500 if DRY else 10_000
        mixers = ["fir", "fir_medium", "ssm", "convolution", "local_attention"]
        model = genolm_model(
            True,
            tiny_config(
                mixers,
                True,
                num_hidden_layers=5,
                hidden_size=64,
                num_attention_heads=2,
                filter_groups=4,
                max_position_embeddings=length,
            ),
        ).train()
        inputs, labels, weight = rows(1, length, False)
        whole = pass_through(model, inputs, labels, weight, True, False, DEVICE)
        again = copy.deepcopy(model)
        again.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
        cut = pass_through(again, inputs, labels, weight, True, False, DEVICE)
        worst = max(relative_error(cut[2][n], whole[2][n]) for n in whole[2])
        emit(name, worst < 1e-3, grads=f"{worst:.1e}", logits=f"{relative_error(cut[1], whole[1]):.1e}")


def attentions():
    """Compare every available attention implementation with eager attention on the CPU."""
    for causal in (True, False):
        model = genolm_model(causal, tiny_config(["attention"], causal)).eval()
        inputs, _, _ = rows(2, 150 if DRY else 700, True)
        model.set_attn_implementation("eager")
        with torch.no_grad():
            expected = model(**inputs).logits
        keep = inputs["attention_mask"].bool()
        for kind in ("sdpa", "flex_attention", "flash_attention_2"):
            if kind == "flex_attention" and DRY:
                continue
            if kind == "flash_attention_2":
                import importlib.util

                if DRY or importlib.util.find_spec("flash_attn") is None:
                    continue
            name = f"attention by {kind}, {'causal' if causal else 'masked'}, padded"
            with attempt(name):
                other = copy.deepcopy(model).to(DEVICE)
                other.set_attn_implementation(kind)
                placed = {k: v.to(DEVICE) for k, v in inputs.items()}
                began = time.perf_counter()
                with torch.no_grad():
                    logits = other(**placed).logits.cpu()
                error = relative_error(logits[keep], expected[keep])
                emit(
                    name,
                    error < (2e-2 if kind.startswith("flash") else 1e-4),
                    error=f"{error:.1e}",
                    seconds=round(time.perf_counter() - began, 2),
                )
    if not DRY:
        name = "SDPA takes a fused kernel where nothing is padded"
        with attempt(name):
            from torch.nn.attention import SDPBackend, sdpa_kernel

            model = genolm_model(True, tiny_config(["attention"], True, hidden_size=256)).to("cuda").eval()
            with torch.no_grad(), torch.autocast("cuda", torch.bfloat16), sdpa_kernel([SDPBackend.FLASH_ATTENTION]):
                model(input_ids=torch.randint(5, 9, (2, 1024), device="cuda"))
            emit(name, True)
        name = "local attention takes a fused kernel"
        with attempt(name):
            model = genolm_model(True, tiny_config(["local_attention"], True, hidden_size=256)).to("cuda").eval()
            with (
                torch.no_grad(),
                torch.autocast("cuda", torch.bfloat16),
                sdpa_kernel([SDPBackend.EFFICIENT_ATTENTION, SDPBackend.CUDNN_ATTENTION, SDPBackend.FLASH_ATTENTION]),
            ):
                model(input_ids=torch.randint(5, 9, (2, 1024), device="cuda"))
            emit(name, True)


def caches():
    """Generate with a cache: the tokens without one, and those of the CPU."""
    from genolm.models.genolm.configuration import MIXERS

    name = "generate with a cache, all mixers"
    with attempt(name):
        model = genolm_model(True, tiny_config(list(MIXERS), True, num_hidden_layers=7, kmer_embeddings=[3])).eval()
        ids = torch.randint(5, 9, (3, 80), generator=torch.Generator().manual_seed(3))
        options = {"max_new_tokens": 12 if DRY else 60, "do_sample": False, "pad_token_id": 0, "eos_token_id": None}
        outputs = {}
        for key, where, cache in (("cpu", "cpu", True), ("gpu", DEVICE, True), ("gpu, no cache", DEVICE, False)):
            other = copy.deepcopy(model).to(where)
            began = time.perf_counter()
            outputs[key] = other.generate(
                ids.to(where), attention_mask=torch.ones_like(ids).to(where), use_cache=cache, **options
            ).cpu()
            outputs[key + " s"] = time.perf_counter() - began
        same = {key: float((outputs[key] == outputs["cpu"]).float().mean()) for key in ("gpu", "gpu, no cache")}
        emit(name, min(same.values()) > 0.99, **same, seconds=round(outputs["gpu s"], 2))
    name = "genolm's sampling draws the same bases"
    with attempt(name):
        import numpy as np

        from genolm.inference.sample import Sampling, Spelling, generate_after
        from genolm.tokenizers.encode import make_encoder

        tokenizer = char_tokenizer()
        encoder = make_encoder(tokenizer)
        torch.manual_seed(0)
        model = build(model_block("small", "causal"), "causal", 514).eval()
        spelling = Spelling.of(tokenizer, encoder, model.config.vocab_size)
        given = (
            encoder.encode_batch(
                np.frombuffer(b"ACGTTGCAACGTTGCA", dtype=np.uint8)[None], special_tokens=False
            ).ids.tolist()
            * 4
        )
        num = 16 if DRY else 100
        texts, took = {}, {}
        for where in dict.fromkeys(("cpu", DEVICE)):
            model.to(where)
            began = time.perf_counter()
            texts[where] = generate_after(model, encoder, spelling, given, np.arange(4), num, Sampling(seed=1))
            took[where] = time.perf_counter() - began
        same = [a == b for a, b in zip(texts["cpu"], texts[DEVICE], strict=True)]
        emit(
            name,
            sum(same) >= 3,
            same=f"{sum(same)} of 4",
            ms_a_token={k: round(v / num * 1e3, 2) for k, v in took.items()},
        )


def scores():
    """Compare scores of variants on both devices."""
    import numpy as np

    from genolm.tokenizers.encode import make_encoder
    from genolm.variants.likelihood import score_alleles

    store = genome_store()
    encoder = make_encoder(char_tokenizer())
    for objective in ("masked", "causal"):
        causal = objective == "causal"
        torch.manual_seed(0)
        model = build(model_block("small", objective), objective, 514).eval()
        for kind in ("dense", "isolated", "indels"):
            name = f"scores of small-{objective}, {kind}"
            with attempt(name):
                alleles = some_alleles(store, 6 if DRY else 24, kind, 512)
                estimator = "likelihood" if causal or kind == "indels" else "masked_llr"
                options = dict(causal=causal, window_bp=64 if DRY else 512, estimators=[estimator])
                scored = {}
                for key, where, amp in (("cpu", "cpu", False), ("gpu", DEVICE, False), ("bf16", DEVICE, True)):
                    scored[key] = score_alleles(
                        model.to(where), encoder, store, alleles, autocast=amp, **options
                    ).values[estimator]
                exact, rough = (float(np.abs(scored[key] - scored["cpu"]).max()) for key in ("gpu", "bf16"))
                emit(
                    name,
                    exact < 1e-3 and math.isfinite(rough),
                    float32=f"{exact:.1e}",
                    bf16=f"{rough:.1e}",
                    largest=f"{np.abs(scored['cpu']).max():.2f}",
                )


def devices_of_everything():
    """Compare a forward pass of every baseline on both devices, and run a backward pass."""
    from genolm.models.baselines import BASELINES, build_baseline

    for kind in list(BASELINES)[:: 5 if DRY else 1]:
        name = f"baseline {kind}"
        with attempt(name):
            torch.manual_seed(0)
            model = build_baseline(kind, 1024, 2, base_token_ids=[5, 6, 7, 8])
            ids = torch.randint(5, 9, (4, 1024))
            inputs, logits = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}, {}
            for key, where in (("cpu", "cpu"), ("gpu", DEVICE)):
                model.to(where).eval()
                with torch.no_grad():
                    logits[key] = model(**{k: v.to(where) for k, v in inputs.items()}).logits.float().cpu()
            model.train()
            model(**{k: v.to(DEVICE) for k, v in inputs.items()}).logits.float().square().mean().backward()
            error = relative_error(logits["gpu"], logits["cpu"])
            emit(name, error < 1e-3, error=f"{error:.1e}")


def deterministic():
    """Run each mixer twice under deterministic algorithms, and each baseline once: the same bits, no error."""
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    from genolm.models.genolm.configuration import MIXERS

    torch.use_deterministic_algorithms(True)
    cases = {f"{m} {'causal' if c else 'masked'}": (c, dict(mixers=[m])) for m in MIXERS for c in (True, False)}
    cases["k-mer tables"] = (False, dict(mixers=["fir"], kmer_embeddings=[3, 5, 7], kmer_embedding_size=24))
    cases["equivariant"] = (False, dict(mixers=["fir", "ssm"], reverse_complement="equivariant"))
    cases["dropout"] = (False, dict(mixers=["fir", "attention"], dropout=0.1, kmer_embeddings=[3], kmer_dropout=0.2))
    for name, (causal, changes) in cases.items():
        with attempt(f"deterministic: {name}"):
            changes = dict(changes)
            model = genolm_model(causal, tiny_config(changes.pop("mixers"), causal, **changes)).train()
            inputs, labels, weight = rows(8, 128 if DRY else 2000, not causal)
            passes = []
            for _ in range(2):
                torch.manual_seed(5)
                passes.append(pass_through(model, inputs, labels, weight, causal, True, DEVICE))
            differ = [n for n in passes[0][2] if not torch.equal(passes[0][2][n], passes[1][2][n])]
            emit(f"deterministic: {name}", not differ, differ=differ[:4] or None)
    from genolm.models.baselines import BASELINES, build_baseline

    for kind in list(BASELINES)[:: 5 if DRY else 1]:
        with attempt(f"deterministic: baseline {kind}"):
            torch.manual_seed(0)
            model = build_baseline(kind, 1024, 2, base_token_ids=[5, 6, 7, 8]).to(DEVICE).train()
            ids = torch.randint(5, 9, (8, 1024), device=DEVICE)
            model(input_ids=ids, attention_mask=torch.ones_like(ids)).logits.float().square().mean().backward()
            emit(f"deterministic: baseline {kind}", True)
