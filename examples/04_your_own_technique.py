"""Your own technique: an engine, a callback and a plan, one short file each in `centroid/`."""

from bluesky import RunEngine
from centroid.callback import centroid
from centroid.plan import find_peak
from ophyd.sim import SynAxis, SynGauss


def main() -> None:
    motor = SynAxis(name="motor", labels={"motors"})
    det = SynGauss("det", motor, "motor", center=0.7, Imax=1000, sigma=0.5)
    RE = RunEngine(call_returns_result=True)
    analysis = centroid()
    RE.subscribe(analysis)
    found = RE(find_peak([det], motor, -3.0, 3.0, 61, analysis=analysis, target_sigma=0.02)).plan_result
    analysis.close()
    print(found)
    assert abs(motor.position - 0.7) < 0.2


if __name__ == "__main__":
    main()
