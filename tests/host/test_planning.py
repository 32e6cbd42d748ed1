"""The plan before a download: pure, so it is asked with thousands of made-up wishes."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reverie.errors import DiskFull
from reverie.host.downloads import tables as plan_tables, planning
from reverie.host.downloads.planning import Found, Here, Place
from reverie.host.resources import FOLDERS, Link, Resource
from reverie.settings import config

GB = 10**9
ROOMY = Here(free_bytes=1000 * GB)


def sha(sign: str) -> str:
    return (sign * 64)[:64]


def file(name="a.safetensors", url="", size=GB, digest="", kind="lora", **more) -> Resource:
    return Resource(kind=kind, name=name, url=url or f"https://example.org/{name}", source="url", size=size, sha256=digest, **more)


def found(*files: Resource, refusal="") -> Found:
    address = files[0].url if files else "https://example.org/nothing"
    return Found(Link(text=address, address=address), tuple(files), refusal)


def plan(*all_found: Found, here: Here = ROOMY, allow=()):
    return planning.make(all_found, here, allow)


def actions(made) -> list[str]:
    return [row.action for row in made.rows]


def test_what_is_not_here_is_fetched_and_counted():
    made = plan(found(file("a.safetensors", size=2 * GB)), found(file("b.safetensors", size=GB)))
    assert actions(made) == ["fetch", "fetch"] and made.fetch_bytes == 3 * GB and not made.lacking_bytes


def test_what_lies_there_is_left_out_and_what_only_the_depot_has_is_linked():
    here = replace(ROOMY, kept=frozenset({sha("a"), sha("b")}), places={("lora", "a.safetensors"): Place(sha("a"), GB)})
    made = plan(found(file("a.safetensors", digest=sha("a"))), found(file("b.safetensors", digest=sha("b"))), here=here)
    assert actions(made) == ["skip", "link"] and made.fetch_bytes == 0 and made.need_bytes == 0


def test_a_url_that_was_fetched_before_is_known_by_its_bytes():
    here = replace(ROOMY, kept=frozenset({sha("a")}), known={"https://example.org/a.safetensors": sha("a")})
    assert actions(plan(found(file()), here=here)) == ["link"]


def test_a_broken_off_download_is_carried_on_and_only_the_rest_counts():
    wish = file(size=10 * GB)
    made = plan(found(wish), here=replace(ROOMY, partial={wish.key: 4 * GB}))
    assert actions(made) == ["resume"] and made.rows[0].there == 4 * GB and made.fetch_bytes == 6 * GB


def test_the_same_file_asked_for_twice_is_one_row_that_says_so():
    made = plan(found(file()), found(file()))
    assert actions(made) == ["fetch"] and "more than once" in made.rows[0].notes[-1]


def test_the_same_bytes_under_two_names_are_fetched_once_and_linked():
    made = plan(found(file("a.safetensors", digest=sha("a"))), found(file("b.safetensors", digest=sha("a"))))
    assert actions(made) == ["fetch", "link"] and made.fetch_bytes == GB and "a.safetensors" in made.rows[1].notes[-1]


def test_two_files_that_want_one_name_get_two_names_and_say_so():
    made = plan(found(file(url="https://x.org/1")), found(file(url="https://x.org/2")), found(file("A.safetensors", url="https://x.org/3")))
    assert [row.name for row in made.rows] == ["a.safetensors", "a-2.safetensors", "A-3.safetensors"]
    assert "another file" in made.rows[1].notes[0] and made.rows[1].resource.name == "a-2.safetensors"


def test_a_file_of_the_user_is_never_in_the_way_of_another_of_that_name():
    here = replace(ROOMY, places={("lora", "a.safetensors"): Place(sha("b"), GB)})
    assert [row.name for row in plan(found(file(digest=sha("a"))), here=here).rows] == ["a-2.safetensors"]
    unread = replace(ROOMY, places={("lora", "a.safetensors"): Place("", GB - 1)})
    assert [row.name for row in plan(found(file()), here=unread).rows] == ["a-2.safetensors"]


def test_a_file_of_that_name_and_length_is_left_as_it_is():
    made = plan(found(file()), here=replace(ROOMY, places={("lora", "a.safetensors"): Place("", GB)}))
    assert actions(made) == ["skip"] and "left as it is" in made.rows[0].notes[0]


def test_two_folders_of_one_name_are_kept_apart_whole():
    ours, other = ([file(f"sd/{part}", url=f"https://{host}.org/{part}", kind="diffusers") for part in ("unet/x.json", "vae/y.json")] for host in "ab")
    made = plan(found(*ours), found(*other))
    assert [row.name for row in made.rows] == ["sd/unet/x.json", "sd/vae/y.json", "sd-2/unet/x.json", "sd-2/vae/y.json"]


def test_a_folder_s_files_that_differ_in_case_alone_cannot_both_be_had():
    made = plan(found(*[file(f"sd/{name}", url=f"https://a.org/{name}", kind="diffusers") for name in ("x.json", "X.json")]))
    assert actions(made) == ["fetch", "refused"] and "case alone" in made.rows[1].reason


@pytest.mark.parametrize("name", ["../a.safetensors", "/etc/passwd", "a/b.safetensors", "..\\a.safetensors", "C:a.safetensors", "..", "", "a\nb", "a. ", "x" * 250, "sd/../../x"])
@pytest.mark.parametrize("kind", ["lora", "diffusers"])
def test_a_name_that_leads_elsewhere_is_refused(name, kind):
    if kind == "diffusers" and name == "a/b.safetensors":
        pytest.skip("that is what a folder's files are called")
    made = plan(found(file(name, url="https://example.org/x", kind=kind)))
    assert actions(made) == ["refused"] and "The name" in made.rows[0].reason


@pytest.mark.parametrize("ending", config("sources")["pickles"])
def test_a_pickle_is_refused_unless_it_is_allowed_by_its_own_name(ending):
    wish = found(file(f"old{ending}"))
    assert actions(plan(wish)) == actions(plan(wish, allow=["other.pt"])) == ["refused"]
    assert "--allow-pickle" in plan(wish).rows[0].reason
    assert actions(plan(wish, allow=[f"old{ending}"])) == ["fetch"]


def test_what_needs_a_login_says_which_secret():
    wish = found(file(token="HF_TOKEN"))
    assert "HF_TOKEN" in plan(wish).rows[0].reason and actions(plan(wish)) == ["refused"]
    assert actions(plan(wish, here=replace(ROOMY, tokens=frozenset({"HF_TOKEN"})))) == ["fetch"]


def test_a_dead_link_stops_no_other_and_what_leads_to_nothing_is_here():
    made = plan(found(refusal="There is nothing at x."), found(file()), found())
    assert actions(made) == ["refused", "fetch", "skip"] and made.rows[0].reason == "There is nothing at x."


def test_a_kind_that_nothing_tells_is_asked_for():
    assert "kind" in plan(found(file(kind=""))).rows[0].reason


def test_a_disk_too_small_is_told_before_anything_moves():
    made = plan(found(file(size=10 * GB)), here=Here(free_bytes=4 * GB))
    with pytest.raises(DiskFull, match=r"10\.1 GB.*4\.0 GB are free at /data.*Free 6\.1 GB more"):
        made.check_room("/data")
    plan(found(file(size=10 * GB)), here=Here(free_bytes=11 * GB)).check_room()


def test_copies_for_views_without_links_count_too():
    here = replace(ROOMY, copies=2, kept=frozenset({sha("b")}), free_bytes=8 * GB)
    made = plan(found(file(size=2 * GB)), found(file("b.safetensors", size=GB, digest=sha("b"))), here=here)
    assert made.copy_bytes == 6 * GB and made.lacking_bytes and "copies" in plan_tables.text(made)


def test_unknown_sizes_are_said_and_not_counted_as_nothing():
    made = plan(found(file(size=0)), found(file("b.safetensors")))
    assert made.unknown == 1 and made.fetch_bytes == GB and "1 of unknown size" in plan_tables.text(made)
    assert "a.safetensors  ?\n" in plan_tables.text(made)
    assert plan(found(file(size=0)), here=Here(free_bytes=1)).lacking_bytes


def test_the_page_shows_a_name_as_text_and_never_as_markup():
    made = plan(found(refusal="<script>alert(1)</script>"))
    assert "<script>" not in plan_tables.html(made) and "&lt;script&gt;" in plan_tables.html(made)


def test_a_long_plan_shows_what_matters():
    many = [file(f"sd/{number}.json", size=10, kind="diffusers") for number in range(200)]
    shown = plan_tables.text(plan(found(*many), found(file(size=5 * GB)), found(refusal="Dead.")))
    assert "Dead." in shown and "a.safetensors" in shown and "and 142 files more" in shown


# ------------------------------------------------------------------------------------------------------- of any wishes

names = st.sampled_from(["a.safetensors", "A.safetensors", "b.safetensors", "a-2.safetensors", "sd/x.json", "sd/X.json", "sd-2/x.json", "../x", "p.pt"])
digests = st.sampled_from(["", sha("a"), sha("b"), sha("c")])
urls = st.sampled_from([f"https://example.org/{number}" for number in range(4)])
kinds = st.sampled_from(["lora", "checkpoint", "diffusers", ""])


@st.composite
def resources(draw):
    digest = draw(digests)
    size = 1000 + ord(digest[0]) if digest else draw(st.sampled_from([0, 5]))
    url = draw(urls)
    return Resource(draw(kinds), draw(names), url, "url", size=size, sha256=digest, token=draw(st.sampled_from(["", "", "HF_TOKEN"])))


wishes = st.lists(st.builds(lambda files: found(*files), st.lists(resources(), max_size=4)), max_size=8)


@st.composite
def heres(draw):
    kept = draw(st.sets(st.sampled_from([sha("a"), sha("b"), sha("c")])))
    known = {url: digest for url, digest in draw(st.dictionaries(urls, st.sampled_from([sha("a"), sha("b")]))).items()}
    spots = st.tuples(st.sampled_from(["lora", "checkpoint", "diffusers"]), names)
    places = draw(st.dictionaries(spots, st.builds(Place, digests, st.integers(0, 2000)), max_size=5))
    return Here(draw(st.integers(0, 2 * planning.MARGIN_BYTES)), frozenset(kept), known, places, {}, draw(st.integers(0, 2)))


@given(wishes, heres())
def test_no_two_files_get_one_name_and_no_row_leads_out_of_its_folder(asked, here):
    made = planning.make(asked, here)
    rows = [row for row in made.rows if row.action != "refused" and row.resource]
    spots = [(row.kind, row.name.casefold()) for row in rows]
    assert len(spots) == len(set(spots))
    for row in rows:
        assert row.kind in FOLDERS and not planning.name_fault(row.kind, row.name) and row.resource.name == row.name


@given(wishes, heres())
def test_nothing_that_lies_there_is_written_over(asked, here):
    there = {(kind, name.casefold()) for kind, name in here.places}
    for row in planning.make(asked, here).of("fetch", "resume", "link"):
        assert (row.kind, row.name.casefold()) not in there


@given(wishes, heres())
def test_no_bytes_come_twice_and_none_that_are_here(asked, here):
    made = planning.make(asked, here)
    coming = [row.resource.sha256 or here.known.get(row.resource.url) or row.resource.url for row in made.rows if row.moves]
    assert len(coming) == len(set(coming)) and not set(coming) & here.kept


@given(wishes, heres())
def test_every_wish_is_answered_and_every_refusal_says_why(asked, here):
    made = planning.make(asked, here)
    assert {one.link.text for one in asked} <= {row.asked for row in made.rows} | {f.link.text for f in asked if f.resources}
    assert all(bool(row.reason) == (row.action == "refused") and row.action in planning.ACTIONS for row in made.rows)


@given(wishes, heres())
def test_once_carried_out_the_same_wishes_move_nothing(asked, here):
    made = planning.make(asked, here)
    digest = {}
    for row in made.rows:
        if row.action in ("fetch", "resume", "link"):
            digest[row.resource.url] = row.resource.sha256 or here.known.get(row.resource.url) or sha("f" + str(len(digest)))
    places = {**here.places}
    for row in made.of("fetch", "resume", "link"):
        places[row.kind, row.name] = Place(row.resource.sha256 or here.known.get(row.resource.url) or digest[row.resource.url], row.size)
    kept = here.kept | {place.sha256 for place in places.values()}
    known = {**digest, **here.known}
    again = planning.make(asked, replace(here, places=places, kept=kept, known=known))
    assert not again.fetch_bytes and not [row for row in again.rows if row.moves]


@given(wishes, heres())
def test_room_is_told_in_all_three_forms(asked, here):
    made = planning.make(asked, here)
    assert json.loads(json.dumps(plan_tables.plain(made)))["lacking_bytes"] == made.lacking_bytes == max(0, made.need_bytes - made.free_bytes)
    assert ("too small" in plan_tables.text(made)) == ("too small" in plan_tables.html(made)) == bool(made.lacking_bytes)
