"""Waiting for a result without blocking the RunEngine."""

import asyncio

from bluesky.utils import Msg, MsgGenerator

from skyloop.documents.inbox import Analysis, Inbox, Key

__all__ = ["peek", "wait_result"]


def wait_result(inbox: Inbox, key: Key, timeout: float) -> MsgGenerator[Analysis | None]:
    """Wait for the analysis of one raw event; `None` when it is late or will never come.

    A pause during the wait is honoured at once, and the resumed plan waits again. The checkpoint belongs
    between the measurement and this stub: without it a resumed plan measures the point a second time.

    Args:
        inbox: where the analyzer puts its results.
        key: raw run uid, raw stream, and number of the event in it.
        timeout: seconds to wait; it starts again when the plan resumes.

    Yields:
        One `wait_for` message.
    """

    async def waiter() -> None:
        # asyncio.wait, because asyncio.wait_for would cancel the future on timeout and on pause
        future = asyncio.wrap_future(inbox.future(key))
        done, _ = await asyncio.wait([future], timeout=timeout)
        for finished in done:  # looked at, so that asyncio does not report an error that nobody missed
            _ = finished.cancelled() or finished.exception()

    try:
        yield Msg("wait_for", None, [waiter])
    except BaseException:  # abort, stop and halt: nobody will ask for this result any more
        inbox.future(key).cancel()
        raise
    return peek(inbox, key)


def peek(inbox: Inbox, key: Key) -> Analysis | None:
    """The analysis of one raw event if it is there already, without waiting."""
    # asked for anew: after a rewind another future may have taken the place of the one waited on
    future = inbox.future(key)
    if not future.done() or future.cancelled() or future.exception() is not None:
        return None
    return future.result()
