"""Who may do what on a server: tokens, scopes, repositories that a token is bound to, rate limits, the audit log.

Knows nothing of HTTP; a door translates what it decides.
"""
