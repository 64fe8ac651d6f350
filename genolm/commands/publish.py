"""`genolm publish`: a run to the Hugging Face Hub, private unless told otherwise, with a card made from the run."""

import difflib
import json
import os
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer

from genolm.models.safe_loading import check_config, check_weights
from genolm.reports.card import LICENSES, model_card

NEEDED = ("genolm.json", "config.json", "tokenizer.json", "tokenizer_config.json")
MODEL_FILES = ("model*.safetensors", "model.safetensors.index.json", "generation_config.json")
TOKENIZER_FILES = ("special_tokens_map.json", "added_tokens.json", "vocab.json", "vocab.txt", "merges.txt")
"""What is sent is listed, so that nothing else that lies in the folder can be."""

CLASSIFIERS = ("ForSequenceClassification", "ForTokenClassification")

FILE_KEYS = {"run_dir", "fasta", "sha256", "include", "exclude", "regions", "tokenizer", "test_path"}
"""Keys of a recipe whose values are files or URLs, and never names on the Hub."""
DATA_SUFFIXES = (".parquet", ".jsonl", ".json", ".csv", ".tsv", ".gz", ".zst")
SECRETS = ("token", "key", "signature", "sig", "credential", "password")


def publish(
    run: Annotated[str, typer.Argument(help="Run folder, or its checkpoint.")],
    repo_id: Annotated[str, typer.Argument(metavar="USER/NAME", help="Where on the Hub.")],
    license: Annotated[str | None, typer.Option(help="Licence of the weights, as the Hub spells it.")] = None,
    public: Annotated[bool, typer.Option("--public", help="Let everyone see it.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Write the folder, send nothing.")] = False,
    export_code: Annotated[
        bool, typer.Option("--export-code", help="Put genolm's own models' code beside them, for trust_remote_code.")
    ] = False,
    out: Annotated[Path | None, typer.Option(help="Folder to write. [default: RUN/publish]")] = None,
) -> None:
    """Publish a model: safetensors, tokenizer and a card with data, recipe, measures and usage.

    Example: genolm publish runs/first user/ecoli-lm --license apache-2.0 --dry-run
    """
    checkpoint = find_checkpoint(Path(run))
    check_name(repo_id)
    folder = out or checkpoint.parent / "publish"
    if out is None and folder.is_symlink():
        raise ValueError(f"{folder} is a link; give --out the folder to write")
    folder = folder.resolve()
    check_replaceable(folder, checkpoint)
    write_folder(checkpoint, folder, repo_id, ask_license(license), export_code)
    for path in sorted(folder.iterdir()):
        print(f"{path.stat().st_size:>14,}  {path.name}")
    if dry_run:
        print(f"{folder}: nothing was sent")
    else:
        upload(folder, repo_id, private=not public)


def find_checkpoint(run: Path) -> Path:
    """Return the checkpoint folder of a run, or the folder itself where it is one.

    Raises:
        ValueError: there is no such folder, or what a published model needs is missing from it.
    """
    if not run.is_dir():
        raise ValueError(f"{run} is no folder; give the run_dir of a finished `genolm pretrain`, or its checkpoint")
    checkpoint = (run / "checkpoint" if (run / "checkpoint").is_dir() else run).resolve()
    if not (checkpoint / "genolm.json").is_file():
        raise ValueError(
            f"{run} holds no checkpoint with a genolm.json; give the run_dir of a `genolm pretrain` that has finished"
        )
    missing = [name for name in NEEDED if not (checkpoint / name).is_file()]
    if missing:
        raise ValueError(f"{checkpoint} lacks {', '.join(missing)}; it may have been copied in part")
    check_weights(checkpoint)
    check_config(checkpoint / "config.json")
    for name in ("config.json", "tokenizer_config.json"):
        if "auto_map" in json.loads((checkpoint / name).read_text()):
            raise ValueError(f"{checkpoint / name} has auto_map, by which it would run code of others; remove that key")
    return checkpoint


def check_name(repo_id: str) -> None:
    """Check a repository's name by the Hub's own rules; raise ValueError where it breaks them."""
    from huggingface_hub.errors import HFValidationError
    from huggingface_hub.utils import validate_repo_id

    try:
        validate_repo_id(repo_id)
    except HFValidationError as error:
        raise ValueError(f"{repo_id!r} is no name for a repository: {error}") from None
    if repo_id.count("/") != 1:
        raise ValueError(f"{repo_id!r} is no name for a repository; write USER/NAME")


def check_replaceable(folder: Path, checkpoint: Path) -> None:
    """Raise ValueError where writing the folder would cost files that `publish` did not write."""
    if checkpoint.is_relative_to(folder):
        raise ValueError(f"{folder} holds the checkpoint itself; give --out a folder of its own")
    if folder.exists() and not folder.is_dir():
        raise ValueError(f"{folder} is a file; give --out a folder")
    inside = list(folder.iterdir()) if folder.is_dir() else []
    ours = {"README.md", "genolm.json"} <= {path.name for path in inside} and all(path.is_file() for path in inside)
    if inside and not ours:
        raise ValueError(f"{folder} holds other files, which would be lost; give --out a new or empty folder")


def ask_license(license: str | None) -> str:
    """Return the licence, asking for it on a terminal where none was given.

    Raises:
        ValueError: none was given and there is nobody to ask, or the Hub knows no such licence.
    """
    some = ", ".join(LICENSES[:8])
    if license is None and sys.stdin.isatty():
        license = str(typer.prompt(f"Licence of the weights ({some} …)"))
    if license is None:
        raise ValueError(f"a published model needs a licence; add --license, such as {some}")
    license = license.strip().lower()
    if license not in LICENSES:
        near = difflib.get_close_matches(license, LICENSES, n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"common ones: {some}; or `other`"
        raise ValueError(f"licence {license!r} is none that the Hub knows; {hint}")
    return license


def write_folder(checkpoint: Path, folder: Path, repo_id: str, license: str, export_code: bool = False) -> None:
    """Write all that is published into a folder, aside first; machine paths and pickles stay behind."""
    ours = json.loads((checkpoint / "config.json").read_text()).get("model_type") == "genolm"
    if export_code and not ours:
        raise ValueError(f"{checkpoint} is of an architecture of transformers', which needs no code; no --export-code")
    curve = checkpoint.parent / "loss.png"
    has_curve = checkpoint.name == "checkpoint" and curve.is_file()
    patterns = (*NEEDED, *MODEL_FILES, *TOKENIZER_FILES)
    sent = [plain(path) for pattern in patterns for path in checkpoint.glob(pattern)] + [plain(curve)] * has_curve
    aside = folder.with_name(f"{folder.name}.partial")
    shutil.rmtree(aside, ignore_errors=True)
    aside.mkdir(parents=True)
    for path in sent:
        shutil.copy2(path, aside / path.name)
    about = without_paths(json.loads((checkpoint / "genolm.json").read_text()))
    (aside / "genolm.json").write_text(json.dumps(about, indent=1))
    tokenizer = json.loads((checkpoint / "tokenizer_config.json").read_text()).get("genolm", {})
    if export_code:
        add_code(aside)
    needs = ("code" if export_code else "genolm") if ours else None
    card = model_card(about, tokenizer=tokenizer, repo_id=repo_id, license=license, curve=has_curve, needs=needs)
    (aside / "README.md").write_text(card)
    shutil.rmtree(folder, ignore_errors=True)
    os.replace(aside, folder)


def add_code(folder: Path) -> None:
    """Put the code of genolm's own models into a folder, and tell the Auto classes in its `config.json`."""
    source = Path(__file__).parents[1] / "models" / "genolm"
    for path in source.glob("*.py"):
        if path.name != "__init__.py":
            shutil.copyfile(path, folder / path.name)
    config = json.loads((folder / "config.json").read_text())
    language_model = "ForCausalLM" if config["causal"] else "ForMaskedLM"
    heads = {"": "Model"} | {head: head for head in (language_model, *CLASSIFIERS)}
    config["auto_map"] = {"AutoConfig": "configuration.GenoLMConfig"}
    config["auto_map"] |= {f"AutoModel{head}": f"modeling.GenoLM{name}" for head, name in heads.items()}
    (folder / "config.json").write_text(json.dumps(config, indent=2))


def plain(path: Path) -> Path:
    """Return a path that is a file and no link, which could send any file of this machine; raise ValueError if not."""
    if path.is_symlink() or not path.is_file():
        raise ValueError(f"{path} is a link or a special file and is not sent; put a copy of the file in its place")
    return path


def without_paths(value: Any, is_file: bool = False) -> Any:
    """Return the same data with local paths cut to their last part, and without passwords in URLs or access tokens.

    Args:
        value: contents of a `genolm.json`.
        is_file: whether text in it names files, so that `data/x.fa` is a path and no name on the Hub.
    """
    if isinstance(value, dict):
        return {
            without_paths(key, is_file): without_paths(item, is_file or key in FILE_KEYS)
            for key, item in value.items()
            if not str(key).endswith("hub_token")
        }
    if isinstance(value, list):
        return [without_paths(item, is_file) for item in value]
    if not isinstance(value, str) or "/" not in value:
        return value
    if "://" in value and not value.startswith("file:"):
        return without_secrets(value)
    local = value.startswith(("/", "~", "./", "../", "file:")) or value.endswith(DATA_SUFFIXES)
    # A name on the Hub has one slash.
    is_file = is_file or local or value.count("/") > 1 or os.path.exists(value)
    return Path(value).name if is_file else value


def without_secrets(url: str) -> str:
    """Return a URL without its user and password, and without the query's keys and signatures."""
    from urllib.parse import urlsplit

    parts = urlsplit(url)
    query = [pair for pair in parts.query.split("&") if not pair.partition("=")[0].lower().endswith(SECRETS)]
    return parts._replace(netloc=parts.netloc.rpartition("@")[2], query="&".join(query)).geturl()


def upload(folder: Path, repo_id: str, private: bool) -> None:
    """Create the repository if need be, and send the folder as one commit.

    Raises:
        ValueError: the Hub is not to be reached, refuses, or already shows the repository to more or fewer people.
    """
    from huggingface_hub import HfApi, constants

    if constants.HF_HUB_OFFLINE:
        raise ValueError(f"HF_HUB_OFFLINE is set, so nothing was sent; unset it, or use --dry-run. Folder: {folder}")
    api, wanted = HfApi(), "private" if private else "public"
    with one_line_errors(repo_id):
        found = visibility(api, repo_id)
    if found == "public" and private:
        raise ValueError(f"{repo_id} exists and is public; add --public, or take another name")
    if found == "private" and not private:
        raise ValueError(f"{repo_id} exists and is private; leave out --public, or change it in its settings first")
    with one_line_errors(repo_id):
        url = api.create_repo(repo_id, private=private, exist_ok=True)
        api.upload_folder(repo_id=repo_id, folder_path=folder, commit_message="Model and card, written by genolm")
    print(f"{url} ({wanted})")


def visibility(api, repo_id: str) -> str | None:
    """Return whether a repository is `public` or `private`, None where there is none: creating it again keeps that."""
    from huggingface_hub.errors import RepositoryNotFoundError

    try:
        return "private" if api.model_info(repo_id).private else "public"
    except RepositoryNotFoundError:
        return None


@contextmanager
def one_line_errors(repo_id: str) -> Iterator[None]:
    """Turn what can go wrong while talking to the Hub into a ValueError of one line that says what to do."""
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
    except Exception as error:  # the HTTP library below, and so its errors, change with huggingface_hub's version
        raise ValueError(f"the Hub cannot be reached at {constants.ENDPOINT}, or broke off: {error}") from error
