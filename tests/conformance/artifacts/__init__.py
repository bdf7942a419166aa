"""What the suite for artifacts needs of a place to keep them."""
