"""Thirteen published architectures as baselines, trained from scratch on the rows that a language model sees.

Each file is one architecture, at its published size, with a citation and what differs. `width` scales its channels.
"""

from genolm.config.console import did_you_mean
from genolm.config.plugins import load_installed_plugins
from genolm.models.baseline_configuration import BaselineConfig
from genolm.models.baselines.baseline import Baseline, complete_options
from genolm.models.baselines.basenji import Basenji
from genolm.models.baselines.basset import Basset
from genolm.models.baselines.danq import DanQ
from genolm.models.baselines.deep6mapred import Deep6mAPred
from genolm.models.baselines.deepbind import DeepBind
from genolm.models.baselines.deepcpg import DeepCpG
from genolm.models.baselines.deepsea import DeepSEA
from genolm.models.baselines.deepsite import DeepSite
from genolm.models.baselines.enformer import Enformer
from genolm.models.baselines.gru import GRU
from genolm.models.baselines.kmer_logistic import KmerLogistic
from genolm.models.baselines.mlp import MLP
from genolm.models.baselines.resnet import ResNet

BASELINES: dict[str, type[Baseline]] = {
    "kmer-logistic": KmerLogistic,
    "mlp": MLP,
    "deepbind": DeepBind,
    "deepsea": DeepSEA,
    "basset": Basset,
    "basenji": Basenji,
    "resnet": ResNet,
    "danq": DanQ,
    "deepsite": DeepSite,
    "gru": GRU,
    "deep6mapred": Deep6mAPred,
    "deepcpg": DeepCpG,
    "enformer": Enformer,
}


def register_baseline(name: str, chosen: type[Baseline]) -> None:
    """Add a baseline of one's own: `model: {baseline: NAME}` in a recipe with `plugins`.

    Raises:
        ValueError: another class has that name.
    """
    if BASELINES.setdefault(name, chosen) is not chosen:
        raise ValueError(f"baseline {name!r} is there already: {BASELINES[name].__name__}; take another name")


def baseline_class(name: str) -> type[Baseline]:
    """Return the class of a baseline.

    Raises:
        ValueError: there is none of that name.
    """
    if name not in BASELINES:
        load_installed_plugins()
    if name in BASELINES:
        return BASELINES[name]
    hint = did_you_mean(str(name).lower(), BASELINES, f"there are {', '.join(BASELINES)}", num=3, cutoff=0.5)
    raise ValueError(f"baseline {name!r} is unknown; {hint}. One of your own: set plugins, or GENOLM_PLUGINS=MODULE")


def build_baseline(
    name: str,
    length: int,
    num_outputs: int,
    width: float = 1.0,
    per_base: bool = False,
    *,
    base_token_ids: list[int],
    dropout: float | None = None,
    **options,
) -> Baseline:
    """Build a baseline with fresh weights, drawn from torch's seed.

    Args:
        name: a key of BASELINES.
        length: the longest row that it will see, in bp.
        num_outputs: logits, or targets of a regression.
        width: multiplies channels and units; 1 is as published.
        per_base: give outputs for every base.
        base_token_ids: token ids of A, C, G, T.
        dropout: instead of every published rate.
        options: the baseline's own options; see OPTIONS of its class.

    Raises:
        ValueError: the name or an option is unknown, a value is not allowed, or it has no output per base.
    """
    chosen = baseline_class(name)
    if per_base and not chosen.CAN_PER_BASE:
        can = ", ".join(other for other, that in BASELINES.items() if that.CAN_PER_BASE)
        raise ValueError(f"{name} gives one output per row, not per base; those that can: {can}")
    if num_outputs < 1:
        raise ValueError(f"num_outputs is {num_outputs}; a baseline has at least 1")
    config = BaselineConfig(
        baseline=name,
        length=length,
        num_labels=num_outputs,  # type: ignore[call-arg]
        width=width,
        per_base=per_base,
        base_token_ids=list(base_token_ids),
        dropout=dropout,
        options=complete_options(chosen, name, options),
    )
    return chosen(config)
