"""Configuration of the genolm family: one backbone, a pattern of mixers, either objective."""

from dataclasses import field

from huggingface_hub.dataclasses import strict
from transformers import AutoConfig, PreTrainedConfig

MIXERS = ("attention", "local_attention", "convolution", "fir", "fir_medium", "hyena", "ssm")
REVERSE_COMPLEMENT = ("augment", "average", "equivariant")
CHOICES = {"mlp": ("swiglu", "gelu"), "norm": ("rmsnorm", "layernorm"), "reverse_complement": REVERSE_COMPLEMENT}
AT_LEAST_ONE = (
    *("vocab_size", "hidden_size", "num_hidden_layers", "max_position_embeddings", "attention_window"),
    *("convolution_size", "convolution_first_size", "convolution_dilations", "fir_size", "fir_medium_size"),
    *("short_filter_size", "hyena_filter_size", "ssm_expand", "ssm_state_size", "ssm_convolution_size"),
    "ssm_chunk_size",
)


def require(holds: bool, key: str, value: object, rule: str) -> None:
    """Raise ValueError unless a rule holds for the value of a key."""
    if not holds:
        raise ValueError(f"{key} is {value}; it {rule}")


@strict
class GenoLMConfig(PreTrainedConfig):
    """Shape of a genolm model.

    Attributes:
        vocab_size: rows of the embedding and columns of the head.
        hidden_size: channels D of the residual stream.
        intermediate_size: inner channels of the MLP; 0 for blocks without one.
        num_hidden_layers: blocks, a mixer and an MLP each.
        mixers: the pattern of mixers, repeated over the layers.
        causal: every output sees its own and earlier tokens only; else both sides.
        reverse_complement: "equivariant" runs both strands through the same weights, so that the outputs for the other
            strand are exactly those of this one, reversed and complemented: twice the cost of a pass, masked objective
            and single nucleotides only. "augment": the data shows both strands, the model reads one. "average": as
            "augment", and evaluation takes the mean over both strands, at twice its cost.
        base_token_ids: token ids of A, C, G, T; "equivariant" and `kmer_embeddings` need them.
        mlp: "swiglu" or "gelu".
        norm: "rmsnorm" or "layernorm".
        norm_eps: added to the variance.
        bias: whether linear maps and layer norms have biases.
        dropout: of the embedding, and of what mixers and MLPs add to the residual stream.
        initializer_range: standard deviation of fresh weights; maps into the residual stream are scaled down by
            sqrt(2 · num_hidden_layers).
        tie_word_embeddings: the head is the embedding.
        max_position_embeddings: tokens over which the filters of `hyena` are laid out. No other mixer has a limit.
        num_attention_heads: query heads of attention.
        num_key_value_heads: grouped-query attention; as many as query heads by default.
        head_dim: channels of a head; hidden_size / num_attention_heads by default.
        rope_theta: base of the rotary frequencies.
        attention_window: tokens that `local_attention` sees: itself and those before; if bidirectional, as many after.
        convolution_size: taps of `convolution`.
        convolution_first_size: taps of the first `convolution` layer; `convolution_size` by default.
        convolution_dilations: of the `convolution` layers, cycled.
        fir_size: taps of `fir`.
        fir_medium_size: taps of `fir_medium`.
        filter_groups: distinct filters of fir, fir_medium and hyena; hidden_size / filter_groups channels share one.
        short_filter_size: taps of the per-channel filters before the gates of fir, fir_medium and hyena.
        hyena_filter_size: width of the network that makes the filters of `hyena`.
        hyena_position_size: odd; position and its sines and cosines, what that network sees.
        hyena_frequency: initial frequency of its sine activations.
        ssm_expand: channels of `ssm` are ssm_expand · hidden_size.
        ssm_state_size: state N of a channel.
        ssm_head_dim: channels of a head.
        ssm_num_groups: heads of a group share B and C.
        ssm_convolution_size: taps of the per-channel filters before the recurrence.
        ssm_chunk_size: tokens of a chunk; it changes speed and memory, not results.
        kmer_embeddings: orders k; each position adds a table row for the k bases that end there (causal) or lie
            around it.
        kmer_embedding_size: width of the rows, mapped to hidden_size by a matrix; by default hidden_size, without one.
        kmer_dropout: fraction of table rows left out in training.
    """

    model_type = "genolm"
    keys_to_ignore_at_inference = ["past_key_values"]

    vocab_size: int = 16
    hidden_size: int = 256
    intermediate_size: int = 704
    num_hidden_layers: int = 8
    mixers: list[str] = field(default_factory=lambda: ["fir", "fir_medium", "ssm", "attention"])
    causal: bool = False
    reverse_complement: str = "augment"
    base_token_ids: list[int] | None = None
    pad_token_id: int | None = None
    bos_token_id: int | None = None
    eos_token_id: int | list[int] | None = None
    cls_token_id: int | None = None
    sep_token_id: int | None = None
    mlp: str = "swiglu"
    norm: str = "rmsnorm"
    norm_eps: float | int = 1e-5
    bias: bool = False
    dropout: float | int = 0.0
    initializer_range: float | int = 0.02
    tie_word_embeddings: bool = False
    use_cache: bool = False
    max_position_embeddings: int = 1024
    num_attention_heads: int = 4
    num_key_value_heads: int | None = None
    head_dim: int | None = None
    rope_theta: float | int = 10_000.0
    attention_window: int = 256
    convolution_size: int = 5
    convolution_first_size: int | None = None
    convolution_dilations: list[int] = field(default_factory=lambda: [1, 2, 4, 8, 16, 32, 64, 128])
    fir_size: int = 7
    fir_medium_size: int = 128
    filter_groups: int = 16
    short_filter_size: int = 3
    hyena_filter_size: int = 64
    hyena_position_size: int = 5
    hyena_frequency: float | int = 10.0
    ssm_expand: int = 2
    ssm_state_size: int = 64
    ssm_head_dim: int = 64
    ssm_num_groups: int = 1
    ssm_convolution_size: int = 4
    ssm_chunk_size: int = 128
    kmer_embeddings: list[int] = field(default_factory=list)
    kmer_embedding_size: int | None = None
    kmer_dropout: float | int = 0.0

    def __post_init__(self, **kwargs):
        """Fill in what depends on other keys, and refuse what no model can be made of."""
        if self.num_key_value_heads is None:
            self.num_key_value_heads = self.num_attention_heads
        if self.head_dim is None:
            self.head_dim = self.hidden_size // max(1, self.num_attention_heads)
        if self.convolution_first_size is None:
            self.convolution_first_size = self.convolution_size
        super().__post_init__(**kwargs)
        self.check()

    def check(self) -> None:
        """Raise ValueError where a value is not allowed, or values do not fit each other."""
        for key in AT_LEAST_ONE:
            value = getattr(self, key)
            require(
                min(value if isinstance(value, list) else [value], default=0) >= 1, key, value, "must be at least 1"
            )
        require(self.intermediate_size >= 0, "intermediate_size", self.intermediate_size, "must be at least 0")
        for key in ("dropout", "kmer_dropout"):
            require(0 <= getattr(self, key) < 1, key, getattr(self, key), "must be at least 0 and below 1")
        for key, allowed in CHOICES.items():
            if getattr(self, key) not in allowed:
                raise ValueError(f"{key} is {getattr(self, key)!r}; allowed: {', '.join(allowed)}")
        used = set(self.layer_mixers)
        if not used or not used <= set(MIXERS):
            raise ValueError(f"mixers has {sorted(used - set(MIXERS)) or 'nothing'}; allowed: {', '.join(MIXERS)}")
        if self.hyena_position_size % 2 == 0 or self.hyena_position_size < 3:
            raise ValueError(f"hyena_position_size is {self.hyena_position_size}; allowed: 3, 5, 7 …")
        if not all(1 <= k <= 12 for k in self.kmer_embeddings):
            raise ValueError(f"kmer_embeddings is {self.kmer_embeddings}; a table of order k has 4^k rows: 1 to 12")
        self._check_mixers(used)
        self._check_bases()

    def _check_mixers(self, used: set[str]) -> None:
        """Check the keys of the mixers in use: heads and groups divide channels."""
        if used & {"attention", "local_attention"}:
            heads, size = self.num_attention_heads, self.head_dim
            require(heads >= 1, "num_attention_heads", heads, "must be at least 1")
            if size is None or size < 2 or size % 2:
                raise ValueError(f"head_dim is {size}; rotary positions turn pairs of channels, so it is even")
            self._check_divides("num_key_value_heads", "num_attention_heads", heads)
        if used & {"fir", "fir_medium", "hyena"}:
            self._check_divides("filter_groups", "hidden_size", self.hidden_size)
        if "ssm" in used:
            inner = self.ssm_expand * self.hidden_size
            self._check_divides("ssm_head_dim", "ssm_expand * hidden_size", inner)
            self._check_divides("ssm_num_groups", "the number of ssm heads", inner // self.ssm_head_dim)

    def _check_divides(self, key: str, what: str, value: int) -> None:
        by = getattr(self, key)
        require(by >= 1 and value % by == 0, key, by, f"must divide {what}, {value}")

    def _check_bases(self) -> None:
        """Check that the tokens of A, C, G, T are given where they are needed, and are four that differ."""
        ids, equivariant = self.base_token_ids, self.reverse_complement == "equivariant"
        if equivariant and self.causal:
            raise ValueError(
                "reverse_complement is equivariant and causal is true; the other strand shows what a causal model "
                "predicts: allowed are augment and average"
            )
        if (equivariant or self.kmer_embeddings) and (ids is None or len(ids) != 4):
            what = "reverse_complement: equivariant" if equivariant else "kmer_embeddings"
            raise ValueError(f"{what} needs base_token_ids, the ids of A, C, G, T: a tokenizer of single nucleotides")
        if ids is not None and (len(set(ids)) < len(ids) or not all(0 <= i < self.vocab_size for i in ids)):
            raise ValueError(f"base_token_ids is {ids}; they must differ and lie below vocab_size, {self.vocab_size}")

    @property
    def layer_mixers(self) -> list[str]:
        """The mixer of each layer."""
        return [self.mixers[i % len(self.mixers)] for i in range(self.num_hidden_layers if self.mixers else 0)]

    @property
    def ssm_num_heads(self) -> int:
        """Heads of `ssm`."""
        return self.ssm_expand * self.hidden_size // self.ssm_head_dim

    @property
    def frame_token_ids(self) -> list[int]:
        """Special tokens, which keep their position when a strand is reversed."""
        ends = self.eos_token_id if isinstance(self.eos_token_id, list) else [self.eos_token_id]
        frame = [self.pad_token_id, self.bos_token_id, self.cls_token_id, self.sep_token_id, *ends]
        return sorted({i for i in frame if i is not None})


if __name__.startswith("genolm."):  # exported code is found by its `auto_map` instead
    AutoConfig.register(GenoLMConfig.model_type, GenoLMConfig)
