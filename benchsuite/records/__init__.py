"""What is kept: typed records, the store that holds them, and the fingerprints that name them."""
