"""Chapters become scenes, scenes become prompts, prompts become pictures and a storyboard."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field

NAME, TITLE = "illustrate", "Illustrate"


class Params(BaseModel):
    """What `reverie illustrate` takes. 0 and empty mean: the model's own, or all."""

    model_config = ConfigDict(extra="forbid", protected_namespaces=())

    text: str = Field("assets/samples/the-time-machine", description="a file, or a folder of chapters (.md, .txt)", json_schema_extra={"widget": "path", "argument": True})
    chapters: str = Field("", description="only these chapters, such as '1 3'; empty: all")
    resume: str = Field("", description="carry on from chapter and scene, such as '2 5'")
    dry_run: bool = Field(False, description="show every prompt and file name, draw nothing")
    style: str = Field("graphic novel", description="how the pictures look", json_schema_extra={"choices": "styles"})
    model: str = Field("pocket", description="model id, folder or .safetensors file", json_schema_extra={"choices": "models"})
    characters: str = Field("", description="a YAML file of who looks how", json_schema_extra={"widget": "path", "advanced": True})
    steps: int = Field(0, ge=0, le=200, description="denoising steps; 0: the model's own")
    guidance: float = Field(0.0, ge=0, le=30, description="cfg; 0: the model's own")
    width: int = Field(0, ge=0, le=8192, description="pixels; 0: the model's own", json_schema_extra={"advanced": True})
    height: int = Field(0, ge=0, le=8192, description="pixels; 0: the model's own", json_schema_extra={"advanced": True})
    seed: int = Field(1, ge=-1, le=2**32 - 1, description="the first scene's seed; -1: a new one", json_schema_extra={"widget": "seed"})
    count: int = Field(1, ge=1, le=16, description="pictures of each scene")
    engine: str = Field("diffusers", description="what generates", json_schema_extra={"choices": "engines", "advanced": True})
    out: str = Field("", description="folder of the results; empty: storage/outputs/illustrate/NAME", json_schema_extra={"widget": "path"})
