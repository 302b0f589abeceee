"""The page in a headless Chromium, against a service with a really trained model."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from seqmlm_domains.code.completion.completer import PARTS, Completer
from seqmlm_domains.code.completion.context_table import ContextTable
from seqmlm_domains.code.completion.mixture import Mixture
from seqmlm_domains.code.completion.project import Project
from seqmlm_domains.code.serving.settings import ServerSettings
from tests.code.serving.http.browser import Browser, missing_programs, open_browser
from tests.code.serving.http.served import Served, served
from tests.code.serving.scripted_completer import ScriptedCompleter

pytestmark = pytest.mark.skipif(
    bool(missing_programs()), reason=f"not installed: {', '.join(missing_programs())}"
)

NAMES = "[...document.querySelectorAll('.candidate')].map((row) => row.dataset.text)"
POPUP = "[...document.querySelectorAll('.cm-completionLabel')].map((label) => label.textContent)"
SETTINGS = ServerSettings(deadline_ms=30_000, client_burst=10_000)
EDITOR = ".cm-content"


@pytest.fixture(scope="module")
def completer(code_run: Path) -> Completer:
    return Completer.load(code_run)


@pytest.fixture(scope="module")
def service(completer: Completer) -> Iterator[Served]:
    with served(completer, settings=SETTINGS) as running:
        yield running


@pytest.fixture(scope="module")
def window() -> Iterator[Browser]:
    with open_browser() as opened:
        yield opened


@pytest.fixture
def browser(window: Browser, service: Served) -> Browser:
    """The page, freshly loaded, with the sample of Python completed."""
    window.open(service.address)
    window.wait_until(f"{NAMES}.length > 0")
    return window


def text_of(browser: Browser) -> str:
    lines: list[str] = browser.run(
        "return [...document.querySelectorAll('.cm-line')].map((line) => line.textContent)"
    )
    return "\n".join(lines)


def test_names_are_offered_as_one_types_and_tab_takes_the_first(browser: Browser) -> None:
    browser.type_keys(EDITOR, "quant")
    browser.wait_until(f"{POPUP}.includes('quantities')")
    first = browser.run(f"return {POPUP}[0]")
    # CodeMirror ignores keys for 75 ms after the list has opened.
    browser.run("return new Promise((resolve) => setTimeout(resolve, 150))")
    browser.type_keys(EDITOR, "\ue004")

    assert first.startswith("quant")
    assert f"known_quantity = self.{first}" in text_of(browser)


def test_the_panel_shows_the_score_of_every_candidate_and_the_parts_that_spoke(
    browser: Browser,
) -> None:
    # In one look: the lexical answer, which has a part less, may make way for the model's.
    rows, legend = browser.run(
        """return [
             [...document.querySelectorAll('.candidate')].map((row) => ({
               percent: row.querySelector('.percent').textContent,
               parts: row.querySelectorAll('.part').length,
               source: row.dataset.source,
             })),
             [...document.querySelectorAll('#legend .entry')].map((entry) => entry.textContent),
           ]"""
    )

    assert legend
    for row in rows:
        assert row["percent"].endswith(" %")
        assert row["parts"] == len(legend)
        assert row["source"] in legend


def test_the_panel_says_whether_the_model_has_spoken(browser: Browser) -> None:
    browser.wait_until("document.getElementById('status').dataset.state === 'model'")

    assert browser.run("return document.getElementById('status').textContent").endswith(" ms")


def test_the_panel_and_the_popup_agree(browser: Browser) -> None:
    browser.type_keys(EDITOR, "quan")
    browser.wait_until(f"{POPUP}.length > 0 && {NAMES}.every((name) => name.startsWith('quan'))")

    assert browser.run(f"return {POPUP}") == browser.run(f"return {NAMES}")


def test_characters_outside_the_basic_plane_do_not_shift_the_insertion(browser: Browser) -> None:
    browser.run(
        """document.querySelector('.cm-content').focus();
           document.execCommand('insertText', false, "; '\\u{1F600}\\u{1F600}'; self.wareh")"""
    )
    browser.wait_until(f"{POPUP}.includes('warehouse')")
    browser.run("return new Promise((resolve) => setTimeout(resolve, 150))")
    browser.type_keys(EDITOR, "\ue004")

    assert "'\U0001f600\U0001f600'; self.warehouse" in text_of(browser)


def test_the_rest_of_a_word_is_not_left_behind_the_name(browser: Browser) -> None:
    browser.run(
        """document.querySelector('.cm-content').focus();
           document.execCommand('insertText', false, "; self.ware\\u{20000}use")"""
    )
    left = "\ue012"
    browser.type_keys(EDITOR, 4 * left + "h")
    browser.wait_until(f"{POPUP}.includes('warehouse')")
    browser.run("return new Promise((resolve) => setTimeout(resolve, 150))")
    browser.type_keys(EDITOR, "\ue004")

    assert text_of(browser).splitlines()[-1].endswith("; self.warehouse")


@pytest.mark.parametrize("language", ["java", "typescript", "tsx", "javascript"])
def test_every_language_has_a_sample_that_is_completed(browser: Browser, language: str) -> None:
    choose(browser, language)

    assert browser.wait_until(f"{NAMES}.length > 0 && {NAMES}")


def test_the_page_opens_on_a_language_of_the_run_and_says_which_are_none(window: Browser) -> None:
    java = Project({"java": ContextTable.of([])}, {"java": Mixture.typical()}, {})
    notice = "document.getElementById('notice')"
    with served(ScriptedCompleter(project=java), settings=SETTINGS) as service:
        window.open(service.address)
        window.wait_until(f"{NAMES}.length > 0")
        assert window.run("return document.getElementById('language').value") == "java"
        assert "class" in text_of(window)
        assert window.run(f"return {notice}.hidden")
        choose(window, "python")
        window.wait_until(f"!{notice}.hidden")
        assert "no file in python, only to java" in window.run(f"return {notice}.textContent")
        marked = "[...document.getElementById('language').options].map((one) => one.text)"
        assert window.run(f"return {marked}")[:2] == ["Python (not fitted)", "Java"]


def choose(browser: Browser, language: str) -> None:
    browser.run(
        """const select = document.getElementById('language');
           document.getElementById('candidates').replaceChildren();
           select.value = arguments[0];
           select.dispatchEvent(new Event('change'))""",
        language,
    )


def test_another_language_completes_what_one_has_typed_and_keeps_it(browser: Browser) -> None:
    browser.type_keys(EDITOR, "quan")
    typed = text_of(browser)
    assert "known_quantity = self.quan" in typed
    choose(browser, "typescript")
    browser.wait_until(f"{NAMES}.length > 0")
    assert text_of(browser) == typed
    choose(browser, "python")
    browser.wait_until(f"{NAMES}.includes('quantities')")
    assert text_of(browser) == typed


def test_every_part_that_speaks_has_a_colour_of_its_own(browser: Browser) -> None:
    # The lexical answer, in which the model has no part, comes first.
    entries = "document.querySelectorAll('#legend .entry').length"
    browser.wait_until(f"{entries} === {len(PARTS)}")
    colours: dict[str, str] = browser.run(
        """return Object.fromEntries(
             [...document.querySelectorAll('#legend .entry')].map((entry) =>
               [entry.textContent, entry.querySelector('.dot').style.background]))"""
    )
    assert set(colours) == set(PARTS)
    assert len(set(colours.values())) == len(PARTS)
    assert colours["syntax"] == "var(--part-3)"


def test_the_page_asks_no_other_machine_and_has_no_errors(browser: Browser) -> None:
    addresses: list[str] = browser.run(
        "return performance.getEntriesByType('resource').map((entry) => entry.name)"
    )
    own = browser.run("return location.origin")

    assert addresses
    assert all(address.startswith((own, "data:")) for address in addresses)
    assert browser.console_errors() == []


def test_colours_follow_the_system_and_the_button(browser: Browser) -> None:
    colour = "return getComputedStyle(document.body).backgroundColor"
    browser.emulate_colours("dark")
    dark = browser.run(colour)
    browser.emulate_colours("light")
    light = browser.run(colour)
    browser.run("document.documentElement.dataset.theme = 'dark'")

    assert dark != light
    assert browser.run(colour) == dark


def test_the_interface_is_described_without_another_machine(
    window: Browser, service: Served
) -> None:
    window.open(f"{service.address}/docs")
    window.wait_until("document.querySelectorAll('section').length >= 5")

    text = window.run("return document.body.innerText")
    assert "/v1/completions" in text
    assert "segments.prefix" in text
    assert window.console_errors() == []


def test_a_missing_token_is_asked_for(completer: Completer, window: Browser) -> None:
    with served(completer, settings=SETTINGS, token=b"secret") as service:
        window.open(service.address)
        window.wait_until("!document.getElementById('credentials').hidden")
        window.type_keys("#token", "secret\ue007")
        window.run("document.getElementById('token').blur()")
        assert window.wait_until(f"{NAMES}.length > 0 && {NAMES}")
