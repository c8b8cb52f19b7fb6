"""MLflow: runs of nodes that train and of those that have, and saved views that compare them."""
