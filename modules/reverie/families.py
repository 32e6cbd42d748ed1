"""The families of models, one row each: how their files are told apart, what they are made of, which pipelines draw with them.

A new family is a row here, its configurations in `assets/configs/<family>`, its sizes and steps in `configs/models.yaml`.
Nothing here loads a library.
"""

from __future__ import annotations

from dataclasses import dataclass, field

KINDS = ("txt2img", "img2img", "inpaint")


@dataclass(frozen=True)
class Family:
    """`pipelines` are diffusers' classes in the order of KINDS; `encoders` says which class of transformers each text
    encoder is, and `tokenizers` which tokenizer of ours reads for it (see `engines._tokenizers`).

    `signs` are tensor names that only a checkpoint of this family has (all of one tuple), `lora_signs` those of its LoRAs.
    `tiny` names its tiny autoencoder (TAESD). `multiple`: sizes are divisible by so many pixels.
    """

    title: str
    pipelines: tuple[str, str, str]
    encoders: dict[str, str] = field(default_factory=lambda: {"text_encoder": "CLIPTextModel"})
    tokenizers: dict[str, str] = field(default_factory=lambda: {"tokenizer": "clip"})
    signs: tuple[tuple[str, ...], ...] = ()
    lora_signs: tuple[str, ...] = ()
    denoiser: str = "unet"
    flow: bool = False  # trained by flow matching: few samplers, one number format for everything but the VAE
    guidance: str = "cfg"  # cfg: a second pass above 1; embedded: told to the model, no negative prompt
    words: int = 0  # tokens that its longest text encoder reads; 0: CLIP's window, in chunks where the family is used to it
    chunked: bool = False
    multiple: int = 8
    tiny: str = ""


_T5 = {"text_encoder_2": "T5EncoderModel"}
_XL = ("StableDiffusionXLPipeline", "StableDiffusionXLImg2ImgPipeline", "StableDiffusionXLInpaintPipeline")
_SD = ("StableDiffusionPipeline", "StableDiffusionImg2ImgPipeline", "StableDiffusionInpaintPipeline")

FAMILIES: dict[str, Family] = {
    "pocket": Family("pocket", _SD),
    "sd15": Family("SD1.5", _SD, signs=(("cond_stage_model.transformer.",),), chunked=True, tiny="taesd"),
    "sd21": Family(
        "SD2.1", _SD, signs=(("cond_stage_model.model.",),), tokenizers={"tokenizer": "clip!"}, chunked=True, tiny="taesd"
    ),
    "sdxl": Family(
        "SDXL",
        _XL,
        encoders={"text_encoder": "CLIPTextModel", "text_encoder_2": "CLIPTextModelWithProjection"},
        tokenizers={"tokenizer": "clip", "tokenizer_2": "clip!"},
        signs=(("conditioner.embedders.1.model.",),),
        chunked=True,
        tiny="taesdxl",
    ),
    "sdxl-refiner": Family(
        "the SDXL refiner",
        ("StableDiffusionXLImg2ImgPipeline", *_XL[1:]),
        encoders={"text_encoder_2": "CLIPTextModelWithProjection"},
        tokenizers={"tokenizer_2": "clip!"},
        signs=(("conditioner.embedders.0.model.", "model.diffusion_model."),),
        chunked=True,
        tiny="taesdxl",
    ),
    "flux": Family(
        "Flux",
        ("FluxPipeline", "FluxImg2ImgPipeline", "FluxInpaintPipeline"),
        encoders={"text_encoder": "CLIPTextModel", **_T5},
        tokenizers={"tokenizer": "clip", "tokenizer_2": "t5"},
        signs=(("double_blocks.0.img_attn.norm.key_norm.scale", "single_blocks.0.linear1.weight"),),
        lora_signs=("double_blocks", "single_transformer_blocks", "single_blocks"),
        denoiser="transformer",
        flow=True,
        guidance="embedded",
        words=512,
        multiple=16,
        tiny="taef1",
    ),
    "sd3": Family(
        "SD3.5",
        ("StableDiffusion3Pipeline", "StableDiffusion3Img2ImgPipeline", "StableDiffusion3InpaintPipeline"),
        encoders={
            "text_encoder": "CLIPTextModelWithProjection",
            "text_encoder_2": "CLIPTextModelWithProjection",
            "text_encoder_3": "T5EncoderModel",
        },
        tokenizers={"tokenizer": "clip", "tokenizer_2": "clip!", "tokenizer_3": "t5"},
        signs=(("joint_blocks.0.context_block.adaLN_modulation.1.bias",),),
        lora_signs=("joint_blocks", "transformer_blocks.0.attn.", "lora_te3"),
        denoiser="transformer",
        flow=True,
        words=256,
        multiple=16,
        tiny="taesd3",
    ),
    "zimage": Family(
        "Z-Image",
        ("ZImagePipeline", "ZImageImg2ImgPipeline", "ZImageInpaintPipeline"),
        encoders={"text_encoder": "Qwen3Model"},
        tokenizers={"tokenizer": "qwen"},
        signs=(("noise_refiner.0.", "layers.0.adaLN_modulation.0.weight"),),
        lora_signs=("noise_refiner", "context_refiner", "layers.0.attention.", "layers.0.feed_forward.", "layers_0_attention"),
        denoiser="transformer",
        flow=True,
        words=512,
        multiple=16,
        tiny="taef1",
    ),
}
