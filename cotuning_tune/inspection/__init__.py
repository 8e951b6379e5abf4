"""Looks at a data set before a search does: is it all there, is it sound, what is in it.

Of a test split names, labels and bytes are read, to count and to compare; no image of it is shown and
none reaches a search.
"""
