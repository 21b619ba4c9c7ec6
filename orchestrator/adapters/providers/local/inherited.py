"""Which of the server's variables does a launch on this machine inherit? An allow-list, called where keepers start.

User code runs as the server's own user, and has no business with the server's database, tokens, or the clouds' keys
that its documents name by `env:NAME`. Of these it gets the store's alone: workers save checkpoints too.
"""

from __future__ import annotations

from collections.abc import Mapping

from orchestrator.model.wire import StoreRef

NAMES = frozenset((
    "PATH", "HOME", "USER", "LOGNAME", "SHELL", "LANG", "LANGUAGE", "TZ", "TERM", "TMPDIR", "LD_LIBRARY_PATH",
    "VIRTUAL_ENV", "CONDA_PREFIX", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "ALL_PROXY", "http_proxy", "https_proxy",
    "no_proxy", "all_proxy", "SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE",
    "ROCR_VISIBLE_DEVICES", "GPU_DEVICE_ORDINAL",
))  # fmt: skip
PREFIXES = ("LC_", "CUDA_", "NVIDIA_", "NCCL_", "HIP_", "ROCM_", "XDG_", "OMP_", "MKL_")
"""Where things lie, how the machine is seen, how threads and GPUs are used."""


def inherited(outer: Mapping[str, str], store: StoreRef) -> dict[str, str]:
    """Of the server's variables those that a launch gets which saves in this store."""
    keys = {at.removeprefix("env:") for at in store.secrets.values() if at.startswith("env:")}
    return {name: value for name, value in outer.items() if name in NAMES or name.startswith(PREFIXES) or name in keys}
