"""What the Makefile, CI and the tests need around Stretto: services, images. The standard library only, so that it runs
on a fresh machine before anything is set up."""
