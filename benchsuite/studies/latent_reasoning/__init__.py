"""The study ``latent_reasoning``: its declaration, its report, its figures."""
