"""X-ray fluorescence spectra: energies and areas of emission lines, elements, maps."""
