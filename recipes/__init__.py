"""How the data files of the package were made; each module rebuilds one of them."""
