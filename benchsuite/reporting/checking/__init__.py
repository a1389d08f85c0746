"""Which numbers of a printed summary cannot belong together, and how many were held together."""
