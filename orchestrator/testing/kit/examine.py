"""Does this provider keep the port's promises? Judges one after the other and says what it saw.

Called by pytest suites (`await check_provider(factory)`) and by `python -m orchestrator.testing.kit module:factory`.
It makes real offers and launches at whatever the factory connects to, and takes all of them back.
"""

from __future__ import annotations

import contextlib
import inspect
from collections.abc import Awaitable, Callable, Collection
from typing import TypeAlias

from orchestrator.ports.provider import Provider, ProviderError
from orchestrator.testing.kit import faults, launches, offers
from orchestrator.testing.kit.registry import Promise, section
from orchestrator.testing.kit.report import Finding, Report, Verdict
from orchestrator.testing.kit.subject import Broken, Session, Subject

Factory: TypeAlias = Callable[[], Provider | Subject | Awaitable[Provider | Subject]]
PROMISES = tuple(promise for part in (offers, launches, faults) for promise in section(part.__name__))
"""All promises, in the order in which they are judged and numbered from 1."""


async def check_provider(factory: Factory, *, only: Collection[str] = (), seed: int | None = None) -> Report:
    """Judge every promise (or those named in `only`) on the one provider or `Subject` that `factory` makes.

    `seed` fixes the job ids; None draws new ones, as a provider that remembers earlier examinations needs.
    Raises ValueError for a name in `only` that is no promise.
    """
    unknown = set(only) - {p.name for p in PROMISES}
    if unknown:
        raise ValueError(
            f"no such promise: {', '.join(sorted(unknown))}; there are {', '.join(p.name for p in PROMISES)}"
        )
    made = factory()
    subject = await made if inspect.isawaitable(made) else made
    if not isinstance(subject, Subject):
        subject = Subject(provider=subject)
    session = Session(subject, seed)
    findings = []
    for number, promise in enumerate(PROMISES, 1):
        if not only or promise.name in only:
            verdict, detail = await _judge(session, promise)
            findings.append(Finding(number, promise.name, promise.sentence, verdict, detail))
    await subject.provider.aclose()
    return Report(subject.provider.name, findings)


async def _judge(session: Session, promise: Promise) -> tuple[Verdict, str]:
    if promise.needs and getattr(session.subject, promise.needs) is None:
        return Verdict.NOT_JUDGED, f"needs Subject.{promise.needs}"
    try:
        await promise.check(session)
    except Broken as broken:
        return Verdict.BROKEN, str(broken)
    except Exception as error:  # noqa: BLE001 - a stranger's code: whatever it raises is a finding, not our end
        return Verdict.BROKEN, f"it raised {type(error).__name__}: {error}"
    finally:
        with contextlib.suppress(Broken, ProviderError):  # a stop that fails is judged under its own name
            await session.clean()
    return Verdict.KEPT, ""
