"""Figures of merit, measured beside the peers on the same machine, in the same minute."""
