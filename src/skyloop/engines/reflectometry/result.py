"""What a reflectivity analysis says: the sample with uncertainties, and what the next point would tell."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from skyloop.errors import Outcome
from skyloop.quantities import FloatArray, Quantity

__all__ = ["MISFIT", "Result"]

MISFIT = 1e-3
"""A posterior predictive probability below it says that the model does not describe the data."""

_SLD = "1e-6/angstrom^2"

Lengths = Annotated[FloatArray, Quantity("angstrom", ("layer",))]
Slds = Annotated[FloatArray, Quantity(_SLD, ("layer",))]
Curve = Annotated[FloatArray, Quantity("", ("grid",))]
Length = Annotated[float, Quantity("angstrom")]
Sld = Annotated[float, Quantity(_SLD)]
Offset = Annotated[float, Quantity("1/angstrom")]


@dataclass(frozen=True, slots=True, eq=False)
class Result:
    """Means and standard deviations of the posterior; a known parameter has standard deviation 0.

    Layers are the interior layers from the fronting to the backing, each of a repeated group once.
    """

    outcome: Outcome
    """How the analysis ended."""
    reason: str
    """Why, unless it is `ok`."""
    n_points: int
    """Points that the result rests on."""
    target: float
    """Mean of the parameter that the user wants to know, in its own unit."""
    target_sigma: float
    """Standard deviation of it."""
    thickness: Lengths
    thickness_sigma: Lengths
    roughness: Lengths
    """Roughness of the interface above each layer."""
    roughness_sigma: Lengths
    sld: Slds
    """Scattering length density of each layer."""
    sld_sigma: Slds
    isld: Slds
    """Absorption of each layer, >= 0."""
    isld_sigma: Slds
    fronting_sld: Sld
    fronting_sld_sigma: Sld
    backing_roughness: Length
    backing_roughness_sigma: Length
    backing_sld: Sld
    backing_sld_sigma: Sld
    backing_isld: Sld
    backing_isld_sigma: Sld
    scale: float
    """Factor on the reflectivity."""
    scale_sigma: float
    background: float
    """Added to the reflectivity."""
    background_sigma: float
    q_offset: Offset
    """Added to the nominal wavevector transfer."""
    q_offset_sigma: Offset
    resolution: float
    """Factor on the resolution that the data give."""
    resolution_sigma: float
    chi2: float
    """Posterior mean of the sum of squared residuals, per point; near 1 when the model describes the data."""
    p_value: float
    """Posterior probability that data of the model fit it worse than the real data."""
    ess: float
    """Effective number of particles behind the numbers."""
    other_mode_mass: float
    """Posterior probability of another value of the target, far from `target`."""
    confirmed: bool
    """True when an independent inference over the whole prior was made and agrees, and the model fits."""
    confirmation_z: float
    """Difference of the two inferences in standard deviations; NaN when none was made."""
    further_layer_gain: float
    """Log likelihood of the best sample with one thin layer more, above the model's; NaN: not sought."""
    further_layer_target: float
    """The target with that layer, in its own unit; others may fit as well. NaN when it was not sought."""
    q_grid: Annotated[FloatArray, Quantity("1/angstrom", ("grid",))]
    """Candidates for the next point."""
    prediction: Curve
    """Expected reflectivity at each candidate."""
    prediction_sigma: Curve
    """Standard deviation of that expectation."""
    target_correlation: Curve
    """Correlation of the reflectivity at each candidate with the target."""
    exposure_grid: Annotated[FloatArray, Quantity("count", ("grid",))]
    """Exposure already spent nearest to each candidate, in counts at a reflectivity of one."""
