"""The waist over HTTP: what the command line holds where a server does the work.

`target` and `credentials` say which server and with what token, and import nothing heavy; `client` has the waist itself and loads
the HTTP library. Nothing is imported here, so that a command which needs no server pays for none.
"""
