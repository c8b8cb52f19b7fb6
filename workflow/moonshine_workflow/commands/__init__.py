"""What ``moonshine ...`` offers: a module for each command."""
