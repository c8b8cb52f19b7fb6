"""Trial of a study, for `moonshine check`."""
