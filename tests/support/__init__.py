"""What tests share: repositories, the CLI as a subprocess, images, services."""
