"""Who is put first to a provider that has room again: by priority, then by age.

Once news of the room has come: of room that nobody tells of has whoever asks next, while others sit out their pauses.
"""

from __future__ import annotations

import pytest

from tests.stories.urgency import LINES, Line, order_in

pytestmark = [pytest.mark.asyncio, pytest.mark.looptime]


@pytest.mark.parametrize("line", LINES, ids=[line.name for line in LINES])
async def test_room_that_comes_free_goes_to_the_most_urgent_and_among_these_to_the_oldest(a_world, line: Line) -> None:
    """Pauses that grow with each retry let a lesser job pass; news of room ends all of ours (dstack#4246)."""
    assert await order_in(line, a_world) == line.order
