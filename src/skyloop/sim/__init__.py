"""The simulated beamline: devices driven by the engines' own forward models, for the demo and the tests.

The modules are imported one by one: `reflectometer` needs the extra `sim`, `reflectometer_async` the extra
`async`, `ioc` and `epics` the extra `epics`.
"""
