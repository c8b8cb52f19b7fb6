"""MLflow: live runs, back-filled runs, and saved views that compare them."""
