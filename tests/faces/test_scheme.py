"""Dark or light is one choice for all panels of a notebook."""

import pytest

from reverie import settings
from reverie.faces.widgets import look, scheme
from reverie.host import choices
from reverie.host.choices import Choices


@pytest.fixture
def fresh(monkeypatch, tmp_path):
    """A kernel in which no panel was shown yet, and a storage of its own."""
    monkeypatch.setenv("REVERIE_STORAGE", str(tmp_path))
    scheme._switches.clear()
    return settings.load()


def test_one_switch_turns_every_panel_and_those_that_come_later(fresh):
    import ipywidgets

    panels = [ipywidgets.VBox(), ipywidgets.VBox()]
    switches = [look.header("What it does.")[1] for _ in panels]
    for panel, switch in zip(panels, switches):
        look.follow_scheme(panel, switch)
    switches[0].value = True
    assert all("rv-light" in panel._dom_classes for panel in panels) and [switch.description for switch in switches] == ["Dark", "Dark"]
    late = look.header("Shown later.")[1]
    assert late.value
    late.value = False
    assert not any("rv-light" in panel._dom_classes for panel in panels) and switches[0].description == "Light"


def test_the_first_panel_is_as_it_was_kept(fresh):
    choices.save(Choices(theme="light"), fresh)
    assert scheme.switch().value


def test_a_settings_file_that_cannot_be_read_is_no_reason_to_show_nothing(fresh):
    choices.path(fresh).write_text("{")
    assert not scheme.switch().value
