"""What lies on top of a model: found by name, told by its tensors whose it is, and part of a task's key."""

from __future__ import annotations

import json
import re
import struct
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reverie import additions, models, recipes, settings
from reverie.errors import BadInput, ModelMissing
from reverie.families import FAMILIES
from reverie.models import Model
from reverie.pipelines import generate
from reverie.pipelines._run import sampling, words
from reverie.studio import Studio
from reverie.types import Task

MODEL = Model(id="mine", title="Mine", family="sd15")
ATTENTION = "lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_attn2_to_k.lora_down.weight"


@pytest.fixture
def house(tmp_path):
    return replace(settings.load(), storage=tmp_path / "storage")


def write(path: Path, fill: bytes = b"\0", metadata: dict | None = None, **shapes: tuple) -> Path:
    """A safetensors file of half-precision tensors with those names and shapes."""
    entries, at = {"__metadata__": metadata} if metadata else {}, 0
    for name, shape in shapes.items():
        size = 2
        for edge in shape:
            size *= edge
        entries[name] = {"dtype": "F16", "shape": list(shape), "data_offsets": [at, at + size]}
        at += size
    head = json.dumps(entries).encode()
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(struct.pack("<Q", len(head)) + head + fill * at)
    return path


def lora(house, name: str = "moon", width: int = 768, **more) -> Path:
    return write(house.models / "loras" / f"{name}.safetensors", **{ATTENTION: (4, width)}, **more)


def single(house, family: str = "sd15") -> Model:
    """A model in one file: its shapes are those of the shipped configuration."""
    return replace(
        MODEL, family=family, layout="file", path=write(house.models / "checkpoints" / "mine.safetensors", a=(1,))
    )


@pytest.mark.parametrize(
    "prompt, plain, found",
    [
        ("a house, <lora:moon:0.8>, night", "a house, night", {"moon": 0.8}),
        ("<lora:moon> a house <lora:deep/ink v2:-0.5>", "a house", {"moon": 1.0, "deep/ink v2": -0.5}),
        ("<lyco:moon:.5>a house", "a house", {"moon": 0.5}),
        ("a house, , with  two spaces <3 <b>", "a house, , with  two spaces <3 <b>", {}),
    ],
)
def test_loras_are_taken_out_of_a_prompt(prompt, plain, found):
    assert additions.from_prompt(prompt) == (plain, found)


@pytest.mark.parametrize("wrong", ["<lora:moon:much>", "<lora:moon:nan>", "<lora:moon:11>", "<lora:moon:1:0.5>"])
def test_a_lora_without_one_plain_weight_is_refused(wrong):
    with pytest.raises(BadInput, match="weight"):
        additions.from_prompt(f"a house {wrong}")


def test_a_list_of_loras_has_weights_or_means_one():
    assert additions.from_list("moon:0.8, ink pen ,x:-1\ny") == {"moon": 0.8, "ink pen": 1.0, "x": -1.0, "y": 1.0}
    assert additions.from_list("") == {}
    with pytest.raises(BadInput, match="'much'"):
        additions.from_list("moon:much")


@given(st.text(alphabet="<>:lora.18, amoon\n", max_size=60))
def test_any_prompt_is_read_or_refused_in_a_sentence(prompt):
    try:
        plain, found = additions.from_prompt(prompt)
    except BadInput:
        return
    assert additions.from_prompt(plain)[1] == {} or found


def test_words_of_a_task_come_from_prompt_and_list_and_the_prompt_goes_first(house):
    said = words(house, "a {house} <lora:moon:0.3>", "", 7, "moon:1, ink:0.5")
    assert said["loras"] == (("moon", 0.3), ("ink", 0.5)) and said["prompt"] == "a house"


def test_a_lora_is_found_by_its_name_in_any_folder_and_a_missing_one_names_those_there_are(house):
    lora(house, "styles/ink")
    model = single(house)
    for name in ("ink", "styles/ink", "ink.safetensors"):
        assert additions.of(Task(loras=[(name, 0.5)]), model, house)[0].weight == 0.5
    with pytest.raises(ModelMissing, match="no LoRA 'moon'.*there are: ink"):
        additions.of(Task(loras=[("moon", 1)]), model, house)


@pytest.mark.parametrize(
    "family, width, said",
    [
        ("sd15", 2048, "SDXL.*is SD1.5"),
        ("sdxl", 768, "SD1.5.*is SDXL"),
        ("sd15", 1024, "SD2.1"),
        ("sd15", 99, "99 numbers"),
    ],
)
def test_a_lora_of_another_family_is_refused_by_its_shapes(house, family, width, said):
    lora(house, width=width)
    with pytest.raises(BadInput, match=f"LoRA 'moon' is made for .*{said}"):
        additions.of(Task(loras=[("moon", 1)]), single(house, family), house)


@pytest.mark.parametrize(
    "shapes, metadata, said",
    [
        ({"lora_te2_text_model_encoder_layers_0_mlp_fc1.lora_down.weight": (4, 1280)}, None, "SDXL"),
        ({"lora_unet_x.lora_down.weight": (4, 320)}, {"ss_base_model_version": "sdxl_base_v1-0"}, "SDXL"),
        (
            {"lora_unet_x.lora_down.weight": (4, 320)},
            {"modelspec.architecture": "stable-diffusion-v2-768-v/lora"},
            "SD2.1",
        ),
        ({"lora_unet_double_blocks_0_img_attn_qkv.lora_down.weight": (4, 3072)}, None, "Flux"),
        ({"diffusion_model.blocks.0.self_attn.q.lora_A.weight": (4, 64)}, None, "Wan"),
        ({"lora_unet_x.hada_w1_a": (4, 4)}, None, "a LoHa"),
        ({"decoder.conv_in.weight": (4, 4)}, None, "not a LoRA"),
    ],
)
def test_files_of_other_kinds_are_told_by_their_names(house, shapes, metadata, said):
    write(house.models / "loras" / "odd.safetensors", metadata=metadata, **shapes)
    with pytest.raises(BadInput, match=said):
        additions.of(Task(loras=[("odd", 1)]), single(house), house)


def test_tensors_without_edges_are_refused_or_left_to_the_engine(house):
    write(house.models / "loras" / "flat.safetensors", **{"single_transformer_blocks.0.attn.to_q.lora_A.weight": (4,)})
    write(house.models / "vae" / "flat.safetensors", **{"decoder.conv_in.weight": (4,)})
    model = single(house, "flux")
    assert [one.name for one in additions.of(Task(loras=(("flat", 1.0),)), model, house)] == ["flat"]
    with pytest.raises(BadInput, match="is not a VAE"):
        additions.of(Task(vae="flat"), model, house)


def test_pickles_and_files_cut_short_are_refused(house):
    (house.models / "loras").mkdir(parents=True)
    (house.models / "loras" / "old.pt").write_bytes(b"\x80\x04.")
    path = lora(house)
    path.write_bytes(path.read_bytes()[:-3])
    for name, said in (("old", "pickle"), ("moon", "did not finish")):
        with pytest.raises(BadInput, match=said):
            additions.of(Task(loras=[(name, 1)]), single(house), house)


def test_the_key_follows_what_is_in_the_files_and_stays_what_it_was_without_them(house):
    model, task = single(house), Task(loras=[("moon", 0.8)])
    lora(house)
    one = additions.fingerprint(model, additions.of(task, model, house))
    lora(house, fill=b"\1")
    other = additions.fingerprint(model, additions.of(task, model, house))
    assert len({one, other, models.fingerprint(model)}) == 3
    assert additions.fingerprint(model, ()) == models.fingerprint(model)
    assert task.key("a") != Task(loras=[("moon", 0.7)]).key("a") != Task().key("a")
    assert Task(prompt="a house").key("a") == "8cf9e92523f47c7d3ddc82ee5a49b48820fd187ab93456dac5275972fa9c4455"


def test_a_recipe_says_which_files_as_other_programs_do(house):
    path = lora(house)
    added = additions.of(Task(loras=[("moon", 0.8)]), single(house), house)
    recipe = {
        **Task(prompt="a house", negative="dull", loras=[("moon", 0.8)]).model_dump(mode="json"),
        **additions.hashes(added),
    }
    text = recipes.infotext(recipe)
    assert text.splitlines()[0] == "a house <lora:moon:0.8>" and text.splitlines()[1] == "Negative prompt: dull"
    import hashlib

    tensors = hashlib.sha256(b"\0" * 4 * 768 * 2).hexdigest()
    assert path.stat().st_size > 4 * 768 * 2 and f'Lora hashes: "moon: {tensors[:12]}"' in text
    assert additions.from_prompt(recipes.parse_infotext(text)["prompt"]) == ("a house", {"moon": 0.8})


def test_a_comfyui_graph_has_a_loader_for_each_lora_and_reads_back():
    recipe = Task(prompt="a house", loras=[("moon", 0.8), ("ink", -0.5)]).model_dump(mode="json")
    graph = recipes.comfy_graph(recipe)
    loaders = {number: node["inputs"] for number, node in graph.items() if node["class_type"] == "LoraLoader"}
    assert [node["lora_name"] for node in loaders.values()] == ["moon.safetensors", "ink.safetensors"]
    first, second = loaders
    assert (
        loaders[second]["model"] == [first, 0]
        and graph["5"]["inputs"]["model"] == [second, 0]
        and graph["2"]["inputs"]["clip"] == [second, 1]
    )
    assert recipes.parse_comfy(graph)["loras"] == [("moon", 0.8), ("ink", -0.5)]


@pytest.mark.parametrize(
    "text, found",
    [
        ("a house, soft light", ("soft",)),
        ("a SOFT house", ("soft",)),
        ("softly, microsoft, soft-edge", ()),
        ("(embedding:soft:1.2)", ("soft",)),
        ("bad-hands-5, soft", ("bad-hands-5", "soft")),
    ],
)
def test_embeddings_are_named_by_words_of_the_prompt(house, text, found):
    for name in ("soft", "bad-hands-5"):
        write(house.models / "embeddings" / f"{name}.safetensors", emb_params=(2, 768))
    assert additions.named_in(text, house) == found


def test_an_embedding_that_is_asked_for_by_kind_must_be_there(house):
    with pytest.raises(ModelMissing, match="no embedding 'gone'"):
        additions.named_in("a house, embedding:gone, night", house)


@pytest.mark.parametrize(
    "family, shapes, said",
    [
        ("sd15", {"emb_params": (2, 768)}, ""),
        ("sdxl", {"clip_l": (2, 768), "clip_g": (2, 1280)}, ""),
        ("sdxl", {"emb_params": (2, 768)}, "made for SD1.5, and model 'mine' is SDXL"),
        ("sd15", {"clip_l": (2, 768), "clip_g": (2, 1280)}, "made for SDXL, and model 'mine' is SD1.5"),
        ("sd15", {"emb_params": (2, 1024)}, "SD2.1"),
    ],
)
def test_an_embedding_fits_where_its_width_is_the_encoders(house, family, shapes, said):
    write(house.models / "embeddings" / "soft.safetensors", **shapes)
    task, model = Task(embeddings=["soft"]), single(house, family)
    if not said:
        assert additions.of(task, model, house)[0].kind == "embedding"
        return
    with pytest.raises(BadInput, match=said):
        additions.of(task, model, house)


def test_a_pickled_embedding_is_refused_where_the_prompt_names_it(house):
    (house.models / "embeddings").mkdir(parents=True)
    (house.models / "embeddings" / "soft.pt").write_bytes(b"\x80\x04.")
    with pytest.raises(BadInput, match="pickle"):
        additions.of(Task(embeddings=additions.named_in("soft light", house)), single(house), house)


def vae_folder(house, kind: str = "AutoencoderKL", channels: int = 4, scale: float = 0.18215) -> None:
    folder = house.models / "vae" / "other"
    write(folder / "diffusion_pytorch_model.safetensors", x=(1,))
    (folder / "config.json").write_text(
        json.dumps({"_class_name": kind, "latent_channels": channels, "scaling_factor": scale})
    )


@pytest.mark.parametrize(
    "family, config, said",
    [
        ("sd15", {}, ""),
        ("sdxl", {"scale": 0.13025}, ""),
        ("sd15", {"kind": "AutoencoderTiny", "scale": 1.0}, ""),
        ("sd15", {"scale": 0.13025}, "made for SDXL, and model 'mine' is SD1.5"),
        ("sdxl", {}, "made for SD1.5"),
        ("sd15", {"channels": 16}, "VAE 'other' is made for"),
        ("sd15", {"kind": "AutoencoderKLWan"}, "VAE 'other' is made for"),
    ],
)
def test_a_vae_in_a_folder_is_told_by_its_configuration(house, family, config, said):
    vae_folder(house, **config)
    task, model = Task(vae="other"), single(house, family)
    if not said:
        assert additions.of(task, model, house)[0].path.is_dir()
        return
    with pytest.raises(BadInput, match=said):
        additions.of(task, model, house)


@pytest.mark.parametrize(
    "shapes, metadata, said",
    [
        ({"decoder.conv_in.weight": (8, 4, 3, 3)}, None, ""),
        ({"first_stage_model.decoder.conv_in.weight": (8, 4, 3, 3)}, None, ""),
        ({"decoder.conv_in.weight": (8, 16, 3, 3)}, None, "16 latent channels"),
        ({"unet.x": (1,)}, None, "not a VAE"),
        (
            {"decoder.conv_in.weight": (8, 4, 3, 3)},
            {"modelspec.architecture": "stable-diffusion-xl-v1-base"},
            "made for SDXL",
        ),
    ],
)
def test_a_vae_in_a_file_is_told_by_its_tensors(house, shapes, metadata, said):
    write(house.models / "vae" / "sharp.safetensors", metadata=metadata, **shapes)
    task, model = Task(vae="sharp"), single(house)
    if not said:
        (vae,) = additions.of(task, model, house)
        text = recipes.infotext({**task.model_dump(mode="json"), **additions.hashes([vae])})
        assert re.search(r"VAE: sharp, VAE hash: [0-9a-f]{10}\b", text)
        return
    with pytest.raises(BadInput, match=said):
        additions.of(task, model, house)


def test_a_comfyui_graph_loads_another_vae():
    graph = recipes.comfy_graph(Task(vae="sharp").model_dump(mode="json"))
    assert graph["6"]["inputs"]["vae"] == ["19", 0] and graph["19"]["inputs"] == {"vae_name": "sharp.safetensors"}


def test_a_lora_of_the_catalogue_says_where_it_is_and_how_it_wants_to_be_run(house):
    with pytest.raises(ModelMissing, match="LCM-LoRA.*https://huggingface.co/.* as .*lcm-lora-sdv1-5.safetensors"):
        additions.of(Task(loras=[("lcm-lora-sdv1-5", 1)]), single(house), house)
    loras = (("moon", 1.0), ("lcm-lora-sdv1-5", 1.0))
    params = generate.Params(model="mine")
    assert sampling(MODEL, params, loras) | {"model": "", "family": ""} == {
        "model": "",
        "family": "",
        "steps": 6,
        "cfg": 1.0,
        "sampler": "lcm",
    }
    own = sampling(MODEL, params.model_copy(update={"steps": 9, "guidance": 1.5}), loras)
    assert (own["steps"], own["cfg"], own["sampler"]) == (9, 1.5, "lcm")
    assert sampling(MODEL, params, ())["steps"] == MODEL.steps


def test_every_row_of_a_lora_is_whole():
    rows = settings.config("models")["loras"]
    for name, row in rows.items():
        assert (
            row["title"]
            and row["url"].startswith("https://")
            and row["family"] in FAMILIES
            and row["licence"]
            and row["note"]
        ), name


def test_a_lora_has_one_name_however_it_is_given(house):
    path = lora(house, "styles/ink.v2")
    for given in ("ink.v2", "ink.v2.safetensors", "styles/ink.v2.safetensors"):
        assert words(house, f"a house <lora:{given}:0.5>", "", 7)["loras"] == (("ink.v2", 0.5),)
    assert words(house, "<lora:gone.safetensors>", "", 7)["loras"] == (("gone.safetensors", 1.0),), "what is not here stays as it was given"
    for given in (path, path.parent / ".." / "styles" / path.name):
        assert words(house, "a house", "", 7, f"{given}:0.5, ink.v2.safetensors:0.7")["loras"] == (("ink.v2", 0.7),)


def test_a_name_that_means_another_file_is_not_shortened_to_it(house, tmp_path):
    lora(house, "a/ink"), lora(house, "b/ink")
    outside = write(tmp_path / "ink.safetensors", **{ATTENTION: (4, 768)})
    named = {name: words(house, "a house", "", 7, str(name))["loras"][0][0] for name in (house.models / "loras" / "b" / "ink.safetensors", outside)}
    assert list(named.values()) == ["b/ink", str(outside)]
    (house.models / "loras" / "moon.safetensors").symlink_to(outside)
    assert words(house, "a house", "", 7, "moon.safetensors")["loras"] == (("moon", 1.0),), "a link is called by its own name"


def test_a_vae_given_by_its_file_goes_under_its_name_into_the_task(house, tmp_path):
    path = write(house.models / "vae" / "sharp.safetensors", **{"decoder.conv_in.weight": (512, 4, 3, 3)})
    (house.models / "vae" / "soft.v2").mkdir()
    (house.models / "vae" / "soft.v2" / "config.json").write_text("{}")
    for given, name in ((path, "sharp"), ("sharp.safetensors", "sharp"), ("sharp", "sharp"), ("", ""), (house.models / "vae" / "soft.v2", "soft.v2")):
        params = generate.Params(prompt="a house", vae=str(given), seed=1)
        with Studio.open(house, open_engine=lambda name, settings: None) as studio:
            assert [task.vae for task in generate.plan(studio, params)] == [name]
