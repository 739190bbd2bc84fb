"""Replay: store runs as JSON lines, analyse them again, and get the same numbers."""

from pathlib import Path
from tempfile import TemporaryDirectory

from beamline import MODEL, simulated
from bluesky import RunEngine
from bluesky.plans import scan

from skyloop.callbacks import Options
from skyloop.callbacks.reflectometry import reflectometry
from skyloop.documents.run import NamedDocument
from skyloop.engines.reflectometry import Result
from skyloop.runtime.sinks import Sink
from skyloop.storage.export import table
from skyloop.storage.jsonl import JsonlWriter
from skyloop.storage.replay import replay
from skyloop.storage.sources import open_source


def measure(folder: Path) -> None:
    devices = simulated()
    devices.detector.count_time.put(100.0)
    RE, store = RunEngine(), Sink(JsonlWriter(folder))
    RE.subscribe(store)
    RE(scan([devices.detector], devices.q, 0.01, 0.2, 30))
    store.close()


def analyse(folder: Path) -> list[NamedDocument]:
    documents: list[NamedDocument] = []
    with (
        reflectometry(MODEL, options=Options(executor="inline")) as analysis,
        open_source(str(folder)) as runs,
    ):
        analysis.subscribe(lambda name, doc: documents.append((name, doc)))
        for run in runs:
            replay(run.documents(), [analysis])
    return documents


def main() -> None:
    with TemporaryDirectory() as name:
        measure(Path(name))
        first, second = analyse(Path(name)), analyse(Path(name))
    print(table(first, Result)[["target", "target_sigma", "chi2", "outcome"]].tail())
    assert [doc["uid"] for _, doc in first] == [doc["uid"] for _, doc in second]
    clocks = ["queue_seconds", "compute_seconds"]
    assert table(first, Result).drop(columns=clocks).equals(table(second, Result).drop(columns=clocks))
    print("a second replay gives the same uids and the same values")


if __name__ == "__main__":
    main()
