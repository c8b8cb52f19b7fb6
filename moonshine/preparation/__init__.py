"""Preparation of a dataset, once: from the source that its kind finds to the two files of prepared data."""
