"""Source trees: mirrors and checkouts of git repositories, and a private writable view for each attempt."""
