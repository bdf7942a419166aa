"""What the suite for logs needs of a place to keep them."""
