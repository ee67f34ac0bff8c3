"""The user's surface: the command, its runs and its reports. Only here do parts have names as
strings.
"""
