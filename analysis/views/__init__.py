"""One question a file.

A function `(Results) -> Section` under `@VIEWS.register(name)`; see `analysis.report.section`.
"""
