"""Declarations of the commands, a module for each panel of the help. Each command imports what it needs when it runs, so that
`--help` is quick. A panel's `panel` holds its commands in the order of the help.
"""
