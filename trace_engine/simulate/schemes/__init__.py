"""Planted schemes: what the detectors must find.

To add one, in a new module of this package (it is found by itself):

1. write ``def my_scheme(scene, who, cases)``: ``cases`` cases by ``who`` (see ``cast.By``), told
   with the desk (``desk.supply``, ``desk.ship``, ``desk.sell``; any column of ``rows.py`` by name);
2. record each: ``truth.add("detector_id", [(who, SUBJECT)], codes, wrong_events, "variant")``;
3. bend the registry where the scheme is one of papers: ``desk.market.papers`` and its neighbours;
4. end the module with ``SCHEMES: tuple[SchemeKind, ...] = (SchemeKind(my_scheme, ("detector_id",),
   By.SHOP, types=OWN_STOCK),)``; give ``rows`` where one case takes more than some 40 events.

Each kind draws from a random stream of its own, so that a new one leaves the others as they were.
A docstring says the shape, and the detector that must find it where the names differ. Schemes that
need the prices of honest trade are noted in ``scene.dumping`` and planted last (``dumping.py``).
"""
