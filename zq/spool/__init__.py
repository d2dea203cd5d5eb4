"""What a spool keeps on disk."""
