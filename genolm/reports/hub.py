"""Publish a folder on the Hugging Face Hub: checkpoint files, model card, and nothing private.

The files to copy are listed, so no other file in a run's folder can be published.
"""

import contextlib
import json
import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from genolm.models.safe_loading import check_config, check_weights
from genolm.reports.card import model_card

REQUIRED = ("genolm.json", "config.json", "tokenizer.json", "tokenizer_config.json")
MODEL_FILES = ("model*.safetensors", "model.safetensors.index.json", "generation_config.json")
TOKENIZER_FILES = ("special_tokens_map.json", "added_tokens.json", "vocab.json", "vocab.txt", "merges.txt")
COMMON_LICENSES = (
    *("apache-2.0", "mit", "bsd-3-clause", "cc-by-4.0", "cc-by-sa-4.0", "cc-by-nc-4.0", "cc0-1.0", "gpl-3.0"),
    "other",
)

_CLASSIFIERS = ("ForSequenceClassification", "ForTokenClassification")
_FILE_KEYS = {"run_dir", "fasta", "sha256", "include", "exclude", "regions", "tokenizer", "test_path"}
"""Keys of a recipe whose values are files or URLs, and never names on the Hub."""
_DATA_SUFFIXES = (".parquet", ".jsonl", ".json", ".csv", ".tsv", ".gz", ".zst")
_SECRETS = ("token", "key", "signature", "sig", "credential", "password")


def find_final_checkpoint(run: Path) -> Path:
    """Return the checkpoint folder of a run, or the folder itself if it is one.

    Raises:
        ValueError: there is no such folder, or a file that a published model needs is missing from it.
    """
    if not run.is_dir():
        raise ValueError(f"{run} is not a folder; give the run_dir of a finished `genolm pretrain`, or its checkpoint")
    checkpoint = (run / "checkpoint" if (run / "checkpoint").is_dir() else run).resolve()
    if not (checkpoint / "genolm.json").is_file():
        raise ValueError(
            f"{run} holds no checkpoint with a genolm.json; give the run_dir of a `genolm pretrain` that has finished"
        )
    missing = [name for name in REQUIRED if not (checkpoint / name).is_file()]
    if missing:
        raise ValueError(f"{checkpoint} lacks {', '.join(missing)}; it may have been copied in part")
    check_weights(checkpoint)
    check_config(checkpoint / "config.json")
    for name in ("config.json", "tokenizer_config.json"):
        if "auto_map" in json.loads((checkpoint / name).read_text()):
            raise ValueError(f"{checkpoint / name} has auto_map, which would run others' code; remove that key")
    return checkpoint


def check_license(license: str) -> str:
    """Return the identifier of a licence in lower case; the Hub checks on upload that it knows it.

    Raises:
        ValueError: it cannot be an identifier.
    """
    identifier = license.strip().lower()
    if not re.fullmatch(r"[a-z0-9][a-z0-9.+-]*", identifier):
        raise ValueError(f"licence {license!r} is not an identifier such as {', '.join(COMMON_LICENSES)}")
    return identifier


def publish_folder(checkpoint: Path, out: Path | None) -> Path:
    """Return the folder to write, `publish` next to the checkpoint by default.

    Raises:
        ValueError: writing it would delete files that `genolm publish` did not write.
    """
    folder = out or checkpoint.parent / "publish"
    if out is None and folder.is_symlink():
        raise ValueError(f"{folder} is a link; give --out the folder to write")
    folder = folder.resolve()
    if checkpoint.is_relative_to(folder):
        raise ValueError(f"{folder} holds the checkpoint itself; give --out a folder of its own")
    if folder.exists() and not folder.is_dir():
        raise ValueError(f"{folder} is a file; give --out a folder")
    inside = list(folder.iterdir()) if folder.is_dir() else []
    ours = {"README.md", "genolm.json"} <= {path.name for path in inside} and all(path.is_file() for path in inside)
    if inside and not ours:
        raise ValueError(f"{folder} holds other files, which would be lost; give --out a new or empty folder")
    return folder


def write_folder(checkpoint: Path, folder: Path, repo_id: str, license: str, export_code: bool = False) -> None:
    """Write the folder as a whole, without machine paths and pickles.

    Args:
        checkpoint: of `find_final_checkpoint`.
        folder: of `publish_folder`.
        repo_id: `user/name`.
        license: of `check_license`.
        export_code: add the code of genolm's own architecture.

    Raises:
        ValueError: a file is a link, or `export_code` is set for an architecture of transformers.
    """
    ours = json.loads((checkpoint / "config.json").read_text()).get("model_type") == "genolm"
    if export_code and not ours:
        raise ValueError(
            f"{checkpoint} has an architecture of transformers, which needs no code; leave out --export-code"
        )
    curve = checkpoint.parent / "loss.png"
    has_curve = checkpoint.name == "checkpoint" and curve.is_file()
    patterns = (*REQUIRED, *MODEL_FILES, *TOKENIZER_FILES)
    files = [_regular(path) for pattern in patterns for path in checkpoint.glob(pattern)]
    files += [_regular(curve)] if has_curve else []
    aside = folder.with_name(f"{folder.name}.partial")
    shutil.rmtree(aside, ignore_errors=True)
    aside.mkdir(parents=True)
    for path in files:
        shutil.copy2(path, aside / path.name)
    metadata = without_paths(json.loads((checkpoint / "genolm.json").read_text()))
    (aside / "genolm.json").write_text(json.dumps(metadata, indent=1))
    if export_code:
        _add_code(aside)
    tokenizer = json.loads((checkpoint / "tokenizer_config.json").read_text()).get("genolm", {})
    needs = ("code" if export_code else "genolm") if ours else None
    card = model_card(metadata, tokenizer=tokenizer, repo_id=repo_id, license=license, curve=has_curve, needs=needs)
    (aside / "README.md").write_text(card)
    shutil.rmtree(folder, ignore_errors=True)
    os.replace(aside, folder)


def _add_code(folder: Path) -> None:
    """Add the code of genolm's own architecture, and name its classes in `config.json` for the Auto classes."""
    for path in (Path(__file__).parents[1] / "models" / "genolm").glob("*.py"):
        if path.name != "__init__.py":
            shutil.copyfile(path, folder / path.name)
    config = json.loads((folder / "config.json").read_text())
    language_model = "ForCausalLM" if config["causal"] else "ForMaskedLM"
    heads = {"": "Model"} | {head: head for head in (language_model, *_CLASSIFIERS)}
    config["auto_map"] = {"AutoConfig": "configuration.GenoLMConfig"}
    config["auto_map"] |= {f"AutoModel{head}": f"modeling.GenoLM{name}" for head, name in heads.items()}
    (folder / "config.json").write_text(json.dumps(config, indent=2))


def _regular(path: Path) -> Path:
    """Refuse a link, through which any file of this machine could be published."""
    if path.is_symlink() or not path.is_file():
        raise ValueError(
            f"{path} is a link or a special file and is not published; put a copy of the file in its place"
        )
    return path


def without_paths(value: Any, is_file: bool = False) -> Any:
    """Return the same data with local paths cut to their last part, and without passwords in URLs or access tokens.

    Args:
        value: contents of a `genolm.json`.
        is_file: whether strings in it name files, so that `data/x.fa` is a path and not a name on the Hub.
    """
    if isinstance(value, dict):
        return {
            without_paths(key, is_file): without_paths(item, is_file or key in _FILE_KEYS)
            for key, item in value.items()
            if not str(key).endswith("hub_token")
        }
    if isinstance(value, list):
        return [without_paths(item, is_file) for item in value]
    if not isinstance(value, str) or "/" not in value:
        return value
    if "://" in value and not value.startswith("file:"):
        return _without_secrets(value)
    local = value.startswith(("/", "~", "./", "../", "file:")) or value.endswith(_DATA_SUFFIXES)
    # A name on the Hub has one slash.
    is_file = is_file or local or value.count("/") > 1 or os.path.exists(value)
    return Path(value).name if is_file else value


def _without_secrets(url: str) -> str:
    """Return a URL without its user and password, and without the query's keys and signatures."""
    from urllib.parse import urlsplit

    parts = urlsplit(url)
    query = [pair for pair in parts.query.split("&") if not pair.partition("=")[0].lower().endswith(_SECRETS)]
    return parts._replace(netloc=parts.netloc.rpartition("@")[2], query="&".join(query)).geturl()


def check_repo_id(repo_id: str) -> None:
    """Check the name of a repository by the Hub's own rules.

    Raises:
        ValueError: it breaks them, or is not USER/NAME.
    """
    from huggingface_hub.errors import HFValidationError
    from huggingface_hub.utils import validate_repo_id

    try:
        validate_repo_id(repo_id)
    except HFValidationError as error:
        raise ValueError(f"{repo_id!r} is not a name for a repository: {error}") from None
    if repo_id.count("/") != 1:
        raise ValueError(f"{repo_id!r} is not a name for a repository; write USER/NAME")


def upload_folder(folder: Path, repo_id: str, private: bool) -> str:
    """Create the repository if it does not exist, send the folder as one commit, and return its URL.

    Raises:
        ValueError: the Hub cannot be reached or refuses, or the repository has another visibility.
    """
    from huggingface_hub import HfApi, constants
    from huggingface_hub.errors import RepositoryNotFoundError

    if constants.HF_HUB_OFFLINE:
        raise ValueError(f"HF_HUB_OFFLINE is set, so nothing was sent; unset it, or use --dry-run. Folder: {folder}")
    api = HfApi()
    is_private = None  # no repository yet; creating it again does not change this
    with _one_line_errors(repo_id), contextlib.suppress(RepositoryNotFoundError):
        is_private = bool(api.model_info(repo_id).private)
    if is_private is False and private:
        raise ValueError(f"{repo_id} exists and is public; add --public, or take another name")
    if is_private and not private:
        raise ValueError(f"{repo_id} exists and is private; leave out --public, or change it in its settings first")
    with _one_line_errors(repo_id):
        url = api.create_repo(repo_id, private=private, exist_ok=True)
        api.upload_folder(repo_id=repo_id, folder_path=folder, commit_message="Model and card, written by genolm")
    return str(url)


@contextlib.contextmanager
def _one_line_errors(repo_id: str) -> Iterator[None]:
    """Turn errors of talking to the Hub into a ValueError of one line that says what to do."""
    from huggingface_hub import constants
    from huggingface_hub.errors import HfHubHTTPError

    hints = {
        401: "; log in with `hf auth login`, or set HF_TOKEN to a token that may write",
        403: f"; the token must be one that may write to {repo_id.split('/')[0]}",
    }
    try:
        yield
    except HfHubHTTPError as error:  # some are ValueErrors too
        code = error.response.status_code
        reason = next((line for line in str(error).splitlines() if line.strip()), "no reason given")
        raise ValueError(f"the Hub refused {repo_id}: {code}: {reason}{hints.get(code, '')}") from error
    except OSError:  # of a local file
        raise
    except ValueError as error:
        raise ValueError(f"not published: {' '.join(str(error).split())}") from error
    except Exception as error:  # errors of the HTTP library below change with huggingface_hub's version
        raise ValueError(f"the Hub cannot be reached at {constants.ENDPOINT}, or broke off: {error}") from error
