"""`genolm publish`: publish a run on the Hugging Face Hub, private by default, with a model card made from the run.

run folder → checkpoint files, card → folder → Hub
"""

import sys
from pathlib import Path
from typing import Annotated

import typer


def publish(
    run: Annotated[str, typer.Argument(help="Run folder, or its checkpoint.")],
    repo_id: Annotated[str, typer.Argument(metavar="USER/NAME", help="Repository on the Hub.")],
    license: Annotated[str | None, typer.Option(help="Licence of the weights, as the Hub spells it.")] = None,
    public: Annotated[bool, typer.Option("--public", help="Make the repository public.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Write the folder, send nothing.")] = False,
    export_code: Annotated[
        bool, typer.Option("--export-code", help="Add the code of genolm's own models, for trust_remote_code.")
    ] = False,
    out: Annotated[Path | None, typer.Option(help="Folder to write. [default: RUN/publish]")] = None,
) -> None:
    """Publish a model: safetensors, tokenizer and a card with data, recipe, metrics and usage.

    Example: genolm publish runs/first user/ecoli-lm --license apache-2.0 --dry-run
    """
    from genolm.reports.hub import (
        COMMON_LICENSES,
        check_license,
        check_repo_id,
        find_final_checkpoint,
        publish_folder,
        upload_folder,
        write_folder,
    )

    checkpoint = find_final_checkpoint(Path(run))
    check_repo_id(repo_id)
    folder = publish_folder(checkpoint, out)
    common = ", ".join(COMMON_LICENSES)
    if license is None and sys.stdin.isatty():
        license = str(typer.prompt(f"Licence of the weights ({common} …)"))
    if license is None:
        raise ValueError(f"a published model needs a licence; add --license, such as {common}")
    license = check_license(license)
    if license not in COMMON_LICENSES:
        typer.echo(f"licence {license!r} is not one of {common}; the Hub checks it on upload", err=True)
    write_folder(checkpoint, folder, repo_id, license, export_code)
    for path in sorted(folder.iterdir()):
        typer.echo(f"{path.stat().st_size:>14,}  {path.name}")
    if dry_run:
        typer.echo(f"{folder}: nothing was sent")
    else:
        url = upload_folder(folder, repo_id, private=not public)
        typer.echo(f"{url} ({'public' if public else 'private'})")
