"""Refuse to open files of a checkpoint that could run code: pickles of anything but tensors and plain values.

Nothing is loaded: torch lists the names in a pickle without importing them, and refuses one whose instructions it does
not support. Cost: reading the pickles, not the tensors beside them.
"""

from pathlib import Path

from torch.serialization import get_unsafe_globals_in_checkpoint

_OPENED = (".pt", ".pth", ".bin", ".pkl", ".ckpt")
"""Suffixes of the files that Trainer, accelerate and DeepSpeed open with torch.load."""
_DISTRIBUTED = (".distcp", ".metadata")
"""Files of torch.distributed.checkpoint, which opens them with plain pickle."""
_DEEPSPEED = {
    "deepspeed.runtime.fp16.loss_scaler.LossScaler",
    "deepspeed.runtime.fp16.loss_scaler.DynamicLossScaler",
    "deepspeed.runtime.zero.config.ZeroStageEnum",
    "deepspeed.utils.tensor_fragment.fragment_address",
}
"""The classes that DeepSpeed writes beside tensors. It loads with weights_only=False, so nothing else may be there."""


def why_not_open(folder: Path, name: str) -> str | None:
    """Return why a file of a checkpoint must not be opened; None where it may be."""
    path = folder / name
    if path.name.lower().endswith(_DISTRIBUTED):
        return "opening it could run code; set fsdp_state_dict_type: FULL_STATE_DICT in the profile"
    if path.suffix.lower() in _OPENED:
        try:
            named = set(get_unsafe_globals_in_checkpoint(path)) - _DEEPSPEED
        except Exception as error:  # each layer below has its own for what it does not know, and for broken files
            reason = " ".join(str(error).split()) or type(error).__name__
            return f"not as torch.save writes tensors, so it is not opened ({reason})"
        return f"opening it could run code: it names {', '.join(sorted(named))}" if named else None
    if name in ("latest", "latest_universal"):  # DeepSpeed opens the folder that is written there
        tag = path.read_text(errors="replace").strip()
        if "/" in tag or tag in ("", ".", "..") or not tag.isprintable() or not (folder / tag).is_dir():
            return f"{tag[:100]!a} is no folder of this checkpoint"
    return None
