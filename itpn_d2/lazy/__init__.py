"""Configs of lazy calls: reading them as data, checking them, building what they describe.

A call is a mapping with ``_target_``, a class or function, and its arguments. Modules: ``options`` (which
arguments a target takes), ``types`` (which values), ``targets`` (which targets a data file may name),
``calls`` (the check of a whole config), ``build``, ``yaml_files``, ``texts``. Of the project, they import the
errors alone.
"""
