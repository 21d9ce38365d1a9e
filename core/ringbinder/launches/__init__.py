"""What happens to one launch."""
