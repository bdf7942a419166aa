"""Import paths of code written for the first implementation of these processes. Everything lives in `stretto.process`."""
