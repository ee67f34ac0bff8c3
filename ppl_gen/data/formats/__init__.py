"""Formats of users' own files, one file for each: arrays, tables, images, text."""
