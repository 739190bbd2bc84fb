"""Live: analyse any scan while it runs, in about ten lines."""

from beamline import MODEL, TRUTH, simulated
from bluesky import RunEngine
from bluesky.callbacks import LiveTable
from bluesky.plans import scan

from skyloop.callbacks.reflectometry import reflectometry

COLUMNS = ["target", "target_sigma", "chi2", "outcome"]


def main() -> None:
    devices = simulated(speed=500.0)  # your beamline has its own
    devices.detector.count_time.put(100.0)

    RE = RunEngine()
    analysis = reflectometry(MODEL)  # in a process of its own: the scan never waits for it
    RE.subscribe(analysis)
    analysis.show(LiveTable([f"reflectometry_{column}" for column in COLUMNS]))
    final = {}
    analysis.subscribe(lambda name, doc: final.update(doc["data"]) if name == "event" else None)
    RE(scan([devices.detector], devices.q, 0.01, 0.2, 40))
    analysis.close()

    thickness, sigma = final["reflectometry_target"], final["reflectometry_target_sigma"]
    print(f"film thickness {thickness:.2f} ± {sigma:.2f} Å, truth {TRUTH['film.thickness']} Å")
    assert abs(thickness - TRUTH["film.thickness"]) < 4 * sigma


if __name__ == "__main__":
    main()
