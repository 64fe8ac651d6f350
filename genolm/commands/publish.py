"""`genolm publish`: a run to the Hugging Face Hub, private unless told otherwise, with a card made from the run."""

import json
import os
import shutil
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from genolm.evaluation.card import LICENSES, model_card

CHECKPOINT_FILES = ("*.safetensors", "*.safetensors.index.json", "*.json", "*.txt")


def publish(
    run: Annotated[str, typer.Argument(help="Run folder, or its checkpoint.")],
    repo_id: Annotated[str, typer.Argument(metavar="USER/NAME", help="Where on the Hub.")],
    license: Annotated[str | None, typer.Option(help="Licence of the weights, as the Hub spells it.")] = None,
    public: Annotated[bool, typer.Option("--public", help="Let everyone see it.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Write the folder, send nothing.")] = False,
    out: Annotated[Path | None, typer.Option(help="Folder to write. [default: RUN/publish]")] = None,
) -> None:
    """Publish a model: safetensors, tokenizer and a card with data, recipe, measures and usage.

    Example: genolm publish runs/first user/ecoli-lm --license apache-2.0 --dry-run
    """
    from huggingface_hub.errors import HFValidationError
    from huggingface_hub.utils import validate_repo_id

    checkpoint = Path(run) / "checkpoint" if (Path(run) / "checkpoint").is_dir() else Path(run)
    if not (checkpoint / "genolm.json").is_file():
        raise ValueError(
            f"{run} holds no checkpoint with a genolm.json; give the folder of a finished `genolm pretrain`"
        )
    try:
        validate_repo_id(repo_id)
    except HFValidationError as error:
        raise ValueError(f"{repo_id!r} is no name for a repository: {error}") from None
    if repo_id.count("/") != 1:
        raise ValueError(f"{repo_id!r} is no name for a repository; write USER/NAME")
    folder = write_folder(checkpoint, out or checkpoint.parent / "publish", repo_id, ask_license(license))
    for path in sorted(folder.iterdir()):
        print(f"{path.stat().st_size:>14,}  {path.name}")
    if dry_run:
        print(f"{folder}: nothing was sent")
    else:
        upload(folder, repo_id, private=not public)


def ask_license(license: str | None) -> str:
    """Return the licence, asking for it on a terminal where none was given."""
    some = ", ".join(LICENSES)
    if license is None and sys.stdin.isatty():
        license = typer.prompt(f"Licence of the weights ({some})")
    if license is None:
        raise ValueError(f"a published model needs a licence; add --license, one of {some}")
    if license not in LICENSES:
        raise ValueError(f"licence {license!r} is none of {some}")
    return license


def write_folder(checkpoint: Path, folder: Path, repo_id: str, license: str) -> Path:
    """Write all that is published into a folder, aside first; machine paths and pickles stay behind."""
    files = {path for pattern in CHECKPOINT_FILES for path in checkpoint.glob(pattern)}
    if not any(path.suffix == ".safetensors" for path in files):
        raise ValueError(f"{checkpoint} holds no .safetensors; other formats can run code when opened and are not sent")
    aside = folder.with_name(f"{folder.name}.partial")
    shutil.rmtree(aside, ignore_errors=True)
    aside.mkdir(parents=True)
    for path in files:
        shutil.copy2(path, aside / path.name)
    about = without_paths(json.loads((checkpoint / "genolm.json").read_text()))
    (aside / "genolm.json").write_text(json.dumps(about, indent=1))
    curve = checkpoint.parent / "loss.png"
    if curve.is_file():
        shutil.copy2(curve, aside / "loss.png")
    tokenizer = json.loads((checkpoint / "tokenizer_config.json").read_text()).get("genolm", {})
    card = model_card(about, tokenizer, repo_id, license, curve.is_file())
    (aside / "README.md").write_text(card)
    shutil.rmtree(folder, ignore_errors=True)
    os.replace(aside, folder)
    return folder


def without_paths(value: Any) -> Any:
    """Return the same data with local paths cut to their last part: where files lay is nobody's business."""
    if isinstance(value, dict):
        return {key: without_paths(item) for key, item in value.items()}
    if isinstance(value, list):
        return [without_paths(item) for item in value]
    if isinstance(value, str) and "/" in value and (Path(value).is_absolute() or Path(value).exists()):
        return Path(value).name
    return value


def upload(folder: Path, repo_id: str, private: bool) -> None:
    """Create the repository if need be, and send the folder as one commit."""
    from huggingface_hub import HfApi, constants
    from huggingface_hub.errors import HfHubHTTPError, LocalTokenNotFoundError, OfflineModeIsEnabled

    if constants.HF_HUB_OFFLINE:
        raise ValueError("HF_HUB_OFFLINE is set, so nothing was sent; unset it, or use --dry-run")
    api = HfApi()
    try:
        if private and is_public(api, repo_id):
            raise ValueError(f"{repo_id} exists and is public; add --public, or take another name")
        url = api.create_repo(repo_id, private=private, exist_ok=True)
        api.upload_folder(repo_id=repo_id, folder_path=folder, commit_message="Model and card, written by genolm")
    except ValueError:
        raise
    except (LocalTokenNotFoundError, OfflineModeIsEnabled) as error:
        raise ValueError(f"nothing was sent: {error}") from error
    except HfHubHTTPError as error:
        code = error.response.status_code
        hint = "; log in with `hf auth login`, or set HF_TOKEN to a token that may write" if code in (401, 403) else ""
        raise ValueError(f"the Hub refused {repo_id}: {code} {str(error).splitlines()[0]}{hint}") from error
    except Exception as error:  # the HTTP library below, and so its errors, change with huggingface_hub's version
        raise ValueError(f"the Hub cannot be reached at {constants.ENDPOINT}, or broke off: {error}") from error
    print(f"{url} ({'private' if private else 'public'})")


def is_public(api, repo_id: str) -> bool:
    """Say whether a repository is there already for all to see: the Hub then ignores a wish for privacy."""
    from huggingface_hub.errors import RepositoryNotFoundError

    try:
        return not api.model_info(repo_id).private
    except RepositoryNotFoundError:
        return False
