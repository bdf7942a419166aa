"""The command line: `stretto`. Commands live in modules of their own and are imported when they are called."""
