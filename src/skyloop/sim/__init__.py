"""The simulated beamline: devices driven by the engines' own forward models, for the demo and the tests.

The modules are imported one by one: `reflectometer` and `fluorescence` need the extra `sim`,
`reflectometer_async` and `fluorescence_async` the extra `async`, `ioc` and `epics` the extra `epics`.
"""
