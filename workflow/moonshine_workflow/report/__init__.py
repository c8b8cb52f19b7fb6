"""The report: results read, computed and rendered section by section."""
