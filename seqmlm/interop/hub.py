"""Gets a model folder by its name on the Hugging Face hub."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from seqmlm.errors import CheckpointError, ConfigError
from seqmlm.interop.importing import Imported, import_model

FILES: Final = (
    *("config.json", "*.safetensors", "model.safetensors.index.json"),
    *("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "vocab.txt"),
)
"""What an import reads; nothing else of a repository is fetched."""


def import_pretrained(
    name: str | Path,
    *,
    revision: str | None = None,
    domain: str | None = None,
    backend: str = "auto",
) -> Imported:
    """Import a model folder, or fetch one by its name on the hub and import that.

    Args:
        name: of a folder, or of a repository such as ``facebook/esm2_t6_8M_UR50D``.
        revision: branch, tag or commit of the repository; its main branch by default.
        domain: see :func:`~seqmlm.interop.importing.import_model`.
        backend: of the kernels.

    Raises:
        ConfigError: huggingface_hub is not installed, or the model cannot be imported.
        CheckpointError: there is no such model, it cannot be fetched, or it is damaged.
    """
    folder = Path(name)
    if not folder.is_dir():
        folder = _fetch(str(name), revision)
    elif revision is not None:
        raise ConfigError(f"{folder} is a folder and has no revision {revision!r}: leave it out.")
    return import_model(folder, domain=domain, backend=backend)


def _fetch(name: str, revision: str | None) -> Path:
    """Folder of the fetched files; from the cache if they are there and nothing has changed."""
    if name.count("/") > 1 or name.startswith((".", "/", "~")):
        raise CheckpointError(f"There is no folder {name}.")
    try:
        from huggingface_hub import snapshot_download
        from huggingface_hub.errors import HfHubHTTPError, HFValidationError
    except ModuleNotFoundError as error:
        if error.name is None or error.name.partition(".")[0] != "huggingface_hub":
            raise
        raise ConfigError(
            f"There is no folder {name}; to fetch it by this name from the Hugging Face hub takes "
            "huggingface_hub: pip install 'seqmlm[hf]'."
        ) from error
    try:
        return Path(snapshot_download(name, revision=revision, allow_patterns=list(FILES)))
    except (HfHubHTTPError, HFValidationError, OSError) as error:
        raise CheckpointError(
            f"There is no folder {name}, and it cannot be fetched from the Hugging Face hub: "
            f"{str(error).splitlines()[0] if str(error) else type(error).__name__}"
        ) from error
