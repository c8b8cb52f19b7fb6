"""The report: what a study found, section by section."""
