"""Networks: the built-in families and third-party models, by name."""
