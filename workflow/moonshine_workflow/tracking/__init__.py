"""MLflow: runs while they train, runs that are filled in later, views that compare them."""
