"""What is an adapter's bug worth? The failure of one provider's call: logged in full, and never everybody's end.

Around every call into a provider. Adapters are other people's code in front of other people's replies; what they did
not foresee says as little about what was done as silence does, and is tried again by whoever called.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from orchestrator.engine.core import log
from orchestrator.ports.provider import Provider, ProviderError


@contextmanager
def calling(provider: Provider) -> Iterator[None]:
    """Raises `ProviderError` alone, whatever the adapter raises."""
    try:
        yield
    except ProviderError:
        raise
    except Exception as bug:
        log.error("an adapter failed in a way that it does not know", provider=provider.name, exc_info=bug)
        raise ProviderError(
            f"a bug in the adapter of {provider.name}: {type(bug).__name__}; see the server's log"
        ) from bug
