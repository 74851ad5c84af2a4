"""Configuration: one TOML file into frozen classes, a class a section.

``sections`` says what there is, ``load`` reads a file, ``sample`` writes a commented one from the classes,
``server_name`` and ``secrets`` are what ``veche init`` needs. A section is handed only to who uses it.
"""
