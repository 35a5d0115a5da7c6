"""Cards by name and by size: what of them a run may use."""

from __future__ import annotations

import pytest

from heron.errors import ConfigError
from heron.memory.case import SHARE_OF_FREE
from heron.memory.devices import CARDS, RESERVED, find_device


@pytest.mark.parametrize("given", ["16GB", "16gb", "16GiB", "16384MiB", " 16 GB "])
def test_a_size_is_taken_as_cards_are_sold(given: str) -> None:
    """Prevents: a card of 16 GB that is planned with 14.9 GiB, or one that is used to its last byte."""
    device = find_device(given)
    assert device.memory == 16 * 2**30 - RESERVED
    assert "16.00 GiB" in device.origin and "L4" in device.origin


@pytest.mark.parametrize("given", ["RTX-4090", "rtx 4090", "NVIDIA RTX_4090"])
def test_a_name_is_found_however_it_is_spelt(given: str) -> None:
    """Prevents: a table that only its author can use."""
    assert find_device(given).name == "RTX-4090"


def test_a_card_has_less_than_its_name_says() -> None:
    """Prevents: planning an L4 with 24 GiB, of which its driver shows 22.5."""
    assert find_device("L4").memory == 23034 * 2**20 - RESERVED < find_device("24GB").memory


@pytest.mark.parametrize(("given", "words"), [
    ("RTX-409", 'Did you mean "RTX-4090"?'), ("16", "a size such as 16GB"), ("0GB", "a size such as"), ("512MB", "leaves nothing"),
])
def test_what_is_no_card_is_refused(given: str, words: str) -> None:
    """Prevents: a plan for a device that was misread."""
    with pytest.raises(ConfigError, match=words.replace("?", r"\?")):
        find_device(given)


@pytest.mark.parametrize("name", CARDS)
def test_a_card_is_faster_in_products_than_in_bytes_by_its_data_sheet(name: str) -> None:
    """Prevents: a figure in the wrong unit: every card does 60 to 500 operations in the time of a byte, and reads 300 GB/s or more."""
    card = CARDS[name]
    assert 60 < card.teraflops * 1000 / card.gigabytes_a_second < 500
    assert card.gigabytes_a_second >= 300 and card.mebibytes >= 15_000


def test_the_share_of_the_cache_is_the_engines() -> None:
    """Prevents: a plan for a cache that the engine would make larger or smaller."""
    from heron.engine.native.cache import SHARE_OF_GPU, SHARE_OF_HOST

    assert SHARE_OF_FREE == {"gpu": SHARE_OF_GPU, "host": SHARE_OF_HOST}
