"""Growth: stored X-ray scans of a growing film are replayed, and give its thickness scan by scan.

The measured curves (Zenodo 10.5281/zenodo.6497438) are not part of this repository: name the folder that
holds `reflectometry/xrr/organic_films_on_silicon.h5` in SKYLOOP_TEST_DATA. Give a folder to keep the figure.
"""

import os
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from growth_series import growth_runs, published_thickness
from matplotlib.figure import Figure

from skyloop.callbacks import Options
from skyloop.callbacks.reflectometry import reflectometry
from skyloop.runtime.sinks import Sink
from skyloop.storage.jsonl import JsonlWriter
from skyloop.storage.replay import replay
from skyloop.storage.sources import open_source

MODEL = Path(__file__).with_name("growth.yaml")
GROUP, EVERY, Q_MAX = "DIP_2", 6, 0.15  # the published fits end at this q too
THIN = 20.0  # angstrom: below two molecules the published fits and ours describe different things


def measured_curves() -> Path:
    given = os.environ.get("SKYLOOP_TEST_DATA")
    folder = Path(given) if given else Path(__file__).parents[2] / "shared" / "data"
    file = folder / "reflectometry" / "xrr" / "organic_films_on_silicon.h5"
    if not file.is_file():
        print(f"no measured curves: there is no {file}; mend: name their folder in SKYLOOP_TEST_DATA")
        raise SystemExit(1 if os.environ.get("CI") else 0)
    return file


def store_scans(file: Path, folder: Path) -> None:
    store = Sink(JsonlWriter(folder))
    for documents in growth_runs(file, GROUP, every=EVERY, q_max=Q_MAX):
        replay(documents, [store])
    store.close()


def analyse(folder: Path) -> list[dict[str, Any]]:
    """The last word on each stored scan, with its scan number."""
    scans: dict[str, int] = {}
    found: list[dict[str, Any]] = []
    parent: list[str] = []

    def collect(name: str, doc: dict[str, Any]) -> None:
        if name == "start":
            parent[:] = doc["parent_uids"]
        elif name == "event" and "frames" in doc["data"]:  # the stream `summary`
            found.append({"scan": scans[parent[0]]} | doc["data"])

    # on a thread the points of a scan queue up and are folded together; the last word is the same
    with (
        reflectometry(MODEL, options=Options(executor="thread")) as analysis,
        open_source(str(folder)) as runs,
    ):
        analysis.subscribe(collect)
        for run in runs:
            scans[run.uid] = run.start["scan_number"]
            replay(run.documents(), [analysis])
    return sorted(found, key=lambda result: result["scan"])


def is_trusted(result: dict[str, Any]) -> bool:
    return result["reflectometry_outcome"] == "ok"


def line(result: dict[str, Any], published: float) -> str:
    """A scan in words; `?` marks a value whose uncertainty does not hold, and the reason says why."""
    thickness, sigma = (result[f"reflectometry_target{suffix}"] for suffix in ("", "_sigma"))
    mark = " " if is_trusted(result) else "?"
    told = ": ".join(filter(None, (result["reflectometry_outcome"], result["reflectometry_reason"])))
    return (
        f"scan {result['scan']:2d}: {thickness:6.1f} ± {sigma:.1f} Å {mark} published {published:6.1f} Å, "
        f"chi2 {result['reflectometry_chi2']:.2f} {told}"
    )


def figure(results: list[dict[str, Any]], published: np.ndarray) -> Figure:
    scan = np.array([result["scan"] for result in results])
    thickness = np.array([result["reflectometry_target"] for result in results])
    sigma = np.array([result["reflectometry_target_sigma"] for result in results])
    trusted = np.array([is_trusted(result) for result in results])
    drawn = Figure(figsize=(7.5, 6.0), layout="constrained")
    upper, lower = drawn.subplots(2, 1, sharex=True, height_ratios=[2.2, 1.0])
    for axes, line in ((upper, 0.0 * scan), (lower, published[scan])):
        value = thickness - line
        axes.fill_between(scan, value - 2 * sigma, value + 2 * sigma, alpha=0.25, lw=0, label="95 %")
        axes.plot(scan, value, "-", lw=1.2, color="C0")
        axes.plot(scan[trusted], value[trusted], "o", ms=4, color="C0", label="skyloop")
        axes.plot(
            scan[~trusted], value[~trusted], "o", ms=6, mfc="white", color="C0", label="not to be trusted"
        )
        axes.grid(alpha=0.2)
    upper.plot(published, ".", ms=4, color="#333333", zorder=3, label="published fit")
    for side in (-0.1, 0.1):
        label = "± 10 % of published" if side > 0 else None
        lower.plot(scan, side * published[scan], lw=0.8, ls=":", color="#666666", label=label)
    upper.set_title("diindenoperylene on silicon, every 6th scan of DIP_2", loc="left", fontsize=10)
    upper.set_ylabel("film thickness [Å]")
    lower.set_ylabel("skyloop - published [Å]")
    lower.set_xlabel("scan number")
    off = np.abs(thickness - published[scan]) + 2 * sigma
    reach = 1.3 * float(off[published[scan] > THIN].max())  # below it the uncertainty fills the picture
    lower.set_ylim(-reach, reach)
    upper.legend(fontsize=8, frameon=False, loc="upper left")
    lower.legend(fontsize=8, frameon=False, loc="lower right", ncols=4)
    return drawn


def main(folder: Path) -> None:
    file = measured_curves()
    store_scans(file, folder / "runs")
    results, published = analyse(folder / "runs"), published_thickness(file, GROUP)
    off = []
    for result in results:
        told = published[result["scan"]]
        off.append(abs(result["reflectometry_target"] / told - 1))
        print(line(result, told))
    path = folder / "growth.png"
    figure(results, published).savefig(path, dpi=130)
    print(f"figure {path}")
    thick = [x for x, result in zip(off, results, strict=True) if published[result["scan"]] > THIN]
    print(f"median deviation above {THIN:g} Å: {100 * float(np.median(thick)):.1f} %")
    assert max(thick) < 0.1


if __name__ == "__main__":
    if len(sys.argv) > 1:
        main(Path(sys.argv[1]))
    else:
        with TemporaryDirectory() as name:
            main(Path(name))
