"""The card of an address, drawn from a real tunnel to a real gate."""

import dataclasses
import html
import http.server
import re
import threading

import pytest

from reverie import settings
from reverie.faces.widgets import address
from reverie.faces.widgets.address import AddressCard
from reverie.host import tunnels
from reverie.host.platform import Platform

HERE = Platform(id="linux", name="Linux", root="/")
LOCAL = {"tunnels": [{"id": "local", "title": "this <machine>", "way": "local", "public": False, "note": "Mind & care."}]}


@pytest.fixture(scope="module")
def tunnel(tmp_path_factory):
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), http.server.BaseHTTPRequestHandler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    home = dataclasses.replace(settings.load(), storage=tmp_path_factory.mktemp("card"))
    with tunnels.open_tunnel(server.server_address[1], home, catalogue=LOCAL, where=HERE) as opened:
        yield opened
    server.shutdown()
    server.server_close()


def test_the_card_names_the_address_the_way_and_whether_it_was_checked(tunnel):
    card = AddressCard()
    card.show(tunnel)
    drawn = card.address.value
    assert f'value="{tunnel.url}"' in drawn and "this &lt;machine&gt;" in drawn and "checked: it leads here" in drawn and "Mind &amp; care." in drawn
    assert "for you only" in drawn and "navigator.clipboard" in html.unescape(drawn)


def test_the_password_is_on_the_page_only_while_it_is_asked_for(tunnel):
    card = AddressCard()
    card.show(tunnel)
    everything = lambda: card.address.value + card.password.value + card.reveal.description
    assert tunnel.password not in everything()
    card.reveal.click()
    assert tunnel.password in card.password.value and card.reveal.description == "Hide the password"
    card.reveal.click()
    assert tunnel.password not in everything()
    card.reveal.click()
    card.show(tunnel)
    assert tunnel.password not in everything(), "a new address shows no old password"


def test_without_a_tunnel_there_is_nothing_to_see():
    card = AddressCard()
    assert card.address.value == "" and card.reveal.layout.display == "none"
    card.reveal.click()
    assert card.password.value == ""


def test_an_address_that_is_gone_is_said(tunnel):
    gone = dataclasses.replace(tunnel, up=False)
    card = AddressCard()
    card.show(gone)
    assert "being opened again" in card.address.value and card.reveal.layout.display == "none"


@pytest.mark.parametrize("url, shown", [("https://x.trycloudflare.com/", True), ("http://127.0.0.1:81/", False), ("http://localhost:81/", False), ("/user/me/proxy/81/", False)])
def test_a_code_is_drawn_for_what_a_telephone_can_reach(url, shown):
    assert ("<svg" in address.code(url)) is shown


def test_what_stands_in_an_address_stays_text():
    drawn = address.field("Address", 'https://x/"><script>alert(1)</script>')
    assert "<script" not in drawn and re.search(r'value="https://x/&quot;', drawn)
    assert "<a " not in address.field("Password", "javascript:alert(1)")
