"""Would anybody notice if one of our rules were broken? Each is, on purpose, in a world that lives on it.

`swap` breaks, `worlds` are lived in, `rules_*` say what is broken where, `table` judges. A test is one row.
"""
