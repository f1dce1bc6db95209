"""The command line: one file per command, nothing imported before a command needs it.

May import every room; no room imports it.
"""
