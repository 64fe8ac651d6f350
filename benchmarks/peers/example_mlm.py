"""Masked training as transformers' example script does it, for start_time.py: how long until its first step.

Rebuilt from what examples/pytorch/language-modeling/run_mlm.py of transformers does, in its order: the imports,
dataclasses read by HfArgumentParser, a text file of lines and 5 % of it for validation by `load_dataset`, a model from
its configuration, lines to tokens and tokens to blocks by two passes of `map`, whose results `datasets` keeps for the
next run, and the Trainer. Left out: `evaluate`, which is one more package to import, the Hub, resuming, and all that
comes after training.
"""

import itertools
import logging
import sys
from dataclasses import dataclass, field

import datasets
import torch  # noqa: F401
from datasets import load_dataset
from transformers import (
    MODEL_FOR_MASKED_LM_MAPPING,
    AutoConfig,
    AutoModelForMaskedLM,
    AutoTokenizer,
    DataCollatorForLanguageModeling,
    HfArgumentParser,
    Trainer,
    TrainingArguments,
    set_seed,
)

MODEL_TYPES = ", ".join(kind.model_type for kind in MODEL_FOR_MASKED_LM_MAPPING)
"""The script names them in its help, for which every configuration is imported."""


@dataclass
class OfModel:
    """Which model."""

    config_name: str = field(metadata={"help": f"Folder of a configuration, of one of {MODEL_TYPES}."})
    tokenizer_name: str = field(metadata={"help": "Folder of a tokenizer."})


@dataclass
class OfData:
    """Which letters."""

    train_file: str = field(metadata={"help": "Text, a line an example."})
    validation_split_percentage: int = field(default=5, metadata={"help": "Of the lines, the first ones."})
    max_seq_length: int = field(default=512, metadata={"help": "Tokens of a block."})
    mlm_probability: float = field(default=0.15, metadata={"help": "Share of tokens that are hidden."})


def main() -> None:
    of_model, of_data, arguments = HfArgumentParser((OfModel, OfData, TrainingArguments)).parse_args_into_dataclasses()
    logging.basicConfig(handlers=[logging.StreamHandler(sys.stdout)])
    set_seed(arguments.seed)
    percent = of_data.validation_split_percentage
    raw = datasets.DatasetDict(
        {
            name: load_dataset("text", data_files={"train": of_data.train_file}, split=f"train[{part}]")
            for name, part in (("train", f"{percent}%:"), ("validation", f":{percent}%"))
        }
    )
    config = AutoConfig.from_pretrained(of_model.config_name)
    tokenizer = AutoTokenizer.from_pretrained(of_model.tokenizer_name)
    model = AutoModelForMaskedLM.from_config(config)
    length = of_data.max_seq_length

    def to_tokens(batch):
        return tokenizer(batch["text"], return_special_tokens_mask=True)

    def to_blocks(batch):
        joined = {name: list(itertools.chain.from_iterable(rows)) for name, rows in batch.items()}
        whole = len(joined["input_ids"]) // length * length
        return {
            name: [values[start : start + length] for start in range(0, whole, length)]
            for name, values in joined.items()
        }

    tokens = raw.map(to_tokens, batched=True, remove_columns=["text"], desc="tokens")
    blocks = tokens.map(to_blocks, batched=True, desc="blocks")
    trainer = Trainer(
        model=model,
        args=arguments,
        train_dataset=blocks["train"],
        eval_dataset=blocks["validation"],
        processing_class=tokenizer,
        data_collator=DataCollatorForLanguageModeling(tokenizer, mlm_probability=of_data.mlm_probability),
    )
    trainer.train()


if __name__ == "__main__":
    main()
