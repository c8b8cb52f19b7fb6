"""A network described by data: written, read and rebuilt without pickle."""
