"""Build transformers fast tokenizers from the specs of tokenizer_configs; plain AutoTokenizer opens their folders.

    char               one letter, one token
    kmer               pieces of A, C, G, T cut into k-mers from the left; what remains, and all else, letter by letter
    kmer-overlapping   a k-mer at every base; one with any other letter is unknown
    bpe                trained on the user's genomes (`genolm.tokenizers.bpe`); never merges across other letters

The presets are such specs too: their special tokens, the order of their bases and what they do with case and with
unknown letters are written in the YAML, and the ids follow. `tokenizer_config.json` keeps, under `genolm`, what the
array encoder needs to know.
"""

import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from genolm.config.console import did_you_mean
from genolm.config.shipped import shipped_folder
from genolm.config.yaml import SettingsError, load_settings
from genolm.tokenizers.kmer import OverlappingKmerTokenizer, kmers

SPECS = shipped_folder("tokenizer_configs")
ROLES = ("pad", "unk", "cls", "sep", "mask", "bos", "eos")


def _default_special_tokens() -> dict[str, str]:
    return {role: f"[{role.upper()}]" for role in ROLES}


@dataclass(frozen=True)
class TokenizerSpec:
    """Specification of a tokenizer.

    Attributes:
        kind: how a sequence is cut into tokens.
        k: length of a k-mer, 1 to 8.
        special_tokens: role → token, in the order of their ids, which come first. Two roles may share a token; a name
            that is no role keeps a place.
        bases: the order of the bases in k-mer ids, the last letter of a k-mer counting fastest.
        letters: single letters with ids of their own, after the k-mers; overlapping k-mers have none.
        alphabet: `letters`, or `bytes` for a vocabulary whose ids are ASCII codes.
        case: `upper` and `lower` fold case before anything else; `kept` leaves lower case unknown.
        unknown: each unknown letter is a token, or each `run` of them.
        prefix: special tokens put before a sequence.
        suffix: special tokens put after a sequence.
        padding_side: where shorter rows of a batch are padded by the tokenizer.
        vocab_size: entries of a BPE vocabulary, special tokens included.
        max_token_bp: longest BPE token.
        sample_bp: bases that BPE is trained on at most.
    """

    kind: Literal["char", "kmer", "kmer-overlapping", "bpe"]
    k: int = 1
    special_tokens: dict[str, str] = field(default_factory=_default_special_tokens)
    bases: str = "ACGT"
    letters: str = "ACGTN"
    alphabet: Literal["letters", "bytes"] = "letters"
    case: Literal["upper", "lower", "kept"] = "upper"
    unknown: Literal["letter", "run"] = "letter"
    prefix: list[str] = field(default_factory=list)
    suffix: list[str] = field(default_factory=list)
    padding_side: Literal["left", "right"] = "right"
    vocab_size: int = 4096
    max_token_bp: int = 32
    sample_bp: int = 20_000_000

    def __post_init__(self):
        if not 1 <= self.k <= 8:
            raise SettingsError(f"k is {self.k}; allowed: 1 to 8 (4^8 is 65,536 k-mers)")
        if sorted(self.bases) != list("ACGT"):
            raise SettingsError(f"bases is {self.bases!r}; it must hold A, C, G and T once each")
        for name in ("prefix", "suffix"):
            for token in getattr(self, name):
                if token not in self.special_tokens.values():
                    raise SettingsError(f"{name} has {token!r}, which is not among the special_tokens")
        if self.kind == "bpe" and self.vocab_size < len(set(self.special_tokens.values())) + len(self.letters) + 1:
            raise SettingsError(f"vocab_size is {self.vocab_size}; it leaves no room for a single merge")

    @property
    def first_tokens(self) -> list[str]:
        """The special tokens, each once, in the order of their ids."""
        return list(dict.fromkeys(self.special_tokens.values()))


def spec_names() -> list[str]:
    """Return the names of all specs that come with genolm."""
    return sorted(path.stem for path in SPECS.glob("*.yaml"))


def load_spec(name: str | Path) -> TokenizerSpec:
    """Read a spec by name, or from a YAML file.

    Raises:
        SettingsError: no such spec, or a wrong key or value in it.
    """
    path = Path(name)
    if path.suffix in (".yaml", ".yml"):
        return load_settings(TokenizerSpec, path)
    if str(name) not in spec_names():
        hint = did_you_mean(name, spec_names(), f"there are: {', '.join(spec_names())}", num=3)
        raise SettingsError(
            f"{name!r} is no tokenizer: neither a spec, nor a .yaml file, nor a tokenizer folder; {hint}"
        )
    return load_settings(TokenizerSpec, SPECS / f"{name}.yaml")


def build_tokenizer(spec: TokenizerSpec, sequences: Iterable[str] | None = None) -> PreTrainedTokenizerFast:
    """Build a tokenizer from its spec.

    Args:
        spec: what to build.
        sequences: A, C, G, T to train BPE on; not used by other kinds.

    Raises:
        SettingsError: BPE without sequences.
    """
    if spec.kind == "bpe":
        if sequences is None:
            raise SettingsError("a BPE tokenizer is trained on genomes; give FASTA files")
        from genolm.tokenizers.bpe import train

        backend = train(sequences, spec.first_tokens, spec.letters, spec.vocab_size, spec.max_token_bp)
    elif spec.alphabet == "bytes":
        backend = _byte_backend(spec)
    else:
        backend = Tokenizer(models.WordLevel(_vocabulary(spec), unk_token=spec.special_tokens["unk"]))
    if spec.alphabet == "letters":
        backend.normalizer = _normalizer(spec)
        backend.pre_tokenizer = _pre_tokenizer(spec)
        if spec.kind != "kmer-overlapping":
            backend.decoder = decoders.Fuse()
    if spec.prefix or spec.suffix:
        ids = [(token, backend.token_to_id(token)) for token in {*spec.prefix, *spec.suffix}]
        pair = [*spec.prefix, "$A", *spec.suffix, *(["$B:1", *(f"{t}:1" for t in spec.suffix)])]
        backend.post_processor = processors.TemplateProcessing(
            single=[*spec.prefix, "$A", *spec.suffix], pair=pair, special_tokens=ids
        )
    settings: dict[str, Any] = {"kind": spec.kind, "k": spec.k}
    settings |= {name: getattr(spec, name) for name in ("bases", "alphabet", "case", "unknown")}
    kind = OverlappingKmerTokenizer if spec.kind == "kmer-overlapping" else PreTrainedTokenizerFast
    roles = {f"{role}_token": token for role, token in spec.special_tokens.items() if role in ROLES}
    others = [token for role, token in spec.special_tokens.items() if role not in ROLES]
    return kind(
        tokenizer_object=backend,
        genolm=settings,
        padding_side=spec.padding_side,
        model_input_names=["input_ids", "attention_mask"],
        clean_up_tokenization_spaces=False,
        **({"additional_special_tokens": others} if others else {}),
        **roles,
    )


def load_tokenizer(folder: str | Path) -> PreTrainedTokenizerFast:
    """Open the folder of any fast tokenizer, without downloads and without running code from it."""
    folder = Path(folder)
    if not (folder / "tokenizer.json").is_file():
        raise SettingsError(f"{folder} holds no tokenizer.json; give a folder that `genolm tokenizer` wrote")
    config = folder / "tokenizer_config.json"
    try:
        saved = json.loads(config.read_text()) if config.is_file() else {}
        overlapping = saved.get("genolm", {}).get("kind") == "kmer-overlapping"
        kind = OverlappingKmerTokenizer if overlapping else AutoTokenizer
        tokenizer = kind.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    except Exception as error:  # a broken folder raises almost anything
        # transformers' own advice is to trust that code.
        remote = "trust_remote_code" in str(error)
        reason = "it needs code of its own, which is not run" if remote else " ".join(str(error).split())
        raise SettingsError(f"{folder}: transformers cannot open this tokenizer: {reason}") from error
    if not isinstance(tokenizer, PreTrainedTokenizerFast):
        raise SettingsError(
            f"{folder}: {type(tokenizer).__name__} is no fast tokenizer; give one with a tokenizer.json"
        )
    # Neither is of use here, and both would be written into every checkpoint: code for others to run, and files whose
    # names the folder chose.
    tokenizer.chat_template = None
    for name in ("chat_template", "auto_map"):
        tokenizer.init_kwargs.pop(name, None)
    return tokenizer


def _vocabulary(spec: TokenizerSpec) -> dict[str, int]:
    tokens = spec.first_tokens
    if spec.kind != "char":
        tokens += kmers(spec.bases, spec.k)
    if spec.kind != "kmer-overlapping":
        letters = spec.letters.lower() if spec.case == "lower" else spec.letters
        tokens += [letter for letter in letters if letter not in tokens]
    return {token: i for i, token in enumerate(tokens)}


def _byte_backend(spec: TokenizerSpec) -> Tokenizer:
    """Build a vocabulary whose id is the byte; the special tokens take the ids of control characters."""
    printable = {i: chr(i) for i in range(33, 127)}
    others = (i for i in range(256) if i not in printable and i not in (*range(161, 173), *range(174, 256)))
    # GPT-2's byte alphabet, which the byte-level parts of `tokenizers` speak: unprintable bytes move above 255.
    names = {i: chr(i) for i in range(256)} | {i: chr(256 + n) for n, i in enumerate(others)}
    names |= dict(enumerate(spec.first_tokens))
    vocabulary = {names.get(i, f"<unused{i}>"): i for i in range(512)}
    backend = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    backend.decoder = decoders.ByteLevel()
    return backend


def _normalizer(spec: TokenizerSpec) -> normalizers.Normalizer | None:
    if spec.case == "lower":
        return normalizers.Lowercase()
    if spec.case == "kept":
        return None
    folded = dict.fromkeys(spec.letters + spec.bases)
    return normalizers.Sequence([normalizers.Replace(letter.lower(), letter) for letter in folded])


def _pre_tokenizer(spec: TokenizerSpec) -> pre_tokenizers.PreTokenizer:
    if spec.kind == "kmer-overlapping":
        return pre_tokenizers.WhitespaceSplit()
    if spec.kind == "bpe":
        return pre_tokenizers.Split(Regex(r"[ACGT]+|[\s\S]"), "isolated")
    if spec.kind == "char":
        return pre_tokenizers.Split(Regex(r"[\s\S]"), "isolated")
    kmer = f"[ACGT]{{{spec.k}}}"
    if spec.unknown == "letter":
        return pre_tokenizers.Split(Regex(rf"{kmer}|[\s\S]"), "isolated")
    return pre_tokenizers.Sequence(
        [
            pre_tokenizers.WhitespaceSplit(),
            pre_tokenizers.Split(Regex(f"{kmer}|[{spec.letters}]|[^{spec.letters}]+"), "isolated"),
        ]
    )
