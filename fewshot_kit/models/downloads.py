"""Downloads of weights by torchvision and timm: they fail quickly without a network, and leave no partial files."""

from __future__ import annotations

import contextlib
import shutil
import ssl
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

SECONDS = 5.0


@contextlib.contextmanager
def from_url(url: str) -> Iterator[None]:
    """Context in which `torch.hub` downloads the file at `url`, unless it is already in its cache.

    Raises:
        OSError: the server cannot be reached.
    """
    folder = Path(torch.hub.get_dir()) / "checkpoints"
    if not (folder / url.rpartition("/")[2]).exists():
        check_reachable(url)
    with _no_trace(folder):
        yield


@contextlib.contextmanager
def from_hub(config: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Context in which timm downloads the weights of a `pretrained_cfg` from the Hugging Face hub, unless cached.

    Yields:
        Changes to the configuration, so that timm does not go online for a file that is in the cache.

    Raises:
        OSError: the server cannot be reached.
    """
    import huggingface_hub

    repository, _, revision = str(config["hf_hub_id"]).partition("@")
    named = config.get("hf_hub_filename")
    for name in [named] if named else ["model.safetensors", "pytorch_model.bin"]:
        kept = huggingface_hub.try_to_load_from_cache(repository, name, revision=revision or None)
        if isinstance(kept, str):
            # Files of the hub are in timm's format. Other values of `custom_load` are for copies of the weights on
            # other servers.
            yield {"file": kept, "custom_load": bool(named) and config.get("custom_load") == "hf"}
            return
    check_reachable(huggingface_hub.constants.ENDPOINT)
    cache = Path(huggingface_hub.constants.HF_HUB_CACHE)
    folder = f"models--{repository.replace('/', '--')}"
    with _no_trace(cache / "CACHEDIR.TAG", cache / ".locks" / folder, cache / folder):
        yield {}


def check_reachable(url: str) -> None:
    """Raises OSError if a server does not answer within a few seconds.

    The hub's own library would try for a minute, and `torch.hub` without a limit.
    """
    request = urllib.request.Request(url, method="HEAD")
    try:
        urllib.request.urlopen(request, timeout=SECONDS).close()
    except urllib.error.HTTPError:
        pass  # the server has answered, if only with an error
    except urllib.error.URLError as error:
        if not isinstance(error.reason, ssl.SSLError):  # the libraries have certificates of their own
            raise


@contextlib.contextmanager
def _no_trace(*paths: Path) -> Iterator[None]:
    """Context that, on an error, removes those of the paths that are new, and new parent folders that are empty."""
    new = [path for path in paths if not path.exists()]
    above = [folder for path in paths for folder in path.parents if not folder.exists()]
    try:
        yield
    except BaseException:
        for path in new:
            if path.is_dir():
                shutil.rmtree(path, ignore_errors=True)
            path.unlink(missing_ok=True)
        for folder in above:
            with contextlib.suppress(OSError):  # a folder that is not empty is in use by somebody else
                folder.rmdir()
        raise
