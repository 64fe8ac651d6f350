"""Upload of a published folder to the Hugging Face Hub."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


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

    if constants.HF_HUB_OFFLINE:
        raise ValueError(f"HF_HUB_OFFLINE is set, so nothing was sent; unset it, or use --dry-run. Folder: {folder}")
    api = HfApi()
    with _one_line_errors(repo_id):
        present = _visibility(api, repo_id)
    if present == "public" and private:
        raise ValueError(f"{repo_id} exists and is public; add --public, or take another name")
    if present == "private" and not private:
        raise ValueError(f"{repo_id} exists and is private; leave out --public, or change it in its settings first")
    with _one_line_errors(repo_id):
        url = api.create_repo(repo_id, private=private, exist_ok=True)
        api.upload_folder(repo_id=repo_id, folder_path=folder, commit_message="Model and card, written by genolm")
    return str(url)


def _visibility(api, repo_id: str) -> str | None:
    """Return `public` or `private`, which creating a repository again does not change; None if it does not exist."""
    from huggingface_hub.errors import RepositoryNotFoundError

    try:
        return "private" if api.model_info(repo_id).private else "public"
    except RepositoryNotFoundError:
        return None


@contextmanager
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
