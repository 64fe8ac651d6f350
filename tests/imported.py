"""What a run imports, imported once by the server that runs are forked from."""

import matplotlib.pyplot  # noqa: F401
import peft  # noqa: F401
import pyarrow.parquet  # noqa: F401
import pysam.bcftools  # noqa: F401
import sklearn.linear_model  # noqa: F401
import transformers.models.bert.modeling_bert  # noqa: F401
import transformers.models.llama.modeling_llama  # noqa: F401
from accelerate import PartialState  # noqa: F401
from transformers import AutoModelForCausalLM, AutoModelForMaskedLM, Trainer  # noqa: F401

import genolm.commands.pretrain
import genolm.finetuning.best
import genolm.finetuning.build
import genolm.finetuning.run
import genolm.finetuning.train
import genolm.inference.perplexity
import genolm.inference.predict
import genolm.models.lora
import genolm.pretraining.run
import genolm.reports.figures
import genolm.reports.tables
import genolm.training.trainer
import genolm.variants.job  # noqa: F401
