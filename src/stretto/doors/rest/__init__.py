"""The REST door: what the waist offers, over HTTP. `app.build` makes the application; nothing here starts a server."""
