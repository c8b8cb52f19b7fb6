"""What `moonshine init` looks at and writes."""
