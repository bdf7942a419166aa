"""A server as a process: its parts joined, its log, its start, its checks and its end. Needs the extra `server`."""
