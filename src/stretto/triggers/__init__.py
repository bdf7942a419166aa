"""What starts runs without a person: webhooks and schedules; and what tells a forge how its commits fared.

Knows the core and the waist's `RunRequest`; its tables are reached through `core.ports.Tables`, its runs go through `Accept`.
"""
