"""The one callback that all techniques share: documents in, analysis documents out."""

from __future__ import annotations

import logging
from typing import Any
from weakref import WeakValueDictionary

from skyloop.callbacks._crew import Crew
from skyloop.callbacks._newest import Newest
from skyloop.callbacks._options import Health, Options
from skyloop.callbacks._outlet import Outlet
from skyloop.callbacks._pipeline import Pipeline
from skyloop.callbacks._screen import shows_something
from skyloop.callbacks._sinks import Sinks
from skyloop.callbacks._technique import Technique
from skyloop.documents.inbox import Inbox
from skyloop.documents.run import AnalysisIdentity, ResultSchema
from skyloop.engines import Engine
from skyloop.quantities import quantities
from skyloop.runtime.endings import ends_with
from skyloop.runtime.runners import LocalRunner, Runner
from skyloop.runtime.sinks import Callback, Sink
from skyloop.runtime.worker import WorkerRunner

__all__ = ["Analyzer"]

_log = logging.getLogger(__name__)


class Analyzer:
    """Analyses raw documents and publishes the results as documents of its own.

    Subscribe it to a RunEngine with `RE.subscribe(analysis)`, stores to it with `analysis.subscribe(store)`,
    tables and plots with `analysis.show(table)`. It never raises into its caller. With the executors
    `"thread"` and `"process"` it never blocks it either: the call hands the document over and returns. Each
    frame that comes in leaves exactly one result; when the engine falls behind, the frames that wait are
    folded in one step, whose result covers them all. An analysis that nobody holds any more, or that is open
    when the program ends, finishes what came in and is closed.

    Args:
        technique: how events become frames, and which engine analyses them.
        config: configuration of the engine.
        options: executor, limits and file access.
        name: makes the analysis findable by plans that are given a string.
    """

    def __init__(
        self, technique: Technique, config: Any, options: Options | None = None, *, name: str = ""
    ) -> None:
        options = options or Options()
        self.technique = technique
        self.engine = technique.engine(config)
        identity = AnalysisIdentity(technique.name, self.engine.version, self.engine.config, technique.keys)
        self.inbox = Inbox(name, config=identity.config_plain, units=_units(self.engine))
        self._documents = 0
        self._runner = _runner(self.engine, options)
        newest, self._sinks = Newest(self.inbox), Sinks()
        schema = ResultSchema(self.engine.result_type, self.engine.sizes, self.engine.units, technique.hints)
        outlet = Outlet(schema, publish=self._sinks.publish, inbox=self.inbox, newest=newest)
        self._pipeline = Pipeline(
            technique, identity, self._runner, outlet=outlet, newest=newest, options=options
        )
        self._crew = Crew(
            self._pipeline,
            self._runner,
            self._sinks,
            inbox=self.inbox,
            newest=newest,
            inline=options.executor == "inline",
        )
        ends_with(self, self._crew)
        if name:
            _tell_of_namesake(name)
            _named[name] = self

    @property
    def config(self) -> Any:
        """The configuration of the engine."""
        return self.engine.config

    def __call__(self, name: str, doc: dict[str, Any]) -> None:
        """Take a raw document; never raises, and returns at once unless the executor is `"inline"`."""
        self._documents += 1
        self._crew.take(name, doc)

    def subscribe(self, sink: Callback) -> Sink:
        """Give all analysis documents to a callback, on a thread of its own; returns its `Sink`.

        A `Sink` that is given may be shared with others: whoever made it closes it.
        """
        return self._sinks.add(sink)

    def show(self, screen: Callback) -> Sink:
        """Give a table or a plot all documents but the events of superseded frames, on a thread of its own.

        A superseded frame has no result of its own: a later row holds it, and the numbers of the rows between
        are missing. A frame that could not be analysed is shown with its outcome. A `Sink` may be shared,
        as in `subscribe`.
        """
        outcome_key = f"{self.technique.name}_outcome"
        return self._sinks.add(screen, lambda document: shows_something(document, outcome_key))

    def flush(self, timeout: float = 60.0) -> bool:
        """Wait until everything that came in is analysed and in the sinks; false when it takes longer.

        Raises:
            RuntimeError: one of its own sinks calls it.
        """
        return self._crew.flush(timeout)

    def close(self, timeout: float = 60.0) -> bool:
        """Flush, end the open runs, then the threads and the process; false when something was left.

        Raises:
            RuntimeError: one of its own sinks calls it.
        """
        return self._crew.close(timeout)

    def __enter__(self) -> Analyzer:
        """The analyzer itself; it is closed at the end of the block."""
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def health(self) -> Health:
        """What came in, what went out and what went wrong."""
        counts = self._pipeline.counts
        return Health(
            documents=self._documents,
            waiting=self._crew.waiting,
            results=counts.results,
            failures=counts.failures,
            quarantined=dict(counts.reasons),
            put_aside=tuple(counts.aside),
            faults=self._pipeline.faults.told,
            sinks=self._sinks.troubles,
        )


def _units(engine: Engine[Any, Any, Any]) -> dict[str, str]:
    """Unit of each field of the results."""
    plain = {name: quantity.unit for name, (_, quantity) in quantities(engine.result_type).items()}
    return plain | dict(engine.units)


_named: WeakValueDictionary[str, Analyzer] = WeakValueDictionary()


def _tell_of_namesake(name: str) -> None:
    older = _named.get(name)
    if older is not None and not older.inbox.retired:
        _log.warning(
            "an analysis named '%s' is open already: runs that both hear are analysed and written twice, and "
            "plans find the new one; mend: close the old one first, or give the new one another name",
            name,
        )


def _runner(engine: Engine[Any, Any, Any], options: Options) -> Runner:
    if options.executor == "process":
        return WorkerRunner(engine, options.deadline)
    return LocalRunner(engine)
