"""The provider ``ssh``: a few computers of one's own."""
