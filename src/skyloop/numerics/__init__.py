"""Mathematics that several engines share; torch, numpy and scipy only."""
