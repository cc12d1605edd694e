"""Benign twins: lives that look like a scheme and are none. No accusation may rest on them.

To add one, in a new module of this package (it is found by itself):

1. write ``def my_twin(desk, truth)``: one twin, told with the desk (``desk.supply``, ``desk.sell``);
2. record it: ``truth.add_benign("what_it_is", codes, uids(events))``;
3. take enterprises of its own from ``desk.market.found(kind)`` where it bends whole enterprises;
4. end the module with ``TWINS: tuple[TwinKind, ...] = (TwinKind(my_twin),)``; give ``rows`` if one
   twin takes more than some 30 events, ``smallest`` if it needs a big market.

Besides these, the honest market holds the same things in bulk: head offices that upload for their
stores, date-only bills, far warehouses in the register, late and repeated uploads (``noise.py``).
"""
