"""Recipes go into a file and come out of it again, in three forms."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from reverie import media, recipes
from reverie.errors import BadInput, NotFound
from reverie.types import Task

TASK = Task(prompt="a red house, night", negative="blurry", model="pocket", seed=7, sampler="dpmpp_2m_karras", width=192)


def png(tmp_path, **texts):
    info = PngInfo()
    for name, value in texts.items():
        info.add_text(name, value)
    Image.new("RGB", (8, 8)).save(tmp_path / "p.png", pnginfo=info)
    return tmp_path / "p.png"


@pytest.fixture
def written(tmp_path):
    path = tmp_path / "own.png"
    path.write_bytes(media.encode_png(Image.new("RGB", (192, 128)), {**TASK.model_dump(mode="json"), "model_hash": "ab" * 32}))
    return path


def test_own_recipe_is_the_whole_task(written):
    recipe = recipes.read(written)
    assert recipe["source"] == "reverie"
    assert Task(**{name: recipe[name] for name in Task.model_fields}) == TASK


def test_a1111_reads_what_we_write(written):
    text = Image.open(written).info["parameters"]
    recipe = recipes.parse_infotext(text)
    assert {name: recipe[name] for name in ("prompt", "negative", "seed", "width", "height", "steps", "cfg", "sampler")} == {
        "prompt": "a red house, night", "negative": "blurry", "seed": 7, "width": 192, "height": 128, "steps": 20, "cfg": 4.0,
        "sampler": "dpmpp_2m_karras",
    }
    assert text.splitlines()[1] == "Negative prompt: blurry"


def test_comfyui_graph_we_write_reads_back(written):
    recipe = recipes.parse_comfy(json.loads(Image.open(written).info["prompt"]))
    assert recipe["prompt"] == "a red house, night" and recipe["negative"] == "blurry"
    assert (recipe["sampler"], recipe["scheduler"], recipe["width"], recipe["seed"]) == ("dpmpp_2m", "karras", 192, 7)


def test_infotext_of_a1111_itself(tmp_path):
    text = ("masterpiece, <lora:moon:0.8>\nsecond line\nNegative prompt: ugly,\nbad hands\nSteps: 25, Sampler: DPM++ 2M, "
            'Schedule type: Karras, CFG scale: 7, Seed: 123, Size: 832x1216, Model hash: abc123, Model: dream, Lora hashes: "moon: 1, x: 2", Version: v1.10')
    recipe = recipes.read(png(tmp_path, parameters=text))
    assert recipe["source"] == "a1111" and recipe["prompt"].endswith("second line") and recipe["negative"] == "ugly,\nbad hands"
    assert (recipe["width"], recipe["height"]) == (832, 1216)
    assert recipe["extra"] == {"Lora hashes": "moon: 1, x: 2", "Version": "v1.10"} and recipe["model"] == "dream"


def test_last_line_with_few_pairs_belongs_to_the_prompt():
    assert recipes.parse_infotext("a cat\nnote: one, two: 2")["prompt"] == "a cat\nnote: one, two: 2"


def test_prompt_of_a_comfyui_picture(tmp_path):
    graph = {"3": {"class_type": "KSampler", "inputs": {"seed": 5, "steps": 10, "cfg": 8, "sampler_name": "euler", "scheduler": "normal",
             "denoise": 1, "model": ["4", 0], "positive": ["6", 0], "negative": ["7", 0], "latent_image": ["5", 0]}},
             "4": {"class_type": "CheckpointLoaderSimple", "inputs": {"ckpt_name": "v1.safetensors"}},
             "5": {"class_type": "EmptyLatentImage", "inputs": {"width": 64, "height": 96, "batch_size": 1}},
             "6": {"class_type": "CLIPTextEncode", "inputs": {"text": "hill", "clip": ["4", 1]}},
             "7": {"class_type": "CLIPTextEncode", "inputs": {"text": "", "clip": ["4", 1]}}}
    recipe = recipes.read(png(tmp_path, prompt=json.dumps(graph)))
    assert recipe == {"source": "comfyui", "prompt": "hill", "negative": "", "model": "v1.safetensors", "width": 64, "height": 96,
                      "steps": 10, "cfg": 8, "seed": 5, "sampler": "euler", "scheduler": "normal", "denoise": 1}


def test_looping_graph_ends(tmp_path):
    graph = {"1": {"class_type": "KSampler", "inputs": {"positive": ["1", 0], "seed": 1}}}
    assert recipes.parse_comfy(graph) == {"prompt": "", "negative": "", "seed": 1}


@pytest.mark.parametrize("graph", [
    '{"text": "a cat"}', '{"1": {"class_type": null, "inputs": ["positive"]}}', "[1]", "[" * 100_000,
], ids=("words", "list", "numbers", "deep"))
def test_json_that_is_no_graph_is_no_recipe(tmp_path, graph):
    with pytest.raises(NotFound, match="carries no recipe"):
        recipes.read(png(tmp_path, prompt=graph))


ANY_JSON = st.recursive(
    st.none() | st.floats() | st.sampled_from(["1", "KSampler"]),
    lambda inner: st.lists(inner, max_size=2)
    | st.dictionaries(st.sampled_from(["1", "class_type", "inputs", "positive", "text"]), inner),
)


@given(st.dictionaries(st.sampled_from(["1", "2"]), ANY_JSON))
def test_any_json_parses_without_an_error(graph):
    assert isinstance(recipes.parse_comfy(graph), dict)


def test_numbers_that_are_none_do_not_change_words(tmp_path):
    graph = {"1": {"class_type": "KSampler", "inputs": {"positive": ["2", 0], "seed": 9, "cfg": float("nan")}},
             "2": {"class_type": "CLIPTextEncode", "inputs": {"text": "NaNcy by the sea"}}}
    recipe = recipes.read(png(tmp_path, prompt=json.dumps(graph)))
    assert recipe["prompt"] == "NaNcy by the sea" and "cfg" not in recipe


@pytest.mark.parametrize("encoding", ["utf-16-be", "utf-16-le"])
def test_jpeg_and_webp_carry_infotext_in_exif(tmp_path, encoding):
    for suffix in ("jpg", "webp"):
        image, exif = Image.new("RGB", (8, 8)), Image.Exif()
        exif.get_ifd(0x8769)[0x9286] = b"UNICODE\0" + "größe\nSteps: 5, Seed: 1, Size: 8x8".encode(encoding)
        image.save(tmp_path / f"x.{suffix}", exif=exif)
        assert recipes.read(tmp_path / f"x.{suffix}")["prompt"] == "größe"


def test_comfyui_webp(tmp_path):
    exif = Image.Exif()
    exif[0x0110] = 'prompt:{"1": {"class_type": "KSampler", "inputs": {"positive": ["2", 0], "seed": 9}}, "2": {"class_type": "CLIPTextEncode", "inputs": {"text": "sea"}}}'
    Image.new("RGB", (8, 8)).save(tmp_path / "x.webp", exif=exif)
    recipe = recipes.read(tmp_path / "x.webp")
    assert (recipe["source"], recipe["prompt"], recipe["seed"]) == ("comfyui", "sea", 9)


def test_picture_without_recipe_and_file_that_is_none(tmp_path):
    with pytest.raises(NotFound, match="carries no recipe"):
        recipes.read(png(tmp_path))
    (tmp_path / "no.png").write_bytes(b"GIF8 not really")
    with pytest.raises(BadInput, match="not a picture"):
        recipes.read(tmp_path / "no.png")
    with pytest.raises(NotFound, match="does not exist"):
        recipes.read(tmp_path / "gone.png")


def test_picture_too_large_to_open_is_one_sentence(tmp_path, monkeypatch):
    path = png(tmp_path)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10)
    with pytest.raises(BadInput, match="cannot be read|can be read"):
        recipes.read(path)


@given(st.text(max_size=300))
def test_any_infotext_parses_without_an_error(text):
    assert isinstance(recipes.parse_infotext(text)["prompt"], str)


@given(prompt=st.text(st.characters(blacklist_categories=("Cs", "Cc")), min_size=1).map(str.strip).filter(bool), seed=st.integers(0, 2**32 - 1))
def test_infotext_round_trip(prompt, seed):
    if prompt.startswith("Negative prompt:"):
        return
    recipe = recipes.parse_infotext(recipes.infotext({**TASK.model_dump(), "prompt": prompt, "seed": seed}))
    assert recipe["prompt"] == prompt and recipe["seed"] == seed


@pytest.mark.parametrize("given", ["/drive/of mine/moon.safetensors", "moon.safetensors", "moon"])
def test_other_programs_are_told_names_of_files_and_no_paths(given):
    task = {**TASK.model_dump(mode="json"), "model": given, "loras": [(given, 0.5)], "vae": given, "lora_hashes": {given: "ab" * 32}}
    task |= {"refiner": given, "refine": 0.2}
    graph = recipes.comfy_graph(task)
    names = [value for node in graph.values() for name, value in node["inputs"].items() if name in ("ckpt_name", "lora_name", "vae_name")]
    assert names == ["moon.safetensors"] * 3 and recipes.parse_comfy(graph)["loras"] == [("moon", 0.5)]
    text = recipes.infotext(task)
    assert "<lora:moon:0.5>" in text and "Model: moon," in text and "VAE: moon," in text and "Refiner: moon, Refiner switch at: 0.8" in text and 'Lora hashes: "moon: abab' in text
    assert "drive" not in text and "safetensors" not in text


def test_name_in_a_folder_of_the_storage_stays(tmp_path):
    graph = recipes.comfy_graph({**TASK.model_dump(mode="json"), "loras": [("styles/ink.v2", 1)]})
    assert graph["20"]["inputs"]["lora_name"] == "styles/ink.v2.safetensors"
