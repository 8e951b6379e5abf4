"""The service's pages: written on the server, readable without JavaScript; htmx keeps what moves up to date.

All that people or runs have written is escaped by the templates, and no page holds a script or a style of its own.
"""
