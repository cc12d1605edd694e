"""The table of divisions: what it holds, and distances on it."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from trace_engine.registry.regions import MUNICIPALITIES, city_key, load_regions

REGIONS = load_regions()
WITH_POINT = np.flatnonzero(~np.isnan(REGIONS.latitude)).tolist()


def test_table_fits_int16_and_is_sorted() -> None:
    assert 6_000 < len(REGIONS) < 32_767
    assert sorted(set(REGIONS.codes)) == REGIONS.codes


def test_every_province_is_there() -> None:
    assert len(REGIONS.province_names) == 34
    assert REGIONS.province_names["37"] == "山东省"
    assert REGIONS.is_province.sum() == 34


@pytest.mark.parametrize(
    ("code", "name"),
    [
        ("110101", "北京市东城区"),
        ("370102", "山东省济南市历下区"),
        ("330113", "浙江省杭州市临平区"),  # made in 2021
        ("330104", "浙江省杭州市江干区"),  # gone since 2021
        ("659012", "新疆维吾尔自治区白杨市"),
        ("540481", "西藏自治区林芝市米林市"),
        ("653229", "新疆维吾尔自治区和田地区和安县"),
        ("429004", "湖北省仙桃市"),
    ],
)
def test_names(code: str, name: str) -> None:
    assert REGIONS.known(code)
    assert REGIONS.name(REGIONS.index(code)) == name


def test_full_names_begin_with_their_province() -> None:
    for i, name in enumerate(REGIONS.full_names_zh):
        province = REGIONS.province_names[f"{REGIONS.province[i]:02d}"]
        assert name.startswith(province)
        assert not name.removeprefix(province).startswith(province)


@pytest.mark.parametrize(
    ("code", "falls_back_to"),
    [
        ("370102", "370102"),
        ("370199", "370100"),
        ("379999", "370000"),
        ("370102001", "370102"),
        ("370102000000", "370102"),
        (" 370102 ", "370102"),
        ("999999", ""),
        ("37010a", ""),
        ("３７０１０２", ""),
        ("", ""),
    ],
)
def test_index(code: str, falls_back_to: str) -> None:
    assert REGIONS.code(REGIONS.index(code)) == falls_back_to


@pytest.mark.parametrize(
    ("first", "second", "same"),
    [
        ("370102", "370103", True),
        ("370102", "370202", False),
        ("110101", "110105", True),  # municipalities are one city
        ("500101", "500229", True),
        ("429004", "429005", False),  # counties directly under the province
        ("371202", "370102", True),  # Laiwu became part of Jinan
        ("330104", "330102", True),
        ("542421", "540602", True),  # the prefecture was renumbered
        ("370000", "370100", False),
    ],
)
def test_cities(first: str, second: str, same: bool) -> None:
    city = REGIONS.city
    assert (city[REGIONS.index(first)] == city[REGIONS.index(second)]) is np.bool_(same)


def test_city_of_a_division_in_force_is_its_first_four_digits() -> None:
    for i, code in enumerate(REGIONS.codes):
        plain = code[:2] not in (*MUNICIPALITIES, "71", "81", "82") and code[2:4] not in (
            "00",
            "90",
        )
        if plain and REGIONS.successor[i] < 0:
            assert REGIONS.city[i] == city_key(code) == int(code[:4])


def test_successors_never_lead_back() -> None:
    for start in range(len(REGIONS)):
        seen, at = {start}, int(REGIONS.successor[start])
        while at >= 0:
            assert at not in seen
            seen.add(at)
            at = int(REGIONS.successor[at])


def test_known_distance() -> None:
    distance = REGIONS.distance_km(REGIONS.index("110100"), REGIONS.index("310100"))
    assert float(distance) == pytest.approx(1067, abs=5)


@given(st.sampled_from(WITH_POINT), st.sampled_from(WITH_POINT), st.sampled_from(WITH_POINT))
def test_distance_is_a_metric(a: int, b: int, c: int) -> None:
    ab, ba, bc, ac, aa = REGIONS.distance_km([a, b, b, a, a], [b, a, c, c, a])
    assert ab == pytest.approx(ba)
    assert aa == 0
    assert ac <= ab + bc + 1e-6
    assert 0 <= ab < 6_000


def test_unknown_places_have_no_distance() -> None:
    no_point = REGIONS.index("659013")
    distances = REGIONS.distance_km([-1, 0, no_point], [0, -1, 0])
    assert np.isnan(distances).all()


def test_nearly_all_divisions_in_force_have_a_point_in_china() -> None:
    in_force = (REGIONS.valid_to == 0) & (REGIONS.successor < 0)
    placed = in_force & ~np.isnan(REGIONS.latitude)
    assert in_force.sum() - placed.sum() <= 1
    assert ((REGIONS.longitude[placed] > 73) & (REGIONS.longitude[placed] < 136)).all()
    assert ((REGIONS.latitude[placed] > 3) & (REGIONS.latitude[placed] < 54)).all()
