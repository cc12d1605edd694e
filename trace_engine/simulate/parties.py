"""The enterprises of the simulated market and their online shops.

Sizes are Zipf-like and provinces weighted by population. Arrays are indexed by party number;
nothing here knows about goods or events.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from trace_engine.simulate.cities import CITIES

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]

# Types of parties (the contract's words), in the order in which parties are numbered.
TYPES = (
    "mah",
    "wholesaler",
    "chain_hq",
    "chain_store",
    "pharmacy",
    "public_hospital",
    "medical",
    "platform",
    "manufacturer",
    "logistics",
)
MAH, WHOLESALER, CHAIN_HQ, CHAIN_STORE, PHARMACY, PUBLIC_HOSPITAL, MEDICAL, PLATFORM = range(8)
MANUFACTURER, LOGISTICS = 8, 9  # only where a scheme or twin founds them
UNLICENSED = 10  # trades, but stands in no registry

RETAIL, ONLINE, MEDICINE = range(3)  # channels a seller to persons works in

# Arrays by party, and what stands in places that nobody has taken yet.
_BY_PARTY: dict[str, int] = {
    "type": -1,
    "city": 0,
    "province": 0,
    "warehouse": 0,
    "parent": -1,
    "group": -1,
    "uploader": 0,
    "channel": RETAIL,
    "shop_of": -1,
    "retail_factor": 1,
    "skew": 0,
    "date_only": False,
    "month_expiry": False,
    "no_price": False,
    "no_region": False,
    "bare_gs1": False,
    "apart": True,
}


class Parties:
    """Everybody that events refer to. ``sellers_planned``: about how many sell to persons."""

    def __init__(self, rng: np.random.Generator, sellers_planned: int) -> None:
        self.rng = rng
        self.sellers_planned = sellers_planned
        self.status: dict[int, tuple[str, int]] = {}  # party -> status other than active, since
        self.unreported_shops: set[int] = set()  # by number: nobody reported them
        self._people()

    def _people(self) -> None:
        rng = self.rng
        planned = self.sellers_planned
        province = np.array([int(c.code[:2]) for c in CITIES])
        self.city_province = province
        population = np.array([c.population for c in CITIES])
        provinces = np.unique(province)
        wholesalers = max(3 * len(provinces), planned // 16)
        headquarters = max(len(provinces) // 2, planned // 80)
        counts = {
            MAH: max(16, int(planned**0.5)),
            WHOLESALER: wholesalers,
            CHAIN_HQ: headquarters,
            CHAIN_STORE: int(planned * 0.36),
            PHARMACY: int(planned * 0.34),
            PUBLIC_HOSPITAL: max(12, int(planned * 0.06)),
            MEDICAL: int(planned * 0.24),
            PLATFORM: 4,
        }
        self.type = np.repeat(list(counts), list(counts.values()))
        self.count = len(self.type)
        # Founded for a scheme or twin (see found()): honest trade does not know them.
        self.apart = np.zeros(self.count, bool)
        self._first = {k: int(np.argmax(self.type == k)) for k in counts}
        share = population / population.sum()
        self.city = rng.choice(len(CITIES), self.count, p=share).astype(np.int64)
        # At least three wholesalers in every province, so that every chain can stay inside it.
        first = self.first(WHOLESALER)
        for i, p in enumerate(np.repeat(provinces, 3)):
            self.city[first + i] = rng.choice(np.flatnonzero(province == p))
        head = self.members(CHAIN_HQ)
        stores = self.members(CHAIN_STORE)
        self.parent = np.full(self.count, -1, np.int64)
        size = 1.0 / np.arange(1, len(head) + 1) ** 0.8
        self.parent[stores] = head[rng.choice(len(head), len(stores), p=size / size.sum())]
        # Stores lie in the province of their head office, in any of its cities.
        home = province[self.city[self.parent[stores]]]
        for p in provinces:
            here = stores[home == p]
            cities = np.flatnonzero(province == p)
            weight = population[cities] / population[cities].sum()
            self.city[here] = cities[rng.choice(len(cities), len(here), p=weight)]
        self.group = np.full(self.count, -1, np.int64)
        self.group[head] = head
        self.group[stores] = self.parent[stores]
        # National distributors: the first wholesaler of every province belongs to one of three.
        nationals = first + 3 * np.arange(len(provinces))
        self.group[nationals] = first + 3 * (np.arange(len(provinces)) % 3)
        self.province = province[self.city]
        self._habits()
        self._shops()
        self._index_wholesalers()
        self._city_share = share

    def _habits(self) -> None:
        """Draw how each party scans and uploads."""
        rng, n = self.rng, self.count
        draw = rng.random((6, n))
        # Bills that carry a date only: a habit of a quarter of the wholesalers and some others.
        self.date_only = draw[0] < np.select(
            [self.type == WHOLESALER, self.type == MAH, self.type == MEDICAL], [0.25, 0.2, 0.2], 0.1
        )
        self.month_expiry = draw[1] < 0.08
        self.no_price = (draw[2] < 0.06) & (self.type == WHOLESALER)
        self.no_region = draw[3] < 0.05
        self.bare_gs1 = draw[3] > 0.8  # scanners that print GS1 codes without brackets
        # A clock that is off by up to ten minutes, seconds.
        self.skew = np.where(draw[4] < 0.08, rng.integers(-600, 601, n), 0)
        # Head offices that upload for their stores.
        uploads = (draw[5] < 0.4) & (self.type == CHAIN_HQ)
        self.uploader = np.arange(n)
        stores = self.members(CHAIN_STORE)
        by_head = uploads[self.parent[stores]]
        self.uploader[stores[by_head]] = self.parent[stores[by_head]]
        self.date_only[self.members(CHAIN_STORE)] = self.date_only[self.parent[stores]]

    def _shops(self) -> None:
        """Open online shops for a sixth of the single pharmacies, a third with a far warehouse."""
        rng = self.rng
        pharmacies = self.members(PHARMACY)
        online = pharmacies[rng.random(len(pharmacies)) < 1 / 6]
        if len(online) < 6:
            online = pharmacies[:6]
        self.online = online
        self.shop_owner = online
        platforms = self.members(PLATFORM)
        self.shop_platform = platforms[rng.integers(0, len(platforms), len(online))]
        self.shop_of = np.full(self.count, -1, np.int64)
        self.shop_of[online] = np.arange(len(online))
        self.warehouse = self.city.copy()  # where goods of a party lie and leave from
        far = online[rng.random(len(online)) < 1 / 3]
        if len(far) == 0:
            far = online[:1]
        for party in far.tolist():
            same = np.flatnonzero(self.city_province == self.province[party])
            others = np.setdiff1d(np.arange(len(CITIES)), [self.city[party]])
            choice = same if rng.random() < 0.5 and len(same) > 1 else others
            self.warehouse[party] = rng.choice(choice)
        self.channel = np.full(self.count, RETAIL, np.int64)
        self.channel[online] = ONLINE
        self.channel[(self.type == PUBLIC_HOSPITAL) | (self.type == MEDICAL)] = MEDICINE
        self.sellers = np.flatnonzero(
            np.isin(self.type, [CHAIN_STORE, PHARMACY, PUBLIC_HOSPITAL, MEDICAL])
        )
        factor = np.array([0, 0, 0, 1.2, 1.0, 7.0, 0.5, 0])[self.type[self.sellers]]
        factor = np.where(self.channel[self.sellers] == ONLINE, 5.0, factor)
        zipf = (1 + rng.permutation(len(self.sellers))) ** -0.6
        weight = factor * np.maximum(zipf, 0.05)
        self.seller_weight = weight / weight.sum()
        self.seller_cdf = np.cumsum(self.seller_weight)
        self.retail_factor = 0.97 + 0.1 * rng.random(self.count)  # how dear a shop is

    def _index_wholesalers(self) -> None:
        wholesalers = self.members(WHOLESALER)
        order = wholesalers[np.argsort(self.province[wholesalers], kind="stable")]
        provinces, start, number = np.unique(
            self.province[order], return_index=True, return_counts=True
        )
        self._wholesalers_sorted = order
        self._wholesaler_start = np.zeros(100, np.int64)
        self._wholesaler_number = np.zeros(100, np.int64)
        self._wholesaler_start[provinces] = start
        self._wholesaler_number[provinces] = number

    def first(self, kind: int) -> int:
        """Return the number of the first party of a type."""
        return self._first[kind]

    def members(self, kind: int) -> Ints:
        """Return the numbers of all parties of a type that take part in honest trade."""
        return np.flatnonzero((self.type == kind) & ~self.apart)

    def wholesaler_in(
        self, province: Ints, rng: np.random.Generator, second_tier: bool = False
    ) -> Ints:
        """Return a wholesaler in each province; early, that is bigger, ones are drawn more often.

        Two thirds of a province's wholesalers buy from makers (first tier), the last third from
        them. Nobody does both: mixed purchase prices would make honest sales look like losses.
        """
        number = self._wholesaler_number[province]
        first_tier = number - number // 3
        low = np.where(second_tier, first_tier, 0)
        count = np.where(second_tier, number - first_tier, first_tier)
        place = low + (count * rng.random(len(province)) ** 2).astype(np.int64)
        found: Ints = self._wholesalers_sorted[self._wholesaler_start[province] + place]
        return found

    def buys_from_makers(self, wholesalers: Ints) -> npt.NDArray[np.bool_]:
        """Return which wholesalers are of the first tier (see :meth:`wholesaler_in`)."""
        place = np.zeros(self.count, np.int64)
        start = self._wholesaler_start[self.province[self._wholesalers_sorted]]
        place[self._wholesalers_sorted] = np.arange(len(self._wholesalers_sorted)) - start
        number = self._wholesaler_number[self.province[wholesalers]]
        return np.asarray(place[wholesalers] < number - number // 3)

    def found(self, kind: int, city: int, parent: int = -1) -> int:
        """Return a new enterprise of a type in a city, that only its founder deals with.

        ``parent``: the head office of a chain store. Its bills carry times, prices and regions,
        it uploads for itself and has no online shop (see :meth:`open_shop`).
        """
        if self.count == len(self.type):
            self._make_room(max(64, self.count // 50))
        party = self.count
        self.count += 1
        self.type[party] = kind
        self.city[party] = self.warehouse[party] = city
        self.province[party] = self.city_province[city]
        self.parent[party] = parent
        self.group[party] = parent
        self.uploader[party] = party
        self.channel[party] = MEDICINE if kind in (PUBLIC_HOSPITAL, MEDICAL) else RETAIL
        self.retail_factor[party] = 1.0
        return party

    def _make_room(self, more: int) -> None:
        """Lengthen every array by party; nobody (type -1) stands in the new places."""
        for name, nothing in _BY_PARTY.items():
            old = getattr(self, name)
            setattr(self, name, np.concatenate([old, np.full(more, nothing, old.dtype)]))

    def found_anywhere(self, kind: int, rng: np.random.Generator, province: int = 0) -> int:
        """Return a new enterprise in a city drawn by population, of a province (0: any)."""
        share = self._city_share
        if province:
            share = np.where(self.city_province == province, share, 0.0)
        return self.found(kind, int(rng.choice(len(share), p=share / share.sum())))

    def stranger(self, city: int) -> int:
        """Return a new trader that stands in no registry."""
        return self.found(UNLICENSED, city)

    def open_shop(self, party: int, platform: int, reported: bool = True) -> int:
        """Give a founded enterprise an online shop; returns the shop's number."""
        shop = len(self.shop_owner)
        self.shop_owner = np.append(self.shop_owner, party)
        self.shop_platform = np.append(self.shop_platform, platform)
        self.shop_of[party] = shop
        self.channel[party] = ONLINE
        if not reported:
            self.unreported_shops.add(shop)
        return shop

    def city_of(self, party: int) -> int:
        """Return the city where the goods of a party lie (also of strangers)."""
        return int(self.warehouse[party])
