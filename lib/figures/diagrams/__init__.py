"""Drawings of the chapters' mechanisms, one file per chapter: functions from small computed numbers to a :class:`~lib.figures.drawing.Drawing`.

They see numbers and names, no models: a chapter computes with the library and hands over what is to be shown.  One role has
one look in all of them: ``run`` is what is computed or kept, ``dec`` what decides, ``off`` (dashed) what is left out, ``box``
what is merely there.  Lay out for text of 19 units, which is what a phone gets, and a canvas of at most 560 units.
"""
